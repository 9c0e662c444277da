"""`eai diagnose --experiment`: what an experiment says of itself goes first; what was compared with nothing is unknown, never healthy."""

import json

import numpy as np
import pandas as pd
import pytest

from eai import tables
from eai.advise import experiment
from eai.advise.experiment import KEYS, beyond, diagnose_experiment, remarks
from eai.advise.page import head
from eai.advise.page import markdown as to_markdown

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


def by_task(answer: dict, task: str) -> dict:
    chosen = [c for c in answer["configurations"] if c["configuration"]["task"] == task]
    return {(c["configuration"]["quantization"], c["configuration"]["batch_size"]): c for c in chosen}


def test_the_sample_is_compared_with_itself(answer):
    summary = tables.read_result("sample", "summary")
    assert len(answer["configurations"]) == len(summary) == 20 and answer["basis"] == "estimated"
    assert any("estimated" in w for w in answer["warnings"])
    assert all("no row is of that kind" in c["notes"][0] for c in answer["configurations"])


def test_what_was_compared_with_nothing_is_unknown(answer):
    """The baseline at batch 4 has no baseline of its own, no larger batch and no row."""
    assert by_task(answer, "generate")["fp32", 4]["verdict"] == "unknown"
    ratio = by_task(answer, "generate")["nf4_dq", 4]
    assert ratio["verdict"] == "healthy" and ratio["summary"].startswith("nothing wrong against its own baseline"), "it costs less"
    assert "the rest was not checked" in ratio["summary"] and ratio["compared_with"] == ["its own baseline"]
    assert answer["by_ratio_alone"] == answer["counts"]["healthy"] and "by energy ratios alone)" in head(answer)[0]
    assert set(diagnose_experiment("serving-cpu")["counts"]) == {"unknown"}


def test_a_batch_of_one_costs_what_the_summary_says(answer):
    summary = (
        tables.read_result("sample", "summary").query("task == 'generate'").set_index(["quantization", "batch_size"])["energy_j_per_token"]
    )
    for quantization in ("fp32", "int8_pure", "nf4_dq"):
        (pattern,) = [p for p in by_task(answer, "generate")[quantization, 1]["patterns"] if p["name"] == "batch_1_waste"]
        saved = 1 - summary[quantization, 4] / summary[quantization, 1]
        assert pattern["expected_improvement"]["value"] == pytest.approx(saved) and pattern["level"] == "HIGH"
    assert not [p for p in by_task(answer, "generate")["fp32", 4]["patterns"] if p["name"] == "batch_1_waste"]


def test_a_task_is_costed_by_the_item(answer):
    """Choices have no output tokens: their batches are compared by the energy of an item."""
    row = by_task(answer, "arithmetic")["fp32", 1]
    cost = (
        tables.read_result("sample", "summary")
        .query("task == 'arithmetic' and quantization == 'fp32'")
        .set_index("batch_size")["energy_j_per_request"]
    )
    (pattern,) = [p for p in row["patterns"] if p["name"] == "batch_1_waste"]
    assert pattern["expected_improvement"]["value"] == pytest.approx(1 - cost[4] / cost[1])
    assert "of the energy per item" in " ".join(pattern["evidence"]) and row["configuration"]["work"] == "task arithmetic"


def test_nothing_of_a_gpu_is_advised_for_a_cpu(answer):
    assert "nvidia-smi" not in json.dumps(answer)


def test_the_named_patterns_stand_at_the_top_too(answer):
    named = [p for c in answer["configurations"] for p in c["patterns"] if p["named"]]
    assert len(answer["patterns"]) == len(named) > 0 and all("configuration" in p for p in answer["patterns"])
    assert sum(answer["counts"].values()) == len(answer["configurations"])
    text = to_markdown(answer)
    assert "# Diagnosis of sample" in text and "- LLM.int8() with its default threshold: " in text and len(head(answer)) <= 10


def made_summary(**columns) -> pd.DataFrame:
    """Rows of one model, card and batch under several strategies: joules and units a second each."""
    n = len(columns["quantization"])
    same = {k: ["x"] * n for k in KEYS} | {
        "batch_size": [1] * n,
        "configuration_id": [f"c{i}" for i in range(n)],
        "n_blocks": [5] * n,
        "unit": ["token"] * n,
    }
    return pd.DataFrame(same | columns)


def test_several_labels_with_one_kernel():
    """fp16, int8 and 4 bit at the same joules and speed: nothing was quantized. fp32 differs and is left alone."""
    table = made_summary(
        quantization=["fp16", "int8_pure", "nf4", "fp32"],
        unit_energy_j=[2.0, 2.01, 1.995, 4.0],
        units_per_s=[50, 50.2, 49.9, 26],
        power_mean_w=[100, 101, 100, 104],
    )
    found = experiment._among_siblings(table)
    assert set(found) == {"c0", "c1", "c2"} and {p["name"] for ps in found.values() for p in ps} == {"one_kernel"}
    assert all(word in found["c0"][0]["evidence"][0] for word in ("fp16", "int8_pure", "nf4"))


def test_weights_on_the_host_are_seen_by_their_siblings():
    """f16 forty times slower than 8 bit at lower power; its bytes explain a factor of two."""
    table = made_summary(quantization=["fp16", "gguf_q8_0"], unit_energy_j=[60.0, 2.2], units_per_s=[1.25, 50], power_mean_w=[75, 110])
    found = experiment._among_siblings(table)
    (pattern,) = found["c0"]
    assert pattern["name"] == "vram_spill" and "40 times slower" in pattern["evidence"][0] and set(found) == {"c0"}
    slow_kernel = table.assign(power_mean_w=[120, 110])
    assert not experiment._among_siblings(slow_kernel), "slow and warm is a kernel that computes more"


def test_a_card_beyond_its_power_is_seen():
    row = {"gpu": "rtx3090", "model": "x", "boundary": "gpu", "power_mean_w": 592.0, "options": "{}"}
    (text,) = beyond(row)
    assert "592 W" in text and "350 W" in text
    assert not beyond(row | {"options": '{"num_gpus": 2}'}) and not beyond(row | {"power_mean_w": 340.0})


def test_more_tokens_than_the_memory_feeds_are_seen():
    """Mistral-7B in fp16 is 14.5 GB: an RTX 3090 of 936 GB/s makes 65 tok/s at most."""
    row = {
        "gpu": "rtx3090",
        "model": "mistral-7b-v0.1",
        "boundary": "gpu",
        "quantization": "fp16",
        "batch_size": 1,
        "input_tokens": 128,
        "output_tokens": 128,
    }
    assert (
        "times what the memory" in beyond(row | {"throughput_tok_s": 300.0, "power_mean_w": 300.0, "options": "{}", "task": "generate"})[0]
    )


def test_readings_without_a_fault_say_nothing(windows):
    assert remarks(windows) == []


@pytest.mark.parametrize(
    ("changes", "pattern", "words"),
    [
        ({"throttle_fraction": 0.3}, "power_cap_or_throttle", "30 % of the time"),
        ({"status": "throttled"}, "power_cap_or_throttle", "4 of 4 windows barred"),
        ({"power_capped_fraction": 0.5, "power_limit_w": 250.0}, "power_cap_or_throttle", "limit of 250 W (rated 400 W)"),
        ({"memory_used_peak_gb": 85.5}, "vram_spill", "the card is full"),
        ({"status": "oom"}, "vram_spill", "4 of 4 windows ran out of memory"),
        ({"ran": '{"Linear(torch.float16)": 210}'}, "quantization_not_applied", "Linear(torch.float16)"),
        ({"ran": '{"Linear8bitLt(torch.int8, threshold 6)": 210}'}, "int8_decomposition", "threshold 6"),
    ],
)
def test_each_reading_names_its_pattern(windows, changes, pattern, words):
    (found,) = remarks(windows.assign(**changes))
    assert found[0] == pattern and words in found[1], found


def test_a_card_at_its_own_rated_limit_works_as_it_was_built_to(windows):
    assert remarks(windows.assign(power_capped_fraction=0.9, power_limit_w=400.0)) == []


def measured_experiment(throttled: float, apart: float = 0.001) -> None:
    """An experiment of one configuration with the published figures of line 61 (157 W, 36.18 tok/s), two blocks, as measured on a GPU."""
    windows, energies = tables.read_windows("sample"), tables.read_energies("sample")
    chosen = windows.query("quantization == 'bf16' and batch_size == 1 and task == 'generate'").head(2)
    energies = energies[energies["attempt"].isin(chosen["attempt"])]
    model = {"gpu": "a800_sxm_80gb", "model": "mistralai/Mistral-7B-Instruct-v0.3", "quantization": "fp16"}
    lengths = {"input_tokens": 256, "output_tokens": 128, "tokens_out": 128, "batch_size": 1, "requests": 1}
    pace = {"duration_s": 128 / 36.18, "power_mean_w": 156.81, "memory_peak_gb": 14.9, "ran": '{"Linear(torch.float16)": 224}'}
    sensors = {"basis": "measured", "throttle_fraction": throttled, "utilization_mean_pct": 95.0, "temperature_mean_c": 60.0}
    joules = 4.334 * 128 * np.array([1 + apart, 1 - apart])
    tables.write_experiment(
        "card", chosen.assign(**model, **lengths, **pace, **sensors), energies.assign(energy_j=joules, boundary="gpu", basis="measured")
    )


def test_a_healthy_card_is_compared_with_rows_and_left_alone(scratch):
    measured_experiment(0.0)
    (one,) = diagnose_experiment("card")["configurations"]
    assert one["verdict"] == "healthy" and one["figures"]["throughput"] == pytest.approx(36.18)
    assert "rows or predictions" in one["summary"] and "not checked" not in json.dumps(one)


def test_one_block_says_that_its_spread_is_not_known(scratch, monkeypatch):
    measured_experiment(0.0)
    summary = experiment._summary("card", tables.read_windows("card")).assign(n_blocks=1, energy_cv=np.nan, gate="noisy", model="acme/x")
    monkeypatch.setattr(experiment, "_summary", lambda *_: summary)
    notes = "; ".join(diagnose_experiment("card")["configurations"][0]["notes"])
    assert "gate noisy: one block, its spread is not known" in notes and "nan" not in notes and ".;" not in notes


def test_what_varies_too_much_is_never_called_healthy(scratch):
    """The same mean, but its two blocks are 40 % apart: the gate rejects it."""
    measured_experiment(0.0, apart=0.2)
    answer = diagnose_experiment("card")
    (one,) = answer["configurations"]
    assert one["verdict"] == "unknown" and "varies too much" in one["summary"] and "gate rejected" in " ".join(one["notes"])
    assert answer["counts"] == {"unknown": 1} and answer["by_ratio_alone"] == 0


def test_a_throttled_card_is_told_by_its_sensor(scratch):
    """The figures alone are those of a healthy card."""
    measured_experiment(0.4)
    answer = diagnose_experiment("card")
    assert [p["name"] for p in answer["patterns"]] == ["power_cap_or_throttle"] and answer["counts"] == {"fault": 1}


def test_a_load_on_a_card_is_not_held_against_rows_of_plain_generation():
    row = {
        "boundary": "gpu",
        "basis": "measured",
        "n_blocks": 5,
        "task": "generate",
        "options": '{"load":"closed:16","server":"vllm-0.11"}',
    }
    found, (note,) = experiment._against_rows(row, {}, "x")
    assert found == {} and note.startswith("server vllm-0.11, load closed:16")


def test_an_experiment_in_which_everything_ran_out_of_memory_has_a_cause(scratch):
    windows, energies = tables.read_windows("sample"), tables.read_energies("sample")
    ran = {"ran": '{"Linear(torch.float16)": 336}', "quantization": "fp16", "model": "qwen2.5-14b", "gpu": "rtx4090d"}
    windows = windows.head(3).assign(**ran, status="oom", reason="out of memory")
    tables.write_experiment("full", windows, energies.head(0))
    answer = diagnose_experiment("full")
    assert {p["name"] for p in answer["patterns"]} == {"vram_spill"} and "fault" in answer["counts"]
    assert all("oom: out of memory" in " ".join(c["notes"]) for c in answer["configurations"]) and to_markdown(answer)


def test_a_name_that_does_not_say_which_method_ran_is_no_crash(windows):
    assert remarks(windows.assign(quantization="unspecified_int8")) == []
