"""EcoCompute's sessions and measured experiments as rows to learn from: gross energy, one card under one name, every flaw with its reason.

A session whose printed energies lie more than 3 % below mean board power over throughput is net of idle power; gross energy is then that
quotient, else the printed figure. Copies, impossible rows and sessions that obey no law of the others keep their place and their reason.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from eai import catalog, paths, tables
from eai.errors import UserError
from eai.predict import work

TABLE = "ecocompute_measurements"
ASSUMED_INPUT_TOKENS = 256
NET_SHARE = 0.97
NORMAL_95 = 1.96
LAWLESS = "its session's steps are neither launch-bound nor bandwidth-bound"
LAUNCH_BOUND_SHARE = 0.3
LAUNCH_BOUND_SPREAD = 2.0
SAME_WORK = {"bf16": "fp16", "int8_t0": "int8_pure", "int8_t6": "int8_default"}
"""Strategies that move and compute the same bytes: repeats of one are repeats of the other."""
ASKED = ["gpu", "model", "quantization", "batch_size", "input_tokens", "output_tokens"]


def published_rows() -> pd.DataFrame:
    """The published per-configuration rows: `source_row` (line in the file), `gpu` by catalog slug, gross energy, and `why` a row is not
    used, empty if it is."""
    raw = tables.read_published(TABLE)
    table = raw[["session", *ASKED, "n_runs", "throughput_tok_s", "power_w"]].assign(basis="published")
    table["source_row"] = [f"{TABLE}.csv:{line}" for line in range(2, len(raw) + 2)]
    computed, printed = raw["power_w"] / raw["throughput_tok_s"], raw["energy_j_per_1k_tok"] / 1e3
    is_net = (printed / computed).groupby(raw["session"]).transform("median") < NET_SHARE
    is_integral = ~is_net & ((printed / computed - 1).abs() < 1 - NET_SHARE)
    table["energy_j_per_token"] = printed.where(is_integral, computed)
    table["u_log"] = raw["energy_std_j_per_1k_tok"] / raw["energy_j_per_1k_tok"] / np.sqrt(raw["n_runs"])
    table["gpu"], table["input_tokens"] = _slugs(raw["gpu"]), raw["input_tokens"].fillna(ASSUMED_INPUT_TOKENS)
    conditions = [raw[["throughput_tok_s", "batch_size", "output_tokens"]].isna().any(axis=1), raw["power_w"].isna()]
    reasons = ["no throughput, batch size or output length", "no board power: whether the energy is gross or net is unknown"]
    return table.assign(why=np.select(conditions, reasons, default=""))


def _slugs(names: pd.Series) -> list[str]:
    """The catalog's slug of each GPU, the name itself where the catalog does not know it."""
    known = {}
    for name in names.unique():
        try:
            known[name] = catalog.resolve("gpu", name)[0]
        except UserError:
            known[name] = str(name)
    return [known[name] for name in names]


def measured_rows(experiment: str | Path) -> pd.DataFrame:
    """The rows of an experiment's summary table in the form of `published_rows`: measured on a GPU's board, gate passed.

    A model of random weights counts as its shape, but not under int8_default, whose cost depends on outliers.
    """
    summary = tables.read_result(experiment, "summary")
    name = Path(str(experiment)).name
    table = summary[[*ASKED, "throughput_tok_s", "basis"]].assign(session=name, n_runs=summary["n_blocks"], power_w=summary["power_mean_w"])
    table["source_row"] = [f"{name}/summary.csv:{line}" for line in range(2, len(table) + 2)]
    table["energy_j_per_token"] = summary["energy_j_per_token"].where(summary["energy_kind"] == "gross")
    table["gpu"] = _slugs(table["gpu"])
    table["u_log"] = np.log(summary["energy_j_per_token_abs_high"] / summary["energy_j_per_token_abs_low"]) / (2 * NORMAL_95)
    reasons = {
        "not the measured energy of a GPU": (summary["boundary"] != "gpu") | (summary["basis"] != "measured"),
        "its energy varies too much": summary["gate"] == "rejected",
        "int8_default on random weights": (summary["weights"] == "random") & (summary["quantization"] == "int8_default"),
        "a task, whose items have no fixed length": summary["input_tokens"] == 0,
        "a server, or generation under options of its own": ~summary["options"].fillna("{}").isin(("{}", "")),
    }
    return table.assign(why=np.select(list(reasons.values()), list(reasons), default="") if len(table) else [])


def campaigns() -> list[Path]:
    """The measured campaigns of this repository that have a summary, in alphabetical order."""
    return sorted(path.parent for path in paths.MEASURED.glob("*/summary.csv"))


def all_rows(experiments: list[str | Path] | None = None) -> pd.DataFrame:
    """Every published and measured row with gross `energy_j_per_token`, `shape`, and `why` it is not learned from.

    `experiments`: folders or names; None: the campaigns in data/measured.
    """
    sources = [published_rows(), *(measured_rows(e) for e in (campaigns() if experiments is None else experiments))]
    table = pd.concat([s for s in sources if len(s)], ignore_index=True)
    table.loc[(table["why"] == "") & table["energy_j_per_token"].isna(), "why"] = "no gross energy"
    done, unknown = work.table(table.loc[table["why"] == "", ASKED])
    table.loc[unknown.index[unknown != ""], "why"] = "a GPU, model or strategy that the catalog does not know"
    done["roofline_s"] = (done["dense_gb"] + done["expert_gb"] + done["cache_gb"]) / done["bandwidth_gb_s"]
    table = table.join(done[["shape", "layers", "tdp_w", "roofline_s"]])
    return table.assign(why=_joint_reason(table.assign(quantization=table["quantization"].replace(SAME_WORK))))


def _joint_reason(table: pd.DataFrame) -> pd.Series:
    """The reason of each row once rows are seen together: copies, what cannot be, sessions that obey no law of the others."""
    why = table["why"].copy()
    copied = table.duplicated(["gpu", "shape", "quantization", "batch_size", "throughput_tok_s", "power_w"])
    why[(why == "") & copied & (table["basis"] == "published")] = "a copy of another row"
    step_s = table["batch_size"] / table["throughput_tok_s"]
    why[(why == "") & (step_s < table["roofline_s"])] = "faster than the memory's bandwidth allows"
    why[(why == "") & (table["power_w"] > 1.1 * table["tdp_w"])] = "more power than the board's limit"
    single = table.groupby("quantization")["shape"].transform("nunique") < 2
    why[(why == "") & single] = "the only model of its strategy: it cannot be tested on another"
    return why.where(~((why == "") & _lawless(table, step_s)), LAWLESS)


def _lawless(table: pd.DataFrame, step_s: pd.Series) -> pd.Series:
    """Rows of sessions where, far from the roofline, the time a layer still differs more than twofold between models.

    A step far above its bytes' time is spent in launching kernels, a fixed time a layer; a session where it grows with the model
    although the memory is idle was limited by something that no feature here knows (a throttled clock, another process).
    """
    far = (table["roofline_s"] < LAUNCH_BOUND_SHARE * step_s) & (table["batch_size"] == 1) & (table["why"] == "")
    a_layer = (step_s / table["layers"]).where(far)
    groups = a_layer.groupby([table["session"], table["quantization"]])
    spread = groups.transform("max") / groups.transform("min")
    broken = (spread > LAUNCH_BOUND_SPREAD).groupby(table["session"]).transform("any")
    return broken.fillna(False).astype(bool)
