"""The engine on simulated cards: jobs that fail do not stop the rest, and a killed sweep is finished by running it again."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from eai import cli, jobs, measure, paths, settings, tables
from eai.cluster import engine, single
from eai.cluster.engine import Options
from eai.jobs import Failure, plan, state_dir
from eai.store import write_json

QWEN, MISTRAL = "Qwen/Qwen2.5-7B-Instruct", "mistralai/Mistral-7B-Instruct-v0.2"
GPU = "simulated_h100_sxm"
KEY = ["job", "block", "configuration_id", "repeat", "device_id", "boundary", "method"]
DRIVER = """
import json, sys
from pathlib import Path
from eai import settings
from eai.cluster import engine
from eai.jobs import Failure, plan, state_dir
sweep, out = settings.sweep(**json.loads(sys.argv[1])), Path(sys.argv[2])
engine.run(sweep, [j for j in plan(sweep, out) if not j.is_done], out, out / "figures", engine.Options())
"""


def sweep(**changes) -> settings.Sweep:
    return settings.sweep(**{"gpus": [GPU], "models": [QWEN], "quantizations": ["fp16"], "batch_sizes": [1], "blocks": 2} | changes)


def run(asked: settings.Sweep, out: Path, options: Options | None = None, watch=lambda: None) -> list[Failure]:
    left = [j for j in plan(asked, out) if not j.is_done]
    return engine.run(asked, left, out, out / "figures", options or Options(), watch)


@pytest.fixture
def locks(tmp_path, monkeypatch):
    monkeypatch.setenv("EAI_LOCKS", str(tmp_path / "locks"))


def test_a_job_that_fails_is_named_and_the_others_are_measured(tmp_path, locks):
    out, asked = tmp_path / "out of space", sweep(models=[QWEN, MISTRAL])
    name = f"{GPU}--{jobs.slug(QWEN)}--51002d00"
    out.mkdir()
    (out / name).write_text("a file where the job's folder should be")
    looks = []
    (failure,) = run(asked, out, watch=lambda: looks.append(1))
    assert failure.job == f"{GPU}--{jobs.slug(QWEN)}" and "cannot write to" in failure.error
    traceback = json.loads(Path(failure.notebook).read_text())
    assert any(output.get("ename") == "UserError" for cell in traceback["cells"] for output in cell.get("outputs", []))
    assert looks, "the watcher was never called"
    windows = tables.read_windows(out)
    assert len(windows) == 2 and set(windows["model"]) == {MISTRAL}
    assert [j.is_done for j in plan(asked, out)] == [False, True]


def processes_in(out: Path) -> list[psutil.Process]:
    """Every process whose command line names the folder, and everything below them."""
    named = [p for p in psutil.process_iter(["cmdline"]) if p.pid != os.getpid() and any(str(out) in w for w in p.info["cmdline"] or ())]
    return list({p.pid: p for each in named for p in (each, *each.children(recursive=True))}.values())


def test_a_killed_coordinator_leaves_nobody_and_the_next_run_finishes(tmp_path, locks, monkeypatch):
    quiet, out = tmp_path / "quiet", tmp_path / "killed"
    measure.run(sweep(experiment=str(quiet)), lambda line: None)
    environment = os.environ | {"EAI_SIMULATED_PACE": "0.2", "PYTHONPATH": str(paths.ROOT)}
    content = json.dumps(sweep().model_dump(exclude={"experiment"}))
    coordinator = subprocess.Popen([sys.executable, "-c", DRIVER, content, str(out)], env=environment)
    end_s = time.monotonic() + 60
    while not (list(out.glob("*/windows.jsonl")) and tables.read_jsonl(next(out.glob("*/windows.jsonl")))):
        assert time.monotonic() < end_s and coordinator.poll() is None
        time.sleep(0.1)
    below = [p for p in processes_in(out) if p.pid != coordinator.pid]
    assert len(below) >= 3, "scheduler, job and kernel"
    scheduler = next(p for p in below if "snakemake" in p.cmdline())
    os.kill(coordinator.pid, signal.SIGKILL)
    coordinator.wait()
    died_s = time.monotonic() + 5
    while single.is_alive(scheduler):
        assert time.monotonic() < died_s, "it would start the next job"
    while any(map(single.is_alive, below)):
        assert time.monotonic() < end_s, "an orphan is left"
        time.sleep(0.1)
    assert len(tables.read_windows(out)) == 1
    assert run(sweep(), out) == []
    lines = [row for path in out.glob("*/windows.jsonl") for row in tables.read_jsonl(path)]
    assert len(lines) == 2, "nothing is measured twice"
    energies = [tables.read_energies(folder).set_index(KEY)["energy_j"].sort_index() for folder in (quiet, out)]
    assert energies[0].equals(energies[1])


def test_the_command_of_the_scheduler_says_how_many_run_at_once(tmp_path):
    one, two = engine.command(tmp_path, Options()), engine.command(tmp_path, Options(jobs=2))
    assert "--resources" not in one and "card=1" in (engine.WORKFLOW / "profiles" / "local" / "config.yaml").read_text()
    assert two[-4:] == ["--cores", "2", "--resources", "card=2"]
    assert engine.command(tmp_path, Options("slurm", jobs=2))[-2:] == ["--jobs", "2"]


def test_a_job_whose_mark_is_lost_at_its_end_has_not_failed(tmp_path, monkeypatch, locks):
    """Slurm calls a job failed whose node does not answer in time, and Snakemake then removes what it wrote: the windows decide."""
    out = tmp_path / "out"

    def schedule(state, options):
        job = f"{sys.executable} -m eai.cluster.single {state}/plan.json {GPU}--{jobs.slug(QWEN)}"
        return ["bash", "-c", f"EAI_COORDINATOR=$PPID {job} && rm -r {state}/done; exit 1"]

    monkeypatch.setenv("PYTHONPATH", str(paths.ROOT))
    monkeypatch.setattr(engine, "command", schedule)
    assert run(sweep(), out) == [] and len(tables.read_windows(out)) == 2
    monkeypatch.setattr(engine, "command", lambda state, options: ["false"])
    assert [failure.error for failure in run(sweep(blocks=3), out)] == ["was not started or was killed"]


def test_a_killed_scheduler_is_an_error_of_its_own(tmp_path, monkeypatch, locks):
    monkeypatch.setattr(engine, "command", lambda state, options: ["bash", "-c", "kill -9 $$"])
    with pytest.raises(engine.EngineFailed, match="killed by signal 9"):
        run(sweep(), tmp_path / "out")


def test_the_scheduler_of_a_dead_coordinator_takes_no_mark_away(tmp_path, locks):
    """Snakemake removes the outputs of a job that fails, and the one that a dead coordinator left on a node may see that late."""
    asked, out, waiting, release = sweep(), tmp_path / "out", tmp_path / "waiting", tmp_path / "release"
    state, planned = state_dir(out), plan(asked, out)
    path = engine.write_plan(state, asked, planned, out, out / "figures", Options())
    held = tmp_path / "held"
    held.write_text(f"#!/bin/bash\ntouch {waiting}\nwhile [ ! -e {release} ]; do sleep 0.1; done\nexit 3\n")
    held.chmod(0o755)
    write_json(path, json.loads(path.read_text()) | {"python": str(held)})
    orphan = subprocess.Popen(engine.command(state, Options()), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        end_s = time.monotonic() + 60
        while not waiting.exists():
            assert time.monotonic() < end_s and orphan.poll() is None
            time.sleep(0.1)
        assert run(asked, out) == []
    finally:
        release.touch()
        assert orphan.wait() == 1
    assert engine.Progress(planned, out, state).table().caption.startswith("1 of 1 jobs done"), "its mark stands"


def test_an_interrupted_coordinator_ends_the_scheduler_and_what_is_below(tmp_path, monkeypatch, locks):
    monkeypatch.setattr(
        engine, "command", lambda state, options: ["bash", "-c", f"trap '' INT; echo {tmp_path} > /dev/null; sleep 60; true"]
    )
    monkeypatch.setattr(engine, "GRACE_S", 0.2)

    def interrupt():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(sweep(), tmp_path / "out", watch=interrupt)
    assert not processes_in(tmp_path)


def test_what_is_done_is_not_in_the_plan_and_old_marks_are_gone(tmp_path):
    asked = sweep(models=[QWEN, MISTRAL])
    state = state_dir(tmp_path)
    job = plan(asked, tmp_path)[1]
    for kind in ("done/run", "failed"):
        write_json(state / kind / f"{job.id}.json", {})
    path = engine.write_plan(state, asked, [job], tmp_path, tmp_path / "figures", Options(timeout_s=90, jobs=2))
    content = json.loads(path.read_text())
    assert list(content["jobs"]) == [job.id] and content["timeout_s"] == 90
    assert list(state.rglob("*.json")) == [path]
    assert single.Single(path, job.id).sweep == asked.model_copy(update={"models": [MISTRAL], "experiment": str(tmp_path)})


def test_a_profile_of_ones_own(tmp_path):
    (tmp_path / "config.yaml").write_text("executor: slurm\n")
    assert Options(str(tmp_path)).is_slurm and not Options().is_slurm and Options("slurm").is_slurm


def test_an_interrupt_is_one_line_that_says_what_is_kept(monkeypatch, capsys):
    def interrupted(standalone_mode):
        return cli.INTERRUPTED

    monkeypatch.setattr(cli, "app", interrupted)
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert caught.value.code == 130
    assert capsys.readouterr().err == "eai: interrupted; what was measured is kept, run again to go on\n"
