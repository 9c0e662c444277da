"""Slurm: what a job asks for, what is taken back after a crash, and a sweep on a real cluster of one node where there is one."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from eai import jobs, paths, settings, tables
from eai.errors import UserError
from eai.sweep import engine, single, slurm
from eai.sweep.engine import Options
from eai.sweep.plan import plan

needs_a_cluster = pytest.mark.skipif(
    "EAI_SLURM_TEST" not in os.environ, reason="needs a Slurm of its own on this machine: run .ci/slurm as root on Debian"
)
GPU = "simulated_h100_sxm"
MODELS = ["Qwen/Qwen2.5-7B-Instruct", "mistralai/Mistral-7B-Instruct-v0.2", "01-ai/Yi-6B"]
DRIVER = """
import json, sys
from pathlib import Path
from eai import settings
from eai.sweep import engine
from eai.sweep.plan import plan
sweep, out = settings.sweep(**json.loads(sys.argv[1])), Path(sys.argv[2])
engine.run(sweep, plan(sweep, out, sweep.gpus), out, out / "figures", engine.Options(sys.argv[3], exclusive=True))
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


def test_types_of_gpu_are_read_from_the_nodes(commands):
    commands("sinfo", "printf 'gpu:a100:4(S:0-1)\\n(null)\\ngpu:2\\ngpu:h100:8,shard:h100:16\\ngpu:rtx4090:1(IDX:0)\\ngpu\\n'")
    assert slurm.gres_types() == ["", "a100", "h100", "rtx4090"]


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
    assert slurm.gres(gpu, types) == expected


def test_a_card_that_no_node_has_is_refused():
    with pytest.raises(UserError, match="gpu 'l40s' is not among the cluster's types"):
        slurm.gres("l40s", ["l40", "a100"])


@pytest.mark.parametrize(("timeout_s", "expected"), [(None, 0), (1, 11), (60, 11), (61, 12), (3600, 70)])
def test_time_asked_for_is_the_limit_with_a_margin_or_the_partitions_own(timeout_s, expected):
    assert slurm.runtime_min(timeout_s) == expected


def test_only_this_sweeps_jobs_are_taken_back_and_waited_for(commands, tmp_path):
    state = tmp_path / "out" / ".eai"
    mine = f"7|{state}|rule_measure_wildcards_a"
    others = [f"8|{state}|something else", f"9|{state}-2|rule_measure", "10|/elsewhere|rule_measure_wildcards_a|b"]
    left = tmp_path / "left"
    left.write_text("\n".join([mine, *others]) + "\n")
    commands("squeue", f"cat {left}")
    commands("scancel", f"(sleep 0.7; grep -v '^7|' {left} > {left}.new; mv {left}.new {left}) &")
    assert slurm.reap(state) == ["7"]
    calls = (tmp_path / "calls").read_text().splitlines()
    assert [c for c in calls if c.startswith("scancel")] == ["scancel 7"] and calls[-1].startswith("squeue")
    assert slurm.reap(state) == []


def test_jobs_that_do_not_end_are_named(commands, tmp_path):
    commands("squeue", f"echo '7|{tmp_path}|rule_measure'")
    commands("scancel", "true")
    with pytest.raises(UserError, match="jobs 7 of an earlier run do not end"):
        slurm.reap(tmp_path, wait_s=0.6)


def test_a_cluster_that_does_not_answer_is_one_line(commands):
    commands("sinfo", "echo 'slurm_load_partitions: Unable to contact slurm controller' >&2; exit 1")
    with pytest.raises(UserError, match="Unable to contact slurm controller"):
        slurm.gres_types()


def sweep(n_models: int, blocks: int = 1) -> settings.Sweep:
    return settings.sweep(gpus=[GPU], models=MODELS[:n_models], quantizations=["fp16"], batch_sizes=[1], blocks=blocks)


@pytest.fixture
def profile(tmp_path, monkeypatch) -> str:
    """The profile that ships, asking for the state of jobs every second instead of every half minute; jobs on two simulated cards."""
    folder = tmp_path / "profile"
    shutil.copytree(engine.WORKFLOW / "profiles" / "slurm", folder)
    with open(folder / "config.yaml", "a") as file:
        file.write("slurm-init-seconds-before-status-checks: 1\nseconds-between-status-checks: 1\n")
    monkeypatch.setenv("EAI_SIMULATED_GPUS", "2")
    monkeypatch.setenv("EAI_LOCKS", str(tmp_path / "locks"))
    monkeypatch.setenv("PYTHONPATH", str(paths.ROOT))
    return str(folder)


def names_running(out: Path) -> list[str]:
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and str(out) in (text := (entry / "cmdline").read_text()) and "eai.sweep.single" in text:
                found.append(entry.name)
        except OSError:
            continue
    return found


@needs_a_cluster
def test_three_jobs_share_two_cards_of_a_cluster(tmp_path, profile):
    out, asked = tmp_path / "out", sweep(3)
    planned = plan(asked, out, asked.gpus)
    assert engine.run(asked, planned, out, out / "figures", Options(profile)) == []
    windows = tables.read_windows(out)
    assert len(windows) == 3 and set(windows["status"]) == {"ok"} and set(windows["model"]) == set(MODELS)
    marks = {mark for model in MODELS for mark in jobs.marks(out, GPU, model)}
    assert {mark[-2:] for mark in marks} == {"00", "01"}, "CUDA_VISIBLE_DEVICES as Slurm set it"
    assert all(j.is_done for j in plan(asked, out, asked.gpus))
    asked_for = subprocess.run(["squeue", "--states=all", "-h", "-o", "%Z|%b"], capture_output=True, text=True, check=True).stdout
    mine = [line.partition("|")[2] for line in asked_for.splitlines() if line.startswith(str(engine.state_dir(out)))]
    assert len(mine) == 3 and all("gpu:h100:1" in gres for gres in mine)


@needs_a_cluster
def test_a_dead_coordinators_jobs_are_taken_back_and_nothing_is_measured_twice(tmp_path, profile, monkeypatch):
    out, asked = tmp_path / "out", sweep(1, blocks=4)
    content = json.dumps(asked.model_dump(exclude={"experiment"}))
    slow = os.environ | {"EAI_SIMULATED_PACE": "0.4"}
    coordinator = subprocess.Popen([sys.executable, "-c", DRIVER, content, str(out), profile], env=slow)
    end_s = time.monotonic() + 90
    while not (list(out.glob("*/windows.jsonl")) and tables.read_jsonl(next(out.glob("*/windows.jsonl")))):
        assert time.monotonic() < end_s and coordinator.poll() is None
        time.sleep(0.2)
    os.kill(coordinator.pid, signal.SIGKILL)
    coordinator.wait()
    (left,) = slurm.left_behind(engine.state_dir(out))
    assert engine.run(asked, plan(asked, out, asked.gpus), out, out / "figures", Options(profile)) == []
    state = subprocess.run(["squeue", "--states=all", "-h", "-j", left, "-o", "%T"], capture_output=True, text=True).stdout.strip()
    assert state == "CANCELLED"
    lines = [row for path in out.glob("*/windows.jsonl") for row in tables.read_jsonl(path)]
    assert len(lines) == 4 == len({(row["block"], row["configuration_id"]) for row in lines}), "nothing twice, nothing lost"
    while names_running(out):
        assert time.monotonic() < end_s, "a process outlives its job"
        time.sleep(0.2)
    assert single.PROC.exists()
