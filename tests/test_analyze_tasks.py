"""Tasks as run: energy by the item and the pass, EOR of one pass, prices of tokens, several tasks together; all from planted numbers."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from eai import schema
from eai.analyze import summary
from eai.analyze.comparison import compare, contrast
from eai.analyze.roofline import decompose, prefill_and_decode
from eai.analyze.selection import select
from eai.analyze.summary import disturbances, outliers, over_tasks, summarize
from eai.errors import UserError
from eai.stats.intervals import log_t_interval
from eai.stats.scores import quotient

PREFILL_J, DECODE_J = 0.02, 0.3
STRATEGIES = {"fp32": 1.0, "nf4": 0.7}
TASKS = {"facts": (16, 0), "sums": (56, 4)}
BLOCKS, ITEMS = 4, 20


def window(strategy, task, block, energy_j, calls, requests, tokens, lengths=(0, 0), options='{"limit":20}'):
    """(window, energy) of one window, 1 s a pass or call."""
    configuration = {"gpu": "cpu", "model": "m", "weights": "published", "quantization": strategy, "batch_size": 4, "task": task}
    configuration |= {"input_tokens": lengths[0], "output_tokens": lengths[1], "options": options}
    key = {"job": "cpu--m", "block": block, "configuration_id": f"{strategy}-{task}-{lengths}-{options}", "repeat": 1}
    key["attempt"] = f"{block}{key['configuration_id']}"
    counts = {"calls": calls, "requests": requests, "tokens_in": tokens[0] * requests, "tokens_out": tokens[1] * requests}
    done = {"duration_s": float(calls), "cpu_time_s": 0.9 * calls, "status": "ok", "flags": [], "reason": "", "basis": "estimated"}
    energy = {"device_id": "cpu", "boundary": "cpu_package", "method": "estimate", "primary": True, "status": "ok", "basis": "estimated"}
    energy |= {"energy_j": energy_j, "u_offset_j": 0.0, "u_gain_j": 0.0}
    return key | configuration | counts | done, key | energy


def noise(block, strategy):
    """What a block adds to every energy, and a strategy in a block: fixed, so that expectations can be recomputed."""
    return np.exp(0.01 * block + 0.002 * np.sin(7 * block + len(strategy)))


def item_energy(strategy, task, block):
    """Energy of an item: its tokens at the planted prices, and a quarter on top that no price explains."""
    tokens_in, tokens_out = TASKS[task]
    priced = tokens_in * PREFILL_J + max(tokens_out - 1, 0) * DECODE_J
    return 1.25 * priced * STRATEGIES[strategy] * noise(block, strategy)


@pytest.fixture
def study():
    pairs = []
    for block in range(1, BLOCKS + 1):
        for strategy, factor in STRATEGIES.items():
            for task, tokens in TASKS.items():
                passes = 1 + block % 3
                energy_j = item_energy(strategy, task, block) * ITEMS * passes
                pairs.append(window(strategy, task, block, energy_j, passes, ITEMS * passes, tokens))
            for n in (1, 8, 24):
                energy_j = 8 * (32 * PREFILL_J + DECODE_J * (n - 1)) * factor * noise(block, strategy)
                pairs.append(window(strategy, "generate", block, energy_j, 2, 8, (32, n), (32, n), "{}"))
    windows, energies = (pd.DataFrame(list(rows)) for rows in zip(*pairs, strict=True))
    windows = windows.assign(order=windows.groupby("block").cumcount() + 1, load=1)
    right = {("fp32", "facts"): 18, ("fp32", "sums"): 12, ("nf4", "facts"): 17, ("nf4", "sums"): 9}
    key = '{}-{}-(0, 0)-{{"limit":20}}'
    items = [
        {"configuration_id": key.format(s, t), "block": b, "task": t, "item": f"{t}{i}", "metric": "acc", "score": float(i < n)}
        for (s, t), n in right.items() for b in range(1, BLOCKS + 1) for i in range(ITEMS)
    ]  # fmt: skip
    return windows, energies, pd.DataFrame(items)


def test_an_item_is_the_unit_and_a_pass_is_the_task(study):
    windows, energies, items = study
    table = summarize(windows, energies, scores=items)
    assert schema.problems("summary", table.astype(object).where(table.notna(), None).to_dict("records")) == []
    found = table[table["task"] == "facts"].set_index("quantization").loc["fp32"]
    each = [item_energy("fp32", "facts", b) for b in range(1, BLOCKS + 1)]
    logs = np.log(each)
    assert found["energy_j_per_request"] == pytest.approx(stats.gmean(each))
    interval = stats.t.interval(0.95, BLOCKS - 1, loc=logs.mean(), scale=stats.sem(logs))
    assert (found["energy_j_per_request_low"], found["energy_j_per_request_high"]) == pytest.approx(np.exp(interval))
    assert np.isnan(found["energy_j_per_token"]) and np.isnan(found["throughput_tok_s"]) and np.isnan(found["cpu_s_per_token"])
    assert found["requests_per_second"] == pytest.approx(ITEMS) == found["requests_per_second_high"]
    assert found["cpu_s_per_request"] == pytest.approx(0.9 / ITEMS)
    assert found["energy_cv"] == pytest.approx(stats.variation(each, ddof=1)) and found["gate"] == "ok"
    assert found["energy_wh"] == pytest.approx(ITEMS * stats.gmean(each) / 3600), "one pass, however many a window held"
    assert (found["score"], found["n_items"]) == (0.9, ITEMS)
    assert found["eor"] == pytest.approx(0.9 / found["energy_wh"])
    assert found["tweor"] == pytest.approx(found["eor"] / 1.0), "a pass takes one second"


def test_joules_per_correct_answer_are_those_of_the_task_over_what_was_right(study):
    table = summarize(study[0], study[1], scores=study[2])
    for row in table[table["task"] == "sums"].itertuples():
        assert row.energy_j_per_correct == pytest.approx(row.energy_wh * 3600 / (row.score * ITEMS))
        assert row.energy_j_per_correct_low == pytest.approx(3600 / (row.eor_high * ITEMS))
        assert row.energy_j_per_correct_low < row.energy_j_per_correct < row.energy_j_per_correct_high
    nothing = summarize(study[0], study[1], scores=study[2].assign(score=0.0))
    worst = nothing[nothing["task"] == "sums"].iloc[0]
    assert worst["eor"] == 0 and worst["energy_j_per_correct"] == np.inf and np.isfinite(worst["energy_j_per_correct_low"])


def test_strategies_are_compared_by_the_item(study):
    table = compare(study[0], study[1])
    assert dict(zip(table["task"], table["metric"], strict=True)) == {
        "facts": "energy_j_per_request", "sums": "energy_j_per_request", "generate": "energy_j_per_token"
    }  # fmt: skip
    facts = table[table["task"] == "facts"].iloc[0]
    logs = np.log([item_energy("nf4", "facts", b) / item_energy("fp32", "facts", b) for b in range(1, BLOCKS + 1)])
    assert facts["ratio_to_baseline"] == pytest.approx(np.exp(logs.mean()))
    assert facts["p"] == pytest.approx(stats.ttest_1samp(logs, 0).pvalue)
    assert facts["outcome"] == "lower" and facts["n_pairs"] == BLOCKS
    assert "energy_j_per_token or energy_j_per_request against the baseline" in facts["family"]
    speed = compare(study[0], study[1], metric="throughput_tok_s")
    assert set(speed.loc[speed["task"] != "generate", "metric"]) == {"requests_per_second"}


def test_a_task_in_another_setting_is_another_task(study):
    windows, energies, _ = study
    other = windows["configuration_id"].str.startswith("nf4-facts")
    names = windows["configuration_id"].where(~other, "nf4-facts-all")
    windows = windows.assign(options=windows["options"].where(~other, '{"limit":40}'), configuration_id=names)
    energies = energies.assign(
        configuration_id=energies["configuration_id"].mask(energies["configuration_id"].str.startswith("nf4-facts"), "nf4-facts-all")
    )
    found = compare(windows, energies).set_index("task").loc["facts"]
    assert (found["outcome"], found["reason"]) == ("not_testable", "no fp32 with the same options in this stratum")


def test_a_window_without_output_is_used_of_a_task_and_left_out_of_generation(study):
    windows, energies, _ = study
    silent = windows.assign(tokens_out=0)
    kept = select(silent, energies)
    assert set(kept.rows["task"]) == set(TASKS)
    assert kept.excluded["reason"].unique().tolist() == ["no output tokens or no duration"]
    none = windows.assign(requests=windows["requests"].where(windows["task"] != "sums", 0))
    assert select(none, energies).excluded["reason"].unique().tolist() == ["no items or no duration"]


def test_one_task_is_compared_with_another_by_the_item(study):
    """Task complexity: versions and examples differ from task to task by nature, and do not stand in the way."""
    windows, energies, _ = study
    windows = windows.assign(options=windows["options"].where(windows["task"] != "sums", '{"fewshot":5}'))
    table = contrast(select(windows, energies), "task", "facts")
    found = table[table["task"] == "sums"].set_index("quantization")["ratio"]
    ratio = np.exp(np.mean([np.log(item_energy("nf4", "sums", b) / item_energy("nf4", "facts", b)) for b in range(1, BLOCKS + 1)]))
    assert found["nf4"] == pytest.approx(ratio)
    assert table.loc[table["task"] == "generate", "reason"].str.contains("no task facts").all()


def test_drift_and_outliers_are_judged_by_the_item(study):
    windows, energies, _ = study
    selection = select(windows, energies)
    assert disturbances(selection)["n"].max() == len(windows)
    assert outliers(selection).empty
    odd = energies["energy_j"].where(energies["attempt"] != '3nf4-facts-(0, 0)-{"limit":20}', energies["energy_j"] * 2)
    found = outliers(select(windows, energies.assign(energy_j=odd)))
    assert found[["block", "quantization", "task"]].to_numpy().tolist() == [[3, "nf4", "facts"]]
    assert found["ratio_to_expected"].iloc[0] == pytest.approx(2, rel=0.05)


def test_tasks_have_no_row_among_prefill_and_decode(study):
    assert set(prefill_and_decode(select(study[0], study[1]))["task"]) == {"generate"}


def test_the_prices_of_tokens_explain_the_planted_share(study):
    found = decompose(select(study[0], study[1])).set_index(["task", "quantization"])
    for (task, strategy), row in found.iterrows():
        tokens_in, tokens_out = TASKS[task]
        assert (row["tokens_in_per_item"], row["tokens_out_per_item"]) == (tokens_in, tokens_out)
        assert row["explained_share"] == pytest.approx(1 / 1.25, rel=1e-6) and row["rest_share"] == pytest.approx(0.2, rel=1e-6)
        mean = np.mean([noise(b, strategy) for b in range(1, BLOCKS + 1)]) * STRATEGIES[strategy]
        assert row["prefill_j"] == pytest.approx(tokens_in * PREFILL_J * mean)
        assert row["decode_j"] == pytest.approx(max(tokens_out - 1, 0) * DECODE_J * mean)
        assert (row["input_tokens_priced"], row["n_blocks"], row["reason"]) == (32, BLOCKS, "")


def test_the_share_has_the_interval_of_its_blocks(study):
    """Blocks that differ only in what is not explained: the t interval of the four shares."""
    windows, energies, _ = study
    extra = {f'{b}fp32-facts-(0, 0)-{{"limit":20}}': 1 + 0.1 * b for b in range(1, BLOCKS + 1)}
    energies = energies.assign(energy_j=energies["energy_j"] * energies["attempt"].map(extra).fillna(1.0))
    row = decompose(select(windows, energies)).set_index(["task", "quantization"]).loc[("facts", "fp32")]
    shares = np.array([0.8 / factor for factor in extra.values()])
    low, high = stats.t.interval(0.95, BLOCKS - 1, loc=shares.mean(), scale=stats.sem(shares))
    assert (row["explained_share"], row["explained_share_low"], row["explained_share_high"]) == pytest.approx((shares.mean(), low, high))


def test_without_prices_the_reason_is_said(study):
    windows, energies, _ = study
    none = decompose(select(windows[windows["task"] != "generate"], energies))
    assert (none["n_blocks"] == 0).all() and none["reason"].str.contains("add generate").all()
    single = decompose(select(windows[~windows["output_tokens"].isin([8, 24])], energies))
    assert single["reason"].str.contains("1 output lengths").all() and (single["n_blocks"] == 0).all()


def test_tasks_together_are_weighted_scores_over_summed_energy(study):
    windows, energies, items = study
    found = over_tasks(select(windows, energies), items).set_index("quantization").loc["fp32"]
    joules = [ITEMS * sum(item_energy("fp32", task, b) for task in TASKS) for b in range(1, BLOCKS + 1)]
    assert found["score"] == pytest.approx((0.9 + 0.6) / 2) and found["n_items"] == 2 * ITEMS
    assert found["energy_wh"] == pytest.approx(stats.gmean(joules) / 3600) and found["duration_s"] == pytest.approx(2.0)
    assert found["eor"] == pytest.approx(0.75 / found["energy_wh"]) and found["tweor"] == pytest.approx(found["eor"] / 2.0)
    assert found["energy_j_per_correct"] == pytest.approx(stats.gmean(joules) / (18 + 12))
    wilson = [stats.binomtest(n, ITEMS).proportion_ci(method="wilson") for n in (18, 12)]
    down = np.hypot(0.5 * (0.9 - wilson[0].low), 0.5 * (0.6 - wilson[1].low))
    assert found["score_low"] == pytest.approx(0.75 - down)
    assert found["eor_low"] < found["eor"] < found["eor_high"]
    weighted = over_tasks(select(windows, energies), items, {"facts": 3.0, "sums": 1.0}).set_index("quantization")
    assert weighted.loc["fp32", "score"] == pytest.approx(0.75 * 0.9 + 0.25 * 0.6)
    with pytest.raises(UserError, match="weights of facts; expected one that is not negative for each of facts, sums"):
        over_tasks(select(windows, energies), items, {"facts": 1.0})


def test_a_strategy_that_misses_a_task_gets_no_figure(study):
    windows, energies, items = study
    few = windows[~((windows["task"] == "sums") & (windows["quantization"] == "nf4"))]
    found = over_tasks(select(few, energies), items).set_index("quantization")
    assert found.loc["nf4", "reason"] == "not run: sums" and np.isnan(found.loc["nf4", "eor"]) and found.loc["fp32", "eor"] > 0


def test_a_block_that_misses_a_task_is_no_replicate(study):
    windows, energies, items = study
    found = over_tasks(select(windows[~((windows["task"] == "sums") & (windows["block"] == BLOCKS))], energies), items)
    joules = [ITEMS * sum(item_energy("fp32", task, b) for task in TASKS) for b in range(1, BLOCKS)]
    row = found.set_index("quantization").loc["fp32"]
    assert row["n_blocks"] == BLOCKS - 1 and row["energy_wh"] == pytest.approx(stats.gmean(joules) / 3600)
    apart = windows[(windows["task"] == "generate") | ((windows["task"] == "sums") == (windows["block"] == 1))]
    none = over_tasks(select(apart, energies), items)
    assert set(none["reason"]) == {"no block holds every task"} and (none["n_blocks"] == 0).all() and none["eor"].isna().all()


def test_the_interval_of_tasks_together_covers_the_truth():
    """1,000 studies of two tasks of 50 items with true scores 0.6 and 0.8 and a block sd of 3 %: 95 % +- 2 sd of a proportion."""
    rng = np.random.default_rng(5)
    weights, n_items = pd.Series([0.5, 0.5]), pd.Series([50, 50])
    covered = 0
    for _ in range(1000):
        score = summary._weighted(pd.Series(rng.binomial(50, [0.6, 0.8]) / 50), n_items, weights)
        eor = quotient(score, log_t_interval(200.0 * np.exp(rng.normal(0, 0.03, 5))))
        covered += eor.low <= 0.7 / 200.0 <= eor.high
    assert covered / 1000 == pytest.approx(0.95, abs=0.015)
