"""The campaign's tables and README, from its folder alone: no GPU, no model, the same text from the same data."""

import json
from pathlib import Path

import numpy as np
import pandas as pd

from eai import catalog, paths, tables
from eai.analyze import comparison, roofline, summary
from eai.analyze.selection import select
from eai.errors import UserError
from eai.power.simulated import PREFIX, is_simulated

BASELINE, OUTPUT = "fp16", 32
PREDICTIONS = paths.ROOT / "benchmarks" / "predictions"
COMMAND = "python benchmarks/gpu_campaign.py"


def write(out: Path) -> dict:
    """Write summary.csv, comparisons.csv and README.md of the campaign in `out`; returns what the README counts."""
    state = _json(out, "campaign")
    if state is None:
        raise UserError(f"{out} holds no campaign", "a folder that gpu_campaign.py has measured into", "run it first")
    windows, energies = tables.read_windows(out), tables.read_energies(out)
    scores = tables.read_scores(out)
    scores = scores if len(scores) else None
    found = summary.summarize(windows, energies, BASELINE, scores)
    net = summary.summarize(windows, energies, BASELINE, scores, net=True)
    tables.write_result(out, "summary", found)
    tables.write_result(out, "comparisons", comparison.compare(windows, energies, BASELINE))
    selection = select(windows, energies)
    parts = [
        _head(state, windows),
        _levels(_json(out, "facts")),
        _sensor(_json(out, "sensor")),
        _cells(found, net),
        _batches(found),
        _lengths(selection),
        _checked(_json(out, "correct"), _json(out, "ratio"), _json(out, "cost")),
        _beside(_json(out, "beside")),
        _predicted(found, state["gpu"]),
        _statuses(windows, state),
        _again(state["gpu"]),
    ]
    (out / "README.md").write_text("\n\n".join(part for part in parts if part) + "\n")
    counts = {str(k): int(v) for k, v in windows["status"].value_counts().items()}
    return {"experiment": str(out), "windows": len(windows), "status_counts": counts, "basis": sorted(set(windows["basis"].dropna()))}


def _json(out: Path, name: str) -> dict | None:
    path = out / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else None


def _table(rows: list[dict]) -> str:
    """Rows as a Markdown table; nothing where there are none."""
    if not rows:
        return "Nothing was measured for this part."
    head = list(rows[0])
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(str(row[name]) for name in head) + " |" for row in rows])


def number(value: float, low: float | None = None, high: float | None = None, digits: int = 3) -> str:
    """A number with its interval, a dash where there is none."""
    if value is None or pd.isna(value):
        return "-"
    text = f"{value:.{digits}g}"
    return text if low is None or pd.isna(low) else f"{text} [{low:.{digits}g}, {high:.{digits}g}]"


def _interval(row: pd.Series, name: str, ends: str = "") -> str:
    return number(row[name], row.get(f"{name}{ends}_low"), row.get(f"{name}{ends}_high"))


def _head(state: dict, windows: pd.DataFrame) -> str:
    """What this is, when it was made and in how much time."""
    gpu, spent_s = state["gpu"], sum(command["seconds"] for command in state["commands"])
    name = catalog.gpu(gpu.removeprefix(PREFIX)).name
    date = min((str(at) for at in windows["started_at"].dropna()), default="?")[:10]
    text = [f"# A campaign on one {name}, {date}"]
    if is_simulated(gpu):
        text.append("**Simulated: nothing was measured here.** A rehearsal of the program; no number says anything about a card.")
    minutes, commands = f"{spent_s / 60:.1f} minutes", len(state["commands"])
    text.append(
        "How much energy does a generated token cost on this card, by quantization strategy, batch size, length and model size? "
        f"{len(windows)} windows in {minutes}, commands: {commands}. Intervals are 95 %, within this card unless said otherwise; n counts "
        "blocks. Weights are random in the models' real shapes, with planted outlier channels, unless said otherwise: energy and "
        "speed follow the shapes, scores are of real weights only. Ratios refer to fp16, paired on the block."
    )
    return "\n\n".join(text)


def _levels(found: dict | None) -> str:
    """The counter beside the integral of power, and what a reading costs."""
    if found is None:
        return ""
    rows = [
        {"level": name, "seconds": number(level["duration_s"]), "counter, J": number(level.get("counter"), digits=5)}
        | {"integral of power, J": number(level.get("power"), digits=5), "status": level["status"]}
        for name, level in found["levels"].items()
    ]
    cost = ", ".join(f"{name} {number(ms['median'])} ms (p95 {number(ms['p95'])})" for name, ms in found["reading_ms"].items())
    return "## The counter at two levels\n\n" + _table(rows) + f"\n\nA reading takes: {cost}."


def _sensor(found: dict | None) -> str:
    """What the probe found out about the card's sensor."""
    if found is None:
        return ""
    sensor, card, polling = found["sensor"], found["card"], found["polling"]
    rate = {True: "sees every instant", False: "is fed by the sampling power sensor", None: "is undecided between full rate and sampled"}
    rows = [
        {"what": "card", "found": f"{card['name']}, driver {card['driver']}, VBIOS {card['vbios']}, limit {card['power_limit_w']:g} W"},
        {"what": f"`{sensor['field']}` updates every", "found": f"{1e3 * sensor['update_s']:.1f} ms"},
        {"what": "a reading averages", "found": f"{1e3 * sensor['averaging_s']:.1f} ms"},
        {"what": "the energy counter ticks every", "found": f"{1e3 * sensor['tick_s']:.1f} ms"},
        {
            "what": "the counter",
            "found": f"{rate[sensor['full_rate']]} (spread over 8 phases {number(found['counter_spread'])} of the rise)",
        },
        {"what": "counter over integral, steady load", "found": f"{sensor['gain_ratio']:.4f} +- {sensor['u_gain_ratio']:.4f} (k = 1)"},
        {
            "what": "idle power, bare / with context / loaded",
            "found": f"{number(found['bare_idle_w'])} / {found['idle_w']:.4g} / {found['load_w']:.4g} W",
        },
    ]
    if polling:
        rows.append({"what": "lost by reading the counter at 20 Hz", "found": f"{polling['loss']:+.2%} of {polling['quiet_w']:.1f} W"})
    return "## The sensor\n\n" + _table(rows)


def _row(row: pd.Series) -> dict:
    return {
        "strategy": row["quantization"],
        "batch": row["batch_size"],
        "J/token": _interval(row, "energy_j_per_token"),
        "against the truth": number(row["energy_j_per_token"], row["energy_j_per_token_abs_low"], row["energy_j_per_token_abs_high"]),
        "tok/s": _interval(row, "throughput_tok_s"),
        "W": number(row["power_mean_w"]),
        "ratio to fp16": _interval(row, "ratio_to_baseline"),
        "n": row["n_blocks"],
        "gate": row["gate"],
    }


def _generated(found: pd.DataFrame) -> pd.DataFrame:
    return found[(found["task"] == "generate") & (found["n_blocks"] > 0)]


def _cells(found: pd.DataFrame, net: pd.DataFrame) -> str:
    """The main cells, gross with net beside, and the smaller models."""
    key = ["configuration_id"]
    table = _generated(found).merge(net[[*key, "energy_j_per_token"]].rename(columns={"energy_j_per_token": "net"}), on=key, how="left")
    table = table[(table["output_tokens"] == OUTPUT) & (table["batch_size"].isin([1, 8, 64]))].sort_values(
        ["model", "batch_size", "quantization"]
    )
    rows = [{"model": row["model"]} | _row(row) | {"net J/token": number(row["net"])} for _, row in table.iterrows()]
    return "## Strategies\n\nGross energy of the board; net takes the idle power with the model loaded off.\n\n" + _table(rows)


def _batches(found: pd.DataFrame) -> str:
    """Energy per token over the batch size, fp16."""
    table = _generated(found)
    table = table[(table["quantization"] == BASELINE) & (table["output_tokens"] == OUTPUT)]
    table = table[table.groupby("model")["batch_size"].transform("nunique") > 2].sort_values("batch_size")
    first = table["energy_j_per_token"].iloc[0] if len(table) else np.nan
    rows = [_row(row) | {"over the first": number(row["energy_j_per_token"] / first)} for _, row in table.iterrows()]
    return "## Batch size\n\n" + _table(rows)


def _lengths(selection) -> str:
    """Prefill and decode from windows of several output lengths."""
    table = roofline.prefill_and_decode(selection)
    table = table[table["lengths"].str.count(" ") > 1] if "lengths" in table else table.iloc[:0]
    rows = [
        {
            "model": row["model"],
            "strategy": row["quantization"],
            "batch": row["batch_size"],
            "prefill, J per request": _interval(row, "prefill_j_per_request"),
            "decode, J per token": _interval(row, "decode_j_per_token"),
            "output lengths": row["lengths"],
            "p of a curve": number(row["p_curvature"]),
            "n": row["n_blocks"],
        }
        for _, row in table.iterrows()
    ]
    return "## Prefill and decode\n\n" + _table(rows)


def _checked(correct: dict | None, ratio: dict | None, cost: dict | None) -> str:
    """Whether the strategies compute what they should, and what our own code costs."""
    text = []
    for row in (correct or {}).get("strategies", ()):
        said = f"last layer {row['last_layer']:.2%} off fp32" if row["status"] == "ok" else row["reason"]
        text.append(f"- `{row['strategy']}` on {correct['model']} ({correct['weights']} weights): {row['status']}, {said}")
    for row in (ratio or {}).get("ratios", ()):
        found = number(row["ratio"], row["low"], row["high"], 4)
        text.append(f"- throughput of a measured over a bare `generate`, batch {row['batch_size']}: {found}, {row['pairs']} pairs")
    if cost and "cpu_share" in cost:
        loss = number(cost["loss"], cost["loss_low"], cost["loss_high"])
        text.append(f"- the sampler takes {cost['cpu_share']:.2%} of a core at {cost['rate_hz']:.0f} Hz; a decode loop loses {loss}")
    return "## Checked beside\n\n" + "\n".join(text) if text else ""


def _beside(found: dict | None) -> str:
    """Other methods over the same windows."""
    if found is None:
        return ""
    rows = [{"method": name.removesuffix("_over_ours"), "over ours (median)": f"{value:.4f}"} for name, value in found["medians"].items()]
    return f"## The same seconds by other methods\n\n{len(found['windows'])} windows of generation.\n\n" + _table(rows)


def _predicted(found: pd.DataFrame, gpu: str) -> str:
    """What was predicted before the card was measured, tested on its rows: one part a file of predictions."""
    parts = []
    for path in sorted(PREDICTIONS.glob(f"{gpu.removeprefix(PREFIX)}*.json")):
        stored, rows = json.loads(path.read_text()), []
        measured = _generated(found).assign(model=lambda t: [catalog.model(m).slug for m in t["model"]])
        for p in (p for p in stored["predictions"] if "reason" not in p):
            wanted = {
                name: p.get(name, stored.get(name)) for name in ("model", "quantization", "batch_size", "input_tokens", "output_tokens")
            }
            for _, row in measured[measured[list(wanted)].eq(pd.Series(wanted)).all(axis=1)].iterrows():
                e, ours = p["energy_j_per_token"], row["energy_j_per_token"]
                cell = {
                    "strategy": p["quantization"],
                    "batch": p["batch_size"],
                    "tokens": f"{wanted['input_tokens']} + {wanted['output_tokens']}",
                }
                cell |= {"predicted J/token": number(e["value"], e["low"], e["high"]), "found": number(ours)}
                inside = "yes" if e["low"] <= ours <= e["high"] else "no"
                rows.append({"model": p["model"]} | cell | {"predicted over found": f"{e['value'] / ours:.2f}", "inside": inside})
        text = f"Written on {stored['written']} from {stored['learned_from']} published rows: {len(stored['predictions'])} cells, "
        held = sum(r["inside"] == "yes" for r in rows)
        parts.append(f"{text}{len(rows)} of them measured; {held} of {len(rows)} intervals hold.\n\n{_table(rows)}")
    return "## Predicted beforehand\n\n" + "\n\n".join(parts) if parts else ""


def _statuses(windows: pd.DataFrame, state: dict) -> str:
    """Every status with its number and reason, and the stages with their time."""
    reasons = windows.assign(reason=windows["reason"].fillna("")).groupby(["status", "reason"]).size()
    rows = [{"status": status, "windows": n, "reason": reason or "-"} for (status, reason), n in reasons.items()]
    flags = windows["flags"].explode().dropna().value_counts()
    remarks = ", ".join(f"{name} {n}" for name, n in flags.items()) or "none"
    stages = [
        {"stage": s, "done": v.get("failed", "yes") if v["done"] else "cut off", "seconds": v.get("seconds", "-")}
        for s, v in state["stages"].items()
    ]
    return f"## Statuses\n\n{_table(rows)}\n\nRemarks that bar no window: {remarks}.\n\n{_table(stages)}"


def _again(gpu: str) -> str:
    """How another person repeats it."""
    where = f" --gpu {gpu} --out FOLDER" if is_simulated(gpu) else ""
    return (
        f"## Again\n\n    {COMMAND}{where}\n\nuntil it says that nothing is left, then the same with `--report`. "
        "Every energy is derived again from the raw readings by `eai replay` on this folder."
    )
