"""The committed recordings: unit costs, ratios, p and scores of their tables, worked out again from the raw readings without our code."""

import json

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from eai import paths

WATTS_PER_THREAD = 4.0
STRATUM = ["model", "batch_size", "input_tokens", "output_tokens", "task", "options"]


@pytest.fixture(scope="module", params=[paths.SAMPLE, paths.MEASURED / "offline-tasks-cpu"], ids=lambda folder: folder.name)
def recorded(request):
    """(windows with the energy of their raw samples and of one unit of work, items, summary, comparisons)."""
    (job,) = [path for path in request.param.iterdir() if path.is_dir()]
    windows = pd.DataFrame([json.loads(line) for line in (job / "windows.jsonl").read_text().splitlines()])
    samples = pd.concat([pd.read_parquet(path) for path in sorted((job / "samples").glob("*.parquet"))])
    cpu_s = samples.groupby(["attempt", "field"])["value"].agg(np.ptp).groupby("attempt").sum()
    windows["energy_j"] = WATTS_PER_THREAD * windows["attempt"].map(cpu_s)
    windows["units"] = windows["tokens_out"].where(windows["task"] == "generate", windows["requests"])
    items = pd.read_parquet(job / "scores.parquet")
    tables = (pd.read_csv(request.param / f"{name}.csv").set_index("configuration_id") for name in ("summary", "comparisons"))
    return windows, items, *tables


def units(windows: pd.DataFrame) -> pd.DataFrame:
    """Energy of one unit of work, block by configuration."""
    sums = windows.groupby(["block", "configuration_id"])[["energy_j", "units"]].sum()
    return sums.eval("energy_j / units").reset_index(name="cost").pivot_table(index="block", columns="configuration_id", values="cost")


def test_each_unit_cost_has_the_t_interval_of_its_blocks(recorded):
    windows, _, summary, _ = recorded
    logs = np.log(units(windows))
    assert set(logs) == set(summary.index) and (windows["status"] == "ok").all()
    for name, own in logs.items():
        row, column = summary.loc[name], f"energy_j_per_{'token' if summary.loc[name, 'task'] == 'generate' else 'request'}"
        low, high = stats.t.interval(0.95, len(own) - 1, loc=own.mean(), scale=stats.sem(own))
        expected = np.exp([own.mean(), low, high])
        assert row[[column, f"{column}_low", f"{column}_high"]].to_numpy(float) == pytest.approx(expected, rel=1e-8)


def test_each_ratio_is_scipys_paired_t_test_and_holm_is_stepped_down(recorded):
    windows, _, summary, comparisons = recorded
    logs, base = np.log(units(windows)), summary[summary["quantization"] == "fp32"].reset_index().set_index(STRATUM)["configuration_id"]
    tests = {name: stats.ttest_rel(logs[name], logs[base[tuple(row[STRATUM])]]) for name, row in comparisons.iterrows()}
    assert len(tests) == (summary["quantization"] != "fp32").sum()
    order = sorted(tests, key=lambda name: tests[name].pvalue)
    stepped = np.maximum.accumulate([tests[name].pvalue * (len(order) - i) for i, name in enumerate(order)])
    for name, adjusted in zip(order, np.minimum(stepped, 1), strict=True):
        row, interval = comparisons.loc[name], np.exp(tests[name].confidence_interval(0.95))
        assert (row["p"], row["p_holm"]) == pytest.approx((tests[name].pvalue, adjusted), rel=1e-6)
        assert (row["ratio_to_baseline_low"], row["ratio_to_baseline_high"]) == pytest.approx(tuple(interval), rel=1e-8)
        direction = "lower" if row["ratio_to_baseline"] < 1 else "higher"
        assert row["outcome"] == direction if adjusted <= 0.05 else row["outcome"] in ("inconclusive", "equivalent")


def test_each_score_and_eor_follow_from_the_items_and_the_passes(recorded):
    windows, items, summary, _ = recorded
    energy_wh = windows.groupby(["configuration_id", "block"])[["energy_j", "calls"]].sum().eval("energy_j / calls / 3600")
    scored = items[items["metric"] != "word_perplexity_nats"].groupby(["configuration_id", "item"])["score"].mean()
    for name, answers in scored.groupby(level=0):
        row, right, wh = summary.loc[name], int(answers.sum()), stats.gmean(energy_wh[name])
        limits = stats.binomtest(right, len(answers)).proportion_ci(method="wilson")
        assert (row["score"], row["score_low"], row["score_high"]) == pytest.approx((right / len(answers), *limits), rel=1e-8)
        assert row["eor"] == pytest.approx(right / len(answers) / wh, rel=1e-8)
        assert row["energy_j_per_correct"] == pytest.approx(3600 * wh / right, rel=1e-8)
    assert scored.index.get_level_values(0).nunique() == summary["score"].notna().sum()
    assert summary["score"].isna().equals(summary["task"].isin(["generate", "perplexity"]))
