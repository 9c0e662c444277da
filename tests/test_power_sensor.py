"""Sensor knowledge: published priors, the probe against simulated cards whose sensors we know, its cache, calibration, the survey."""

import bisect
import json
import math
from dataclasses import replace
from pathlib import Path

import known_power
import numpy as np
import pytest
from faulty_nvml import CounterSpec, FakeCard, FakeNvml

from eai import paths
from eai.errors import UserError
from eai.power import nvml
from eai.power.logs import LoggedGpu
from eai.power.nvml import NvmlMeter
from eai.power.probe import Calibration, calibrate, calibrate_logs, probe, probe_cards, remember_calibration
from eai.power.simulated import SensorSpec, VirtualClock
from eai.power.window import MAKERS, expected, survey, window


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("EAI_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize(
    ("name", "architecture", "driver", "field", "update_s", "averaging_s"),
    [
        ("NVIDIA A100-SXM4-80GB", 7, "550.1", "power_instant_w", 0.100, 0.025),
        ("NVIDIA A100-PCIE-40GB", 7, "470.1", "power_usage_w", 0.100, 0.025),
        ("NVIDIA H100 PCIe", 9, "550.1", "power_usage_w", 0.100, 1.0),
        ("NVIDIA H100 80GB HBM3", 9, "550.1", "power_instant_w", 0.100, 0.025),
        ("NVIDIA GeForce RTX 3090 Ti", 7, "550.1", "power_usage_w", 0.100, 1.0),
        ("NVIDIA GeForce RTX 3090 Ti", 7, "530.41", "power_usage_w", 0.100, 0.100),
        ("NVIDIA RTX A3000", 7, "550.1", "power_usage_w", 0.100, 1.0),
        ("NVIDIA GeForce RTX 4090", 8, "550.1", "power_instant_w", 0.100, 0.100),
        ("Quadro RTX 8000", 6, "550.1", "power_usage_w", 0.100, 0.020),
        ("Tesla T4", 6, "550.1", "power_usage_w", 0.100, 0.100),
        ("Tesla V100-PCIE-32GB", 5, "550.1", "power_usage_w", 0.020, 0.010),
    ],
)
def test_published_priors(name, architecture, driver, field, update_s, averaging_s):
    found = nvml.prior(name, architecture, driver, field)
    assert (found.update_s, found.averaging_s, found.source) == (pytest.approx(update_s), pytest.approx(averaging_s), "published")
    assert found.full_rate is None, "no table tells whether a counter sees everything"


@pytest.mark.parametrize(("name", "architecture"), [("NVIDIA H200", 9), ("NVIDIA GeForce RTX 5090", 10), ("NVIDIA GH200 480GB", 9)])
def test_cards_in_no_table_are_unknown_and_say_so(name, architecture):
    found = nvml.prior(name, architecture, "580.1", "power_instant_w")
    assert found.source == "unknown" and any("no published table" in d for d in found.doubts())


def test_offset_term_reproduces_the_published_scatter_of_ratios():
    rng = np.random.default_rng(0)
    offsets = rng.normal(0, nvml.OFFSET_W, 20000)
    ratios = ((120 + offsets) / (250 + offsets)) / (120 / 250) - 1
    assert math.sqrt(np.mean(ratios**2)) == pytest.approx(0.036, rel=0.05)


class Switched:
    """A truth that a load writes while time passes: idle until `busy`, `load_w` while it runs.

    `fast_s`, `creep_s`: each switch is followed by a first-order rise, 96 % of it with the fast time constant, the rest with the slow one.
    """

    def __init__(self, clock, idle_w=80.0, load_w=330.0, fast_s=0.0, creep_s=0.0):
        self.clock, self.idle_w, self.rise_w = clock, idle_w, load_w - idle_w
        self.parts = [(0.96, fast_s), (0.04, creep_s)] if fast_s else [(1.0, 0.0)]
        self.start_s, self.stop_s = clock.now_s(), math.inf
        self.at, self.sign, self.signs, self.moments = [], [], [0.0], [0.0]

    def busy(self, duration_s):
        begin_s = self.clock.now_s()
        for at, sign in ((begin_s, 1.0), (begin_s + duration_s, -1.0)):
            self.at.append(at), self.sign.append(sign)
            self.signs.append(self.signs[-1] + sign), self.moments.append(self.moments[-1] + sign * at)
        self.clock.sleep(duration_s)

    def cumulative_j(self, t_s):
        """The sum of the responses to each switch: a step of 1 with time constant c has the integral t - c (1 - exp(-t / c))."""
        t_s = np.asarray(t_s, dtype=float)
        memory_s = 3.0 if self.parts[0][1] else 0.0  # a response is over by then
        old = bisect.bisect_left(self.at, float(t_s.min()) - memory_s)
        end = bisect.bisect_left(self.at, float(t_s.max()))
        total = self.signs[old] * (t_s - sum(share * constant_s for share, constant_s in self.parts)) - self.moments[old]
        since = np.maximum(t_s[..., None] - np.array(self.at[old:end]), 0.0)
        for share, constant_s in self.parts:
            response = since - (constant_s * (1 - np.exp(-since / constant_s)) if constant_s else 0.0)
            total = total + share * (response * np.array(self.sign[old:end])).sum(axis=-1)
        return self.idle_w * (t_s - self.start_s) + self.rise_w * total


SENSORS = {
    "ga100, duty fed": (SensorSpec(0.1, 0.025, 0.017), "fed", False, "NVIDIA A100-SXM4-40GB", 7),
    "gh100, full rate": (SensorSpec(0.1, 0.025, 0.061), None, True, "NVIDIA H100 PCIe", 9),
    "100 / 100": (SensorSpec(0.1, 0.1, 0.033), None, True, "Tesla T4", 6),
    "1 s average": (SensorSpec(0.1, 1.0, 0.05), None, True, "NVIDIA H200", 9),
    "20 / 10": (SensorSpec(0.02, 0.01, 0.003), None, True, "Tesla V100-PCIE-16GB", 5),
}


def probed(name, counter_gain=1.0, **creep):
    spec, feed, full, product, architecture = SENSORS[name]
    clock = VirtualClock()
    load = Switched(clock, **creep)
    counter = CounterSpec(0.1, 0.042, gain=counter_gain, feed=spec if feed else None)
    nvml = FakeNvml([FakeCard(load, {"power_instant_w": spec}, counter, name=product, architecture=architecture)], clock)
    meter = NvmlMeter(nvml, clock=clock, environ={})
    return meter, nvml, clock, load, probe(meter.cards[0], load.busy), spec, full


@pytest.mark.parametrize("name", SENSORS)
def test_probe_finds_the_sensor_we_built(name):
    *_, result, spec, full = probed(name)
    found = result.sensor
    assert found.update_s == pytest.approx(spec.update_s, rel=0.05)
    assert found.averaging_s == pytest.approx(spec.averaging_s, abs=0.15 * max(spec.update_s, spec.averaging_s))
    assert found.tick_s == pytest.approx(0.1, rel=0.25)
    assert found.full_rate is full, f"spread {result.counter_spread}"
    assert (result.idle_w, result.load_w) == (pytest.approx(80, rel=0.02), pytest.approx(330, rel=0.02))


@pytest.mark.parametrize("name", ["ga100, duty fed", "gh100, full rate", "100 / 100"])
def test_a_card_that_creeps_after_a_step_has_the_averaging_it_has(name):
    """96 % of a step within 50 ms, the rest over a second: the lag of such a step is that of a sensor four times as slow."""
    *_, result, spec, full = probed(name, fast_s=0.0155, creep_s=0.35)
    assert result.sensor.averaging_s == pytest.approx(spec.averaging_s, rel=0.20)
    assert result.sensor.full_rate is full and (result.power_spread > 0.3) is (spec.averaging_s < 0.05)


def test_a_published_hole_is_closed_by_the_square_wave_alone(monkeypatch):
    """A fit that finds no hole where one is published, and where the readings depend on the phase of a square wave, is not believed."""
    monkeypatch.setattr("eai.power.probe.averaging", lambda *_: 0.1)
    *_, result, _, _ = probed("ga100, duty fed")
    assert result.power_spread > 0.5 and result.sensor.averaging_s == pytest.approx(0.025, rel=0.05)


def test_every_card_of_a_meter_is_probed_with_its_own_load():
    clock = VirtualClock()
    load = Switched(clock)
    card = FakeCard(load, {"power_instant_w": SensorSpec(0.1, 0.1, 0.033)}, CounterSpec(0.1, 0.042), name="Tesla T4", architecture=6)
    asked = []
    meter = NvmlMeter(FakeNvml([card], clock), clock=clock, environ={})
    [row] = probe_cards(meter, lambda index: asked.append(index) or load.busy)
    assert asked == [0] and row["source"] == "probed" and row["full_rate"] is True and row["update_s"] == pytest.approx(0.1, rel=0.05)


def test_probe_finds_the_ratio_of_the_gains():
    *_, result, _, _ = probed("100 / 100", counter_gain=1.08)
    assert result.sensor.gain_ratio == pytest.approx(1.08, abs=3 * result.sensor.u_gain_ratio)
    assert result.sensor.u_gain_ratio < 0.005


def test_probe_does_not_poll_the_counter_fast():
    _, nvml, clock, *_ = probed("100 / 100")
    assert nvml.calls["nvmlDeviceGetTotalEnergyConsumption"] < clock.now_s() - 1000.0


def test_a_probe_is_kept_for_this_card_driver_and_vbios_only():
    _, nvml, clock, _, result, _, _ = probed("ga100, duty fed")
    again = NvmlMeter(nvml, clock=clock, environ={}).cards[0].sensor
    assert again == result.sensor and again.source == "probed"
    for change in ({"driver": "999.1"}, {"vbios": "other"}):
        other = FakeNvml(nvml.cards, clock, **change)
        assert NvmlMeter(other, clock=clock, environ={}).cards[0].sensor.source == "published"
    kept = paths.cache() / "sensors" / f"{nvml.cards[0].uuid}.json"
    with_more = json.dumps({key: value | {"of_later": 1} for key, value in json.loads(kept.read_text()).items()})
    for text in ("{ torn", "[]", with_more):
        kept.write_text(text)
        assert NvmlMeter(nvml, clock=clock, environ={}).cards[0].sensor.source == "published"


def test_a_full_disk_costs_the_cache_and_nothing_else(monkeypatch):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    assert nvml.remember("GPU-x", "1", "2", nvml.Sensor("power_instant_w")) is False
    *_, result, _, _ = probed("100 / 100")
    assert result.sensor.source == "probed"


def test_a_load_on_another_card_is_noticed():
    clock = VirtualClock()
    idle = known_power.constant(0.0, 1.0, 80.0, 80.0)
    nvml = FakeNvml([FakeCard(idle, {"power_instant_w": SensorSpec()}, CounterSpec())], clock)
    card = NvmlMeter(nvml, clock=clock, environ={}).cards[0]
    with pytest.raises(UserError, match="does not follow the load"):
        probe(card, clock.sleep)


@pytest.mark.parametrize("denied", ["nvmlDeviceGetTotalEnergyConsumption", "nvmlDeviceGetPowerUsage"])
def test_a_sensor_that_stops_answering_ends_the_probe_in_one_line(denied):
    clock = VirtualClock()
    load, sensors = Switched(clock), {"power_usage_w": SensorSpec(0.1, 0.1, 0.033)}
    card = FakeCard(load, sensors, CounterSpec(0.1, 0.042), name="Tesla T4", architecture=6)
    meter = NvmlMeter(FakeNvml([card], clock), clock=clock, environ={})

    def busy(duration_s):
        if clock.now_s() > 1015.0:
            card.denied = frozenset([denied])
        load.busy(duration_s)

    with pytest.raises(UserError, match=r"energy counter of GPU .* stopped answering|gave . power readings|power of GPU .* stopped"):
        probe(meter.cards[0], busy, keep=False)


def wall_and_card(gain=0.95, efficiency=0.92, lag_s=4.0, noise_w=0.5, seed=0):
    """A card whose sensor shows `gain` of its power, and a wall meter that sees host and supply losses, late."""
    rng = np.random.default_rng(seed)
    t = np.arange(1.5, 240, 0.1)
    power_w = np.where((t // 30) % 2 == 0, 80.0, 330.0) + np.where((t // 60) % 2 == 0, 0.0, 50.0)
    card = LoggedGpu(0, t, gain * power_w - 5.0)
    wall_t = np.arange(0, 245, 1.0)
    wall_w = (100.0 + np.interp(wall_t - lag_s, t, power_w)) / efficiency + rng.normal(0, noise_w, len(wall_t))
    return LoggedGpu("wall", wall_t, wall_w), card


def test_calibration_recovers_the_gain_within_its_interval():
    scales = []
    for seed in range(20):
        found = calibrate(*wall_and_card(seed=seed), efficiency=0.92, u_efficiency=0.01)
        scales.append(found.scale)
        assert found.lag_s == pytest.approx(4.0, abs=0.5) and found.gain_rel < 0.02
        assert abs(found.scale - 1 / 0.95) < 3 * found.gain_rel / 0.95
    assert np.mean(scales) == pytest.approx(1 / 0.95, rel=0.01)


def test_calibration_from_two_recorded_files(tmp_path):
    wall, card = wall_and_card()
    paths_of = []
    for name, log in (("wall", wall), ("card", card)):
        paths_of.append(tmp_path / f"{name}.csv")
        rows = "".join(f"{t},{p}\n" for t, p in zip(log.t_s, log.power_w, strict=True))
        paths_of[-1].write_text("t_s,power_w\n" + rows)
    assert calibrate_logs(*paths_of, 0.92, 0.01).scale == pytest.approx(1 / 0.95, rel=0.02)
    two = tmp_path / "two.csv"
    two.write_text("t_s,index,power_w\n" + "".join(f"{t},{i},300\n" for t in range(9) for i in range(2)))
    with pytest.raises(UserError, match="holds 2 cards"):
        calibrate_logs(two, paths_of[1])


def test_calibration_is_not_better_than_the_supply_is_known():
    vague = calibrate(*wall_and_card(), efficiency=0.92, u_efficiency=0.03)
    assert vague.gain_rel > 0.03 / 0.92 * 0.99


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda wall, card: (replace(wall, t_s=wall.t_s + 3600), card), "overlap by 0 s"),
        (lambda wall, card: (wall, replace(card, power_w=np.full(len(card.t_s), 300.0))), "changes by 0 W"),
        (lambda wall, card: (replace(wall, power_w=np.random.default_rng(1).normal(400, 50, len(wall.t_s))), card), "badly"),
        (lambda wall, card: (replace(wall, power_w=np.full(len(wall.t_s), 400.0)), card), "badly"),
    ],
)
def test_logs_that_cannot_calibrate_are_refused(change, words):
    with pytest.raises(UserError, match=words):
        calibrate(*change(*wall_and_card()))


def test_a_calibration_corrects_the_next_window_and_shrinks_its_interval():
    gain, clock = 0.90, VirtualClock(1095.0)
    load = known_power.constant(1100.0, 10.0, 300.0, 80.0)
    nvml = FakeNvml([FakeCard(load, {"power_instant_w": SensorSpec(gain=gain)}, CounterSpec(gain=gain))], clock)
    found = replace(calibrate(*wall_and_card(), 0.92, 0.01), scale=1 / gain)
    meter = NvmlMeter(nvml, clock=clock, environ={})
    assert remember_calibration(meter.cards[0].uuid, found, meter)
    with NvmlMeter(nvml, clock=clock, environ={}) as meter:
        clock.sleep(1100.0 - meter.pad_s - clock.now_s())
        with window(meter) as w:
            clock.sleep(10.0)
    primary = next(e for e in w.energies if e.primary)
    assert primary.energy_j == pytest.approx(3000.0, rel=0.005) and primary.u_gain_j < 0.02 * 3000


def test_survey_says_what_is_usable_how_well_and_what_to_do(monkeypatch):
    clock = VirtualClock()
    nvml = FakeNvml([FakeCard(known_power.constant(0.0, 1.0, 80.0, 80.0), {"power_instant_w": SensorSpec()}, CounterSpec())], clock)
    monkeypatch.setitem(MAKERS, "nvml", lambda gpu, shared=False: NvmlMeter(nvml, clock=clock, environ={}))

    def refuse(gpu, shared=False):
        raise UserError("no counters", "counters", "load the module")

    monkeypatch.setitem(MAKERS, "rapl", refuse)
    rows = {r["name"]: r for r in survey()}
    assert [r["usable"] for r in rows.values()] == [True, False, True]
    assert rows["rapl"]["why"] == "no counters" and rows["rapl"]["do"] == "load the module" and rows["rapl"]["interval_10s"] is None
    assert rows["nvml"]["devices"][0]["sensor"] == "published"
    assert rows["nvml"]["basis"] == "measured" and "probe" in rows["nvml"]["do"]
    assert -0.13 < rows["nvml"]["interval_10s"]["low"] < -0.09
    assert rows["nvml"]["within_card_10s"]["high"] < rows["nvml"]["interval_10s"]["high"]
    assert rows["estimate"]["basis"] == "estimated" and rows["estimate"]["interval_10s"]["high"] == pytest.approx(1.0, rel=0.02)


def test_survey_names_the_processes_in_the_way(monkeypatch):
    clock = VirtualClock()
    card = FakeCard(
        known_power.constant(0.0, 1.0, 80.0, 80.0),
        {"power_instant_w": SensorSpec()},
        CounterSpec(),
        processes=(999_999_1, 999_999_2, 999_999_3),
    )
    monkeypatch.setitem(MAKERS, "nvml", lambda gpu, shared=False: NvmlMeter(FakeNvml([card], clock), clock=clock, environ={}))
    row = survey()[0]
    assert not row["usable"] and "other process" in row["why"] and "nvidia-smi" in row["do"]


def test_the_expected_interval_is_what_a_window_then_gets():
    clock = VirtualClock(1095.0)
    nvml = FakeNvml(
        [FakeCard(known_power.constant(1100.0, 10.0, 250.0, 83.3), {"power_instant_w": SensorSpec(0.1, 0.1)}, CounterSpec())], clock
    )
    with NvmlMeter(nvml, clock=clock, environ={}) as meter:
        ahead, _ = expected(meter.spec().devices[0])
        assert ahead == expected(meter.spec().devices[0], 10.0)[0] != expected(meter.spec().devices[0], 11.0)[0]
        clock.sleep(1100.0 - meter.pad_s - clock.now_s())
        with window(meter) as w:
            clock.sleep(10.0)
    got = w.gpu_energy_j
    assert got.high / got.value - 1 == pytest.approx(ahead["high"], rel=0.02)


def test_a_calibration_is_remembered_for_the_card_that_is_named():
    clock = VirtualClock(1000.0)
    load, sensors = known_power.constant(1000.0, 1.0, 300.0, 80.0), {"power_instant_w": SensorSpec(0.1, 0.025, 0.03)}
    fakes = [FakeCard(load, uuid=f"GPU-{i}", sensors=sensors) for i in (0, 1)]
    nvml = FakeNvml(fakes, clock)
    found = Calibration(1.05, 0.01, 100.0, 0.0, 20, 0.999)
    with pytest.raises(UserError, match="one of GPU-0, GPU-1"):
        remember_calibration("GPU-7", found, NvmlMeter(nvml, clock=clock, environ={}))
    assert remember_calibration("GPU-1", found, NvmlMeter(nvml, clock=clock, environ={}))
    with NvmlMeter(nvml, clock=clock, environ={}) as meter:
        assert [card.sensor.scale for card in meter.cards] == [1.0, 1.05]


def test_what_a_sensor_does_not_see_is_said_in_its_own_figures():
    """An average over 25 ms every 100 ms sees a quarter of the time, and steps near 100 ms alias."""
    (note,) = (n for n in nvml.Sensor("power_draw", 0.1, 0.025, full_rate=True, source="probed").doubts() if "alias" in n)
    assert "sees 25% of the time" in note and "100 ms" in note
    (note,) = (n for n in nvml.Sensor("power_draw", 0.02, 0.02, full_rate=True, source="unknown").doubts() if "assumption" in n)
    assert "update 20 ms" in note
    assert not any("alias" in n for n in nvml.Sensor("power_draw", 0.1, 0.1, full_rate=True, source="probed").doubts())
