"""CPU meters: RAPL over a fake powercap tree, the estimate over known CPU times, and the choice between meters."""

import subprocess
import sys
import time

import known_power
import pytest
from faulty_nvml import CounterSpec, FakeCard, FakeNvml

from eai.errors import UserError
from eai.power import cpu
from eai.power.cpu import EstimateMeter, RaplMeter, children_cpu_s, domains
from eai.power.derive import derive
from eai.power.meter import JointMeter
from eai.power.nvml import NvmlMeter
from eai.power.readings import Spec
from eai.power.simulated import SensorSpec, VirtualClock
from eai.power.window import MAKERS, best_meter, window

WRAP_UJ = 262_143_328_850


def powercap(root, sockets=1, dram=True):
    """A powercap tree as Linux lays it out, with the domains that must not be counted twice."""
    for s in range(sockets):
        layout = {f"intel-rapl:{s}": f"package-{s}", f"intel-rapl:{s}:0": "core", f"intel-rapl:{s}:1": "uncore"}
        if dram:
            layout[f"intel-rapl:{s}:2"] = "dram"
        for folder, name in layout.items():
            (root / folder).mkdir(parents=True)
            (root / folder / "name").write_text(name + "\n")
            (root / folder / "max_energy_range_uj").write_text(f"{WRAP_UJ}\n")
            (root / folder / "energy_uj").write_text("1000000\n")
    for folder, name in {f"intel-rapl:{sockets}": "psys", "intel-rapl-mmio:0": "package-0"}.items():
        (root / folder).mkdir(parents=True)
        (root / folder / "name").write_text(name + "\n")
        (root / folder / "max_energy_range_uj").write_text(f"{WRAP_UJ}\n")
        (root / folder / "energy_uj").write_text("1000000\n")
    return root


class Processor(VirtualClock):
    """A virtual clock whose passing advances the counters of a powercap tree at a fixed power [W], wrapping as they do."""

    def __init__(self, root, power_w, start_uj=1_000_000):
        super().__init__()
        self.root, self.power_w, self.begin_s, self.start_uj = root, power_w, self.now_s(), start_uj
        self.write()

    def write(self):
        for domain, power_w in self.power_w.items():
            counted = self.start_uj + (self._now_s - self.begin_s) * power_w * 1e6
            (self.root / domain / "energy_uj").write_text(f"{int(counted) % WRAP_UJ}\n")

    def sampler(self, read, period_s):
        return super().sampler(lambda: self.write() or read(), period_s)

    def sleep(self, duration_s):
        super().sleep(duration_s)
        self.write()


def test_packages_and_dram_of_each_socket_and_nothing_twice(tmp_path):
    found = domains(powercap(tmp_path, sockets=2))
    assert [(d.device_id, d.boundary) for d in found] == [
        ("cpu-0", "cpu_package"),
        ("dram-0", "dram"),
        ("cpu-1", "cpu_package"),
        ("dram-1", "dram"),
    ]


def test_package_and_dram_energy_are_rows_of_their_own(tmp_path):
    clock = Processor(powercap(tmp_path), {"intel-rapl:0": 80.0, "intel-rapl:0:2": 12.0})
    with RaplMeter(tmp_path, clock) as meter, window(meter) as w:
        clock.sleep(10.0)
    assert w.status == "ok" and w.basis == "measured" and w.boundary == "cpu_package"
    assert {e.boundary: e.energy_j for e in w.energies} == pytest.approx({"cpu_package": 800.0, "dram": 120.0})
    assert w.cpu_energy_j.value == pytest.approx(800.0), "DRAM is not silently added to the package"
    assert w.gpu_energy_j is None and w.context["power_mean_w"] == pytest.approx(80.0)


def test_counters_that_wrap_several_times_lose_nothing(tmp_path):
    power_w = 400.0
    clock = Processor(powercap(tmp_path, dram=False), {"intel-rapl:0": power_w}, start_uj=WRAP_UJ - 5_000_000)
    with RaplMeter(tmp_path, clock) as meter, window(meter) as w:
        clock.sleep(1500.0)
    assert power_w * 1500 > 2 * WRAP_UJ / 1e6, "the test must wrap more than twice"
    assert w.status == "ok" and w.cpu_energy_j.value == pytest.approx(power_w * 1500, rel=1e-3)


def test_no_powercap_and_no_permission_say_what_to_do(tmp_path, monkeypatch):
    with pytest.raises(UserError, match=r"no .*intel-rapl.*modprobe"):
        RaplMeter(tmp_path).open()
    powercap(tmp_path)

    def denied(self):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(cpu.Domain, "read_j", denied)
    with pytest.raises(UserError, match=r"permission denied: .*energy_uj.*chmod"):
        RaplMeter(tmp_path).open()


def test_permission_taken_away_while_measuring_is_invalid(tmp_path):
    clock = Processor(powercap(tmp_path), {"intel-rapl:0": 80.0})
    with RaplMeter(tmp_path, clock) as meter, window(meter) as w:
        clock.sleep(3.0)
        (tmp_path / "intel-rapl:0" / "energy_uj").unlink()
        clock.power_w = {}
        clock.sleep(3.0)
    assert w.status == "invalid" and w.cpu_energy_j is None


def test_a_processor_without_dram_counter_says_so(tmp_path):
    powercap(tmp_path, dram=False)
    assert any("no DRAM counter" in note for note in RaplMeter(tmp_path).limitations())


def test_estimate_is_cpu_time_times_the_stated_watts():
    clock = VirtualClock()
    own, children = iter([5.0, 8.0]), iter([1.0, 1.5])
    with EstimateMeter(clock, lambda: next(own), lambda: next(children)) as meter, window(meter) as w:
        clock.sleep(2.0)
    assert w.basis == "estimated" and w.energies[0].energy_j == pytest.approx(4.0 * (3.0 + 0.5))
    assert w.context["cpu_threads_busy"] == pytest.approx(3.5 / 2)
    assert w.gpu_energy_j is None


def test_estimate_spans_a_factor_of_two_either_way():
    clock = VirtualClock()
    own = iter([0.0, 25.0])
    with EstimateMeter(clock, lambda: next(own), lambda: 0.0) as meter, window(meter) as w:
        clock.sleep(25.0)
    q = w.cpu_energy_j
    assert (q.low, q.value, q.high) == (pytest.approx(50.0, rel=0.01), 100.0, pytest.approx(200.0, rel=0.01))


def test_estimate_measures_real_cpu_time_of_this_process():
    with EstimateMeter() as meter, window(meter) as w:
        before = time.process_time()
        while time.process_time() - before < 0.2:
            pass
    assert w.status == "ok" and w.energies[0].energy_j == pytest.approx(0.8, rel=0.05)


def test_running_children_count():
    child = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        deadline = time.monotonic() + 20
        before_s = children_cpu_s()
        while children_cpu_s() < before_s + 0.3 and time.monotonic() < deadline:
            time.sleep(0.05)
        assert children_cpu_s() >= before_s + 0.3
    finally:
        child.kill()
        child.wait()


def test_processor_and_gpu_over_one_window_stay_apart(tmp_path, monkeypatch):
    monkeypatch.setenv("EAI_CACHE", str(tmp_path / "cache"))
    clock = Processor(powercap(tmp_path / "cap"), {"intel-rapl:0": 80.0, "intel-rapl:0:2": 12.0})
    load = known_power.constant(1100.0, 9.7, 300.0, 80.0)
    nvml = NvmlMeter(FakeNvml([FakeCard(load, {"power_instant_w": SensorSpec()}, CounterSpec())], clock), clock=clock, environ={})
    with JointMeter(nvml, RaplMeter(tmp_path / "cap", clock)) as meter:
        clock.sleep(1100.0 - nvml.pad_s - clock.now_s())
        with window(meter) as w:
            clock.sleep(9.7)
            load_ended = clock.now_s()
    cpu_readings_s = w.stream.loc[w.stream["boundary"] == "cpu_package", "t_s"]
    assert min(abs(cpu_readings_s - load_ended)) < 1e-6, "the processor is read at the work's edge, not after the GPU's pad"
    assert (w.meter, w.boundary, w.status) == ("nvml+rapl", "gpu", "ok"), w.reason
    primary = {e.boundary: e.energy_j for e in w.energies if e.primary}
    assert primary == {"gpu": pytest.approx(2910, rel=0.005), "cpu_package": pytest.approx(776), "dram": pytest.approx(116.4)}
    assert w.gpu_energy_j.value == primary["gpu"] and w.cpu_energy_j.value == primary["cpu_package"]
    assert w.context["power_mean_w"] == pytest.approx(300, rel=0.005)
    assert derive(w.stream, w.start_s, w.stop_s, Spec.from_json(w.spec.to_json())).energies == tuple(w.energies)


def test_the_choice_reads_the_processor_beside_a_gpu(monkeypatch):
    clock = VirtualClock()
    nvml = FakeNvml([FakeCard(known_power.constant(0.0, 1.0, 80.0, 80.0), {"power_instant_w": SensorSpec()}, CounterSpec())], clock)
    monkeypatch.setitem(MAKERS, "nvml", lambda gpu, shared=False: NvmlMeter(nvml, clock=clock, environ={}))
    monkeypatch.setattr(cpu, "rapl_refusal", lambda: None)
    assert best_meter("a100")[0].name == "nvml+rapl"
    monkeypatch.setattr(cpu, "rapl_refusal", lambda: UserError("none"))
    assert best_meter("a100")[0].name == "nvml"


def refuse(gpu, shared=False):
    raise UserError("not here", "elsewhere", "go there")


def test_the_choice_falls_back_and_says_why(monkeypatch):
    monkeypatch.setitem(MAKERS, "nvml", refuse)
    monkeypatch.setitem(MAKERS, "rapl", refuse)
    meter, why = best_meter()
    assert meter.name == "estimate" and why.count("not here") == 2 and "\n" not in why


def test_a_gpu_is_never_answered_with_a_cpu_meter(monkeypatch):
    monkeypatch.setitem(MAKERS, "nvml", refuse)
    with pytest.raises(UserError, match="not here"):
        best_meter("a100")
    with pytest.raises(UserError, match="not here"):
        best_meter("auto", "nvml")
    with pytest.raises(UserError, match="one of auto, nvml, rapl, estimate"):
        best_meter("auto", "smi")


def test_the_cpu_is_never_answered_with_nvml(monkeypatch):
    monkeypatch.setitem(MAKERS, "nvml", lambda gpu, shared=False: pytest.fail("NVML was asked for a CPU"))
    assert best_meter("cpu")[0].boundary == "cpu_package"
