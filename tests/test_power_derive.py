"""Arithmetic of windows: integrals, counters, aliasing, budgets, intervals and replay, against closed forms."""

import math
from types import SimpleNamespace

import known_power
import numpy as np
import pandas as pd
import pytest
from faulty_nvml import CounterSpec
from hypothesis import given
from hypothesis import strategies as st

from eai.measure.work import settle
from eai.power.derive import derive, describe, replay, same
from eai.power.readings import (
    DeviceSpec,
    Energy,
    Spec,
    at_edges,
    counter_delta,
    coverage,
    idle_power,
    integrate,
    interval,
    is_aliased,
    row,
    split,
    to_stream,
    total,
)
from eai.power.simulated import SensorSpec
from eai.power.window import power_settled, steadiness

GRID = np.arange(0.0, 10.0, 0.1)


@given(st.floats(1, 700), st.floats(0.0, 4.0), st.floats(0.01, 5.0), st.integers(0, 2**32 - 1))
def test_constant_power_is_power_times_time_whatever_the_edges_and_the_sampling(power_w, start_s, duration_s, seed):
    t = np.sort(np.random.default_rng(seed).uniform(0, 10, 50))
    energy = integrate(t, np.full(50, power_w), start_s, start_s + duration_s)
    assert energy == pytest.approx(power_w * duration_s, rel=1e-9)


@given(st.lists(st.floats(0, 700), min_size=100, max_size=100), st.floats(0.0, 3.0), st.floats(3.1, 6.0), st.floats(6.1, 9.9))
def test_energy_is_additive_over_split_windows(powers, a, b, c):
    whole = integrate(GRID, np.array(powers), a, c)
    assert integrate(GRID, np.array(powers), a, b) + integrate(GRID, np.array(powers), b, c) == pytest.approx(whole, rel=1e-9, abs=1e-6)


@given(st.floats(-20, 20), st.floats(50, 300), st.floats(0, 4), st.floats(0.1, 5))
def test_a_ramp_is_integrated_exactly(slope, base, start_s, duration_s):
    stop_s = start_s + duration_s
    expected = base * duration_s + slope * (stop_s**2 - start_s**2) / 2
    assert integrate(GRID, base + slope * GRID, start_s, stop_s) == pytest.approx(expected, rel=1e-9, abs=1e-6)


def test_the_foils_fail_where_we_do_not():
    constant = np.full(len(GRID), 100.0)
    assert integrate(GRID, constant, 1.05, 4.05) == pytest.approx(300.0)
    assert known_power.dedup_trapezoid(GRID, constant, 1.05, 4.05) == 0.0
    assert known_power.inside_trapezoid(GRID, constant, 1.05, 4.05) == pytest.approx(290.0)
    step = np.where(GRID < 4.5, 100.0, 400.0)
    assert known_power.mean_times_time(GRID, step, 4.0, 5.0, 1.0) == pytest.approx(100.0), "1 Hz sees one reading, 150 J too few"


def test_integral_of_nothing_is_an_error():
    with pytest.raises(ValueError, match="no power readings"):
        integrate(np.empty(0), np.empty(0), 0, 1)
    with pytest.raises(ValueError, match="before its start"):
        integrate(GRID, GRID, 2, 1)


@pytest.mark.parametrize(
    ("dropped", "missing"), [([], 0.0), ([5], 0.0), (range(30, 50), 0.20 / 1.0), (range(90, 100), None), (range(0, 10), None)]
)
def test_missing_time_is_counted(dropped, missing):
    kept = np.delete(GRID, list(dropped))
    found = coverage(kept, 0.05, 9.85, 0.1)[1]
    if missing is None:
        assert 0.05 < found < 0.15
    else:
        assert found == pytest.approx(missing / 0.98, abs=0.006)


@given(st.lists(st.integers(0, 90), min_size=1, max_size=50), st.integers(0, 99))
def test_a_wrapping_counter_is_the_sum_of_its_steps(steps, start):
    readings = np.array([(start + sum(steps[:i])) % 100 for i in range(len(steps) + 1)], dtype=float)
    assert counter_delta(readings, wrap_j=100.0) == pytest.approx(sum(steps))
    assert counter_delta(np.array([5.0, 3.0])) is None


def test_edges_need_a_reading_on_each_side():
    t = np.array([1.0, 2.0, 5.0])
    assert at_edges(t, 2.0, 4.0) == (1, 2)
    assert at_edges(t, 0.5, 4.0) is None and at_edges(t, 2.0, 5.5) is None


@given(
    st.lists(st.tuples(st.floats(0.05, 3), st.floats(10, 700), st.floats(10, 700)), min_size=1, max_size=8),
    st.floats(0, 100),
    st.floats(-5, 30),
    st.floats(0, 20),
)
def test_the_truth_is_the_integral_of_its_own_pieces(parts, idle_w, begin_s, duration_s):
    load = known_power.pieces(0.0, parts, idle_w)
    assert load.energy_j == pytest.approx(sum(d * (a + b) / 2 for d, a, b in parts), rel=1e-9)
    fine = np.linspace(begin_s, begin_s + duration_s, 4001)
    middle = (fine[1:] + fine[:-1]) / 2
    edges = np.concatenate([[0.0], np.cumsum([p[0] for p in parts])])
    piece = np.clip(np.searchsorted(edges, middle, "right") - 1, 0, len(parts) - 1)
    inside = (middle >= 0) & (middle < edges[-1])
    p = np.array(parts)
    power = np.where(inside, p[piece, 1] + (p[piece, 2] - p[piece, 1]) * (middle - edges[piece]) / p[piece, 0], idle_w)
    energy = float(load.cumulative_j(begin_s + duration_s) - load.cumulative_j(begin_s))
    assert energy == pytest.approx(power.sum() * duration_s / 4000, abs=700 * 2 * duration_s / 4000 * len(parts) + 1e-6)


def test_decode_wave_has_its_closed_form():
    load = known_power.decode(0.0, 10.0, 0.04, 0.75, 300.0, 100.0, 50.0)
    assert load.energy_j == pytest.approx(10.0 * (0.75 * 300 + 0.25 * 100))
    cut = known_power.decode(0.0, 0.05, 0.04, 0.5, 300.0, 100.0, 50.0)
    assert cut.energy_j == pytest.approx(0.02 * 300 + 0.02 * 100 + 0.01 * 300)


def test_a_simulated_reading_is_gain_times_the_mean_plus_offset_held_for_an_update():
    load = known_power.constant(0.0, 1.0, 300.0, 100.0)
    spec = SensorSpec(0.1, 0.05, gain=1.1, offset_w=-7.0, delay_s=0.02)
    seen = spec.read(load, np.array([0.0, 0.05, 0.1, 0.19, 0.2, 1.05, 1.1]))
    assert seen == pytest.approx([103.0, 103.0, 323.0, 323.0, 323.0, 323.0, 103.0])
    late = SensorSpec(0.1, 0.05, phase_s=0.05, delay_s=0.02)
    assert late.read(load, np.array([0.06])) == pytest.approx((300 * 0.03 + 100 * 0.02) / 0.05)


def sensor(update_s=0.1, averaging_s=0.025, **more):
    return DeviceSpec("g", "gpu", "simulated", power_field="p", update_s=update_s, averaging_s=averaging_s, sample_s=update_s / 2, **more)


@pytest.mark.parametrize(
    ("step_s", "aliased"),
    [(0.1, True), (0.05, True), (0.0502, True), (0.2, True), (0.083, False), (0.037, False), (0.025, False), (0.06, False)],
)
def test_steps_near_a_multiple_of_the_update_alias(step_s, aliased):
    assert is_aliased(sensor(), step_s, 10.0) is aliased
    assert not is_aliased(sensor(averaging_s=0.1), step_s, 10.0), "a sensor without holes cannot be fooled"
    assert not is_aliased(sensor(), None, 10.0)


def test_a_longer_window_averages_the_beat_away():
    assert is_aliased(sensor(), 0.0970, 4.0) and not is_aliased(sensor(), 0.0970, 10.0)


@pytest.mark.parametrize("u_j", [0.0, 1.0, 50.0])
def test_small_intervals_are_the_normal_ones(u_j):
    q = interval(1000.0, u_j)
    assert q.low == pytest.approx(1000 - 1.96 * u_j, rel=6e-3) and q.high == pytest.approx(1000 + 1.96 * u_j, rel=6e-3)
    assert interval(-5.0, u_j).low == pytest.approx(-5 - 1.96 * u_j, rel=1e-4)
    assert interval(None, u_j).value is None


def test_intervals_of_an_estimate_cover_log_normal_truth():
    rng = np.random.default_rng(3)
    sigma = math.sqrt(math.log1p(0.365**2))
    factors = np.exp(rng.normal(0, sigma, 20000))
    q = interval(1.0, 0.365)
    assert np.mean((factors > q.low) & (factors < q.high)) == pytest.approx(0.95, abs=0.01)


def test_unmeasured_is_none_and_never_zero():
    good = Energy("a", "gpu", "counter", True, 10.0)
    assert total([good], "cpu_package") is None
    assert total([good, Energy("b", "gpu", "counter", True, None, status="lost")], "gpu") is None
    assert total([good, Energy("b", "gpu", "counter", True, 5.0, status="disputed")], "gpu") is None
    assert total([good, Energy("b", "gpu", "counter", True, 5.0)], "gpu").value == 15.0


def one_window(preset_name="ada_instant", step_s=0.037, seed=5, duration_s=10.0):
    preset = next(p for p in known_power.PRESETS if p.name == preset_name)
    rng = np.random.default_rng(seed)
    load = known_power.decode(1000.0, duration_s, step_s, 0.9, preset.high_w, preset.low_w, preset.idle_w)
    card = known_power.draw_card(preset, rng, systematic=False)
    spec = card.spec(preset, preset.idle_w, 0.5, step_s)
    return load, known_power.record(load, card, spec, rng), spec


def test_a_full_rate_counter_stands_where_the_integral_aliases():
    load, stream, spec = one_window("gh100_instant", 0.05)
    derived = derive(stream, load.start_s, load.stop_s, spec)
    primary = next(e for e in derived.energies if e.primary)
    assert derived.status == "ok" and "integral_aliased" in derived.flags and primary.method == "counter"
    assert primary.energy_j == pytest.approx(load.energy_j, rel=0.005)


def test_two_agreeing_aliased_estimates_are_still_aliased():
    load, stream, spec = one_window("ga100_duty_fed", 0.05)
    assert derive(stream, load.start_s, load.stop_s, spec).status == "aliased"


def test_gain_ratio_is_divided_out_before_the_two_are_compared():
    load, stream, spec = one_window()
    stream.loc[stream["field"] == "power_instant_w", "value"] *= 1.10
    assert derive(stream, load.start_s, load.stop_s, spec).status == "disputed"
    probed = Spec(spec.boundary, tuple(DeviceSpec(**{**vars(d), "gain_ratio": 1 / 1.10}) for d in spec.devices), spec.step_time_s)
    assert derive(stream, load.start_s, load.stop_s, probed).status == "ok"


def test_a_window_too_short_for_its_sensor_is_called_short():
    load, stream, spec = one_window(duration_s=0.08)
    assert derive(stream, load.start_s, load.stop_s, spec).status == "short_window"


def test_a_long_gap_in_the_trace_is_invalid_unless_the_counter_is_proven():
    load, stream, spec = one_window()
    holed = stream[~((stream["t_s"] > 1002) & (stream["t_s"] < 1003))]
    proven = derive(holed, load.start_s, load.stop_s, spec)
    assert proven.status == "ok" and "power_missing" in proven.flags
    doubt = Spec(spec.boundary, tuple(DeviceSpec(**{**vars(d), "full_rate": None}) for d in spec.devices), spec.step_time_s)
    assert derive(holed, load.start_s, load.stop_s, doubt).status == "invalid"


def test_calibration_scales_and_shifts_the_reading():
    load, stream, spec = one_window()
    plain = next(e for e in derive(stream, load.start_s, load.stop_s, spec).energies if e.primary)
    idle_w = 1.05 * spec.devices[0].idle_w - 3.0
    device = DeviceSpec(**{**vars(spec.devices[0]), "scale": 1.05, "shift_w": -3.0, "gain_rel": 0.01, "idle_w": idle_w})
    shifted = next(e for e in derive(stream, load.start_s, load.stop_s, Spec("gpu", (device,))).energies if e.primary)
    assert shifted.energy_j == pytest.approx(1.05 * plain.energy_j - 3.0 * 10.0)
    assert shifted.u_gain_j == pytest.approx(0.01 * shifted.energy_j) and plain.u_gain_j == pytest.approx(0.05 * plain.energy_j)


def test_a_calibrated_baseline_is_taken_back_to_the_sensor_in_the_pads():
    preset = next(p for p in known_power.PRESETS if p.name == "ada_instant")
    load = known_power.constant(1000.0, 10.0, 300.0, 80.0)
    card = known_power.SimulatedCard(SensorSpec(0.1, 0.1), CounterSpec())
    plain = card.spec(preset, 80.0, 0.0, None)
    stream = known_power.record(load, card, plain, np.random.default_rng(0))
    device = DeviceSpec(**{**vars(plain.devices[0]), "scale": 2.0, "shift_w": -10.0, "idle_w": 2 * 80.0 - 10.0})
    for e in derive(stream, load.start_s, load.stop_s, Spec("gpu", (device,))).energies:
        assert e.energy_j == pytest.approx(2 * 3000.0 - 100.0, abs=4 * e.u_reading_j)
        assert e.u_reading_j < 10 and e.net_energy_j == pytest.approx(2 * 220 * 10.0, abs=4 * e.u_reading_j)


def test_a_stream_survives_plain_strings_and_any_order():
    load, stream, spec = one_window()
    plain = stream.astype({"device_id": "str", "boundary": "str", "field": "str"}).sample(frac=1, random_state=1)
    assert derive(plain, load.start_s, load.stop_s, spec) == derive(stream, load.start_s, load.stop_s, spec)
    assert split(to_stream([])) == {}
    parts = split(to_stream([row(2.0, "a", "gpu", "x", 1), row(1.0, "a", "gpu", "x", 2), row(1.0, "b", "dram", "x", 3)]))
    assert {k: v[1].tolist() for k, v in parts.items()} == {("a", "gpu", "x"): [2, 1], ("b", "dram", "x"): [3]}


def tables(n=3):
    windows, energies, samples = [], [], []
    for i in range(n):
        load, stream, spec = one_window(seed=i)
        derived = derive(stream, load.start_s, load.stop_s, spec)
        attempt = f"{i:08x}"
        windows.append(
            {"attempt": attempt, "start_s": load.start_s, "stop_s": load.stop_s, "status": derived.status, "meter_spec": spec.to_json()}
        )
        energies += [e.to_row() | {"attempt": attempt} for e in derived.energies]
        samples.append(stream.assign(attempt=attempt))
    return pd.DataFrame(windows), pd.DataFrame(energies), pd.concat(samples, ignore_index=True)


def test_replay_repeats_every_bit_through_parquet_and_json(tmp_path):
    windows, energies, samples = tables()
    samples.to_parquet(tmp_path / "s.parquet")
    windows.to_json(tmp_path / "w.jsonl", orient="records", lines=True, double_precision=15)
    stored = pd.read_parquet(tmp_path / "s.parquet")
    assert replay(windows, energies, stored) == (3, [])


def test_replay_sees_one_changed_bit():
    windows, energies, samples = tables()
    changed = samples.copy()
    place = changed.index[changed["field"] == "power_instant_w"][100]
    changed.loc[place, "value"] = np.nextafter(changed.loc[place, "value"], np.inf) + 1e-9
    done, found = replay(windows, energies, changed)
    assert done == 3 and found and {m["attempt"] for m in found} == {"00000000"}
    energies.loc[0, "energy_j"] = np.nextafter(energies.loc[0, "energy_j"], np.inf)
    assert any("energy_j" in m["what"] for m in replay(windows, energies, samples)[1])


def test_replay_misses_no_missing_samples_and_skips_what_no_meter_judged():
    windows, energies, samples = tables()
    assert [m["what"] for m in replay(windows, energies, samples[samples["attempt"] != "00000001"])[1]] == ["samples"]
    windows.loc[2, "status"] = "oom"
    assert replay(windows, energies, samples) == (2, [])
    windows.loc[1, "status"] = "throttled"
    assert [m["what"] for m in replay(windows, energies, samples)[1]] == ["status"]
    done, [mismatch] = replay(windows, energies, samples.sort_values("t_s"))
    assert done == 0 and "scattered" in mismatch["stored"]


@pytest.mark.parametrize(("a", "b", "equal"), [(None, float("nan"), True), (1.0, 1.0, True), (1.0, None, False), (0.1 + 0.2, 0.3, False)])
def test_same_means_the_same_bits(a, b, equal):
    assert same(a, b) is equal


def test_steady_needs_five_groups_within_two_percent():
    rng = np.random.default_rng(0)
    assert not steadiness([0.05] * 79).steady and steadiness([0.05] * 80).steady
    warming = 0.05 * (1 + np.exp(-np.arange(400) / 40))
    assert not steadiness(warming[:80]).steady and steadiness(warming).steady
    noisy = rng.normal(0.05, 0.005, 80)
    assert steadiness(noisy).cv == pytest.approx(0.1 / math.sqrt(16), rel=0.8), "jitter of single steps is divided by sqrt(16)"
    groups = np.repeat([1.00, 1.01, 0.99, 1.02, 0.98], 16)
    assert steadiness(groups).cv == pytest.approx(np.std([1.00, 1.01, 0.99, 1.02, 0.98], ddof=1))


def test_power_that_still_rises_has_not_settled():
    t = np.arange(0, 10, 0.1)
    assert power_settled(t, 300 + 0.1 * t) and not power_settled(t, 300 + 3 * t) and not power_settled([0, 1], [1, 1])


def test_warm_up_stops_when_steady_and_at_the_cap():
    now = [0.0]

    def step(latency):
        def run():
            now[0] += latency(now[0])
            return latency(now[0])

        return run

    clock = SimpleNamespace(now_s=lambda: now[0])
    verdict = settle(step(lambda t: 0.05), 60.0, lambda: None, clock)
    assert verdict.steady and now[0] == pytest.approx(5 * 0.05)
    now[0] = 0.0
    verdict = settle(step(lambda t: 0.5 * 1.05**t), 20.0, lambda: None, clock)
    assert not verdict.steady and now[0] == pytest.approx(20.0, abs=2.0)


def test_the_granularity_of_a_counter_is_two_uniform_ticks():
    """An edge reading is late by a uniform share of a tick while the device idles: two of them have the variance (P tick)^2 / 12 each."""
    preset = next(p for p in known_power.PRESETS if p.name == "ada_instant")
    errors, stated = [], []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        load = known_power.constant(1000.0, 5.0, 300.0, 80.0)
        tick_s = 0.5
        counter = CounterSpec(tick_s, float(rng.uniform(0, tick_s)))
        spec = known_power.SimulatedCard(SensorSpec(0.1, 0.1), counter).spec(preset, 80.0, 0.0, None)
        stream = known_power.record(load, known_power.SimulatedCard(SensorSpec(0.1, 0.1), counter), spec, rng)
        energy = next(e for e in derive(stream, load.start_s, load.stop_s, spec).energies if e.method == "counter")
        errors.append(energy.energy_j - load.energy_j), stated.append(energy.u_granularity_j)
    assert stated == pytest.approx([80.0 * 0.5 / math.sqrt(6)] * 60)
    assert np.std(errors) < 1.3 * stated[0]


def test_idle_power_between_two_readings_is_uniform_between_them():
    """Without a baseline the idle power lies anywhere between the first and the last reading: half width / sqrt(3) = difference /
    sqrt(12).
    """
    series = {"p": (np.array([0.0, 1.0, 2.0, 9.0]), np.array([70.0, 70.0, 300.0, 94.0]))}
    assert idle_power(series, 1.0, sensor()) == (pytest.approx(82.0), pytest.approx(24.0 / math.sqrt(12)))
    assert idle_power(series, 1.0, sensor(idle_w=80.0, u_idle_w=2.0, scale=2.0)) == (40.0, 1.0)


def test_context_is_of_the_window_and_not_of_what_was_read_around_it():
    t_s = np.arange(20.0)
    parts = {("GPU-0", "gpu", "temperature_c"): (t_s, np.where(t_s < 5, 30.0, np.where(t_s <= 10, 60.0, 90.0)))}
    context = describe(parts, 5.0, 10.0, Spec("gpu", ()))
    assert (context["temperature_mean_c"], context["temperature_max_c"]) == (60.0, 60.0)


def test_readings_of_one_moment_have_no_slope():
    assert not power_settled([5.0] * 4, [100.0] * 4) and power_settled([5.0, 6.0, 7.0], [100.0] * 3)


def with_rows(stream, *rows):
    """A stream with further readings."""
    return to_stream([*stream.itertuples(index=False, name=None), *(row(*r) for r in rows)])


def test_a_window_whose_sampler_died_is_invalid_and_says_so():
    load, stream, spec = one_window()
    assert derive(stream, load.start_s, load.stop_s, spec).status == "ok"
    died = derive(with_rows(stream, (1005.0, "", "", "sampler_error", 1.0)), load.start_s, load.stop_s, spec)
    assert died.status == "invalid" and "the sampler died inside the window" in died.reason


@pytest.mark.parametrize(("capped_s", "flagged"), [(0.0, False), (0.49, False), (0.51, True), (4.0, True)])
def test_a_window_that_its_power_limit_held_back_for_over_a_twentieth_is_flagged(capped_s, flagged):
    """The driver counts the nanoseconds in which the limit held the clocks back: 5 % of ten seconds are half a second."""
    load, stream, spec = one_window()
    device = spec.devices[0].device_id
    edges = [(load.start_s - 0.1, 7e9), (load.stop_s + 0.1, 7e9 + capped_s * 1e9)]
    rows = [(t_s, device, "gpu", "violation_power_ns", value) for t_s, value in edges]
    found = derive(with_rows(stream, *rows), load.start_s, load.stop_s, spec)
    assert ("power_capped" in found.flags) is flagged and found.status == "ok"
    assert found.context["power_capped_fraction"] == pytest.approx(capped_s / 10.0)
