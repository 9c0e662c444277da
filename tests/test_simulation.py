"""The simulated card: known energy through the real meter, nothing that passes as measured, and windows that depend on their key alone."""

import os
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eai import catalog, footprint, jobs, machine, measure, power, settings, tables
from eai.analyze import summary
from eai.claims import evidence
from eai.errors import UserError
from eai.measure import work
from eai.power import simulated
from eai.power.derive import replay
from eai.power.simulated import CounterSpec, SensorSpec, Timeline
from eai.predict import sources as rows

GPU = "simulated_h200_sxm"
CARDS = ("v100_sxm_32gb", "t4", "a100_sxm_80gb", "rtx4090", "l40s", "h100_sxm", "h200_sxm", "b200_sxm")


@pytest.fixture
def sweep(scratch, monkeypatch):
    for name in ("EAI_SIMULATED_GPUS", "EAI_SIMULATED_PACE", "CUDA_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("EAI_LOCKS", str(scratch / "locks"))

    def make(**changes):
        fixed = {
            "experiment": "simulated",
            "gpus": [GPU],
            "models": ["mistralai/Mistral-7B-Instruct-v0.2"],
            "quantizations": ["bf16", "nf4_dq"],
        }
        shape = {"batch_sizes": [1, 16], "input_tokens": [128], "output_tokens": [32], "blocks": 2}
        return settings.sweep(**(fixed | shape | changes))

    return make


def run(sweep):
    folder = measure.run(sweep, lambda line: None)
    return tables.read_windows(folder), tables.read_energies(folder), folder


def by_key(windows, energies):
    """Every energy, uncertainty, duration and status of each window, by its key."""
    joined = energies.drop(columns=["job", "block", "configuration_id", "repeat"]).merge(windows, on="attempt", suffixes=("", "_window"))
    names = ["energy_j", "net_energy_j", "u_aliasing_j", "u_idle_j", "duration_s", "calls", "ttft_s", "warmup_s", "status_window"]
    return joined.set_index(["block", "configuration_id", "repeat", "method"])[names].sort_index()


@given(
    st.lists(st.tuples(st.floats(0, 5), st.floats(0.01, 10), st.floats(0, 900)), min_size=1, max_size=12),
    st.floats(-5, 100),
    st.floats(0, 60),
)
def test_a_timeline_is_the_sum_of_its_pieces(parts, start_s, length_s):
    """Against a sum over every piece's overlap with the interval, computed apart."""
    line, now_s, drawn = Timeline(10.0, 80.0), 10.0, []
    for gap_s, duration_s, power_w in parts:
        begin_s = now_s + gap_s
        line.add(begin_s, duration_s, power_w)
        now_s = begin_s + duration_s
        drawn.append((begin_s, now_s, power_w))
    stop_s = start_s + length_s
    overlaps = [(max(min(b, stop_s) - max(a, start_s), 0.0), w) for a, b, w in drawn]
    expected = sum(s * w for s, w in overlaps) + 80.0 * (length_s - sum(s for s, _ in overlaps))
    found = float(line.cumulative_j(stop_s) - line.cumulative_j(start_s))
    assert found == pytest.approx(expected, abs=1e-6)


def test_a_timeline_goes_forward():
    line = Timeline(0.0, 50.0)
    line.add(1.0, 2.0, 300.0)
    with pytest.raises(ValueError, match="does not follow"):
        line.add(2.5, 1.0, 300.0)


@pytest.mark.parametrize("slug", CARDS)
def test_the_real_meter_finds_the_known_energy(slug):
    """3 s at 80 % of the board's limit and 7 s at half: what is found is that energy, by the card's gain and offset."""
    meter, why = power.best_meter(f"simulated_{slug}")
    limit_w = catalog.gpu(slug).tdp_w
    high_w, low_w = 0.8 * limit_w, 0.5 * limit_w
    with meter:
        baseline = meter.idle(5.0)
        with power.window(meter, baseline) as window:
            meter.clock.work(3.0, high_w)
            meter.clock.work(7.0, low_w)
    true_j, counter = 3 * high_w + 7 * low_w, meter.cards[0].handle.counter
    found = {e.method: e for e in window.energies}
    assert window.status == "ok" and window.basis == "simulated" and "simulated" in why
    for method in ("counter", "power"):
        assert (found[method].energy_j - counter.offset_w * 10) / counter.gain == pytest.approx(true_j, rel=0.01), method
    idle_w = 0.17 * limit_w
    assert (found["counter"].energy_j - found["counter"].net_energy_j) / counter.gain == pytest.approx(
        (idle_w + counter.offset_w / counter.gain) * 10, rel=0.02
    )
    absolute = window.gpu_energy_j
    assert absolute.low < true_j < absolute.high


def test_a_load_beyond_the_limit_is_capped_by_it():
    meter, _ = power.best_meter("simulated_t4")
    with meter, power.window(meter) as window:
        meter.clock.work(10.0, 1000.0)
    assert window.energies[0].energy_j / 10 == pytest.approx(70.0 * meter.cards[0].handle.counter.gain, abs=3 * 8.3)


def test_the_whole_protocol_runs_and_every_row_says_simulated(sweep):
    windows, energies, folder = run(sweep())
    plan = jobs.job_order(sweep(), GPU, sweep().models[0])
    assert list(windows[["block", "configuration_id", "repeat"]].itertuples(index=False, name=None)) == [w.key for w in plan]
    assert set(windows["status"]) == {"ok"} and set(windows["basis"]) == set(energies["basis"]) == {"simulated"}
    assert set(energies["method"]) == {"counter", "power"} and set(windows["meter"]) == {"simulated"}
    assert (windows["tokens_out"] == windows["calls"] * windows["batch_size"] * 32).all()
    line = tables.read_provenance(folder)[-1]
    assert line["limitations"][0].startswith("simulated") and "(simulated)" in line["meter"]["cards"][0]["name"]
    idle = tables.read_idle(folder)
    assert idle.groupby("kind")["power_w"].mean()["bare"] < 0.7 * idle.groupby("kind")["power_w"].mean()["context"]
    count, mismatches = replay(windows, energies, tables.read_samples(folder))
    assert count == len(windows) and mismatches == []


def test_times_lie_above_the_roofline_and_powers_between_idle_and_the_limit(sweep):
    windows, _, _ = run(sweep(quantizations=["fp32", "bf16", "int8_default", "int8_pure", "nf4_dq"], batch_sizes=[1, 64], blocks=1))
    counter = simulated.SimulatedMeter(GPU).cards[0].handle.counter
    for row in windows.to_dict("records"):
        bound = footprint.footprint(row["model"], row["quantization"], row["batch_size"], 128, 32, "h200_sxm")
        assert row["step_time_s"] > bound.step_s and row["ttft_s"] > bound.prefill_s
        true_w = (row["power_mean_w"] - counter.offset_w) / counter.gain
        assert 0.17 * 700 < true_w <= 700


def test_a_window_depends_on_its_key_alone(sweep):
    """Half of the blocks first, then all; other strategies left out: the energies of a window stay the same to the last bit."""
    whole = by_key(*run(sweep())[:2])
    run(sweep(experiment="halves", blocks=1))
    pd.testing.assert_frame_equal(by_key(*run(sweep(experiment="halves"))[:2]), whole)
    fewer = by_key(*run(sweep(experiment="fewer", quantizations=["nf4_dq"], batch_sizes=[16]))[:2])
    pd.testing.assert_frame_equal(fewer, whole.loc[fewer.index])
    other = by_key(*run(sweep(experiment="other", seed=1))[:2])
    assert not np.isclose(other["energy_j"], whole["energy_j"], rtol=1e-4).any()


def test_a_killed_and_resumed_sweep_gives_the_energies_of_an_undisturbed_one(sweep, scratch, monkeypatch):
    whole = by_key(*run(sweep(blocks=6))[:2])
    program = "import sys; from eai import measure, settings; sweep = settings.Sweep.model_validate_json(sys.argv[1]); "
    program += "measure.run(sweep, lambda line: print(line, flush=True)); print('torch' in sys.modules, flush=True)"
    command = [sys.executable, "-W", "ignore", "-c", program, sweep(experiment="killed", blocks=6).model_dump_json()]
    environ = os.environ | {"EAI_SIMULATED_PACE": "0.004"}
    for windows_before_the_kill in (2, 9):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environ)
        for _ in range(1 + windows_before_the_kill):
            assert process.stdout.readline()
        process.kill()
        process.wait()
        process.stdout.close()
    last = subprocess.run(command, check=True, capture_output=True, text=True, env=os.environ).stdout
    assert last.splitlines()[-1] == "False", "a simulated run needs no torch"
    windows, energies, folder = run(sweep(experiment="killed", blocks=6))
    assert sum(len(tables.read_jsonl(job / "windows.jsonl")) for job in tables.job_dirs(folder)) == len(windows) == 24
    pd.testing.assert_frame_equal(by_key(windows, energies), whole)


def test_nothing_simulated_passes_as_measured(sweep):
    windows, energies, folder = run(sweep(blocks=3, quantizations=["bf16", "fp16", "nf4_dq"]))
    table = summary.summarize(windows, energies)
    assert set(table["basis"]) == {"simulated"} and set(table["gpu"]) == {GPU}
    with pytest.raises(UserError):
        summary.summarize(windows, energies, basis="measured")
    claim = {"id": "x", "claim": "c", "kind": "change", "quantity": "energy_wh", "factor": "quantization", "level": "nf4_dq", "where": ""}
    claim |= {"reference": "fp16", "statistic": "each", "low": 0.0, "high": 0.0, "tolerance": 1.0, "unit": "%"}
    assert evidence.by_experiment(pd.Series(claim), table) is None
    assert evidence.by_experiment(pd.Series(claim), table.assign(basis="measured")) is not None, "were it measured, it would speak"
    tables.write_result(folder, "summary", table)
    assert set(rows.measured_rows(folder)["why"]) == {"not the measured energy of a GPU"}


def test_what_a_real_card_would_refuse_becomes_a_row(sweep):
    windows, _, _ = run(sweep(gpus=["simulated_v100_sxm_16gb"], quantizations=["bf16", "fp16", "fp8"], batch_sizes=[1, 512], blocks=1))
    found = windows.set_index(["quantization", "batch_size"])[["status", "reason"]]
    assert found["status"].to_dict() == {
        ("bf16", 1): "unsupported", ("bf16", 512): "unsupported", ("fp8", 1): "unsupported", ("fp8", 512): "unsupported",
        ("fp16", 1): "ok", ("fp16", 512): "oom",
    }  # fmt: skip
    assert "compute capability 8" in found["reason"]["bf16", 1] and "of the 16.4 GB usable" in found["reason"]["fp16", 512]
    windows, _, _ = run(sweep(experiment="plain", weights="random", quantizations=["int8_default"], batch_sizes=[1], blocks=1))
    assert windows["status"].tolist() == ["unsupported"] and "outliers" in windows["reason"][0]


def test_a_lost_card_is_lost_until_the_next_run_and_then_measured(sweep, monkeypatch):
    whole = by_key(*run(sweep())[:2])
    run_for, began = work.SimulatedWork.run_for, []

    def losing(work, duration_s):
        """The third window loses its card half way."""
        began.append(work)
        if len(began) == 3:
            work._clock.card.lost_at_s = work._clock.now_s() + duration_s / 2
        run_for(work, duration_s)

    with monkeypatch.context() as patch:
        patch.setattr(work.SimulatedWork, "run_for", losing)
        windows, _, _ = run(sweep(experiment="lost"))
    statuses = windows["status"].tolist()
    first = statuses.index("lost")
    assert first > 0 and set(statuses[:first]) == {"ok"} and set(statuses[first:]) == {"lost"}
    pd.testing.assert_frame_equal(by_key(*run(sweep(experiment="lost"))[:2]), whole)


def test_the_cards_of_a_machine_are_told_apart_and_chosen_as_real_ones_are(monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("EAI_SIMULATED_GPUS", "3")
    uuids = [own for own, _ in simulated.present(GPU)]
    assert len(set(uuids)) == len({own[:12] for own in uuids}) == 3 and all(own.startswith("GPU-5100") for own in uuids)
    assert simulated.present(GPU) == simulated.present(GPU) and not set(uuids) & {own for own, _ in simulated.present("simulated_t4")}
    for visible in ("2,0", f"{uuids[2]},{uuids[0]}"):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        assert [own for own, _ in simulated.present(GPU)] == [uuids[2], uuids[0]]
        assert power.best_meter(GPU)[0].devices()[0].device_id == uuids[2]


def test_two_cards_are_leased_apart(monkeypatch, tmp_path):
    monkeypatch.setenv("EAI_SIMULATED_GPUS", "2")
    monkeypatch.setenv("EAI_LOCKS", str(tmp_path))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    with machine.take(GPU) as one:
        assert power.best_meter(GPU)[0].devices()[0].device_id == one.uuid
        del os.environ["CUDA_VISIBLE_DEVICES"]
        with machine.take(GPU) as two:
            assert power.best_meter(GPU)[0].devices()[0].device_id == two.uuid != one.uuid
            del os.environ["CUDA_VISIBLE_DEVICES"]
            with pytest.raises(UserError, match="another measurement"), machine.take(GPU, wait_s=0.0):
                pass


def test_the_pace_makes_virtual_time_last(monkeypatch):
    for pace, least_s, most_s in (("0.02", 0.2, 5.0), ("0", 0.0, 0.15)):
        monkeypatch.setenv("EAI_SIMULATED_PACE", pace)
        meter, _ = power.best_meter(GPU)
        began_s = time.monotonic()
        meter.clock.sleep(10.0)
        assert least_s <= time.monotonic() - began_s <= most_s


@pytest.mark.parametrize(
    ("environ", "changes", "message"),
    [
        ({}, {"gpus": ["simulated_mi300x"]}, "cannot simulate"),
        ({}, {"gpus": ["simulated_h2000"]}, "unknown gpu 'h2000'"),
        ({}, {"models": ["nobody/Nothing-7B"]}, "shapes of nobody/Nothing-7B are not known"),
        ({}, {"meter": "estimate"}, "meter estimate for simulated_h200_sxm"),
        ({"EAI_SIMULATED_GPUS": "0"}, {}, "EAI_SIMULATED_GPUS=0"),
        ({"EAI_SIMULATED_PACE": "fast"}, {}, "EAI_SIMULATED_PACE=fast"),
        ({"CUDA_VISIBLE_DEVICES": "7"}, {}, "leaves none of 1 GPUs"),
    ],
)
def test_bad_input_is_one_line(sweep, monkeypatch, environ, changes, message):
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=message):
        run(sweep(**changes))


def test_sensors_of_the_card_are_those_of_its_architecture():
    """GH100 and GA100 see a quarter of the time, Volta updates every 20 ms (arXiv:2312.02741); phases and gains are the card's own."""
    sensors = {slug: simulated.box(f"simulated_{slug}", {}).cards[0] for slug in CARDS}
    assert {s: (c.sensors["power_instant_w"].update_s, c.sensors["power_instant_w"].averaging_s) for s, c in sensors.items()} == {
        "v100_sxm_32gb": (0.02, 0.01), "t4": (0.1, 0.1), "a100_sxm_80gb": (0.1, 0.025), "rtx4090": (0.1, 0.1), "l40s": (0.1, 0.1),
        "h100_sxm": (0.1, 0.025), "h200_sxm": (0.1, 0.025), "b200_sxm": (0.1, 0.1),
    }  # fmt: skip
    assert all(isinstance(c.sensors["power_instant_w"], SensorSpec) and isinstance(c.counter, CounterSpec) for c in sensors.values())
    assert len({c.counter.gain for c in sensors.values()}) == len(CARDS)
    assert work.pace(
        settings.Configuration(
            gpu=GPU, model="Qwen/Qwen2.5-7B-Instruct", quantization="bf16", batch_size=1, input_tokens=8, output_tokens=8
        )
    )
