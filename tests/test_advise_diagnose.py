"""Diagnoses of published figures: the three paradoxes by name with the deviation from the right rows; healthy figures are left alone."""

import json
import math

import pytest

from eai import tables
from eai.advise import ask
from eai.advise.markdown import to_markdown
from eai.errors import UserError

MISTRAL = {"model": "mistralai/Mistral-7B-Instruct-v0.2", "gpu": "a800", "input_tokens": 256}
PRINTED = tables.read_published("ecocompute_measurements")


def printed(line: int) -> dict:
    """The row that an editor shows at this line of the published table, as options."""
    row = PRINTED.iloc[line - 2]
    figures = {"throughput": row["throughput_tok_s"], "energy_j_per_1k": row["energy_j_per_1k_tok"]}
    return {k: row[k] for k in ("model", "gpu", "quantization")} | {"batch_size": int(row["batch_size"]), "input_tokens": 256} | figures


def named(answer: dict) -> dict:
    return {p["name"]: p for p in answer["patterns"] if p["named"]}


@pytest.mark.parametrize("line", [28, 31, 37, 62, 92, 97, 102])
def test_int8_with_its_default_threshold_is_named(line):
    """Printed figures of five models on two cards, net energy on one of them."""
    answer = ask.diagnose(**printed(line))
    assert list(named(answer)) == ["int8_decomposition"] and answer["verdict"] == "costly_choice"
    fixes = [f["fix"] for f in named(answer)["int8_decomposition"]["fixes"]]
    assert any(f.startswith("fp16") for f in fixes)


@pytest.mark.parametrize("line", [3, 5, 7, 25, 59])
def test_four_bits_on_a_small_model_are_named(line):
    answer = ask.diagnose(**printed(line))
    assert "small_model_4bit" in named(answer) and not any(p["kind"] == "fault" for p in named(answer).values())


def test_one_at_a_time_is_named_where_the_card_is_half_idle():
    """The batch sweep's own utilisation, 45 %, and the energy that it saved at batch 8: 84 %."""
    raw = tables.read_published("ecocompute_batch_runs")
    one, eight = (raw[raw["batch_size"] == b][["throughput_tok_s", "energy_j_per_1k_tok", "gpu_utilisation_pct"]].mean() for b in (1, 8))
    options = MISTRAL | {"quantization": "int8_pure", "throughput": one.iloc[0], "energy_j_per_1k": one.iloc[1]}
    answer = ask.diagnose(**options, utilization_pct=one.iloc[2])
    pattern = named(answer)["batch_1_waste"]
    saved = pattern["expected_improvement"]
    assert saved["low"] <= 1 - eight.iloc[1] / one.iloc[1] <= saved["high"]
    assert "batch_1_waste" not in named(ask.diagnose(**options, utilization_pct=90))
    unsaid = ask.diagnose(**options)
    assert "batch_1_waste" not in named(unsaid)
    assert {"patterns": ["batch_1_waste", "as_stated"], "would_decide": "--utilization-pct", "decides": None} in unsaid["undecided"]


def test_deviations_are_from_the_right_rows():
    """9.87 against 36.18 and 37.68 tok/s of fp16 (lines 61 and 91): their geometric mean gives -73 %, and 9608 J is +120 %."""
    pattern = named(ask.diagnose(**printed(62)))["int8_decomposition"]
    text = "\n".join(pattern["evidence"])
    pace, energy = 9.87 / math.sqrt(36.18 * 37.68) - 1, 9608 / math.sqrt(4334 * 4402.43) - 1
    assert f"{pace:+.0%}".replace("%", " %") + " against fp16 at batch 1" in text
    assert abs(energy - 1.20) < 0.01 and "+120 % against fp16 at batch 1" in text
    assert "ecocompute_measurements.csv:61, 91" in text


@pytest.mark.parametrize("line", [2, 8, 9, 29, 30, 36, 61, 64, 67, 91, 96])
def test_healthy_figures_are_not_diagnosed(line):
    """fp16 rows and the 4-bit rows of 7B models that save energy."""
    answer = ask.diagnose(**printed(line))
    assert not named(answer) and answer["verdict"] == "healthy" and answer["summary"].startswith("no known pattern")
    assert answer["measure"].startswith("measure: eai run")


def test_a_figure_outside_its_interval_is_never_called_healthy():
    """No known pattern makes a card fast at the stated energy: nothing is named, and the figure is."""
    options = {"model": "mistral-7b-instruct-v0.2", "gpu": "rtx4090d", "quantization": "fp16"}
    answer = ask.diagnose(**options, throughput=55, energy_j_per_1k=5600)
    assert [d["figure"] for d in answer["expected"] if d["outside"]] == ["throughput_tok_s"]
    assert answer["verdict"] == "undecided" and "no pattern is named" in answer["summary"]
    assert "throughput 55 tok/s is outside its 95 % expected interval [20" in answer["summary"] and "energy 5600" not in answer["summary"]
    assert ask.diagnose(**options, throughput=30, energy_j_per_1k=5600)["verdict"] == "healthy"


@pytest.mark.parametrize("throughput", [20, 25, 35, 45, 55, 65])
@pytest.mark.parametrize("energy", [3000, 4500, 6000, 9000])
def test_healthy_means_every_figure_within_its_interval(throughput, energy):
    answer = ask.diagnose(model="mistral-7b", gpu="rtx4090d", throughput=throughput, energy_j_per_1k=energy)
    outside = [d for d in answer["expected"] if not d["expected"]["low"] <= d["reported"] <= d["expected"]["high"]]
    assert answer["verdict"] != "healthy" or not outside
    assert answer["verdict"] != "undecided" or all(f"{d['reported']:.4g}" in answer["summary"] for d in outside)


def test_power_above_the_cards_limit_and_a_full_card_are_diagnosed():
    """425 W is the card's limit, 24,564 MiB are 25.76 GB: 1.3 times the one and all of the other can be read on a machine."""
    options = {"model": "mistral-7b", "gpu": "rtx4090d", "throughput": 30}
    assert ask.diagnose(**options, power_w=550)["verdict"] and ask.diagnose(**options, memory_gb=25.8)["verdict"]


def test_what_a_misspelt_name_was_taken_for_is_the_first_line():
    answer = ask.diagnose(model="mistral-7b", gpu="a8000", throughput=55)
    first, _, title, *_ = to_markdown(answer).splitlines()
    assert first == "**Warning**: 'a8000' is not in the catalog: taken as RTX A6000, the nearest of the Ampere architecture."
    assert title == "# Diagnosis"
    for question in (ask.estimate, ask.optimize, ask.compare):
        assert to_markdown(question(model="acme/Foo-7B-chat")).startswith("**Warning**: 'acme/Foo-7B-chat' is not in the catalog")
    assert to_markdown(ask.estimate(model="mistral-7b", gpu="a800")).startswith("# "), "a known alias stands for itself"


def test_a_pattern_below_the_bar_is_not_proven():
    text = to_markdown(ask.diagnose(model="mistral-7b", gpu="rtx4090d", throughput=30, energy_j_per_1k=5600))
    assert "not shown" not in text and "%, not proven" in text


def test_a_threshold_that_did_not_apply_is_a_fault():
    answer = ask.diagnose(**printed(62) | {"quantization": "int8_pure"})
    pattern = named(answer)["int8_decomposition"]
    assert pattern["kind"] == "fault" and answer["verdict"] == "fault"
    assert any("llm_int8_threshold=0.0" in f["code"] for f in pattern["fixes"])


def test_quantization_that_did_not_apply():
    answer = ask.diagnose(**printed(61) | {"quantization": "nf4"}, memory_gb=14.9)
    pattern = named(answer)["quantization_not_applied"]
    assert pattern["variant"] == "16-bit weights ran" and any("memory 14.9 GB" in e for e in pattern["evidence"])


def test_a_batch_that_never_ran():
    answer = ask.diagnose(**printed(61) | {"batch_size": 8})
    assert named(answer)["batch_not_applied"]["fixes"][0]["code"].startswith("inputs = tokenizer(prompts")


def test_printed_energy_that_is_net_is_told_by_the_power():
    """5661 J and 29.06 tok/s make 164.5 W, 181.91 W are printed: 17.4 W were taken off; the session states about 17."""
    row = printed(29)
    answer = ask.diagnose(**row, power_w=181.91)
    pattern = named(answer)["wrong_boundary"]
    assert pattern["variant"] == "idle power subtracted from the energy, not from the power"
    assert "164.5 W" in answer["contradiction"] and answer["contradiction"] in pattern["evidence"]
    without = ask.diagnose(**row)
    open_ = next(u for u in without["undecided"] if "wrong_boundary" in u["patterns"])
    assert without["verdict"] == "healthy" and open_["would_decide"] == "--power-w" and open_["decides"] > 0.8


def test_a_column_of_power_that_is_not_the_mean():
    """The dashboard prints 252 W beside the raw sweep's 19 tok/s and 6907 J, which are 131 W."""
    answer = ask.diagnose(**MISTRAL, quantization="int8_pure", throughput=19, energy_j_per_1k=6907, power_w=252)
    assert named(answer)["wrong_boundary"]["variant"] == "a peak or the power limit given as mean power"


@pytest.mark.parametrize(
    ("factor", "words"), [(1e-3, "per token"), (1e3, "1000 twice"), (1 / 3600, "watt hours"), (3.6, "too large by 3.6")]
)
def test_units(factor, words):
    row = printed(67)
    answer = ask.diagnose(**row | {"energy_j_per_1k": 628 * factor})
    pattern = named(answer)["unit_error"]
    assert words in pattern["variant"] and "it would be energy 628 J per 1000 tokens" in pattern["fixes"][0]["fix"]


def test_what_fits_nothing_is_said_to_fit_nothing():
    """The batch guide's 14.16 J a request beside its own 18.09 tok/s: no confusion of units explains a factor of 52."""
    answer = ask.diagnose(**MISTRAL, output_tokens=128, quantization="int8_pure", throughput=18.09, energy_j_per_request=14.16)
    assert answer["verdict"] == "unknown" and "measure" in answer["summary"] and answer["probabilities"]["none_of_these"] > 0.5


def test_three_figures_that_no_cause_reconciles_are_a_finding():
    answer = ask.diagnose(**printed(61), power_w=20)
    assert "contradicting_figures" in named(answer) and "-87" not in answer["verdict"]
    assert "but 20 W are reported" in answer["summary"]


def test_a_model_that_does_not_fit_spills():
    """Qwen2.5-14B in fp16 takes 30 GB: on a 24 GB card the rest crosses PCIe."""
    options = {"model": "qwen2.5-14b", "gpu": "rtx4090d", "input_tokens": 256, "memory_gb": 24.5}
    pattern = named(ask.diagnose(**options, throughput=1.6, energy_j_per_1k=60_000))["vram_spill"]
    assert any("int8_pure at batch 1 fits" in f["fix"] for f in pattern["fixes"])


def test_a_power_limit_that_is_reached():
    """Half the pace at less than half the power, at the limit and hot: the clocks, not the host."""
    row = printed(67) | {"throughput": 150, "energy_j_per_1k": 500, "power_w": 75}
    answer = ask.diagnose(**row, power_limit_w=75, temperature_c=88)
    assert "power_cap_or_throttle" in named(answer)
    waiting = ask.diagnose(**printed(67) | {"throughput": 80, "energy_j_per_1k": 1250}, power_w=100, utilization_pct=25)
    assert "cpu_bound" in named(waiting)


def test_what_the_answer_carries():
    answer = ask.diagnose(**printed(62), power_w=94.78)
    assert set(answer) >= {"patterns", "verdict", "probabilities", "expected", "undecided", "measure", "assumptions", "warnings"}
    assert sum(answer["probabilities"].values()) == pytest.approx(1)
    for p in answer["patterns"]:
        assert set(p) >= {"name", "confidence", "evidence", "fixes", "root_cause", "verification", "expected_improvement"}
        assert 0 <= p["confidence"] <= 1 and p["evidence"] and p["verification"]
        for fix in p["fixes"]:
            impact = fix["expected_impact"]
            assert impact is None or set(impact) == {"value", "low", "high", "unit"}
    assert {"prior of as_stated", "output_tokens"} <= {a["name"] for a in answer["assumptions"]}
    assert json.loads(json.dumps(answer)) == answer
    text = to_markdown(answer)
    assert "# Diagnosis" in text and "int8_decomposition" in text and "Verify:" in text


def test_a_strategy_that_no_row_compares_is_said_to_be_untold():
    answer = ask.diagnose(**MISTRAL, quantization="awq", throughput=30, energy_j_per_1k=4000)
    assert any("whether awq costs more than fp16 here cannot be told" in w for w in answer["warnings"])


def test_threshold_zero_is_never_advised_without_a_word_on_accuracy():
    fixes = named(ask.diagnose(**printed(62)))["int8_decomposition"]["fixes"]
    pure = next(f for f in fixes if f["fix"].startswith("int8_pure"))
    assert "perplexity" in pure["accuracy"]["note"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "no reported figure"),
        ({"power_w": 100}, "no reported figure"),
        ({"throughput": -1}, "throughput -1"),
        ({"throughput": "fast"}, "throughput fast"),
        ({"throughput": True}, "throughput True"),
        ({"throughput": math.inf}, "throughput inf"),
        ({"energy_j_per_1k": 0}, "energy_j_per_1k 0"),
        ({"throughput": 10, "power_w": 0}, "power_w 0"),
        ({"throughput": 10, "utilization_pct": 101}, "utilization_pct 101"),
        ({"throughput": 10, "temperature_c": 400}, "temperature_c 400"),
        ({"energy_j_per_1k": 4000, "energy_j_per_request": 4000}, "1024 J a request"),
        ({"throughput": 1.1e6}, "at most 1000000 tok/s"),
        ({"throughput": 10, "gpu": "rtx4090d", "memory_gb": 16_384}, "at most the card's 25.8 GB; give GB (not MiB)"),
        ({"throughput": 10, "gpu": "rtx4090d", "power_w": 4000}, "power_w 4000 on one GeForce RTX 4090 D; expected at most 925 W"),
        ({"throughput": 10, "gpu": "abacus"}, "unknown gpu 'abacus'"),
        ({"throughput": 10, "quantization": "int8"}, "int8_default or int8_pure"),
        ({"throughput": 10, "joules": 3}, "unknown parameter 'joules'"),
    ],
)
def test_bad_input_is_one_line(options, words):
    with pytest.raises(UserError) as error:
        ask.diagnose(**MISTRAL | options)
    assert words in str(error.value) and "\n" not in str(error.value)
