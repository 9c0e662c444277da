"""Published claims against an experiment: reproduced, contradicted, or left as they were."""

import numpy as np
import pandas as pd
import pytest
from statsmodels.stats.proportion import confint_proportions_2indep, proportion_confint

from eai.claims import evidence
from eai.claims.evidence import ENERGY
from eai.errors import UserError

CLAIM = {
    "kind": "change",
    "quantity": "energy_wh",
    "factor": "quantization",
    "level": "unspecified_fp16_mixed",
    "reference": "unspecified_baseline",
}
CLAIM |= {"statistic": "each", "low": -16.0, "high": -16.0, "tolerance": 1.0, "unit": "%", "where": "", "claim": "c", "id": "x"}


def claim(**changes):
    return pd.Series(CLAIM | changes)


def summary(ratio, half=0.005, **changes):
    """A baseline and a level with energies and the paired ratio with its interval."""
    base = {
        "gpu": "h200_sxm",
        "model": "m",
        "weights": "published",
        "batch_size": 1,
        "input_tokens": 512,
        "output_tokens": 256,
        "task": "generate",
        "basis": "measured",
        "gate": "ok",
        "baseline": "fp32",
    }
    rows = []
    for name, r in (("fp32", 1.0), ("fp16_mixed", ratio)):
        interval = {"ratio_to_baseline": r, "ratio_to_baseline_low": r - half, "ratio_to_baseline_high": r + half}
        energy = {"energy_j_per_token": 2.0 * r, "energy_j_per_token_low": 1.98 * r, "energy_j_per_token_high": 2.02 * r}
        rows.append(base | {"quantization": name} | energy | interval | changes)
    return pd.DataFrame(rows)


@pytest.mark.parametrize(
    ("ratio", "verdict"), [(0.84, "reproduced"), (0.95, "contradicted"), (1.2, "contradicted"), (0.70, "contradicted")]
)
def test_the_interval_decides(ratio, verdict):
    outcome = evidence.by_experiment(claim(), summary(ratio))
    assert outcome.verdict == verdict
    assert f"{100 * (ratio - 1):+.1f}" in outcome.reason


def test_a_wide_interval_cannot_tell():
    assert evidence.by_experiment(claim(), summary(0.84, half=0.15)).verdict == "untested"


def test_without_a_paired_interval_both_intervals_are_used():
    frame = summary(0.84).assign(baseline="other", ratio_to_baseline_low=None, ratio_to_baseline_high=None)
    # 1 % each: sqrt(2) x 1 % on the ratio
    outcome = evidence.by_experiment(claim(tolerance=3.0), frame)
    assert "-16.0 [-17.2, -14.8]" in outcome.reason


def test_a_claim_from_the_baseline_s_side_takes_the_paired_ratio_upside_down():
    turned = claim(level="unspecified_baseline", reference="unspecified_fp16_mixed", low=15.0, high=25.0)
    outcome = evidence.by_experiment(turned, summary(0.84))  # 1 / 0.84 = 1.190, 1 / 0.845 = 1.183, 1 / 0.835 = 1.198
    assert outcome.verdict == "reproduced" and "+19.0 [+18.3, +19.8] %" in outcome.reason


@pytest.mark.parametrize(
    "changes",
    [{"basis": "estimated"}, {"basis": "simulated"}, {"gate": "rejected"}, {"gpu": "cpu"}],
    ids=["estimated", "simulated", "rejected", "energy of a CPU for a GPU's claim"],
)
def test_rows_that_may_not_speak_leave_the_published_verdict(changes):
    assert evidence.by_experiment(claim(), summary(0.95, **changes)) is None


def test_random_weights_do_not_speak_about_the_int8_decomposition():
    frame = summary(2.0, weights="random").replace({"fp16_mixed": "int8_default"})
    int8 = claim(level="int8_default", reference="fp32", low=17.0, high=147.0, kind="range")
    assert evidence.by_experiment(int8, frame) is None
    assert evidence.by_experiment(int8, frame.assign(weights="random_outliers")).verdict == "reproduced"


def test_the_scope_of_the_claim_is_kept():
    elsewhere = claim(where="gpu=rtx4090d & session=x")
    assert evidence.by_experiment(elsewhere, summary(0.95)) is None
    assert evidence.by_experiment(elsewhere, summary(0.95, gpu="rtx4090d")).verdict == "contradicted"


def test_no_experiment_and_other_kinds_leave_the_published_verdict():
    assert evidence.by_experiment(claim(), None) is None
    assert evidence.by_experiment(claim(kind="correlation"), summary(0.95)) is None
    assert evidence.by_experiment(claim(quantity="carbon_kg"), summary(0.95)) is None
    with pytest.raises(UserError, match="lacks 'gate'"):
        evidence.by_experiment(claim(), summary(0.95).drop(columns="gate"))


def study(energies, half=0.01, **changes):
    """Rows of one stratum: strategy -> (energy, score or None) or energy alone, each with its interval; 4,000 items a score."""
    rows = []
    for name, given in energies.items():
        energy, score = given if isinstance(given, tuple) else (given, None)
        low, high = proportion_confint(4000 * score, 4000, method="wilson") if score is not None else (None, None)
        interval = {ENERGY: energy, f"{ENERGY}_low": energy * (1 - half), f"{ENERGY}_high": energy * (1 + half)}
        interval |= {f"{ENERGY}_abs_low": energy * (1 - 3 * half), f"{ENERGY}_abs_high": energy * (1 + 3 * half)}
        key = {"gpu": "a100_pcie_40gb", "model": "m", "weights": "published", "batch_size": 1, "input_tokens": 0, "output_tokens": 0}
        row = key | {"quantization": name, "task": "mmlu", "options": "{}", "configuration_id": name, "n_blocks": 5, "n_items": 4000}
        row |= {"basis": "measured", "gate": "ok", "baseline": "fp32", "ratio_to_baseline": 1.0}
        row |= {"ratio_to_baseline_low": None, "ratio_to_baseline_high": None}
        rows.append(row | interval | {"score": score, "score_low": low, "score_high": high} | changes)
    return pd.DataFrame(rows)


BEST = {"kind": "ranking", "quantity": "energy_wh", "factor": "quantization", "level": "unspecified_int8", "reference": "", "low": None}


@pytest.mark.parametrize(
    ("energies", "verdict", "words"),
    [
        ({"fp32": 2.0, "fp16_mixed": 1.6, "int8_pure": 1.2}, "reproduced", "shown first in 2 of 2"),
        ({"fp32": 2.0, "fp16_mixed": 1.2, "int8_pure": 1.6}, "contradicted", "int8_pure against fp16_mixed: better by x 0.75"),
        ({"fp32": 2.0, "fp16_mixed": 1.21, "int8_pure": 1.2}, "untested", "shown first in 1 of 2 comparisons, the others are not decided"),
        ({"fp32": 2.0, "int8_default": 2.6, "int8_pure": 1.2}, "reproduced", "shown first in 1 of 1"),
    ],
    ids=["first", "beaten", "a draw", "one of two readings of the name is first"],
)
def test_a_ranking_is_what_the_intervals_show(energies, verdict, words):
    outcome = evidence.by_experiment(claim(**BEST), study(energies))
    assert outcome.verdict == verdict and words in outcome.reason


def test_many_rivals_ask_for_wider_intervals():
    """Half-widths of 1 % give 1.41 % on a ratio at t(4) = 2.78; 2.5 % is shown for one rival, not for 12 (t(0.025/12, 4) = 5.98)."""
    one = {"fp32": 1.025, "int8_pure": 1.0}
    assert evidence.by_experiment(claim(**BEST), study(one)).verdict == "reproduced"
    many = one | {f"int8_t{i}.5": 1.025 for i in range(1, 12)}
    assert evidence.by_experiment(claim(**BEST), study(many)).verdict == "untested"


def test_cards_are_ranked_with_the_gain_of_their_sensors():
    """4 % between two cards stand within the absolute intervals of 3 %, though not within those of one card."""
    a, b = study({"fp32": 1.0}), study({"fp32": 1.04}, gpu="rtx4090")
    ranked = claim(**BEST | {"factor": "gpu", "level": "a100_pcie"})
    both = pd.concat([a, b], ignore_index=True)
    assert evidence.by_experiment(ranked, both).verdict == "untested"
    far = pd.concat([a, study({"fp32": 1.4}, gpu="rtx4090")], ignore_index=True)
    assert evidence.by_experiment(ranked, far).verdict == "reproduced"
    assert evidence.by_experiment(ranked, pd.concat([a, study({"fp32": 0.6}, gpu="rtx4090")], ignore_index=True)).verdict == "contradicted"


LOSS = {"kind": "difference", "quantity": "accuracy_pct", "level": "unspecified_int8", "unit": "points", "low": -0.9, "high": -0.7}


@pytest.mark.parametrize(
    ("score", "verdict"), [(0.62, "contradicted"), (0.692, "untested")], ids=["8 points lost", "0.8 points: 4,000 items cannot tell"]
)
def test_a_difference_of_scores_is_newcombes(score, verdict):
    frame = study({"fp32": (2.0, 0.7), "int8_pure": (1.5, score)}, basis="estimated", gpu="cpu")
    outcome = evidence.by_experiment(claim(**LOSS, tolerance=0.05), frame)
    low, high = confint_proportions_2indep(4000 * score, 4000, 2800, 4000, method="newcomb", compare="diff")
    assert outcome.verdict == verdict and f"[{100 * low:+.1f}, {100 * high:+.1f}] points" in outcome.reason


def test_a_wide_claim_of_a_difference_is_reproduced():
    frame = study({"fp32": (2.0, 0.7), "int8_pure": (1.5, 0.66)})
    assert evidence.by_experiment(claim(**LOSS | {"low": -8.0, "high": -1.0}), frame).verdict == "reproduced"


@pytest.mark.parametrize(("score", "verdict"), [(0.70, "untested"), (0.55, "contradicted")])
def test_nearly_the_same_score_needs_items_enough(score, verdict):
    same = claim(kind="equal", quantity="accuracy", factor="quantization", level="fp16_mixed", reference="fp32", low=None, high=None)
    frame = study({"fp32": (2.0, 0.7), "fp16_mixed": (1.5, score)})
    assert evidence.by_experiment(same, frame).verdict == verdict
    sure = frame.assign(score_low=frame["score"] - 0.005, score_high=frame["score"] + 0.005)
    assert evidence.by_experiment(same, sure).verdict == ("reproduced" if score == 0.70 else "contradicted")


def test_the_share_of_the_score_that_is_kept():
    frame = study({"fp32": (2.0, 0.7), "int8_pure": (1.5, 0.63)})
    kept = claim(kind="value", quantity="accuracy_retained_pct", factor="", level="", reference="", where="quantization=unspecified_int8")
    assert evidence.by_experiment(claim(**kept.to_dict() | {"low": 98.5, "high": 98.5}), frame).verdict == "contradicted"
    outcome = evidence.by_experiment(claim(**kept.to_dict() | {"low": 80.0, "high": np.inf}), frame)
    assert outcome.verdict == "untested" and "+90.0 [" in outcome.reason  # half-widths of 2.5 points are wider than one
    assert evidence.by_experiment(claim(**kept.to_dict() | {"where": "quantization=unspecified_dynamic"}), frame) is None


def test_a_score_on_random_weights_or_simulated_says_nothing():
    frame = study({"fp32": (2.0, 0.7), "int8_pure": (1.5, 0.6)})
    for changes in ({"weights": "random"}, {"basis": "simulated"}):
        assert evidence.by_experiment(claim(**LOSS), frame.assign(**changes)) is None


def test_the_accounting_and_the_size_of_a_claim_are_kept():
    small = claim(**BEST | {"level": "fp16_mixed", "where": "params_b<=3 & accounting=net"})
    frame = study({"fp32": 2.0, "fp16_mixed": 1.0}, model="HuggingFaceTB/SmolLM2-1.7B-Instruct", energy_kind="net")
    assert evidence.by_experiment(small, frame).verdict == "reproduced"
    assert evidence.by_experiment(small, frame.assign(energy_kind="gross")) is None
    assert evidence.by_experiment(small, frame.assign(model="mistralai/Mistral-7B-v0.1")) is None


def test_every_claim_of_the_registry_meets_a_simulated_study_and_an_empty_one_without_a_crash():
    from eai import tables

    claims = tables.read_published("claims")
    frame = study(
        {"fp32": (2.0, 0.7), "fp16_mixed": (1.6, 0.69), "int8_pure": (1.5, 0.69), "dynamic": (1.9, 0.68)},
        eor=0.1,
        eor_low=0.09,
        eor_high=0.11,
    )
    models = ("Qwen/Qwen2.5-7B-Instruct", "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B", "mistralai/Mistral-7B-Instruct-v0.2")
    everything = pd.concat(
        [
            frame.assign(model=m, gpu=g, configuration_id=frame["quantization"] + m + g)
            for m in models
            for g in ("a100_pcie_40gb", "rtx4090")
        ],
        ignore_index=True,
    )
    verdicts = {row["id"]: evidence.by_experiment(row, everything) for _, row in claims.iterrows()}
    covered = {key: outcome.verdict for key, outcome in verdicts.items() if outcome is not None}
    assert {"S-energy-first", "S-accuracy-first", "S-int8-accuracy", "S-a100-best", "S-distill-graceful", "S-dynamic-retained"} <= set(
        covered
    )
    assert covered["S-energy-first"] == "reproduced" and covered["S-a100-best"] == "untested"
    assert not [key for _, row in claims.iterrows() for key in [row["id"]] if evidence.by_experiment(row, everything[:0]) is not None]
