"""A quantity keeps its interval and unit; a budget combines its terms as the GUM says."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eai.quantity import Budget, Quantity, plain, shortest

terms = st.floats(0, 1e6)


def test_json_has_the_four_keys_and_no_nan():
    assert Quantity(float("nan"), unit="J").to_json() == {"value": None, "low": None, "high": None, "unit": "J"}
    assert json.loads(json.dumps(Quantity(2.0, 1.0, 3.0, "J").to_json())) == {"value": 2.0, "low": 1.0, "high": 3.0, "unit": "J"}


def test_text_shows_interval_and_unit():
    assert str(Quantity(2.0, 1.0, 3.0, "J")) == "2 [1 to 3] J"
    assert f"{Quantity(2.0, unit='J'):.2f}" == "2.00 J"
    assert str(Quantity(None, unit="J")) == "not measured"


@pytest.mark.parametrize("bad", [(2.0, 3.0, 4.0), (2.0, None, 4.0), (2.0, 1.0, 1.5)])
def test_an_interval_that_cannot_be_is_refused(bad):
    with pytest.raises(ValueError):
        Quantity(*bad)


def test_three_four_five():
    budget = Budget(statistical=3.0, offset=4.0, gain=12.0)
    assert budget.within_card == 5.0
    assert budget.absolute == 13.0


@given(st.tuples(*[terms] * 6))
def test_combination_is_the_root_of_the_sum_of_squares(values):
    budget = Budget(*values)
    assert math.isclose(budget.absolute, math.sqrt(math.fsum(v * v for v in values)), rel_tol=1e-9, abs_tol=1e-12)
    assert budget.within_card <= budget.absolute


def test_a_negative_term_is_refused():
    with pytest.raises(ValueError, match="aliasing"):
        Budget(aliasing=-1.0)


def test_a_quantity_times_a_number_keeps_its_interval():
    q = Quantity(6.0, 4.0, 9.0, "J")
    assert q / 2 == Quantity(3.0, 2.0, 4.5, "J") and 2 * q == Quantity(12.0, 8.0, 18.0, "J")
    assert q * -1 == Quantity(-6.0, -9.0, -4.0, "J"), "a negative number exchanges the ends"
    assert Quantity(6.0, unit="J") / 2 == Quantity(3.0, unit="J") and Quantity(None, unit="J") * 2 == Quantity(None, unit="J")
    with pytest.raises(TypeError):
        q / q
    with pytest.raises(ZeroDivisionError):
        q / 0


@pytest.mark.parametrize(
    ("quantity", "text"),
    [
        (Quantity(0.0636, 0.0309, 0.153, "h"), "3.816 [1.854 to 9.18] min"),
        (Quantity(60.0, 48.0, 72.0, "h"), "2.5 [2 to 3] d"),
        (Quantity(0.0005, None, None, "h"), "1.8 s"),
        (Quantity(0.004, 0.002, 0.008, "kWh"), "4 [2 to 8] Wh"),
        (Quantity(2500.0, None, None, "kg"), "2.5 t"),
        (Quantity(0.5, None, None, "J/token"), "0.5 J/token"),
        (Quantity(0.0, None, None, "h"), "0 h"),
    ],
)
def test_a_quantity_is_read_in_a_unit_of_its_size(quantity, text):
    """60 minutes an hour, 24 hours per day, 1,000 Wh per kWh, 1,000 kg a tonne; another unit stays."""
    assert str(quantity.in_readable_unit()) == text


@pytest.mark.parametrize(
    ("value", "text"), [(6260.4, "6,260"), (626.04, "626"), (62.604, "62.6"), (6.2604, "6.26"), (0.62604, "0.626"), (0.0626, "0.0626")]
)
def test_three_digits_stand_wherever_the_point_is(value, text):
    assert plain(value) == text


@pytest.mark.parametrize(("value", "digits", "text"), [(1026.4, 3, "1,030"), (70.0, 3, "70"), (8.03, 3, "8.03"), (123.0, 2, "120")])
def test_the_size_of_a_model_is_never_in_exponent_form(value, digits, text):
    assert shortest(value, digits) == text


def test_a_term_that_is_not_stated_is_none():
    assert Budget().absolute == 0.0 and Budget(statistical=3.0, offset=4.0).within_card == 5.0
