"""Which processes of this machine are a server: those that listen on its port, found in /proc as the kernel lists them (proc(5)).

Only what is certain counts: a server on another machine, in another network namespace, of another user or behind a forwarder is not found,
and the answer says so. A wrong process would yield a number, and the number would be wrong.
"""

import os
import socket
from dataclasses import dataclass
from pathlib import Path

from eai.power.estimate import PROC, families

LISTENING = "0A"
FORWARDERS = (
    "docker-proxy",
    "rootlesskit",
    "rootlessport",
    "slirp4netns",
    "pasta",
    "passt",
    "conmon",
    "ssh",
    "sshd",
    "kubectl",
    "nginx",
    "haproxy",
    "caddy",
    "traefik",
    "envoy",
    "socat",
)
"""Names of programs that listen for someone else: their CPU time is not the model's."""


@dataclass(frozen=True)
class Found:
    """The processes of a server, or none and the reason why."""

    processes: frozenset[int] = frozenset()
    reason: str = ""


def is_here(host: str) -> bool:
    """Whether a host name or address is this machine: an address can be bound to if it is ours."""
    try:
        found = socket.getaddrinfo(host, 0, type=socket.SOCK_DGRAM)
    except OSError:
        return False
    for family, kind, _, _, address in found:
        try:
            with socket.socket(family, kind) as probe:
                probe.bind(address)
        except OSError:
            continue
        return True
    return False


def server(host: str, port: int, pid: int = 0, proc: Path = PROC) -> Found:
    """The processes of the server at an address; `pid` names its process where something else listens for it (a container, a proxy)."""
    if not is_here(host):
        return Found(reason="the server is on another machine; run eai on that one")
    if not (proc / "net").exists():
        return Found(reason="this system has no /proc to find the server's process in")
    if pid:
        found = frozenset([pid]) if (proc / str(pid)).is_dir() else frozenset()
        return _usable(found, proc) if found else Found(reason=f"server_pid {pid} is no process of this machine")
    inodes = _listening(port, proc)
    if not inodes:
        return Found(reason=f"no process of this machine's network listens on port {port}; name the server's process with server_pid")
    found = _holders(inodes, proc)
    if not found:
        return Found(reason=f"port {port} belongs to another user's process; name it with server_pid, or run as that user")
    names = {_name(p, proc) for p in found} & set(FORWARDERS)
    if names:
        return Found(reason=f"{names.pop()} listens on port {port} for someone else; name the server's process with server_pid")
    return _usable(found, proc)


def _usable(found: frozenset[int], proc: Path) -> Found:
    """The processes, unless we are one of them: then our own work cannot be told from the server's."""
    if os.getpid() in families(found, proc):
        return Found(reason="the server runs in the process that measures, or started it; run it in a process of its own")
    return Found(found)


def _listening(port: int, proc: Path) -> set[str]:
    """The inodes of the TCP sockets that listen on a port."""
    inodes = set()
    for name in ("tcp", "tcp6"):
        try:
            rows = (proc / "net" / name).read_text().splitlines()[1:]
        except OSError:
            continue
        fields = [row.split() for row in rows]
        inodes |= {f[9] for f in fields if f[3] == LISTENING and int(f[1].rpartition(":")[2], 16) == port}
    return inodes


def _holders(inodes: set[str], proc: Path) -> frozenset[int]:
    """The processes that hold one of these sockets open, as far as we may look."""
    wanted = {f"socket:[{inode}]" for inode in inodes}
    return frozenset(int(p.name) for p in proc.iterdir() if p.name.isdigit() and _open_files(p) & wanted)


def _open_files(process: Path) -> set[str]:
    try:
        descriptors = list((process / "fd").iterdir())
    except OSError:
        return set()
    found = set()
    for descriptor in descriptors:
        try:
            found.add(os.readlink(descriptor))
        except OSError:
            continue
    return found


def _name(pid: int, proc: Path) -> str:
    try:
        return (proc / str(pid) / "comm").read_text().strip()
    except OSError:
        return ""
