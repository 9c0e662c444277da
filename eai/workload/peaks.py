"""The roofs of a processor, measured in about a second: the fastest matrix product and the fastest copy that torch gives here.

A CPU has no peak in the catalog, because the host decides it. What a large square product and a large copy reach on the threads of
the measured process is a roof that was seen, and no kernel of the model can be expected to beat it by much.
"""

import time
from collections.abc import Callable

SIDE = 1024
COPY_BYTES = 256 * 2**20
BEST_OF = 5


def processor_roofs() -> dict:
    """Highest flop/s of a square product by number type and byte/s of a copy, on the threads that torch has now.

    `{"peak_flop_s": {"float32": ...}, "bandwidth_byte_s": ..., "threads": n, "how": ...}`; a type that has no product here is left out.
    The best of five is taken: a roof is what can be reached, not what is usual.
    """
    import torch

    flops = 2 * SIDE**3
    products = {"float32": torch.float32, "bfloat16": torch.bfloat16, "int8": torch.int8}
    seconds = {name: _product_s(kind) for name, kind in products.items()}
    source = torch.zeros(COPY_BYTES, dtype=torch.uint8)
    target = torch.empty_like(source)
    copy_s = _best_s(lambda: target.copy_(source))
    return {
        "peak_flop_s": {name: flops / s for name, s in seconds.items() if s is not None},
        "bandwidth_byte_s": 2 * COPY_BYTES / copy_s,
        "threads": torch.get_num_threads(),
        "how": f"best of {BEST_OF}: product of {SIDE} x {SIDE}, copy of {COPY_BYTES / 1e6:.0f} MB (read and write counted)",
    }


def _product_s(kind) -> float | None:
    """The shortest time of a square product in a number type [s], None where this processor has none."""
    import torch

    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randint(-3, 4, (SIDE, SIDE), generator=generator).to(kind) for _ in range(2))
    product = torch._int_mm if kind == torch.int8 else torch.matmul
    try:
        return _best_s(lambda: product(a, b))
    except RuntimeError:
        return None


def _best_s(work: Callable[[], object]) -> float:
    """The shortest of five runs after one that is not counted [s]."""
    work()
    times = []
    for _ in range(BEST_OF):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return min(times)
