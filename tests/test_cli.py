"""The command line as a user meets it: exit codes, one line on stderr, one JSON document on stdout."""

import json
import os
import subprocess
import sys

import pytest

from eai import paths


def eai(*arguments, **environment):
    command = [sys.executable, "-W", "ignore", "-c", "from eai.cli import main; main()", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=os.environ | environment, cwd=paths.ROOT, timeout=300)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["frobnicate"], "No such command"),
        (["run", "nowhere.yaml"], "cannot read nowhere.yaml"),
        (["notebook", "mesure"], "no notebook 'mesure'"),
        (["notebook", "measure", "-p", "batch_size=[1]"], "did you mean 'batch_sizes'"),
        (["notebook", "measure", "-p", "blocks"], "expected -p KEY=VALUE"),
        (["notebook", "measure", "-p", "blocks=0"], "blocks = 0"),
        (["notebook", "measure", "-p", "batch_sizes=[1"], "not YAML"),
        (["notebook", "analyze", "-p", "experiment=no-such-run"], "no windows"),
        (["run", "--out"], "--out"),
        (["run", "--out", ""], "--out is empty"),
        (["run", "--dry-run", "--out", "eai"], "holds other files"),
    ],
)
def test_bad_input_is_one_line_and_exit_2(arguments, words, tmp_path):
    if arguments[0] == "notebook":
        arguments = [*arguments, "--out", tmp_path]
    done = eai(*arguments)
    assert done.returncode == 2, done.stderr
    assert words in done.stderr
    assert done.stdout == ""
    assert len(done.stderr.strip().splitlines()) == 1


def test_bad_sweep_file(tmp_path):
    (tmp_path / "s.yaml").write_text("quantizations: [int8]\n")
    done = eai("run", tmp_path / "s.yaml")
    assert done.returncode == 2 and "use int8_default or int8_pure" in done.stderr


def test_dry_run_measures_nothing(tmp_path):
    done = eai("run", "--dry-run", "--json", "--out", tmp_path / "out")
    plan = json.loads(done.stdout)
    assert done.returncode == 0 and not (tmp_path / "out").exists()
    assert [(job["windows"], job["loads"], job["done"]) for job in plan["jobs"]] == [(30, 15, False)]


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_run_prints_the_table_then_one_json_line_and_exits_1_if_partial(tiny_model, tmp_path):
    (tmp_path / "s.yaml").write_text(
        f"models: ['{tiny_model}']\nquantizations: [fp32, tf32]\nbatch_sizes: [1]\nblocks: 2\ninput_tokens: 8\noutput_tokens: 4\n"
        "window_s: 0.05\nwarmup_cap_s: 0\nmeter: estimate\n"
    )
    done = eai("run", tmp_path / "s.yaml", "--out", tmp_path / "out")
    assert done.returncode == 1, done.stderr
    assert done.stderr == ""
    *table, last = done.stdout.strip().splitlines()
    result = json.loads(last)
    assert result["status_counts"] == {"ok": 2, "unsupported": 2}
    assert set(result) == {"experiment", "rows", "figures", "seconds", "status_counts"}
    assert "energy estimated" in table[0] and any("fp32" in line for line in table)
    assert any(line.startswith("rejected: ") and "tf32 needs a CUDA device" in line for line in table), table[-3:]
    again = eai("run", tmp_path / "s.yaml", "--out", tmp_path / "out", "--json")
    assert json.loads(again.stdout)["status_counts"] == result["status_counts"]


def test_doctor_says_what_is_missing_and_what_to_do():
    done = eai("doctor", "--json")
    report = json.loads(done.stdout)
    assert done.returncode == 0
    meters = {meter["name"]: meter for meter in report["meters"]}
    assert set(meters) >= {"nvml", "rapl", "estimate"}
    for meter in report["meters"]:
        assert set(meter) >= {"name", "basis", "usable", "why", "interval_10s"}
        assert meter["usable"] or meter["do"], f"{meter['name']} does not say what to do"
    assert meters["estimate"]["usable"] and meters["estimate"]["basis"] == "estimated"
    text = eai("doctor").stdout
    assert "rapl" in text and "->" in text
