"""Energy, power, throughput and latency of any configuration, each with a 95 % interval from errors on groups that the fit had not seen.

The constants and the errors of the folds come with the package (data/predictor.json, written by benchmarks/prediction.py); rows that were
edited since are fitted anew, once, in the user's cache folder.
"""

import hashlib
import json
import os
import re
from collections.abc import Callable
from contextlib import suppress
from functools import cache, partial
from pathlib import Path

import numpy as np
import pandas as pd

from eai import catalog, paths, strategies
from eai.errors import UserError
from eai.predict import physics, work
from eai.predict import sources as rows_of
from eai.predict.physics import Fit
from eai.quantity import Quantity

SHIPPED = paths.PACKAGED_DATA / "predictor.json"
FORM = 2
QUANTITIES = ("energy_j_per_token", "power_w", "throughput_tok_s", "itl_s")
GIB_PER_GB = 1.073741824
OWN_SD, OWN_SPREAD = 0.1, 0.25
MACHINES = {"HBM": (230.0, 0.94), "GDDR": (None, 0.9), "LPDDR": (8.0, 0.9)}
"""Memory of the cards -> (power of everything else a GPU [W], efficiency of the supply): what machine they are usually in. None: fitted."""
GUESSED_SPREAD = 2.0
FORMS = {"physics": Fit.to, "physics, narrow priors": partial(Fit.to, widths=0.5), "physics, wide priors": partial(Fit.to, widths=2.0)}
"""Form -> its fit to rows; benchmarks/prediction.py chooses among them, and has the baselines."""
KINDS = ("known", "new_model", "new_card", "new_engine", "new_both")
UNSEEN = ("new_engine", "new_both")
"""Kinds without a row of the engine: few engines were measured, so their intervals come from the errors of both."""
FLOOR_SD = 0.25
LEAST_CACHE = 0.5
"""Share of the cache's 16-bit bytes that must fit: keys and values may be kept in 8 bits, recurrent states are counted twice."""


def digest() -> str:
    """A hash of what the constants are fitted to: tables, catalog, and the model's code without imports, docstrings and line breaks."""
    found = hashlib.sha256(f"form {FORM}".encode())
    for path in [paths.PUBLISHED / f"{name}.csv" for name in (*rows_of.SOURCES, "ecocompute_measurements")]:
        found.update(path.read_bytes())
    for name in ("gpus", "models", "shapes", "aliases"):
        found.update((paths.CATALOG / f"{name}.csv").read_bytes())
    for module in (physics, work):
        code = re.sub(r'"""[\s\S]*?"""|^(from|import) [^\n]*', "", Path(module.__file__).read_text(), flags=re.M)
        found.update(" ".join(code.split()).encode())
    return found.hexdigest()[:16]


def fitted(rows: pd.DataFrame, form: str = "physics") -> dict:
    """Constants, and which cards, engines, models and kernels the rows measure: data/predictor.json without the errors of the folds."""
    made, sets = FORMS[form](rows), (["gpu", "engine", "shape", "kernel"], ["engine", "kernel"])
    seen, kernels = (sorted(rows[columns].drop_duplicates().to_numpy().tolist()) for columns in sets)
    fits = {"time": made.time.to_json(), "power": made.power.to_json()}
    return {"digest": digest(), "form": form, "rows": len(rows), **fits, "seen": seen, "kernels": kernels}


def kept(name: str, make: Callable[[], dict]) -> dict:
    """A JSON document of the user's cache folder, made where it is missing or broken; a folder that cannot be written costs time alone."""
    path = paths.cache() / name
    with suppress(OSError, ValueError):
        return json.loads(path.read_text())
    made = make()
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(f".{os.getpid()}.tmp")
        temporary.write_text(json.dumps(made))
        temporary.replace(path)
    return made


@cache
def document() -> dict:
    """The shipped document; where the rows or the catalog differ from it, with constants fitted anew and kept in the cache folder."""
    shipped, now = json.loads(SHIPPED.read_text()), digest()
    if shipped["digest"] == now:
        return shipped
    return shipped | kept(f"predictor-{now}.json", lambda: fitted(rows_of.learned(), shipped["form"]))


@cache
def _model() -> tuple[Fit, set, set, set]:
    """(fit, (card, engine, shape, kernel), (card, engine), (engine, kernel)) that the rows measure; a twin board counts as its card."""
    found = document()
    fit = Fit(physics.Fitted.from_json(found["time"]), physics.Fitted.from_json(found["power"]))
    seen = {(_board(g), *rest) for g, *rest in found["seen"]}
    return fit, seen, {(g, e) for g, e, _, _ in seen}, {tuple(k) for k in found["kernels"]}


def _board(slug: str) -> str:
    """The card's name for what was measured on it: an A800 is an A100 of the same memory."""
    return slug.replace("a800", "a100")


def stated_errors() -> dict[str, dict]:
    """kind -> energy | throughput | power -> n, groups, median, p90, factor, width and coverage on groups left out."""
    return document()["stated"]


def scale(kind: pd.Series, sd: pd.Series) -> np.ndarray:
    """What errors are divided by: the prediction's standard deviation [log] with a floor, 1 for an engine that no row measures."""
    return np.where(kind.isin(UNSEEN), 1.0, np.hypot(sd, FLOOR_SD))


def half_width(errors: dict[str, dict], kind: pd.Series, target: str, sd: pd.Series) -> np.ndarray:
    """Half the width [log] of each row's interval by the `stated` errors of its kind; a new engine's is never below that of a new model,
    with a new card never below that of a new card."""
    by = lambda kinds: kinds.map({k: v[target]["factor"] for k, v in errors.items()}).to_numpy(float) * scale(kinds, sd)  # noqa: E731
    return np.maximum(by(kind), by(kind.replace({"new_engine": "new_model", "new_both": "new_card"})))


def _kind(row: dict, seen: set, pairs: set, kernels: set) -> str:
    """What is new about a row: known | new_model | new_card | new_engine (or a format's kernel nobody measured under it) | new_both."""
    board, engine, kernel = _board(row["gpu"]), row["engine"], row["kernel"]
    card = any(board == g for g, _ in pairs)
    if not row["measured_engine"] or (engine, kernel) not in kernels:
        return "new_engine" if card else "new_both"
    if (board, engine) not in pairs:
        return "new_card"
    return "known" if (board, engine, row["shape"], kernel) in seen else "new_model"


def _calibration(w: pd.DataFrame, experiments: list) -> pd.DataFrame:
    """What one's own rows say of the rows of their card and engine: log corrections `late` (of the step) and `strong` (of the power), the
    `kind` that they make ("" for none), their number `rows`. The mean log error of the own rows, shrunken towards none as a normal effect
    of OWN_SPREAD against a row's OWN_SD: first of all rows of the card and engine, then of those of one format."""
    table = rows_of.evidence(experiments, extras=True)
    own = rows_of.learned(table[table["learned"].astype(bool) & (table["basis"] == "measured")])
    out = pd.DataFrame({"late": 0.0, "strong": 0.0, "kind": "", "rows": 0}, index=w.index)
    if own.empty:
        return out
    at_own = _model()[0].log_predictions(own)
    own = own.assign(late=at_own["throughput"] - np.log(own["throughput_tok_s"]), strong=np.log(own["power_w"]) - at_own["power"])
    shrunk = lambda x: float(x.sum() / (x.notna().sum() + (OWN_SD / OWN_SPREAD) ** 2))  # noqa: E731
    for (gpu, engine), mine in own.groupby(["gpu", "engine"]):
        place = (w["gpu"] == gpu) & (w["engine"] == engine)
        for name in ("late", "strong"):
            out.loc[place, name] = whole = shrunk(mine[name])
            for quantization, some in mine.groupby("quantization"):
                out.loc[place & (w["quantization"] == quantization), name] += shrunk(some[name] - whole)
        out.loc[place, "kind"] = np.where(w.loc[place, "shape"].isin(mine["shape"]), "known", "new_model")
        out.loc[place, "rows"] = len(mine)
    return out


def predict(table: pd.DataFrame, evidence: list[str | Path] | None = None) -> pd.DataFrame:
    """The rows of `table` with predictions: energy_j_per_token [J], power_w (all GPUs) [W], throughput_tok_s, itl_s [s], each with
    `_low` and `_high` (95 %), `kind` (known | new_model | new_card | new_engine | new_both) and `reason` (why refused, else empty).

    Columns: gpu, quantization; model, or params_b, active_params_b, layers, hidden, kv_heads; num_gpus, engine, batch_size (sequences in
    flight), input_tokens, output_tokens, missing or NaN for defaults, of the format the one in which the model is published. `remark` says
    what was taken. `evidence`: the user's measured experiments, which correct the predictions of their card and engine: `calibrated` then
    says by how much. A row that cannot be answered has NaN and its reason; raises UserError for a table without gpu.
    """
    if "gpu" not in table:
        raise UserError("a table without a column gpu", f"columns {', '.join(work.COLUMNS)}", "name the card of each row")
    formats = table["quantization"].map(strategies.canonical, na_action="ignore") if "quantization" in table else None
    asked, wrong = table if formats is None else table.assign(quantization=formats), pd.Series("", table.index)
    for name in table.columns.intersection([*work.DEFAULTS]):
        is_number = np.isfinite(pd.to_numeric(table[name], errors="coerce").to_numpy(float)) | table[name].isna()
        wrong = wrong.mask(~is_number, name + " " + table[name].astype(str) + "; expected a finite number; correct the row.")
    w, reason = work.table(asked[wrong == ""])
    out = table.copy()
    for name in QUANTITIES:
        out[name] = out[f"{name}_low"] = out[f"{name}_high"] = np.nan
    out["kind"], out["calibrated"], out["remark"], out["reason"] = "", "", "", wrong
    out.loc[reason.index, "reason"] = reason
    large = []
    for r in w.itertuples():
        room, cache = r.n * (r.memory_gb if r.memory_gb == r.memory_gb else np.inf) * GIB_PER_GB, r.cache_gb * LEAST_CACHE
        what = f"the weights ({r.weights_gb:.0f} GB)" + f" and a cache of {cache:.0f} GB at 8 bits" * bool(r.weights_gb <= room)
        large.append(f"{what} do not fit in {r.n:g} x {r.gpu} ({room:.0f} GB)" * bool(r.weights_gb + cache > room))
    if len(w):
        out.loc[w.index, "remark"], out.loc[w.index, "reason"] = w["remark"], large
        w = w[out.loc[w.index, "reason"] == ""]
    if w.empty:
        return out
    fit, seen, pairs, kernels = _model()
    said = fit.log_predictions(w)
    kind = pd.Series([_kind(r, seen, pairs, kernels) for r in w.to_dict("records")], w.index)
    limit_w = (w["n"] * w["tdp_w"]).to_numpy(float)
    if evidence:
        own = _calibration(w, evidence)
        said[["throughput", "itl", "power"]] += np.column_stack([-own["late"], own["late"], own["strong"]])
        mine = (own["kind"] != "") & kind.isin(("known", "new_card", "new_model"))
        kind = own["kind"].where(mine, kind)
        said.loc[mine, [f"sd_{q}" for q in physics.QUANTITIES]] = OWN_SD
        each = zip(own["rows"], own["late"], own["strong"], strict=True)
        words = [f"{n} own rows: step x {np.exp(t):.2f}, power x {np.exp(p):.2f}" for n, t, p in each]
        out.loc[w.index, "calibrated"] = np.where(mine, words, "")
    said["power"] = np.minimum(said["power"], np.log(limit_w))
    said["energy"] = said["power"] - said["throughput"]
    errors, idle_w = stated_errors(), fit.power.constants["idle"][w["memory"].to_numpy(int)] * limit_w
    for name, short in zip(QUANTITIES, ("energy", "power", "throughput", "itl"), strict=True):
        half = half_width(errors, kind, "throughput" if short == "itl" else short, said[f"sd_{short}"])
        value, low, high = (np.exp(said[short].to_numpy(float) + h) for h in (0.0, -half, half))
        if short == "power":
            low, high = np.minimum(np.maximum(low, idle_w), value), np.maximum(np.minimum(high, limit_w), value)
        out.loc[w.index, name], out.loc[w.index, f"{name}_low"], out.loc[w.index, f"{name}_high"] = value, low, high
    out.loc[w.index, "kind"] = kind
    return out


def wall(gpu: catalog.Gpu, num_gpus: int, power_w: Quantity) -> Quantity:
    """Power of the whole machine at the wall [W] from that of its boards: (boards + everything else) / efficiency of the supply.
    Everything else, a GPU: of a PC, or a server of plain cards, fitted to cards read in a PC and on a Raspberry Pi
    (`sources.rest_of_pc_w`); 230 W in a server with stacked memory (idle and loaded rows of one server of eight H200: 224 to 238 W) and 8 W
    around a module, chip or laptop: one machine each, so the rows say nothing of their spread, and between half and double is a guess."""
    else_w, efficiency = MACHINES[work.MEMORY_KINDS[work.memory_kind(gpu)]]
    rest = (else_w, else_w / GUESSED_SPREAD, else_w * GUESSED_SPREAD) if else_w else [efficiency * w for w in rows_of.rest_of_pc_w()]
    boards = [power_w.value if w is None else w for w in (power_w.value, power_w.low, power_w.high)]
    return Quantity(*((board + num_gpus * other) / efficiency for board, other in zip(boards, rest, strict=True)), "W")
