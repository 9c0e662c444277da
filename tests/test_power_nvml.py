"""The NVML meter against simulated cards on a virtual clock: the same code path as on a real card, faults included."""

import os

import known_power
import numpy as np
import pytest
from faulty_nvml import CounterSpec, FakeCard, FakeNvml

from eai.errors import UserError
from eai.power.nvml import NvmlMeter
from eai.power.simulated import SensorSpec, VirtualClock
from eai.power.window import window

START_S = 1100.0
INSTANT = {"power_instant_w": SensorSpec(0.1, 0.025, 0.03)}


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("EAI_CACHE", str(tmp_path / "cache"))


def make(card_options=(), cards=1, environ=None, **meter_options):
    """A meter over fake cards whose load of 300 W lasts 10 s from START_S; idle 80 W."""
    clock = VirtualClock(START_S - 5)
    options = {"sensors": INSTANT, "counter": CounterSpec(0.1, 0.042), **dict(card_options)}
    load = options.pop("truth", known_power.constant(START_S, 10.0, 300.0, 80.0))
    fakes = [FakeCard(load, uuid=f"GPU-{i}", **options) for i in range(cards)]
    nvml = FakeNvml(fakes, clock)
    return NvmlMeter(nvml, clock=clock, environ=environ or {}, **meter_options), nvml, clock


def run(meter, clock, duration_s=10.0, baseline=None, step_time_s=None):
    """A window exactly around the load."""
    with meter:
        clock.sleep(START_S - meter.pad_s - clock.now_s())
        with window(meter, baseline, step_time_s) as w:
            clock.sleep(duration_s)
    assert w.start_s == pytest.approx(START_S)
    return w


def test_constant_power_gives_power_times_time_by_both_methods():
    meter, _, clock = make()
    w = run(meter, clock)
    assert w.status == "ok", w.reason
    by_method = {e.method: e for e in w.energies}
    assert by_method["counter"].primary and not by_method["power"].primary
    for energy in w.energies:
        assert energy.energy_j == pytest.approx(3000.0, abs=3 * energy.u_reading_j + 1e-6)
        assert energy.energy_j == pytest.approx(3000.0, rel=0.005)
    assert w.gpu_energy_j.low < 3000.0 < w.gpu_energy_j.high
    assert w.cpu_energy_j is None


def test_net_energy_has_the_context_idle_removed():
    meter, _, clock = make()
    with meter:
        baseline = meter.idle(3.0, "context")
    assert baseline.power_w["GPU-0"] == pytest.approx(80.0, rel=0.02)
    w = run(meter, clock, baseline=baseline)
    primary = next(e for e in w.energies if e.primary)
    assert primary.net_energy_j == pytest.approx((300 - 80) * 10, rel=0.01)


def test_counter_is_read_only_at_the_edges():
    meter, nvml, clock = make()
    before = nvml.calls["nvmlDeviceGetTotalEnergyConsumption"]
    run(meter, clock)
    assert nvml.calls["nvmlDeviceGetTotalEnergyConsumption"] - before == 2


def test_fast_polling_would_have_corrupted_this_counter_and_ours_does_not():
    meter, _nvml, clock = make({"corrupts_below_s": 1.0, "corruption": 0.9})
    w = run(meter, clock)
    assert w.status == "ok" and w.energies[0].energy_j == pytest.approx(3000.0, rel=0.005)
    polled, nvml2, clock2 = make({"corrupts_below_s": 1.0, "corruption": 0.9})
    clock2.sleep(5.0)
    first = nvml2.nvmlDeviceGetTotalEnergyConsumption(nvml2.cards[0])
    for _ in range(1000):
        clock2.sleep(0.01)
        last = nvml2.nvmlDeviceGetTotalEnergyConsumption(nvml2.cards[0])
    assert (last - first) / 1e3 < 0.5 * 3000.0
    assert polled.cards


def test_samples_come_at_half_the_update_period_with_driver_stamps():
    meter, _, clock = make()
    w = run(meter, clock)
    power = w.stream[w.stream["field"] == "power_instant_w"]
    assert np.median(np.diff(power["t_s"])) == pytest.approx(0.05)
    assert power["driver_t_us"].notna().all() and (power["latency_us"] == 40).all()
    assert np.all(power["driver_t_us"] / 1e6 <= power["t_s"] + 1e-6)
    assert w.context["temperature_mean_c"] == 55 and w.context["sm_clock_mean_mhz"] == 1410
    assert w.context["power_limit_w"] == 400 and w.context["power_mean_w"] == pytest.approx(300, rel=0.01)


@pytest.mark.parametrize(
    ("sensors", "chosen"),
    [
        ({"power_average_w": SensorSpec(0.1, 1.0), "power_usage_w": SensorSpec(0.1, 1.0)}, "power_average_w"),
        ({"power_usage_w": SensorSpec(0.1, 1.0)}, "power_usage_w"),
    ],
)
def test_power_falls_back_to_the_next_field_and_says_which(sensors, chosen):
    meter, _, clock = make({"sensors": sensors, "name": "NVIDIA GeForce RTX 4090", "architecture": 8})
    w = run(meter, clock)
    assert {e.field for e in w.energies} == {chosen, "energy_counter_j"}
    assert meter.metadata()["cards"][0]["power_field"] == chosen
    by_method = {e.method: e.energy_j for e in w.energies}
    assert by_method["power"] == pytest.approx(3000.0, rel=0.01), "a 1 s average must not lose what it has not yet told"


def test_two_cards_are_two_rows_and_their_sum_carries_both_uncertainties():
    meter, _, clock = make(cards=2)
    w = run(meter, clock)
    primary = [e for e in w.energies if e.primary]
    assert [e.device_id for e in primary] == ["GPU-0", "GPU-1"]
    assert w.gpu_energy_j.value == pytest.approx(6000.0, rel=0.01)


def test_gpu_lost_mid_window_is_status_lost_without_a_number():
    meter, _, clock = make({"lost_at_s": START_S + 4})
    w = run(meter, clock)
    assert w.status == "lost" and "lost" in w.reason
    assert w.gpu_energy_j is None and all(e.energy_j is None for e in w.energies)


def test_counter_reset_is_no_number_even_though_its_difference_has_an_absolute_value():
    meter, _, clock = make({"counter": CounterSpec(0.1, reset_at_s=START_S + 4)})
    w = run(meter, clock)
    counter = next(e for e in w.energies if e.method == "counter")
    assert w.status == "counter_reset" and counter.energy_j is None
    assert next(e for e in w.energies if e.method == "power").energy_j == pytest.approx(3000.0, rel=0.01)


def test_stale_counter_against_a_live_sensor_is_disputed():
    meter, _, clock = make({"counter": CounterSpec(0.1, stale_from_s=START_S + 4)})
    w = run(meter, clock)
    assert w.status == "disputed" and "disagree" in w.reason and w.gpu_energy_j is None


def test_zero_readings_are_missing_not_zero_watts():
    meter, _, clock = make({"zero_from_s": START_S + 2, "counter": None})
    w = run(meter, clock)
    assert w.status == "invalid" and w.gpu_energy_j is None


def test_failing_reads_are_counted_as_missing():
    meter, _, clock = make({"error_from_s": START_S + 5, "counter": None})
    w = run(meter, clock)
    assert w.status == "invalid"
    assert (w.stream["field"] == "error").sum() > 50


def test_a_dead_sampler_spoils_the_window_and_not_the_next(monkeypatch):
    meter, _, clock = make({"truth": known_power.constant(START_S, 60.0, 300.0, 80.0)})
    real, beats = meter._read, iter(range(10**6))

    def dies():
        if next(beats) == 50:
            raise RuntimeError("out of memory")
        return real()

    monkeypatch.setattr(meter, "_read", dies)
    w = run(meter, clock)
    assert w.status == "invalid" and "sampler died" in w.reason and w.gpu_energy_j is None
    with meter, window(meter) as again:
        clock.sleep(10.0)
    assert again.status == "ok", again.reason


def test_without_a_counter_the_integral_stands_alone_and_is_flagged():
    meter, _, clock = make({"counter": None})
    w = run(meter, clock)
    assert w.status == "ok" and w.flags == ["single_method"] and w.energies[0].method == "power"
    assert any("no energy counter" in note for note in meter.limitations())


def test_unsupported_context_is_none_and_not_asked_again():
    meter, nvml, clock = make({"denied": frozenset({"nvmlDeviceGetTemperature", "nvmlDeviceGetViolationStatus"})})
    w = run(meter, clock)
    assert w.status == "ok" and w.context["temperature_mean_c"] is None and w.context["throttle_fraction"] is None
    assert nvml.calls["nvmlDeviceGetTemperature"] == 1


def test_throttling_between_samples_is_seen_in_the_violation_time():
    meter, _, clock = make({"throttle_s": ((START_S + 3.01, START_S + 3.09),)})
    w = run(meter, clock)
    assert w.status == "throttled" and w.context["throttle_fraction"] == pytest.approx(0.008)
    meter, _, clock = make({"throttle_s": ((START_S + 3.01, START_S + 3.04),)})
    assert run(meter, clock).status == "ok", "0.3 % is below the limit of 0.5 %"


def test_power_cap_is_a_flag_not_a_fault():
    meter, _, clock = make({"capped_s": ((START_S, START_S + 8),)})
    w = run(meter, clock)
    assert w.status == "ok" and "power_capped" in w.flags


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"mig": True}, "MIG"),
        ({"virtual": True}, "virtual GPU"),
        ({"processes": (os.getpid(), 999_999_1, 999_999_2)}, "other process"),
        ({"sensors": {}, "counter": None}, "neither power nor energy"),
    ],
)
def test_cards_that_cannot_be_measured_are_refused_in_one_line(options, words):
    meter, _, _ = make(options)
    with pytest.raises(UserError, match=words) as error:
        meter.open()
    assert "\n" not in str(error.value) and ";" in str(error.value)


def test_shared_card_is_measured_and_flagged():
    meter, _, clock = make({"processes": (os.getpid(), 999_999_1, 999_999_2)}, shared=True)
    w = run(meter, clock)
    assert w.status == "ok" and "other_processes" in w.flags


def test_a_process_that_arrives_during_the_window_makes_it_invalid():
    meter, nvml, clock = make()
    with meter:
        clock.sleep(START_S - meter.pad_s - clock.now_s())
        with window(meter) as w:
            clock.sleep(5.0)
            nvml.cards[0].processes = (os.getpid(), 999_999_1, 999_999_2)
            clock.sleep(5.0)
    assert w.status == "invalid" and "another process" in w.reason and w.gpu_energy_j is None


def test_exception_in_the_body_propagates_and_the_meter_works_on():
    meter, _, clock = make({"truth": known_power.constant(START_S, 60.0, 300.0, 80.0)})
    with meter:
        with pytest.raises(ZeroDivisionError), window(meter) as broken:
            clock.sleep(1.0)
            _ = 1 / 0
        assert broken.status == "failed" and broken.gpu_energy_j is None and len(broken.stream) > 10
        assert clock._samplers == [], "nobody samples on"
        clock.sleep(START_S + 2 - clock.now_s())
        with window(meter) as w:
            clock.sleep(10.0)
    assert w.status == "ok" and w.gpu_energy_j.value == pytest.approx(3000, rel=0.01)


def test_a_clock_that_jumps_back_makes_the_window_invalid():
    meter, _, clock = make()
    with meter, window(meter) as w:
        clock.sleep(2.0)
        clock._now_s -= 5.0
    assert w.status == "invalid" and "clock" in w.reason


def test_visible_devices_by_index_uuid_and_prefix():
    def visible(value, **more):
        meter, _, _ = make(cards=3, environ={"CUDA_VISIBLE_DEVICES": value, **more})
        return [d.device_id for d in meter.devices()]

    assert visible("2,0") == ["GPU-2", "GPU-0"]
    assert visible("GPU-1") == ["GPU-1"]
    assert visible("1,7,0") == ["GPU-1"], "CUDA stops at the first index that does not exist"
    for nothing in ("", "-1", "GPU"):
        with pytest.raises(UserError, match="CUDA_VISIBLE_DEVICES"):
            visible(nothing)
    with pytest.raises(UserError, match="MIG slice"):
        visible("MIG-4")
    for twice in ("0,0", "GPU-2,2"):
        with pytest.raises(UserError, match="names a card twice"):
            visible(twice)


def test_an_index_among_different_cards_needs_pci_order():
    clock = VirtualClock()
    load = known_power.constant(START_S, 1.0, 300.0, 80.0)
    nvml = FakeNvml([FakeCard(load, INSTANT, uuid="GPU-a"), FakeCard(load, INSTANT, uuid="GPU-b", name="NVIDIA T4")], clock)
    with pytest.raises(UserError, match="PCI_BUS_ID"):
        NvmlMeter(nvml, clock=clock, environ={"CUDA_VISIBLE_DEVICES": "1"})
    chosen = NvmlMeter(nvml, clock=clock, environ={"CUDA_VISIBLE_DEVICES": "1", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"})
    assert [d.device_id for d in chosen.devices()] == ["GPU-b"]


def test_limits_and_modes_are_read_and_never_changed():
    meter, nvml, clock = make()
    run(meter, clock)
    meter.metadata()
    assert "nvmlDeviceGetEnforcedPowerLimit" in nvml.calls
    assert all(name.startswith("nvmlDeviceGet") for name in nvml.calls)


def test_power_right_now_is_the_sum_of_the_cards():
    meter, _, clock = make(cards=2)
    with meter:
        assert meter.power_w() == pytest.approx(160.0)
        clock.sleep(START_S + 5 - clock.now_s())
        assert meter.power_w() == pytest.approx(600.0)


def test_a_uuid_measures_that_card_alone():
    """An idle neighbour must not be billed to the work."""
    nvml = make(cards=2)[1]
    meter = NvmlMeter(nvml, gpu="GPU-1", clock=nvml.clock, environ={})
    assert [device.device_id for device in meter.devices()] == ["GPU-1"]
