"""The errors that a prediction will make, found by leaving out what it will not know: a whole card, a model's shape or a session.

A fold predicts only what it may: a row whose strategy, batch or size the remaining rows do not support is counted as refused. One card
under several labels is one fold, and so are models of one shape: otherwise the answer leaks.
"""

from functools import cache

import numpy as np
import pandas as pd
from scipy import stats

from eai.predict.models import FITS, target_values
from eai.predict.support import refusal

LEFT_OUT = ("gpu", "shape", "session")
TARGETS = ("energy", "time")


def fold_errors(rows: pd.DataFrame, left_out: str, model: str, target: str = "energy") -> pd.DataFrame:
    """One row a clean row: `fold`, `log_error` (predicted over measured), and for a row refused for its batch `larger_batch_error`.

    `left_out`: gpu | shape | session; `model`: physics | log_linear. `refused` says why a row is refused, empty if it is not. The error at
    larger batches is what extrapolating the batch would have cost: it widens the intervals of batches that only one session has seen.
    """
    parts = []
    for fold in sorted(rows[left_out].unique()):
        train, test = rows[rows[left_out] != fold], rows[rows[left_out] == fold]
        refused = np.array([refusal(train, row) for row in test.to_dict("records")], dtype=object)
        seen = test["quantization"].isin(train["quantization"]).to_numpy()
        error = np.full(len(test), np.nan)
        if seen.any():
            predicted = FITS[model](train, target).step(test[seen])
            error[seen] = np.log(predicted / target_values(test[seen], target))
        named = test[["gpu", "shape", "session", "quantization", "batch_size", "rows"]]
        larger = np.where(pd.Series(refused).str.startswith("batch "), error, np.nan)
        parts.append(named.assign(fold=fold, log_error=np.where(refused == "", error, np.nan), larger_batch_error=larger, refused=refused))
    return pd.concat(parts, ignore_index=True).assign(left_out=left_out, model=model, target=target)


def relative(log_error) -> np.ndarray:
    """The size of an error as a fraction of the smaller of the two: 0.2 is a factor of 1.2 either way."""
    return np.expm1(np.abs(np.asarray(log_error, float)))


def fold_table(errors: pd.DataFrame) -> pd.DataFrame:
    """One row a fold: rows predicted and refused, median and largest relative error, and the mean log error (bias)."""
    groups = errors.groupby(["target", "left_out", "model", "fold"], sort=True)
    return groups.apply(_of_fold, include_groups=False).reset_index()


def _of_fold(rows: pd.DataFrame) -> pd.Series:
    error = rows["log_error"].dropna()
    size = relative(error)
    middle, worst = (float(np.median(size)), float(size.max())) if len(size) else (np.nan, np.nan)
    return pd.Series(
        {"n": len(error), "refused": int((rows["refused"] != "").sum()), "median": middle, "worst": worst, "bias": error.mean()}
    )


def overall(errors: pd.DataFrame) -> dict[str, float]:
    """The errors of all folds together: number of folds and rows, refused rows, median and 90th percentile, root mean square of the log."""
    error = errors["log_error"].dropna()
    size = relative(error)
    return {
        "folds": int(errors.loc[error.index, "fold"].nunique()),
        "n": len(error),
        "refused": int((errors["refused"] != "").sum()),
        "median": float(np.median(size)),
        "p90": float(np.quantile(size, 0.9)),
        "rms_log": rms(errors),
    }


def rms(errors: pd.DataFrame) -> float:
    """Root mean square of the log errors with every fold counted alike: a card with many rows is still one card."""
    return float(np.sqrt((errors["log_error"] ** 2).groupby(errors["fold"]).mean().dropna().mean()))


def half_width(errors: pd.DataFrame, confidence: float = 0.95) -> float:
    """Half the width, on the log scale, of a prediction interval: t at as many degrees of freedom as folds, times the errors' rms.

    The errors are about 0, not about their mean, so no degree is lost; three cards give t = 3.18, and honest, wide intervals.
    """
    folds = errors.loc[errors["log_error"].notna(), "fold"].nunique()
    return float(stats.t.ppf(0.5 + confidence / 2, folds) * rms(errors)) if folds else float("nan")


def coverage(errors: pd.DataFrame, confidence: float = 0.95) -> dict[str, float]:
    """How often the interval made of the other folds' errors holds the rows of a fold: `covered` of `n` rows, in `folds` folds.

    With few folds this shows a gross failure and nothing finer: rows of one fold err together.
    """
    inside, n = 0, 0
    for fold, rows in errors.dropna(subset=["log_error"]).groupby("fold"):
        others = errors[errors["fold"] != fold]
        if others["log_error"].notna().any():
            inside += int((rows["log_error"].abs() <= half_width(others, confidence)).sum())
            n += len(rows)
    return {"covered": inside, "n": n, "folds": int(errors.loc[errors["log_error"].notna(), "fold"].nunique())}


def larger_batch_rms(errors: pd.DataFrame) -> float:
    """Root mean square of the log errors of rows whose batch the fold's other rows had not seen; 0 if there is none."""
    error = errors["larger_batch_error"].dropna()
    return float(np.sqrt((error**2).mean())) if len(error) else 0.0


def replicated_batch(rows: pd.DataFrame) -> int:
    """The largest batch size that two sessions have seen: beyond it no fold tests a prediction within its support."""
    sessions = rows.groupby("batch_size")["session"].nunique()
    return int(sessions.index[sessions >= 2].max()) if (sessions >= 2).any() else 1


class Judged:
    """The clean rows with the errors of both models in every kind of fold, and the model that serves each kind best.

    `errors` and `summary` (left_out, model, target), `fitted` (model, target) and `best` (left_out, target) are computed once.
    """

    def __init__(self, rows: pd.DataFrame):
        self.rows = rows
        self.errors = cache(self._errors)
        self.fitted = cache(lambda model, target: FITS[model](rows, target))
        self.summary = cache(self._summary)
        self.best = cache(self._best)

    def _errors(self, left_out: str, model: str, target: str) -> pd.DataFrame:
        return fold_errors(self.rows, left_out, model, target)

    def _summary(self, left_out: str, model: str, target: str) -> dict:
        """`overall` of the folds, with `half_width`, `coverage` and the rms at larger batches: once, as every prediction asks for it."""
        errors = self.errors(left_out, model, target)
        return {
            "model": model,
            "left_out": left_out,
            **(overall(errors) if errors["log_error"].notna().any() else {"n": 0}),
            "half_width": half_width(errors),
            "coverage": coverage(errors),
            "larger_batch_rms": larger_batch_rms(errors),
        }

    def _best(self, left_out: str, target: str) -> str:
        """The model with the smaller pooled leave-one-out rms: what is shipped is what predicted better."""
        pooled = {model: (self.errors(left_out, model, target)["log_error"] ** 2).mean() for model in FITS}
        return min(pooled, key=lambda model: pooled[model] if np.isfinite(pooled[model]) else np.inf)
