"""The device the work runs on: which card it is, and the process settings that decide a CPU measurement."""

import contextlib
import ctypes
import gc
import importlib
import logging
import re
import time
import timeit
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from eai.errors import UserError


def imported(*names: str) -> list[Any]:
    """The modules of these names, without what they and their libraries warn of and log while they are imported."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return [importlib.import_module(name) for name in names]
    finally:
        logging.disable(before)


def cuda_name() -> str | None:
    """The name of the first visible CUDA device as its driver spells it, or None without one."""
    import torch

    return torch.cuda.get_device_name(0) if torch.cuda.is_available() else None


def cuda_uuid() -> str:
    """The UUID of the first visible CUDA device as NVML spells it: the card that does the work, and the only one to be billed for it."""
    import torch

    return f"GPU-{torch.cuda.get_device_properties(0).uuid}"


def torch_device(gpu: str) -> str:
    """The torch device of a gpu slug: `cpu` for cpu, the first visible CUDA device otherwise. Raises UserError if there is none."""
    if gpu == "cpu":
        return "cpu"
    if cuda_name() is None:
        raise UserError(f"gpu '{gpu}' was asked for but torch sees no CUDA device", "a CUDA device", "run `eai doctor`, or set gpus to cpu")
    return "cuda:0"


def set_threads(threads: int) -> int:
    """Give the process this many CPU threads (0: leave the library's choice) and return how many it has. One is the default for
    measurements: on a shared machine a fixed matrix product varied by 1.6 x with one thread and by 9 x with two."""
    import torch

    if threads:
        torch.set_num_threads(threads)
    return torch.get_num_threads()


def release() -> None:
    """Give memory of dropped models back to the device and the system, so that the next peak is the next model's own."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    with contextlib.suppress(OSError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def reset_peak(device: str) -> None:
    """Start a new peak of memory: allocated on the GPU, or the kernel's high-water mark of the process, where Linux lets it be reset."""
    if device.startswith("cuda"):
        import torch

        torch.cuda.reset_peak_memory_stats(device)
        return
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_gb(device: str) -> float | None:
    """The peak since `reset_peak`, in GB (1e9 bytes); None where the system does not tell."""
    if device.startswith("cuda"):
        import torch

        return torch.cuda.max_memory_allocated(device) / 1e9
    return _proc_gb("/proc/self/status", "VmHWM")


def free_gb(device: str) -> float | None:
    """Memory that a program can still take on the device, in GB (1e9 bytes): free on the card, available on the host; None if not given."""
    if device.startswith("cuda"):
        import torch

        return torch.cuda.mem_get_info(device)[0] / 1e9
    return _proc_gb("/proc/meminfo", "MemAvailable")


def _proc_gb(path: str, name: str) -> float | None:
    with contextlib.suppress(OSError):
        if match := re.search(rf"{name}:\s+(\d+) kB", Path(path).read_text()):
            return int(match[1]) * 1024 / 1e9
    return None


SIDES, COPY_BYTES, BEST_OF = (256, 512, 1024), 256 * 2**20, 5
LONGEST_S = 0.1  # of one product: a type without instructions for it needs seconds for a large one, and a small one shows its roof too


def processor_roofs() -> dict:
    """The roofs of a processor, which the catalog does not know, measured in about a second: highest flop/s of a square product by number
    type (one without a product here is left out) and byte/s of a copy on the threads that torch has now; the best of five."""
    import torch

    products = {"float32": torch.float32, "bfloat16": torch.bfloat16, "int8": torch.int8}
    found = {name: _product_flop_s(kind) for name, kind in products.items()}
    source = torch.zeros(COPY_BYTES, dtype=torch.uint8)
    target = torch.empty_like(source)
    copy_s = _best_s(lambda: target.copy_(source))
    return {
        "peak_flop_s": {name: flop_s for name, flop_s in found.items() if flop_s is not None},
        "bandwidth_byte_s": 2 * COPY_BYTES / copy_s,
        "threads": torch.get_num_threads(),
        "how": f"best of {BEST_OF}: square products up to {SIDES[-1]} x {SIDES[-1]} that take at most {LONGEST_S:g} s, "
        f"copy of {COPY_BYTES / 1e6:.0f} MB (read and write counted)",
    }


def _product_flop_s(kind) -> float | None:
    import torch

    product = torch._int_mm if kind == torch.int8 else torch.matmul
    best = None
    for side in SIDES:
        if best is not None and 2 * side**3 / best > LONGEST_S:
            break
        generator = torch.Generator().manual_seed(0)
        a, b = (torch.randint(-3, 4, (side, side), generator=generator).to(kind) for _ in range(2))
        try:
            best = max(best or 0.0, 2 * side**3 / _best_s(lambda a=a, b=b: product(a, b)))
        except RuntimeError:
            return None
    return best


def _best_s(work: Callable[[], object]) -> float:
    work()  # not counted
    return min(timeit.repeat(work, timer=time.perf_counter, number=1, repeat=BEST_OF))
