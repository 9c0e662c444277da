"""`eai diagnose --experiment DIR`: every configuration of an experiment against the rows, its own readings, and its own baseline.

What an experiment measured itself goes before what rows or predictions say: a ratio to its own baseline has its own interval, and a sensor
that read a violation needs no inference. The experiment's own session is never among the rows it is compared with.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from eai import schema, strategies, tables
from eai.advise.diagnose import context
from eai.advise.diagnose.answer import diagnose, entry
from eai.advise.diagnose.choices import DF, STRATEGY_CHOICES, p_above, pattern_of
from eai.advise.diagnose.confidence import SHOWN
from eai.advise.diagnose.figures import figures
from eai.advise.diagnose.remedies import fix, saving
from eai.advise.diagnose.snippets import BATCH, LOAD
from eai.advise.diagnose.states import known
from eai.advise.parameters import Request, request
from eai.analyze.metrics import costed
from eai.analyze.summary import summarize
from eai.errors import UserError
from eai.quantity import Quantity

KEYS = ["gpu", "model", "quantization", "batch_size", "input_tokens", "output_tokens", "task", "options"]
BATCH_ONE = "batch_1_waste"
READING = 0.99
"""The confidence of a pattern that a sensor or the loaded model itself states."""


def diagnose_experiment(experiment: str | Path) -> dict[str, Any]:
    """Every configuration with its patterns.

    Keys: experiment, basis, boundary, configurations (configuration, verdict, summary, patterns, figures, notes), patterns (the named ones
    of all, each with its configuration), counts, warnings. Raises UserError where the experiment has no windows.
    """
    windows = tables.read_windows(experiment)
    summary = costed(_summary(experiment, windows))
    name = tables.experiment_dir(experiment).name
    rows = [_configuration(row, summary, windows[windows["configuration_id"] == row["configuration_id"]], name) for row in _each(summary)]
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


def _work(c: dict) -> str:
    """What a configuration did beside plain generation: its task, or the load and server in its options; empty if nothing."""
    options = json.loads(c.get("options") or "{}")
    told = [f"{name} {options[name]}" for name in ("server", "load") if name in options]
    return ", ".join([f"task {c['task']}"] * (c.get("task", "generate") != "generate") + told)


def _unit(row: dict) -> str:
    """`a token`, or `an item` where a task ran as its items come."""
    return "an item" if row["unit"] == "item" else "a token"


def _each(table: pd.DataFrame) -> list[dict]:
    return table.to_dict("records")


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


def _configuration(row: dict, summary: pd.DataFrame, windows: pd.DataFrame, name: str) -> dict[str, Any]:
    """One configuration: its readings, its own ratios, and its figures against the rows, the surest evidence of each pattern first."""
    asked, compared, notes = _against_rows(row, windows, name)
    own = [p for p in (_strategy(row, summary, asked), _batch(row, summary, asked)) if p is not None]
    settled = {name for p in own for name in ((BATCH_ONE,) if p["name"] == BATCH_ONE else STRATEGY_CHOICES)}
    found = {p["name"]: p for p in compared.get("patterns", []) if p["kind"] == "fault" or p["name"] not in settled}
    found |= {p["name"]: p for p in own if p["confidence"] >= SHOWN}
    found |= {p["name"]: p for p in _readings(windows, asked)}
    patterns = sorted(found.values(), key=lambda p: -p["confidence"])
    bad, verdict = context.unusable(windows), _verdict(patterns, compared, bool(row["n_blocks"]))
    unnamed = compared.get("summary", "") if verdict == "undecided" else ""
    return {
        "configuration": {k: row[k] for k in KEYS} | {"work": _work(row)},
        "verdict": verdict,
        "summary": ", ".join(f"{p['name']} ({p['confidence']:.0%})" for p in patterns if p["named"]) or unnamed or "no known pattern",
        "patterns": patterns,
        "figures": context.figures_of(row, windows),
        "notes": [*notes, *([f"windows left out: {bad}"] if bad else []), *_gate(row)],
    }


def _verdict(patterns: list[dict], compared: dict, usable: bool) -> str:
    """The first word for a configuration: what is named, else what the rows say; nothing usable is not healthy."""
    kinds = {p["kind"] for p in patterns if p["named"]}
    if kinds:
        return "fault" if "fault" in kinds else "costly_choice"
    return compared.get("verdict", "healthy" if usable else "undecided")


def _gate(row: dict) -> list[str]:
    """A spread between blocks that the gate does not pass."""
    return (
        [] if row["gate"] == "ok" else [f"gate {row['gate']}: the energy varies by {row['energy_cv']:.1%} between {row['n_blocks']} blocks"]
    )


def _against_rows(row: dict, windows: pd.DataFrame, name: str) -> tuple[Request | None, dict[str, Any], list[str]]:
    """(the request, the diagnosis by rows and predictions, why there is none): measured or published energy of a GPU's board only."""
    if row["boundary"] != "gpu" or row["basis"] not in ("measured", "published"):
        return None, {}, [f"{row['basis']} energy of {row['boundary']}: compared within the experiment alone, no row is of that kind"]
    if not row["n_blocks"]:
        return None, {}, ["no usable window: nothing to compare"]
    if work := _work(row):
        return None, {}, [f"{work}: compared within the experiment alone, the rows are of plain generation"]
    try:
        names = ("gpu", "model", "quantization", "batch_size", "input_tokens", "output_tokens")
        asked = request(**{n: row[n] for n in names})
        f = figures(context.figures_of(row, windows), asked.output_tokens)
        return asked, diagnose(asked, f, known((name,))), []
    except UserError as error:
        return None, {}, [f"not compared with rows: {error}"]


def _readings(windows: pd.DataFrame, asked: Request | None) -> list[dict[str, Any]]:
    """The patterns that sensors or the loaded model state."""
    return [entry(name, "fault", READING, asked, [read], []) for name, read in context.remarks(windows)]


def _strategy(row: dict, summary: pd.DataFrame, asked: Request | None) -> dict[str, Any] | None:
    """A quantized strategy against the experiment's own baseline; None for others, and where no ratio could be taken."""
    low, high = row["ratio_to_baseline_low"], row["ratio_to_baseline_high"]
    if not strategies.get(row["quantization"]).is_quantized or not np.isfinite(low):
        return None
    log_ratio, sd = float(np.log(row["ratio_to_baseline"])), float(np.log(high / low) / (2 * stats.t.ppf(0.975, DF)))
    cost = Quantity(row["ratio_to_baseline"] - 1, low - 1, high - 1, "")
    text = (
        f"{row['quantization']} costs {cost.value:+.1%} [{cost.low:+.1%}, {cost.high:+.1%}] energy {_unit(row)} against {row['baseline']}"
    )
    text += f" in this experiment, paired over {row['n_blocks']} blocks"
    baseline = row["baseline"]
    fixes = [fix(f"{baseline} instead of {row['quantization']}", LOAD.get(baseline, ""), saving(log_ratio, sd), (text,))]
    return entry(_pattern_of(row, summary, asked), "costly_choice", p_above(log_ratio, sd), asked, [text], fixes)


def _pattern_of(row: dict, summary: pd.DataFrame, asked: Request | None) -> str:
    """The paradox by its name; the decomposition only if it costs more than the same layers without it, where those were measured."""
    if asked is not None:
        return pattern_of(asked)
    if strategies.get(row["quantization"]).slug != "int8_default":
        return "quantization_overhead"
    pure = _same(row, summary, "quantization")
    pure = pure[pure["quantization"] == "int8_pure"]["unit_energy_j"]
    return "int8_decomposition" if len(pure) and row["unit_energy_j"] > pure.iloc[0] else "quantization_overhead"


def _same(row: dict, summary: pd.DataFrame, but: str) -> pd.DataFrame:
    """The rows of the summary that differ in one column alone."""
    keys = [k for k in KEYS if k != but]
    return summary[(summary[keys].astype(str) == pd.Series({k: str(row[k]) for k in keys})).all(axis=1) & (summary["n_blocks"] > 0)]


def _batch(row: dict, summary: pd.DataFrame, asked: Request | None) -> dict[str, Any] | None:
    """A batch of one against the largest batch that the experiment ran: measured room, whatever the utilisation."""
    others = _same(row, summary, "batch_size")
    others = others[others["batch_size"] > 1]
    if row["batch_size"] != 1 or others.empty or not row["n_blocks"]:
        return None
    best = others.loc[others["batch_size"].idxmax()]
    log_ratio = float(np.log(row["unit_energy_j"] / best["unit_energy_j"]))
    sd = float(np.hypot(*(_sd(x) for x in (row, best))))
    if not np.isfinite(sd):
        return None
    q = saving(log_ratio, sd)
    text = f"batch {best['batch_size']} saves {q.value:.1%} [{q.low:.1%}, {q.high:.1%}] of the energy {_unit(row)} in this experiment"
    fixes = [
        fix(f"batch concurrent requests: {best['batch_size']} at once", BATCH.replace("{batch_size}", str(best["batch_size"])), q, (text,))
    ]
    return entry(BATCH_ONE, "costly_choice", p_above(log_ratio, sd), asked, [text], fixes)


def _sd(row) -> float:
    """Standard deviation of the log energy of a unit of work, from its 95 % interval."""
    return float(np.log(row["unit_energy_j_high"] / row["unit_energy_j_low"]) / (2 * stats.t.ppf(0.975, max(row["n_blocks"] - 1, 1))))
