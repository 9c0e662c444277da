"""The commands that answer from data: their JSON keys are a contract, and their exit codes mean something."""

import json

import pytest

from eai import tables

QUANTITY = {"value", "low", "high", "unit"}
LOG = "timestamp, power.draw [W]\n" + "".join(f"2026/01/01 10:00:{s:02d}.000, {100 + 100 * (s % 2)}.00 W\n" for s in range(30))


def test_trace(eai, tmp_path):
    (tmp_path / "log.csv").write_text(LOG)
    code, out, _ = eai("trace", tmp_path / "log.csv", "--json")
    answer = json.loads(out)
    assert code == 0 and set(answer) >= {"gpus", "energy_j", "duration_s", "status", "warnings"}
    assert set(answer["energy_j"]) == QUANTITY
    assert answer["energy_j"]["value"] == pytest.approx(150 * 29)
    assert set(answer["gpus"][0]) >= {"index", "energy_j", "duration_s", "power_mean_w", "power_min_w", "power_max_w", "samples"}
    half = json.loads(eai("trace", tmp_path / "log.csv", "--window", 0, 14, "--json")[1])
    assert half["energy_j"]["value"] == pytest.approx(150 * 14)
    assert "GPU" in eai("trace", tmp_path / "log.csv")[1]


def test_a_trace_whose_total_cannot_be_trusted_exits_1_with_its_answer(eai, tmp_path):
    lines = LOG.splitlines()
    (tmp_path / "log.csv").write_text("\n".join([*lines[:8], *lines[20:]]) + "\n")  # 12 of 30 s are missing
    code, out, _ = eai("trace", tmp_path / "log.csv", "--json")
    assert code == 1 and json.loads(out)["status"] == "invalid"


@pytest.mark.parametrize("content", ["", "a,b\n1,2\n", "timestamp, power.draw [W]\n2026/01/01 10:00:00.000, [N/A]\n"])
def test_a_log_that_cannot_be_integrated_is_one_line(eai, tmp_path, content):
    (tmp_path / "log.csv").write_text(content)
    code, out, err = eai("trace", tmp_path / "log.csv")
    assert code == 2 and out == "" and len(err.splitlines()) == 1


def test_replay_of_the_sample(eai):
    code, out, _ = eai("replay", "sample", "--json")
    answer = json.loads(out)
    assert code == 0 and answer["mismatches"] == [] and answer["windows"] >= 30


def test_claims(eai):
    code, out, _ = eai("claims", "--json")
    answer = json.loads(out)
    assert code == 0 and set(answer["counts"]) <= {
        "consistent",
        "inconsistent",
        "reproduced",
        "contradicted",
        "mixed",
        "not decided",
        "untested",
    }
    assert set(answer["claims"][0]) >= {"id", "source", "claim", "verdict", "reason", "stated", "computed", "rows"}
    assert sum(answer["counts"].values()) == len(answer["claims"])


def test_an_estimated_experiment_decides_no_claim(eai):
    code, out, _ = eai("claims", "--against", "sample", "--json")
    decided = [c for c in json.loads(out)["claims"] if c["verdict"] in ("reproduced", "contradicted")]
    assert code == 0 and all(c["evidence_verdict"] == c["verdict"] and "measured:" not in c["rows"] for c in decided)


def test_check(eai, tmp_path):
    rows = "model,gpu,quantization,score,energy_wh,eor\nm,a100,fp16,0.718,42.29,{}\nm,a100,nf4,0.709,31.72,0.0224\n"
    (tmp_path / "t.csv").write_text(rows.format("0.0250"))
    code, out, _ = eai("check", tmp_path / "t.csv", "--json")
    wrong = [f for f in json.loads(out)["findings"] if f["verdict"] == "inconsistent"]
    assert code == 1 and any("eor" in f["id"] for f in wrong)
    (tmp_path / "t.csv").write_text(rows.format("0.0170"))
    assert eai("check", tmp_path / "t.csv")[0] == 0
    assert eai("check", tmp_path / "nowhere.csv")[0] == 2


def test_audit(eai, tmp_path):
    code = "from transformers import AutoModelForCausalLM\nm = AutoModelForCausalLM.from_pretrained('org/m-7b', load_in_8bit=True)\n"
    (tmp_path / "run.py").write_text(code)
    code, out, _ = eai("audit", tmp_path, "--json")
    finding = json.loads(out)["findings"][0]
    assert code == 1 and set(finding) >= {"path", "line", "rule", "severity", "message", "expected_waste", "fix"}
    assert finding["line"] == 2 and finding["severity"] == "critical"


def test_estimate_follows_the_raw_runs(eai):
    """6.907 J per token x 256 tokens x 1e6 requests / 3.6e6 = 491 kWh, from the published batch-sweep runs."""
    model = ["--model", "mistralai/Mistral-7B-Instruct-v0.2", "--gpu", "a800", "--quantization", "int8_pure"]
    code, out, _ = eai("estimate", *model, "--input-tokens", 256, "--json")
    answer = json.loads(out)
    assert code == 0 and set(answer) >= {"current", "optimized", "savings", "assumptions"}
    assert answer["current"]["energy_kwh"]["value"] == pytest.approx(6.907 * 256e6 / 3.6e6, rel=0.002)
    for name in ("energy_kwh", "cost_usd", "carbon_kg"):
        assert set(answer["current"][name]) == QUANTITY


def test_optimize_and_compare(eai):
    request = ["--model", "Qwen/Qwen2-7B", "--hardware-platform", "a800", "--batch-size", 16, "--quantization", "fp16", "--json"]
    ranking = json.loads(eai("optimize", *request)[1])["ranking"]
    assert set(ranking[0]) >= {"configuration", "energy_j_per_1k_tok", "throughput_tok_s", "accuracy", "basis", "evidence", "warnings"}
    rows = json.loads(eai("compare", *request)[1])["rows"]
    assert set(rows[0]) >= {"quantization", "energy_j_per_1k_tok", "ratio_to_baseline", "throughput_tok_s", "vram_gb", "rank", "basis"}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["estimate", "--model", "Qwen/Qwen2-7B", "--gpu", "v100", "--quantization", "bf16"], "capability"),
        (["optimize", "--model", "70B", "--gpu", "rtx4090", "--num-gpus", 1], "does not fit"),
        (["estimate", "--model", "Qwen/Qwen2-7B", "--batch-size", 0], "batch_size 0"),
        (["estimate", "--model", "Qwen/Qwen2-7B", "--price", -1], "price"),
        (["estimate", "--model", "nobody/nothing-at-all"], "model"),
        (["estimate", "--model", "Qwen/Qwen2-7B", "--gpu", "abacus"], "abacus"),
        (["compare", "sample"], "two, A and B"),
        (["report", "no-such-run"], "no windows"),
        (["replay", "no-such-run"], "no windows"),
    ],
)
def test_impossible_requests_are_one_line(eai, arguments, words):
    code, out, err = eai(*arguments)
    assert code == 2 and out == "" and words in err and len(err.splitlines()) == 1


def test_the_gate_passes_an_experiment_against_itself(eai):
    code, out, _ = eai("compare", "sample", "sample", "--json")
    answer = json.loads(out)
    assert code == 0 and not answer["failed"] and len(answer["rows"]) == len(tables.read_result("sample", "summary"))
