"""`eai diagnose --experiment DIR`: every configuration against its own readings, its own baseline and siblings, the card's limits, and
the rows.

What an experiment measured itself goes before what rows or predictions say. The experiment's own rows never count as evidence for it.
A configuration that was compared with nothing is unknown, never healthy: what was and was not compared stands in its notes.
"""

import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from eai import catalog, footprint, schema, strategies, tables
from eai.advise.causes import CAUSES
from eai.advise.diagnose import LOW, WORTH, diagnose, entry, figures, fix, pattern_of
from eai.advise.launch import BATCH, LOAD
from eai.advise.request import request
from eai.analyze.metrics import costed
from eai.analyze.summary import summarize
from eai.errors import UserError
from eai.quantity import Quantity
from eai.site import NORMAL_95

KEYS = ["gpu", "model", "quantization", "batch_size", "input_tokens", "output_tokens", "task", "options"]
READING = 0.99
"""The confidence of a pattern that a sensor or the loaded model itself states."""
SHOWN = 0.9
"""The confidence of a pattern that figures of one experiment show among themselves."""
ONE_KERNEL = 0.01
"""Energies and speeds that agree within 1 % where the weights differ in size by half or more are those of one kernel."""
SPILLED = 3.0
"""How many times slower than its bytes explain a configuration must be against a sibling to be read from another memory."""
THROTTLED_SHARE, CAPPED_SHARE, FULL_SHARE = 0.01, 0.05, 0.97
WORDS_OF = {
    "int8": r"Linear8bitLt|Int8Tensor",
    "nf4": r"Linear4bit\(nf4",
    "fp4": r"Linear4bit\(fp4",
    "float32": r"Linear\(torch\.float32\)",
    "float16": r"Linear\(torch\.float16\)",
    "bfloat16": r"Linear\(torch\.bfloat16\)",
}


def diagnose_experiment(experiment: str | Path) -> dict[str, Any]:
    """Every configuration with its patterns.

    Keys: experiment, basis, boundary, configurations (configuration, verdict, summary, patterns, figures, notes), patterns (the named ones
    of all, each with its configuration), counts, warnings. Raises UserError where the experiment has no windows.
    """
    windows = tables.read_windows(experiment)
    summary = costed(_summary(experiment, windows))
    name = tables.experiment_dir(experiment).name
    together = _among_siblings(summary)
    rows = [
        _configuration(
            row, summary, windows[windows["configuration_id"] == row["configuration_id"]], name, together.get(row["configuration_id"], [])
        )
        for row in summary.to_dict("records")
    ]
    named = [{"configuration": r["configuration"], **p} for r in rows for p in r["patterns"] if p["named"]]
    verdicts = pd.Series([r["verdict"] for r in rows]).value_counts().to_dict()
    basis, boundary = summary["basis"].iloc[0], summary["boundary"].iloc[0]
    return {
        "experiment": name,
        "basis": basis,
        "boundary": boundary,
        "configurations": rows,
        "patterns": named,
        "counts": {str(k): int(v) for k, v in verdicts.items()},
        "warnings": [] if basis == "measured" else [f"energy is {basis}: what it says of watts is no better than its estimate"],
    }


def _summary(experiment: str | Path, windows: pd.DataFrame) -> pd.DataFrame:
    """The summary table as written, else computed from the windows; without one usable window, the configurations that were tried."""
    for made in (lambda: tables.read_result(experiment, "summary"), lambda: summarize(windows, tables.read_energies(experiment))):
        try:
            return made()
        except UserError:
            continue
    tried = windows.drop_duplicates("configuration_id").reindex(columns=[c.name for c in schema.SUMMARY])
    boundary = np.where(tried["gpu"] == "cpu", "cpu_package", "gpu")
    return tried.assign(n_blocks=0, n_windows=0, gate="rejected", boundary=boundary, basis=windows["basis"].iloc[0])


def _options(row: dict) -> dict:
    return json.loads(row.get("options") or "{}") if isinstance(row.get("options"), str) else {}


def _work(row: dict) -> str:
    """What a configuration did beside plain generation: its task, or the load and server in its options; empty if nothing."""
    options = _options(row)
    words = [f"{name} {options[name]}" for name in ("server", "load") if name in options]
    return ", ".join([f"task {row['task']}"] * (row.get("task", "generate") != "generate") + words)


def _configuration(row: dict, summary: pd.DataFrame, windows: pd.DataFrame, name: str, together: list[dict]) -> dict[str, Any]:
    """One configuration: its readings, its own ratios and siblings, the card's limits, and its figures against the rows."""
    compared, notes = _against_rows(row, windows, name)
    own = [p for p in (_strategy(row, summary), _batch(row, summary)) if p is not None]
    readings = remarks(windows)
    limits = [entry("impossible_figures", SHOWN, None, [text], [fix(CAUSES["impossible_figures"].fix)]) for text in beyond_the_card(row)]
    settled = {"batch_1_waste"} if any(p["name"] == "batch_1_waste" for p in own) else set()
    settled |= (
        {"int8_decomposition", "small_model_4bit", "quantization_overhead"} if any(p["name"] != "batch_1_waste" for p in own) else set()
    )
    found = {p["name"]: p for p in compared.get("patterns", []) if p["kind"] == "fault" or p["name"] not in settled}
    found |= {p["name"]: p for p in (*own, *together, *limits) if p["confidence"] >= LOW}
    found |= {
        pattern: entry(pattern, READING, None, [read], [fix(CAUSES[pattern].fix, CAUSES[pattern].code)], kind="fault")
        for pattern, read in readings
    }
    patterns = sorted(found.values(), key=lambda p: -p["confidence"])
    with_baseline = np.isfinite(row.get("ratio_to_baseline_low") or np.nan) and row["quantization"] != row.get("baseline")
    checked = [
        w
        for w, holds in (
            ("rows or predictions", compared.get("expected")),
            ("its own baseline", with_baseline),
            ("its own batches", "batch_1_waste" in settled),
        )
        if holds
    ]
    verdict = _verdict(patterns, compared, bool(row["n_blocks"]), checked)
    named = ", ".join(f"{p['title']} ({p['level']})" for p in patterns if p["named"])
    words = {"healthy": f"nothing wrong against {' and '.join(checked)}", "unknown": "compared with nothing that could show a fault"}
    bad = _unusable(windows)
    return {
        "configuration": {k: row[k] for k in KEYS} | {"work": _work(row)},
        "verdict": verdict,
        "summary": named or (compared.get("summary", "") if verdict == "undecided" else "") or words.get(verdict, "no usable window"),
        "patterns": patterns,
        "figures": figures_of(row, windows),
        "notes": [*notes, *([f"windows left out: {bad}"] if bad else []), *_gate(row)],
    }


def _verdict(patterns: list[dict], compared: dict, usable: bool, checked: list[str]) -> str:
    """What is named, else what the rows say, else healthy within the experiment if something was compared; nothing compared is unknown."""
    kinds = {p["kind"] for p in patterns if p["named"]}
    if kinds:
        return "fault" if "fault" in kinds else "costly_choice"
    if not usable:
        return "undecided"
    return compared.get("verdict") or ("healthy" if checked else "unknown")


def _gate(row: dict) -> list[str]:
    """A spread between blocks that the gate does not pass."""
    return (
        []
        if row["gate"] == "ok" or not row["n_blocks"]
        else [f"gate {row['gate']}: the energy varies by {row['energy_cv']:.1%} between {row['n_blocks']} blocks"]
    )


def _against_rows(row: dict, windows: pd.DataFrame, name: str) -> tuple[dict[str, Any], list[str]]:
    """(the diagnosis by rows and predictions, why there is none): measured or published energy of GPU boards in plain generation only."""
    if row["boundary"] != "gpu" or row["basis"] not in ("measured", "published"):
        return {}, [f"{row['basis']} energy of {row['boundary']}: no row is of that kind"]
    if not row["n_blocks"]:
        return {}, ["no usable window: nothing to compare"]
    if work := _work(row):
        return {}, [f"{work}: the rows are of plain generation"]
    options, names = _options(row), ("gpu", "model", "quantization", "batch_size", "input_tokens", "output_tokens")
    try:
        more = {n: options[n] for n in ("engine", "num_gpus") if n in options}
        asked = request(**{n: row[n] for n in names}, **more)
        return diagnose(asked, figures(figures_of(row, windows), asked.output_tokens), (name,)), []
    except UserError as error:
        return {}, [f"not compared with rows: {error}"]


def _bits(quantization: str) -> float | None:
    """Stored bits a weight, None for a name that does not say."""
    try:
        s = strategies.get(quantization)
    except UserError:
        return None
    return s.weight_bits + s.scale_bits


def _among_siblings(summary: pd.DataFrame) -> dict[str, list[dict]]:
    """configuration_id -> what its figures show beside those of the same work under other strategies: one kernel, or another memory."""
    found: dict[str, list[dict]] = {}
    keys = [k for k in KEYS if k != "quantization"]
    usable = summary[(summary["n_blocks"] > 0) & summary["unit_energy_j"].notna() & summary["units_per_s"].notna()]
    if usable.empty:
        return found
    for _, group in usable.groupby(usable[keys].astype(str).agg("|".join, axis=1)):
        rows = [r | {"bits": _bits(r["quantization"])} for r in group.to_dict("records")]
        for row in rows:
            others = [o for o in rows if o["quantization"] != row["quantization"] and o["bits"] and row["bits"]]
            same = [o for o in others if _alike(row, o) and max(o["bits"], row["bits"]) >= 1.5 * min(o["bits"], row["bits"])]
            if same:
                names = ", ".join(sorted({row["quantization"], *(o["quantization"] for o in same)}))
                text = f"{names} have the same energy and speed within {ONE_KERNEL:.0%}, although their weights differ in size"
                found.setdefault(row["configuration_id"], []).append(
                    entry("one_kernel", SHOWN, None, [text], [fix(CAUSES["one_kernel"].fix)])
                )
            slow = [
                o for o in others if o["units_per_s"] / row["units_per_s"] > SPILLED * max(1.0, row["bits"] / o["bits"]) and _cooler(row, o)
            ]
            if slow:
                best = max(slow, key=lambda o: o["units_per_s"])
                text = (
                    f"{best['units_per_s'] / row['units_per_s']:.0f} times slower than {best['quantization']}, whose "
                    f"weights are {row['bits'] / best['bits']:.1f} times smaller, at {row['power_mean_w']:.0f} "
                    f"W instead of {best['power_mean_w']:.0f} W: its weights are read over the host's bus"
                )
                spill = fix(
                    f"a strategy that fits ({best['quantization']}), or {CAUSES['vram_spill'].fix}", LOAD.get(best["quantization"], "")
                )
                found.setdefault(row["configuration_id"], []).append(entry("vram_spill", SHOWN, None, [text], [spill]))
    return found


def _alike(a: dict, b: dict) -> bool:
    return all(abs(math.log(a[c] / b[c])) <= ONE_KERNEL for c in ("unit_energy_j", "units_per_s") if a[c] > 0 and b[c] > 0)


def _cooler(row: dict, other: dict) -> bool:
    """Whether it draws clearly less: a card that waits for the bus is slow and cool; only kernels that compute more are slow and warm."""
    a, b = row.get("power_mean_w"), other.get("power_mean_w")
    return (
        a is not None and b is not None and np.isfinite(a) and np.isfinite(b) and a < 0.9 * b and row["batch_size"] == other["batch_size"]
    )


def beyond_the_card(row: dict) -> list[str]:
    """Power above the boards' limit, and more bytes a second than their memory moves, where the catalog knows card and model."""
    found, n = [], int(_options(row).get("num_gpus", 1))
    try:
        gpu = catalog.gpu(str(row["gpu"]))
    except UserError:
        return found
    watts, limit = row.get("power_mean_w"), (gpu.tdp_w or math.inf) * n
    if watts is not None and np.isfinite(watts) and row["boundary"] == "gpu" and watts > 1.05 * limit:
        cards = f"{n} x {gpu.name}" if n > 1 else gpu.name
        found.append(f"{watts:.0f} W mean power on {cards}, whose limit is {limit:.0f} W: another card, more cards, or another boundary")
    if gpu.bandwidth_gb_s and row.get("throughput_tok_s") and np.isfinite(row["throughput_tok_s"]) and row.get("output_tokens"):
        try:
            model = catalog.model(str(row["model"]))
            if getattr(model, "params_active", None) in (None, model.params_total):
                parts = footprint.footprint(
                    model, str(row["quantization"]), int(row["batch_size"]), int(row["input_tokens"]), int(row["output_tokens"])
                )
                share = row["throughput_tok_s"] / (row["batch_size"] * n * gpu.bandwidth_gb_s * 1e9 / parts.step_bytes)
                if share > 1.1 and not _work(row):
                    found.append(f"{row['throughput_tok_s']:.0f} tok/s is {share:.1f} times what the memory of {gpu.name} can feed")
        except UserError:
            pass
    return found


def _unit(row: dict) -> str:
    """`a token`, or `an item` where a task ran as its items come."""
    return "an item" if row["unit"] == "item" else "a token"


def _p_above(ratio: float, sd: float) -> float:
    """The probability that a ratio exceeds 1.05."""
    from scipy.special import stdtr

    return float(stdtr(10, (math.log(ratio) - math.log1p(WORTH)) / max(sd, 1e-6)))


def _saving(log_ratio: float, sd: float) -> Quantity:
    """The fraction of the energy saved by a change whose energy ratio, before over after, has this logarithm and spread; 95 %."""
    from scipy.special import stdtrit

    half = float(stdtrit(10, 0.975)) * sd
    return Quantity(*(float(-np.expm1(-log_ratio - d)) for d in (0.0, -half, half)), "fraction of the energy saved")


def _strategy(row: dict, summary: pd.DataFrame) -> dict[str, Any] | None:
    """A quantized strategy against the experiment's own baseline; None for others, and where no ratio could be taken."""
    low, high = row["ratio_to_baseline_low"], row["ratio_to_baseline_high"]
    bits = _bits(row["quantization"])
    if bits is None or not strategies.get(row["quantization"]).is_quantized or not np.isfinite(low):
        return None
    log_ratio, sd = float(np.log(row["ratio_to_baseline"])), float(np.log(high / low) / (2 * NORMAL_95))
    text = (
        f"{row['quantization']} costs {row['ratio_to_baseline'] - 1:+.1%} [{low - 1:+.1%} "
        f"to {high - 1:+.1%}] energy {_unit(row)} against {row['baseline']}"
    )
    text += f" in this experiment, over {row['n_blocks']} blocks"
    change = fix(
        f"{row['baseline']} instead of {row['quantization']}", LOAD.get(row["baseline"], ""), _saving(log_ratio, sd), evidence=[text]
    )
    return entry(_pattern_of(row, summary), _p_above(row["ratio_to_baseline"], sd), None, [text], [change], kind="costly_choice")


def _pattern_of(row: dict, summary: pd.DataFrame) -> str:
    """The paradox by its name; the decomposition only if it costs more than the same layers without it, where those were measured."""
    if strategies.get(row["quantization"]).slug != "int8_default":
        try:
            return pattern_of(request(model=row["model"], gpu=row["gpu"], quantization=row["quantization"]).now)
        except UserError:
            return "quantization_overhead"
    same = _same(row, summary, "quantization")
    pure = same[same["quantization"] == "int8_pure"]["unit_energy_j"]
    return (
        "int8_decomposition"
        if (row["gpu"] != "cpu" and pure.empty) or (len(pure) and row["unit_energy_j"] > pure.iloc[0])
        else "quantization_overhead"
    )


def _same(row: dict, summary: pd.DataFrame, but: str) -> pd.DataFrame:
    """The rows of the summary that differ in one column alone."""
    keys = [k for k in KEYS if k != but]
    return summary[(summary[keys].astype(str) == pd.Series({k: str(row[k]) for k in keys})).all(axis=1) & (summary["n_blocks"] > 0)]


def _batch(row: dict, summary: pd.DataFrame) -> dict[str, Any] | None:
    """A batch of one against the largest batch that the experiment ran: measured room, whatever the utilisation."""
    others = _same(row, summary, "batch_size")
    others = others[others["batch_size"] > 1]
    if row["batch_size"] != 1 or others.empty or not row["n_blocks"]:
        return None
    best = others.loc[others["batch_size"].idxmax()]
    log_ratio = float(np.log(row["unit_energy_j"] / best["unit_energy_j"]))
    sd = float(np.hypot(*(np.log(x["unit_energy_j_high"] / x["unit_energy_j_low"]) / (2 * NORMAL_95) for x in (row, best))))
    if not np.isfinite(sd):
        return None
    q = _saving(log_ratio, sd)
    text = f"batch {best['batch_size']} saves {q.value:.1%} [{q.low:.1%} to {q.high:.1%}] of the energy {_unit(row)} in this experiment"
    code = BATCH.replace("{batch_size}", str(best["batch_size"])).replace("{output_tokens}", str(row["output_tokens"]))
    change = fix(f"batch concurrent requests: {best['batch_size']} at once", code, q, evidence=[text])
    return entry("batch_1_waste", _p_above(float(np.exp(log_ratio)), sd), None, [text], [change])


def remarks(windows: pd.DataFrame) -> list[tuple[str, str]]:
    """(pattern, what was read) of every reading that speaks for a pattern: throttling, power cap, a full card, layers of another type."""
    checks = (_throttled, _capped, _spilled, _ran)
    return [found for check in checks if (found := check(windows)) is not None]


def _unusable(windows: pd.DataFrame) -> str:
    """The windows that may not be used, by status, empty if all may: `2 oom: out of memory`."""
    bad = windows[windows["status"] != "ok"]
    reasons = bad["reason"].fillna("").replace("", "no reason given")
    counts = (bad["status"] + ": " + reasons).value_counts()
    return ", ".join(f"{n} {what}" for what, n in counts.items())


def _mean(windows: pd.DataFrame, name: str) -> float:
    """The mean of a sensor column over the windows, NaN where nothing was read."""
    return float(pd.to_numeric(windows[name], errors="coerce").mean()) if name in windows else float("nan")


def _throttled(windows: pd.DataFrame) -> tuple[str, str] | None:
    share, hot = _mean(windows, "throttle_fraction"), int((windows["status"] == "throttled").sum())
    if not hot and not share > THROTTLED_SHARE:
        return None
    read = f"{share:.0%} of the time" if np.isfinite(share) else "no share recorded"
    return "power_cap_or_throttle", f"under thermal violation: {read}, {hot} of {len(windows)} windows barred for it"


def _capped(windows: pd.DataFrame) -> tuple[str, str] | None:
    """A power limit that was lowered; a card at its own rated limit works as it was built to."""
    share, limit = _mean(windows, "power_capped_fraction"), _mean(windows, "power_limit_w")
    flagged = int(windows["flags"].map(lambda flags: "power_capped" in (flags or [])).sum())
    if not flagged and not share > CAPPED_SHARE:
        return None
    try:
        rated = catalog.gpu(str(windows["gpu"].iloc[0])).tdp_w
    except UserError:
        rated = None
    if rated and np.isfinite(limit) and limit >= 0.97 * rated:
        return None
    at = f" of {limit:.0f} W" + (f" (rated {rated:.0f} W)" if rated else "") if np.isfinite(limit) else ""
    read = f"{share:.0%} of the time" if np.isfinite(share) else "share not recorded"
    return "power_cap_or_throttle", f"at the power limit{at}: {read}, {flagged} of {len(windows)} windows flagged"


def _spilled(windows: pd.DataFrame) -> tuple[str, str] | None:
    """A card whose memory is full: the next token's cache has nowhere to go but the host."""
    gpu, used = str(windows["gpu"].iloc[0]), _mean(windows, "memory_used_peak_gb")
    oom = int((windows["status"] == "oom").sum())
    if oom:
        return "vram_spill", f"{oom} of {len(windows)} windows ran out of memory"
    if gpu == "cpu" or not np.isfinite(used):
        return None
    try:
        full = footprint.available_gb(catalog.gpu(gpu)) + footprint.CONTEXT_GB
    except UserError:
        return None  # a card that the catalog does not have, or a simulated one
    return ("vram_spill", f"{used:.1f} of {full:.1f} GB in use: the card is full") if used > FULL_SHARE * full else None


def _ran(windows: pd.DataFrame) -> tuple[str, str] | None:
    """Linear layers that are not what the strategy stores."""
    recorded = sorted({str(x) for x in windows["ran"].dropna() if str(x)})
    try:
        stated = strategies.get(str(windows["quantization"].iloc[0]))
    except UserError:
        return None  # a published name that does not say which method ran
    words = WORDS_OF.get(stated.stored)
    if not recorded or words is None:
        return None
    wrong = sorted({kind for text in recorded for kind in _kinds(text) if not re.search(words, kind)})
    if wrong:
        return "quantization_not_applied", f"{stated.slug} was asked for, the linear layers were {', '.join(wrong)}"
    thresholds = {float(x) for text in recorded for x in re.findall(r"threshold ([\d.]+)", text)}
    if stated.threshold is not None and thresholds - {stated.threshold}:
        name = "int8_decomposition" if stated.threshold == 0 else "quantization_not_applied"
        return name, f"{stated.slug} was asked for, the layers ran with threshold {', '.join(f'{t:g}' for t in sorted(thresholds))}"
    return None


def _kinds(text: str) -> list[str]:
    """The descriptions of linear layers in a `ran` column; none where a server states what runs in it and nobody could look."""
    try:
        recorded = json.loads(text)
    except json.JSONDecodeError:
        return [text]
    return [] if recorded.get("verified") is False else list(recorded)


def figures_of(row: dict[str, Any], windows: pd.DataFrame) -> dict[str, float]:
    """The figures of a summary row with the sensors of its usable windows, under the names of the options."""
    ok = windows[windows["status"] == "ok"]
    gross = row["energy_j_per_token"] if row.get("energy_kind") == "gross" else None
    found = {
        "throughput": row["throughput_tok_s"],
        "energy_j_per_1k": None if gross is None else 1e3 * gross,
        "power_w": row["power_mean_w"],
        "utilization_pct": _mean(ok, "utilization_mean_pct"),
        "memory_gb": row["memory_peak_gb"],
        "power_limit_w": _mean(ok, "power_limit_w"),
        "temperature_c": _mean(ok, "temperature_mean_c"),
    }
    return {name: float(v) for name, v in found.items() if v is not None and np.isfinite(v)}
