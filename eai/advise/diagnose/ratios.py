"""How much more energy one configuration costs than another in a session of its own, with the spread of that ratio and its rows."""

import numpy as np

from eai.advise.compare import pair_spread
from eai.advise.diagnose.spread import extrapolation_errors
from eai.advise.diagnose.states import Known, kind_of, known, matching
from eai.advise.evidence import own_sd
from eai.advise.parameters import Request
from eai.errors import UserError
from eai.predict.features import canonical

ALIKE_SIZE = 2.0


def ratio(r: Request, other: Request, k: Known | None = None) -> tuple[float, float, tuple[str, ...]]:
    """(mean of log energy(r) / energy(other), its standard deviation for another session, what it rests on).

    Within sessions where both stand, where the card's and the session's errors cancel; else between two predictions of one model; else what
    the two strategies differed by elsewhere; else the physics beyond its support. Raises UserError where none of these can tell.
    """
    k, key = k or known(), ("ratio", *r.configuration.values(), *other.configuration.values())
    if key not in k.memory:
        k.memory[key] = _ratio(r, other, k)
    if k.memory[key] is None:
        raise UserError(f"{r.quantization} against {other.quantization} cannot be told here", "", "measure both")
    return k.memory[key]


def _ratio(r: Request, other: Request, k: Known) -> tuple[float, float, tuple[str, ...]] | None:
    mine, theirs = matching(r, k), matching(other, k)
    pairs = mine.merge(theirs, on="session", suffixes=("", "_other"))
    if len(pairs):
        logs = np.log(pairs["energy_j_per_token"] / pairs["energy_j_per_token_other"]).groupby(pairs["session"]).mean()
        cited = [f"{row['source_row']} over {row['source_row_other']}" for row in pairs.to_dict("records")]
        return float(logs.mean()), pair_spread()[0] * float(np.sqrt(1 + 1 / len(logs))), tuple(dict.fromkeys(cited))
    kind = kind_of(r, k)
    if kind is not None and kind_of(other, k) is not None:
        log = float(np.log(k.step(r, "energy", kind) / k.step(other, "energy", kind)))
        return log, float(np.sqrt(2) * own_sd(kind)), (f"two predictions of one model, errors with one {kind} left out",)
    return _pooled(r, other, k) or _extrapolated(r, other, k)


def _pooled(r: Request, other: Request, k: Known) -> tuple[float, float, tuple[str, ...]] | None:
    """The ratio of two strategies over all sessions of any card and batch with models of half to twice the size; None below three, or
    where the batches differ."""
    if r.batch_size != other.batch_size:
        return None
    table = k.learned.rows
    alike = table[(table["params"] / r.model.params_total).between(1 / ALIKE_SIZE, ALIKE_SIZE)]
    keys = ["session", "gpu", "shape", "batch_size"]
    mine, theirs = (alike[alike["quantization"] == canonical(x.quantization)].set_index(keys)["energy_j_per_token"] for x in (r, other))
    logs = np.log(mine / theirs).dropna()
    if len(logs) < 3:
        return None
    cited = f"{len(logs)} ratios of models of this size on any card and batch: {logs.index.get_level_values('session').nunique()} sessions"
    return float(logs.mean()), float(logs.std(ddof=1) * np.sqrt(1 + 1 / len(logs))), (cited,)


def _extrapolated(r: Request, other: Request, k: Known) -> tuple[float, float, tuple[str, ...]] | None:
    """The ratio by the physics beyond the rows' support, with its error there; None for a strategy that no clean row has."""
    if not {canonical(r.quantization), canonical(other.quantization)} <= set(k.learned.rows["quantization"]):
        return None
    log = float(np.log(k.step(r, "energy", None) / k.step(other, "energy", None)))
    sd = float(np.sqrt(2 * own_sd("session") ** 2 + extrapolation_errors()[0][0, 0]))
    return log, sd, ("the physics of the clean rows beyond the sizes and batches that they support, with its errors there",)
