"""The formulas against worked figures and dimensional identities."""

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eai.analyze import selection
from eai.errors import UserError

positive = st.floats(1e-6, 1e9)


def test_eor_of_the_studys_worked_example_with_a_fraction():
    """The study's documents print 71.8 / 42.29 Wh = 1.698 and / 3600 s = 0.000472 for a score on a 0-100 scale."""
    assert 100 * selection.eor(0.718, 42.29) == pytest.approx(1.698, abs=5e-4)
    assert 100 * selection.tweor(0.718, 42.29, 3600) == pytest.approx(0.000472, abs=5e-7)


@pytest.mark.parametrize("score", [71.8, -0.1, 1.0001])
def test_a_score_that_is_no_fraction_is_refused(score):
    with pytest.raises(UserError, match=r"fraction in \[0, 1\]"):
        selection.eor(score, 10.0)


@pytest.mark.parametrize(
    "call",
    [
        lambda: selection.energy_per_token(0.0, 100),
        lambda: selection.energy_per_token(-5.0, 100),
        lambda: selection.energy_per_token(5.0, 0),
        lambda: selection.throughput(10, 0.0),
        lambda: selection.eor(0.5, 0.0),
        lambda: selection.tweor(0.5, 1.0, 0.0),
        lambda: selection.mean_power(1.0, -1.0),
    ],
)
def test_nothing_is_computed_from_what_was_not_measured(call):
    with pytest.raises(UserError, match="above zero"):
        call()


@given(positive, positive, positive)
def test_energy_per_token_is_power_over_throughput(energy_j, tokens, duration_s):
    power_w, rate = selection.mean_power(energy_j, duration_s), selection.throughput(tokens, duration_s)
    per_token = selection.energy_per_token(energy_j, tokens)
    assert per_token == pytest.approx(power_w / rate)
    assert per_token * selection.tokens_per_joule(per_token) == pytest.approx(1)


def test_columns_go_through_and_missing_values_stay_missing():
    found = selection.eor(pd.Series([0.5, None]), pd.Series([10.0, 20.0]))
    assert found[0] == pytest.approx(0.05) and pd.isna(found[1])
    assert selection.watt_hours(7200) == pytest.approx(2)


def test_the_label_names_the_units_that_stand_there():
    def label(*units):
        return selection.unit_label(pd.DataFrame({"unit": units}))

    assert [label("token"), label("item", "item"), label("token", "item"), label()] == [*selection.UNITS.values(), ""]


def test_a_table_without_lengths_holds_no_task_as_run():
    table = pd.DataFrame({"input_tokens": [0, 0, 8], "output_tokens": [0, 4, 0], "more": 1})
    assert selection.as_run(table).tolist() == [True, False, False]
    assert not selection.as_run(table[["input_tokens"]]).any()
