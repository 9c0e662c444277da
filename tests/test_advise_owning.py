"""What was read of power and utilisation, and what owning a card costs, as the command line asks for them."""

import json
import sys

import pytest

from eai import tables
from eai.advise import ask
from eai.advise.markdown import to_markdown
from eai.advise.observed import observed
from eai.advise.parameters import request
from eai.cli import main
from eai.errors import UserError

MISTRAL = {"model": "mistral-7b-instruct-v0.2", "gpu": "rtx4090d", "input_tokens": 256, "pue": 1.0, "price": 0.1}


def test_power_and_utilisation_are_those_of_the_raw_runs():
    raw = tables.read_published("ecocompute_batch_runs")
    runs = raw[raw["batch_size"] == 16]
    found = observed(request(model="mistral-7b-instruct-v0.2", gpu="a800", quantization="int8_pure", batch_size=16))
    assert found["n"] == len(runs) == 10 and found["rows"] == "ecocompute_batch_runs.csv"
    assert (found["power_min_w"], found["power_max_w"]) == (runs["power_w"].min(), runs["power_w"].max())
    assert found["power_mean_w"] == pytest.approx(runs["power_w"].mean())
    assert found["utilization_mean_pct"] == pytest.approx(76.776, abs=1e-3)


def test_what_nobody_read_is_left_empty():
    plain = observed(request(model="qwen2.5-14b", gpu="a800"))
    assert plain["power_mean_w"] == pytest.approx(218.606) and plain["utilization_mean_pct"] is None
    assert observed(request(model="qwen2-7b", gpu="h100")) is None


def test_the_ranking_shows_what_was_read():
    answer = ask.optimize(model="qwen2.5-14b", gpu="a800", input_tokens=256)
    row = next(e for e in answer["ranking"] if e["configuration"]["batch_size"] == 1 and e["configuration"]["quantization"] == "fp16")
    assert row["observed"]["power_max_w"] == 223.13
    text = to_markdown({**answer, "recommended": row})
    assert "power read, min to max" in text and "219 (215 to 223) W" in text and "utilisation, min to max" in text


def test_owning_a_card_beside_another():
    """1600 USD over 4 years at half use: 0.09126 USD an hour; both cards at the published fp16 rows."""
    answer = ask.estimate(**MISTRAL, gpu_price=1600, other_gpu="a800", other_gpu_price=2000)
    own, crossing = answer["ownership"], answer["break_even"]
    hours = 256e6 / 29.06 / 3600
    assert own["card_hours"]["value"] == pytest.approx(hours, rel=1e-3)
    assert own["card_usd"]["value"] == pytest.approx(hours * 1600 / (4 * 8766 * 0.5), rel=1e-3)
    joules = [x["energy_usd"]["value"] * 3.6e6 / 0.1 / 256e6 for x in (own, crossing["other"])]
    expected = (400 / 48) / ((joules[0] - joules[1]) * 256 / 3.6e6 * 0.1)
    assert joules[0] == pytest.approx(6.26, rel=1e-3) and crossing["requests"]["value"] == pytest.approx(expected)
    assert crossing["served"][0] == pytest.approx(1e6 * 730.5 / hours, rel=1e-3)
    text = to_markdown(answer)
    assert "## Owning the card" in text and "one card of each serves" in text


def test_a_card_that_stands_for_another_is_said_to():
    other = ask.estimate(model="qwen2-1.5b", gpu="a800", gpu_price=9000, other_gpu="a100", other_gpu_price=1000)["break_even"]["other"]
    assert any("a100" in w.lower() for w in other["warnings"])


def test_nothing_is_owned_unless_asked():
    answer = ask.estimate(**MISTRAL)
    assert answer["ownership"] is None and answer["break_even"] is None and "Owning" not in to_markdown(answer)
    assert ask.estimate(**MISTRAL, gpu_price=1600)["break_even"] is None


@pytest.mark.parametrize(
    ("owning", "words"),
    [
        ({"lifetime_years": 3}, "without the price"),
        ({"gpu_price": 1600, "other_gpu": "a800"}, "both, or none"),
        ({"gpu_price": 1600, "other_gpu_price": 5}, "both, or none"),
        ({"gpu_price": -1}, "card price -1"),
        ({"gpu_price": 1600, "card_utilisation": 2}, "share in"),
        ({"gpu_price": 1600, "other_gpu": "abacus", "other_gpu_price": 5}, "abacus"),
    ],
)
def test_bad_terms_are_one_line(owning, words):
    with pytest.raises(UserError) as error:
        ask.estimate(**MISTRAL, **owning)
    assert words in str(error.value)


def test_a_card_that_cannot_run_it_is_refused():
    with pytest.raises(UserError, match="does not fit"):
        ask.estimate(model="qwen2.5-14b", gpu="a800", gpu_price=1, other_gpu="rtx4090d", other_gpu_price=1)
    with pytest.raises(UserError, match="capability"):
        ask.estimate(model="qwen2-7b", gpu="a800", quantization="int8_pure", gpu_price=1, other_gpu="v100", other_gpu_price=1)


def test_the_options_stand_on_the_command_line(monkeypatch, capsys):
    model = ["--model", "mistral-7b-instruct-v0.2", "--gpu", "a800", "--gpu-price", "15000", "--lifetime-years", "3", "--json"]
    monkeypatch.setattr(sys, "argv", ["eai", "estimate", *model])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert not stopped.value.code
    assert json.loads(capsys.readouterr().out)["ownership"]["total_usd"]["value"] > 0
