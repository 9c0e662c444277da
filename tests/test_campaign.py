"""The campaign's program, rehearsed whole on the simulated card: counted beforehand, stopped and resumed, reported from its data."""

import argparse
import itertools
import json
import sys
import tarfile
import time

import numpy as np
import pytest

from eai import paths, tables
from eai.errors import UserError
from eai.power.derive import replay

BENCHMARKS = paths.ROOT / "benchmarks"
GPU = "simulated_h200_sxm"


@pytest.fixture(scope="module")
def campaign():
    """The program as a module; it imports its neighbours, as a script does."""
    sys.path.insert(0, str(BENCHMARKS))
    try:
        import gpu_campaign

        yield gpu_campaign
    finally:
        sys.path.remove(str(BENCHMARKS))


@pytest.fixture(autouse=True)
def machine(scratch, monkeypatch):
    for name in ("EAI_SIMULATED_GPUS", "EAI_SIMULATED_PACE", "CUDA_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("EAI_LOCKS", str(scratch / "locks"))
    monkeypatch.setenv("EAI_CACHE", str(scratch / "cache"))


def arguments(**changes) -> argparse.Namespace:
    fixed = {"gpu": GPU, "out": None, "minutes": 6.0, "total_minutes": 12.0, "stage": None, "plan": False, "report": False}
    fixed |= {"pack": None, "predict": False}
    return argparse.Namespace(**(fixed | changes))


def test_the_required_stages_fit_in_two_commands_of_six_minutes_and_no_window_is_counted_twice(campaign):
    rows = campaign.plan(list(campaign.STAGES))
    by_name = {r["stage"]: r for r in rows}
    assert by_name["main"]["sum_s"] <= 6 * 60 - campaign.RESERVE_S and by_name["main-3"]["sum_s"] <= 12 * 60 - campaign.RESERVE_S
    assert [r["sum_s"] for r in rows] == pytest.approx(list(itertools.accumulate(r["seconds"] for r in rows)), abs=len(rows))
    asked = {
        (m, b, c.configuration_id)
        for stage in campaign.STAGES
        for p in stage.sweeps
        for s in [campaign.settings.sweep(gpus=["gpu"], **p)]
        for m in s.models
        for b in range(1, s.blocks + 1)
        for c in s.configurations("gpu", m)
    }
    assert sum(r["windows"] for r in rows) == len(asked)


def test_a_campaign_cut_off_between_windows_goes_on_where_it_stopped(campaign, scratch, monkeypatch):
    """Cut twice, the first time while a load's windows are being refused for their size: nothing is lost, doubled or called a failure."""
    cells = campaign.cells(campaign.MISTRAL, ["fp16", "nf4"], [1, 4096], 3)
    stages = [campaign.Stage("main", "", (cells,)), campaign.Stage("batches", "", (campaign.BATCHES,))]
    monkeypatch.setattr(campaign, "chosen", lambda names: stages)
    cut = scratch / "cut"
    whole = campaign.run(arguments(out=scratch / "whole"))
    assert whole["done"] == ["main", "batches"] and whole["stopped_in"] is None
    stops, sizes = [], []
    for lines in (2, 9, 10**6):
        left_s = iter([1e6] * lines)
        monkeypatch.setattr(campaign.Campaign, "left_s", property(lambda self, left_s=left_s: next(left_s, 0.0)))
        stops.append(campaign.run(arguments(out=cut))["stopped_in"])
        sizes.append(len(tables.read_windows(cut)))
    windows = tables.read_windows(cut)
    assert stops == ["main", "main", None] and sizes[0] < sizes[1] < 12 < sizes[2] == 15
    assert windows["status"].value_counts().to_dict() == {"ok": 9, "oom": 6}
    assert sum(len(tables.read_jsonl(p)) for p in cut.glob("*/windows.jsonl")) == len(windows)
    key = ["block", "configuration_id", "method"]
    found, expected = (tables.read_energies(e).sort_values(key)["energy_j"].tolist() for e in (cut, scratch / "whole"))
    assert found == expected
    state = json.loads((cut / "campaign.json").read_text())
    assert len(state["commands"]) == 3 and all(s["done"] for s in state["stages"].values())


def test_a_stage_that_a_library_ends_says_so_and_the_next_one_begins(campaign, scratch, monkeypatch):
    """Nothing is lost with a killed command either: how far it is stands on disk, and in the packed file, after each stage."""
    packed, out = scratch / "r.tar.gz", scratch / "failing"

    def broken(one) -> dict:
        assert json.loads((out / "campaign.json").read_text())["stages"]["lengths"]["done"], "written as the stage ends"
        with tarfile.open(packed) as archive:
            assert {"./campaign.json"} < set(archive.getnames())
        raise ImportError("libcudart.so.13: cannot open shared object file")

    stages = [campaign.Stage("lengths", "", (campaign.LENGTHS,)), campaign.Stage("correct", "", (), broken)]
    stages.append(campaign.Stage("ratio", "", (), lambda one: {"basis": "simulated"}))
    monkeypatch.setattr(campaign, "chosen", lambda names: stages)
    found = campaign.run(arguments(out=out, pack=packed))
    assert found["done"] == ["lengths", "correct", "ratio"] and found["stopped_in"] is None
    assert found["failed"] == {"correct": "ImportError: libcudart.so.13: cannot open shared object file"}
    with tarfile.open(packed) as archive:
        kept = json.load(archive.extractfile("./campaign.json"))
    assert kept["stages"]["correct"]["failed"] == found["failed"]["correct"] and "ratio.json" in {p.name for p in out.iterdir()}
    campaign.run(arguments(out=out, report=True))
    assert "| correct | ImportError: libcudart.so.13" in (out / "README.md").read_text()


def test_what_the_cells_will_cost_is_written_before_they_are_measured(campaign, scratch, monkeypatch):
    monkeypatch.setattr(campaign.report, "PREDICTIONS", scratch)
    stages = [s for s in campaign.STAGES if s.name == "main"]
    stored = json.loads(campaign.predict(stages, "h200_sxm").read_text())
    assert len(stored["predictions"]) == 12 and all(p["energy_j_per_token"]["low"] > 0 for p in stored["predictions"])


def test_the_time_of_all_commands_together_is_limited(campaign, scratch):
    stopped = campaign.run(arguments(out=scratch / "late", total_minutes=0.0, stage=["lengths"]))
    assert stopped["stopped_in"] == "lengths" and stopped["done"] == [] and not list((scratch / "late").glob("*/windows.jsonl"))


def test_a_stage_that_is_not_over_in_time_is_not_begun(campaign, scratch, monkeypatch):
    monkeypatch.setattr(campaign, "is_simulated", lambda gpu: False)
    monkeypatch.setattr(campaign.sensor, "probe", lambda c: pytest.fail("begun"))
    one = campaign.Campaign(GPU, scratch / "late", time.monotonic() + 100.0)
    assert one.run([s for s in campaign.STAGES if s.name == "sensor"])["stopped_in"] == "sensor"


def test_the_whole_campaign_and_its_report(campaign, scratch):
    out = scratch / "campaign"
    found = campaign.run(arguments(out=out))
    assert found["stopped_in"] is None and found["done"] == [s.name for s in campaign.STAGES]
    windows, energies = tables.read_windows(out), tables.read_energies(out)
    assert set(windows["basis"]) == {"simulated"}
    assert replay(windows, energies, tables.read_samples(out))[1] == []
    counted = campaign.run(arguments(out=out, report=True))
    assert counted["windows"] == len(windows) == sum(r["windows"] for r in campaign.plan(list(campaign.STAGES)))
    text = (out / "README.md").read_text()
    assert "**Simulated: nothing was measured here.**" in text
    cell = windows[(windows["quantization"] == "int8_pure") & (windows["batch_size"] == 64) & (windows["task"] == "generate")]
    primary = energies[energies["primary"]].set_index("attempt")["energy_j"]
    per_token = primary.reindex(cell["attempt"]).to_numpy() / cell["tokens_out"].to_numpy()
    assert len(cell) == 5 and f"| int8_pure | 64 | {np.exp(np.log(per_token).mean()):.3g} [" in text
    for title in (
        "The sensor",
        "Batch size",
        "The counter at two levels",
        "Prefill and decode",
        "Predicted beforehand",
        "Statuses",
        "Again",
    ):
        assert f"## {title}" in text
    before = text
    campaign.run(arguments(out=out, report=True))
    assert (out / "README.md").read_text() == before, "the same data give the same text"


def test_the_probe_recovers_the_sensor_and_the_other_methods_are_seen_to_err(campaign, scratch):
    """The simulated card updates every 100 ms, sees 25 ms of it, ticks every 100 ms at full rate; polling costs it nothing.

    The averaging follows from the lag of 8 steps, each uniform within an update: sd 2 x 100 ms / sqrt(12 x 8) = 20 ms.
    """
    one = campaign.Campaign(GPU, scratch / "sensor", time.monotonic() + 500.0)
    one.run([s for s in campaign.STAGES if s.name in ("sensor", "beside")])
    found = json.loads((one.out / "sensor.json").read_text())
    sensor = found["sensor"]
    assert sensor["update_s"] == pytest.approx(0.100, rel=0.02) and sensor["averaging_s"] == pytest.approx(0.025, abs=0.05)
    assert sensor["tick_s"] == pytest.approx(0.100, rel=0.35) and sensor["full_rate"] is True
    assert found["polling"]["loss"] == pytest.approx(0.0, abs=0.01) and found["bare_idle_w"] < 0.7 * found["idle_w"]
    assert not list((scratch / "cache").rglob("GPU-*")), "what a simulated card seems to be is not remembered"
    medians = json.loads((one.out / "beside.json").read_text())["medians"]
    assert medians["mean_10hz_over_ours"] == pytest.approx(1.0, abs=0.05) and medians["dedup_trapezoid_over_ours"] < 0.5


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, "an --out outside data/measured"),
        ({"out": paths.MEASURED / "rehearsal"}, "nothing simulated is kept there"),
        ({"gpu": "simulated_h2000", "out": paths.ROOT}, "unknown gpu"),
        ({"stage": ["probe"]}, "no stage 'probe'"),
        ({"gpu": "cpu"}, "no NVIDIA GPU is here"),
    ],
)
def test_bad_input_is_one_line(campaign, changes, message):
    with pytest.raises(UserError, match=message):
        campaign.run(arguments(**changes))
    assert not (paths.MEASURED / "rehearsal").exists()


def test_another_card_and_an_empty_folder_are_refused(campaign, scratch):
    campaign.Campaign(GPU, scratch / "one", 0.0).run([])
    with pytest.raises(UserError, match="holds a campaign on simulated_h200_sxm"):
        campaign.run(arguments(out=scratch / "one", gpu="simulated_t4"))
    with pytest.raises(UserError, match="holds no campaign"):
        campaign.run(arguments(out=scratch / "two", report=True))
