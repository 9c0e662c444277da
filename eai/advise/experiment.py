"""Experiments: `eai diagnose --experiment DIR`, every configuration against its own readings, baseline and siblings, the card's limits, and
the rows; `eai compare A B --max-regression 3%`, did one get worse than another, for a CI job that must be able to say "undecided".

What an experiment measured itself goes first; its own rows never count as evidence for it. What was compared with nothing is unknown.
"Not significant" acquits nobody: `no_regression` is shown only where the whole one-sided interval lies within the limit.
"""

import json
import math
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from eai import catalog, footprint, schema, strategies, tables
from eai.advise.diagnose import (
    LOW,
    causes,
    diagnose,
    entry,
    figures,
    fix,
    named_kind,
    p_above,
    pattern_of,
    saving,
)
from eai.advise.evidence import BATCH, LOAD, inverse, within
from eai.advise.page import percent, signed
from eai.advise.request import beyond_the_card, request, roof_share
from eai.analyze.comparison import regressions
from eai.analyze.selection import costed, select
from eai.analyze.summary import summarize
from eai.errors import UserError
from eai.quantity import Quantity

KEYS = ["gpu", "model", "quantization", "batch_size", "input_tokens", "output_tokens", "task", "options"]
READING, SHOWN = 0.99, 0.9
"""The confidence of a pattern that a sensor or the loaded model itself states, and of one that figures show among themselves."""
ONE_KERNEL = 0.01
"""Energies and speeds that agree within 1 % where the weights differ in size by half or more are those of one kernel."""
SPILLED = 3.0
"""How many times slower than its bytes explain a configuration must be against a sibling to be read from another memory."""
THROTTLED_SHARE, CAPPED_SHARE, FULL_SHARE = 0.01, 0.05, 0.97
ROWS = "rows or predictions"
COSTLY = {"int8_decomposition", "small_model_4bit", "quantization_overhead"}
WORDS_OF = {"int8": r"Linear8bitLt|Int8Tensor"} | {kind: rf"Linear4bit\({kind}" for kind in ("nf4", "fp4")}
WORDS_OF |= {kind: rf"Linear\(torch\.{kind}\)" for kind in ("float32", "float16", "bfloat16")}
"""Stored type -> what the class of a linear layer says of it."""


def diagnose_experiment(experiment: str | Path) -> dict[str, Any]:
    """Every configuration with its patterns. Keys: experiment, basis, boundary, configurations, patterns (the named ones of all), counts,
    by_ratio_alone (the healthy of which only energies were compared), warnings. Raises UserError where the experiment has no windows."""
    windows = tables.read_windows(experiment)
    summary = costed(_summary(experiment, windows))
    name, together, by_id = (
        tables.experiment_dir(experiment).name,
        _among_siblings(summary),
        dict(tuple(windows.groupby("configuration_id"))),
    )
    rows = []
    for row in summary.to_dict("records"):
        key = row["configuration_id"]
        rows.append(_configuration(row, summary, by_id.get(key, windows.head(0)), name, together.get(key, [])))
    basis = summary["basis"].iloc[0]
    by_ratio = sum(r["verdict"] == "healthy" and ROWS not in r["compared_with"] for r in rows)
    warnings = [] if basis == "measured" else [f"energy is {basis}: what it says of watts is no better than its estimate"]
    unchecked = "were compared by their energy ratios alone: no row or prediction says what speed, power and memory should be"
    warnings += [f"{by_ratio} of the healthy {unchecked}"] if by_ratio else []
    return {
        "experiment": name,
        "basis": basis,
        "boundary": summary["boundary"].iloc[0],
        "configurations": rows,
        "patterns": [{"configuration": r["configuration"], **p} for r in rows for p in r["patterns"] if p["named"]],
        "counts": {str(k): int(v) for k, v in pd.Series([r["verdict"] for r in rows]).value_counts().items()},
        "by_ratio_alone": by_ratio,
        "warnings": warnings,
    }


def _summary(experiment: str | Path, windows: pd.DataFrame) -> pd.DataFrame:
    """The summary table as written, else computed from the windows; without one usable window, the configurations that were tried."""
    for made in (lambda: tables.read_result(experiment, "summary"), lambda: summarize(windows, tables.read_energies(experiment))):
        with suppress(UserError):
            return made()
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
    """One configuration: readings, own ratios, siblings, the card's limits, the rows; with the gate rejected it is never healthy."""
    ok, usable, gate = windows[windows["status"] == "ok"], bool(row["n_blocks"]), row["gate"]
    reported = {"throughput": row["throughput_tok_s"], "power_w": row["power_mean_w"], "memory_gb": row["memory_peak_gb"]}
    sensors = {"utilization_pct": "utilization_mean_pct", "power_limit_w": "power_limit_w", "temperature_c": "temperature_mean_c"}
    reported |= {figure: _mean(ok, column) for figure, column in sensors.items()}
    if row.get("energy_kind") == "gross" and row["energy_j_per_token"] is not None:
        reported["energy_j_per_1k"] = 1e3 * row["energy_j_per_token"]
    reported = {figure: float(v) for figure, v in reported.items() if v is not None and np.isfinite(v)}
    compared, notes = _against_rows(row, reported, name)
    own = [p for p in (_strategy(row, summary), _batch(row, summary)) if p is not None]
    settled = {p["name"] for p in own} | (COSTLY if any(p["name"] in COSTLY for p in own) else set())
    limits = [_shown("impossible_figures", text) for text in beyond(row)]
    found = {p["name"]: p for p in compared.get("patterns", []) if p["kind"] == "fault" or p["name"] not in settled}
    found |= {p["name"]: p for p in (*own, *together, *limits) if p["confidence"] >= LOW}
    for pattern, read in remarks(windows):
        found[pattern] = entry(pattern, READING, None, [read], [fix(causes()[pattern].fix, causes()[pattern].code)], kind="fault")
    patterns = sorted(found.values(), key=lambda p: -p["confidence"])
    with_baseline = np.isfinite(row.get("ratio_to_baseline_low") or np.nan) and row["quantization"] != row.get("baseline")
    checked = [ROWS] * bool(compared.get("expected"))
    checked += ["its own baseline"] * bool(with_baseline) + ["its own batches"] * ("batch_1_waste" in settled)
    verdict = named_kind(patterns) or (compared.get("verdict") or ("healthy" if checked else "unknown") if usable else "undecided")
    words = {"healthy": f"nothing wrong against {' and '.join(checked)}", "unknown": "compared with nothing that could show a fault"}
    words["healthy"] += "" if ROWS in checked else ", energy alone; the rest was not checked"
    if verdict == "healthy" and gate == "rejected":
        verdict, words["unknown"] = "unknown", "its energy varies too much between blocks to call it healthy"
    named = ", ".join(f"{p['title']} ({p['level']})" for p in patterns if p["named"])
    bad = windows[windows["status"] != "ok"]
    bad = (bad["status"] + ": " + bad["reason"].fillna("").replace("", "no reason given")).value_counts()
    notes += [f"windows left out: {', '.join(f'{n} {what}' for what, n in bad.items())}"] if len(bad) else []
    if gate != "ok" and usable:
        known = f"the energy varies by {row['energy_cv']:.1%} between {row['n_blocks']} blocks"
        notes.append(f"gate {gate}: {known if np.isfinite(row['energy_cv']) else 'one block, its spread is not known'}")
    return {
        "configuration": {k: row[k] for k in KEYS} | {"work": _work(row)},
        "verdict": verdict,
        "compared_with": checked,
        "summary": named or (compared.get("summary", "") if verdict == "undecided" else "") or words.get(verdict, "no usable window"),
        "patterns": patterns,
        "figures": reported,
        "notes": notes,
    }


def _shown(pattern: str, text: str, change: dict | None = None) -> dict[str, Any]:
    """A pattern that figures show among themselves."""
    return entry(pattern, SHOWN, None, [text], [change or fix(causes()[pattern].fix)])


def _asked(row: dict):
    """The request that asks about a row's configuration. Raises UserError for one that cannot be asked about."""
    names, options = ("gpu", "model", "quantization", "batch_size", "input_tokens", "output_tokens"), _options(row)
    return request(**{n: row[n] for n in names}, **{n: options[n] for n in ("engine", "num_gpus") if n in options})


def _against_rows(row: dict, reported: dict[str, float], name: str) -> tuple[dict[str, Any], list[str]]:
    """(the diagnosis by rows and predictions, why there is none): measured or published energy of GPU boards in plain generation only."""
    why = f"{work}: the rows are of plain generation" if (work := _work(row)) else ""
    why = why if row["n_blocks"] else "no usable window: nothing to compare"
    if row["boundary"] != "gpu" or row["basis"] not in ("measured", "published"):
        why = f"{row['basis']} energy of {row['boundary']}: no row is of that kind"
    try:
        if not why:
            asked = _asked(row)
            return diagnose(asked, figures(reported, asked.output_tokens), (name,)), []
    except UserError as error:
        why = f"not compared with rows: {str(error).rstrip('.')}"
    return {}, [why]


def _bits(quantization: str) -> float | None:
    """Stored bits a weight, None for a name that does not say."""
    with suppress(UserError):
        s = strategies.get(quantization)
        return s.weight_bits + s.scale_bits


def _among_siblings(summary: pd.DataFrame) -> dict[str, list[dict]]:
    """configuration_id -> what its figures show beside other strategies of the same work: one kernel, or weights on the host."""

    def alike(a: dict, b: dict) -> bool:
        return all(abs(math.log(a[c] / b[c])) <= ONE_KERNEL for c in ("unit_energy_j", "units_per_s") if a[c] > 0 and b[c] > 0)

    found: dict[str, list[dict]] = {}
    keys = [k for k in KEYS if k != "quantization"]
    usable = summary[(summary["n_blocks"] > 0) & summary["unit_energy_j"].notna() & summary["units_per_s"].notna()]
    for _, group in usable.groupby(usable[keys].astype(str).agg("|".join, axis=1)) if len(usable) else ():
        rows = [r | {"bits": bits} for r in group.to_dict("records") if (bits := _bits(r["quantization"]))]
        for row in rows:
            shown = []
            others = [o for o in rows if o["quantization"] != row["quantization"]]
            apart = [o for o in others if max(o["bits"], row["bits"]) >= 1.5 * min(o["bits"], row["bits"])]
            if same := [o["quantization"] for o in apart if alike(row, o)]:
                names = ", ".join(sorted({row["quantization"], *same}))
                like = f"the same energy and speed within {percent(ONE_KERNEL)}, although their weights differ in size"
                shown.append(_shown("one_kernel", f"{names} have {like}"))
            watts = row.get("power_mean_w") or np.nan
            warmer = [o for o in others if watts < 0.9 * (o.get("power_mean_w") or np.nan)]
            if slow := [o for o in warmer if o["units_per_s"] / row["units_per_s"] > SPILLED * max(1.0, row["bits"] / o["bits"])]:
                best = max(slow, key=lambda o: o["units_per_s"])
                times, smaller = best["units_per_s"] / row["units_per_s"], row["bits"] / best["bits"]
                text = f"{times:.0f} times slower than {best['quantization']}, whose weights are {smaller:.1f} times smaller, at "
                text += f"{watts:.0f} W instead of {best['power_mean_w']:.0f} W: its weights are read over the host's bus"
                spill = f"a strategy that fits ({best['quantization']}), or {causes()['vram_spill'].fix}"
                shown.append(_shown("vram_spill", text, fix(spill, LOAD.get(best["quantization"], ""))))
            found |= {row["configuration_id"]: shown} if shown else {}
    return found


def beyond(row: dict) -> list[str]:
    """What of a row lies beyond the limits of its card, where the catalog knows it and, for the memory's, its model."""
    gpu, rate, share = _card(row["gpu"]), row.get("throughput_tok_s"), None
    if gpu is None:
        return []
    if rate is not None and np.isfinite(rate) and row.get("output_tokens") and not _work(row):
        with suppress(UserError):
            share = roof_share(rate, _asked(row).now)
    watts = row.get("power_mean_w") if row["boundary"] == "gpu" else None
    return beyond_the_card(gpu, int(_options(row).get("num_gpus", 1)), watts, rate, share)


def _strategy(row: dict, summary: pd.DataFrame) -> dict[str, Any] | None:
    """A quantized strategy against the experiment's own baseline, named by its paradox; None for others, and without a ratio."""
    value, low, high, base = (row[n] for n in ("ratio_to_baseline", "ratio_to_baseline_low", "ratio_to_baseline_high", "baseline"))
    if _bits(row["quantization"]) is None or not strategies.get(row["quantization"]).is_quantized or not np.isfinite(low):
        return None
    ratio, ends = Quantity(value, low, high), f"{signed(value - 1, 1)} [{signed(low - 1, 1)} to {signed(high - 1, 1)}]"
    text = f"{row['quantization']} costs {ends} energy per {row['unit']} against {base} in this experiment, over {row['n_blocks']} blocks"
    change = fix(f"{base} instead of {row['quantization']}", LOAD.get(base, ""), saving(inverse(1, ratio, "")), evidence=[text])
    pattern = "quantization_overhead"
    if strategies.get(row["quantization"]).slug == "int8_default":
        same = _same(row, summary, "quantization")
        pure = same[same["quantization"] == "int8_pure"]["unit_energy_j"]
        costs_more = row["gpu"] != "cpu" if pure.empty else row["unit_energy_j"] > pure.iloc[0]
        pattern = "int8_decomposition" if costs_more else pattern
    else:
        with suppress(UserError):  # a model or card that the advisor cannot be asked about
            pattern = pattern_of(request(model=row["model"], gpu=row["gpu"], quantization=row["quantization"]).now)
    return entry(pattern, p_above(ratio), None, [text], [change], kind="costly_choice")


def _same(row: dict, summary: pd.DataFrame, but: str) -> pd.DataFrame:
    """The rows of the summary that differ in one column alone."""
    keys = [k for k in KEYS if k != but]
    return summary[(summary[keys].astype(str) == pd.Series({k: str(row[k]) for k in keys})).all(axis=1) & (summary["n_blocks"] > 0)]


def _batch(row: dict, summary: pd.DataFrame) -> dict[str, Any] | None:
    """A batch of one against the largest batch that the experiment ran: measured room, whatever the utilisation."""
    others = _same(row, summary, "batch_size").query("batch_size > 1")
    if row["batch_size"] != 1 or others.empty or not row["n_blocks"]:
        return None
    best = others.loc[others["batch_size"].idxmax()]
    half = float(np.hypot(*(np.log(x["unit_energy_j_high"] / x["unit_energy_j_low"]) / 2 for x in (row, best))))
    if not np.isfinite(half):
        return None
    ratio, size = within(best["unit_energy_j"] / row["unit_energy_j"], half), best["batch_size"]
    q = saving(ratio)
    text = f"batch {size} saves {q.value:.1%} [{q.low:.1%} to {q.high:.1%}]".replace("%", " %")
    text += f" of the energy per {row['unit']} in this experiment"
    code = BATCH.format(batch_size=size, output_tokens=row["output_tokens"])
    change = fix(f"batch concurrent requests: {size} at once", code, q, evidence=[text])
    return entry("batch_1_waste", p_above(inverse(1, ratio, "")), None, [text], [change])


def _mean(windows: pd.DataFrame, name: str) -> float:
    return float(pd.to_numeric(windows[name], errors="coerce").mean()) if name in windows else float("nan")


def _card(name: object) -> catalog.Gpu | None:
    """The card of the catalog, None for others (a simulated one)."""
    with suppress(UserError):
        return catalog.gpu(str(name))


def remarks(windows: pd.DataFrame) -> list[tuple[str, str]]:
    """(pattern, what was read) of every reading that speaks for a pattern: throttling, a power limit that was lowered (a card at its own
    rated limit works as it was built to), a full card (the next token's cache has nowhere to go but the host), layers of another type."""
    if windows.empty:
        return []
    found, n, card = [], len(windows), _card(windows["gpu"].iloc[0])
    names = ("throttle_fraction", "power_capped_fraction", "power_limit_w", "memory_used_peak_gb")
    throttled, capped, limit, used = (_mean(windows, name) for name in names)
    hot, oom = (int((windows["status"] == status).sum()) for status in ("throttled", "oom"))
    read = lambda share: f"{percent(share)} of the time" if np.isfinite(share) else "share not recorded"  # noqa: E731
    if hot or throttled > THROTTLED_SHARE:
        found.append(("power_cap_or_throttle", f"under thermal violation: {read(throttled)}, {hot} of {n} windows barred for it"))
    flagged, rated = int(windows["flags"].map(lambda flags: "power_capped" in (flags or [])).sum()), card and card.tdp_w
    if (flagged or capped > CAPPED_SHARE) and not (rated and limit >= 0.97 * rated):
        at = f" of {limit:.0f} W" + (f" (rated {rated:.0f} W)" if rated else "") if np.isfinite(limit) else ""
        found.append(("power_cap_or_throttle", f"at the power limit{at}: {read(capped)}, {flagged} of {n} windows flagged"))
    full = footprint.available_gb(card) + footprint.CONTEXT_GB if card and card.memory_gb else np.inf
    if oom:
        found.append(("vram_spill", f"{oom} of {n} windows ran out of memory"))
    elif used > FULL_SHARE * full:
        found.append(("vram_spill", f"{used:.1f} of {full:.1f} GB in use: the card is full"))
    try:
        stated = strategies.get(str(windows["quantization"].iloc[0]))
    except UserError:  # a published name that does not say which method ran
        return found
    words, kinds = WORDS_OF.get(stated.stored), set()
    for text in {str(x) for x in windows["ran"].dropna() if str(x)} if words else ():
        recorded = json.loads(text) if text.startswith("{") else {text: 1}
        kinds |= set() if recorded.get("verified") is False else set(recorded)  # what a server states and nobody could look at
    thresholds = {float(x) for kind in kinds for x in re.findall(r"threshold ([\d.]+)", kind)}
    if wrong := sorted(kind for kind in kinds if not re.search(words, kind)):
        found.append(("quantization_not_applied", f"{stated.slug} was asked for, the linear layers were {', '.join(wrong)}"))
    elif stated.threshold is not None and thresholds - {stated.threshold}:
        name = "int8_decomposition" if stated.threshold == 0 else "quantization_not_applied"
        ran = ", ".join(f"{t:g}" for t in sorted(thresholds))
        found.append((name, f"{stated.slug} was asked for, the layers ran with threshold {ran}"))
    return found


def fraction(text: str | float) -> float:
    """`3%`, `3 %` or `0.03` as 0.03. Raises UserError for anything else, and outside [0, 1]."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(%?)\s*", str(text))
    value = float(match[1]) / (100 if match[2] else 1) if match else -1.0
    if not 0 <= value <= 1:
        raise UserError(f"max regression '{text}'", "a percentage such as 3% or a fraction such as 0.03", "correct it")
    return value


def regression_gate(before: str | Path, after: str | Path, max_regression: str | float = "3%") -> dict[str, Any]:
    """Verdicts of every configuration of two experiments. `failed`: one is shown to be worse than the limit (exit 1); `undecided`: how many
    the data do not decide. Raises UserError where the experiments cannot be compared."""
    limit, metric = fraction(max_regression), "energy_j_per_token"
    chosen = [select(tables.read_windows(e), tables.read_energies(e)) for e in (before, after)]
    table = regressions(*chosen, limit=limit, metric=metric)
    names = ["gpu", "model", "quantization", "batch_size", "input_tokens", "output_tokens", "n_before", "n_after", "method"]
    names += ["p_regression", "p_no_regression", "verdict", "reason"]
    rows = table.astype(object).where(table.notna(), None).to_dict("records")
    ratio = lambda row: Quantity(row["ratio"], row["ratio_low"], row["ratio_high"], "").to_json()  # noqa: E731
    counts = table["verdict"].value_counts().to_dict()
    return {
        "before": str(before),
        "after": str(after),
        "metric": metric,
        "max_regression": limit,
        "basis": chosen[0].basis,
        "boundary": chosen[0].boundary,
        "rows": [{name: row[name] for name in names} | {"ratio": ratio(row)} for row in rows],
        "counts": counts,
        "failed": bool(counts.get("regression", 0)),
        "undecided": int(counts.get("inconclusive", 0) + counts.get("not_testable", 0)),
    }
