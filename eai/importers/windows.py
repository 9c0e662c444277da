"""Foreign results as our windows, energies and scores, so that every analysis, gate and refusal applies to them too.

The source's boundary and basis are kept. An empty or zero energy is "not measured", never the best of the table. Counts and times may be
fractions (averages) and stay so. Repeats are blocks only where the mapping says that the source's runs were, and rows that differ in
anything that may be a factor are never pooled without a word.
"""

import fnmatch
import json
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd
import pyarrow as pa
from pydantic import ValidationError

from eai import catalog, cells, schema, strategies
from eai.analyze.selection import NOMINAL, SHARED_BLOCK
from eai.errors import UserError
from eai.importers import mappings
from eai.importers.mappings import NUMBERS, PARALLEL, PER, PLACES, Energy, Mapping, boards
from eai.importers.reading import FILE
from eai.power.logs import seconds
from eai.quantity import shortest
from eai.settings import Configuration

NOT_MEASURED = "the source's energy is empty or zero: not measured"
NO_NUMBER = "the source's energy is no number: not measured"
HOLED = "the power log has gaps or steps back in time here"
SAME_TIME = "the same machine over the same time as row {row}: a process of that run, no repeat"
COPIED = "equal to an earlier row of its configuration to the last digit of every measured figure: a copy, no repeat"
DEFAULTS = {"weights": "published", "task": "generate"}
PLACE_DEFAULTS = {"engine": "transformers"} | dict.fromkeys(PARALLEL, 1)
HIGHEST_W = 1e6
"""Mean power [W] above which the units of energy or time are wrong, whatever number of cards a source forgot to state."""
MOST_APART = 5.0
MOST_OF_LIMIT, LEAST_OF_LIMIT = 1.5, 0.01  # of a board's power limit: more is no board, less is below any board's idle power
COUNTS = {"input_tokens": "tokens_in", "output_tokens": "tokens_out"}
LENGTHS = tuple(COUNTS)
ABOVE_ZERO = ("duration_s", "tokens_out", "requests", "tokens_in")
KEY = [*schema.WINDOW_KEY, "attempt"]
DTYPES = {
    "float16": "fp16", "half": "fp16", "f16": "fp16", "bfloat16": "bf16", "float32": "fp32", "float": "fp32", "f32": "fp32",
    "full": "fp32",
}  # fmt: skip
_GGUF = re.compile(r"(i?q\d(?:_\w+?)?)(?:\s*-\s*(small|medium|large)|_([sml]))?")


@dataclass(frozen=True)
class Converted:
    """The tables of an experiment, the columns that were read, and what a reader should know."""

    windows: pd.DataFrame
    energies: pd.DataFrame
    scores: pd.DataFrame
    used: set[str] = field(default_factory=set)
    notes: tuple[str, ...] = ()


def import_table(frame: pd.DataFrame, mapping: Mapping) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The windows and energies tables of a foreign table, row for row; see `convert`."""
    found = convert(frame, mapping)
    return found.windows, found.energies


def convert(frame: pd.DataFrame, mapping: Mapping, energy_of: Callable | None = None) -> Converted:
    """The windows, energies and scores of a foreign table, row for row.

    Where the source gives rates only (energy per output token and throughput), a window stands for one nominal second of them and carries
    the flag nominal_window: ratios, costs and throughput are right, totals are not stated. `energy_of(start_s, stop_s)` integrates a power
    log that was recorded beside the rows. Raises UserError for columns that are not there, a configuration that is not fully said,
    energies that cannot be turned into joules, and columns that differ within a configuration and may be factors.
    """
    if frame.empty:
        raise UserError("an empty table", f"rows of {mapping.source}")
    frame, used, notes = mappings.prepared(frame.reset_index(drop=True), mapping), set(mapping.split), []
    if twice := [str(c) for c in frame.columns[frame.columns.duplicated()]]:
        raise UserError(f"column {twice[0]} stands twice", f"one column a name in {mapping.source}", "rename or drop one")
    mapping = _present(frame, mappings.complete(mapping), energy_of is not None)
    if mapping.per == "request":  # lengths are counts of each request, and a row is one request and one item
        counts = {count: mapping.columns[name] for name, count in COUNTS.items() if name in mapping.columns} | mapping.columns
        one = {"requests": 1} | ({"n_items": 1} if "score" in counts else {})
        mapping = replace(mapping, columns=counts, constants={k: v for k, v in one.items() if k not in counts} | mapping.constants)
    rows = _quantities(frame, mapping, used, notes)
    rows = rows.join(_configurations(frame, mapping, used))
    rows["attempt"] = pd.Series([f"{i:08x}" for i in range(len(rows))], dtype=object, index=rows.index)
    rows["job"] = mapping.source.split(",")[0].split(" (")[0].split(";")[0] + ": " + rows["gpu"] + ", " + rows["model"]
    rows["block"] = 1
    if mapping.block:  # from 1 in the order of the source's runs: of numbers by size, of names by letter
        runs = mappings.evaluate(mapping.block, frame, used)
        if (gap := runs.isna() | runs.astype(str).str.strip().eq("")).any():
            raise UserError(f"row {int(gap.to_numpy().argmax()) + 1} names no run", "a run in every row", "fill it in, or use fill_down")
        figures = pd.to_numeric(runs, errors="coerce")
        rows["block"] = (runs if figures.isna().any() else figures).factorize(sort=True)[0] + 1
    rows["repeat"] = rows.groupby(["job", "configuration_id", "block"]).cumcount() + 1
    rows["flags"] = [[SHARED_BLOCK] if mapping.block else [] for _ in range(len(rows))]  # a named block is the same work on every card
    if energy_of is None:
        energies, unread = _energies(frame, rows, mapping, used)
    else:
        energies, unread = _of_log(rows, energy_of, mapping.log_boundary), np.zeros(len(rows), bool)
    rows = _judge(frame, rows, energies, unread, mapping, used)
    rows = _one_run(frame, rows, mapping)
    usable = rows["status"].eq("ok")
    if rows.loc[usable, "configuration_id"].duplicated().any():  # equal to the last digit of two measured figures or more: a copy
        figures = {c: cells.floats(frame[c]) for c in frame if not frame[c].map(type).isin((list, dict)).any()}
        fine = {c: values for c, values in figures.items() if _fine(values[usable]).mean() > 0.5}
        copied = usable.copy()
        copied[usable] = pd.DataFrame(fine, index=rows.index).assign(configuration_id=rows["configuration_id"])[usable].duplicated()
        if len(fine) > 1:
            rows["status"], rows["reason"] = rows["status"].mask(copied, "invalid"), rows["reason"].mask(copied, COPIED)
    _unpooled(frame, rows, used, mapping, notes)
    if mapping.per == "request":
        rows, energies = _added(rows, energies, notes)
    models = rows.groupby("model")["quantization"].nunique()
    if models.eq(1).all() and len(models) > 1 and models.index.str.fullmatch(mappings.TAGGED).all() and rows["quantization"].nunique() > 1:
        tagged = f"the strategy is part of the model's name ({models.index[0]})"
        notes.append(f"{tagged}, so no two strategies share a model: `split` takes it out")
    scores = _scores(rows, notes) if "score" in rows else pd.DataFrame()
    usable = energies["energy_j"].notna() & energies["attempt"].isin(rows.loc[rows["status"] == "ok", "attempt"])
    windows = rows.reindex(columns=[c.name for c in schema.WINDOWS])
    energies = energies[usable].reindex(columns=[c.name for c in schema.ENERGIES]).reset_index(drop=True)
    return Converted(windows, energies, scores, used, (*notes, *mapping.notes))


def _present(frame: pd.DataFrame, mapping: Mapping, with_log: bool) -> Mapping:
    """The mapping without what a known tool's mapping names and this table lacks, and with a pattern of energies written out.

    Raises UserError where no energy is left: it names the columns, and the nearest ones of the table.
    """
    energies = []
    for energy in mapping.energies:  # `gpu*_energy` is one entry a column, its device named after the column
        pattern = "*" in energy.column and energy.column not in frame
        names = [str(c) for c in frame.columns if fnmatch.fnmatchcase(str(c), energy.column)] if pattern else []
        energies += [replace(energy, column=name, device_id=name) for name in names] or [energy]

    def readable(named: dict) -> dict:
        return {k: v for k, v in named.items() if mappings.is_readable(v, frame)}

    if mapping.known:
        failed = mapping.failed if mapping.failed in frame else None
        mapping = replace(mapping, columns=readable(mapping.columns), options=readable(mapping.options), failed=failed)
        energies = [e for e in energies if mappings.is_readable(e.column, frame)]
    if energies or with_log:
        return replace(mapping, energies=tuple(energies))
    if {"power_mean_w", "duration_s"} <= {*mapping.columns, *mapping.constants}:
        return replace(mapping, energies=(Energy("", "J", "gpu", "measured", words="mean power as stated, times the time"),))
    if wanted := ", ".join(e.column for e in mapping.energies[:3]):
        near = mappings.nearest(mapping.energies[0].column, frame.columns)
        raise UserError(f"no column {wanted}", f"an energy{near}", "name it in the mapping's `energies`")
    do = "name it with --power, or say its mean power with -p power_mean_w="
    raise UserError(f"{mapping.source.split(';')[0]} holds no energy", "a power log recorded beside it", do)


def _added(rows: pd.DataFrame, energies: pd.DataFrame, notes: list[str]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Requests of one configuration and block as one window: energies, tokens and times added, scores and latencies averaged.

    Where the rows say when they ran and did so side by side, the time is from the first beginning to the last end.
    """
    ok = rows["status"].eq("ok")
    parts = rows[ok].assign(first=rows[ok].groupby(["job", "configuration_id", "block"])["attempt"].transform("first"))
    grouped, one = parts.groupby("first", sort=False), parts.drop_duplicates("first").set_index("first")
    sums = [c for c in ("duration_s", "tokens_in", "tokens_out", "requests", "n_items") if c in rows]
    means = [c for c in (*NUMBERS, "score") if c in rows and c not in sums]
    one[sums], one[means], one["repeat"] = grouped[sums].sum(min_count=1), grouped[means].mean(), 1
    if {"_started_at", "_ended_at"} <= set(rows):
        one["duration_s"] = np.fmin(one["duration_s"], grouped["_ended_at"].max() - grouped["_started_at"].min())
    notes.append(f"{len(parts)} rows are requests: added up to {len(one)} run(s)")
    device = ["attempt", "device_id", "boundary"]
    energies = energies.assign(attempt=energies["attempt"].map(parts.set_index("attempt")["first"]), repeat=1)
    energies = energies[energies["attempt"].notna() & energies["energy_j"].notna()]
    total = energies.assign(energy_j=energies.groupby(device, sort=False)["energy_j"].transform("sum")).drop_duplicates(device)
    return pd.concat([one.reset_index(drop=True), rows[~ok]], ignore_index=True), total.reset_index(drop=True)


def _value(name: str, frame: pd.DataFrame, mapping: Mapping, used: set) -> tuple[pd.Series | None, str]:
    """What the mapping says of one of our names, and the header that it stands under where it is a column."""
    if name in mapping.constants:
        return pd.Series([mapping.constants[name]] * len(frame), index=frame.index, dtype=object), ""
    if name not in mapping.columns:
        return None, ""
    return mappings.evaluate(mapping.columns[name], frame, used), mappings.column_of(mapping.columns[name], frame) or ""


def _quantities(frame: pd.DataFrame, mapping: Mapping, used: set, notes: list[str]) -> pd.DataFrame:
    """Numbers of the work in our units, scores in [0, 1], fractions kept; what the source does not say is absent, or tokens from
    throughput x duration. Raises UserError for a cell that is none, with its row."""
    rows = pd.DataFrame(index=frame.index)
    for name in (*NUMBERS, "throughput_tok_s", "score", "n_items"):
        raw, header = _value(name, frame, mapping, used)
        if raw is None:
            continue
        wanted, unit = mappings.unit_of(name)[0], mapping.units.get(name, "")
        if not unit and wanted and header and (unit := cells.header_unit(header, wanted)) and cells.factor(unit, wanted) != 1:
            notes.append(f"{name} is read in {unit}, as the header '{header}' says")
        rows[name], odd = cells.numbers(raw, wanted, str(unit), name)
        if len(odd):
            what = f"{name}, row {odd[0] + 1}{f', column {header}' if header else ''} is '{str(raw.iloc[odd[0]])[:30]}'"
            raise UserError(f"{what}{f' (and {len(odd) - 1} more)' if len(odd) > 1 else ''}", "a number, or an empty cell", "correct it")
    for name in mappings.INSTANTS:
        raw, _ = _value(name, frame, mapping, used)
        if raw is not None:  # since 1970, or from the log's beginning; a stamp without a zone is local time
            rows[f"_{name}"] = found = pd.Series(seconds(pa.array(raw.map(str), pa.string()), None)[0], index=frame.index)
            if found.isna().any() and not mapping.known:
                at = int(found.isna().to_numpy().argmax())
                said = f"{name}, row {at + 1} is '{str(raw.iloc[at])[:30]}'"
                raise UserError(said, "seconds, or a date and time", "correct the table")
    if {"_started_at", "_ended_at"} <= set(rows) and "duration_s" not in rows:
        rows["duration_s"] = rows["_ended_at"] - rows["_started_at"]
    if "throughput_tok_s" in rows and "duration_s" in rows:
        tokens = rows["throughput_tok_s"] * rows["duration_s"]
        rows["tokens_out"] = rows["tokens_out"].fillna(tokens) if "tokens_out" in rows else tokens
    if "score" in rows:
        score = rows["score"]
        if "score" not in mapping.units and score.notna().any() and (score.dropna() > 1).all():
            notes.append("score is read in percent: every one is above 1; say `score_unit` to be sure")
            rows["score"] = score = score / 100
        if len(bad := score[(score < 0) | (score > 1)]):
            said = f"a score of {bad.iloc[0]:g} in row {bad.index[0] + 1}, and others up to {score.max():g}"
            raise UserError(said, "fractions, or all in percent", "say score_unit: percent or fraction")
    rows = rows.assign(**{c: np.nan for c in ("duration_s", "tokens_out", "requests", "throughput_tok_s") if c not in rows})
    return rows.assign(requests=rows["requests"].fillna(rows["n_items"])) if "n_items" in rows else rows


def _configurations(frame: pd.DataFrame, mapping: Mapping, used: set) -> pd.DataFrame:
    """The configuration columns and id of every row; names become catalog slugs where the catalog knows them."""
    parts = {name: _value(name, frame, mapping, used)[0] for name in (*schema.CONFIGURATION, *PLACES)}
    if missing := [n for n in schema.CONFIGURATION if parts[n] is None and n not in DEFAULTS and n != "options"]:
        do = f"say -p {missing[0]}=..., or name its column in the mapping{mappings.nearest(missing[0], frame.columns)}"
        raise UserError(f"the source does not say {', '.join(missing)}", "every part of a configuration", do)
    parts |= {f"options.{name}": mappings.evaluate(theirs, frame, used) for name, theirs in mapping.options.items()}
    values = pd.DataFrame({name: value for name, value in parts.items() if value is not None}, index=frame.index)
    for name in (n for n in LENGTHS if n in mapping.columns and n not in mapping.constants):
        rest = [values[c].astype(str) for c in values if c not in LENGTHS]
        if mapping.per == "request":  # one length for all strategies, or none would be compared with another: the mean of all requests
            rest = [values[c].astype(str) for c in values if c not in (*LENGTHS, "quantization")]
            values[name] = pd.Series(cells.floats(values[name]), index=frame.index).groupby(rest).transform("mean").round()
        elif not mapping.known and counted(values[name], rest) and mappings.column_of(mapping.columns[name], frame):
            first = ", ".join(map(str, values[name].iloc[:3]))
            task = f"counts go under {COUNTS[name]}, with -p {name}=0 for whatever a task gives"
            raise UserError(
                f"{name} is column {mapping.columns[name]}, and nearly every row has its own: {first}",
                "a length that was set, the same for what is compared",
                f"{task}; where each row is one request say -p per=request",
            )
    codes = np.zeros(len(frame), dtype=np.int64)
    for name in values:
        text = values[name].astype(str) if values[name].dtype == object else values[name]
        part = pd.factorize(text, use_na_sentinel=False)[0]
        codes = pd.factorize(codes * (part.max() + 1) + part)[0]
    first = np.unique(codes, return_index=True)[1]
    built = [_configuration(values.iloc[i].to_dict(), mapping, i + 1) for i in first]
    columns = pd.DataFrame([{"configuration_id": b.configuration_id} | b.columns() for b in built])
    return columns.iloc[codes].set_axis(frame.index)


def counted(lengths: pd.Series, groups: list[pd.Series] = ()) -> bool:
    """Whether lengths are counts of what happened, not set: nearly all differ, in the table or within a group, and most are not round."""
    numbers = pd.Series(cells.floats(lengths), index=lengths.index)
    each = numbers.groupby(list(groups) or [pd.Series(0, index=numbers.index)]).agg(["size", "nunique"])
    each = each[each["size"] >= 4]
    differ = (each["nunique"] / each["size"]).median() >= 0.8 or (len(numbers) >= 4 and numbers.nunique() >= 0.8 * len(numbers))
    distinct = numbers.dropna().unique()
    return bool(differ and len(distinct) and ((distinct % 8 != 0) & (distinct % 10 != 0)).mean() > 0.5)


def _absent(value: object) -> bool:
    """Whether a cell states nothing."""
    return value is None or (isinstance(value, float) and np.isnan(value)) or str(value).strip().lower() in cells.MISSING


def _configuration(row: dict, mapping: Mapping, number: int) -> Configuration:
    """One configuration with our names; in its options what is at its default is left out.

    Raises UserError where a number is missing or a name is empty, with the row.
    """
    row = DEFAULTS | {k: v for k, v in row.items() if not _absent(v)}
    row = {k: mapping.values.get(k, {}).get(str(v).strip(), v) for k, v in row.items()}
    if empty := [c for c in ("gpu", "model", "quantization", "task") if c not in row]:
        raise UserError(f"a row without {', '.join(empty)} (row {number})", "a name in every row", "fill it in, or say it with -p")
    (count, gpu), given = boards(row["gpu"]), row.get("options", {})
    if isinstance(given, str):
        with suppress(ValueError):
            given = json.loads(given)
    if not isinstance(given, dict):
        raise UserError(f"row {number}: options '{str(row['options'])[:40]}'", 'a JSON object such as {"engine": "vllm"}')
    options = given | {k.removeprefix("options."): _plain(v) for k, v in row.items() if k.startswith("options.")}
    options |= {k: _whole(row[k]) if k in PARALLEL else str(row[k]).strip() for k in PLACES if k in row}
    if count > 1 and options.setdefault("num_gpus", count) != count:
        found = f"row {number}: gpu says {count} cards and num_gpus {options['num_gpus']}"
        raise UserError(found, "one number of cards", "correct the table or the mapping")
    options = {k: v for k, v in options.items() if PLACE_DEFAULTS.get(k) != (v.lower() if isinstance(v, str) else v)}
    names = {"gpu": slug("gpu", gpu), "model": slug("model", row["model"]), "task": slug("task", row["task"])}
    names |= {"quantization": strategy(str(row["quantization"])), "weights": str(row["weights"])}
    expected, do = "a name and positive whole numbers", "round(...) makes an average whole"
    try:
        return Configuration(**names, **{k: _whole(row[k]) for k in ("batch_size", *LENGTHS)}, options=options)
    except KeyError as error:
        why, expected, do = f"no {error.args[0]}", "a number in every row", "fill it in, or say it with -p"
    except ValidationError as error:
        (first, *_) = error.errors()
        why = (f"{first['loc'][0]}: " if first["loc"] else "") + first["msg"]
    except (ValueError, TypeError) as error:
        why = str(error)
    raise UserError(f"row {number}: the configuration cannot be read ({why})", expected, do)


def _plain(value: object) -> object:
    """A cell as JSON knows it; text that is a number is one."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, str):
        number = cells.floats(pd.Series([value]))[0]
        value = number if np.isfinite(number) else value.strip()
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _whole(value: object) -> int:
    """The value as a whole number. Raises ValueError for 2.5: half a sequence is another column, or another meaning."""
    if not np.isfinite(number := float(value)) or number != int(number):
        raise ValueError(f"{value} is no whole number")
    return int(number)


def slug(kind: str, name: object) -> str:
    """The catalog's slug, or the source's own name where the catalog does not know it."""
    try:
        return catalog.resolve(kind, str(name))[0]
    except UserError:
        return str(name).strip()


def strategy(name: str) -> str:
    """Our name of a strategy, or `unspecified_<name>` where the name does not say which method ran.

    Data types are strategies (`torch.bfloat16` is bf16), and so are GGUF's names (`Q4_K - Medium` is gguf_q4_k_m).
    """
    low = name.strip().lower().removeprefix("torch.")
    low = DTYPES.get(low, low)
    if match := _GGUF.fullmatch(low):
        size = (match[2] or match[3] or "")[:1]
        low = f"gguf_{match[1]}{f'_{size}' if size else ''}"
    words = re.split(r"[^a-z0-9]+", low)
    plain = [w for w in words if not re.fullmatch(r"\d*bits?|\d+", w)]  # awq-4-bit, gptq_int4: the method, and bits that are its own
    for each in (name, low, *(plain if len(plain) == 1 else ())):
        with suppress(UserError):
            found = strategies.get(each)
            if each in (name, low) or str(round(found.weight_bits)) in re.findall(r"\d+", low):
                return found.slug
    return name if name.startswith(strategies.UNSPECIFIED) else strategies.UNSPECIFIED + name.strip()


def _energies(frame: pd.DataFrame, rows: pd.DataFrame, mapping: Mapping, used: set) -> tuple[pd.DataFrame, np.ndarray]:
    """The energies of every column in joules a window (NaN where the source measured nothing), and which rows hold something unreadable.

    Where no time is given but throughput is, a window is one second of it. Raises UserError for an energy without a unit, and for one of a
    token or a request where their number is not known.
    """
    unread, tables = np.zeros(len(rows), bool), []
    for energy in mapping.energies:
        per = PER[energy.per]
        if energy.column:
            raw, column = mappings.evaluate(energy.column, frame, used), mappings.column_of(energy.column, frame)
            unit = energy.unit or (cells.header_unit(column, "J") if column else "J")
            if not unit:
                raise UserError(f"energy column {energy.column} has no unit", "its unit, in the header or the mapping", "say `unit: kWh`")
            values, odd = cells.numbers(raw, "J", unit, f"energy column {energy.column}")
            unread[odd] = True
        else:
            values = (rows["power_mean_w"] * rows["duration_s"]).to_numpy(float)
        if per != "run":
            nominal = rows["duration_s"].isna() & rows["throughput_tok_s"].notna() & rows["tokens_out"].isna()
            rows.loc[nominal, "tokens_out"], rows.loc[nominal, "duration_s"] = rows.loc[nominal, "throughput_tok_s"], 1.0
            rows["flags"] = [[*flags, NOMINAL] if n else flags for flags, n in zip(rows["flags"], nominal, strict=True)]
            name = "tokens_out" if per == "token" else "requests"
            if rows[name].isna().all():
                number = f"the number of {name.replace('tokens_out', 'output tokens')}"
                raise UserError(f"{energy.column} is per {per}", number, f"map `{name}`")
            values = values * rows[name].to_numpy(float)
        common = {"boundary": energy.boundary, "basis": energy.basis, "primary": True, "status": "ok", "field": energy.column}
        common |= {"method": "estimate" if energy.basis in ("estimated", "predicted") else "power"}
        common |= {"device_id": energy.device_id or energy.column or "stated power"}
        tables.append(rows[KEY].assign(**common, energy_j=np.where((values > 0) & np.isfinite(values), values, np.nan)))
    return pd.concat(tables, ignore_index=True), unread


def _of_log(rows: pd.DataFrame, energy_of: Callable, boundary: str) -> pd.DataFrame:
    """The energies of each row between its instants in a power log. Raises UserError where the rows do not say when they ran."""
    start = rows.get("_started_at", rows.get("_ended_at", pd.Series(np.nan, index=rows.index)) - rows["duration_s"])
    stop = rows.get("_ended_at", start + rows["duration_s"])
    if (start.isna() | stop.isna()).any():
        raise UserError("the rows do not say when they ran", "two of started_at, ended_at and duration_s", "name them in the mapping")
    if (backward := ~(stop > start)).any():
        at = int(backward.to_numpy().argmax())
        found = f"row {at + 1} runs from {start.iloc[at]:.3f} to {stop.iloc[at]:.3f} s"
        raise UserError(found, "an end after its beginning", "correct the table")
    common = {"boundary": boundary, "basis": "measured", "method": "power", "primary": True, "field": "power log", "status": "ok"}
    keyed = zip(rows[KEY].to_dict("records"), start, stop, strict=True)
    found = [key | common | device for key, a, b in keyed for device in energy_of(float(a), float(b))]
    rows["duration_s"] = (stop - start).to_numpy()
    return pd.DataFrame(found, columns=[c.name for c in schema.ENERGIES])


def _judge(
    frame: pd.DataFrame, rows: pd.DataFrame, energies: pd.DataFrame, unread: np.ndarray, mapping: Mapping, used: set
) -> pd.DataFrame:
    """Adds basis, status and reason: failed in the source, nothing measured, a count or time that is not above zero, a log with holes."""
    with_energy = energies[energies["energy_j"].notna()].drop_duplicates("attempt").set_index("attempt")["basis"]
    measured = rows["attempt"].isin(with_energy.index).to_numpy()
    holed = rows["attempt"].isin(energies.loc[energies["status"] != "ok", "attempt"]).to_numpy()
    failed = np.zeros(len(rows), bool)
    if mapping.failed:
        said = mappings.evaluate(mapping.failed, frame, used)
        text = said.astype(str).str.strip()
        failed = said if said.dtype == bool else said.notna() & ~text.str.lower().isin(cells.MISSING)
        failed = (~text.isin(mapping.passed) if mapping.passed else failed).to_numpy()
    task = (rows["input_tokens"] == 0) & (rows["output_tokens"] == 0)
    nothing = pd.Series("", index=rows.index, dtype=object)

    def add(off: pd.Series, why: object) -> None:
        """The first reason of a row stands."""
        nothing.update(pd.Series(why, index=rows.index)[off & nothing.eq("")])

    how = "latency_s times the requests where they ran one by one" if "latency_s" in rows else "or say it with -p"
    add(rows["duration_s"].isna(), f"no duration is stated: map duration_s, {how}")
    no_items, no_tokens = "no number of items is stated: map requests or n_items", "no output tokens are stated: map tokens_out"
    add(rows["requests"].isna() & (task | rows["tokens_out"].isna()), np.where(task, no_items, f"{no_tokens}, or say it with -p"))
    for name in (n for n in ABOVE_ZERO if n in rows):
        allowed_zero = (rows[name] == 0) & (task if name == "tokens_out" else name == "tokens_in")
        add((rows[name] <= 0) & ~allowed_zero, name + " of " + rows[name].map("{:g}".format) + ": not above zero")
    power_w = rows["attempt"].map(energies.groupby("attempt")["energy_j"].max()).astype(float) / rows["duration_s"].astype(float)
    for i in np.flatnonzero((power_w > HIGHEST_W) & nothing.eq("")):
        if power_w.iloc[i] > HIGHEST_W * json.loads(rows["options"].iloc[i] or "{}").get("num_gpus", 1):
            nothing.iloc[i] = f"energy over time of {shortest(power_w.iloc[i])} W, which no machine draws: check the units"
    invalid = nothing.ne("")
    status = np.select([failed, ~measured | holed | invalid], ["failed", "invalid"], default="ok")
    reasons = [f"{mapping.failed} of the source", NO_NUMBER, NOT_MEASURED, HOLED, nothing]
    reason = np.select([failed, ~measured & unread, ~measured, holed, invalid], reasons, default="")
    usual = mapping.energies[0].basis if mapping.energies else "measured"
    basis = rows["attempt"].map(with_energy.astype(object)).astype(object).where(lambda b: b.notna(), usual)
    stamps = rows.get("_started_at", pd.Series(np.nan, index=rows.index))
    text = pd.to_datetime(stamps.where(stamps > 1e8), unit="s", utc=True).dt.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    return rows.assign(status=status, reason=reason, basis=basis, started_at=text)


def _one_run(frame: pd.DataFrame, rows: pd.DataFrame, mapping: Mapping) -> pd.DataFrame:
    """Rows that counted one machine over one time are one run: all but the first become invalid, with that reason.

    A process that tracks the machine counts every card in it, so eight ranks state the same joules eight times.
    """
    whole = [frame[c].astype(str).str.strip().str.lower().eq(v) for c, v in mapping.same_machine.items() if c in frame]
    if not whole or "_ended_at" not in rows or len(rows) < 2:
        return rows
    stop, start = rows["_ended_at"].to_numpy(float), (rows["_ended_at"] - rows["duration_s"]).to_numpy(float)
    candidates = np.flatnonzero(whole[0].to_numpy() & np.isfinite(start) & (rows["status"] == "ok").to_numpy())
    status, reason, kept = rows["status"].to_numpy(object).copy(), rows["reason"].to_numpy(object).copy(), {}
    for i in candidates[np.argsort(start[candidates], kind="stable")]:
        first = kept.get(rows["job"].iloc[i])
        shared = min(stop[i], stop[first]) - max(start[i], start[first]) if first is not None else -1.0
        if first is not None and shared > 0.5 * min(stop[i] - start[i], stop[first] - start[first]):
            status[i], reason[i] = "invalid", SAME_TIME.format(row=first + 1)
        else:
            kept[rows["job"].iloc[i]] = i
    return rows.assign(status=status, reason=reason)


def possible(rows: pd.DataFrame, energies: pd.DataFrame) -> None:
    """Raises UserError where energies over times are no power that was stated or that boards have: a unit, a count or `per` is wrong."""
    ok = rows[rows["status"].eq("ok")].set_index("attempt")
    measured = energies[~energies["basis"].isin(("estimated", "predicted"))]
    part = "gpu" if measured["boundary"].eq("gpu").any() else measured["boundary"].iloc[0] if measured["boundary"].nunique() == 1 else ""
    power = (measured[measured["boundary"].eq(part)].groupby("attempt")["energy_j"].sum() / ok["duration_s"]).dropna()
    if power.empty:
        return
    cards = ok["options"].astype(str).str.extract(r'"num_gpus":\s*(\d+)')[0].astype(float).fillna(1)
    limits = {}
    for gpu in ok["gpu"].unique():
        with suppress(UserError):
            limits[gpu] = float(catalog.gpu(gpu).tdp_w or "nan")
    limit = ok["gpu"].map(limits).astype(float) * cards
    stated = ok["power_mean_w"] if "power_mean_w" in ok else limit * np.nan
    apart, share = (power / stated).median(), (power / limit).median() if part == "gpu" else np.nan
    if apart > MOST_APART or apart < 1 / MOST_APART:
        against = f"power_mean_w says {stated.median():.3g} W"
    elif share > MOST_OF_LIMIT or share < LEAST_OF_LIMIT:
        against = f"the boards of a row ({ok['gpu'].iloc[0]}, {cards.iloc[0]:.0f}) take up to {limit.median():.3g} W"
    else:
        return
    do = "correct a unit (`units: {duration_s: ms}`), the number of cards (num_gpus), or `per: request` of the energy"
    raise UserError(f"energies over times are {power.median():.3g} W (median), and {against}", "one power", do)


_REPLICATE = re.compile(
    r"(^|[_. ])(id|uuid|run|runs|rep|reps|repeat|repetition|trial|iter|iteration|seed|index|idx|row"
    r"|sample|order|name|path|file|url|commit|hash)s?$|unnamed|^column \d+$"
)
_MEASURE = re.compile(
    r"(energy|power|watt|joule|temp|util|clock|latenc|through|tput|time|duration|elapsed|second|memory|mem_|vram|token|count|total|avg|mean|median|min|max|std|p\d\d|score|acc|emission|carbon|co2|cost|price|error|"
    r"ttft|tpot|itl|speed|rate|freq|kwh|completed|requests|date|stamp|started|ended|note|comment|remark|perplex|loss)|[\[(].*[\])]|(_|^)(w|j|s|ms|us|ns|h|wh|mj|kj|c|gb|mb|mhz|pct|ts)$"
)
_FACTOR = re.compile(
    r"gpu|tensor|pipeline|expert|parallel|(^|[_. ])(tp|pp|dp|ep|bs|engine|framework|backend|version|precision|dtype"
    r"|quant\w*|batch\w*|concurrency|mode)($|[_. ])|max_num|rate$|limit"
)
_PROCESS = re.compile(r"(^|[_. ])(rank|local_rank|global_rank|gpu_id|gpu_index|device_id|device_index|shard)$")


def _unpooled(frame: pd.DataFrame, rows: pd.DataFrame, used: set, mapping: Mapping, notes: list[str]) -> None:
    """Raises UserError where rows of one configuration differ in a column that nothing was taken from and that may be a factor.

    Text differs by design; a whole number or a number of few values that is no measurement, run or mark does so too. What is a measurement
    or the mark of a run by its name is let pass, and named in `notes`.
    """
    usable = (rows["status"] == "ok").to_numpy()
    group = pd.factorize(rows["configuration_id"])[0]
    if len(np.unique(group[usable])) == usable.sum():
        return
    ignored, passed = [*mapping.ignore, f"{FILE}*", *mapping.split], []
    for column in frame.columns:
        name = str(column)
        if name in used or any(fnmatch.fnmatchcase(name, pattern) for pattern in ignored):
            continue
        figures = frame[column][usable]
        text = figures.astype(str)
        varies = text.groupby(group[usable]).nunique()
        if not (varies > 1).any():
            continue
        kind, differ = role_of(name, figures, text), f"differ in column {name}"
        if mapping.per == "request" and (varies / text.groupby(group[usable]).size()).median() >= 0.8:  # prompts and answers
            kind = "run"
        if _PROCESS.search(name.lower()):
            do = f"add their energies up first (one row, num_gpus); where they are runs of their own say --ignore '{name}'"
            found = f"rows of one configuration {differ}: processes or cards of one run are no repeats of it"
            raise UserError(found, "one row a run", do)
        if kind == "factor":
            at = varies.idxmax()
            first, shown = rows[group == at].iloc[0], ", ".join(list(dict.fromkeys(text[group[usable] == at].str.slice(0, 25)))[:3])
            who = f"{first['gpu']}, {first['model']}, {first['quantization']}, batch {first['batch_size']}"
            do = f"name it in the mapping under `options`, as `block` if it is a run, or under `ignore` (--ignore '{name}')"
            raise UserError(f"rows of one configuration ({who}) {differ}: {shown}", "rows that differ in nothing but chance", do)
        passed += [name] if kind == "run" else []
    if passed and not mapping.block:
        repeats = f"taken as repeats; say block: {passed[0]} if each ran everything"
        notes.append(f"rows of one configuration differ in {', '.join(passed[:4])}: {repeats}")


def role_of(name: str, column: pd.Series, text: pd.Series) -> str:
    """What a column that differs within a configuration may be: `factor`, `run` or `measurement`."""
    low, numbers = name.lower(), cells.floats(column)
    is_number = np.isfinite(numbers).sum() >= 0.5 * max(1, (~column.map(_absent)).sum())
    if is_number and _fine(numbers).mean() > 0.5:  # nobody sets a factor to six digits
        return "measurement"
    if _FACTOR.search(low) and not re.search(r"(energy|power|util|temp|mem|clock|tput|through|latenc|avg|mean)", low):
        return "factor"
    if _REPLICATE.search(low):
        return "run"
    if is_number:
        whole = np.isfinite(numbers).all() and np.all(numbers == np.round(numbers))
        few = text.nunique() <= max(2, len(text) // 4)
        return "measurement" if _MEASURE.search(low) or not (whole or few) else "factor"
    is_remark = re.search(r"date|stamp|time|note|comment|remark|uuid|hash|started|ended", low)
    return "measurement" if is_remark or column.map(type).eq(list).any() else "factor"


def _fine(numbers: np.ndarray) -> np.ndarray:
    """Which numbers show more than five significant digits, as only something measured does."""
    with np.errstate(all="ignore"):
        shown = np.abs(numbers) / 10.0 ** (np.floor(np.log10(np.abs(numbers))) - 4)
    return np.isfinite(shown) & (np.abs(shown - np.round(shown)) > 1e-6)


def _scores(rows: pd.DataFrame, notes: list[str]) -> pd.DataFrame:
    """The stated scores as one row a window that stands for all its items (schema.SCORES), so that EOR and TWEOR can be had."""
    known = rows[rows["score"].notna() & (rows["status"] == "ok")]
    if known.empty:
        return pd.DataFrame()
    if (plain := known["task"] == DEFAULTS["task"]).any():
        found = f"a score in row {plain.idxmax() + 1}, and the task is plain generation"
        raise UserError(found, "the task that was scored", "say it with -p task=mmlu, or map `task`")
    n_items = known["n_items"] if "n_items" in known else pd.Series(np.nan, index=known.index)
    if n_items.isna().any():
        notes.append("n_items is not said: scores, EOR and TWEOR have no interval")
    table = known.assign(item="all of " + known["configuration_id"], metric="score", items=n_items.fillna(0).round().astype(int))
    table = table[[*KEY, "task", "score", "item", "metric", "items"]]
    return table.reindex(columns=[c.name for c in schema.SCORES]).reset_index(drop=True)


def import_phases(phases: pd.DataFrame, energy_of: Callable, mapping: Mapping) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The windows and energies of a power log cut by a table of phases; see `of_phases`."""
    found = of_phases(phases, energy_of, mapping)
    return found.windows, found.energies


def of_phases(phases: pd.DataFrame, energy_of: Callable[[float, float], list[dict]], mapping: Mapping) -> Converted:
    """A power log cut by a table of phases.

    `phases` has start_s and stop_s beside the mapped columns; `energy_of(start_s, stop_s)` integrates the log and answers one dictionary a
    device: device_id, energy_j and, where known, u_granularity_j and status.
    """
    if absent := [c for c in ("start_s", "stop_s") if c not in phases]:
        raise UserError(f"phases without {', '.join(absent)}", "start_s and stop_s of every phase")
    edges = {name: pd.to_numeric(phases[name], errors="coerce") for name in ("start_s", "stop_s")}
    for name, values in edges.items():
        if values.isna().any():
            at = int(values.isna().to_numpy().argmax())
            found = f"{name} of phase {at + 1} is '{phases[name].iloc[at]}'"
            raise UserError(found, "seconds from the log's start, or since 1970", "correct the phases table")
    if (backward := ~(edges["stop_s"] > edges["start_s"])).any():
        at = int(backward.to_numpy().argmax())
        found = f"a phase from {edges['start_s'].iloc[at]:g} to {edges['stop_s'].iloc[at]:g} (row {at + 1})"
        raise UserError(found, "an end after its beginning", "correct the phases table")
    columns = {k: v for k, v in mapping.columns.items() if k != "duration_s"} | {"started_at": "start_s", "ended_at": "stop_s"}
    return convert(phases.assign(**edges), replace(mapping, energies=(), columns=columns, units={}), energy_of)
