"""Published claims against an experiment: reproduced, contradicted, or left as they were."""

import pandas as pd
import pytest

from eai.claims import measured
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
    outcome = measured.judge(claim(), summary(ratio))
    assert outcome.verdict == verdict
    assert f"{100 * (ratio - 1):+.1f}" in outcome.reason


def test_a_wide_interval_cannot_tell():
    assert measured.judge(claim(), summary(0.84, half=0.15)).verdict == "untested"


def test_without_a_paired_interval_both_intervals_are_used():
    frame = summary(0.84).assign(baseline="other", ratio_to_baseline_low=None, ratio_to_baseline_high=None)
    # 1 % each: sqrt(2) x 1 % on the ratio
    outcome = measured.judge(claim(tolerance=3.0), frame)
    assert "-16.0 [-17.2, -14.8]" in outcome.reason


@pytest.mark.parametrize(
    "changes",
    [{"basis": "estimated"}, {"basis": "simulated"}, {"gate": "rejected"}, {"gpu": "cpu"}],
    ids=["estimated", "simulated", "rejected", "energy of a CPU for a GPU's claim"],
)
def test_rows_that_may_not_speak_leave_the_published_verdict(changes):
    assert measured.judge(claim(), summary(0.95, **changes)) is None


def test_random_weights_do_not_speak_about_the_int8_decomposition():
    frame = summary(2.0, weights="random").replace({"fp16_mixed": "int8_default"})
    int8 = claim(level="int8_default", reference="fp32", low=17.0, high=147.0, kind="range")
    assert measured.judge(int8, frame) is None
    assert measured.judge(int8, frame.assign(weights="random_outliers")).verdict == "reproduced"


def test_the_scope_of_the_claim_is_kept():
    elsewhere = claim(where="gpu=rtx4090d & session=x")
    assert measured.judge(elsewhere, summary(0.95)) is None
    assert measured.judge(elsewhere, summary(0.95, gpu="rtx4090d")).verdict == "contradicted"


def test_no_experiment_and_other_kinds_leave_the_published_verdict():
    assert measured.judge(claim(), None) is None
    assert measured.judge(claim(kind="ranking"), summary(0.95)) is None
    with pytest.raises(UserError, match="lacks 'gate'"):
        measured.judge(claim(), summary(0.95).drop(columns="gate"))
