"""The bill: against the raw runs' own arithmetic, its intervals against closed forms, the owner's cost against hand calculation."""

import dataclasses

import numpy as np
import pytest
from scipy import stats

from eai import tables
from eai.advise import ask, site
from eai.advise import ownership as ownership_room
from eai.advise.bill import bill, draw_energy, sd_log
from eai.advise.estimate import shares
from eai.advise.evidence import Cost, cost, measure_command, spread_between_sessions
from eai.advise.markdown import to_markdown
from eai.advise.ownership import Card, break_even, ownership
from eai.advise.parameters import request
from eai.errors import UserError
from eai.predict import clean_rows
from eai.quantity import Quantity
from eai.settings import sweep

MISTRAL = {"model": "mistralai/Mistral-7B-Instruct-v0.2", "gpu": "a800", "quantization": "int8_pure"}


@pytest.fixture(scope="module")
def answer():
    return ask.estimate(**MISTRAL, requests=1_000_000)


def test_a_million_requests_come_to_what_the_raw_runs_say(answer):
    """The runs' mean energy a request (1768 J) x 1e6 / 3.6e6 is 491 kWh; the guide beside them prints a hundredth of it."""
    raw = tables.read_published("ecocompute_batch_runs")
    runs = raw.loc[raw["batch_size"] == 1, "energy_j_per_request"]
    assert len(runs) == 10
    assert answer["current"]["energy_kwh"]["value"] == pytest.approx(runs.mean() * 1e6 / 3.6e6, rel=1e-3)
    assert answer["current"]["energy_kwh"]["value"] == pytest.approx(491, abs=0.5)


def test_a_row_of_the_same_length_goes_before_one_of_the_same_name():
    """v0.1 was run with 512 tokens out, v0.2, of the same shapes, with the 256 that are asked for."""
    named = ask.estimate(model="mistralai/Mistral-7B-v0.1", gpu="a800", quantization="int8_pure", requests=1_000_000)
    assert named["current"]["energy_kwh"]["value"] == pytest.approx(491, abs=0.5)


def test_cost_and_carbon_are_energy_times_the_sites_factors(answer):
    now = answer["current"]
    assert now["cost_usd"]["value"] == pytest.approx(now["energy_kwh"]["value"] * 0.12)
    assert now["carbon_kg"]["value"] == pytest.approx(now["energy_kwh"]["value"] * 0.390)


def test_given_factors_replace_the_defaults():
    a = ask.estimate(**MISTRAL, requests=1000, pue=1.5, price=0.2, region="cn")["current"]
    energy = 6.90742 * 256 * 1000 * 1.5 / 3.6e6
    assert a["energy_kwh"]["value"] == pytest.approx(energy) and a["cost_usd"]["value"] == pytest.approx(0.2 * energy)
    assert a["carbon_kg"]["value"] == pytest.approx(0.555 * energy)


def test_every_number_leads_to_a_row_a_prediction_or_a_stated_default(answer):
    assert "ecocompute_measurements.csv:70" in answer["current"]["evidence"][0] and answer["current"]["basis"] == "published"
    assert {"pue", "price", "carbon", "boundary", "output_tokens"} <= {a["name"] for a in answer["assumptions"]}
    assert answer["optimized"]["basis"] in ("published", "predicted") and answer["optimized"]["evidence"]


def test_the_interval_is_for_another_session(answer):
    """Repeats of the configuration in other sessions of the card lie inside it; the runs' own interval does not hold them."""
    raw = tables.read_published("ecocompute_measurements")
    same = raw[raw["gpu"].str.startswith("a800") & (raw["quantization"] == "int8_pure") & (raw["batch_size"] == 1)]
    others = same[same["model"].str.startswith("mistral-7b") & same["session"].isin(("A800-2026-02-13", "A800-2026-02-26"))]
    assert len(others) == 2
    whole, runs = answer["current"]["energy_j_per_1k_tok"], answer["current"]["energy_j_per_1k_tok_runs"]
    assert others["energy_j_per_1k_tok"].between(whole["low"], whole["high"]).all()
    assert not others["energy_j_per_1k_tok"].between(runs["low"], runs["high"]).any()


def test_the_runs_interval_is_students():
    """t(9) x s / sqrt(10) of the ten raw runs, as far as the summary's rounding allows."""
    raw = tables.read_published("ecocompute_batch_runs")
    runs = raw.loc[raw["batch_size"] == 1, "energy_j_per_1k_tok"]
    half = 2.2622 * runs.std(ddof=1) / np.sqrt(10)
    c = cost(request(**MISTRAL))
    assert 1e3 * (c.runs_only.high - c.runs_only.low) / 2 == pytest.approx(half, rel=0.06)


def test_the_spread_between_sessions_is_a_pooled_standard_deviation():
    """The residual of statsmodels' one-way analysis of variance over configurations, on the same rows."""
    import statsmodels.formula.api as smf

    table = clean_rows("gross", [])
    keys = table[["gpu", "shape", "quantization"]].agg("/".join, axis=1) + table["batch_size"].astype(str)
    table = table.assign(key=keys, y=np.log(table["energy_j_per_token"]))
    repeated = table[table.groupby("key")["y"].transform("size") > 1]
    anova = smf.ols("y ~ C(key)", repeated).fit()
    sd, df = spread_between_sessions(table)
    assert sd == pytest.approx(np.sqrt(anova.mse_resid)) and df == anova.df_resid >= 8


def _exact(r, half: float) -> Cost:
    q = Quantity(1.0, np.exp(-half), np.exp(half), "J")
    return Cost(q, Quantity(10.0, 9.0, 11.0, "tok/s"), Quantity(10.0, unit="W"), "predicted", ("a test",), sd_own=half / 4)


def test_monte_carlo_reproduces_the_log_normal_interval():
    """With exact site factors the bill's interval is the energy's own, scaled."""
    r = request(**MISTRAL, requests=3_600_000, output_tokens=1000, pue=1, price=1)
    found = bill(r, _exact(r, 0.5))["cost_usd"]
    assert found["value"] == pytest.approx(1000)
    assert found["low"] == pytest.approx(1000 * np.exp(-0.5), rel=0.02) and found["high"] == pytest.approx(1000 * np.exp(0.5), rel=0.02)


def test_a_lopsided_interval_stays_lopsided_in_the_bill():
    """A prefill that is in doubt widens one side alone: kWh and J a token must not disagree about which."""
    r = request(**MISTRAL, requests=3_600_000, output_tokens=1000, pue=1, price=1)
    cost_1 = dataclasses.replace(_exact(r, 0.5), energy_j_per_token=Quantity(1.0, 0.4, 1.5, "J"))
    found = bill(r, cost_1)["energy_kwh"]
    assert (found["low"], found["value"], found["high"]) == pytest.approx((400, 1000, 1500), rel=0.02)


def _variance_of_the_log(low: float, mode: float, high: float) -> float:
    """The variance of the logarithm of a triangular figure, by integrating scipy's density."""
    triangle = stats.triang((mode - low) / (high - low), low, high - low)
    first, second = (triangle.expect(lambda x, k=k: np.log(x) ** k, epsabs=1e-10) for k in (1, 2))
    return second - first**2


@pytest.mark.parametrize("low, mode, high", [(0.0738, 0.12, 0.2391), (107, 555, 725), (1.0, 1.0, 1.1)])
def test_a_factors_spread_is_that_of_the_logarithm_of_its_draws(low, mode, high):
    """China's intensity reaches far down: on the log scale it spreads by 0.33, its standard deviation over its mode is 0.23."""
    assert site.Factor("x", mode, low, high, "", "").sd_log == pytest.approx(_variance_of_the_log(low, mode, high) ** 0.5, rel=1e-3)


@pytest.mark.parametrize("value", [1.0, 1.1, 1.3, 0.2, 0.0])
def test_a_factor_that_is_exact_spreads_by_nothing(value):
    assert site.Factor("pue", value, value, value, "", "given").sd_log == 0.0


def test_shares_of_the_width_are_shares_of_the_variance():
    r = request(**MISTRAL, pue=1.3)
    v_price, v_energy = _variance_of_the_log(0.0738, 0.12, 0.2391), (0.3 / 1.96) ** 2
    found = shares(r, _exact(r, 0.3))["cost_usd"]
    assert found["price"] == pytest.approx(v_price / (v_price + v_energy), rel=1e-3) and sum(found.values()) == pytest.approx(1)


def test_draws_share_the_common_error():
    r = request(**MISTRAL)
    rng = np.random.default_rng(1)
    common = rng.standard_normal(20_000)
    a, b = (np.log(draw_energy(_exact(r, 0.5), rng, common)) for _ in range(2))
    assert a.std() == pytest.approx(sd_log(_exact(r, 0.5).energy_j_per_token), rel=0.03)
    own, total = 0.125, 0.5 / 1.96
    assert np.corrcoef(a, b)[0, 1] == pytest.approx(1 - own**2 / total**2, abs=0.02)


def test_savings_are_the_difference_of_the_bills(answer):
    a, b = answer["current"]["energy_kwh"]["value"], answer["optimized"]["energy_kwh"]["value"]
    assert answer["savings"]["energy_kwh"]["value"] == pytest.approx(a - b)
    assert answer["savings"]["energy_fraction"]["value"] == pytest.approx(1 - b / a)
    assert answer["savings"]["energy_kwh"]["low"] > 0, "batching saves beyond doubt here"
    assert "offline work can wait" in answer["optimized_note"]


def test_own_figures_are_taken_and_carry_no_interval():
    a = ask.estimate(**MISTRAL, requests=1_000_000, energy_j_per_1k=7000, throughput=19, pue=1, price=0.1)["current"]
    assert a["energy_kwh"]["value"] == pytest.approx(7 * 256 / 3.6) and a["basis"] == "given"
    assert a["energy_kwh"]["low"] == a["energy_kwh"]["high"] and any("no interval" in w for w in a["warnings"])


def test_what_runs_today_is_told_when_its_accuracy_is_unknown():
    a = ask.estimate(model="qwen2-7b", gpu="t4", quantization="nf4")
    assert a["optimized"] is None and a["savings"] is None and "costs less than the current" in a["optimized_note"]
    assert a["current"]["accuracy"]["status"] == "unknown" and any(w.startswith("accuracy unknown") for w in a["warnings"])
    assert any("neither launch-bound" in w for w in a["warnings"]) and "- " in to_markdown(a)


def test_a_region_without_a_price_leaves_cost_empty():
    a = ask.estimate(**MISTRAL, region="de")
    assert a["current"]["cost_usd"]["value"] is None and a["current"]["carbon_kg"]["value"] > 0
    assert any("give --price" in w for w in a["warnings"])


def test_what_nobody_can_tell_is_refused_with_what_to_measure():
    with pytest.raises(UserError, match="measure it: `eai run`"):
        ask.estimate(model="mistral-7b", gpu="a800", quantization="nf4", batch_size=8)


def test_the_measure_command_is_a_sweep_that_validates():
    import yaml

    text = measure_command(request(**MISTRAL, batch_size=8))
    found = yaml.safe_load(text[text.index("{") : text.index("}") + 1])
    assert sweep(**found).quantizations == ["fp16", "int8_pure"] and found["batch_sizes"] == [8]


def test_site_factors_come_from_the_catalog():
    r = request(**MISTRAL)
    assert (site.price(r).low, site.price(r).high) == (0.0738, 0.2391) and "EIA" in site.price(r).source
    assert site.pue(request(**MISTRAL, pue=1.3)).source == "given" and site.price(dataclasses.replace(r, region="fr")) is None


def test_owning_a_card_costs_its_share_of_hours():
    """15,000 USD over 4 years at half use: 0.8556 USD an hour; 256e6 tokens at 18.97 tok/s take 3748.6 h."""
    found = ownership(request(**MISTRAL, requests=1_000_000), Card(15_000, 4, 0.5))
    assert found["card_usd"]["value"] == pytest.approx(3748.6 * 15_000 / (4 * 8766 * 0.5), rel=1e-4)
    assert found["total_usd"]["value"] == pytest.approx(found["card_usd"]["value"] + found["energy_usd"]["value"])


def test_break_even_is_where_electricity_saved_pays_the_dearer_card():
    """int8_default against fp16 on one card at a price difference of 480 USD over 4 years: 10 USD a month over the saving a request."""
    slow = request(model="mistral-7b", gpu="a800", quantization="int8_default", pue=1, price=0.1)
    fast = request(model="mistral-7b", gpu="a800", pue=1, price=0.1)
    found = break_even(slow, Card(1000), fast, Card(1480))
    saved = (cost(slow).energy_j_per_token.value - cost(fast).energy_j_per_token.value) * 256 / 3.6e6 * 0.1
    assert found["requests"]["value"] == pytest.approx(10 / saved) and found["p_crosses"] > 0.95
    assert found["requests"]["low"] < found["requests"]["value"] < found["requests"]["high"]
    none = break_even(fast, Card(1000), slow, Card(1480))
    assert none["requests"] is None and "does not save" in none["why"]


def test_both_cards_of_a_break_even_pay_the_same_price(monkeypatch):
    """Energies known exactly, 3 % apart: only the site's price is unsure, so every draw crosses, at 10 USD over the kWh saved x price."""
    energies = {"int8_default": 1.03, "fp16": 1.0}
    exact = [Quantity(value, unit="tok/s") for value in (10.0, 10.0)]
    monkeypatch.setattr(ownership_room, "cost", lambda r: Cost(Quantity(energies[r.quantization], unit="J"), *exact, "given", ()))
    slow, fast = (request(model="mistral-7b", gpu="a800", quantization=q, pue=1, region="us") for q in energies)
    found = break_even(slow, Card(1000), fast, Card(1480))
    low, high = stats.triang((0.12 - 0.0738) / (0.2391 - 0.0738), 0.0738, 0.2391 - 0.0738).ppf([0.025, 0.975])
    saved_kwh = 0.03 * 256 / 3.6e6
    assert found["p_crosses"] == 1
    assert (found["requests"]["low"], found["requests"]["high"]) == pytest.approx((10 / saved_kwh / high, 10 / saved_kwh / low), rel=0.01)


@pytest.mark.parametrize("wrong", [{"price_usd": -1}, {"price_usd": 1, "lifetime_years": 0}, {"price_usd": 1, "utilisation": 1.5}])
def test_impossible_cards_are_refused(wrong):
    with pytest.raises(UserError):
        Card(**wrong)
