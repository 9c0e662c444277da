"""The device the work runs on: which card it is, and the process settings that decide a CPU measurement."""

import ctypes
import gc

from eai.errors import UserError


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
    """Give the process this many CPU threads (0: leave the library's choice) and return how many it has.

    One is the default for measurements: on a shared machine a fixed matrix product varied by 1.6 x with one thread and by 9 x with two.
    """
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
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    except OSError:
        return
