"""One job in a process of its own: kernels that die, time that runs out, and starters that are gone become rows or an end."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from eai import jobs, notebooks, schema, tables
from eai.cluster import single
from eai.cluster.single import Single
from eai.errors import UserError
from eai.store import write_json

GPU, MODEL = "simulated_h100_sxm", "Qwen/Qwen2.5-7B-Instruct"
PARAMETERS = {"quantizations": ["fp16", "nf4"], "batch_sizes": [1, 8], "blocks": 2}
NAME = f"{GPU}--{jobs.slug(MODEL)}"


@pytest.fixture
def job(tmp_path, monkeypatch):
    """A job of eight windows in four loads; its folder stands there as the measure notebook would have left it."""
    monkeypatch.setenv(jobs.NOT_AGAIN, "")
    experiment = tmp_path / "out"
    content = {
        "experiment": str(experiment),
        "figures": str(tmp_path / "figures"),
        "parameters": PARAMETERS,
        "timeout_s": None,
        "done": "done/run",
    }
    state = experiment / ".eai"
    write_json(state / "plan.json", content | {"jobs": {"one": {"gpu": GPU, "model": MODEL}}})
    folder = experiment / f"{NAME}--51002d00"
    (folder / "samples").mkdir(parents=True)
    (folder / "provenance.jsonl").write_text(json.dumps({"settings": {}, "meter": {"meter": "simulated"}, "basis": "simulated"}) + "\n")
    return Single(state / "plan.json", "one")


def measured(job: Single, n: int) -> None:
    """Let the first `n` windows be on disk, as ok."""
    with open(job.folder() / "windows.jsonl", "a") as file:
        for w in jobs.job_order(job.sweep, GPU, MODEL)[:n]:
            row = {
                "block": w.block,
                "configuration_id": w.configuration.configuration_id,
                "repeat": w.repeat,
                "status": "ok",
                "attempt": "0",
            }
            file.write(json.dumps(row) + "\n")


def rows(job: Single) -> list[dict]:
    return tables.read_jsonl(job.folder() / "windows.jsonl")


def dying(job: Single, deaths: dict[int, int]):
    """A notebook that measures two windows a load and dies `deaths[load]` times at the beginning of that load, counted over the job."""
    left = dict(deaths)

    def execute(name, parameters, folder, say):
        for i in range(4):
            plan = jobs.job_order(job.sweep, GPU, MODEL)[2 * i : 2 * i + 2]
            done = jobs.done_keys(job.folder())
            if all(w.key in done for w in plan):
                continue
            if left.get(i, 0):
                left[i] -= 1
                raise notebooks.KernelDied("the kernel died")
            with open(job.folder() / "windows.jsonl", "a") as file:
                for w in plan:
                    c = w.configuration.configuration_id
                    file.write(
                        json.dumps({"block": w.block, "configuration_id": c, "repeat": 1, "status": "ok", "attempt": f"ok{i}"}) + "\n"
                    )

    return execute


def test_a_kernel_that_dies_once_is_started_again_and_nothing_is_lost(job, monkeypatch):
    monkeypatch.setattr(notebooks, "execute", dying(job, {1: 1, 3: 1}))
    job.run()
    assert [r["status"] for r in rows(job)] == ["ok"] * 8 and job.deaths == 2


def test_a_load_on_which_the_kernel_dies_twice_becomes_rows_and_the_rest_goes_on(job, monkeypatch):
    monkeypatch.setattr(notebooks, "execute", dying(job, {1: 2}))
    job.run()
    found = rows(job)
    assert sorted(r["status"] for r in found) == ["failed"] * 2 + ["ok"] * 6
    lost = [r for r in found if r["status"] == "failed"]
    assert all("kernel died" in r["reason"] and r["basis"] == "simulated" and r["meter"] == "simulated" for r in lost)
    assert not schema.problems("windows", lost)
    second_load = jobs.job_order(job.sweep, GPU, MODEL)[2:4]
    assert {(r["block"], r["configuration_id"]) for r in lost} == {(w.block, w.configuration.configuration_id) for w in second_load}
    monkeypatch.delenv(jobs.NOT_AGAIN)
    assert len(job.missing()) == 2, "the next run tries them again"


def test_a_kernel_that_always_dies_ends_the_job(job, monkeypatch):
    monkeypatch.setattr(notebooks, "execute", dying(job, dict.fromkeys(range(4), 99)))
    with pytest.raises(notebooks.KernelDied):
        job.run()
    assert job.deaths == single.MOST_DEATHS


def test_a_job_that_never_came_to_a_window_says_so(job, monkeypatch):
    (job.folder() / "provenance.jsonl").unlink()
    monkeypatch.setattr(Single, "folder", lambda self: None)
    monkeypatch.setattr(notebooks, "execute", lambda *a: (_ for _ in ()).throw(notebooks.KernelDied("dead")))
    with pytest.raises(UserError, match="before anything was measured"):
        job.run()


def test_a_job_that_takes_too_long_is_stopped_and_its_missing_windows_are_rows(job, monkeypatch):
    measured(job, 3)
    job.timeout_s = 0.5
    children = []

    def hang(name, parameters, folder, say):
        children.append(subprocess.Popen(["sleep", "60"], start_new_session=True))
        children[0].wait()
        raise notebooks.KernelDied("the kernel died")

    monkeypatch.setattr(notebooks, "execute", hang)
    began_s = time.monotonic()
    job.run()
    assert time.monotonic() - began_s < 10 and children[0].returncode == -signal.SIGKILL
    found = rows(job)
    assert [r["status"] for r in found] == ["ok"] * 3 + ["timeout"] * 5
    assert "longer than 0.5 s" in found[-1]["reason"]
    monkeypatch.delenv(jobs.NOT_AGAIN)
    assert len(job.missing()) == 5, "the next run tries them again"


def test_an_unknown_job_is_refused(job):
    with pytest.raises(UserError, match="no job 'two'"):
        Single(job.state / "plan.json", "two")


def test_starters_reach_up_to_the_coordinator_and_no_further():
    me = os.getpid()
    child = "from eai.cluster.single import starters; import sys; print([p.pid for p in starters(int(sys.argv[1]))])"
    shell = f"{sys.executable} -c '{child}' {me}; true"
    middle = subprocess.Popen(["bash", "-c", shell], stdout=subprocess.PIPE, text=True)
    assert middle.communicate()[0].strip() == str([middle.pid, me])


def test_a_job_whose_coordinator_died_before_it_looked_is_not_begun(tmp_path):
    gone = subprocess.Popen(["true"])
    gone.wait()
    command = [sys.executable, "-m", "eai.cluster.single", str(tmp_path / "no-plan.json"), "one"]
    environ = os.environ | {single.COORDINATOR: str(gone.pid)}
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60)
    assert done.returncode == 3 and f"process {gone.pid}" in done.stdout and not done.stderr


def test_a_process_is_told_from_a_later_one_of_the_same_number(monkeypatch):
    me = psutil.Process()
    assert single.is_alive(me)
    later = psutil.Process()
    later._ident = (later.pid, later._ident[1] - 1)
    assert not single.is_alive(later)


def test_a_job_ends_with_its_starter_and_takes_its_kernel_along(tmp_path):
    """starter -> job -> kernel, the kernel in a session of its own; the starter is killed."""
    pids = tmp_path / "pids"
    job = (
        "import os, subprocess, time; from eai.cluster import single; single.end_with(single.starters(None));"
        f"k = subprocess.Popen(['sleep', '60'], start_new_session=True); open({str(pids)!r}, 'w').write(f'{{os.getpid()}} {{k.pid}}');"
        "time.sleep(60)"
    )
    starter = subprocess.Popen([sys.executable, "-c", f"import subprocess, sys; subprocess.run([sys.executable, '-c', {job!r}])"])
    end_s = time.monotonic() + 20
    while not (pids.exists() and len(pids.read_text().split()) == 2) and time.monotonic() < end_s:
        time.sleep(0.05)
    below = [psutil.Process(int(p)) for p in pids.read_text().split()]
    assert all(single.is_alive(p) for p in below)
    starter.kill()
    starter.wait()
    while any(single.is_alive(p) for p in below) and time.monotonic() < end_s:
        time.sleep(0.05)
    assert not any(single.is_alive(p) for p in below)


def test_a_document_is_written_whole(tmp_path):
    write_json(tmp_path / "a" / "b.json", {"x": 1})
    assert json.loads((tmp_path / "a" / "b.json").read_text()) == {"x": 1} and not list(Path(tmp_path).rglob("*.tmp"))
