"""The measured roofs are speeds that were reached: consistent with each other, and not beaten by another way to the same product."""

import time

import numpy as np

from eai.workload import device


def test_roofs_are_speeds_of_this_machine():
    """numpy's BLAS is another library: neither may be ten times the other, and bytes cannot move at the speed of arithmetic."""
    found = device.processor_roofs()
    a = np.ones((1024, 1024), np.float32)
    a @ a
    began = time.perf_counter()
    a @ a
    numpy_flop_s = 2 * 1024**3 / (time.perf_counter() - began)
    assert 0.1 * numpy_flop_s < found["peak_flop_s"]["float32"] and found["threads"] >= 1
    assert 1e8 < found["bandwidth_byte_s"] < found["peak_flop_s"]["float32"] < 1e15


def test_the_fastest_run_counts(monkeypatch):
    """Runs of 1 (not counted), 4, 2, 3, 5 and 6 s on a clock that only the work moves: the roof is that of 2 s."""
    now, lengths = [0.0], iter([1.0, 4.0, 2.0, 3.0, 5.0, 6.0])
    monkeypatch.setattr(device.time, "perf_counter", lambda: now[0])
    assert device._best_s(lambda: now.__setitem__(0, now[0] + next(lengths))) == 2.0
