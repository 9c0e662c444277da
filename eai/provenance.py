"""One JSON line a job: on what, with what and from which settings the windows were measured.

No host name, user name or path goes in: the line is published with the data.
"""

import hashlib
import importlib.metadata
import os
import platform
import re
import subprocess
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from eai import __version__, schema
from eai.paths import IS_CHECKOUT, ROOT

PACKAGES = ("torch", "transformers", "bitsandbytes", "accelerate", "gguf", "lm_eval", "datasets", "numpy", "pandas", "scipy",
            "nvidia-ml-py")  # fmt: skip


def versions() -> dict[str, str | None]:
    """Versions of eai, Python and the packages that decide a measurement; None for one that is not installed."""
    found: dict[str, str | None] = {"eai": __version__, "python": platform.python_version()} | dict.fromkeys(PACKAGES)
    for name in PACKAGES:
        with suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def commit() -> str | None:
    """The commit of the checkout, with `+changed` if tracked files differ from it; None outside a git checkout."""

    def git(*arguments: str) -> str:
        return subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=True, timeout=10).stdout.strip()

    with suppress(OSError, subprocess.SubprocessError):
        if IS_CHECKOUT:
            return git("rev-parse", "HEAD") + ("+changed" if git("status", "--porcelain", "--untracked-files=no") else "")
    return None


def _of_cpu(name: str) -> str:
    """The first value of that name in /proc/cpuinfo, empty where there is none."""
    with suppress(OSError):
        if found := re.search(rf"^{name}\s*:\s*(.*)$", Path("/proc/cpuinfo").read_text(), re.M):
            return found[1].strip()
    return ""


def cpu_name() -> str:
    """The processor's model name as the kernel prints it."""
    return _of_cpu("model name") or platform.machine()


def cpu_instructions() -> list[str]:
    """Which of the instructions that decide the speed of a number type the processor has: two "AMD EPYC" may differ by 100 in BF16."""
    names = ("avx2", "avx512f", "avx512_bf16", "avx512_vnni", "avx_vnni", "amx_bf16", "amx_int8")
    return [name for name in names if name in _of_cpu("flags").split()]


def memory_gb() -> float:
    """Installed memory in GB (1e9 bytes)."""
    return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1)


def machine_mark() -> str:
    """8 hex digits that tell this machine from another without naming it: a hash of its id, processor and core count."""
    try:
        machine_id = Path("/etc/machine-id").read_text().strip()
    except OSError:
        machine_id = platform.node()
    return hashlib.sha256(f"{machine_id}|{cpu_name()}|{os.cpu_count()}".encode()).hexdigest()[:8]


def line(**what: object) -> dict:
    """The provenance of a job: time, versions, commit and machine, with what the caller adds (settings, meter, model)."""
    machine = {"cpu": cpu_name(), "cpu_instructions": cpu_instructions(), "cores": os.cpu_count(), "memory_gb": memory_gb()}
    machine |= {"os": platform.system(), "kernel": platform.release()}
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return {"at": now, "schema": schema.VERSION, "versions": versions(), "commit": commit(), "machine": machine} | what
