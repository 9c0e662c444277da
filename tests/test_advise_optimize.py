"""Rankings and comparisons: they flip where the rows say so, never recommend an unknown accuracy, and every answer is JSON and Markdown."""

import json

import numpy as np
import pytest

from eai import tables
from eai.advise import ask
from eai.advise.accuracy import accuracy, perplexities
from eai.advise.compare import session_ratios
from eai.advise.crossover import crossovers, ratios
from eai.advise.evidence import Cost
from eai.advise.markdown import quantity, to_markdown
from eai.advise.optimize import fill_s, probabilities
from eai.advise.parameters import request
from eai.errors import UserError
from eai.quantity import Quantity

EXAMPLES = [
    {"model_id": "mistralai/Mistral-7B-Instruct-v0.2"},
    {"model_id": "Qwen/Qwen2-7B", "hardware_platform": "a800", "batch_size": 16, "quantization": "fp16"},
    {"model_id": "meta-llama/Llama-3-8B", "hardware_platform": "h100", "quantization": "int8_pure", "batch_size": 32}
    | {"sequence_length": 1024, "generation_length": 512},
]


def rows_of(answer) -> dict:
    return {e["quantization"]: e for e in answer["rows"]}


@pytest.mark.parametrize("example", EXAMPLES, ids=("defaults", "a800", "h100"))
@pytest.mark.parametrize("command", ["optimize", "compare", "estimate"])
def test_each_example_gets_a_complete_answer(example, command):
    answer = getattr(ask, command)(**example)
    text = json.dumps(answer, allow_nan=False)
    assert json.loads(text) == answer
    markdown = to_markdown(answer)
    assert markdown.startswith("# ") and "Assumptions" in markdown and "nan" not in markdown.lower().split()
    for entry in answer.get("ranking", []) + answer.get("rows", []):
        assert entry["basis"] in ("measured", "published", "predicted") and entry["evidence"] and entry["energy_j_per_1k_tok"]["low"] > 0


def test_all_sections_of_the_protocol_are_there():
    text = to_markdown(ask.optimize(**EXAMPLES[0]))
    sections = (
        "# Recommended configuration",
        "## Performance",
        "## Energy",
        "## Cost and carbon",
        "## Why this",
        "## Optimization insights",
    )
    for title in (*sections, "## Pitfalls", "## Measurement transparency"):
        assert title in text, title


def test_an_unknown_accuracy_is_never_recommended_in_silence():
    for options in ({"model": "qwen2-7b", "gpu": "rtx5090"}, *EXAMPLES):
        answer = ask.optimize(**options)
        assert answer["recommended"]["accuracy"]["acceptable"]
        for entry in answer["ranking"]:
            if not entry["accuracy"]["acceptable"]:
                assert any(w.startswith("accuracy ") for w in entry["warnings"])


def test_a_cheaper_configuration_of_unknown_accuracy_is_named_and_not_recommended():
    """Batch 1 alone (a thousand requests a month fill no batch): NF4 on Qwen2-7B is cheaper, and nobody measured what it answers."""
    answer = ask.optimize(model="qwen2-7b", gpu="rtx5090", requests=1000, max_latency_s=7)
    assert answer["ranking"][0]["configuration"]["quantization"] == "nf4" and not answer["ranking"][0]["accuracy"]["acceptable"]
    assert answer["recommended"]["configuration"]["quantization"] == "fp16"
    assert "nf4 at batch 1 would cost 11% less, but its accuracy is unknown" in answer["why"]


def test_broken_accuracy_is_told_from_the_rows():
    """Pure INT8 on Yi-1.5-6B: perplexity 13.997 against 11.164 in one session, +25 %."""
    r = request(model="yi-1.5-6b", quantization="int8_pure")
    found = accuracy(r)
    assert found.status == "perplexity" and not found.acceptable
    assert found.perplexity_change == pytest.approx(13.9972 / 11.1639 - 1)
    assert accuracy(r.with_(quantization="int8_default")).acceptable and accuracy(r.with_(quantization="fp16")).status == "reference"
    assert accuracy(request(model="qwen2-1.5b", quantization="nf4")).status == "unknown"


def test_perplexities_that_contradict_themselves_are_left_out():
    """Yi-1.5-9B's unquantized perplexity is 16 % above its quantized ones: taken otherwise, so no pair of that session counts."""
    raw = tables.read_published("ecocompute_measurements")
    yi = raw[(raw["session"] == "A800-2026-02-26") & (raw["model"] == "yi-1.5-9b")].set_index("quantization")["perplexity"]
    assert yi["fp16"].max() > 1.1 * yi["int8_pure"]
    assert "yi-1.5-9b" not in set(perplexities()["model"]) and {"mistral-7b-v0.1", "qwen2.5-14b"} <= set(perplexities()["model"])


def test_a_floor_of_accuracy_leaves_the_unquantized():
    answer = ask.optimize(model="mistral-7b", gpu="a800", min_accuracy=0.99)
    assert answer["recommended"]["configuration"]["quantization"] == "fp16"
    assert not any(e["accuracy"]["acceptable"] for e in answer["ranking"] if e["configuration"]["quantization"] != "fp16")


def test_nf4_flips_with_the_models_size():
    """RTX 5090: +29 % on 1.5 B (shown), -14 % on 7 B, both ratios within one session."""
    small, large = (rows_of(ask.compare(model=m, gpu="rtx5090"))["nf4"]["ratio_to_baseline"] for m in ("qwen2-1.5b", "qwen2-7b"))
    assert small["value"] == pytest.approx(3120.49 / 2411.09, rel=0.01) and small["low"] > 1
    assert large["value"] == pytest.approx(np.sqrt(4877.88 / 5508.56 * 4493 / 5330), rel=0.01) and large["value"] < 1


def test_nf4_on_phi_3_depends_on_the_accounting():
    """The printed -8 % is net of idle; gross it saves nothing."""
    gross, net = (ratios("rtx4090d", "nf4", kind).set_index("shape")["ratio"].filter(like="phi3").iloc[0] for kind in ("gross", "net"))
    assert net == pytest.approx(2759 / 3003, rel=1e-3) and gross == pytest.approx(72.9 / 20.12 / (105.17 / 29.19), rel=1e-3)
    assert net < 0.93 and gross > 1


def test_the_crossover_of_nf4_lies_at_another_size_on_another_card():
    size = {
        gpu: next(c["params"] for c in crossovers(gpu) if c["quantization"] == "nf4" and c["accounting"] == "gross")
        for gpu in ("rtx5090", "rtx4090d")
    }
    assert size["rtx4090d"]["value"] < size["rtx5090"]["value"]
    for gpu, q in size.items():
        table = ratios(gpu, "nf4")
        assert (table.loc[table["params_b"] < q["low"], "ratio"] > 1).all() and (
            table.loc[table["params_b"] > q["high"], "ratio"] < 1
        ).all()


def test_int8_decomposition_is_a_paradox_from_the_rows():
    answer = ask.compare(model="mistral-7b", gpu="a800")
    ratio = rows_of(answer)["int8_default"]["ratio_to_baseline"]
    assert ratio["low"] > 1.5 and any("int8_default" in p and "(shown)" in p and "lower power" in p for p in answer["paradoxes"])
    assert rows_of(answer)["int8_pure"]["ratio_to_baseline"]["value"] > 1.3, "pure INT8 saves nothing on this card"


def test_ratios_are_taken_within_sessions():
    """Yi-9B on the A800 stands in one session: NF4 over FP16 there is 5363 / 5445."""
    found = session_ratios(request(model="yi-1.5-9b", gpu="a800", quantization="nf4"))
    assert found == {"A800-2026-02-26": pytest.approx(5363.07 / 5445.12, rel=1e-6)}


def test_batch_is_the_first_lever():
    """The raw runs: -95.7 % from batch 1 to 64."""
    answer = ask.optimize(model="mistral-7b-instruct-v0.2", gpu="a800", input_tokens=256)
    by = {(e["configuration"]["quantization"], e["configuration"]["batch_size"]): e["energy_j_per_1k_tok"] for e in answer["ranking"]}
    assert by["int8_pure", 64]["value"] / by["int8_pure", 1]["value"] == pytest.approx(1 - 0.957, abs=0.001)


def test_where_no_row_reaches_the_answer_is_to_measure():
    answer = ask.compare(model="mistral-7b", gpu="a800", batch_size=16)
    assert {x["quantization"] for x in answer["not_told"]} == {"nf4", "nf4_dq"}
    assert all("measure it: `eai run`" in x["reason"] for x in answer["not_told"]) and answer["measure"].startswith("measure: eai run")


def test_limits_exclude_with_the_reason():
    answer = ask.optimize(model="mistral-7b", gpu="a800", max_latency_s=8)
    assert all(e["latency_s"]["value"] <= 8 for e in answer["ranking"])
    assert any("a request takes" in x["reason"] for x in answer["excluded"])
    with pytest.raises(UserError, match="can be told"):
        ask.optimize(model="mistral-7b", gpu="a800", max_latency_s=0.01)


def test_a_batch_takes_time_to_fill():
    """A million a month is 0.38 a second: the first of 64 waits for 63 others."""
    assert fill_s(1_000_000, 64) == pytest.approx(63 / (1e6 / (30.4375 * 86_400)))
    answer = ask.optimize(model="mistral-7b", gpu="a800", requests=1_000_000, max_latency_s=30)
    assert max(e["configuration"]["batch_size"] for e in answer["ranking"]) == 8


def test_what_does_not_fit_is_left_out():
    answer = ask.optimize(model="qwen2.5-14b", gpu="rtx4090d")
    assert not any(e["configuration"]["quantization"] == "fp16" for e in answer["ranking"])
    assert any("does not fit" in x["reason"] for x in answer["excluded"])


def test_volta_gets_no_int8():
    answer = ask.compare(model="mistral-7b", gpu="v100")
    assert "int8_pure" in {x["quantization"] for x in answer["not_told"]}


def _cost(value: float, sd: float) -> Cost:
    return Cost(Quantity(value, unit="J"), Quantity(1.0, unit="tok/s"), Quantity(1.0, unit="W"), "predicted", (), sd_own=sd)


def test_probabilities_of_being_best():
    """Two configurations whose logs differ by one standard error of the difference: Phi(1) = 0.841 (t at 30 is close)."""
    sd = 0.1
    p = probabilities([_cost(1.0, sd), _cost(float(np.exp(np.sqrt(2) * sd)), sd)])
    assert p[0] == pytest.approx(0.841, abs=0.02) and p.sum() == pytest.approx(1)
    assert probabilities([_cost(1.0, 0.01), _cost(2.0, 0.01)])[0] == 1.0


def test_markdown_of_quantities():
    assert quantity({"value": 1.234, "low": 1.1, "high": 1.4, "unit": "kWh"}) == "1.23 [1.1, 1.4] kWh"
    assert quantity({"value": None, "low": None, "high": None, "unit": "USD"}) == quantity(None) == "-"
    with pytest.raises(ValueError):
        to_markdown({"neither": 1})
