"""What a person sees of a running sweep, and which notebooks are not run again."""

import json
import os

import pytest

from eai import settings
from eai.cluster.engine import Progress
from eai.jobs import Freshness, Job, plan
from eai.store import write_json

GPU = "simulated_h100_sxm"


@pytest.fixture
def two(tmp_path) -> list[Job]:
    models = ["Qwen/Qwen2.5-7B-Instruct", "mistralai/Mistral-7B-Instruct-v0.2"]
    return plan(settings.sweep(gpus=[GPU], models=models, quantizations=["nf4"], batch_sizes=[1], blocks=4), tmp_path)


def append(folder, status="ok", energy_j=2.0, newline="\n"):
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "energies.jsonl", "a") as file:
        for primary in (True, False):
            file.write(json.dumps({"energy_j": energy_j, "primary": primary}) + "\n")
    with open(folder / "windows.jsonl", "a") as file:
        file.write(json.dumps({"quantization": "nf4", "batch_size": 1, "status": status}) + newline)


def shown(seen: Progress) -> tuple[list[tuple[str, ...]], str]:
    """(rows, caption) of what is drawn."""
    table = seen.table()
    assert [c.header for c in table.columns] == ["gpu x model", "", "windows", "last"]
    return list(zip(*(c.cells for c in table.columns), strict=True)), table.caption


def test_progress_counts_windows_energy_and_jobs(two, tmp_path, monkeypatch):
    state, clock = tmp_path / ".eai", [100.0]
    monkeypatch.setattr("eai.cluster.engine.time.monotonic", lambda: clock[0])
    append(tmp_path / f"{two[0].id}--51002d00")
    seen = Progress(two, tmp_path, state)
    seen.update()
    assert shown(seen)[1] == "0 of 2 jobs done, 8 windows to go, 0 J so far", "what was on disk before is no progress"
    append(tmp_path / f"{two[0].id}--51002d00", energy_j=3.0)
    append(tmp_path / f"{two[0].id}--51002d00", status="oom", energy_j=None)
    append(tmp_path / f"{two[1].id}--51002d01", energy_j=1.5, newline="")
    clock[0] += 30
    seen.update()
    assert ", 6 windows to go, about 1:30 left," in shown(seen)[1], "two windows in 30 s, 15 s each; a torn line is none"
    (state / "logs").mkdir(parents=True)
    (state / "logs" / f"{two[0].id}.log").write_text("")
    assert shown(seen)[0][0] == (f"{GPU} (51002d00) x {two[0].model}", "running", "2/4", "nf4 batch 1: oom")
    assert shown(seen)[0][1][1] == "waiting"
    (state / "logs" / f"{two[1].id}.log").write_text("earlier\nwaiting for cpu: another measurement (process 7) runs there\n")
    fresh = Progress(two, tmp_path, state)
    assert {row[3] for row in shown(fresh)[0]} == {"", "waiting for cpu: another measurement (process 7) runs there"}
    (state / "logs" / f"{two[1].id}.log").unlink()
    write_json(state / "done" / "run" / f"{two[0].id}.json", {})
    write_json(state / "failed" / f"{two[1].id}.json", {})
    assert [row[1] for row in shown(seen)[0]] == ["failed", "done"]
    assert shown(seen)[1] == "1 of 2 jobs done, 6 windows to go, about 1:30 left, 4.5 J so far"


def test_a_torn_line_that_the_next_writer_cuts_is_no_progress(two, tmp_path):
    folder = tmp_path / f"{two[0].id}--51002d00"
    append(folder)
    tables = [folder / f"{name}.jsonl" for name in ("windows", "energies")]
    whole = [path.stat().st_size for path in tables]
    for path in tables:
        with open(path, "a") as file:
            file.write('{"a line of a kil')
    seen = Progress(two, tmp_path, tmp_path / ".eai")
    for path, size in zip(tables, whole, strict=True):
        os.truncate(path, size)
    append(folder, energy_j=3.0)
    seen.update()
    assert shown(seen)[1].endswith("7 windows to go, about 0:00 left, 3 J so far")


def test_nothing_is_drawn_where_nobody_looks(two, tmp_path, capfd):
    with Progress(two, tmp_path, tmp_path / ".eai") as progress:
        progress.draw()
    assert capfd.readouterr() == ("", "")


def test_something_is_drawn_on_a_terminal(two, tmp_path, monkeypatch, capfd):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("FORCE_COLOR", "1")
    with Progress(two, tmp_path, tmp_path / ".eai") as progress:
        progress.draw()
    said = capfd.readouterr()
    assert "0 of 2 jobs done" in said.err and said.out == ""


def test_a_notebook_is_fresh_until_something_that_goes_into_it_changes(two, tmp_path):
    experiment, result = tmp_path / "out", tmp_path / "analyze.ipynb"
    append(experiment / f"{two[0].id}--51002d00")
    step = "analyze", {"net": False}

    def run() -> None:
        fresh = Freshness(experiment, tmp_path)
        assert not fresh.is_fresh(*step)
        result.write_text("executed")
        (experiment / "summary.csv").write_text("energy_j\n2.0\n")
        fresh.remember(*step)
        assert Freshness(experiment, tmp_path).is_fresh(*step)

    def stale() -> bool:
        return not Freshness(experiment, tmp_path).is_fresh(*step)

    run()
    assert not Freshness(experiment, tmp_path).is_fresh("analyze", {"net": True})
    assert not Freshness(experiment, tmp_path).is_fresh("compare", {"net": False})
    times = result.stat()
    (experiment / "summary.csv").write_text("energy_j\n9.0\n")
    assert stale(), "a table was edited"
    run()
    result.unlink()
    assert stale(), "an executed notebook was deleted"
    run()
    result.write_text("edited!!")
    os.utime(result, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert stale(), "a file of the same size and time was edited"
    run()
    windows = experiment / f"{two[0].id}--51002d00" / "windows.jsonl"
    windows.write_text(windows.read_text().replace("ok", "no"))
    assert stale(), "a window was edited"
    run()
    append(experiment / f"{two[0].id}--51002d00")
    assert stale(), "a window was added"
