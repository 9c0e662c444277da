"""Predictions: the models find planted laws, folds leak nothing, intervals cover, and what was never seen is refused."""

import json

import numpy as np
import pandas as pd
import pytest

from eai import catalog, paths
from eai.errors import UserError
from eai.predict import clean_rows, fold_errors, predict
from eai.predict.features import feature_table
from eai.predict.folds import Judged, coverage, half_width, larger_batch_rms, overall, relative, rms
from eai.predict.models import fit_log_linear, fit_physics, target_values
from eai.predict.support import most_batch, refusal, unseen


@pytest.fixture(scope="module")
def rows():
    return clean_rows("gross", [])


@pytest.fixture(scope="module")
def known(rows):
    return Judged(rows)


def planted(noise: float, seed: int = 0) -> pd.DataFrame:
    """Rows that follow the physical energy law exactly, but for log-normal noise; the constants lie far from the priors."""
    rng = np.random.default_rng(seed)
    models = ("tinyllama-1.1b-chat-v1.0", "qwen2.5-3b", "yi-6b", "mistral-7b-v0.1", "yi-1.5-9b", "qwen2.5-14b")
    grid = [
        (gpu, model, quantization, batch, 256, 256)
        for gpu in ("a800_sxm_80gb", "rtx4090d", "rtx5090", "h100_sxm", "l40s")
        for model in models
        for quantization in ("fp16", "nf4", "int8_pure")
        for batch in (1, 8, 64)
    ]
    table = pd.DataFrame(grid, columns=["gpu", "model", "quantization", "batch_size", "input_tokens", "output_tokens"])
    f = feature_table(table)
    cost = f["quantization"].map({"fp16": 0.0, "nf4": 0.2, "int8_pure": 0.3})
    step_j = 0.1 * (f["layers"] + f["modules"] * cost) + 0.5 * f["tdp_w"] / f["bandwidth_gb_s"] * f["step_gb"] + 0.02 * f["step_gflop"]
    f["session"], f["rows"] = f["gpu"] + "-session", "planted"
    f["energy_j_per_token"] = step_j * np.exp(noise * rng.standard_normal(len(f))) / f["batch_size"]
    f["step_s"] = 1e-3 * f["layers"]
    return f


def test_the_physics_finds_planted_constants():
    fitted = fit_physics(planted(0.0), "energy")
    assert fitted.constants == pytest.approx({"launch_j": 0.1, "byte_share": 0.5, "flop_nj": 0.02}, rel=0.03)
    assert fitted.costs == pytest.approx({"nf4": 0.2, "int8_pure": 0.3}, rel=0.03)


def test_the_log_linear_model_is_ordinary_least_squares(rows):
    """Against statsmodels' OLS on the same design."""
    import statsmodels.formula.api as smf

    table = rows.assign(y=np.log(target_values(rows, "energy")), size=np.log(rows["params"]), batch=np.log(rows["batch_size"]))
    ols = smf.ols("y ~ size + batch + C(quantization, Treatment('fp16'))", table).fit()
    fitted = fit_log_linear(rows, "energy")
    assert fitted.step(rows) == pytest.approx(np.exp(ols.fittedvalues.to_numpy()), rel=1e-6)


def test_effects_of_cards_and_sessions_shrink(rows):
    """A ridge pulls them to zero: they are smaller than without, and their weighted scale stays within the prior's."""
    fitted = fit_physics(rows, "energy")
    assert max(abs(v) for v in [*fitted.cards.values(), *fitted.sessions.values()]) < 0.3
    unknown = rows.assign(gpu="never", session="never")
    known_step, without = fitted.step(rows), fitted.step(unknown)
    effect = rows["gpu"].map(fitted.cards) + rows["session"].map(fitted.sessions)
    assert np.log(known_step / without) == pytest.approx(effect.to_numpy())


def test_a_step_is_never_faster_than_the_memory(rows):
    fitted, slow = fit_physics(rows, "time"), rows.assign(roofline_s=0.5)
    assert (fitted.step(rows) >= rows["roofline_s"].to_numpy()).all()
    assert fitted.step(slow) == pytest.approx(0.5, rel=0.01), "far below the launches' time the bytes decide alone"


def test_folds_are_cards_and_leak_nothing(rows):
    errors = fold_errors(rows, "gpu", "log_linear")
    assert set(errors["fold"]) == {"a800_sxm_80gb", "rtx4090d", "rtx5090"} and (errors["fold"] == errors["gpu"]).all()
    doubled = rows.assign(energy_j_per_token=rows["energy_j_per_token"].where(rows["gpu"] != "rtx5090", 2 * rows["energy_j_per_token"]))
    again = fold_errors(doubled, "gpu", "log_linear")
    own = errors["gpu"] == "rtx5090"
    shift = again.loc[own, "log_error"] - errors.loc[own, "log_error"]
    assert shift.dropna().to_numpy() == pytest.approx(-np.log(2)), "the left-out card's values reached its own prediction"


def test_the_shipped_predictions_reach_the_baselines_error(rows):
    """A log-linear baseline reaches 15 % median and 35 % at the 90th percentile when a card is left out; what is shipped must too."""
    known = Judged(rows)
    shipped = overall(known.errors("gpu", known.best("gpu", "energy"), "energy"))
    assert shipped["median"] <= 0.15 and shipped["p90"] <= 0.35 and shipped["folds"] == 3
    assert known.best("shape", "energy") == "physics" and known.best("session", "energy") == "physics"


def test_errors_are_summarized_fold_by_fold():
    errors = pd.DataFrame({"fold": ["a"] * 3 + ["b"], "log_error": [0.1, 0.1, 0.1, 0.3], "refused": ""})
    assert rms(errors) == pytest.approx(np.sqrt((0.01 + 0.09) / 2))
    assert half_width(errors) == pytest.approx(4.3027 * rms(errors), rel=1e-4), "t at two folds"
    assert relative([np.log(1.2), -np.log(1.2)]) == pytest.approx([0.2, 0.2])


def test_coverage_uses_the_other_folds_alone():
    errors = pd.DataFrame({"fold": ["a", "a", "b", "b"], "log_error": [0.01, -0.01, 5.0, 0.02], "refused": ""})
    found = coverage(errors)
    assert found == {"covered": 3, "n": 4, "folds": 2}, "an error of 5 lies outside what fold a's errors allow"


def test_intervals_cover_on_planted_truth():
    """Leave-one-card-out intervals of simulated campaigns hold at least their 95 % (they are wide: t at five folds)."""
    inside = [coverage(fold_errors(planted(0.2, seed), "gpu", "log_linear")) for seed in range(3)]
    assert sum(c["covered"] for c in inside) / sum(c["n"] for c in inside) >= 0.95


def test_a_prediction_holds_its_parts(known):
    p = predict("rtx5090", "qwen3-8b", "nf4", 1, 256, 256, known=known)
    assert p.basis == "predicted" and p.kind == "shape" and p.folds["energy"]["model"] == "physics"
    assert p.energy_j_per_token.low < p.energy_j_per_token.value < p.energy_j_per_token.high
    assert p.power_w.value == pytest.approx(p.energy_j_per_token.value * p.throughput_tok_s.value)
    assert p.power_w.high <= catalog.gpu("rtx5090").tdp_w and len(p.rows) >= 5 and "leave-one-" in p.explained


def test_the_interval_follows_from_the_folds(known):
    p = predict("h100_sxm", "mistral-7b-v0.1", "fp16", 1, 256, 256, known=known)
    half = half_width(known.errors("gpu", known.best("gpu", "energy"), "energy"))
    assert p.kind == "gpu" and np.log(p.energy_j_per_token.high / p.energy_j_per_token.value) == pytest.approx(half)


def test_a_longer_prompt_costs_more_and_says_so(known):
    short, long = (predict("a800", "mistral-7b-v0.1", "fp16", 1, n, 256, known=known) for n in (256, 2048))
    assert long.energy_j_per_token.value > short.energy_j_per_token.value and any("prefill" in r for r in long.remarks)


def test_batches_that_one_session_saw_get_wider_intervals(known):
    small, large = (predict("a800", "mistral-7b-v0.1", "int8_pure", b, 256, 256, known=known) for b in (8, 32))
    width = [np.log(p.energy_j_per_token.high / p.energy_j_per_token.low) for p in (small, large)]
    extrapolated = 1.96 * larger_batch_rms(known.errors("session", "physics", "energy"))
    assert width[1] / 2 == pytest.approx(np.hypot(width[0] / 2, extrapolated)) and extrapolated > 0.2
    assert any("one session" in r for r in large.remarks) and not any("one session" in r for r in small.remarks)


@pytest.mark.parametrize(
    ("asked", "word"),
    [
        (("a800", "mistral-7b-v0.1", "fp8"), "no clean row has strategy fp8"),
        (("a800", "llama-3-70b-instruct", "fp16"), "70.55 B parameters"),
        (("a800", "smollm2-135m-instruct", "fp16"), "0.13 B parameters"),
        (("a800", "mistral-7b-v0.1", "nf4", 8), "batch 8 of nf4"),
        (("a800", "mistral-7b-v0.1", "int8_pure", 65), "batch 65"),
        (("t4", "qwen2-1.5b", "nf4"), "320 GB/s"),
        (("b200", "mistral-7b-v0.1", "fp16"), "8000 GB/s"),
        (("a800", "mistral-7b-v0.1", "fp16", 1, 4000, 256), "context of 4256"),
        (("a800", "mistral-7b-v0.1", "fp16", 64, 2048, 16), "reading the prompt"),
    ],
)
def test_what_was_never_seen_is_refused(known, asked, word):
    with pytest.raises(UserError, match="measure it: `eai run`") as error:
        predict(*asked, known=known)
    assert word in str(error.value)


def test_net_energy_is_predicted_on_cards_with_net_rows_alone():
    assert predict("rtx4090d", "mistral-7b-v0.1", "nf4", 1, 256, 256, "net").energy_j_per_token.value > 0
    with pytest.raises(UserError, match="net energy is known on rtx4090d alone"):
        predict("a800", "mistral-7b-v0.1", "nf4", 1, 256, 256, "net")


def test_support_is_that_of_the_rows(rows):
    assert most_batch(rows, "int8_pure") == most_batch(rows, "fp16") == 64 and most_batch(rows, "nf4") == 1
    wanted = rows.iloc[0].to_dict()
    assert refusal(rows, wanted) == "" and unseen(rows, wanted) == "session"
    assert unseen(rows, wanted | {"gpu": "h100_sxm"}) == "gpu" and unseen(rows, wanted | {"shape": "other"}) == "shape"


def test_the_prediction_written_down_before_the_measurement_is_this_models():
    """The stored forecast of an unmeasured card follows from the published rows; whoever changes the model must date it anew."""
    stored = json.loads((paths.ROOT / "benchmarks" / "predictions" / "h200_sxm.json").read_text())
    known = Judged(clean_rows("gross", []))
    assert stored["gpu"] not in set(known.rows["gpu"]) and stored["learned_from"] == len(known.rows)
    assert len(stored["predictions"]) > 50
    lengths = stored["input_tokens"], stored["output_tokens"]
    for p in stored["predictions"][::17]:
        again = predict(stored["gpu"], p["model"], p["quantization"], p["batch_size"], *lengths, known=known)
        assert again.energy_j_per_token.value == pytest.approx(p["energy_j_per_token"]["value"], rel=0.01)
        assert p["energy_j_per_token"]["low"] < p["energy_j_per_token"]["value"] < p["energy_j_per_token"]["high"]
