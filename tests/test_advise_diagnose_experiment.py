"""`eai diagnose --experiment`: what an experiment says of itself goes before what others' rows say."""

import json

import numpy as np
import pandas as pd
import pytest

from eai import tables
from eai.advise.diagnose import context, experiment
from eai.advise.diagnose.answer import entry
from eai.advise.diagnose.experiment import KEYS, _batch, diagnose_experiment
from eai.advise.markdown import to_markdown
from eai.analyze.metrics import costed

READINGS = {"throttle_fraction": 0.0, "power_capped_fraction": 0.0, "power_limit_w": 400.0, "memory_used_peak_gb": 16.0}


@pytest.fixture(scope="module")
def answer():
    return diagnose_experiment("sample")


@pytest.fixture
def windows():
    """Four windows of the sample as if of a card: readings set, nothing wrong."""
    table = tables.read_windows("sample")
    int8 = table[(table["quantization"] == "int8_pure") & (table["task"] == "generate")].head(4).copy()
    return int8.assign(gpu="a800_sxm_80gb", flags=[[] for _ in range(len(int8))], **READINGS)


def by_configuration(answer: dict) -> dict:
    return by_task(answer, "generate")


def by_task(answer: dict, task: str) -> dict:
    chosen = [c for c in answer["configurations"] if c["configuration"]["task"] == task]
    return {(c["configuration"]["quantization"], c["configuration"]["batch_size"]): c for c in chosen}


def test_the_sample_is_compared_with_itself(answer):
    summary = tables.read_result("sample", "summary")
    assert len(answer["configurations"]) == len(summary) == 20 and answer["basis"] == "estimated"
    assert any("estimated" in w for w in answer["warnings"])
    assert all("no row is of that kind" in c["notes"][0] for c in answer["configurations"])


def test_a_batch_of_one_costs_what_the_summary_says(answer):
    summary = tables.read_result("sample", "summary").query("task == 'generate'")
    summary = summary.set_index(["quantization", "batch_size"])["energy_j_per_token"]
    for quantization in ("fp32", "int8_pure", "nf4_dq"):
        (pattern,) = [p for p in by_configuration(answer)[quantization, 1]["patterns"] if p["name"] == "batch_1_waste"]
        saved = 1 - summary[quantization, 4] / summary[quantization, 1]
        assert pattern["expected_improvement"]["value"] == pytest.approx(saved) and pattern["confidence"] > 0.95
    assert not [p for p in by_configuration(answer)["fp32", 4]["patterns"] if p["name"] == "batch_1_waste"]


def test_a_batch_of_one_is_compared_with_the_largest():
    """Made rows: 4, 2 and 1 J a token at batch 1, 4 and 16, each known to 1 %."""
    same = dict.fromkeys(KEYS, "x") | {"n_blocks": 5}
    rows = [same | {"batch_size": b, **energy(j)} for b, j in ((1, 4.0), (4, 2.0), (16, 1.0))]
    pattern = _batch(rows[0], pd.DataFrame(rows), None)
    assert "16 at once" in pattern["fixes"][0]["fix"]
    assert pattern["expected_improvement"]["value"] == pytest.approx(0.75)
    assert _batch(rows[1], pd.DataFrame(rows), None) is None


def energy(joules: float) -> dict:
    names = ("unit_energy_j", "unit_energy_j_low", "unit_energy_j_high")
    return {"unit": "token"} | dict(zip(names, (joules, joules / 1.01, joules * 1.01), strict=True))


def test_a_strategy_is_named_only_where_its_own_baseline_shows_it(answer):
    """int8_default at batch 1 costs 16 % more than fp32 and 23 % more than without its decomposition; at batch 4 under 5 %."""
    found = by_configuration(answer)
    assert "int8_decomposition" in {p["name"] for p in found["int8_default", 1]["patterns"] if p["named"]}
    for saving in (("int8_default", 4), ("int8_pure", 1), ("nf4_dq", 1), ("bf16", 4)):
        names = {p["name"] for p in found[saving]["patterns"] if p["named"]}
        assert not names & {"int8_decomposition", "quantization_overhead", "small_model_4bit"}


def test_nothing_of_a_gpu_is_advised_for_a_cpu(answer):
    assert "nvidia-smi" not in json.dumps(answer)


def test_the_named_patterns_stand_at_the_top_too(answer):
    named = [p for c in answer["configurations"] for p in c["patterns"] if p["named"]]
    assert len(answer["patterns"]) == len(named) > 0 and all("configuration" in p for p in answer["patterns"])
    assert sum(answer["counts"].values()) == len(answer["configurations"])
    assert "# Diagnosis of sample" in to_markdown(answer)


def test_readings_without_a_fault_say_nothing(windows):
    assert context.remarks(windows) == [] and context.unusable(windows) == ""


@pytest.mark.parametrize(
    ("changes", "pattern", "words"),
    [
        ({"throttle_fraction": 0.3}, "power_cap_or_throttle", "30% of the time"),
        ({"status": "throttled"}, "power_cap_or_throttle", "4 of 4 windows barred"),
        ({"power_capped_fraction": 0.5}, "power_cap_or_throttle", "limit of 400 W"),
        ({"memory_used_peak_gb": 85.5}, "vram_spill", "the card is full"),
        ({"status": "oom"}, "vram_spill", "4 of 4 windows ran out of memory"),
        ({"ran": '{"Linear(torch.float16)": 210}'}, "quantization_not_applied", "Linear(torch.float16)"),
        ({"ran": '{"Linear8bitLt(torch.int8, threshold 6)": 210}'}, "int8_decomposition", "threshold 6"),
    ],
)
def test_each_reading_names_its_pattern(windows, changes, pattern, words):
    (found,) = context.remarks(windows.assign(**changes))
    assert found[0] == pattern and words in found[1], found


def test_a_flag_is_enough(windows):
    windows["flags"] = [["power_capped"]] * len(windows)
    assert context.remarks(windows)[0][0] == "power_cap_or_throttle"


def measured_experiment(throttled: float) -> None:
    """An experiment of one configuration with the published figures of line 61 (157 W, 36.18 tok/s), two blocks, as measured on a GPU."""
    windows, energies = tables.read_windows("sample"), tables.read_energies("sample")
    chosen = windows.query("quantization == 'bf16' and batch_size == 1 and task == 'generate'").head(2)
    energies = energies[energies["attempt"].isin(chosen["attempt"])]
    model = {"gpu": "a800_sxm_80gb", "model": "mistralai/Mistral-7B-Instruct-v0.3", "quantization": "fp16"}
    lengths = {"input_tokens": 256, "output_tokens": 128, "tokens_out": 128, "batch_size": 1, "requests": 1}
    pace = {"duration_s": 128 / 36.18, "power_mean_w": 156.81, "memory_peak_gb": 14.9, "ran": '{"Linear(torch.float16)": 224}'}
    sensors = {"basis": "measured", "throttle_fraction": throttled, "utilization_mean_pct": 95.0, "temperature_mean_c": 60.0}
    joules = 4.334 * 128 * np.array([1.001, 0.999])
    tables.write_experiment(
        "card", chosen.assign(**model, **lengths, **pace, **sensors), energies.assign(energy_j=joules, boundary="gpu", basis="measured")
    )


def test_a_healthy_card_is_compared_with_rows_and_left_alone(scratch):
    measured_experiment(0.0)
    (one,) = diagnose_experiment("card")["configurations"]
    assert one["verdict"] == "healthy" and one["figures"]["throughput"] == pytest.approx(36.18)
    assert one["notes"] == [] or all("gate" in n for n in one["notes"])


def test_a_throttled_card_is_told_by_its_sensor(scratch):
    """The figures alone are those of a healthy card."""
    measured_experiment(0.4)
    answer = diagnose_experiment("card")
    assert [p["name"] for p in answer["patterns"]] == ["power_cap_or_throttle"] and answer["counts"] == {"fault": 1}


def test_what_a_server_tells_of_itself_is_no_evidence_against_it():
    """Three servers, recorded: nobody could look which layers ran, and nothing they say is read as layers of another type."""
    answer = diagnose_experiment("serving-cpu")
    assert not [p for c in answer["configurations"] for p in c["patterns"] if p["name"] == "quantization_not_applied"]
    assert set(answer["counts"]) == {"healthy"}
    assert "server vllm-0.32, load closed:8 |" in to_markdown(answer)


def test_a_load_on_a_card_is_not_held_against_rows_of_plain_generation(monkeypatch):
    """Sixteen requests in flight on a measured card stand as batch 1 in the table: no row is of that kind."""
    asked = []
    monkeypatch.setattr(experiment, "diagnose", lambda *a: asked.append(a) or {})
    row = {
        "boundary": "gpu",
        "basis": "measured",
        "n_blocks": 5,
        "task": "generate",
        "options": '{"load":"closed:16","server":"vllm-0.11"}',
    }
    _, found, (note,) = experiment._against_rows(row, None, "x")
    assert found == {} and not asked and note.startswith("server vllm-0.11, load closed:16: compared within")


def test_a_task_is_costed_by_the_item():
    """Choices have no output tokens: their batches are compared by the energy of an item."""
    row = by_task(diagnose_experiment("sample"), "arithmetic")["fp32", 1]
    summary = tables.read_result("sample", "summary").query("task == 'arithmetic' and quantization == 'fp32'").set_index("batch_size")
    (pattern,) = [p for p in row["patterns"] if p["name"] == "batch_1_waste"]
    cost = summary["energy_j_per_request"]
    assert pattern["expected_improvement"]["value"] == pytest.approx(1 - cost[4] / cost[1])
    assert "of the energy an item" in " ".join(pattern["evidence"]) and row["configuration"]["work"] == "task arithmetic"


def test_an_experiment_in_which_everything_ran_out_of_memory_has_a_cause(scratch):
    windows, energies = tables.read_windows("sample"), tables.read_energies("sample")
    ran = {"ran": '{"Linear(torch.float16)": 336}', "quantization": "fp16", "model": "qwen2.5-14b", "gpu": "rtx4090d"}
    windows = windows.head(3).assign(**ran, status="oom", reason="out of memory")
    tables.write_experiment("full", windows, energies.head(0))
    answer = diagnose_experiment("full")
    assert {p["name"] for p in answer["patterns"]} == {"vram_spill"} and "fault" in answer["counts"]
    assert all("oom: out of memory" in " ".join(c["notes"]) for c in answer["configurations"])
    assert to_markdown(answer)


def test_what_was_measured_goes_before_what_rows_say(monkeypatch):
    """The rows call int8_pure costlier than fp16 on this card; an experiment that measured it 5 % cheaper is believed."""
    summary = costed(tables.read_result("sample", "summary"))
    row = summary[summary["quantization"] == "int8_pure"].iloc[0].to_dict()
    windows = tables.read_windows("sample")
    windows = windows[windows["configuration_id"] == row["configuration_id"]]
    rows_say = {"patterns": [entry("quantization_overhead", "costly_choice", 0.9, None, ["rows"], [])], "verdict": "costly_choice"}
    monkeypatch.setattr(experiment, "_against_rows", lambda *_: (None, rows_say, []))
    found = experiment._configuration(row, summary, windows, "x")
    assert "quantization_overhead" not in {p["name"] for p in found["patterns"]}


FIGURES = ["--model", "mistral-7b-instruct-v0.2", "--gpu", "a800", "--throughput", 9.87, "--energy-j-per-1k", 9608]


def test_the_command(eai):
    code, out, err = eai("diagnose", *FIGURES, "--quantization", "int8_default", "--batch-size", 1, "--json")
    answer = json.loads(out)
    assert code == 0 and err == "" and set(answer["patterns"][0]) >= {"name", "confidence", "evidence", "fixes"}
    assert answer["patterns"][0]["name"] == "int8_decomposition"
    assert "int8_decomposition" in eai("diagnose", *FIGURES, "--quantization", "int8_default")[1]
    assert json.loads(eai("diagnose", "--experiment", "sample", "--json")[1])["experiment"] == "sample"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--model", "qwen2-7b"], "no reported figure"),
        (["--model", "qwen2-7b", "--throughput", -5], "throughput -5"),
        (["--model", "qwen2-7b", "--throughput", 5, "--energy-j-per-1k", 0], "energy_j_per_1k 0"),
        (["--throughput", 5], "no model"),
        (["--model", "qwen2-7b", "--gpu", "abacus", "--throughput", 5], "abacus"),
        (["--experiment", "no-such-run"], "no windows"),
        (["--experiment", "sample", "--power-w", 3], "--power-w"),
    ],
)
def test_bad_input_exits_2_with_one_line(eai, arguments, words):
    code, out, err = eai("diagnose", *arguments)
    assert code == 2 and out == "" and words in err and len(err.splitlines()) == 1
