"""`eai measure` and `eai watch`: any command's energy and exit code, and a log that `trace` reads."""

import json
import os
import signal
import subprocess
import sys
import time

import known_power
import pytest
from faulty_nvml import CounterSpec, FakeCard, FakeNvml

from eai.errors import UserError
from eai.power import cpu, live
from eai.power.logs import read_log
from eai.power.nvml import NvmlMeter
from eai.power.simulated import SensorSpec, VirtualClock
from eai.power.trace import summarize_trace

BURN = "import time; t = time.process_time()\nwhile time.process_time() - t < 0.4: pass"


def cli(*arguments, **options):
    program = [sys.executable, "-W", "ignore", "-c", "from eai.cli import main; main()", *arguments]
    return subprocess.run(program, capture_output=True, text=True, env=os.environ | {"CUDA_VISIBLE_DEVICES": ""}, **options)


def test_a_command_is_measured_and_its_exit_code_passed_on():
    done = cli("measure", "--json", "--tokens", "10", "--", sys.executable, "-c", BURN + "\nprint('hello'); raise SystemExit(7)")
    answer = json.loads(done.stdout)
    assert done.returncode == answer["exit_code"] == 7 and "hello" in done.stderr, "with --json stdout holds the document alone"
    energy = answer["energies_j"]["cpu_package"]
    assert energy["low"] < energy["value"] < energy["high"] and answer["status"] == "ok"
    if answer["basis"] == "estimated":
        assert energy["value"] == pytest.approx(4.0 * 0.45, rel=0.25), "0.4 s of one thread and the start of Python, at 4 W"
    assert answer["energies_per_token_j"]["cpu_package"]["value"] == pytest.approx(energy["value"] / 10)


def test_a_command_that_does_not_exist_and_one_that_is_killed():
    missing = cli("measure", "--", "no-such-command-here")
    assert missing.returncode == 127 and "no-such-command-here is not found" in missing.stderr
    killed = cli("measure", "--", sys.executable, "-c", "import os, signal; os.kill(os.getpid(), signal.SIGTERM)")
    assert killed.returncode == 128 + signal.SIGTERM
    plain = cli("measure", "--", sys.executable, "-c", "print('out')")
    assert plain.returncode == 0 and plain.stdout == "out\n" and "exit code 0" in plain.stderr


RESULTS = {
    "vllm bench serve": ({"total_output_tokens": 12800, "total_input_tokens": 5, "duration": 3.2}, 12800),
    "guidellm": ({"benchmarks": [{"metrics": {"output_token_count": {"successful": {"total_sum": 640.0}}}}] * 2}, 1280),
    "guidellm, older": ({"benchmarks": [{"metrics": {"output_token_count": {"successful": {"mean": 64.0, "count": 10}}}}]}, 640),
    "llama-bench": ([{"n_prompt": 512, "n_gen": 0, "samples_ns": [1] * 5}, {"n_prompt": 0, "n_gen": 128, "samples_ns": [1] * 5}], 640),
    "aiperf": ({"output_sequence_length": {"unit": "tokens", "avg": 100.5}, "request_count": {"unit": "requests", "avg": 20}}, 2010),
}


@pytest.mark.parametrize("name", RESULTS)
def test_tokens_of_the_result_files_of_load_generators(name, tmp_path):
    document, tokens = RESULTS[name]
    path = tmp_path / "result.json"
    path.write_text(json.dumps(document))
    assert live.tokens_of(path) == tokens


STRANGE = ['{"benchmarks": [{"metrics": null}]}', '{"benchmarks": [5]}', '{"n_gen": null}', '{"total_output_tokens": NaN}']
STRANGE += ['{"output_sequence_length": {}, "request_count": {"avg": 3}}', '{"benchmarks": [{"metrics": {"output_token_count": 5}}]}']


@pytest.mark.parametrize("text", ["{}", "[]", "nonsense", '{"total_output_tokens": 0}', '{"total_num_tokens": 5}', *STRANGE])
def test_a_result_without_output_tokens_is_refused(text, tmp_path):
    path = tmp_path / "result.json"
    path.write_text(text)
    with pytest.raises(UserError, match="tokens"):
        live.tokens_of(path)


def test_a_result_of_an_earlier_run_is_refused(tmp_path):
    path = tmp_path / "result.json"
    path.write_text('{"total_output_tokens": 5}')
    with pytest.raises(UserError, match="older than the command"):
        live.tokens_of(path, time.time() + 60)
    with pytest.raises(UserError, match="No such file"):
        live.tokens_of(tmp_path / "none")


def fake_meter(tmp_path, monkeypatch, cards=2):
    monkeypatch.setenv("EAI_CACHE", str(tmp_path / "cache"))
    clock = VirtualClock(1000.0)
    load = known_power.constant(1002.0, 4.0, 300.0, 80.0)
    fakes = [FakeCard(load, {"power_instant_w": SensorSpec(0.1, 0.1)}, CounterSpec(), uuid=f"GPU-{i}") for i in range(cards)]
    return NvmlMeter(FakeNvml(fakes, clock), clock=clock, environ={})


def test_what_is_watched_is_a_log_that_trace_reads(tmp_path, monkeypatch):
    path, shown = tmp_path / "watched.csv", []
    with fake_meter(tmp_path, monkeypatch) as meter:
        gauges = live.watch(meter, 0.1, 10.0, path, lambda now: shown.append([g.power_w for g in now]))
    truth_j = 4 * 300 + 6 * 80
    assert [g.energy_j for g in gauges] == pytest.approx([truth_j, truth_j], rel=0.02) and len(shown) == 101
    answer = summarize_trace(read_log(path))
    assert [g["index"] for g in answer["gpus"]] == ["GPU-0", "GPU-1"] and answer["gpus"][0]["name"].startswith("A100")
    assert [g["energy_j"] for g in answer["gpus"]] == pytest.approx([g.energy_j for g in gauges], rel=1e-3)
    assert "300.0" in str(live.table_of(gauges, 10.0).columns[3]._cells) and gauges[0].to_dict()["basis"] == "measured"
    with pytest.raises(UserError, match="exists"), fake_meter(tmp_path, monkeypatch) as meter:
        live.watch(meter, 0.1, 1.0, path)
    with pytest.raises(UserError, match="--interval"), fake_meter(tmp_path, monkeypatch) as meter:
        live.watch(meter, 0.001)
    with pytest.raises(UserError, match="--duration nan"), fake_meter(tmp_path, monkeypatch) as meter:
        live.watch(meter, 1.0, float("nan"))


def test_a_watched_counter_is_read_back_as_the_means_that_it_is(tmp_path, monkeypatch):
    """100 W for five seconds, then 300 W: 2,000 J. Read as instants, the first second were missing and the edge a ramp: 1,800 J."""
    domain, clock = tmp_path / "cap" / "intel-rapl:0", VirtualClock(1000.0)
    domain.mkdir(parents=True)
    for name, text in (("name", "package-0"), ("max_energy_range_uj", "262143328850"), ("energy_uj", "1")):
        (domain / name).write_text(text)
    monkeypatch.setattr(cpu.Domain, "read_j", lambda self: 100 * (t := clock.now_s() - 1000) + 200 * max(t - 5, 0))
    with cpu.RaplMeter(tmp_path / "cap", clock) as meter:
        (gauge,) = live.watch(meter, 1.0, 10.0, tmp_path / "watched.csv")
    assert gauge.energy_j == pytest.approx(2000.0)
    log = read_log(tmp_path / "watched.csv")
    assert log.gpus[0].held and log.gpus[0].boundary == "cpu_package"
    assert summarize_trace(log)["energy_j"].value == pytest.approx(2000.0)


def test_a_counter_that_wraps_adds_nothing_and_a_silent_card_is_unknown():
    gauge = live.Gauge("cpu", "", "cpu_package")
    for t_s, counter_j in ((0.0, 100.0), (1.0, 150.0), (2.0, 10.0), (3.0, 70.0)):
        gauge.take(t_s, counter_j=counter_j)
    assert gauge.energy_j == pytest.approx(110.0) and gauge.power_w == pytest.approx(60.0)
    gauge.take(4.0)
    assert gauge.power_w is None


def test_watch_on_this_machine_ends_by_itself():
    done = cli("watch", "--interval", "0.1", "--duration", "0.3", "--json")
    devices = json.loads(done.stdout)["devices"]
    assert done.returncode == 0 and devices and all(d["energy_j"] >= 0 for d in devices)
