"""Drift over a run: planted trends are found, alike neighbours are not taken for one, a simulated card has hours of its own."""

import numpy as np
import pandas as pd
import pytest
from planted import Truth, experiment
from scipy.signal import lfilter

from eai.analyze import summary
from eai.analyze.selection import select
from eai.stats import intervals


def waves(rng: np.random.Generator, runs: int, n: int, correlation: float) -> np.ndarray:
    """Series of an AR(1) process without a trend."""
    return lfilter([1], [1, -correlation], rng.standard_normal((runs, n + 50)), axis=1)[:, 50:]


@pytest.mark.parametrize(("n", "correlation", "most"), [(30, 0.0, 0.09), (60, 0.5, 0.11), (120, 0.5, 0.09)])
def test_slow_waves_are_no_drift(n, correlation, most):
    """Of 300 series without a trend about 5 % may be called one (binomial limit 9 %); ordinary least squares call a quarter."""
    time = np.arange(n) / n
    alarms = [intervals.trend(y, time).p <= 0.05 for y in waves(np.random.default_rng(0), 300, n, correlation)]
    assert np.mean(alarms) <= most


def test_the_interval_of_a_trend_covers_it():
    """A slope of 3 under waves: 95 % of 300 intervals hold it, up to three standard errors of that share."""
    time = np.arange(80) / 80
    found = [intervals.trend(y + 3 * time, time) for y in waves(np.random.default_rng(1), 300, 80, 0.3)]
    assert np.mean([f.low <= 3 <= f.high for f in found]) >= 0.91
    assert np.mean([f.slope for f in found]) == pytest.approx(3, abs=0.3)


@pytest.mark.parametrize("values", [np.arange(11.0), np.ones(40)])
def test_too_few_or_constant_values_have_no_trend(values):
    assert np.isnan(intervals.trend(values, np.arange(len(values))).p)


def planted(drift_an_hour: float):
    """Twenty blocks of two strategies over an hour, in random order, whose energies scatter by 0.5 % and drift, with temperature."""
    windows, energies = experiment(Truth(quantizations={"fp16": 1.0, "nf4": 0.5}), 20, np.random.default_rng(3))
    hours = windows[["block", "order"]].apply(tuple, axis=1).rank().sub(1) / (len(windows) - 1)
    windows = windows.assign(start_s=100 + 3600 * hours, load=1, temperature_mean_c=50 + 4 * hours)
    base = windows["quantization"].map({"fp16": 1000.0, "nf4": 500.0})
    noise = np.exp(0.005 * np.random.default_rng(4).standard_normal(len(windows)))
    return select(windows, energies.assign(energy_j=base * noise * (1 + drift_an_hour * hours)))


def test_a_planted_drift_is_found_with_its_size():
    rows = summary.trends(summary.over_time(planted(0.06))).set_index("quantity")
    energy = rows.loc["energy"]
    assert energy["p_holm"] < 0.01 and energy["low"] < 6 * 0.97 < energy["high"], "% per hour, of the mean energy"
    assert rows.loc["temperature", "change"] == pytest.approx(4, rel=0.01)
    assert rows["hours"].max() == pytest.approx(1)


def test_without_a_drift_none_is_shown():
    rows = summary.trends(summary.over_time(planted(0.0)))
    energy = rows[rows["unit"] == "%"].iloc[0]
    assert energy["p_holm"] > 0.05 and energy["low"] < 0 < energy["high"]


def test_windows_that_all_begin_at_one_second_have_the_hours_of_what_ran_before_them():
    chosen = planted(0.0)
    still = pd.DataFrame({"start_s": 1000.0, "warmup_s": 2.0, "duration_s": 10.0}, index=chosen.rows.index)
    rows = chosen.rows.drop(columns=["start_s", "warmup_s", "duration_s"], errors="ignore").join(still)
    over = summary.over_time(type(chosen)(rows, chosen.excluded, chosen.boundary, chosen.basis, chosen.kind))
    assert over["hours"].tolist() == pytest.approx([12 * i / 3600 for i in range(len(rows))])
