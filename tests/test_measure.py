"""The protocol on a tiny model: every planned window once, failures as rows, kill and resume."""

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

from eai import jobs, measure, settings, tables
from eai.errors import UserError
from eai.measure import job, work
from eai.workload import generation

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning", "ignore::DeprecationWarning")
QUICK = {"window_s": 0.05, "warmup_cap_s": 0.0, "idle_s": 0.0, "input_tokens": [8], "output_tokens": [4], "meter": "estimate"}


@pytest.fixture
def sweep(tiny_model, scratch):
    def make(**changes):
        return settings.sweep(
            **({"experiment": "tiny", "models": [str(tiny_model)], "quantizations": ["fp32", "nf4"], "blocks": 2} | QUICK | changes)
        )

    return make


def test_every_planned_window_is_measured_once(sweep):
    plan = jobs.job_order(sweep(), "cpu", sweep().models[0])
    lines: list[str] = []
    folder = measure.run(sweep(), lines.append)
    windows, energies = tables.read_windows(folder), tables.read_energies(folder)
    found = list(windows[["block", "configuration_id", "repeat"]].itertuples(index=False, name=None))
    assert found == [w.key for w in plan]
    assert set(windows["status"]) == {"ok"}
    assert (windows["duration_s"] >= 0.05).all()
    assert (windows["tokens_out"] == windows["calls"] * windows["batch_size"] * 4).all()
    assert (windows["tokens_in"] == windows["calls"] * windows["batch_size"] * 8).all()
    assert len(energies) == len(windows) and (energies["energy_j"] > 0).all()
    assert len(lines) == 1 + len(plan)
    assert lines[-1].endswith("about 0:00 left")


def test_an_estimated_energy_is_the_cpu_time_times_the_stated_power(sweep):
    """Recomputed from the raw readings and the provenance with nothing but pandas."""
    folder = measure.run(sweep(blocks=1), lambda line: None)
    samples = tables.read_samples(folder)
    own = samples[samples["field"].isin(["cpu_time_s", "child_cpu_time_s"])]
    spent_s = own.groupby(["attempt", "field"])["value"].agg(lambda v: v.max() - v.min()).groupby("attempt").sum()
    watts = tables.read_provenance(folder)[-1]["meter"]["watts_per_thread"]
    energies = tables.read_energies(folder).set_index("attempt")["energy_j"]
    assert (energies / (spent_s.reindex(energies.index) * watts)).tolist() == pytest.approx([1.0] * len(energies), rel=1e-9)
    windows = tables.read_windows(folder).set_index("attempt")
    assert (windows["cpu_time_s"] / spent_s.reindex(windows.index)).tolist() == pytest.approx([1.0] * len(windows), rel=1e-6)


def test_nothing_is_measured_twice(sweep):
    folder = measure.run(sweep(), lambda line: None)
    before = tables.read_windows(folder)
    lines: list[str] = []
    measure.run(sweep(), lines.append)
    assert len(lines) == 1 and "nothing to measure" in lines[0]
    measure.run(sweep(blocks=3), lines.append)
    after = tables.read_windows(folder)
    assert after["attempt"].tolist()[: len(before)] == before["attempt"].tolist()
    assert len(after) == 3 * len(before) // 2


def test_what_cannot_run_becomes_a_row_and_the_rest_goes_on(sweep):
    folder = measure.run(sweep(quantizations=["tf32", "fp32"], blocks=1), lambda line: None)
    windows = tables.read_windows(folder)
    assert dict(windows.groupby("quantization")["status"].first()) == {"tf32": "unsupported", "fp32": "ok"}
    assert windows.loc[windows["quantization"] == "tf32", "reason"].str.contains("CUDA").all()


@pytest.mark.parametrize(("error", "status"), [(MemoryError("no room"), "oom"), (RuntimeError("kernel fault"), "failed")])
def test_a_failing_call_is_data(sweep, monkeypatch, error, status):
    real = generation.Generation.run

    def run(self, new_tokens=None, **how):
        if self.batch_size == 4:
            raise error
        return real(self, new_tokens, **how)

    monkeypatch.setattr(generation.Generation, "run", run)
    windows = tables.read_windows(measure.run(sweep(blocks=1), lambda line: None))
    assert dict(windows.groupby("batch_size")["status"].first()) == {1: "ok", 4: status}


def test_a_failure_that_may_be_gone_is_tried_again_but_not_an_oom(sweep, monkeypatch):
    def run(self, new_tokens=None, **how):
        raise MemoryError("no room") if self.batch_size == 4 else RuntimeError("driver hiccup")

    with monkeypatch.context() as patched:
        patched.setattr(generation.Generation, "run", run)
        folder = measure.run(sweep(blocks=1), lambda line: None)
    measure.run(sweep(blocks=1), lambda line: None)
    windows = tables.read_windows(folder)
    assert dict(windows.groupby("batch_size")["status"].first()) == {1: "ok", 4: "oom"}


def test_too_long_for_the_context_is_a_row(sweep):
    windows = tables.read_windows(measure.run(sweep(blocks=1, batch_sizes=[1], input_tokens=[8, 300]), lambda line: None))
    assert dict(windows.groupby("input_tokens")["status"].first()) == {8: "ok", 300: "failed"}
    assert windows.loc[windows["input_tokens"] == 300, "reason"].str.contains("exceed the model.s context of 256").all()


def test_another_protocol_in_the_same_folder_is_refused(sweep):
    measure.run(sweep(blocks=1), lambda line: None)
    with pytest.raises(UserError, match="another window_s"):
        measure.run(sweep(blocks=1, window_s=0.06), lambda line: None)


def test_a_model_that_is_not_there_stops_before_anything_is_measured(sweep, scratch):
    with pytest.raises(UserError, match="not a folder"):
        measure.run(sweep(models=["./nowhere"]), lambda line: None)
    assert not (scratch / "data").exists()


def test_a_gpu_that_is_not_there_is_one_line(sweep):
    with pytest.raises(UserError, match="no CUDA device"):
        measure.run(sweep(gpus=["h200"]), lambda line: None)


def test_auto_reuses_the_sample_only_if_it_holds_everything():
    names = {"gpus": ["cpu"], "experiment": "auto"}
    assert jobs.resolve_experiment(settings.sweep(**names)) == tables.experiment_dir("sample")
    for other in ({"batch_sizes": [1, 8]}, {"window_s": 30}, {"blocks": 99}, {"models": ["org/other"]}):
        assert jobs.resolve_experiment(settings.sweep(**names, **other)) != tables.experiment_dir("sample")


def test_warm_up_stops_when_speed_is_steady(monkeypatch):
    class Work:
        output_tokens, times_tokens = 16, False

        def __init__(self, durations):
            self.durations = iter(durations)

        def first_token_s(self, **how):
            return 0.1

        def run(self):
            return generation.Produced(1, 8, 16, next(self.durations))

    warm = work.warm_up(Work([3.0, 2.0, 1.0, 1.01, 1.0, 0.99, 1.0, 9.9]), 60.0)
    assert warm.steady and warm.cv == pytest.approx(0.00707, rel=0.01)
    assert warm.step_time_s == pytest.approx((1.0 - 0.1) / 15)
    assert not work.warm_up(Work([1.0, 2.0] * 5), 0.0).steady


def test_slow_work_warms_up_within_its_cap():
    """Where one call for the first token takes longer than the cap, nothing more is run: a window of slow work is not half warm-up."""

    class Slow:
        output_tokens, calls, times_tokens = 16, 0, False

        def run(self, new_tokens=None):
            Slow.calls += 1
            clock.now += 7.0
            return generation.Produced(1, 8, new_tokens, 7.0)

        first_token_s = generation.Generation.first_token_s

    class Clock:
        now = 0.0

        def now_s(self):
            return self.now

    clock = Clock()
    warm = work.warm_up(Slow(), 1.0, clock=clock)
    assert Slow.calls == 1 and (warm.duration_s, warm.ttft_s, warm.steady, warm.step_time_s) == (7.0, 7.0, False, None)


@pytest.mark.parametrize(("least_s", "calls"), [(0.4, 1), (1.0, 0)])
def test_where_the_window_times_its_tokens_slow_work_is_only_touched(least_s, calls):
    """A whole call that cannot fit into the cap is not begun; what the window's own calls tell is the median of all of them."""

    class Timed:
        output_tokens, times_tokens, calls = 3, True, 0

        def least_s(self):
            clock.now += 0.1
            return least_s

        def run(self):
            Timed.calls += 1
            clock.now += 2.0
            first = 0.5 + 0.1 * Timed.calls
            return generation.Produced(2, 16, 6, 2.0, (first, first + 0.2, first + 0.6))

    class Clock:
        now = 0.0

        def now_s(self):
            return self.now

    clock = Clock()
    loaded = SimpleNamespace(device="none", model_bytes=1, report={"linears": {}})
    one = work.FixedGeneration(Timed(), loaded, clock)
    warm = one.warm_up(1.0, lambda: None)
    assert Timed.calls == calls * 6 and not warm.steady and warm.ttft_s is None  # groups of at least 16 steps
    Timed.calls = 0
    one.run_for(5.0)
    found = one.columns()
    assert found["calls"] == 3 and found["tokens_out"] == 18
    assert found["ttft_s"] == pytest.approx(0.7) and found["itl_s"] == pytest.approx(0.3) and found["itl_p95_s"] == pytest.approx(0.4)
    assert found["step_time_s"] == pytest.approx((2.0 - 0.7) / 2)


def test_warm_up_goes_on_while_power_still_rises(monkeypatch):
    """Speed is constant from the start; power rises by 10 W a group for 20 groups: only then may measuring begin."""

    class Work:
        output_tokens, times_tokens, groups = 16, False, 0

        def first_token_s(self, **how):
            return 0.1

        def run(self):
            self.groups += 1
            return generation.Produced(1, 8, 16, 1.0)

    now = itertools.count()
    monkeypatch.setattr(work.Clock, "now_s", lambda self: float(next(now)))
    steps = Work()
    assert work.warm_up(steps, 10_000.0, lambda: 100.0 + 10 * min(steps.groups, 20)).steady
    assert 20 < steps.groups <= 25
    assert not work.warm_up(steps, 100.0, lambda: 100.0 + 10 * steps.groups).steady


def test_kill_minus_nine_loses_at_most_the_window_in_flight(tiny_model, scratch):
    """Killed three times at different moments, the run ends with the same window keys as an undisturbed one."""
    parameters = {"experiment": "killed", "models": [str(tiny_model)], "quantizations": ["fp32", "bf16"], "blocks": 6} | QUICK
    program = "import json, sys; from eai import measure, settings; sweep = settings.sweep(**json.loads(sys.argv[1])); "
    program += "measure.run(sweep, lambda line: print(line, flush=True))"
    command = [sys.executable, "-W", "ignore", "-c", program, json.dumps(parameters)]
    announced = 0
    for moment_s in (0.3, 0.8, 1.3):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=os.environ)
        process.stdout.readline()
        time.sleep(moment_s)
        process.send_signal(signal.SIGKILL)
        announced += sum(line.startswith("[") for line in process.stdout)
        process.wait()
        process.stdout.close()
    subprocess.run(command, check=True, capture_output=True)
    sweep = settings.sweep(**parameters)
    windows = tables.read_windows(scratch / "data" / "runs" / "killed")
    lines = sum(1 for job in tables.job_dirs(scratch / "data" / "runs" / "killed") for _ in tables.read_jsonl(job / "windows.jsonl"))
    keys = list(windows[["block", "configuration_id", "repeat"]].itertuples(index=False, name=None))
    assert sorted(keys) == sorted(w.key for w in jobs.job_order(sweep, "cpu", str(tiny_model)))
    assert lines == len(keys) >= announced


def test_a_sensed_window_is_stored_so_that_it_replays_bit_for_bit(sweep, monkeypatch):
    """The whole path of a GPU meter (counter and power, baselines, samples) through the store, on a simulated card that draws 200 W."""
    import known_power
    from faulty_nvml import CounterSpec, FakeCard, FakeNvml

    from eai.power.derive import replay
    from eai.power.nvml import NvmlMeter
    from eai.power.simulated import SensorSpec, VirtualClock

    clock, run = VirtualClock(), generation.Generation.run

    def timed(*arguments, **named):
        """A call takes a quarter of a second on the meter's clock, however busy this machine is."""
        produced = run(*arguments, **named)
        clock.sleep(0.25)
        return produced

    monkeypatch.setattr(generation.Generation, "run", timed)
    load = known_power.constant(clock.now_s() - 10.0, 10_000.0, 200.0, 80.0)
    card = FakeCard(load, uuid="GPU-0", sensors={"power_instant_w": SensorSpec(0.02, 0.02, 0.0)}, counter=CounterSpec(0.02, 0.0))
    monkeypatch.setattr(job.power, "best_meter", lambda *_: (NvmlMeter(FakeNvml([card], clock), clock=clock, environ={}), "simulated"))
    folder = measure.run(sweep(blocks=1, batch_sizes=[1], window_s=5.0, idle_s=0.3, meter="auto"), lambda line: None)
    windows, energies, samples = tables.read_windows(folder), tables.read_energies(folder), tables.read_samples(folder)
    assert set(energies["method"]) == {"counter", "power"} and energies["primary"].sum() == len(windows) == 2
    joined = energies.merge(windows[["attempt", "duration_s"]], on="attempt")
    assert windows["duration_s"].tolist() == pytest.approx([5.0, 5.0]) and windows["status"].tolist() == ["ok", "ok"]
    assert (joined["energy_j"] / joined["duration_s"]).tolist() == pytest.approx([200.0] * len(joined), rel=1e-3)
    assert energies["net_energy_j"].notna().all()
    assert windows["power_mean_w"].tolist() == pytest.approx([200.0, 200.0], rel=1e-3)
    idle = tables.read_idle(folder)
    assert idle["kind"].tolist() == ["bare", *["context", "context_after"] * 2]
    assert idle["power_w"].tolist() == pytest.approx([200.0] * 5, rel=0.02)  # a tick of 20 ms in 0.3 s, over sqrt(12)
    net = joined["energy_j"] - joined["net_energy_j"]
    assert (net / joined["duration_s"]).tolist() == pytest.approx([200.0] * len(joined), rel=0.02)
    assert replay(windows, energies, samples) == (2, [])
    changed = energies.assign(energy_j=energies["energy_j"] * 1.0000001)
    assert len(replay(windows, changed, samples)[1]) == len(energies)
