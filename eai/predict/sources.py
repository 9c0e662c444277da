"""All rows that the predictor learns from, in one tidy table: published by others, measured in this repository, and the user's own.

Each published source is a table of data/published; its doubts stand in the rows. A row with a doubt that breaks the physics (weights on
the host, a kernel that is not fused, speculative decoding, power of a whole machine) stays in the table and is not learned from.
EcoCompute's sessions whose printed energies lie more than 3 % below mean power over throughput are net of idle power; gross energy is then
that quotient, else the printed figure. Copies, impossible rows and sessions that obey no law of the others keep their place and reason.
"""

import json
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd

from eai import catalog, paths, tables
from eai.errors import UserError
from eai.predict import work

SOURCES = (
    "mlenergy_v3_h100", "mlenergy_v2_a100", "joulebench_a100_pcie", "energybench_a100_pcie",
    "jetson_orin_llamacpp", "strix_halo_llamacpp", "ollama_wall_peak", "mlperf_power_wall",
)  # fmt: skip
COLUMNS = (
    "gpu", "num_gpus", "model", "params_b", "active_params_b", "quantization", "engine", "engine_version", "batch_size", "input_tokens",
    "output_tokens", "energy_j_per_token", "power_w", "throughput_tok_s", "itl_s", "basis", "boundary", "accounting", "source", "row", "n",
    "spread", "doubt",
)  # fmt: skip
PROMPTS = {
    "lm-arena-chat": 300, "gpqa": 250, "sourcegraph-fim": 1000, "chat": 250, "code": 200, "static batch": 60, "decode": 0, "single": 60,
}  # fmt: skip
"""Prompt tokens taken for a load whose source does not give them: of its task's usual prompts."""
BROKEN = "offloaded|not fused|without a fused|speculative|ran on the processor|several machines|filed under another|Raspberry Pi"
PI_W, OF_THE_PEAK = 12.0, 0.84
"""Card at the wall on a Raspberry Pi: 12 W of the Pi; 88 % efficient supply, mean decoding 95 % of the peak reading."""
DECODE_ALONE = ("jetson_llm_maxperf", "strix_halo_testing")
"""Sources whose figures leave the prompt out."""
BOARDS = ("gpu", "module", "soc")
LEAST_DECODED = 128

TABLE = "ecocompute_measurements"
ASSUMED_INPUT_TOKENS, NET_SHARE, NORMAL_95 = 256, 0.97, 1.96
LAWLESS = "its session's steps are neither launch-bound nor bandwidth-bound"
LAUNCH_BOUND_SHARE, LAUNCH_BOUND_SPREAD = 0.3, 2.0
SAME_WORK = {"bf16": "fp16", "int8_t0": "int8_pure", "int8_t6": "int8_default"}
"""Strategies that move and compute the same bytes: repeats of one are repeats of the other."""
ASKED = ["gpu", "model", "quantization", "batch_size", "input_tokens", "output_tokens"]


def _published(name: str) -> pd.DataFrame:
    """One source's rows in the evidence's columns, with `session`, `load`, `expert_parallel` and `learned`."""
    raw = tables.read_published(name)
    options = pd.DataFrame([json.loads(o) for o in raw["options"]], index=raw.index)
    get = lambda frame, column: frame[column] if column in frame else pd.Series(np.nan, index=raw.index)  # noqa: E731
    out = pd.DataFrame({c: get(raw, c) for c in COLUMNS}, index=raw.index)
    out["engine_version"], out["load"] = get(options, "engine_version"), get(options, "load")
    out["expert_parallel"] = get(options, "expert_parallel").fillna(1)
    if name == "mlenergy_v3_h100":
        out["engine_version"] = "0.11 (benchmark v3.0)"
    out["prompt"] = out["load"].where(out["input_tokens"].isna() & ~out["load"].isin(("decode", "single")), "")
    out["input_tokens"] = out["input_tokens"].fillna(out["load"].map(PROMPTS))
    out["n"], out["spread"] = get(raw, "n_runs"), get(raw, "energy_std_j_per_token") / raw.get("energy_j_per_token", np.nan)
    out["session"], out["basis"], out["doubt"] = name + ":" + raw["session"].astype(str), "published", get(raw, "doubt").fillna("")
    out["row"] = [f"{name}:{line}" for line in range(2, len(raw) + 2)]
    broken = out["doubt"].str.contains(BROKEN) | out["throughput_tok_s"].isna() | out["batch_size"].isna()
    broken |= get(options, "pipeline_parallel").fillna(1) > 1
    out["learned"] = ~broken & (name != "mlperf_power_wall") & ~((out["load"] == "decode") & (out["output_tokens"] < LEAST_DECODED))
    if name == "ollama_wall_peak":  # the card's power where the host is a Raspberry Pi, its driver works, and the peak is no nominal limit
        best = out.groupby(["gpu", "model"])["throughput_tok_s"].transform("max")
        limit = out["gpu"].map({g.slug: g.tdp_w for g in catalog.gpus()})
        sound = options["host"].str.startswith("Pi ") & (out["throughput_tok_s"] > 0.5 * best) & (raw["power_max_w"] != limit)
        out["board_w"] = ((raw["power_max_w"] - PI_W) * OF_THE_PEAK).where(sound)
        out["learned"] |= out["board_w"].notna()
    return out


def rest_of_pc_w() -> tuple[float, float, float]:
    """(value, low, high) of what a PC draws at the wall beside its card and the losses of that [W], 95 % for one more PC: peak readings of
    one card and model in a PC less those on a Raspberry Pi, at one speed within 25 %; geometric mean, with Student's t of the logs."""
    from scipy.special import stdtrit  # scipy.stats takes ten times as long to load

    raw = tables.read_published("ollama_wall_peak")
    raw["host"] = [json.loads(o)["host"] for o in raw["options"]]
    on_pi = raw["host"].str.startswith("Pi ")
    both = raw[~on_pi & raw["host"].str.contains("PC")].merge(raw[on_pi], on=["gpu", "model"], suffixes=("", "_pi"))
    both = both[np.abs(np.log(both["throughput_tok_s"] / both["throughput_tok_s_pi"])) < np.log(1.25)]
    logs = np.log(both["power_max_w"] - both["power_max_w_pi"] + PI_W)
    half = stdtrit(len(logs) - 1, 0.975) * logs.std() * np.sqrt(1 + 1 / len(logs))
    return tuple(np.exp([logs.mean(), logs.mean() - half, logs.mean() + half]).tolist())


def published_rows() -> pd.DataFrame:
    """The published rows: `source_row` (line in the file), `gpu` by slug, gross energy, and `why` a row is not used, empty if it is."""
    raw = tables.read_published(TABLE)
    table = raw[["session", *ASKED, "n_runs", "throughput_tok_s", "power_w"]].assign(basis="published")
    table["source_row"] = [f"{TABLE}.csv:{line}" for line in range(2, len(raw) + 2)]
    computed, printed = raw["power_w"] / raw["throughput_tok_s"], raw["energy_j_per_1k_tok"] / 1e3
    is_net = (printed / computed).groupby(raw["session"]).transform("median") < NET_SHARE
    is_integral = ~is_net & ((printed / computed - 1).abs() < 1 - NET_SHARE)
    table["energy_j_per_token"] = printed.where(is_integral, computed)
    table["u_log"] = raw["energy_std_j_per_1k_tok"] / raw["energy_j_per_1k_tok"] / np.sqrt(raw["n_runs"])
    table["gpu"], table["input_tokens"] = raw["gpu"].map(slug), raw["input_tokens"].fillna(ASSUMED_INPUT_TOKENS)
    conditions = [raw[["throughput_tok_s", "batch_size", "output_tokens"]].isna().any(axis=1), raw["power_w"].isna()]
    reasons = ["no throughput, batch size or output length", "no board power: whether the energy is gross or net is unknown"]
    return table.assign(why=np.select(conditions, reasons, default=""))


@cache
def slug(name: str) -> str:
    """The catalog's slug of a GPU, the name itself where the catalog does not know it."""
    try:
        return catalog.resolve("gpu", str(name))[0]
    except UserError:
        return str(name)


def measured_rows(experiment: str | Path) -> pd.DataFrame:
    """The rows of an experiment's summary in the form of `published_rows`; of random weights not under int8_default."""
    summary = tables.read_result(experiment, "summary")
    name = Path(str(experiment)).name
    table = summary[[*ASKED, "throughput_tok_s", "basis"]].assign(session=name, n_runs=summary["n_blocks"], power_w=summary["power_mean_w"])
    table["source_row"] = [f"{name}/summary.csv:{line}" for line in range(2, len(table) + 2)]
    table["energy_j_per_token"] = summary["energy_j_per_token"].where(summary["energy_kind"] == "gross")
    table["gpu"] = table["gpu"].map(slug)
    table["u_log"] = np.log(summary["energy_j_per_token_abs_high"] / summary["energy_j_per_token_abs_low"]) / (2 * NORMAL_95)
    reasons = {
        "not the measured energy of a GPU": (summary["boundary"] != "gpu") | (summary["basis"] != "measured"),
        "its energy varies too much": summary["gate"] == "rejected",
        "int8_default on random weights": (summary["weights"] == "random") & (summary["quantization"] == "int8_default"),
        "a task, whose items have no fixed length": summary["input_tokens"] == 0,
        "a server, or generation under options of its own": ~summary["options"].fillna("{}").isin(("{}", "")),
    }
    return table.assign(why=np.select(list(reasons.values()), list(reasons), default="") if len(table) else [])


def all_rows(experiments: list[str | Path] | None = None) -> pd.DataFrame:
    """Every row with gross `energy_j_per_token`, `shape` and `why` it is not learned from; of the given experiments, else data/measured."""
    campaigns = sorted(path.parent for path in paths.MEASURED.glob("*/summary.csv"))
    parts = [published_rows(), *(measured_rows(e) for e in (campaigns if experiments is None else experiments))]
    table = pd.concat([p for p in parts if len(p)], ignore_index=True)
    table.loc[(table["why"] == "") & table["energy_j_per_token"].isna(), "why"] = "no gross energy"
    done, unknown = work.table(table.loc[table["why"] == "", ASKED])
    table.loc[unknown.index[unknown != ""], "why"] = "a GPU, model or strategy that the catalog does not know"
    done["roofline_s"] = (done["dense_gb"] + done["expert_gb"] + done["cache_gb"]) / done["bandwidth_gb_s"]
    table = table.join(done[["shape", "layers", "tdp_w", "roofline_s"]])
    return table.assign(why=_joint_reason(table.assign(quantization=table["quantization"].replace(SAME_WORK))))


def _joint_reason(table: pd.DataFrame) -> pd.Series:
    """The reason of each row once rows are seen together: copies, what cannot be, sessions that obey no law of the others.

    A step far above its bytes' time is spent in launching kernels, a fixed time a layer; a session where that differs over twofold between
    models was limited by something that no feature here knows (a throttled clock, another process).
    """
    why = table["why"].copy()
    copied = table.duplicated(["gpu", "shape", "quantization", "batch_size", "throughput_tok_s", "power_w"])
    why[(why == "") & copied & (table["basis"] == "published")] = "a copy of another row"
    step_s = table["batch_size"] / table["throughput_tok_s"]
    why[(why == "") & (step_s < table["roofline_s"])] = "faster than the memory's bandwidth allows"
    why[(why == "") & (table["power_w"] > 1.1 * table["tdp_w"])] = "more power than the board's limit"
    single = table.groupby("quantization")["shape"].transform("nunique") < 2
    why[(why == "") & single] = "the only model of its strategy: it cannot be tested on another"
    far = (table["roofline_s"] < LAUNCH_BOUND_SHARE * step_s) & (table["batch_size"] == 1) & (table["why"] == "")
    a_layer = (step_s / table["layers"]).where(far).groupby([table["session"], table["quantization"]])
    spread = a_layer.transform("max") / a_layer.transform("min")
    lawless = (spread > LAUNCH_BOUND_SPREAD).groupby(table["session"]).transform("any").fillna(False).astype(bool)
    return why.where(~((why == "") & lawless), LAWLESS)


def _pairs(experiments: list[str | Path] | None) -> pd.DataFrame:
    """EcoCompute's rows and measured experiments: gross energy of transformers on one GPU."""
    raw = all_rows(experiments)
    raw = raw[raw["energy_j_per_token"].notna() & raw["why"].isin(("", LAWLESS))]
    out = pd.DataFrame({c: raw.get(c, np.nan) for c in COLUMNS}, index=raw.index)
    out = out.assign(num_gpus=1, engine="transformers", boundary="gpu", accounting="gross", row=raw["source_row"], n=raw["n_runs"])
    out["power_w"] = raw["energy_j_per_token"] * raw["throughput_tok_s"]
    out = out.assign(itl_s=raw["batch_size"] / raw["throughput_tok_s"], spread=raw["u_log"], doubt=raw["why"], session=raw["session"])
    published = raw["basis"] == "published"
    out["source"] = np.where(published, "ecocompute", raw["session"])
    return out.assign(learned=raw["why"] == "", load="static batch", expert_parallel=1.0, tensor_parallel=np.nan, prompt="", board_w=np.nan)


def evidence(experiments: list[str | Path] | None = None, extras: bool = False) -> pd.DataFrame:
    """Every row of evidence, published and measured, gross: the columns of `COLUMNS`, with `extras` also session, load, expert_parallel and
    whether it is learned from. `experiments`: the user's own (names or folders) beside this repository's campaigns. Raises UserError for
    experiments none of whose rows can be learned from."""
    parts = [_published(name) for name in SOURCES] + [_pairs(None)]
    if experiments:
        own = _pairs(list(experiments))
        parts.append(own[own["basis"] == "measured"])
        if not parts[-1]["learned"].any():
            reasons = all_rows(list(experiments)).query("basis != 'published'")["why"].unique()
            found = f"no row of {', '.join(map(str, experiments))} that a prediction can be corrected by: {'; '.join(reasons)}"
            raise UserError(found, "measured energy of a GPU's board, prompts and answers of fixed length", "name another experiment")
    parts = [p.dropna(axis=1, how="all") for p in parts if len(p)]
    found = pd.concat(parts, ignore_index=True)
    shapes = {m: catalog.shape(m) for m in found["model"].unique()}
    for size in ("params_b", "active_params_b"):
        found[size] = found["model"].map({m: getattr(shape, size) for m, shape in shapes.items()})
    found["itl_s"] = found["itl_s"].fillna((found["batch_size"] / found["throughput_tok_s"]).where(found["input_tokens"] < 200))
    extra = ("session", "load", "expert_parallel", "learned", "prompt", "board_w")
    return found.reindex(columns=[*COLUMNS, *(extra if extras else ())])


def learned(table: pd.DataFrame | None = None) -> pd.DataFrame:
    """The rows that are learned from, repeats of one configuration and session joined (geometric means), with their work. Adds `vague` (2
    where the power is read through the wall and the speed is the host's: learned from for the power alone), `step_s`, `power_w` and
    `power_share` (NaN where only the throughput is known, or a whole machine's power), `family`, `source`."""
    table = evidence(extras=True) if table is None else table
    table = table[table["learned"].astype(bool)].copy()
    table["power_w"] = (table["energy_j_per_token"] * table["throughput_tok_s"]).where(table["boundary"].isin(BOARDS))
    table["power_w"] = table["power_w"].fillna(table["board_w"])
    table["vague"] = np.where(table["board_w"].notna(), 2.0, 1.0)
    table["output_tokens"], table["input_tokens"] = table["output_tokens"].fillna(256), table["input_tokens"].fillna(60)
    table["batch"] = table["batch_size"].round(1)
    lengths = np.where(table["source"].isin(("energybench", "jetson_llm_maxperf")), table["input_tokens"].astype(str), table["load"])
    keys = [
        "source", "session", "gpu", "num_gpus", "expert_parallel", "engine", "engine_version", "model", "quantization", "batch",
        "prompt", "vague",
    ]  # fmt: skip
    numbers = ["batch_size", "input_tokens", "output_tokens", "throughput_tok_s", "power_w", "itl_s"]
    logs = np.log(table[numbers].clip(lower=1e-9))
    groups = [table[k].where(table[k].notna(), "") for k in keys] + [pd.Series(lengths, index=table.index, name="lengths")]
    joined = np.exp(logs.groupby(groups).mean()).reset_index()
    done, reason = work.table(joined.drop(columns=["throughput_tok_s", "power_w", "itl_s", "batch"]))
    joined = joined[(reason == "").to_numpy()].drop(columns=["gpu", "model", "engine", "quantization", "batch", "expert_parallel"])
    rows = done.join(joined)
    rows.loc[rows["source"].isin(DECODE_ALONE), "prefill_gflop"] = 0.0
    rows["step_s"] = rows["batch"] / rows["throughput_tok_s"]
    rows["power_share"] = rows["power_w"] / rows["n"] / rows["tdp_w"]
    names = rows["model"].str.rpartition("/")[2].str.lower().str.extract(r"^(?:meta-)?([a-z]+)[-_]?(\d(?:\.5)?(?![\d.]*b))?")
    rows["family"] = names[0] + names[1].fillna("")
    return rows.reset_index(drop=True)
