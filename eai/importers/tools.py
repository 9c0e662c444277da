"""Foreign results as our windows and energies, so that every analysis, gate and refusal applies to them too.

The source's boundary and basis are kept. An empty or zero energy is "not measured", never the best of the table. Repeats are blocks only
where the mapping says that the source's runs were.
"""

import re
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
from pydantic import ValidationError

from eai import catalog, schema, strategies
from eai.analyze.selection import NOMINAL
from eai.errors import UserError
from eai.importers.mappings import JOULES, SECONDS, Energy, Mapping
from eai.settings import Configuration

NUMBERS = ("duration_s", "tokens_in", "tokens_out", "requests", "ttft_s", "memory_peak_gb", "throughput_tok_s")
NOT_MEASURED = "the source's energy is empty or zero: not measured"
NO_NUMBER = "the source's energy is no number: not measured"
HOLED = "the power log has gaps or steps back in time here"
MISSING = ("", "nan", "none", "n/a", "na", "[n/a]", "null", "-")
BOARDS = re.compile(r"1 x (.+)")


def import_table(frame: pd.DataFrame, mapping: Mapping) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The windows and energies tables of a foreign table, row for row.

    Where the source gives rates only (energy per output token and throughput), a window stands for one nominal second of them and carries
    the flag nominal_window: ratios, costs and throughput are right, totals are not stated. Raises UserError for columns that are not
    there, a configuration that is not fully said, and energies that cannot be turned into joules.
    """
    _check_columns(frame, mapping)
    frame = frame.reset_index(drop=True)
    rows = _quantities(frame, mapping)
    rows = rows.join(_configurations(frame, mapping))
    rows["attempt"] = [f"{i:08x}" for i in range(len(rows))]
    rows["job"] = mapping.source.split(",")[0].split(" (")[0] + ": " + rows["gpu"] + ", " + rows["model"]
    rows["block"] = _blocks(frame[mapping.block]) if mapping.block else 1
    rows["repeat"] = rows.groupby(["job", "configuration_id", "block"]).cumcount() + 1
    energies = pd.concat([_energy(frame, rows, e) for e in mapping.energies], ignore_index=True)
    rows["basis"] = mapping.energies[0].basis
    rows = _judge(frame, rows, energies, mapping)
    usable = energies["energy_j"].notna() & energies["attempt"].isin(rows.loc[rows["status"] == "ok", "attempt"])
    windows = rows.reindex(columns=[c.name for c in schema.WINDOWS])
    return windows, energies[usable].reindex(columns=[c.name for c in schema.ENERGIES]).reset_index(drop=True)


def _blocks(runs: pd.Series) -> np.ndarray:
    """Block numbers from 1 in the order of the source's runs: of numbers by size, of names by letter."""
    numbers = pd.to_numeric(runs, errors="coerce")
    return (runs if numbers.isna().any() else numbers).factorize(sort=True)[0] + 1


def _check_columns(frame: pd.DataFrame, mapping: Mapping) -> None:
    """Raise UserError for a mapped column that the table lacks or a quantity that we do not know."""
    mapped = [*(e.column for e in mapping.energies), *mapping.columns.values(), *filter(None, (mapping.block, mapping.failed))]
    if twice := [c for c in mapped if (frame.columns == c).sum() > 1]:
        raise UserError(f"column {twice[0]} stands twice", f"one column a name in {mapping.source}", "rename or drop one")
    missing = [c for c in mapped if c not in frame]
    if missing:
        raise UserError(
            f"no column {', '.join(missing)}", f"the columns of {mapping.source}", f"the table has {', '.join(map(str, frame.columns))}"
        )
    unknown = set(mapping.columns) | set(mapping.constants)
    unknown -= {*NUMBERS, *schema.CONFIGURATION}
    if unknown:
        raise UserError(f"mapped to {', '.join(sorted(unknown))}", f"some of {', '.join([*schema.CONFIGURATION, *NUMBERS])}")
    if frame.empty:
        raise UserError("an empty table", f"rows of {mapping.source}")


def _quantities(frame: pd.DataFrame, mapping: Mapping) -> pd.DataFrame:
    """Numbers of the work in our units; what the source does not say is NaN, or tokens from throughput x duration."""
    rows = pd.DataFrame(index=frame.index)
    for name in NUMBERS:
        raw = frame[mapping.columns[name]] if name in mapping.columns else mapping.constants.get(name, np.nan)
        values = pd.to_numeric(pd.Series(raw, index=frame.index), errors="coerce").astype(float)
        unit = mapping.units.get(name, "s")
        if name.endswith("_s") and name != "throughput_tok_s":
            if unit not in SECONDS:
                raise UserError(f"unit {unit} of {name}", f"one of {', '.join(SECONDS)}")
            values *= SECONDS[unit]
        rows[name] = values
    rows["tokens_out"] = rows["tokens_out"].fillna(rows["throughput_tok_s"] * rows["duration_s"])
    return rows


def _configurations(frame: pd.DataFrame, mapping: Mapping) -> pd.DataFrame:
    """The configuration columns and id of every row; names become catalog slugs where the catalog knows them."""
    said = {c: mapping.columns.get(c) for c in schema.CONFIGURATION}
    defaults = {"weights": "published", "task": "generate", "options": "{}"}
    missing = [c for c, column in said.items() if column is None and c not in mapping.constants and c not in defaults]
    if missing:
        raise UserError(
            f"the source does not say {', '.join(missing)}",
            "every part of a configuration",
            "say it with -p, or in the mapping's `columns` or `constants`",
        )
    values = pd.DataFrame(
        {c: frame[column] if column else (defaults | mapping.constants)[c] for c, column in said.items()}, index=frame.index
    )
    text = values.map(str)  # astype(str) would leave an empty cell missing
    distinct = text.drop_duplicates()
    built = [_configuration(values.loc[i].to_dict()) for i in distinct.index]
    columns = pd.DataFrame([{"configuration_id": b.configuration_id} | b.columns() for b in built], index=distinct.index)
    keys = text.agg("\x1f".join, axis=1)
    return columns.set_axis(keys[distinct.index]).loc[keys].set_axis(frame.index)


def _configuration(row: dict) -> Configuration:
    """One configuration with our names. Raises UserError where a number is missing or a name is empty."""
    row |= {"gpu": _slug("gpu", row["gpu"]), "model": _slug("model", row["model"]), "task": _slug("task", row["task"])}
    empty = [c for c in ("gpu", "model", "quantization", "task") if str(row[c]) in ("", "nan", "None")]
    if empty:
        raise UserError(f"a row without {', '.join(empty)}", "a name in every row", "fill it in, or say it in `constants`")
    row["quantization"] = _strategy(str(row["quantization"]))
    row["options"] = {} if str(row["options"]) in ("{}", "", "None", "nan") else row["options"]
    try:
        return Configuration(**{k: _whole(v) if k.endswith("_tokens") or k == "batch_size" else v for k, v in row.items()})
    except (ValidationError, ValueError, TypeError) as error:
        words = str(error).splitlines()[0]
        raise UserError(
            f"a row whose configuration cannot be read ({words})", "a name and positive whole numbers in every column"
        ) from None


def _whole(value: object) -> int:
    """The value as a whole number. Raises ValueError for 2.5: half a sequence is another column, or another meaning."""
    if float(value) != int(float(value)):
        raise ValueError(f"{value} is no whole number")
    return int(float(value))


def _slug(kind: str, name: object) -> str:
    """The catalog's slug, or the source's own name where the catalog does not know it; `1 x NAME` is one board."""
    one = BOARDS.fullmatch(str(name).strip()) if kind == "gpu" else None
    try:
        return catalog.resolve(kind, one[1] if one else str(name))[0]
    except UserError:
        return str(name).strip()


def _strategy(name: str) -> str:
    """Our name of a strategy, or `unspecified_<name>` where the name does not say which method ran."""
    try:
        return strategies.get(name).slug
    except UserError:
        return name if name.startswith(strategies.UNSPECIFIED) else strategies.UNSPECIFIED + name


def _energy(frame: pd.DataFrame, rows: pd.DataFrame, energy: Energy) -> pd.DataFrame:
    """The energies of one column in joules a window; NaN where the source measured nothing."""
    values = pd.to_numeric(frame[energy.column], errors="coerce").astype(float) * JOULES[energy.unit]
    if energy.per == "output_token":
        _fill_nominal(rows)
        values = values * rows["tokens_out"]
    elif energy.per == "request":
        if rows["requests"].isna().all():
            raise UserError(f"{energy.column} is per request", "the number of requests", "map `requests`")
        values = values * rows["requests"]
    keys = rows[[*schema.WINDOW_KEY, "attempt"]]
    table = keys.assign(
        device_id=energy.device_id or energy.column, boundary=energy.boundary, basis=energy.basis, primary=True, status="ok"
    )
    method = "estimate" if energy.basis in ("estimated", "predicted") else "power"
    return table.assign(method=method, field=energy.column, energy_j=values.where((values > 0) & np.isfinite(values)))


def _fill_nominal(rows: pd.DataFrame) -> None:
    """Where tokens are not given but throughput is, one second of it."""
    nominal = rows["tokens_out"].isna() & rows["throughput_tok_s"].notna()
    rows.loc[nominal, "tokens_out"] = rows.loc[nominal, "throughput_tok_s"]
    rows.loc[nominal, "duration_s"] = 1.0
    rows["flags"] = [[NOMINAL] if n else [] for n in nominal]


def _judge(frame: pd.DataFrame, rows: pd.DataFrame, energies: pd.DataFrame, mapping: Mapping) -> pd.DataFrame:
    """Adds status and reason: failed in the source, or nothing measured."""
    measured = rows["attempt"].isin(energies.loc[energies["energy_j"].notna(), "attempt"])
    failed = pd.Series(False, index=rows.index)
    if mapping.failed:
        said = frame[mapping.failed].astype(object)
        failed = ~said.astype(str).isin(mapping.passed) if mapping.passed else said.notna() & (said.astype(str).str.strip() != "")
    status = np.select([failed, ~measured], ["failed", "invalid"], default="ok")
    reason = np.select([failed, ~measured & _is_text(frame, mapping), ~measured],
                       [f"{mapping.failed} of the source", NO_NUMBER, NOT_MEASURED], default="")  # fmt: skip
    flags = rows["flags"] if "flags" in rows else pd.Series([[] for _ in range(len(rows))], index=rows.index)
    return rows.assign(status=status, reason=reason, flags=flags)


def _is_text(frame: pd.DataFrame, mapping: Mapping) -> np.ndarray:
    """Which rows hold something in an energy column that is no finite number: `0,005`, `1.2 kWh`, `inf`."""
    found = np.zeros(len(frame), bool)
    for energy in mapping.energies:
        written = frame[energy.column].astype(str).str.strip().str.lower()
        values = pd.to_numeric(frame[energy.column], errors="coerce").astype(float)
        found |= (~np.isfinite(values) & frame[energy.column].notna() & ~written.isin(MISSING)).to_numpy()
    return found


def import_phases(
    phases: pd.DataFrame, energy_of: Callable[[float, float], list[dict]], mapping: Mapping
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The windows and energies of a power log cut by a table of phases.

    `phases` has start_s and stop_s beside the mapped columns; `energy_of(start_s, stop_s)` integrates the log and answers one dictionary a
    device: device_id, energy_j and, where known, u_granularity_j and status. `mapping.energies` says boundary and basis in one entry.
    """
    if absent := [c for c in ("start_s", "stop_s") if c not in phases]:
        raise UserError(f"phases without {', '.join(absent)}", "start_s and stop_s of every phase")
    backward = ~(phases["stop_s"] > phases["start_s"])
    if backward.any():
        row = phases[backward].iloc[0]
        raise UserError(f"a phase from {row['start_s']} to {row['stop_s']}", "an end after its beginning", "correct the phases table")
    timed = phases.assign(duration_s=phases["stop_s"] - phases["start_s"], energy_j=1.0)
    one = replace(mapping.energies[0], column="energy_j", unit="J", per="window")
    columns = {k: v for k, v in mapping.columns.items() if k != "duration_s"} | {"duration_s": "duration_s"}
    windows, placeholder = import_table(timed, replace(mapping, energies=(one,), columns=columns, units={}))
    edges = phases.reset_index(drop=True)
    found = []
    for place, row in placeholder.set_index(windows.index[windows["attempt"].isin(placeholder["attempt"])]).iterrows():
        for device in energy_of(float(edges["start_s"][place]), float(edges["stop_s"][place])):
            found.append(row.to_dict() | {"field": "power log"} | device)
    energies = pd.DataFrame(found, columns=[c.name for c in schema.ENERGIES])
    holed = windows["attempt"].isin(energies.loc[energies["status"] != "ok", "attempt"])
    return windows.assign(status=windows["status"].mask(holed, "invalid"), reason=windows["reason"].mask(holed, HOLED)), energies


def lm_eval_scores(results: dict, configuration_id: str, metrics: dict[str, str] | None = None) -> pd.DataFrame:
    """The scores of an lm-eval results document: configuration_id, task, version, few_shot, metric, score, n_items.

    `metrics`: task -> metric key; by default what each task is scored by here (MMLU acc, ARC and HellaSwag acc_norm, TruthfulQA mc1, GSM8K
    exact_match). A metric has a filter in its key (`acc,none`); the first filter is taken unless the key is given in full. Raises
    UserError for a document that has no results, or a task without its metric.
    """
    if not isinstance(results, dict) or not isinstance(results.get("results"), dict) or not results["results"]:
        raise UserError("a document without `results`", "lm-eval's results_*.json")
    rows = []
    for task, numbers in results["results"].items():
        if task not in (metrics or {}) and _metric_of(task) is None:
            continue
        wanted = (metrics or {}).get(task) or _metric_of(task)
        key = next((k for k in numbers if k == wanted or k.split(",")[0] == wanted), None)
        if key is None:
            raise UserError(f"task {task} has no {wanted}", f"one of {', '.join(k for k in numbers if ',' in k)}", "name its metric")
        row = {"configuration_id": configuration_id, "task": task, "version": results.get("versions", {}).get(task)}
        row |= {"few_shot": _of_leaves(results, "n-shot", task, max), "metric": key, "score": _score(task, key, numbers[key])}
        rows.append(row | {"n_items": _of_leaves(results, "n-samples", task, sum)})
    if not rows:
        raise UserError(f"tasks {', '.join(results['results'])}", "one whose metric is known", "pass metrics={task: metric}")
    return pd.DataFrame(rows)


def _score(task: str, metric: str, value: object) -> float:
    """The score as a fraction. Raises UserError for what is none: `N/A`, NaN, a percentage."""
    try:
        score = float(value)
    except (TypeError, ValueError):
        score = float("nan")
    if not 0 <= score <= 1:
        raise UserError(f"{metric} of {task} is {value}", "a fraction in [0, 1]", "leave the task out, or divide percentages by 100")
    return score


def _of_leaves(results: dict, field: str, task: str, joined: Callable[[list], int]) -> int | None:
    """A count of a task, of a group (mmlu) joined over the subtasks that make it up; None where the document does not say it."""
    known, parts = results.get(field, {}), results.get("group_subtasks", {}).get(task) or []
    if task in known or not parts:
        found = known.get(task)
        return found.get("effective", found.get("original")) if isinstance(found, dict) else found
    counts = [_of_leaves(results, field, part, joined) for part in parts]
    return joined(counts) if None not in counts else None


def _metric_of(task: str) -> str | None:
    """The metric that scores an lm-eval task here, None where the catalog does not know it."""
    try:
        return catalog.task(task).metric
    except UserError:
        return None
