"""The bill: against the raw runs' own arithmetic, its intervals against closed forms, the owner's cost against hand calculation."""

import numpy as np
import pandas as pd
import pytest
from planted_costs import planted  # noqa: F401
from scipy import stats

from eai import catalog, tables
from eai.advise import commands as ask
from eai.advise import evidence
from eai.advise.compare import shares
from eai.advise.evidence import Cost, cost, session_spread
from eai.advise.month import EMBODIED, LIFETIME, SERVER, card_hour, draw_energy, work
from eai.advise.request import request
from eai.errors import UserError
from eai.quantity import Quantity

MISTRAL = {"model": "mistralai/Mistral-7B-Instruct-v0.2", "gpu": "a800", "quantization": "int8_pure", "input_tokens": 256}


@pytest.fixture(scope="module")
def answer():
    return ask.estimate(**MISTRAL)


def test_a_million_requests_come_to_what_the_raw_runs_say(answer):
    """The runs' mean energy per request (1768 J) x 1e6 / 3.6e6 is 491 kWh; the guide beside them prints a hundredth of it."""
    raw = tables.read_published("ecocompute_batch_runs")
    runs = raw.loc[raw["batch_size"] == 1, "energy_j_per_request"]
    assert len(runs) == 10
    assert answer["current"]["energy_kwh"]["value"] == pytest.approx(runs.mean() * 1e6 / 3.6e6, rel=1e-3)


def test_cost_and_carbon_are_energy_times_the_sites_factors(answer):
    now = answer["current"]
    assert now["cost_usd"]["value"] == pytest.approx(now["energy_kwh"]["value"] * 0.12)
    assert now["carbon_kg"]["value"] == pytest.approx(now["energy_kwh"]["value"] * 0.390)


def test_the_machine_draws_more_than_its_boards(answer):
    """An A800 in a server: 230 W of everything else a GPU, a supply of 94 %."""
    now = answer["current"]
    assert now["wall_w"]["value"] == pytest.approx((now["power_w"]["value"] + 230) / 0.94)
    assert now["wall_w"]["low"] < now["wall_w"]["value"] < now["wall_w"]["high"]


def test_own_measurements_come_first_and_correct_the_others(tmp_path):
    """One's own row of a 7 B model on an L40S: it is cited, and a 3 B model on that card, never measured, moves with it."""
    names = {"gpu": "l40s", "model": "mistralai/Mistral-7B-v0.1", "weights": "published", "quantization": "fp16", "options": "{}"}
    numbers = {"batch_size": 1, "input_tokens": 256, "output_tokens": 256, "n_blocks": 5, "power_mean_w": 260.0}
    energy = {"energy_j_per_token": 5.2, "energy_j_per_token_abs_low": 5.1, "energy_j_per_token_abs_high": 5.3}
    rate = {"throughput_tok_s": 50.0, "throughput_tok_s_low": 49.0, "throughput_tok_s_high": 51.0}
    status = {"basis": "measured", "boundary": "gpu", "energy_kind": "gross", "gate": "ok"}
    folder = tmp_path / "my-experiment"
    folder.mkdir()
    pd.DataFrame([names | numbers | energy | rate | status]).to_csv(folder / "summary.csv", index=False)
    asked = {"model": names["model"], "gpu": "l40s", "quantization": "fp16", "input_tokens": 256}
    other = asked | {"model": "Qwen/Qwen2.5-3B-Instruct"}
    strange, before = (ask.estimate(**q)["current"] for q in (asked, other))
    try:
        own, after = (ask.estimate(**q, evidence=[str(folder)])["current"] for q in (asked, other))
    finally:
        evidence.use([])
    assert (strange["basis"], own["basis"]) == ("predicted", "measured") and own["energy_j_per_token"]["value"] == pytest.approx(5.2)
    assert after["throughput_tok_s"]["value"] > 1.15 * before["throughput_tok_s"]["value"], "this host is faster than a stranger's"
    width = lambda c: c["energy_j_per_token"]["high"] / c["energy_j_per_token"]["low"]  # noqa: E731
    assert width(after) < 0.85 * width(before) and any("1 own rows: step x 0." in e for e in after["evidence"])
    assert ask.estimate(**other)["current"]["energy_j_per_token"] == before["energy_j_per_token"], "the next question has them no more"


def test_given_factors_replace_the_defaults():
    a = ask.estimate(**MISTRAL, requests=1000, pue=1.5, price=0.2, region="cn")["current"]
    energy = 6.90742 * 256 * 1000 * 1.5 / 3.6e6
    assert a["energy_kwh"]["value"] == pytest.approx(energy) and a["cost_usd"]["value"] == pytest.approx(0.2 * energy)
    assert a["carbon_kg"]["value"] == pytest.approx(0.555 * energy)


def test_the_contract_of_what_runs_now_and_better(answer):
    for side in (answer["current"], answer["optimized"]):
        assert {
            "configuration",
            "energy_kwh",
            "cost_usd",
            "carbon_kg",
            "energy_j_per_token",
            "throughput_tok_s",
            "itl_s",
            "power_w",
        } <= set(side)
        assert {"basis", "kind", "stated_error"} <= set(side)
    assert answer["request"]["requests_a_day"] == pytest.approx(1e6 * 12 / 365.25)
    assert {"pue", "price", "carbon", "boundary", "output_tokens"} <= {a["name"] for a in answer["assumptions"]}


def test_the_interval_holds_other_sessions(answer):
    """Repeats of the configuration in other sessions of the card lie inside it."""
    raw = tables.read_published("ecocompute_measurements")
    same = raw[raw["gpu"].str.startswith("a800") & (raw["quantization"] == "int8_pure") & (raw["batch_size"] == 1)]
    others = same[same["model"].str.startswith("mistral-7b") & same["session"].isin(("A800-2026-02-13", "A800-2026-02-26"))]
    whole = answer["current"]["energy_j_per_1k_tok"]
    assert len(others) == 2 and others["energy_j_per_1k_tok"].between(whole["low"], whole["high"]).all()


def test_the_spread_between_sessions_is_a_pooled_standard_deviation():
    """The residual of statsmodels' one-way analysis of variance of log(energy / predicted) over configurations repeated in other
    sources."""
    import statsmodels.formula.api as smf

    from eai.predict import predict

    table = evidence.rows()
    table = table[(table["doubt"] == "") & (table.groupby(evidence.KEYS)["source"].transform("nunique") > 1)]
    expected = predict(table[["gpu", "num_gpus", "model", "quantization", "engine", "batch_size", "input_tokens", "output_tokens"]])
    table = table.assign(y=np.log(table["energy_j_per_token"].to_numpy() / expected["energy_j_per_token"].to_numpy()))
    means = table.groupby([*evidence.KEYS, "source"])["y"].mean().reset_index()
    means = means.assign(key=means[evidence.KEYS].astype(str).agg("/".join, axis=1))
    anova = smf.ols("y ~ C(key)", means).fit()
    sd, df = session_spread()
    assert sd == pytest.approx(np.sqrt(anova.mse_resid)) and df == anova.df_resid >= 5 and 0.02 < sd < 0.25


def test_levers_add_up_to_the_whole(planted):  # noqa: F811
    a = ask.estimate(model="qwen2-7b", gpu="a100_pcie_80gb", quantization="int8_default")
    assert {x["lever"] for x in a["levers"]} >= {"batch"} and len(a["levers"]) >= 2
    saved = a["current"]["energy_kwh"]["value"] - a["optimized"]["energy_kwh"]["value"]
    assert sum(x["kwh"] for x in a["levers"]) == pytest.approx(saved)
    assert np.prod([1 - x["energy_fraction"] for x in a["levers"]]) == pytest.approx(1 - a["savings"]["energy_fraction"]["value"])


def test_another_card_is_a_lever_of_its_own(planted):  # noqa: F811
    a = ask.estimate(model="qwen2-7b", gpu="v100,l4", quantization="fp16", batch_size=8, engine="vllm")
    assert any("card" in x["lever"] and "V100" in x["change"] and "L4" in x["change"] for x in a["levers"])


def test_savings_are_the_difference_of_the_bills(planted):  # noqa: F811
    a = ask.estimate(model="qwen2-7b", gpu="a100_pcie_80gb")
    x, y = a["current"]["energy_kwh"]["value"], a["optimized"]["energy_kwh"]["value"]
    assert a["savings"]["energy_kwh"]["value"] == pytest.approx(x - y) and a["savings"]["energy_kwh"]["low"] > 0
    assert a["savings"]["energy_fraction"]["value"] == pytest.approx(1 - y / x)


def test_the_better_plan_is_the_one_that_optimize_recommends(planted):  # noqa: F811
    where = {"model": "qwen2-7b", "gpu": "a100_pcie_80gb", "requests_per_hour": 3000, "latency_p95": 20}
    assert ask.estimate(**where)["optimized"]["configuration"] == ask.optimize(**where)["recommended"]["configuration"]


def test_a_server_that_the_rate_cannot_fill_says_what_it_really_takes():
    where = {"model": "Qwen/Qwen2.5-7B-Instruct", "gpu": "rtx4090", "quantization": "fp16", "engine": "vllm", "batch_size": 64}
    current = ask.estimate(**where, requests=1_000_000)["current"]
    # Little's law: 0.38 requests per second, each some 4 to 6 s, and a step of few sequences costs about what one of 64 does
    assert 1 < current["at_rate"]["in_flight"] < 4
    assert 5 < current["at_rate"]["energy_kwh"]["value"] / current["energy_kwh"]["value"] < 20
    assert ask.estimate(**where, requests=1_000_000, use="offline")["current"]["at_rate"] is None, "bulk fills every slot"
    busy = ask.estimate(**where, requests=100_000_000)["current"]
    assert busy["at_rate"]["energy_kwh"]["value"] < 2 * busy["energy_kwh"]["value"], "at a hundred times the rate little is left to fill"


def test_the_batch_and_engine_that_run_today_bind_no_better_plan():
    where = {"model": "Qwen/Qwen2.5-7B-Instruct", "gpu": "rtx4090", "requests": 1_000_000}
    a = ask.estimate(**where, quantization="fp16", batch_size=1, engine="transformers")
    assert a["current"]["configuration"]["batch_size"] == 1 and a["current"]["configuration"]["engine"] == "transformers"
    assert a["optimized"]["configuration"] == ask.optimize(**where)["recommended"]["configuration"]
    assert a["savings"]["energy_fraction"]["value"] > 0.2, "one request at a time is the costliest case"


def test_own_figures_need_no_model():
    """1e6 requests x 256 tokens x 0.3938 J = 28.0 kWh."""
    a = ask.estimate(energy_j_per_1k=393.8, throughput=809.47, pue=1, price=0.1)
    assert a["current"]["energy_kwh"]["value"] == pytest.approx(1e6 * 256 * 0.3938 / 3.6e6)
    assert a["current"]["cards"]["hours"]["value"] == pytest.approx(256e6 / 809.47 / 3600) and a["optimized"] is None
    assert any("no interval" in w for w in a["warnings"])
    unknown = ask.estimate(
        model="openai/gpt-oss-20b", params_b=20.9, active_params_b=3.6, gpu="a100", batch_size=8, energy_j_per_1k=393.8, throughput=809
    )
    assert unknown["current"]["energy_kwh"]["value"] == pytest.approx(28.0, rel=0.01)


def test_a_region_without_a_price_leaves_cost_empty():
    a = ask.estimate(**MISTRAL, region="de")
    assert a["current"]["cost_usd"]["value"] is None and a["current"]["carbon_kg"]["value"] > 0
    assert any("give --price" in w for w in a["warnings"])


def _exact(half: float, low: float | None = None, high: float | None = None) -> Cost:
    q = Quantity(1.0, low or np.exp(-half), high or np.exp(half), "J")
    exact = Quantity(10.0, unit="tok/s")
    return Cost(
        q,
        Quantity(10.0, unit="W"),
        exact,
        Quantity(0.1, unit="s"),
        "predicted",
        "known",
        ("a test",),
        sd_own=half / 4,
        sd_shared=half / 1.96 * 0.86,
    )


def test_monte_carlo_reproduces_the_log_normal_interval():
    rng = np.random.default_rng(1)
    draws = catalog.drawn(Quantity(1.0, np.exp(-0.5), np.exp(0.5)), rng.standard_normal(20_000))
    point = catalog.bill(3.6e9, 3.6e9 * draws, catalog.Site("us", 1.0, 1.0), rng)
    found = point["cost_usd"]
    assert found.value == pytest.approx(1000)
    assert (found.low, found.high) == pytest.approx((1000 * np.exp(-0.5), 1000 * np.exp(0.5)), rel=0.03)


def _variance_of_the_log(low: float, mode: float, high: float) -> float:
    """The variance of the logarithm of a triangular figure, by integrating scipy's density."""
    triangle = stats.triang((mode - low) / (high - low), low, high - low)
    first, second = (triangle.expect(lambda x, k=k: np.log(x) ** k, epsabs=1e-10) for k in (1, 2))
    return second - first**2


@pytest.mark.parametrize("low, mode, high", [(0.0738, 0.12, 0.2391), (107, 555, 725), (1.0, 1.0, 1.1)])
def test_a_factors_spread_is_that_of_the_logarithm_of_its_draws(low, mode, high):
    assert catalog.Factor("x", mode, low, high, "", "").sd_log == pytest.approx(_variance_of_the_log(low, mode, high) ** 0.5, rel=1e-3)


def test_shares_of_the_width_are_shares_of_the_variance():
    r = request(**MISTRAL, pue=1.3)
    v_price, v_energy = _variance_of_the_log(0.0738, 0.12, 0.2391), (0.3 / 1.96) ** 2
    found = shares(r, _exact(0.3))["cost_usd"]
    assert found["price"] == pytest.approx(v_price / (v_price + v_energy), rel=1e-3) and sum(found.values()) == pytest.approx(1)


def test_draws_share_the_common_error():
    """The correlation of two predictions of one card is the shared part of their variance."""
    rng = np.random.default_rng(1)
    k, common = _exact(0.5), rng.standard_normal(catalog.DRAWS)
    a, b = (np.log(draw_energy(k, rng, common)) for _ in range(2))
    assert a.std() == pytest.approx(0.5 / 1.96, rel=0.05)
    assert np.corrcoef(a, b)[0, 1] == pytest.approx(k.sd_shared**2 / (k.sd_own**2 + k.sd_shared**2), abs=0.03)


def test_cards_and_their_idle_hours():
    """256e6 tokens at 18.97 tok/s are 3,749 h: seven cards at 80 % of 730.5 h, and 1,365 h of waiting."""
    r = request(**MISTRAL, requests=1_000_000)
    done = work(r, r.now, cost(r.now))
    assert done.boards == 7 and done.busy_hours == pytest.approx(3748.6, rel=1e-3)
    idle_w = evidence.idle_w(r.now.gpu).value
    assert done.idle.value == pytest.approx((7 * 730.5 - 3748.6) * 3600 * idle_w, rel=1e-3)
    loose = work(request(**MISTRAL), r.now, cost(r.now))
    assert loose.boards == 6 and loose.idle.value == 0, "without a rate only the hours worked count"


def test_owning_and_renting_a_card():
    """15,000 USD over 4 years at half use: 0.8556 USD a worked hour; kept all month 0.4278; rent as the catalog has it or as given."""
    r = request(**MISTRAL, gpu_price=15_000)
    assert card_hour(r, r.now)[0].value == pytest.approx(15_000 / (4 * 8766 * 0.5))
    served = request(**MISTRAL, gpu_price=15_000, requests=1000)
    assert card_hour(served, served.now)[0].value == pytest.approx(15_000 / (4 * 8766))
    rented = request(model="qwen2-7b", gpu="l40s")
    q, how = card_hour(rented, rented.now)
    assert (q.low, q.value, q.high) == (0.79, 0.79, 1.50) and how.startswith("rent, 2026")
    assert card_hour(request(model="qwen2-7b", gpu="l40s", rent=2), rented.now)[0].value == 2
    assert card_hour(request(model="qwen2-7b", gpu="l40"), request(model="qwen2-7b", gpu="l40").now)[0] is None


def test_every_rented_card_is_one_of_the_catalogs():
    rows = tables.read_catalog("rent")
    assert len(rows) > 10 and all(catalog.gpu(slug).slug == slug for slug in rows["slug"])
    assert (rows["usd_per_hour_low"] <= rows["usd_per_hour"]).all() and (rows["usd_per_hour"] <= rows["usd_per_hour_high"]).all()
    assert rows["source"].str.len().min() > 10 and rows["date"].notna().all()


def test_making_the_cards_is_in_the_carbon_with_its_range(answer):
    hours = answer["current"]["cards"]["hours"]["value"]
    found = answer["current"]["life_cycle"]
    for name, made in (("cards_kg", EMBODIED), ("servers_kg", SERVER)):
        q = found[name]
        assert q["value"] == pytest.approx(made.value / (4 * 8766) * hours) and q["low"] < q["value"] < q["high"]
    parts = ("in_use_and_idle_kg", "cards_kg", "servers_kg")
    assert found["total_kg"]["value"] == pytest.approx(sum(found[name]["value"] for name in parts))
    assert found["in_use_and_idle_kg"]["value"] == pytest.approx(answer["current"]["carbon_kg"]["value"])
    named = {a["name"] for a in answer["assumptions"]}
    assert {EMBODIED.name, SERVER.name, LIFETIME.name} <= named, "each with its range and source"


def test_a_module_has_no_server_beside_it():
    a = ask.estimate(model="qwen2-7b", gpu="agx_orin_64gb", engine="llama.cpp", requests_per_day=100)
    found = a["current"]["life_cycle"]
    assert found["servers_kg"]["value"] == 0 and found["cards_kg"]["value"] == pytest.approx(EMBODIED.value / 48)
    idle = a["current"]["idle"]["carbon_kg"]["value"]
    assert found["in_use_and_idle_kg"]["value"] == pytest.approx(a["current"]["carbon_kg"]["value"] + idle) and idle > 0


def test_every_lever_saves():
    """Figures of one's own that an engine alone would not reach (393.8 J at batch 8): the step is told together with its batch."""
    a = ask.estimate(
        model="openai/gpt-oss-20b", gpu="a100_sxm_80gb", quantization="bf16", batch_size=8, throughput=809.47, energy_j_per_1k=393.8
    )
    assert a["optimized"] is not None and all(x["energy_fraction"] > 0 and x["kwh"] > 0 for x in a["levers"])
    half = ask.estimate(model="mistralai/Mistral-7B-Instruct-v0.2", gpu="rtx4090d")["levers"]
    assert half[0]["lever"].startswith("engine") and "fp16 with transformers -> bf16 with vllm" in half[0]["change"]
    assert not any(x["lever"] == "strategy" for x in half), "half precision under another name is no lever"


def test_break_even_is_where_electricity_saved_pays_the_dearer_card():
    """An L40S against an A800 for the same work: the price difference a month over the electricity saved a request."""
    a = ask.estimate(**MISTRAL, gpu_price=10_000, other_gpu="rtx5090", other_gpu_price=10_480, price=0.1, pue=1)
    b, c, k = a["break_even"], request(**MISTRAL).now, cost(request(**MISTRAL).now)
    other = cost(c.with_(gpu=catalog.gpu("rtx5090")))
    saved = (k.energy_j_per_token.value - other.energy_j_per_token.value) * 256 / 3.6e6 * 0.1
    if b["requests"] is None:
        assert saved <= 0 or b["p_crosses"] < 0.5
    else:
        assert b["requests"]["value"] == pytest.approx(10 / saved)


def test_one_price_without_the_other_is_refused():
    with pytest.raises(UserError, match="other-gpu-price"):
        ask.estimate(**MISTRAL, other_gpu="l40s")
    with pytest.raises(UserError, match="--gpu-price"):
        ask.estimate(**MISTRAL, other_gpu="l40s", other_gpu_price=1000)


def test_levers_of_a_service_add_up_too(planted):  # noqa: F811
    """The last step ends at the energy of the plan as it is used, not at its full batch."""
    a = ask.estimate(model="qwen2-7b", gpu="a100_pcie_80gb", quantization="int8_pure", requests_per_day=30000)
    saved = a["current"]["energy_kwh"]["value"] - a["optimized"]["energy_kwh"]["value"]
    assert sum(x["kwh"] for x in a["levers"]) == pytest.approx(saved)


@pytest.mark.parametrize(("energy", "rate"), [(1e9, 30), (1e-9, 1e9)])
def test_own_figures_that_no_such_card_can_show_are_refused(energy, rate):
    """30 tok/s at 1e9 J per 1000 tokens are 30 MW; a billion tokens a second are beyond the memory."""
    with pytest.raises(UserError, match="correct the figures"):
        ask.estimate(model="mistral-7b-v0.1", gpu="rtx4090d", energy_j_per_1k=energy, throughput=rate)


def test_the_bill_of_today_needs_the_card_of_today():
    with pytest.raises(UserError, match="today's card first"):
        ask.estimate(model="mistral-7b-v0.1", gpu="any")


def test_an_energy_of_another_unit_is_doubted():
    """1e6 J per 1000 tokens at some 30 tok/s would be 30 kW."""
    said = [ask.estimate(model="mistral-7b-v0.1", gpu="rtx4090d", energy_j_per_1k=joules)["warnings"] for joules in (1e6, 9000)]
    assert ["check its unit" in " ".join(each) for each in said] == [True, False]
