"""Which GPUs this process may use, found in NVML's numbering, and who else is on them."""

import os
from collections.abc import Mapping
from pathlib import Path

from eai.errors import UserError

INITIAL_PID_NAMESPACE = "pid:[4026531836]"
"""The kernel's fixed inode of the first PID namespace (PROC_PID_INIT_INO): elsewhere NVML's process ids are not ours."""


def text(value) -> str:
    """NVML's strings are bytes in some versions of its binding."""
    return value.decode() if isinstance(value, bytes) else str(value)


def visible(nvml, environ: Mapping[str, str] = os.environ) -> list[tuple[str, object]]:
    """(UUID, handle) of the cards that CUDA would show to this process, in its order.

    CUDA_VISIBLE_DEVICES holds indices or (the beginnings of) UUIDs and ends at the first that does not exist. CUDA counts the fastest card
    first unless CUDA_DEVICE_ORDER=PCI_BUS_ID, NVML counts by PCI bus: an index among different cards is ambiguous and refused.

    Raises UserError for no visible card, an ambiguous index, or a MIG slice.
    """
    handles = [nvml.nvmlDeviceGetHandleByIndex(i) for i in range(nvml.nvmlDeviceGetCount())]
    cards = [(text(nvml.nvmlDeviceGetUUID(h)), h) for h in handles]
    wanted = environ.get("CUDA_VISIBLE_DEVICES")
    if wanted is None:
        chosen = cards
    else:
        names = {text(nvml.nvmlDeviceGetName(h)) for h in handles}
        chosen = []
        for entry in (e.strip() for e in wanted.split(",")):
            if entry.isdigit() and len(names) > 1 and environ.get("CUDA_DEVICE_ORDER") != "PCI_BUS_ID":
                raise UserError(
                    f"CUDA_VISIBLE_DEVICES={wanted} among different cards ({', '.join(sorted(names))})",
                    "an unambiguous choice",
                    "set CUDA_DEVICE_ORDER=PCI_BUS_ID, or name the cards by UUID (nvidia-smi -L)",
                )
            if entry.startswith("MIG"):
                raise UserError(
                    f"CUDA_VISIBLE_DEVICES={wanted} names a MIG slice", "a whole GPU", "a slice has no energy sensor of its own"
                )
            found = _entry(entry, cards)
            if found is None:
                break
            chosen.append(found)
    if not chosen:
        seen = f"CUDA_VISIBLE_DEVICES={wanted} leaves none of {len(cards)} GPUs" if wanted is not None else "NVML lists no GPU"
        raise UserError(seen, "a visible NVIDIA GPU", "check CUDA_VISIBLE_DEVICES and nvidia-smi -L")
    return chosen


def _entry(entry: str, cards: list[tuple[str, object]]) -> tuple[str, object] | None:
    if entry.isdigit():
        return cards[int(entry)] if int(entry) < len(cards) else None
    matches = [c for c in cards if entry and c[0].startswith(entry)]
    return matches[0] if len(matches) == 1 else None


def processes(nvml, handle) -> set[int] | None:
    """Ids of the compute processes on the card, as the driver numbers them; None where it does not tell."""
    found = ask(nvml, lambda: nvml.nvmlDeviceGetComputeRunningProcesses(handle))
    return None if found is None else {p.pid for p in found}


def used_by(nvml, chosen: list[tuple[str, object]], ours: frozenset[int]) -> list[tuple[str, object]] | None:
    """Those of the chosen cards on which any of our processes runs; None where the driver's process ids are not ours, as in a container."""
    used = [(uuid, handle) for uuid, handle in chosen if (processes(nvml, handle) or set()) & ours]
    return used if used or _initial_namespace() else None


def other_processes(nvml, handle, ours: frozenset[int] = frozenset()) -> int | None:
    """How many compute processes other than this one, its family and `ours` (a server's) are on the card; None where that cannot be told.

    In a container NVML tells the host's process ids, so one foreign id may be our own: only the ones beyond it count.
    """
    pids = processes(nvml, handle)
    if pids is None:
        return None
    others = pids - {os.getpid(), os.getppid()} - ours
    if len(others) == len(pids) and others and not _initial_namespace():
        return len(others) - 1
    return len(others)


def _initial_namespace(path: Path = Path("/proc/self/ns/pid")) -> bool:
    try:
        return os.readlink(path) == INITIAL_PID_NAMESPACE
    except OSError:
        return True


def refusal(nvml, uuid: str, handle, shared: bool, ours: frozenset[int] = frozenset()) -> UserError | None:
    """Why this card cannot be measured: MIG, a virtual GPU, or other processes (accepted if the user says shared)."""
    if ask(nvml, lambda: nvml.nvmlDeviceGetMigMode(handle)[0]):
        return UserError(
            f"GPU {uuid} is in MIG mode", "a whole GPU", "its sensors see all slices together: turn MIG off or take another card"
        )
    if ask(nvml, lambda: nvml.nvmlDeviceGetVirtualizationMode(handle)) == nvml.NVML_GPU_VIRTUALIZATION_MODE_VGPU:
        return UserError(f"GPU {uuid} is a virtual GPU", "a physical or passed-through card", "its energy is not visible from this machine")
    others = other_processes(nvml, handle, ours)
    if others and not shared:
        do = "stop them (nvidia-smi), or accept them with shared=True"
        return UserError(f"{others} other process(es) on GPU {uuid}", "a card to ourselves", do)
    return None


def ask(nvml, question, default=None):
    """The answer, or the default where this card or driver does not support the question."""
    try:
        return question()
    except nvml.NVMLError:
        return default
