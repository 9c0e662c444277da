"""Prefill and decode of simulated requests: the planted values are covered, curvature is found where it is and not where it is not."""

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from planted import Truth, experiment

from eai.analyze.roofline import prefill_and_decode, split
from eai.analyze.selection import select
from eai.errors import UserError

LENGTHS = np.array([1, 16, 64, 128, 256])
PREFILL_J, DECODE_J = 40.0, 3.0


def requests(rng, blocks=5, lengths=LENGTHS, growth_j=0.0, block_sd=0.02, noise_sd=0.01):
    """(output_tokens, energy per request, block) of a card whose blocks share a factor."""
    n, block = (a.ravel() for a in np.meshgrid(lengths, np.arange(blocks)))
    true = PREFILL_J + DECODE_J * (n - 1) + growth_j * (n - 1.0) ** 2
    shared = rng.normal(0, block_sd, blocks)[block]
    return n, true * np.exp(shared + rng.normal(0, noise_sd, len(n))), block


def test_without_noise_the_planted_values_come_back():
    found = split(*requests(np.random.default_rng(0), block_sd=0, noise_sd=1e-9))
    assert (found.prefill.value, found.decode.value) == pytest.approx((PREFILL_J, DECODE_J), rel=1e-6)
    assert (found.blocks, found.model) == (5, "line")


@pytest.mark.parametrize("blocks", [3, 8])
def test_intervals_cover_the_planted_values_nineteen_times_in_twenty(blocks):
    """1,000 experiments: 95 % +- 2 sd of a proportion."""
    rng = np.random.default_rng(1)
    found = [split(*requests(rng, blocks)) for _ in range(1000)]
    lines = [s for s in found if s.model == "line"]
    for name, true in (("prefill", PREFILL_J), ("decode", DECODE_J)):
        covered = np.mean([getattr(s, name).low <= true <= getattr(s, name).high for s in lines])
        assert covered == pytest.approx(0.95, abs=0.02), name


def test_curvature_is_seen_one_time_in_twenty_where_there_is_none():
    rng = np.random.default_rng(2)
    seen = [split(*requests(rng)).model == "curve" for _ in range(1000)]
    assert np.mean(seen) == pytest.approx(0.05, abs=0.02)


def test_a_growing_step_is_seen_and_its_mean_is_right():
    """A step that grows by a third over the range; the mean step is the planted one plus growth times the range."""
    rng = np.random.default_rng(3)
    growth_j = 0.004
    found = [split(*requests(rng, growth_j=growth_j)) for _ in range(300)]
    assert np.mean([s.model == "curve" for s in found]) > 0.95
    curves = [s for s in found if s.model == "curve"]
    mean_step = DECODE_J + growth_j * 255
    assert np.mean([s.decode.low <= mean_step <= s.decode.high for s in curves]) == pytest.approx(0.95, abs=0.03)
    assert np.mean([s.prefill.low <= PREFILL_J <= s.prefill.high for s in curves]) == pytest.approx(0.95, abs=0.03)


def test_length_one_is_what_pins_the_prefill():
    """The intercept's spread shrinks severalfold when the lengths include 1."""
    rng = np.random.default_rng(4)
    spread = {}
    for lengths in ([1, 64, 128, 256], [32, 64, 128, 256]):
        found = [split(*requests(rng, lengths=np.array(lengths), block_sd=0.0)).prefill.value for _ in range(200)]
        spread[lengths[0]] = np.std(found)
    assert spread[32] > 3 * spread[1]


def test_one_block_is_the_weighted_regression_of_statsmodels():
    n, energy, block = requests(np.random.default_rng(5), blocks=1)
    fit = sm.WLS(energy, sm.add_constant(n - 1.0), weights=1 / energy**2).fit()
    found = split(n, energy, block)
    expected = np.c_[fit.params, fit.conf_int()]
    assert np.array([found.prefill, found.decode]) == pytest.approx(expected, rel=1e-9)
    quadratic = sm.WLS(energy, np.vander(n - 1.0, 3, increasing=True), weights=1 / energy**2).fit()
    assert found.p_curvature == pytest.approx(quadratic.pvalues[2], rel=1e-9)


def test_two_lengths_and_one_block_have_no_interval():
    found = split([1, 64], [40.0, 230.0], [1, 1])
    assert (found.prefill.value, found.decode.value) == pytest.approx((40.0, 190.0 / 63))
    assert np.isnan([found.prefill.low, found.decode.high, found.p_curvature]).all()


def test_the_sensors_uncertainty_widens_and_does_not_move():
    data = requests(np.random.default_rng(6))
    plain, wide = split(*data), split(*data, u_relative=0.05)
    assert wide.prefill.value == plain.prefill.value
    assert wide.prefill.high - wide.prefill.value > 0.05 * 1.9 * wide.prefill.value


@pytest.mark.parametrize(
    ("lengths", "values", "blocks", "words"),
    [
        ([8, 8], [1.0, 1.0], [1, 2], "1 output lengths"),
        ([1, 8], [1.0, 2.0], [1, 2], "0 complete blocks"),
        ([1, 8], [0.0, 2.0], [1, 1], "a value of 0"),
    ],
)
def test_what_cannot_be_split_says_why(lengths, values, blocks, words):
    with pytest.raises(UserError, match=words):
        split(lengths, values, blocks)


@pytest.fixture(scope="module")
def measured():
    """A simulated experiment whose window energies are rewritten to planted prefill and decode, at four lengths."""
    rng = np.random.default_rng(7)
    tables = []
    for n in (1, 64, 128, 256):
        windows, energies = experiment(Truth(quantizations={"fp16": 1.0, "int8_pure": 1.0}), 4, rng)
        true = windows["requests"] * (PREFILL_J + DECODE_J * (n - 1)) * np.exp(rng.normal(0, 0.01, len(windows)))
        marks = {name: windows[name] + str(n) for name in ("configuration_id", "attempt")}
        windows = windows.assign(output_tokens=n, **marks)
        energies = energies.assign(energy_j=true, **marks)
        tables.append((windows.assign(duration_s=true / 100), energies))
    return [pd.concat(part, ignore_index=True) for part in zip(*tables, strict=True)]


def test_a_table_has_one_row_a_configuration_without_its_length(measured):
    table = prefill_and_decode(select(*measured))
    assert sorted(table["quantization"]) == ["fp16", "int8_pure"]
    assert (table["lengths"] == "1 64 128 256").all() and (table["reason"] == "").all() and (table["n_blocks"] == 4).all()
    assert table["prefill_j_per_request"].to_numpy() == pytest.approx(PREFILL_J, rel=0.03)
    assert table["decode_j_per_token"].to_numpy() == pytest.approx(DECODE_J, rel=0.03)
    assert (table["prefill_j_per_input_token"] * 512).to_numpy() == pytest.approx(table["prefill_j_per_request"].to_numpy())


def test_times_are_split_like_energies(measured):
    table = prefill_and_decode(select(*measured), "duration_s")
    assert table["prefill_s_per_request"].to_numpy() == pytest.approx(PREFILL_J / 100, rel=0.03)


def test_a_missing_length_one_and_a_single_length_are_said(measured):
    windows, energies = measured
    without = prefill_and_decode(select(windows[windows["output_tokens"] > 1], energies))
    assert without["reason"].str.contains("extrapolated from 64").all()
    single = prefill_and_decode(select(windows[windows["output_tokens"] == 64], energies))
    assert single["reason"].str.contains("1 output lengths").all()


def test_an_unknown_quantity_is_refused(measured):
    with pytest.raises(UserError, match="quantity 'watts'"):
        prefill_and_decode(select(*measured), "watts")
