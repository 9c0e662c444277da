"""The rows that a claim speaks of: its tables stacked, filtered by its condition, and matched into pairs.

A condition reads `gpu=a800|a800_sxm_80gb & params_b<=3`; `=` takes alternatives, an empty one meaning "not stated".
"""

import re

import numpy as np
import pandas as pd

from eai.claims import accounting
from eai.claims.quantities import FACTORS, SPREADS
from eai.claims.relations import Known, Relation, complete, evaluate, printed
from eai.claims.tabular import Table, build
from eai.errors import UserError

_CONDITION = re.compile(r"\s*([a-z_0-9]+)\s*(<=|>=|<|>|=)\s*(.*?)\s*")
LENGTHS = ("input_tokens", "output_tokens")
BASELINES = ("unspecified_baseline", "fp16", "bf16", "fp32")


def prepared(frame: pd.DataFrame, name: str) -> pd.DataFrame:
    """A published table with its printed columns, every quantity that follows from them, and half-steps as `<quantity>~`.

    Also `_table`, `_lines` (a tuple), `_accounting` (gross or net as computed), CVs in percent, and scores relative to the baseline's.
    Repeated runs are averaged, their scatter becoming the CV.
    """
    out = frame.copy()
    try:
        table = build(frame, name)
    except UserError:
        table = None
    if table is not None:
        _add_known(out, table)
    out["_table"], out["_lines"] = name, [(i + 2,) for i in range(len(out))]
    out["_accounting"] = accounting.kinds(table) if table is not None and table.has("power_w", "throughput_tok_s") else ""
    for f in (*FACTORS, "session", "location", "architecture"):
        out[f] = _text(out[f]) if f in out else ""
    for quantity, spread in SPREADS.items():
        if spread in out:
            out[f"{quantity.split('_')[0]}_cv_pct"] = 100 * out[spread] / out[quantity]
    if "run" in out:
        out = _averaged(out)
    return _retained(out)


def _text(column: pd.Series) -> pd.Series:
    """A key as text, numbers without a trailing .0, missing as empty."""
    return column.map(lambda v: "" if pd.isna(v) else f"{v:g}" if isinstance(v, float) else str(v))


def _add_known(out: pd.DataFrame, table: Table) -> None:
    """Write the printed and the computed quantities of `table` into `out`."""
    known = complete(table)
    if "energy_j_per_token" not in known and table.has("power_w", "throughput_tok_s"):
        known = known | _energy_of_power(table)
    for name, k in known.items():
        if name in FACTORS and name != "params_b":
            continue
        out[name] = k.value
        out[f"{name}~"] = (k.high - k.low) / 2


def _energy_of_power(table: Table) -> dict[str, Known]:
    """Gross energy per token where a table prints power and throughput but no energy at all."""
    inputs = {n: printed(table, n) for n in ("power_w", "throughput_tok_s")}
    powers = {"power_w": 1, "throughput_tok_s": -1}
    relations = (
        Relation("energy_j_per_token", powers),
        Relation("energy_j_per_1k_tok", powers, 1e3),
        Relation("tokens_per_j", {"power_w": -1, "throughput_tok_s": 1}),
    )
    return {r.target: evaluate(r, inputs, len(table)) for r in relations}


def _averaged(out: pd.DataFrame) -> pd.DataFrame:
    """One row a configuration instead of one a run; `throughput_cv_pct` and its like from the runs."""
    keys = [*FACTORS, "session", "location", "architecture", "_table", "_accounting"]
    numeric = [c for c in out.select_dtypes("number") if c not in keys and c != "run"]
    grouped = out.groupby(keys, sort=False, dropna=False)
    mean = grouped[numeric].mean().reset_index()
    mean["_lines"] = grouped["_lines"].agg(lambda s: tuple(line for part in s for line in part)).to_numpy()
    for quantity in SPREADS:
        if quantity in numeric:
            mean[f"{quantity.split('_')[0]}_cv_pct"] = (100 * grouped[quantity].std() / grouped[quantity].mean()).to_numpy()
    return mean


def _retained(out: pd.DataFrame) -> pd.DataFrame:
    """Add `accuracy_retained_pct`: the score over the baseline's score of the same model, task and GPU."""
    if "accuracy" not in out or not out["quantization"].isin(BASELINES).any():
        return out
    score, half = out["accuracy"], out["accuracy~"].fillna(0)
    base = (
        out[out["quantization"].isin(BASELINES) & score.notna()]
        .drop_duplicates(["gpu", "model", "task"])
        .set_index(["gpu", "model", "task"])
    )
    at = pd.MultiIndex.from_frame(out[["gpu", "model", "task"]])
    reference, step = base["accuracy"].reindex(at).to_numpy(), base["accuracy~"].reindex(at).to_numpy()
    ratio = 100 * score / reference
    out["accuracy_retained_pct"] = np.where(out["quantization"].isin(BASELINES), np.nan, ratio)
    out["accuracy_retained_pct~"] = ratio * (half / score + step / reference)
    out["_reference_lines"] = pd.Series(base["_lines"].reindex(at).to_numpy(), index=out.index)
    return out


def meets(frame: pd.DataFrame, condition: str) -> np.ndarray:
    """Which rows meet one comparison of a condition. Raises UserError if it cannot be read."""
    match = _CONDITION.fullmatch(condition)
    if not match:
        raise UserError(
            f"the condition '{condition}' cannot be read", "column=value|value or column<=number", "correct the claim's `where`"
        )
    name, sign, text = match.groups()
    column = frame[name] if name in frame else pd.Series(np.nan, index=frame.index)
    if sign == "=":
        return _text(column).isin([t.strip() for t in text.split("|")]).to_numpy()
    values = pd.to_numeric(column, errors="coerce").to_numpy()
    limit = float(text.split("|")[0])
    with np.errstate(invalid="ignore"):
        hit = {"<=": values <= limit, ">=": values >= limit, "<": values < limit, ">": values > limit}[sign]
    return hit | (np.isnan(values) & ("|" in text))


def select(tables: dict[str, pd.DataFrame], names: str, where: str) -> pd.DataFrame:
    """The rows of the named tables (prepared; separated by `;`) that meet every part of `where`, in printed order."""
    parts = [tables[n] for n in filter(None, names.split(";")) if n in tables]
    if not parts:
        return pd.DataFrame(columns=["_table", "_lines", *FACTORS])
    frame = pd.concat(parts, ignore_index=True)
    for condition in filter(None, (c.strip() for c in where.split("&"))):
        frame = frame[meets(frame, condition)]
    return frame.reset_index(drop=True)


def pairs(frame: pd.DataFrame, factor: str, level: str, reference: str, quantity: str) -> list[tuple[int, int]]:
    """(row, reference row) positions that differ in `factor` alone and both state `quantity`.

    The reference is sought in the same session and place, then in the same session (where the lengths of the output may differ,
    since greedy decoding stops by itself), then in the same table, then anywhere; the first rank with a candidate is taken.
    """
    if quantity not in frame or factor not in frame:
        return []
    text = {c: frame[c].to_numpy(dtype=object) for c in (*FACTORS, "_table", "session", "location")}
    stated = frame[quantity].notna().to_numpy()
    pool = np.flatnonzero((text[factor] == reference) & stated)
    short = [f for f in FACTORS if f not in (factor, "params_b", *LENGTHS)]
    found = []
    for i in np.flatnonzero((text[factor] == level) & stated):
        near = pool[np.logical_and.reduce([text[f][pool] == text[f][i] for f in short])]
        exact = np.logical_and.reduce([text[f][near] == text[f][i] for f in LENGTHS if f != factor])
        table = text["_table"][near] == text["_table"][i]
        session = table & (text["session"][near] == text["session"][i])
        place = session & (text["location"][near] == text["location"][i])
        for rank in (place & exact, session & (text["session"][i] != ""), table & exact, exact):
            if rank.any():
                found.append((int(frame.index[i]), int(frame.index[near[rank][0]])))
                break
    return found
