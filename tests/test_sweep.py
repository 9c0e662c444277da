"""The plan of a sweep, and what is refused before it starts."""

import json
import os
import shutil
import time
from collections import namedtuple
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eai import jobs, runs, settings, tables
from eai import jobs as preflight
from eai.cluster import engine
from eai.cluster.engine import Options
from eai.errors import UserError
from eai.jobs import Failure, plan, state_dir

Usage = namedtuple("Usage", "total used free")
GRID = {
    "gpus": ["simulated_h100_sxm", "simulated_a100_pcie_40gb"],
    "models": ["Qwen/Qwen2.5-7B-Instruct", "mistralai/Mistral-7B-Instruct-v0.2"],
    "quantizations": ["fp16", "nf4"],
    "batch_sizes": [1, 8],
    "blocks": 2,
}


def grid(**changes) -> settings.Sweep:
    return settings.sweep(**GRID | changes)


def put(folder: Path, sweep: settings.Sweep, gpu: str, model: str, n: int, status: str = "ok") -> None:
    """A job folder with the first `n` windows of the job, each with `status`."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = [
        {
            "block": w.block,
            "configuration_id": w.configuration.configuration_id,
            "repeat": w.repeat,
            "status": status,
            "attempt": f"{i:08x}",
        }
        for i, w in enumerate(jobs.job_order(sweep, gpu, model)[:n])
    ]
    (folder / "windows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "provenance.jsonl").write_text(json.dumps({"settings": sweep.model_dump()}) + "\n")


def test_a_job_is_one_gpu_and_one_model(tmp_path):
    planned = plan(grid(), tmp_path)
    assert [(j.gpu, j.model) for j in planned] == [(g, m) for g in GRID["gpus"] for m in GRID["models"]]
    assert {(j.windows, j.loads, j.windows_done) for j in planned} == {(2 * 2 * 2, 2 * 2, 0)}
    assert len({j.id for j in planned}) == 4


@given(blocks=st.integers(1, 3), repeats=st.integers(1, 2), batches=st.lists(st.integers(1, 64), min_size=1, max_size=3, unique=True))
def test_windows_and_loads_are_those_of_the_order_of_measuring(blocks, repeats, batches):
    sweep = grid(blocks=blocks, repeats=repeats, batch_sizes=batches, input_tokens=[8, 16])
    job = plan(sweep, Path("nowhere"))[0]
    windows = jobs.job_order(sweep, job.gpu, job.model)
    assert job.windows == len(windows) == len(jobs.wanted_keys(sweep, job.gpu, job.model))
    assert job.loads == len({(w.block, w.load) for w in windows})
    assert {w.key for w in windows} == jobs.wanted_keys(sweep, job.gpu, job.model)


def test_what_is_on_disk_is_counted_and_the_fullest_card_wins(tmp_path):
    sweep = grid()
    gpu, model = GRID["gpus"][0], GRID["models"][0]
    name = f"{gpu}--{jobs.slug(model)}"
    put(tmp_path / f"{name}--aaaa0000", sweep, gpu, model, 3)
    put(tmp_path / f"{name}--bbbb0000", sweep, gpu, model, 5)
    job = plan(sweep, tmp_path)[0]
    assert (job.windows_done, job.windows_left, job.folder.name) == (5, 3, f"{name}--bbbb0000")
    assert jobs.marks(tmp_path, gpu, model) == ["aaaa0000", "bbbb0000"]
    put(tmp_path / f"{name}--bbbb0000", sweep, gpu, model, 8)
    assert plan(sweep, tmp_path)[0].is_done and not plan(grid(blocks=3), tmp_path)[0].is_done


@pytest.mark.parametrize(("status", "done"), [("oom", 4), ("unsupported", 4), ("failed", 0), ("lost", 0), ("timeout", 0)])
def test_failures_that_may_be_gone_tomorrow_are_tried_again(tmp_path, status, done, monkeypatch):
    gpu, model = GRID["gpus"][0], GRID["models"][0]
    put(tmp_path / f"{gpu}--{jobs.slug(model)}--aaaa0000", grid(), gpu, model, 4, status)
    assert plan(grid(), tmp_path)[0].windows_done == done
    monkeypatch.setenv(jobs.NOT_AGAIN, "00000000,00000001")
    assert plan(grid(), tmp_path)[0].windows_done == max(done, 2), "but not within the run in which they failed"


def test_windows_measured_in_another_way_do_not_count(tmp_path):
    gpu, model = GRID["gpus"][0], GRID["models"][0]
    put(tmp_path / f"{gpu}--{jobs.slug(model)}--aaaa0000", grid(window_s=3), gpu, model, 8)
    assert plan(grid(), tmp_path)[0].windows_done == 0


@pytest.mark.parametrize(
    ("table", "row", "why"),
    [
        ("windows", {"block": 1}, "no 'configuration_id'"),
        ("provenance", {}, "no 'settings'"),
        ("provenance", {"settings": None}, "NoneType"),
    ],
)
def test_a_damaged_row_of_an_earlier_run_is_one_line(tmp_path, table, row, why):
    gpu, model = GRID["gpus"][0], GRID["models"][0]
    folder = tmp_path / f"{gpu}--{jobs.slug(model)}--aaaa0000"
    put(folder, grid(), gpu, model, 8)
    with open(folder / f"{table}.jsonl", "a") as file:
        file.write(json.dumps(row) + "\n")
    with pytest.raises(UserError, match=f"aaaa0000 holds a damaged row .*{why}"):
        plan(grid(), tmp_path)


def test_two_models_with_one_folder_name_are_refused():
    with pytest.raises(UserError, match="would share a folder"):
        plan(grid(models=["org/a-b", "org-a/b"]), Path("nowhere"))


def test_ten_thousand_jobs_are_planned_in_seconds(tmp_path):
    sweep = grid(gpus=[f"simulated_{i}" for i in range(100)], models=[f"org/model-{i}" for i in range(100)])
    began_s = time.monotonic()
    assert len(plan(sweep, tmp_path, sweep.gpus)) == 10_000
    assert time.monotonic() - began_s < 5


def refused(match: str, sweep=None, out=None, options=None):
    with pytest.raises(UserError, match=match) as caught:
        runs.describe(sweep or grid(), out, options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"modells": ["x"]}, "did you mean 'models'"),
        ({"models": []}, "models = "),
        ({"gpus": []}, "gpus = "),
        ({"quantizations": ["int8"]}, "use int8_default or int8_pure"),
        ({"cache": "static", "kv_cache": False}, "cache static needs kv_cache true"),
        ({"batch_sizes": [1, 1]}, "twice"),
    ],
)
def test_settings_are_checked_first(changes, match):
    with pytest.raises(UserError, match=match):
        grid(**changes)


def test_a_gpu_that_is_not_here(scratch):
    with pytest.raises(UserError, match="gpu 'h100_sxm' was asked for but here is"):
        runs.run(grid(gpus=["h100_sxm"]))
    refused("unknown gpu 'rtx9999'", grid(gpus=["rtx9999"]))
    refused("name one kind of card twice", grid(gpus=["cpu", "auto"], models=["embedded/SmolLM2-135M-Instruct"]))


def test_a_model_that_does_not_exist(scratch):
    refused("/nowhere is not a folder", grid(gpus=["cpu"], models=["/nowhere"]))
    refused("holds no .safetensors", grid(gpus=["cpu"], models=[str(scratch)]))
    refused("not in the local cache, and the hub is switched off", grid(gpus=["cpu"], models=["no-one/has-this-model"]))
    refused("hub id such as org/name", grid(gpus=["cpu"], models=["not a name"]))
    refused("shapes of no-one/has-this-model are not known", grid(models=["no-one/has-this-model"]))


def test_a_model_whose_weights_are_random_needs_its_shapes_alone(scratch):
    preflight.require_model("Qwen/Qwen2.5-7B-Instruct", "random")
    with pytest.raises(UserError, match="not in the local cache"):
        preflight.require_model("no-one/has-this-model", "random")


@pytest.mark.parametrize(
    ("options", "changes", "match"),
    [
        (Options(jobs=0), {}, "--jobs 0"),
        (Options(timeout_s=0), {}, "--timeout 0"),
        (Options(exclusive=True), {}, "--exclusive without Slurm"),
        (Options(profile="pbs"), {}, "no profile 'pbs'"),
        (None, {"gpus": ["cpu"], "meter": "nvml"}, "meter nvml with gpu cpu"),
        (None, {"tasks": ["generate", "arithmetic"]}, "task arithmetic on simulated_h100_sxm, which loads no model"),
    ],
)
def test_settings_that_contradict_each_other(scratch, options, changes, match):
    refused(match, grid(**changes), options=options)


def test_a_folder_that_cannot_be_written(scratch):
    (scratch / "file").write_text("")
    refused("is not a folder", out=scratch / "file" / "results")


def test_a_read_only_folder(scratch, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    refused("is read-only", out=scratch / "results")


def test_a_read_only_file_system(scratch, monkeypatch):
    flags = namedtuple("Flags", "f_flag")(os.ST_RDONLY)
    monkeypatch.setattr(os, "statvfs", lambda path: flags)
    refused("read-only file system", out=scratch / "results")


def test_a_place_that_is_no_disk(scratch):
    """Where the kernel shows itself as files: no blocks, and nothing can be made there."""
    refused("cannot write to /proc/foo: /proc is no place for files", out=Path("/proc/foo"))


def test_a_folder_of_somebodys_other_files(scratch):
    out = scratch / "out"
    out.mkdir()
    runs.describe(grid(), out)
    (out / "sweep.yaml").write_text("blocks: 2")
    runs.describe(grid(), out)
    (out / "thesis.tex").write_text("x")
    refused(r"holds other files \(thesis.tex\)", out=out)
    put(out / f"{GRID['gpus'][0]}--{jobs.slug(GRID['models'][0])}--aaaa0000", grid(), GRID["gpus"][0], GRID["models"][0], 1)
    runs.describe(grid(), out)


def test_the_table_shows_the_perplexity_of_texts(scratch):
    """A text has no score; its perplexity stands beside the scores of the other tasks."""
    columns = [
        "gpu",
        "model",
        "quantization",
        "task",
        "batch_size",
        "input_tokens",
        "output_tokens",
        "options",
        "gate",
        "n_blocks",
        "basis",
    ]
    names = ["energy_j_per_token", "energy_j_per_request", "throughput_tok_s", "ratio_to_baseline"]
    frame = pd.DataFrame(
        [["cpu", "m", "fp32", task, 1, 0, 0, "{}", "ok", 3, "measured"] for task in ("texts", "arithmetic")], columns=columns
    )
    frame = frame.assign(**dict.fromkeys(names, 1.0), score=[None, 0.25])
    scored, texts = scratch / "scored", scratch / "texts"
    for folder, more in (
        (scored, {}),
        (texts, {"word_perplexity": [21.5, None], "word_perplexity_low": [20.0, None], "word_perplexity_high": [23.0, None]}),
    ):
        folder.mkdir()
        frame.assign(**more).to_csv(folder / "summary.csv", index=False)
    perplexities, scores = runs.human_table(str(texts)).split("arithmetic: ")
    assert "word perplexity" in perplexities and "21.5 [20.0 to 23.0]" in perplexities and "score" not in perplexities
    assert "0.25" in scores and "21.5" not in scores
    assert "perplexity" not in runs.human_table(str(scored))


@pytest.mark.parametrize(("experiment", "factor"), [("serving-cpu", "engine"), ("offline-tasks-cpu", "tokens out"), ("sample", "batch")])
@pytest.mark.parametrize("columns", [80, 200])
def test_no_row_of_the_table_can_be_taken_for_another(experiment, factor, columns, monkeypatch):
    """Recorded experiments that vary the server, the length or the batch: the table says which row is which, and fits."""
    monkeypatch.setenv("COLUMNS", str(columns))
    text = runs.human_table(experiment)
    assert factor in text and max(map(len, text.splitlines())) <= columns
    if columns == 200:
        for table in text.split("intervals\n\n")[1:]:
            head, _, *rows = [line for line in table.splitlines() if "  " in line or "──" in line]
            names = [row[: head.index("J/")] for row in rows if " " in row.strip()]
            assert len(names) > 2 and len(set(names)) == len(names)


def test_a_busy_machine_is_named():
    """The recorded tasks ran beside other work: 186 of 210 windows had their thread for less than nine tenths of the time."""
    windows = tables.read_windows("offline-tasks-cpu")
    waited = (windows["cpu_threads_busy"] < 0.9).sum()
    text = runs.human_summary({"experiment": "offline-tasks-cpu", "rows": 42, "figures": "f"})
    assert f"busy machine: in {waited} of {len(windows)} windows" in text and "rejected: 22 of 42 rows" in text
    assert "busy machine" not in runs.human_summary({"experiment": "sample", "rows": 20, "figures": "f"})


def test_a_full_disk(scratch, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: Usage(10**12, 10**12 - 10**6, 10**6))
    refused("1 MB are free at .*; expected about 61 MB", out=scratch / "results")


def test_a_folder_of_another_sweep(scratch):
    out, other = scratch / "out", "Qwen/Qwen2-7B"
    put(out / f"cpu--{jobs.slug(other)}--aaaa0000", grid(), "cpu", other, 1)
    refused(r"holds another sweep \(cpu--qwen-qwen2-7b--aaaa0000\)", out=out)


def test_a_folder_measured_in_another_way(scratch):
    gpu, model = GRID["gpus"][0], GRID["models"][0]
    put(scratch / "out" / f"{gpu}--{jobs.slug(model)}--aaaa0000", grid(window_s=3), gpu, model, 8)
    refused("was measured with another window_s", out=scratch / "out")


def test_a_folder_in_which_another_coordinator_works(tmp_path):
    with (
        engine.coordinate(tmp_path),
        pytest.raises(UserError, match=rf"another `eai run` \(process {os.getpid()}\)"),
        engine.coordinate(tmp_path),
    ):
        pass


def test_what_a_dead_coordinator_left_behind_holds_nobody_up(tmp_path):
    state = state_dir(tmp_path)
    (state / ".snakemake" / "locks").mkdir(parents=True)
    (state / ".snakemake" / "locks" / "0.input.lock").write_text("x")
    (state / "coordinator.lock").write_text("1")
    with engine.coordinate(tmp_path) as held:
        assert held == state


def test_an_engine_that_is_not_installed(scratch, monkeypatch):
    monkeypatch.setattr(engine.importlib.util, "find_spec", lambda name: None)
    refused(r"snakemake is not installed; .*\[cluster\]")


def test_a_cluster_is_told_its_cards_by_name_and_has_to_have_them(scratch, monkeypatch):
    monkeypatch.setattr(engine, "gres_types", lambda: ["a100"])
    refused(r"gpus \[auto\] with Slurm", grid(gpus=["auto"]), options=Options("slurm"))
    refused("gpu 'h100_sxm' is not among the cluster's types", grid(gpus=["h100_sxm"]), options=Options("slurm"))
    monkeypatch.undo()


def test_a_machine_without_slurm(scratch, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    refused("sinfo is not installed", options=Options("slurm"))
    assert settings.sweep().gpus == ["auto"]


def test_a_failed_job_is_named_whatever_becomes_of_the_analysis(scratch, monkeypatch):
    """Nothing was measured, so the analysis has nothing either: both are named, and neither hides the other."""
    failure = Failure("one", "its card was lost", "one/measure.ipynb")
    monkeypatch.setattr(engine, "run", lambda *arguments: [failure])
    result = runs.run(grid(), scratch / "out")
    assert (result["rows"], result["status_counts"]) == (0, {})
    assert [f["job"] for f in result["failed"]] == ["one", "analysis"] and "no windows" in result["failed"][1]["error"]
    text = runs.human_summary(result)
    assert "failed: one: its card was lost" in text and "read on in one/measure.ipynb" in text
    monkeypatch.setattr(engine, "run", lambda *arguments: [])
    with pytest.raises(UserError, match="no windows"):
        runs.run(grid(), scratch / "out")
