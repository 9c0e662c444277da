"""The gate on two experiments: a planted regression is shown, an improvement passes, no change is undecided at a limit of zero."""

import json

import numpy as np
import pytest
from scipy import stats

from eai import tables
from eai.advise.experiment import fraction, regression_gate
from eai.advise.page import markdown as to_markdown
from eai.errors import UserError


@pytest.mark.parametrize(("text", "value"), [("3%", 0.03), ("3 %", 0.03), ("0.03", 0.03), (0.03, 0.03), ("12.5%", 0.125), (0, 0.0)])
def test_limits_are_read(text, value):
    assert fraction(text) == pytest.approx(value)


@pytest.mark.parametrize("text", ["three", "-3%", "300%", "", "3%%"])
def test_other_limits_are_refused(text):
    with pytest.raises(UserError, match="max regression"):
        fraction(text)


@pytest.fixture
def gate(monkeypatch):
    """The gate on the sample against itself with its energies multiplied by a factor."""
    windows, energies = tables.read_windows("sample"), tables.read_energies("sample")

    def run(factor: float, limit="3%"):
        terms = [c for c in energies if c.endswith("_j")]
        changed = energies.assign(**{c: energies[c] * factor for c in terms})
        monkeypatch.setattr(tables, "read_windows", lambda e: windows)
        monkeypatch.setattr(tables, "read_energies", lambda e: changed if e == "after" else energies)
        return regression_gate("before", "after", limit)

    return run


def test_a_planted_regression_fails_the_gate(gate):
    answer = gate(2.0)
    assert answer["failed"] and set(answer["counts"]) == {"regression"} and answer["max_regression"] == 0.03
    assert all(row["ratio"]["value"] == pytest.approx(2.0) for row in answer["rows"])
    assert json.loads(json.dumps(answer, allow_nan=False)) == answer and "A regression is shown" in to_markdown(answer)


def test_an_improvement_passes(gate):
    answer = gate(0.5)
    assert not answer["failed"] and set(answer["counts"]) == {"no_regression"}


def test_no_change_is_undecided_where_the_limit_is_finer_than_the_noise(gate):
    answer = gate(1.0, "0%")
    assert not answer["failed"] and answer["undecided"] == len(answer["rows"]) > 0, "equal means prove nothing at a limit of zero"


def test_the_same_runs_on_two_cards_are_paired(monkeypatch):
    """Five runs whose work differs from run to run, 3 % dearer on another card: paired over runs, as scipy has it; unpaired it is lost in
    the work."""
    windows, energies = tables.read_windows("sample"), tables.read_energies("sample")
    one = (
        windows.query("quantization == 'fp32' and batch_size == 1 and task == 'generate' and status == 'ok'")
        .drop_duplicates("block")
        .head(5)
        .reset_index(drop=True)
    )
    assert len(one) >= 3
    work = np.array([100, 220, 150, 400, 310])[: len(one)]
    one = one.assign(tokens_out=work, job="card-a", flags=[["shared_block"]] * len(one))
    e = (
        energies[energies["attempt"].isin(one["attempt"]) & energies["primary"].astype(bool)]
        .drop_duplicates("attempt")
        .set_index("attempt")
        .loc[one["attempt"]]
        .reset_index()
    )
    terms = {c: 0.0 for c in e if c.startswith("u_") and c.endswith("_j")}
    cost = np.array([1.0, 1.6, 1.2, 2.1, 1.9])[: len(one)]
    first = e.assign(energy_j=work * cost, job="card-a", **terms)
    rise = np.array([1.031, 1.028, 1.030, 1.033, 1.029])[: len(one)]
    second = first.assign(energy_j=first["energy_j"] * rise, job="card-b")
    monkeypatch.setattr(tables, "read_windows", lambda x: one if x == "before" else one.assign(job="card-b"))
    monkeypatch.setattr(tables, "read_energies", lambda x: first if x == "before" else second)
    (row,) = regression_gate("before", "after", "1%")["rows"]
    expected = stats.ttest_1samp(np.log(rise), 0).confidence_interval(0.95)
    assert row["method"] == "paired_t" and row["verdict"] == "regression"
    assert (row["ratio"]["low"], row["ratio"]["high"]) == pytest.approx((np.exp(expected.low), np.exp(expected.high)), rel=1e-6)
    alone = one.assign(flags=[[]] * len(one))
    monkeypatch.setattr(tables, "read_windows", lambda x: alone if x == "before" else alone.assign(job="card-b"))
    (apart,) = regression_gate("before", "after", "1%")["rows"]
    assert apart["method"] == "welch", "blocks that do not name the same work are not paired"
