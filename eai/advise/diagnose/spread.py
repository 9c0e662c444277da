"""How far figures of one configuration lie apart: between sessions, from predictions, from the physics beyond its support, from shares.

Every spread is a 2 x 2 matrix of second moments of log energy a token and log throughput, with its degrees of freedom, from all clean rows.
"""

from functools import cache

import numpy as np
import pandas as pd

from eai.advise.evidence import ROW_GROUP
from eai.predict.models import FITS, target_values
from eai.predict.prediction import judged
from eai.predict.support import refusal

MEASURES = ["energy_j_per_token", "throughput_tok_s"]
SHARES_TO_AXES = np.array([[-1.0, 1.0], [1.0, 0.0]])
"""Energy is power over pace, throughput is pace: rows of the result, from log shares of (pace, power)."""


@cache
def between_sessions() -> tuple[np.ndarray, int]:
    """(covariance of log energy and log throughput of one configuration between sessions, degrees of freedom), pooled over clean rows."""
    logs = np.log(judged().rows.set_index(ROW_GROUP)[MEASURES])
    residual = logs - logs.groupby(level=ROW_GROUP).transform("mean")
    df = len(residual) - residual.index.nunique()
    return (residual.T @ residual).to_numpy() / df, df


@cache
def fold_errors(left_out: str) -> tuple[np.ndarray, int]:
    """(second moments of the errors of log energy and log throughput in leave-one-out folds, number of folds); folds count alike."""
    known_rows = judged()
    energy, time = (known_rows.errors(left_out, known_rows.best(left_out, t), t) for t in ("energy", "time"))
    both = energy["log_error"].notna() & time["log_error"].notna()
    errors = pd.DataFrame({"fold": energy["fold"], "energy": -energy["log_error"], "throughput": time["log_error"]})[both]
    moments = [fold.to_numpy().T @ fold.to_numpy() / len(fold) for _, fold in errors.set_index("fold").groupby(level=0)]
    return np.mean(moments, axis=0), len(moments)


@cache
def extrapolation_errors() -> tuple[np.ndarray, int]:
    """(second moments of the physics' errors on rows that a left-out session's other rows refuse to predict, number of such sessions).

    What it costs to go beyond the sizes and batches seen: the refusal is right for a prediction with a tested interval, and a factor of
    a thousand is still told.
    """
    table, moments = judged().rows, []
    for session in table["session"].unique():
        train, test = table[table["session"] != session], table[table["session"] == session]
        refused = [bool(refusal(train, row)) and row["quantization"] in set(train["quantization"]) for row in test.to_dict("records")]
        if any(refused):
            test = test[refused]
            logs = {t: np.log(target_values(test, t) / FITS["physics"](train, t).step(test)) for t in ("energy", "time")}
            moments.append(_moments(np.c_[logs["energy"], -logs["time"]]))
    return np.mean(moments, axis=0), len(moments)


@cache
def share_errors() -> tuple[np.ndarray, int]:
    """(second moments of the errors by `shares` with one session left out, as if its strategies had no rows, number of sessions)."""
    table, moments = judged().rows, []
    for session in table["session"].unique():
        out = table["session"] == session
        for strategy in table.loc[out, "quantization"].unique():
            same = table["quantization"] == strategy
            moments.append(_moments((shares(table[out & same]) - shares(table[~out & ~same]).mean(axis=0)) @ SHARES_TO_AXES.T))
    return np.mean(moments, axis=0), int(table["session"].nunique())


def shares(table: pd.DataFrame) -> np.ndarray:
    """Logarithms of the shares of the roofline's pace and of the board's power that rows reach, one row a clean row."""
    power_w = table["energy_j_per_token"] * table["throughput_tok_s"]
    return np.log(np.c_[table["roofline_s"] / table["step_s"], power_w / table["tdp_w"]])


def _moments(errors: np.ndarray) -> np.ndarray:
    return errors.T @ errors / len(errors)
