"""Where energy and throughput of a configuration are expected, and how far a new session may lie from there.

On the log scale, as a mixture of bivariate t distributions. Rows of the configuration: half the weight on the spread between sessions of
the same configuration, half on the errors of predicting a session from the others, because the reader's host and software are not the
rows'. No row: the leave-one-out errors of predictions of that kind; beyond the sizes and batches that rows support, also the errors that
the physics made there. A strategy without rows: the shares of the roofline and of the board's limit that clean rows reach, which is wide
and still tells a factor of a thousand.
"""

from dataclasses import dataclass, replace
from functools import cache, cached_property
from typing import Any

import numpy as np
import pandas as pd

from eai import footprint
from eai.advise.diagnose.spread import (
    MEASURES,
    SHARES_TO_AXES,
    between_sessions,
    extrapolation_errors,
    fold_errors,
    share_errors,
    shares,
)
from eai.advise.evidence import LENGTH_EFFECT, rows
from eai.advise.parameters import Request
from eai.errors import UserError
from eai.predict.features import canonical, features, shape
from eai.predict.folds import Judged, replicated_batch
from eai.predict.prediction import FOLDS_OF, judged, prefill_cost, why_not
from eai.predict.support import unseen

SAME_HOST_SHARE = 0.5


@dataclass(frozen=True)
class Part:
    """One part of the mixture: its weight, the 2 x 2 covariance of log energy and log throughput, degrees of freedom."""

    weight: float
    covariance: np.ndarray
    df: float


@dataclass(frozen=True)
class State:
    """A configuration's expected log energy a token [J] and log throughput [tok/s], the errors around them, and what they rest on."""

    request: Request
    centre: np.ndarray
    parts: tuple[Part, ...]
    basis: str
    sources: tuple[str, ...]

    @property
    def power_w(self) -> float:
        """Expected mean power: energy a token times throughput, at most the board's limit."""
        return float(min(np.exp(self.centre.sum()), self.request.gpu.tdp_w or np.inf))

    @property
    def name(self) -> str:
        """`fp16 at batch 8`."""
        return f"{self.request.quantization} at batch {self.request.batch_size}"

    @property
    def rows(self) -> str:
        """The source rows in short, `ecocompute_measurements.csv:61, 91`; without rows, what the expectation rests on."""
        places = [source.split(" (")[0].rpartition(":") for source in self.sources]
        if self.basis not in ("published", "measured"):
            return "; ".join(self.sources)
        files = dict.fromkeys(file for file, _, _ in places)
        return "; ".join(f"{file}:{', '.join(line for f, _, line in places if f == file)}" for file in files)

    def interval(self, axis: int) -> tuple[float, float, float]:
        """(value, low, high) of one axis, 95 %: normal with the mixture's variance."""
        half = 1.96 * float(np.sqrt(sum(p.weight * p.covariance[axis, axis] for p in self.parts)))
        return tuple(float(np.exp(self.centre[axis] + d)) for d in (0.0, -half, half))


@dataclass(frozen=True)
class Known:
    """What expectations may rest on: rows that may be cited and clean rows with models fitted to them. `without`: sessions left out.

    The sizes of the errors come from all rows: they are leave-one-out errors, and one session changes them little.
    """

    without: tuple[str, ...] = ()

    @cached_property
    def rows(self) -> pd.DataFrame:
        """The rows that may be cited."""
        table = rows()
        return table[~table["session"].isin(self.without)].reset_index(drop=True)

    @cached_property
    def learned(self) -> Judged:
        """The clean rows with the models fitted to them."""
        return Judged(judged().rows[~judged().rows["session"].isin(self.without)].reset_index(drop=True)) if self.without else judged()

    @cached_property
    def memory(self) -> dict[tuple, Any]:
        """What was worked out before, by question and configuration: one diagnosis asks for a state a dozen times."""
        return {}

    def step(self, r: Request, target: str, kind: str | None) -> float:
        """Energy [J] or time [s] a token, prompt included, by the model that serves this kind of question best; the physics for none."""
        model = judged().best(kind, target) if kind else "physics"
        wanted = _features(r)
        a_step = float(self.learned.fitted(model, target).step(pd.DataFrame([wanted]))[0])
        return a_step / r.batch_size + prefill_cost(r.gpu, r.model, r.input_tokens, r.output_tokens)[target == "time"]


def _features(r: Request) -> dict:
    """What one decode step of a request must do."""
    return features(r.gpu, r.model, r.quantization, r.batch_size, r.input_tokens, r.output_tokens)


@cache
def known(without: tuple[str, ...] = ()) -> Known:
    """The rows and models without some sessions, once a process."""
    return Known(without)


def state(r: Request, k: Known | None = None) -> State:
    """The expected state of a configuration: from its rows, else a prediction, else the shares that clean rows reach.

    Raises UserError where the catalog lacks the card's bandwidth, board power or peaks.
    """
    k, key = k or known(), ("state", *r.configuration.values())
    if key not in k.memory:
        k.memory[key] = _state(r, k)
    return replace(k.memory[key], request=r)


def _state(r: Request, k: Known) -> State:
    if r.gpu.bandwidth_gb_s is None or r.gpu.tdp_w is None or r.gpu.fp16_tflops is None:
        raise UserError(f"the catalog has no bandwidth, compute peak or board power of {r.gpu.name}", "", "choose a GPU that has them")
    return _of_rows(r, k) or _predicted(r, k) or _of_shares(r, k)


def _of_rows(r: Request, k: Known) -> State | None:
    """The state from rows of the configuration whose token lengths cost what the requested ones do; None without."""
    table = matching(r, k)
    if table.empty:
        return None
    effects = np.log(
        [[k.step(r, t, "session") / k.step(_as_row(r, row), t, "session") for t in ("energy", "time")] for row in _each(table)]
    )
    near = np.abs(effects[:, 0]) <= np.log1p(LENGTH_EFFECT)
    if not near.any():
        return None
    logs = np.log(table[MEASURES].to_numpy(float)) + effects * [1, -1]
    means = pd.DataFrame(logs[near]).groupby(table["session"].to_numpy()[near]).mean()
    share = 1 + 1 / len(means)
    (own, df), (other, folds) = between_sessions(), fold_errors("session")
    parts = (Part(SAME_HOST_SHARE, own * share, df), Part(1 - SAME_HOST_SHARE, other * share, folds))
    used = table[near]
    basis = "measured" if (used["basis"] == "measured").all() else "published"
    return State(r, means.mean().to_numpy(), parts, basis, tuple(_cite(row) for row in _each(used)))


def _each(table: pd.DataFrame) -> list[dict]:
    return table.to_dict("records")


def _as_row(r: Request, row: dict) -> Request:
    return r.with_(input_tokens=int(row["input_tokens"]), output_tokens=int(row["output_tokens"]))


def _cite(row: dict) -> str:
    """A row in a few words, with where it stands."""
    return (
        f"{row['source_row']} ({row['model']}, {row['quantization_as_named']}, batch {row['batch_size']:.0f} on {row['gpu']}, "
        f"session {row['session']})"
    )


def matching(r: Request, k: Known) -> pd.DataFrame:
    """The rows of this card, model shape, strategy and batch size."""
    same = (k.rows["gpu"] == r.gpu.slug) & (k.rows["shape"] == shape(r.model)) & (k.rows["batch_size"] == r.batch_size)
    return k.rows[same & (k.rows["quantization"] == canonical(r.quantization))]


def kind_of(r: Request, k: Known) -> str | None:
    """What a prediction of the request would not have seen (gpu | shape | session), None where the rows support no prediction."""
    table = k.learned.rows
    if why_not(table, r.gpu, r.model, r.quantization, r.batch_size, r.input_tokens, r.output_tokens):
        return None
    return unseen(table, _features(r))


def _predicted(r: Request, k: Known) -> State | None:
    """The state by prediction within the rows' support, or by the physics beyond it; None for a strategy that no clean row has."""
    table, strategy = k.learned.rows, canonical(r.quantization)
    same = int((table["quantization"] == strategy).sum())
    if not same:
        return None
    kind, new = kind_of(r, k), unseen(table, _features(r))
    centre = np.log([k.step(r, "energy", kind), 1 / k.step(r, "time", kind)])
    covariance, folds = max((fold_errors(f) for f in FOLDS_OF[new][: 1 + (new == "shape")]), key=lambda found: found[0].trace())
    if kind is not None:
        cited = f"predicted from {same} clean rows of {strategy}, errors with one {kind} left out"
        return State(r, centre, (Part(1.0, covariance + _beyond(r, table), folds),), "predicted", (cited,))
    more, df = extrapolation_errors()
    cited = f"extrapolated by the physics of {same} clean rows of {strategy} beyond the sizes and batches that they support"
    return State(r, centre, (Part(1.0, covariance + more, min(df, folds)),), "extrapolated", (cited,))


def _of_shares(r: Request, k: Known) -> State:
    """The state from bytes and limits alone: the shares of the roofline's pace and of the board's power that clean rows reach."""
    table = k.learned.rows
    parts = footprint.footprint(r.model, r.quantization, r.batch_size, r.input_tokens, r.output_tokens)
    reached = shares(table).mean(axis=0)
    pace = np.log(r.batch_size * r.gpu.bandwidth_gb_s * 1e9 / parts.step_bytes)
    covariance, sessions = share_errors()
    centre = SHARES_TO_AXES @ [pace + reached[0], np.log(r.gpu.tdp_w) + reached[1]]
    cited = f"no row or prediction: the shares of roofline and board power that {len(table)} clean rows reach"
    return State(r, centre, (Part(1.0, covariance + _beyond(r, table), sessions),), "computed", (cited,))


def _beyond(r: Request, table: pd.DataFrame) -> np.ndarray:
    """The covariance that batches beyond those of two sessions add: what extrapolating them has cost."""
    if r.batch_size <= replicated_batch(table):
        return np.zeros((2, 2))
    return np.diag([judged().summary("session", judged().best("session", t), t)["larger_batch_rms"] ** 2 for t in ("energy", "time")])
