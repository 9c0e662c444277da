"""Peak memory of a stretch of work: allocated on the GPU, or resident set of the process on a CPU."""

import re
from pathlib import Path


def reset_peak(device: str) -> None:
    """Start a new peak. On Linux the kernel's high-water mark of the process is reset; where that is refused, the old peak stays."""
    if device.startswith("cuda"):
        import torch

        torch.cuda.reset_peak_memory_stats(device)
        return
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def peak_gb(device: str) -> float | None:
    """The peak since `reset_peak`, in GB (1e9 bytes); None where the system does not tell."""
    if device.startswith("cuda"):
        import torch

        return torch.cuda.max_memory_allocated(device) / 1e9
    try:
        match = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    except OSError:
        return None
    return int(match[1]) * 1024 / 1e9 if match else None


def free_gb(device: str) -> float | None:
    """Memory that a program can still take on the device, in GB (1e9 bytes): free on the card, available on the host; None if not told."""
    if device.startswith("cuda"):
        import torch

        return torch.cuda.mem_get_info(device)[0] / 1e9
    try:
        match = re.search(r"MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text())
    except OSError:
        return None
    return int(match[1]) * 1024 / 1e9 if match else None
