"""Energy, power, throughput and latency of any configuration, each with a 95 % interval from errors on groups that the fit had not seen.

The constants and the errors of the folds come with the package (data/predictor.json, written by benchmarks/prediction.py); rows that were
edited since are fitted anew, once, in the user's cache folder.
"""

import hashlib
import json
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd

from eai import paths
from eai.errors import UserError
from eai.predict import accuracy, physics, work
from eai.predict import sources as rows_of
from eai.predict.accuracy import Fit

SHIPPED = paths.PACKAGED_DATA / "predictor.json"
FORM = 1
QUANTITIES = ("energy_j_per_token", "power_w", "throughput_tok_s", "itl_s")
HALF_WIDTH_OF = {"energy_j_per_token": "energy", "power_w": "power", "throughput_tok_s": "throughput", "itl_s": "throughput"}
GIB_PER_GB = 1.073741824
OWN_SD, OWN_SPREAD = 0.1, 0.25


def digest() -> str:
    """A hash of all that the constants are fitted to: the published tables, the catalog and this form of the model."""
    found = hashlib.sha256(f"form {FORM}".encode())
    for path in [paths.PUBLISHED / f"{name}.csv" for name in (*rows_of.SOURCES, "ecocompute_measurements")]:
        found.update(path.read_bytes())
    for name in ("gpus", "models", "shapes", "aliases"):
        found.update((paths.CATALOG / f"{name}.csv").read_bytes())
    for path in sorted(Path(physics.__file__).parent.glob("*.py")):
        found.update(path.read_bytes() if path.name in ("physics.py", "work.py") else b"")
    return found.hexdigest()[:16]


def fitted(rows: pd.DataFrame) -> dict:
    """Constants, and which cards, engines, models and kernels the rows measure: data/predictor.json without the errors of the folds."""
    made = accuracy.fit(rows)
    seen = rows[["gpu", "engine", "shape"]].drop_duplicates().sort_values(["gpu", "engine", "shape"]).to_numpy().tolist()
    kernels = sorted({(e, work.kernel(q)) for e, q in rows[["engine", "quantization"]].itertuples(index=False)})
    fits = {"time": made.time.to_json(), "power": made.power.to_json()}
    return {"digest": digest(), "rows": len(rows), **fits, "seen": seen, "kernels": [list(k) for k in kernels]}


@cache
def document() -> dict:
    """The shipped document; where the rows or the catalog differ from it, with constants fitted anew and kept in the cache folder."""
    shipped, now = json.loads(SHIPPED.read_text()), digest()
    if shipped["digest"] == now:
        return shipped
    kept = paths.cache() / f"predictor-{now}.json"
    if not kept.exists():
        kept.parent.mkdir(parents=True, exist_ok=True)
        temporary = kept.with_suffix(".tmp")
        temporary.write_text(json.dumps(fitted(rows_of.learned())))
        temporary.replace(kept)
    return shipped | json.loads(kept.read_text())


@cache
def _model() -> tuple[Fit, set, set, set]:
    """(fit, (card, engine, shape), (card, engine), (engine, kernel)) that the rows measure; a twin board counts as its card."""
    found = document()
    fit = Fit(physics.Fitted.from_json(found["time"]), physics.Fitted.from_json(found["power"]))
    seen = {(_board(g), e, s) for g, e, s in found["seen"]}
    return fit, seen, {(g, e) for g, e, _ in seen}, {tuple(k) for k in found["kernels"]}


def _board(slug: str) -> str:
    """The card's name for what was measured on it: an A800 is an A100 of the same memory."""
    return slug.replace("a800", "a100")


def stated_errors() -> dict[str, dict]:
    """kind -> energy | throughput | power -> n, groups, median, p90, half_width [log], width and coverage on groups left out."""
    return document()["stated"]


def _kind(row: dict, seen: set, pairs: set, kernels: set) -> str:
    """What is new about a row: known | new_model | new_card | new_engine (or a format's kernel nobody measured under it) | new_both."""
    board, engine = _board(row["gpu"]), row["engine"]
    card = any(board == g for g, _ in pairs)
    if not row["measured_engine"] or (engine, work.kernel(row["quantization"])) not in kernels:
        return "new_engine" if card else "new_both"
    if (board, engine) not in pairs:
        return "new_card"
    return "known" if (board, engine, row["shape"]) in seen else "new_model"


def _refused(w: pd.DataFrame) -> pd.Series:
    """Why a resolved row is refused, empty if it is not: weights that do not fit in the boards' memory."""
    room = w["n"] * w["memory_gb"].fillna(np.inf) * GIB_PER_GB
    return pd.Series(
        [
            f"the weights ({need:.0f} GB) do not fit in {n:g} x {gpu} ({have:.0f} GB)" if need > have else ""
            for need, have, n, gpu in zip(w["weights_gb"], room, w["n"], w["gpu"], strict=True)
        ],
        index=w.index,
        dtype=object,
    )


def _own_effects(w: pd.DataFrame, experiments: list) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(log correction of the step, of the power, kind that it makes, empty for none) of each row from one's rows of the card and engine.

    The mean log error of the own rows, shrunken towards none as a normal effect of OWN_SPREAD against a row's OWN_SD.
    """
    table = rows_of.evidence(experiments, extras=True)
    own = rows_of.learned(table[table["learned"].astype(bool) & (table["basis"] == "measured")])
    step, power, holds = np.zeros(len(w)), np.zeros(len(w)), np.full(len(w), "", object)
    if own.empty:
        return step, power, holds
    fit = _model()[0]
    said, place = fit.log_predictions(own), pd.Series(list(zip(own["gpu"], own["engine"], strict=True)), index=own.index)
    late = said["throughput"] - np.log(own["throughput_tok_s"])
    stronger = np.log(own["power_w"]) - said["power"]
    shrink = lambda x: float(x.sum() / (len(x) + (OWN_SD / OWN_SPREAD) ** 2))  # noqa: E731
    for key in place.unique():
        at = ((w["gpu"] == key[0]) & (w["engine"] == key[1])).to_numpy()
        step[at], power[at], holds[at] = shrink(late[place == key]), shrink(stronger[place == key]), "new_model"
        holds[at & w["shape"].isin(own.loc[place == key, "shape"]).to_numpy()] = "known"
        for name in own.loc[place == key, "quantization"].unique():
            rows = ((place == key) & (own["quantization"] == name)).to_numpy()
            same = at & (w["quantization"] == name).to_numpy()
            step[same] += shrink(late[rows] - step[same][0]) if same.any() else 0.0
            power[same] += shrink(stronger[rows] - power[same][0]) if same.any() else 0.0
    return step, power, holds


def predict(table: pd.DataFrame, evidence: list[str | Path] | None = None) -> pd.DataFrame:
    """The rows of `table` with predictions: energy_j_per_token [J], power_w (all GPUs) [W], throughput_tok_s, itl_s [s], each with
    `_low` and `_high` (95 %), `kind` (known | new_model | new_card | new_engine | new_both) and `reason` (why refused, else empty).

    Columns: gpu, quantization; model, or params_b, active_params_b, layers, hidden, kv_heads; num_gpus, engine, batch_size (sequences in
    flight), input_tokens, output_tokens, missing or NaN for defaults. `evidence`: the user's measured experiments, which correct the
    predictions of their card and engine. A row that cannot be answered has NaN and its reason; raises UserError for a table without gpu.
    """
    if "gpu" not in table:
        raise UserError("a table without a column gpu", f"columns {', '.join(work.COLUMNS)}", "name the card of each row")
    w, reason = work.table(table)
    out = table.copy()
    for name in QUANTITIES:
        out[name] = out[f"{name}_low"] = out[f"{name}_high"] = np.nan
    out["kind"], out["reason"] = "", reason
    if w.empty:
        return out
    refused = _refused(w)
    out.loc[w.index, "reason"] = refused
    w = w[(refused == "").to_numpy()]
    if w.empty:
        return out
    fit, seen, pairs, kernels = _model()
    kinds = [_kind(r, seen, pairs, kernels) for r in w[["gpu", "engine", "shape", "quantization", "measured_engine"]].to_dict("records")]
    parts = physics.times(fit.time, w)
    power = physics.powers(fit.power, w, parts["step"], parts["gpu"])
    late, stronger, own = _own_effects(w, evidence) if evidence else (0.0, 0.0, [""] * len(w))
    limit, step, itl = (w["n"] * w["tdp_w"]).to_numpy(float), parts["step"] * np.exp(late), parts["itl"] * np.exp(late)
    power = np.minimum(power * np.exp(stronger), limit)
    idle = fit.power.constants["idle"][w["memory"].to_numpy(int)] * limit
    batch = w["batch"].to_numpy(float)
    values = {"energy_j_per_token": power * step / batch, "power_w": power, "throughput_tok_s": batch / step, "itl_s": itl}
    kinds = [mine if mine and k in ("new_card", "new_model") else k for k, mine in zip(kinds, own, strict=True)]
    for name, value in values.items():
        half = np.array([stated_errors()[k][HALF_WIDTH_OF[name]]["half_width"] for k in kinds])
        low, high = value * np.exp(-half), value * np.exp(half)
        if name == "power_w":
            low, high = np.minimum(np.maximum(low, idle), value), np.minimum(high, limit)
        out.loc[w.index, name], out.loc[w.index, f"{name}_low"], out.loc[w.index, f"{name}_high"] = value, low, high
    out.loc[w.index, "kind"] = kinds
    return out


def draw(errors: pd.DataFrame, ax) -> list:
    """Draw predicted against measured energy of rows left out (`accuracy.fold_errors`), a colour a kind, on `ax`; returns the artists.

    `measured` is the log of the measured energy a token [J]; the line is equality.
    """
    known = errors[errors["energy"].notna()]
    artists = _points(known, ax, lambda rows: np.exp(rows["measured"] + rows["energy"]))
    ends = np.exp([known["measured"].min(), known["measured"].max()])
    artists += ax.plot(ends, ends, color="0.4", linewidth=1)
    ax.set(xscale="log", yscale="log", xlabel="measured energy per output token [J]", ylabel="predicted [J]")
    ax.legend()
    return artists


def draw_residuals(errors: pd.DataFrame, ax) -> list:
    """Draw predicted over measured energy against the measured one, a colour a kind, on `ax`; returns the artists."""
    known = errors[errors["energy"].notna()]
    artists = _points(known, ax, lambda rows: np.exp(rows["energy"]))
    artists.append(ax.axhline(1, color="0.4", linewidth=1))
    ax.set(xscale="log", yscale="log", xlabel="measured energy per output token [J]", ylabel="predicted / measured")
    return artists


def _points(known: pd.DataFrame, ax, height) -> list:
    """A scatter of each kind's rows on `ax`."""
    kinds = [(k, known[known["kind"] == k]) for k in accuracy.KINDS]
    return [ax.scatter(np.exp(r["measured"]), height(r), s=8, alpha=0.5, label=k.replace("_", " ")) for k, r in kinds if len(r)]
