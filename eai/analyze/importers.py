"""Foreign results as our windows and energies, so that every analysis, gate and refusal applies to them too.

The source's boundary and basis are kept. An empty or zero energy is "not measured", never the best of the table. Repeats are blocks only
where the mapping says that the source's runs were.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
from pydantic import ValidationError

from eai import catalog, schema, strategies
from eai.analyze.blocks import NOMINAL
from eai.analyze.mappings import JOULES, SECONDS, Energy, Mapping
from eai.errors import UserError
from eai.settings import Configuration

NUMBERS = ("duration_s", "tokens_in", "tokens_out", "requests", "ttft_s", "memory_peak_gb", "throughput_tok_s")
NOT_MEASURED = "the source's energy is empty or zero: not measured"


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
    rows["block"] = frame[mapping.block].factorize(sort=True)[0] + 1 if mapping.block else 1
    rows["repeat"] = rows.groupby(["job", "configuration_id", "block"]).cumcount() + 1
    energies = pd.concat([_energy(frame, rows, e) for e in mapping.energies], ignore_index=True)
    rows["basis"] = mapping.energies[0].basis
    rows = _judge(frame, rows, energies, mapping)
    usable = energies["energy_j"].notna() & energies["attempt"].isin(rows.loc[rows["status"] == "ok", "attempt"])
    windows = rows.reindex(columns=[c.name for c in schema.WINDOWS])
    return windows, energies[usable].reindex(columns=[c.name for c in schema.ENERGIES]).reset_index(drop=True)


def _check_columns(frame: pd.DataFrame, mapping: Mapping) -> None:
    """Raise UserError for a mapped column that the table lacks or a quantity that we do not know."""
    mapped = [*(e.column for e in mapping.energies), *mapping.columns.values(), *filter(None, (mapping.block, mapping.failed))]
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
            f"the mapping does not say {', '.join(missing)}", "every part of a configuration", "add it to `columns` or `constants`"
        )
    values = pd.DataFrame(
        {c: frame[column] if column else (defaults | mapping.constants)[c] for c, column in said.items()}, index=frame.index
    )
    distinct = values.astype(str).drop_duplicates()
    built = [_configuration(values.loc[i].to_dict()) for i in distinct.index]
    columns = pd.DataFrame([{"configuration_id": b.configuration_id} | b.columns() for b in built], index=distinct.index)
    keys = values.astype(str).agg("\x1f".join, axis=1)
    return columns.set_axis(keys[distinct.index]).loc[keys].set_axis(frame.index)


def _configuration(row: dict) -> Configuration:
    """One configuration with our names. Raises UserError where a number is missing or a name is empty."""
    row |= {"gpu": _slug("gpu", row["gpu"]), "model": _slug("model", row["model"]), "task": _slug("task", row["task"])}
    row["quantization"] = _strategy(str(row["quantization"]))
    row["options"] = {} if row["options"] in ("{}", "", None) else row["options"]
    try:
        return Configuration(**{k: int(v) if k.endswith("_tokens") or k == "batch_size" else v for k, v in row.items()})
    except (ValidationError, ValueError, TypeError) as error:
        words = str(error).splitlines()[0]
        raise UserError(
            f"a row whose configuration cannot be read ({words})", "a name and positive whole numbers in every column"
        ) from None


def _slug(kind: str, name: object) -> str:
    """The catalog's slug, or the source's own name where the catalog does not know it."""
    try:
        return catalog.resolve(kind, str(name))[0]
    except UserError:
        return str(name)


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
    return table.assign(method=method, field=energy.column, energy_j=values.where(values > 0))


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
    reason = np.select([failed, ~measured], [f"{mapping.failed} of the source", NOT_MEASURED], default="")
    flags = rows["flags"] if "flags" in rows else pd.Series([[] for _ in range(len(rows))], index=rows.index)
    return rows.assign(status=status, reason=reason, flags=flags)


def import_phases(
    phases: pd.DataFrame, energy_of: Callable[[float, float], list[dict]], mapping: Mapping
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The windows and energies of a power log cut by a table of phases.

    `phases` has start_s and stop_s beside the mapped columns; `energy_of(start_s, stop_s)` integrates the log and answers one dictionary a
    device: device_id, energy_j and, where known, u_granularity_j and status. `mapping.energies` says boundary and basis in one entry.
    """
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
    return windows, energies


def lm_eval_scores(results: dict, configuration_id: str, metrics: dict[str, str] | None = None) -> pd.DataFrame:
    """The scores of an lm-eval results document: configuration_id, task, version, few_shot, metric, score, n_items.

    `metrics`: task -> metric key; by default what each task is scored by here (MMLU acc, ARC and HellaSwag acc_norm, TruthfulQA mc1, GSM8K
    exact_match). A metric has a filter in its key (`acc,none`); the first filter is taken unless the key is given in full. Raises
    UserError for a document that has no results, or a task without its metric.
    """
    if not results.get("results"):
        raise UserError("a document without `results`", "lm-eval's results_*.json")
    rows = []
    for task, numbers in results["results"].items():
        if task not in (metrics or {}) and _metric_of(task) is None:
            continue
        wanted = (metrics or {}).get(task) or _metric_of(task)
        key = next((k for k in numbers if k == wanted or k.split(",")[0] == wanted), None)
        if key is None:
            raise UserError(f"task {task} has no {wanted}", f"one of {', '.join(k for k in numbers if ',' in k)}", "name its metric")
        samples = results.get("n-samples", {}).get(task, {})
        row = {"configuration_id": configuration_id, "task": task, "version": results.get("versions", {}).get(task)}
        row |= {"few_shot": results.get("n-shot", {}).get(task), "metric": key, "score": float(numbers[key])}
        rows.append(row | {"n_items": samples.get("effective", samples.get("original"))})
    if not rows:
        raise UserError(f"tasks {', '.join(results['results'])}", "one whose metric is known", "pass metrics={task: metric}")
    return pd.DataFrame(rows)


def _metric_of(task: str) -> str | None:
    """The metric that scores an lm-eval task here, None where the catalog does not know it."""
    try:
        return catalog.task(task).metric
    except UserError:
        return None
