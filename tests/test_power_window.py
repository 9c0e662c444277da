"""The context manager, the sampler on real threads, and what importing costs."""

import asyncio
import subprocess
import sys
import threading
import time

import pytest

import eai
from eai import power, schema
from eai.errors import UserError
from eai.power.cpu import EstimateMeter
from eai.power.meter import Clock, next_beat
from eai.power.readings import row
from eai.power.simulated import VirtualClock
from eai.power.window import MAKERS


def meter(cpu_s=(0.0, 3.0)):
    clock, own = VirtualClock(), iter(cpu_s)
    return EstimateMeter(clock, lambda: next(own), lambda: 0.0)


def test_users_own_code_in_one_line(monkeypatch):
    one = meter()
    monkeypatch.setitem(MAKERS, "nvml", lambda gpu, shared=False: one)
    with eai.window("prefill") as w:
        one.clock.sleep(2.0)
    assert w.name == "prefill" and w.cpu_energy_j.value == pytest.approx(12.0) and w.status == "ok"


def test_a_meter_that_was_closed_is_opened_and_closed_again():
    one = meter((0.0, 1.0, 2.0, 3.0))
    with power.window(one):
        assert one.is_open
    assert not one.is_open
    with pytest.raises(KeyError), power.window(one) as w:
        raise KeyError("work")
    assert not one.is_open and w.status == "failed" and w.reason == "KeyError" and w.cpu_energy_j is None


def test_a_window_row_fits_the_registry():
    one = meter()
    with power.window(one) as w:
        assert w.status == "running"
        one.clock.sleep(2.0)
    assert w.status == "ok"
    registered = {c.name for c in schema.WINDOWS}
    assert set(w.meter_columns()) <= registered
    assert {"start_s", "stop_s", "meter_spec", "status", "flags", "reason"} <= set(w.meter_columns())
    rows = [e.to_row() | dict.fromkeys((*schema.WINDOW_KEY, "attempt")) for e in w.energies]
    assert schema.problems("energies", rows) == []
    assert list(w.stream.columns) == [c.name for c in schema.SAMPLES if c.name not in (*schema.WINDOW_KEY, "attempt")]


def test_idle_power_is_measured_by_the_same_window():
    one = meter((0.0, 1.0))
    baseline = one.idle(4.0, "bare")
    assert (baseline.kind, baseline.duration_s) == ("bare", pytest.approx(4.0))
    assert baseline.power_w == {"cpu-process": pytest.approx(4.0 * 1.0 / 4.0)}


def test_net_energy_is_none_without_a_baseline_and_right_with_one():
    one = meter()
    with power.window(one) as w:
        one.clock.sleep(10.0)
    assert w.energies[0].energy_j == pytest.approx(12.0) and w.energies[0].net_energy_j is None
    one, baseline = meter(), power.Baseline("context", 5.0, {"cpu-process": 0.5}, {"cpu-process": 0.1})
    with power.window(one, baseline) as w:
        one.clock.sleep(10.0)
    assert w.energies[0].net_energy_j == pytest.approx(12.0 - 5.0) and w.energies[0].u_net_j == pytest.approx(1.0)
    assert w.energies[0].net().low < 7.0 < w.energies[0].net().high


def test_sampler_keeps_its_pace_on_a_real_thread_and_ends():
    clock = Clock()
    sampler = clock.sampler(lambda: [row(clock.now_s(), "d", "gpu", "x", 1.0)], 0.02)
    before = threading.active_count()
    sampler.start()
    time.sleep(0.5)
    rows = sampler.stop()
    assert threading.active_count() == before and sampler.stop() == []
    assert 10 <= len(rows) <= 27, "25 beats of 20 ms in half a second, fewer on a busy machine"


def test_a_broken_reader_ends_the_sampler_and_leaves_a_mark():
    def broken():
        raise OSError(5, "I/O error")

    sampler = Clock().sampler(broken, 0.01)
    sampler.start()
    time.sleep(0.1)
    rows = sampler.stop()
    assert [r[3] for r in rows] == ["sampler_error"] and isinstance(sampler.failure, OSError)


@pytest.mark.parametrize(("now_s", "expected"), [(10.0, 10.1), (10.05, 10.1), (10.35, 10.4), (9.0, 10.1)])
def test_missed_beats_are_skipped_not_made_up_for(now_s, expected):
    assert next_beat(10.0, 0.1, now_s) == pytest.approx(expected)


def test_virtual_samplers_beat_in_the_order_of_time():
    clock, seen = VirtualClock(0.0), []

    def reader(name):
        return lambda: seen.append((name, round(clock.now_s(), 3))) or []

    samplers = [clock.sampler(reader("a"), 0.3), clock.sampler(reader("b"), 0.2)]
    for s in samplers:
        s.start()
    clock.sleep(0.65)
    assert sorted(seen, key=lambda s: s[1]) == seen and [t for n, t in seen if n == "b"] == [0.0, 0.2, 0.4, 0.6]


def test_importing_the_meters_loads_no_heavy_library():
    code = "import sys, eai, eai.power; print(sorted({'torch', 'transformers', 'pynvml', 'lm_eval', 'matplotlib'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"


def test_a_window_has_its_tokens_and_is_a_row_of_a_data_frame():
    one = meter()
    with power.window(one, name="decode", tokens=64) as w:
        one.clock.sleep(2.0)
    row = w.to_row()
    assert (row["name"], row["tokens"], row["status"], row["duration_s"]) == ("decode", 64, "ok", pytest.approx(2.0))
    assert row["cpu_energy_j"] == pytest.approx(12.0) and row["cpu_energy_per_token_j"] == pytest.approx(12.0 / 64)
    assert row["cpu_energy_low_j"] < 12.0 < row["cpu_energy_high_j"] and row["gpu_energy_j"] is None
    each = w.cpu_energy_j / 64
    assert (each.low, each.high) == (pytest.approx(w.cpu_energy_j.low / 64), pytest.approx(w.cpu_energy_j.high / 64)) and each.unit == "J"


def test_a_function_is_measured_at_every_call_and_an_async_one_too():
    one = meter((0.0, 3.0, 3.0, 7.0, 7.0, 8.0))

    @power.window(one)
    def work(seconds):
        one.clock.sleep(seconds)
        return seconds

    @power.window(one, name="later")
    async def later():
        one.clock.sleep(1.0)
        return "done"

    assert (work(2.0), work(3.0), asyncio.run(later())) == (2.0, 3.0, "done")
    assert [w.cpu_energy_j.value for w in work.windows] == pytest.approx([12.0, 16.0]) and work.windows[0].name == "work"
    assert [(w.name, w.status) for w in later.windows] == [("later", "ok")]


def test_a_function_that_yields_is_no_work_done_when_it_returns():
    def tokens():
        yield 1

    async def later():
        yield 1

    for function in (tokens, later):
        with pytest.raises(UserError, match=f"{function.__name__} yields"):
            power.window(meter((0.0, 1.0)))(function)


def test_an_async_block_that_fails_is_a_failed_window():
    one = meter()

    async def run():
        async with power.window(one) as w:
            found.append(w)
            raise KeyError("work")

    found = []
    with pytest.raises(KeyError):
        asyncio.run(run())
    assert found[0].status == "failed" and not one.is_open
