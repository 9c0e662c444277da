"""Slurm: what a job asks for, what is taken back after a crash, and sweeps on a real cluster of two nodes where there is one."""

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from eai import paths, settings, tables
from eai.cluster import engine, single
from eai.cluster.engine import Options
from eai.errors import UserError
from eai.jobs import plan, state_dir

needs_a_cluster = pytest.mark.skipif(
    "EAI_SLURM_TEST" not in os.environ, reason="needs a Slurm of its own on this machine: run .ci/slurm as root on Debian"
)
GPU = "simulated_h100_sxm"
MODELS = ["Qwen/Qwen2.5-7B-Instruct", "mistralai/Mistral-7B-Instruct-v0.2", "01-ai/Yi-6B", "Qwen/Qwen2-1.5B-Instruct"]
DRIVER = """
import json, sys
from pathlib import Path
from eai import settings
from eai.cluster import engine
from eai.jobs import plan, state_dir
sweep, out = settings.sweep(**json.loads(sys.argv[1])), Path(sys.argv[2])
engine.run(sweep, plan(sweep, out, sweep.gpus), out, out / "figures", engine.Options(sys.argv[3]))
"""


@pytest.fixture
def commands(tmp_path, monkeypatch):
    """Slurm's commands as scripts whose answers a test writes; `calls` has what they were called with."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")

    def put(name: str, script: str) -> None:
        (folder / name).write_text(f'#!/bin/bash\necho {name} "$@" >> {tmp_path}/calls\n{script}\n')
        (folder / name).chmod(0o755)

    return put


GRES = ["gpu:a100:4(S:0-1)", "(null)", "gpu:2", "gpu:h100:8(S:0,2),shard:h100:16", "gpu:rtx4090:1(IDX:0),gpu:a100:1", "gpu"]
STATES = ["idle", "mixed~", "allocated*", "down*", "drained", "completing"]


def test_nodes_are_read_with_their_cards_and_whether_they_are_up(commands, tmp_path):
    lines = "".join(f"n{i}|{state}|{gres}\n" for i, (state, gres) in enumerate(zip(STATES, GRES, strict=True)))
    commands("sinfo", f"printf '%s' '{lines}'")
    found = engine.slurm_nodes("long")
    assert [dict(n.gpus) for n in found] == [{"a100": 4}, {}, {"": 2}, {"h100": 8}, {"rtx4090": 1, "a100": 1}, {"": 1}]
    assert [n.is_up for n in found] == [True, True, False, False, False, True]
    assert engine.gres_types() == engine.gres_types(found) == ["", "a100", "h100", "rtx4090"]
    first, second = (tmp_path / "calls").read_text().splitlines()
    assert "-p long" in first and "-p" not in second.split(), "a profile without a partition asks for all"


ONE, TWO = engine.Node("one", {"h100": 1}, True), engine.Node("two", {"h100": 2, "": 1}, True)
DOWN = engine.Node("down", {"h100": 1}, False)


@pytest.mark.parametrize(
    ("name", "gres", "exclusive", "expected"),
    [
        ("one", "gpu:h100:1", False, True),
        ("two", "gpu:h100:1", False, False),
        ("two", "gpu:h100:1", True, True),
        ("two", "gpu:1", False, True),
        ("one", "gpu:1", False, False),
        ("two", "", False, True),
        ("down", "gpu:h100:1", True, False),
        ("gone", "", True, False),
        ("", "", False, False),
    ],
)
def test_a_job_is_sent_to_a_node_only_where_that_gives_its_card_back(name, gres, exclusive, expected):
    assert engine.gives_back([ONE, TWO, DOWN], name, gres, exclusive) is expected


def test_a_begun_job_asks_for_the_node_of_its_card(commands, tmp_path, monkeypatch):
    commands("sinfo", "printf 'one|idle|gpu:h100:1\\ntwo|idle|gpu:h100:2\\n'")
    asked, state = sweep(3), state_dir(tmp_path)
    fresh, single_card, one_of_two = plan(asked, tmp_path, asked.gpus)
    begun = [dataclasses.replace(job, folder=tmp_path / f"{job.id}--51002d01") for job in (single_card, one_of_two)]
    for node, job in zip(("one", "two"), begun, strict=True):
        monkeypatch.setenv("SLURMD_NODENAME", node)
        monkeypatch.setenv("EAI_SIMULATED_GPUS", "2")
        single.claim(state, job.id, GPU)
    expected = {False: ["", "'--nodelist=one'", ""], True: ["'--exclusive'", *(f"'--exclusive' '--nodelist={n}'" for n in ("one", "two"))]}
    for exclusive, extra in expected.items():
        path = engine.write_plan(state, asked, [fresh, *begun], tmp_path, tmp_path, Options("slurm", exclusive=exclusive))
        assert [job["slurm_extra"] for job in json.loads(path.read_text())["jobs"].values()] == extra


def test_the_partition_is_the_profiles(tmp_path):
    (tmp_path / "config.yaml").write_text("executor: slurm\ndefault-resources:\n  - mem_mb=0\n  - slurm_partition=gpu-long\n")
    assert Options(str(tmp_path)).partition == "gpu-long" and Options("slurm").partition == Options().partition == ""
    (tmp_path / "config.yaml").write_text("executor: slurm\ndefault-resources:\n  mem_mb: 0\n  slurm_partition: gpu-long\n")
    assert Options(str(tmp_path)).partition == "gpu-long", "Snakemake takes a mapping too"


@pytest.mark.parametrize(
    ("gpu", "types", "expected"),
    [
        ("cpu", ["a100"], ""),
        ("a100_sxm_80gb", ["a100", "h100"], "gpu:a100:1"),
        ("rtx4090", ["rtx4090"], "gpu:rtx4090:1"),
        ("h100_sxm", ["", "a100"], "gpu:1"),
        (GPU, ["h100"], "gpu:h100:1"),
        (GPU, ["a100"], ""),
    ],
)
def test_a_job_asks_for_one_card_of_its_type(gpu, types, expected):
    assert engine.gres_of(gpu, types) == expected


def test_a_card_that_no_node_has_is_refused():
    with pytest.raises(UserError, match="gpu 'l40s' is not among the cluster's types"):
        engine.gres_of("l40s", ["l40", "a100"])


@pytest.mark.parametrize(("timeout_s", "expected"), [(None, 0), (1, 11), (60, 11), (61, 12), (3600, 70)])
def test_time_asked_for_is_the_limit_with_a_margin_or_the_partitions_own(timeout_s, expected):
    assert engine.runtime_min(timeout_s) == expected


def test_only_this_sweeps_jobs_are_taken_back_and_waited_for(commands, tmp_path):
    state = tmp_path / "out" / ".eai"
    mine = f"7|RUNNING|{state}|rule_measure_wildcards_a"
    others = [f"8|RUNNING|{state}|something else", f"9|PENDING|{state}-2|rule_measure", "10|RUNNING|/elsewhere|rule_measure_wildcards_a|b"]
    left = tmp_path / "left"
    left.write_text("\n".join([mine, *others]) + "\n")
    commands("squeue", f"cat {left}")
    commands("scancel", f"(sleep 0.7; grep -v '^7|' {left} > {left}.new; mv {left}.new {left}) &")
    assert engine.reap(state) == ["7"]
    calls = (tmp_path / "calls").read_text().splitlines()
    assert [c for c in calls if c.startswith("scancel")] == ["scancel 7"] and calls[-1].startswith("squeue")
    assert engine.reap(state) == []


def test_jobs_that_do_not_end_are_named(commands, tmp_path):
    commands("squeue", f"echo '7|RUNNING|{tmp_path}|rule_measure'; echo '8|COMPLETING|{tmp_path}|rule_measure'")
    commands("scancel", "true")
    with pytest.raises(UserError, match="jobs 7, 8 of an earlier run do not end"):
        engine.reap(tmp_path, wait_s=0.6)


def test_a_job_that_completes_for_ever_is_on_a_dead_node_and_holds_nobody_up(commands, tmp_path):
    commands("squeue", f"echo '8|COMPLETING|{tmp_path}|rule_measure'")
    commands("scancel", "true")
    assert engine.reap(tmp_path, wait_s=0.6) == ["8"]


def test_a_cluster_that_does_not_answer_is_one_line(commands):
    commands("sinfo", "echo 'slurm_load_partitions: Unable to contact slurm controller' >&2; exit 1")
    with pytest.raises(UserError, match="Unable to contact slurm controller"):
        engine.gres_types()


def sweep(n_models: int, blocks: int = 1) -> settings.Sweep:
    return settings.sweep(gpus=[GPU], models=MODELS[:n_models], quantizations=["fp16"], batch_sizes=[1], blocks=blocks)


@pytest.fixture
def profile(tmp_path, monkeypatch) -> str:
    """The profile that ships, asking for the state of jobs every second instead of every half minute; four simulated cards, two a node."""
    folder = tmp_path / "profile"
    shutil.copytree(engine.WORKFLOW / "profiles" / "slurm", folder)
    with open(folder / "config.yaml", "a") as file:
        file.write("slurm-init-seconds-before-status-checks: 1\nseconds-between-status-checks: 1\n")
    monkeypatch.setenv("EAI_SIMULATED_GPUS", "4")
    monkeypatch.setenv("EAI_LOCKS", str(tmp_path / "locks"))
    monkeypatch.setenv("PYTHONPATH", str(paths.ROOT))
    return str(folder)


def names_running(out: Path) -> list[str]:
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and str(out) in (text := (entry / "cmdline").read_text()) and "eai.cluster.single" in text:
                found.append(entry.name)
        except OSError:
            continue
    return found


def wait_until(happened, seconds: float = 120.0) -> None:
    end_s = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end_s
        time.sleep(0.2)


def records(out: Path, columns: str) -> list[list[str]]:
    """What Slurm has on record of the jobs of a sweep."""
    answer = subprocess.run(["squeue", "--states=all", "-h", "-o", f"%Z|{columns}"], capture_output=True, text=True, check=True).stdout
    return [line.split("|")[1:] for line in answer.splitlines() if line.startswith(f"{state_dir(out)}|")]


def lines(out: Path) -> list[dict]:
    return [row for path in sorted(out.glob("*/windows.jsonl")) for row in tables.read_jsonl(path)]


def begin(asked: settings.Sweep, out: Path, profile: str) -> subprocess.Popen:
    """A coordinator in a process of its own, returned when every job has measured something; the cards are slow ones."""
    content = json.dumps(asked.model_dump(exclude={"experiment"}))
    slow = os.environ | {"EAI_SIMULATED_PACE": "0.4"}
    coordinator = subprocess.Popen([sys.executable, "-c", DRIVER, content, str(out), profile], env=slow)
    wait_until(lambda: len({row["job"] for row in lines(out)}) == len(asked.models) or coordinator.poll() is not None)
    assert coordinator.poll() is None
    return coordinator


@contextmanager
def dead_daemon(node: str) -> Iterator[None]:
    """A node whose daemon was killed and which counts as down, while what it started lives on."""
    pid = int((Path(os.environ["EAI_SLURM_TEST"]) / f"{node}.pid").read_text())
    command = Path(f"/proc/{pid}/cmdline").read_text().split("\0")[:-1]
    os.kill(pid, signal.SIGKILL)
    subprocess.run(["scontrol", "update", f"nodename={node}", "state=down", "reason=test"], check=True)
    try:
        yield
    finally:
        subprocess.run(["setsid", "--fork", *command], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


@needs_a_cluster
def test_two_nodes_lose_their_coordinator_and_one_its_daemon(tmp_path, profile):
    """Four jobs on the four cards; then the coordinator and the second node's daemon die, and two jobs are resumed on whole nodes."""
    out, asked = tmp_path / "out", sweep(4, blocks=60)
    coordinator = begin(asked, out, profile)
    first = {row["job"] for row in lines(out)}
    assert {job[-2:] for job in first} == {"00", "01", "02", "03"}, "CUDA_VISIBLE_DEVICES as Slurm set it"
    assert sorted(records(out, "%N|%T|%C|%b")) == [[f"node{i}", "RUNNING", "1", "gres:gpu:h100:1"] for i in (1, 1, 2, 2)]
    os.kill(coordinator.pid, signal.SIGKILL)
    coordinator.wait()
    resumed = [job for job in plan(asked, out, asked.gpus) if job.folder.name[-2:] in ("00", "02")]
    with dead_daemon("node2"):
        assert names_running(out), "jobs outlive their coordinator and their node's daemon"
        assert engine.run(asked, resumed, out, out / "figures", Options(profile, exclusive=True)) == []
        assert not names_running(out), "what nobody could cancel has ended by itself"
        elsewhere = {row["job"] for row in lines(out)} - first
        assert [job.rpartition("--")[0] for job in elsewhere] == [job.id for job in resumed if job.folder.name.endswith("02")]
    rows = [(row["job"], row["block"]) for row in lines(out)]
    assert len(rows) == len(set(rows)), "nothing twice on one card"
    complete = {job for job, _ in rows if sum(job == other for other, _ in rows) == 60}
    assert elsewhere < complete == elsewhere | {job.folder.name for job in resumed if job.folder.name.endswith("00")}, "orphans ended"
    whole = [record for record in records(out, "%N|%C|%h|%S|%e|%T") if record.pop() == "COMPLETED"]
    assert [record[:3] for record in whole] == [["node1", "4", "NO"]] * 2, "a node of two cards as a whole"
    (_, _, _, _, end), (_, _, _, start, _) = sorted(whole, key=lambda record: record[3])
    assert end <= start, "one after the other"
