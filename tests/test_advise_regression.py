"""The gate on two experiments: a planted regression is shown, an improvement passes, no change is undecided at a limit of zero."""

import json

import pytest

from eai import tables
from eai.advise.markdown import to_markdown
from eai.advise.regression import fraction, regression_gate
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
    assert json.loads(json.dumps(answer, allow_nan=False)) == answer and "a regression is shown" in to_markdown(answer)


def test_an_improvement_passes(gate):
    answer = gate(0.5)
    assert not answer["failed"] and set(answer["counts"]) == {"no_regression"}


def test_no_change_is_undecided_where_the_limit_is_finer_than_the_noise(gate):
    answer = gate(1.0, "0%")
    assert not answer["failed"] and answer["undecided"] == len(answer["rows"]) > 0, "equal means prove nothing at a limit of zero"
