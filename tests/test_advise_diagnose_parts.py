"""The arithmetic behind a diagnosis against theory and independent fits: likelihoods, errors, shifts, ratios, corrected figures."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from eai import paths
from eai.advise import ask
from eai.advise.compare import session_ratios
from eai.advise.diagnose import posterior, remedies
from eai.advise.diagnose.choices import STRATEGY_CHOICES, choices, p_above
from eai.advise.diagnose.figures import Figures, figures
from eai.advise.diagnose.hypotheses import AS_STATED, NONE, PRIORS, hypotheses, launch_exponent
from eai.advise.diagnose.page import patterns_page
from eai.advise.diagnose.posterior import by_pattern, deciding_figure, weigh
from eai.advise.diagnose.ratios import ratio
from eai.advise.diagnose.snippets import CAUSES, VERIFY
from eai.advise.diagnose.spread import between_sessions, fold_errors
from eai.advise.diagnose.states import known, state
from eai.advise.diagnose.units import confusions
from eai.advise.evidence import session_spread
from eai.advise.parameters import request
from eai.errors import UserError
from eai.predict.prediction import judged

A800 = {"model": "mistral-7b-instruct-v0.2", "gpu": "a800", "input_tokens": 256}
HERE = request(**A800)
FIT = hypotheses(HERE)
FOUND = Figures(36.9, 4.37, 161.0)

positive = st.floats(0.01, 1e5)


def test_three_figures_that_follow_from_each_other_close():
    assert Figures(20.0, 5.0, 100.0).closure == pytest.approx(1) and not Figures(20.0, 5.0, 100.0).contradiction
    assert "100 W, but 131 W" in Figures(20.0, 5.0, 131.0).contradiction
    assert Figures(20.0, 5.0).closure is None and not Figures(20.0, 5.0).contradiction


def test_a_limit_is_held_against_the_power_that_the_figures_imply():
    """20 tok/s at 5 J a token are 100 W, whether given or not."""
    assert Figures(20.0, 5.0).mean_power_w == Figures(20.0, None, 100.0).mean_power_w == 100 and Figures(20.0).mean_power_w is None
    slow = Figures(18.0, 4.9)
    free, capped = (by_pattern(weigh(FIT, replace(slow, power_limit_w=w))) for w in (400.0, 88.0))
    assert capped["power_cap_or_throttle"] > free["power_cap_or_throttle"]


@given(positive, st.integers(1, 4096))
def test_energy_a_request_is_energy_a_token_times_tokens(joules, tokens):
    one = figures({"energy_j_per_request": joules}, tokens)
    two = figures({"energy_j_per_1k": joules / tokens * 1e3}, tokens)
    assert one.energy_j_per_token == pytest.approx(two.energy_j_per_token)


def test_the_spread_between_sessions_is_the_evidences():
    covariance, df = between_sessions()
    assert np.sqrt(covariance[0, 0]) == pytest.approx(session_spread()[0]) and df == session_spread()[1]


def test_errors_of_predictions_are_those_of_their_folds():
    """Each fold counts alike, as in the intervals of predictions."""
    known_rows = judged()
    for kind in ("gpu", "session"):
        covariance, _ = fold_errors(kind)
        for axis, target in enumerate(("energy", "time")):
            errors = known_rows.errors(kind, known_rows.best(kind, target), target)
            expected = (errors["log_error"] ** 2).groupby(errors["fold"]).mean().dropna().mean()
            assert covariance[axis, axis] == pytest.approx(expected)


def test_power_follows_speed_with_the_exponent_of_a_fixed_effects_regression():
    import statsmodels.formula.api as smf

    table = judged().rows
    group = table[["session", "gpu", "shape", "batch_size"]].astype(str).agg("/".join, axis=1)
    logs = pd.DataFrame({"t": np.log(table["throughput_tok_s"]), "p": np.log(table["energy_j_per_token"] * table["throughput_tok_s"])})
    fitted = smf.ols("p ~ t + C(g)", logs.assign(g=group)).fit()
    assert launch_exponent()[0] == pytest.approx(fitted.params["t"])


def test_a_state_of_rows_is_their_geometric_mean():
    """Lines 61 and 91 of the published table; the token lengths cost under 1 %."""
    there = state(HERE)
    assert there.basis == "published" and there.rows == "ecocompute_measurements.csv:61, 91"
    assert np.exp(there.centre) == pytest.approx([np.sqrt(4.334 * 4.40243), np.sqrt(36.18 * 37.68)], rel=0.01)


def test_a_session_left_out_is_not_in_the_state():
    without = state(HERE, known(("A800-2026-02-13",)))
    assert without.rows == "ecocompute_measurements.csv:91"
    none = state(HERE, known(("A800-2026-02-13", "A800-2026-02-26")))
    assert none.basis == "predicted"


def test_beyond_the_support_of_predictions_the_physics_is_asked_with_what_it_errs_there():
    """Qwen2-0.5B was run on the RTX 4090D without a power figure, at 47.39 and 27.40 tok/s; no row that is learned from is as small."""
    for quantization, seen in (("fp16", 47.39), ("nf4", 27.40)):
        there = state(request(model="qwen2-0.5b", gpu="rtx4090d", quantization=quantization, input_tokens=256))
        value, low, high = there.interval(1)
        assert there.basis == "extrapolated" and low < seen < high and high / low > 2 and abs(np.log(seen / value)) < 0.2


def test_what_no_row_supports_rests_on_bytes_and_limits():
    fp8 = state(request(model="qwen2-7b", gpu="h100", quantization="fp8"))
    value, low, high = fp8.interval(1)
    assert fp8.basis == "computed" and high / low > 5
    assert value < 1.05 * 3350e9 / 7.6e9


def test_the_page_of_patterns_is_generated():
    page = (paths.ROOT / "docs" / "diagnosis-patterns.md").read_text()
    assert page == patterns_page(), "write it again: python -m eai.advise.diagnose.page > docs/diagnosis-patterns.md"


def test_every_pattern_has_a_cause_and_a_way_to_verify_it():
    faults = set(PRIORS) - {AS_STATED, NONE}
    assert faults | set(STRATEGY_CHOICES) | {"batch_1_waste", "contradicting_figures"} == set(CAUSES) == set(VERIFY)
    text = patterns_page()
    assert all(f"### `{name}`" in text for name in CAUSES) and all(c.name in text for c in confusions(request(**A800 | {"batch_size": 8})))


def test_priors_sum_to_one():
    assert sum(p for p, _ in PRIORS.values()) == pytest.approx(1, abs=0.05)
    assert sum(h.prior for h in FIT) == pytest.approx(1)
    assert not {"batch_not_applied"} & {h.pattern for h in FIT}


@given(positive, positive, st.one_of(st.none(), positive))
def test_probabilities_sum_to_one(throughput, energy, power):
    total = by_pattern(weigh(FIT, Figures(throughput, energy, power)))
    assert sum(total.values()) == pytest.approx(1) and all(p >= 0 for p in total.values())


UNLIKE_A_FAULT = [c for c in confusions(request(**A800 | {"batch_size": 8})) if c.energy != -c.throughput or c.energy < 0]


@given(st.sampled_from(UNLIKE_A_FAULT))
def test_every_confusion_is_recognized_and_undone(confusion):
    """Exact figures times the confusion's factors: the fix gives the exact figures back, whatever the confusion is called."""
    r = request(**A800 | {"batch_size": 8})
    energy, pace, power = 0.628, 290.59, 182.49
    factors = np.exp([confusion.energy, confusion.throughput, confusion.power])
    seen = Figures(pace * factors[1], energy * factors[0], power * factors[2])
    best = weigh(hypotheses(r), seen)[0]
    assert best.hypothesis.pattern == "unit_error"
    shift = best.hypothesis.shifts[0]
    assert np.exp(seen.logs - shift) == pytest.approx([energy, pace, power], rel=0.15)


def test_tokens_of_one_sequence_look_like_a_batch_that_did_not_run():
    """Eight times the energy at an eighth of the pace is both: the verification says how to tell."""
    answer = ask.diagnose(**A800 | {"batch_size": 8}, throughput=290.59 / 8, energy_j_per_1k=628 * 8)
    assert answer["probabilities"]["batch_not_applied"] > answer["probabilities"]["unit_error"] > 0.001
    assert any("those of one sequence" in step for step in answer["patterns"][0]["verification"])


@given(
    st.sampled_from([1e-300, 1e-6, 1.0, 1e6, 1e300]),
    st.sampled_from([1e-300, 1e-6, 1.0, 1e6, 1e300]),
    st.floats(0, 100),
    st.sampled_from([1e-9, 15.0, 1e9]),
)
def test_no_figure_is_too_absurd_to_be_answered(throughput, energy, busy, memory):
    seen = Figures(throughput, energy, 100.0, busy, memory, 50.0, 90.0)
    total = by_pattern(weigh(FIT, seen))
    assert sum(total.values()) == pytest.approx(1)


def test_one_dimension_is_students_density():
    """A cause with one exact shift and one figure: a mixture of scaled t densities."""
    h = next(x for x in FIT if x.pattern == AS_STATED)
    x = np.log(40.0)
    parts = [(p.weight, p.covariance[1, 1] + posterior.ROUNDING_SD**2, p.df) for p in h.state.parts]
    expected = sum(w * stats.t.pdf((x - h.state.centre[1]) / np.sqrt(v), df) / np.sqrt(v) for w, v, df in parts)
    assert np.exp(posterior.log_terms([h], Figures(40.0))[0][0]) == pytest.approx(expected)


def test_a_figure_that_nothing_moves_hides_its_causes():
    """Without power nobody can tell milliwatts from watts: the cause is not listed, and takes nothing from the others."""
    names = {w.hypothesis.variant for w in weigh(FIT, Figures(36.9, 4.37))}
    assert not any("milliwatts" in n or "peak" in n for n in names)
    assert any("milliwatts" in w.hypothesis.variant for w in weigh(FIT, FOUND))


def test_distances_of_distributions():
    """Two normals of one width: 2 Phi(d / 2) - 1."""
    assert posterior._normal_distance((0, 1), (1.5, 1)) == pytest.approx(2 * stats.norm.cdf(0.75) - 1, abs=1e-3)
    assert posterior._beta_distance((2, 5), (2, 5)) == 0
    assert posterior._beta_distance((1, 1), (2, 1)) == pytest.approx(0.25, abs=1e-3)


def test_utilisation_decides_between_a_waiting_card_and_a_throttled_one():
    slow = Figures(18.0, 5.2)
    weighed = weigh(FIT, slow)
    one, two = (next(w for w in weighed if w.hypothesis.pattern == p) for p in ("cpu_bound", "power_cap_or_throttle"))
    assert deciding_figure(one, two, slow)[0] == "--utilization-pct"
    all_given = Figures(18.0, 5.2, 94.0, 50.0, 14.9)
    assert deciding_figure(one, two, all_given) is None


def test_utilisation_and_temperature_move_probability_the_right_way():
    slow = Figures(18.0, 4.9, 88.0)
    p = by_pattern(weigh(FIT, slow))
    idle, busy = (by_pattern(weigh(FIT, replace(slow, utilization_pct=u))) for u in (20.0, 97.0))
    assert idle["cpu_bound"] > p["cpu_bound"] > busy["cpu_bound"]
    hot, cool = (by_pattern(weigh(FIT, replace(slow, temperature_c=t))) for t in (90.0, 55.0))
    assert hot["power_cap_or_throttle"] > p["power_cap_or_throttle"] > cool["power_cap_or_throttle"]


def test_only_what_can_have_run_is_suspected():
    """No INT8 on a V100, no 32-bit weights in place of 32-bit weights, no batch that did not run where none was stated."""
    volta = {h.pattern for h in hypotheses(request(**A800 | {"gpu": "v100"}))}
    assert "int8_decomposition" not in volta and "quantization_not_applied" in volta
    single = {h.pattern for h in hypotheses(request(**A800 | {"quantization": "fp32"}))}
    assert not single & {"quantization_not_applied", "batch_not_applied"}
    int8 = {h.pattern for h in hypotheses(request(**A800 | {"quantization": "int8_default", "batch_size": 8}))}
    assert {"quantization_not_applied", "batch_not_applied"} <= int8 and "int8_decomposition" not in int8


def test_32_bit_weights_take_twice_the_bytes_and_more_time():
    """Twice the bytes and as many launches: energy and time of a step rise, and by less than two."""
    h = next(h for h in hypotheses(request(model="qwen2-7b", gpu="rtx5090", input_tokens=256)) if h.variant == "32-bit weights ran")
    here = state(request(model="qwen2-7b", gpu="rtx5090", input_tokens=256))
    energy, pace = np.exp(h.state.centre - here.centre)
    assert 1.3 < energy < 2 and 0.5 < pace < 0.9
    assert h.memory_gb == pytest.approx(7.6 * 4, rel=0.06)


def test_memory_tells_what_was_loaded():
    four = request(**A800 | {"quantization": "nf4"})
    seen = Figures(30.0, 4.3)
    small, large = (by_pattern(weigh(hypotheses(four), replace(seen, memory_gb=m))) for m in (4.6, 15.0))
    assert small["quantization_not_applied"] < 0.1 < 0.9 < large["quantization_not_applied"]


def test_none_of_these_wins_where_nothing_fits():
    assert next(iter(by_pattern(weigh(FIT, Figures(36.9, 4.37 / 52))))) == NONE


def test_ratios_within_sessions_are_the_comparisons():
    int8 = request(**A800 | {"quantization": "int8_default"})
    log_ratio, sd, rows = ratio(int8, HERE)
    expected = np.mean(np.log(list(session_ratios(int8).values())))
    assert log_ratio == pytest.approx(expected) and sd > 0 and len(rows) == 2
    assert log_ratio == pytest.approx(np.mean(np.log([9608 / 4334, 10161.92 / 4402.43])), abs=1e-3)


def test_what_no_row_knows_has_no_ratio():
    with pytest.raises(UserError, match="measure both"):
        ratio(request(**A800 | {"quantization": "awq"}), HERE)


def test_probability_of_costing_more():
    assert p_above(np.log(1.05), 0.1) == pytest.approx(0.5)
    assert p_above(0.5, 0.1) > 0.99 > 0.01 > p_above(-0.5, 0.1)


def test_a_saving_of_a_ratio():
    """Twice the energy: half is saved; t(10) at 97.5 % is 2.2281."""
    q = remedies.saving(np.log(2), 0.1)
    assert q.value == pytest.approx(0.5) and q.low == pytest.approx(1 - np.exp(0.22281) / 2, abs=1e-4)


def test_half_precision_is_no_choice_to_warn_of():
    assert [c.pattern for c in choices(HERE, FOUND)] == ["batch_1_waste"]
    assert choices(request(**A800 | {"batch_size": 8}), FOUND) == []
