"""Power and utilisation of a configuration as they were read: mean, lowest and highest, where single runs or windows have them.

A published run states its mean power, so lowest and highest are those of the runs' means; a measured window states its lowest and highest
reading. Neither is an uncertainty: they say how much the card's power moves.
"""

from functools import cache
from typing import Any

import numpy as np
import pandas as pd

from eai import catalog, tables
from eai.advise.parameters import Request
from eai.errors import UserError
from eai.predict.features import canonical, shape
from eai.predict.rows import campaigns

RUNS = ("ecocompute_batch_runs", "ecocompute_quantization_runs")
READINGS, MEANS = "lowest and highest readings of measured windows", "mean powers of published runs"
KEYS = ["gpu", "shape", "quantization", "batch_size"]


def observed(r: Request) -> dict[str, Any] | None:
    """What was read in the runs of this card, model shape, strategy and batch size; None where no run or window was published or measured.

    Keys: power_mean_w, power_min_w, power_max_w, utilization_mean_pct, _min_pct, _max_pct (None where it was not read), n, of, rows.
    """
    table = readings()
    wanted = (r.gpu.slug, shape(r.model), canonical(r.quantization), r.batch_size)
    found = table[(table[KEYS] == pd.Series(wanted, index=KEYS)).all(axis=1)]
    if found.empty:
        return None
    found = found[found["of"] == (READINGS if (found["of"] == READINGS).any() else MEANS)]
    busy = found["utilization_pct"].dropna()
    idle_or_busy = {f"utilization_{how}_pct": float(getattr(busy, how)()) if len(busy) else None for how in ("mean", "min", "max")}
    return {
        "power_mean_w": float(found["power_w"].mean()),
        "power_min_w": float(found["low_w"].min()),
        "power_max_w": float(found["high_w"].max()),
        **idle_or_busy,
        "n": len(found),
        "of": found["of"].iloc[0],
        "rows": "; ".join(dict.fromkeys(found["source"])),
    }


@cache
def readings() -> pd.DataFrame:
    """One row a published run or measured window with power: the keys, power_w, low_w, high_w, utilization_pct, of, source."""
    parts = [_runs(name) for name in RUNS] + [_windows(path.name) for path in campaigns()]
    return pd.concat([part for part in parts if len(part)], ignore_index=True)


def _runs(name: str) -> pd.DataFrame:
    """The runs of a published table, each with the mean power that it states."""
    raw = tables.read_published(name).dropna(subset=["power_w"])
    busy = raw.get("gpu_utilisation_pct", np.nan)
    power = {"power_w": raw["power_w"], "low_w": raw["power_w"], "high_w": raw["power_w"], "utilization_pct": busy}
    return _keyed(raw).assign(**power, of=MEANS, source=f"{name}.csv")


def _windows(experiment: str) -> pd.DataFrame:
    """The usable windows of a measured campaign, each with its lowest and highest reading; empty where only its summary is kept."""
    try:
        raw = tables.read_windows(experiment)
    except UserError:
        return pd.DataFrame()
    raw = raw[(raw["status"] == "ok") & raw["power_mean_w"].notna() & raw["power_min_w"].notna() & (raw["gpu"] != "cpu")]
    power = {"power_w": raw["power_mean_w"], "low_w": raw["power_min_w"], "high_w": raw["power_max_w"]}
    return _keyed(raw).assign(**power, utilization_pct=raw["utilization_mean_pct"], of=READINGS, source=experiment)


def _keyed(raw: pd.DataFrame) -> pd.DataFrame:
    """The keys of each row in the catalog's names."""
    gpu = {name: catalog.resolve("gpu", name)[0] for name in raw["gpu"].unique()}
    shapes = {name: shape(catalog.model(catalog.resolve("model", name)[0])) for name in raw["model"].unique()}
    made = {"gpu": raw["gpu"].map(gpu), "shape": raw["model"].map(shapes), "quantization": raw["quantization"].map(canonical)}
    return pd.DataFrame(made | {"batch_size": raw["batch_size"].astype(int)})
