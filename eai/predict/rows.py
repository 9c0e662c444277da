"""The clean rows that a prediction may learn from: one accounting at a time, one card under one name, copies and impossible rows left out.

A session whose printed energies lie more than 3 % below mean board power over throughput is net of idle power; gross energy is then that
quotient, else the printed figure. The two are never mixed. Every row left out keeps its reason.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from eai import catalog, footprint, paths, strategies, tables
from eai.errors import UserError
from eai.predict.features import feature_table

TABLE = "ecocompute_measurements"
ACCOUNTINGS = ("gross", "net")
ASSUMED_INPUT_TOKENS = 256
NET_SHARE = 0.97
NORMAL_95 = 1.96
LAWLESS = "its session's steps are neither launch-bound nor bandwidth-bound"
LAUNCH_BOUND_SHARE = 0.3
LAUNCH_BOUND_SPREAD = 2.0
CONFIGURATION = ["session", "gpu", "shape", "quantization", "batch_size"]
MEASURES = ["energy_j_per_token", "throughput_tok_s"]


def published_rows() -> pd.DataFrame:
    """The published per-configuration rows with `source_row` (line in the file), `gpu` by catalog slug and gross and net energy.

    `why` says why a row is not used, empty if it is.
    """
    raw = tables.read_published(TABLE)
    table = raw[["session", "gpu", "model", "quantization", "batch_size", "input_tokens", "output_tokens", "n_runs"]].copy()
    table["source_row"] = [f"{TABLE}.csv:{line}" for line in range(2, len(raw) + 2)]
    table["basis"] = "published"
    table["throughput_tok_s"], table["power_w"] = raw["throughput_tok_s"], raw["power_w"]
    computed, printed = raw["power_w"] / raw["throughput_tok_s"], raw["energy_j_per_1k_tok"] / 1e3
    is_net = (printed / computed).groupby(raw["session"]).transform("median") < NET_SHARE
    is_integral = ~is_net & ((printed / computed - 1).abs() < 1 - NET_SHARE)
    table["gross_j_per_token"] = printed.where(is_integral, computed)
    table["net_j_per_token"] = printed.where(is_net & computed.notna())
    table["u_log"] = raw["energy_std_j_per_1k_tok"] / raw["energy_j_per_1k_tok"] / np.sqrt(raw["n_runs"])
    table["throughput_u_log"] = raw["throughput_std_tok_s"] / raw["throughput_tok_s"] / np.sqrt(raw["n_runs"])
    table["gpu"] = [_slug("gpu", name) for name in raw["gpu"]]
    table["input_tokens"] = raw["input_tokens"].fillna(ASSUMED_INPUT_TOKENS)
    why = _first_reason(table, raw)
    return table.assign(why=why)


def _slug(kind: str, name) -> str:
    """The catalog's slug of a name, the name itself where the catalog does not know it."""
    try:
        return catalog.resolve(kind, name)[0]
    except UserError:
        return str(name)


def _first_reason(table: pd.DataFrame, raw: pd.DataFrame) -> np.ndarray:
    """Why each published row is not used on its own account, empty if it may be."""
    known = [_known(*row) for row in table[["gpu", "model", "quantization"]].itertuples(index=False)]
    conditions = [
        raw[["throughput_tok_s", "batch_size", "output_tokens"]].isna().any(axis=1),
        raw["power_w"].isna(),
        ~np.array(known),
    ]
    reasons = [
        "no throughput, batch size or output length",
        "no board power: neither gross nor net energy can be told",
        "a GPU, model or strategy that the catalog does not know",
    ]
    return np.select(conditions, reasons, default="")


def _known(gpu: str, model: str, quantization: str) -> bool:
    """Whether the catalog can count this configuration's bytes."""
    try:
        footprint.layout(catalog.model(model))
        return catalog.gpu(gpu).tdp_w is not None and strategies.get(quantization) is not None
    except UserError:
        return False


def measured_rows(experiment: str | Path) -> pd.DataFrame:
    """The rows of an experiment's summary table in the form of `published_rows`: measured on a GPU's board, gate passed.

    A model of random weights counts as its shape, but not under int8_default, whose cost depends on outliers.
    """
    summary = tables.read_result(experiment, "summary")
    names = ["gpu", "model", "quantization", "batch_size", "input_tokens", "output_tokens", "throughput_tok_s"]
    table = summary[names].assign(session=Path(str(experiment)).name, n_runs=summary["n_blocks"], basis=summary["basis"])
    table["source_row"] = [f"{table['session'].iloc[0] if len(table) else ''}/summary.csv:{line}" for line in range(2, len(table) + 2)]
    table["power_w"] = summary["power_mean_w"]
    for kind in ACCOUNTINGS:
        table[f"{kind}_j_per_token"] = summary["energy_j_per_token"].where(summary["energy_kind"] == kind)
    table["gpu"] = [_slug("gpu", name) for name in table["gpu"]]
    table["u_log"] = np.log(summary["energy_j_per_token_abs_high"] / summary["energy_j_per_token_abs_low"]) / (2 * NORMAL_95)
    table["throughput_u_log"] = np.log(summary["throughput_tok_s_high"] / summary["throughput_tok_s_low"]) / (2 * NORMAL_95)
    known = [_known(*row) for row in table[["gpu", "model", "quantization"]].itertuples(index=False)]
    conditions = [
        (summary["boundary"] != "gpu") | (summary["basis"] != "measured"),
        summary["gate"] == "rejected",
        ~np.array(known, bool),
        (summary["weights"] == "random") & (summary["quantization"] == "int8_default"),
        summary["input_tokens"] == 0,
        ~summary["options"].fillna("{}").isin(("{}", "")),
    ]
    reasons = ["not the measured energy of a GPU", "its energy varies too much", "not in the catalog", "int8_default on random weights"]
    reasons += ["a task, whose items have no fixed length", "a server, or generation under options of its own"]
    return table.assign(why=np.select(conditions, reasons, default="") if len(table) else [])


def campaigns() -> list[Path]:
    """The measured campaigns of this repository that have a summary, in alphabetical order."""
    return sorted(path.parent for path in paths.MEASURED.glob("*/summary.csv"))


def all_rows(accounting: str = "gross", experiments: list[str | Path] | None = None) -> pd.DataFrame:
    """Every published and measured row with `energy_j_per_token` in one accounting, features, and `why` it is not learned from.

    `experiments`: folders or names; None: the campaigns in data/measured. Raises UserError for another accounting.
    """
    if accounting not in ACCOUNTINGS:
        raise UserError(f"accounting '{accounting}'", "gross or net", "name one: the two are different quantities")
    sources = [published_rows(), *(measured_rows(e) for e in (campaigns() if experiments is None else experiments))]
    table = pd.concat([s for s in sources if len(s)], ignore_index=True)
    table["energy_j_per_token"] = table[f"{accounting}_j_per_token"]
    table["accounting"] = accounting
    table.loc[(table["why"] == "") & table["energy_j_per_token"].isna(), "why"] = f"no {accounting} energy"
    counted = table[table["why"] == ""]
    given = table.drop(columns=["gpu", "quantization", "batch_size"]).join(feature_table(counted))
    given["gpu"] = given["gpu"].fillna(table["gpu"])
    given["quantization_as_named"], given["batch_size"] = table["quantization"], table["batch_size"]
    return given.assign(why=_joint_reason(given))


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


def clean_rows(accounting: str = "gross", experiments: list[str | Path] | None = None) -> pd.DataFrame:
    """The rows that may be learned from: one a session and configuration, geometric means of repeats, with their features.

    `rows` names the source rows of each; `step_s` is the time of a decode step of the whole batch.
    """
    table = all_rows(accounting, experiments)
    used = table[table["why"] == ""]
    logs = used[MEASURES].apply(np.log).groupby([used[c] for c in CONFIGURATION]).mean()
    names = [c for c in used if c not in (*MEASURES, *CONFIGURATION)]
    first = used.groupby(CONFIGURATION)[names].first()
    cited = used.groupby(CONFIGURATION)["source_row"].agg(", ".join).rename("rows")
    clean = first.join(np.exp(logs)).join(cited).reset_index()
    clean["batch_size"] = clean["batch_size"].astype(int)
    return clean.assign(step_s=clean["batch_size"] / clean["throughput_tok_s"])


def left_out(accounting: str = "gross", experiments: list[str | Path] | None = None) -> pd.DataFrame:
    """How many rows were not learned from, by session and reason."""
    table = all_rows(accounting, experiments)
    groups = table[table["why"] != ""].groupby(["session", "why"])
    return groups.agg(rows=("source_row", "size"), gpu=("gpu", "first")).reset_index()
