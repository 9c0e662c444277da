"""What another tool measured, as tables of ours, and what became of each of its rows: the work of `eai import`.

A table needs a mapping: that of a known tool, one of the user's, or the former completed by the latter; a table of a known tool is
recognised by its columns. A power log may lie beside it, and lm-eval's scores be joined. Nothing is filled in: what neither file, mapping
nor the caller says is asked for.
"""

import hashlib
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import pandas as pd

from eai import catalog, schema
from eai.analyze.selection import BOUNDARY_ORDER
from eai.errors import UserError
from eai.importers import cells, evaluations, mappings, reading, windows
from eai.importers import names as known_names
from eai.importers.mappings import Energy, Mapping
from eai.importers.reading import FILE, read_table, read_tables

ALIASES = {
    "mlenergy": "ml-energy-3",
    "ml-energy": "ml-energy-3",
    "llm-perf": "optimum-benchmark",
    "llmperf": "optimum-benchmark",
    "vllm": "vllm-bench",
    "genai-perf": "aiperf",
}
LOGS = {"lm-eval": evaluations.SOURCE, "nvidia-smi": "power log and a table of phases"}
BOARD = Energy("power log", "J", "gpu", "measured", words="power readings of the board, integrated")
MOST_SHOWN = 6

EnergyOf = Callable[[float, float], list[dict]]
"""Joules of each device between two instants of a power log, as `windows.convert` asks for them."""


@dataclass(frozen=True)
class Asked:
    """What an import is told: files, the tool's name, a mapping file, values for every row, phases, power log, lm-eval results, and columns
    that are no factors."""

    files: tuple[Path, ...]
    tool: str = ""
    mapping: Path | None = None
    constants: dict[str, object] = field(default_factory=dict)
    phases: Path | None = None
    power: Path | None = None
    scores: tuple[Path, ...] = ()
    ignore: tuple[str, ...] = ()

    @property
    def document(self) -> object:
        """The document of the mapping file, empty where there is none. Raises UserError where it cannot be read."""
        return mappings.read_document(self.mapping) if self.mapping else {}


@dataclass(frozen=True)
class Imported:
    """The tables of an experiment, the mapping that made them, the source's columns that nothing was taken from, and what to know."""

    windows: pd.DataFrame
    energies: pd.DataFrame
    scores: pd.DataFrame
    mapping: Mapping
    unused: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def provenance(self, files: tuple[Path, ...]) -> dict:
        """Where the numbers come from: source, files with their digests, the basis of each boundary in the source's words, the baseline."""
        digests = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
        words = {e.boundary: e.words for e in self.mapping.energies if e.words}
        return {"imported_from": self.mapping.source, "files": digests, "basis_words": words, "baseline": self.mapping.baseline}


def names() -> str:
    """The names of the known tools for a message."""
    return ", ".join([*mappings.tools(), *LOGS])


def _tool(asked: Asked) -> str:
    """The registered name of the tool that was asked for, "" where none was. Raises UserError for one nobody knows."""
    plain = {k.replace("-", ""): v for k, v in ({n: n for n in (*mappings.tools(), *LOGS)} | ALIASES).items()}
    name = asked.tool.lower().replace("-", "").replace("_", "").replace(" ", "")
    if name and name not in plain:
        raise UserError(
            f"format '{asked.tool}'",
            f"one of {names()}{mappings.nearest(asked.tool, plain.values())}",
            "or say with --mapping which column is which",
        )
    return plain.get(name, "")


def read(asked: Asked, read_power: Callable[[Path], EnergyOf]) -> Imported:
    """The tables of what was asked for; `read_power` reads a power log.

    Raises UserError for a tool nobody knows, files that cannot be read, what is not said, and where no row can be used.
    """
    tool = _tool(asked)
    found = _phases(asked, tool, read_power) if tool in LOGS else _table(asked, tool, read_power)
    if found.windows["status"].ne("ok").all():
        why = found.windows["reason"].value_counts()
        raise UserError(f"none of the {len(found.windows)} rows can be used ({why.index[0]})", "a measured energy", "nothing was written")
    if asked.scores:
        found = replace(found, scores=evaluations.joined(list(asked.scores), found.windows))
    return found


def _mapping(asked: Asked, base: Mapping | None) -> Mapping:
    """The tool's mapping, completed by the user's and by -p; a power log beside makes energies needless."""
    document = asked.document
    if asked.power is not None and base is None and isinstance(document, dict) and not document.get("energies"):
        base = Mapping("unnamed", ())
    mapping = mappings.with_constants(mappings.mapping_from(document, base), asked.constants)
    return replace(mapping, ignore=mapping.ignore + asked.ignore)


def _table(asked: Asked, tool: str, read_power: Callable[[Path], EnergyOf]) -> Imported:
    """A table of rows with their energies in it, or with a power log beside."""
    frame, base = load(asked.files, tool, asked.document)
    if base is None and asked.mapping is None:
        raise UserError(
            "no known tool by these columns", f"--format (one of {names()}) or --mapping", "eai import FILE --guess writes a first mapping"
        )
    mapping = _mapping(asked, base)
    found = windows.convert(frame, mapping, read_power(asked.power) if asked.power else None)
    unused = tuple(str(c) for c in frame.columns if c not in found.used and not str(c).startswith(FILE))
    if asked.power:
        mapping = replace(mapping, energies=(BOARD,))
    return Imported(found.windows, found.energies, found.scores, mapping, unused, (*found.notes, *_zeros(frame, mapping)))


def load(files, tool: str, document: object) -> tuple[pd.DataFrame, Mapping | None]:
    """The rows of the files and the mapping of their tool: the one named, else the one whose columns they have, else None."""
    own = document.get("rows", "") if isinstance(document, dict) else ""
    nested = "" if own or tool else _rows_in(Path(files[0]))
    if tool:
        base = mappings.tools()[tool]
        return _read(files, own or base.rows, tool), base
    is_nested = Path(files[0]).suffix in (".json", ".jsonl")
    for rows in dict.fromkeys([own, *(m.rows for m in mappings.tools().values() if is_nested)]):
        try:
            frame = read_tables(files, rows)
        except UserError:
            if rows == own:
                raise
            continue
        if (name := mappings.recognise(frame.columns)) and (mappings.tools()[name].rows == rows or not rows):
            return frame, mappings.tools()[name]
    return read_tables(files, own or nested), None


def _read(files, rows: str, tool: str) -> pd.DataFrame:
    """The rows of a known tool's files: where the tool nests them, or as they are where somebody flattened them before."""
    try:
        return read_tables(files, rows)
    except UserError:
        frame = read_tables(files)
        if rows and set(mappings.tools()[tool].match) <= set(frame.columns):
            return frame
        raise


def _zeros(frame: pd.DataFrame, mapping: Mapping) -> list[str]:
    """Energies that are 0 although the source names the part: it was not measured."""
    found = []
    for energy in mapping.energies:
        if energy.column in frame:
            zero = int((pd.to_numeric(frame[energy.column], errors="coerce") == 0).sum())
            found += [f"{energy.column} is 0 in {zero} of {len(frame)} rows: the {energy.boundary} was not measured"] if zero else []
    return found


def _phases(asked: Asked, tool: str, read_power: Callable[[Path], EnergyOf]) -> Imported:
    """A power log cut by a table of phases, or by evaluations that say when they ran."""
    if tool == "lm-eval" and asked.power is None:
        raise UserError("lm-eval's results hold no energy", "the power log that was recorded beside them", "name it with --power")
    if tool == "nvidia-smi" and asked.phases is None:
        raise UserError("a power log alone", "a table of what ran when, with start_s and stop_s", "name it with --phases")
    if tool == "nvidia-smi" and len(asked.files) > 1:
        raise UserError(
            f"{len(asked.files)} power logs", "one log, which may hold several cards", "import them one by one, then `eai merge`"
        )
    phases = read_table(asked.phases) if tool == "nvidia-smi" else pd.DataFrame([evaluations.phase(path) for path in asked.files])
    own = [c for c in phases.columns if c in mappings.OURS and c not in ("duration_s", "options", *asked.constants)]
    base = Mapping(LOGS[tool], (BOARD,), {c: c for c in own} | ({"options": "options"} if "options" in phases else {}))
    mapping = _mapping(asked, base)
    found = windows.of_phases(phases, read_power(asked.power or asked.files[0]), mapping)
    scores = found.scores
    if tool == "lm-eval":
        scores = pd.concat([evaluations.items(path, found.windows.iloc[[i]]) for i, path in enumerate(asked.files)], ignore_index=True)
    unused = tuple(str(c) for c in phases.columns if c not in {"start_s", "stop_s", *found.used} and not str(c).startswith(FILE))
    return Imported(found.windows, found.energies, scores, mapping, unused, found.notes)


def account(found: Imported) -> dict:
    """What became of the source's rows: `{source, rows, used, configurations, blocks, energies, dropped, unused_columns, scores, notes}`.

    `energies`: boundary, basis, the source's words and number of windows that have one; `dropped`: each reason with its rows, from 1.
    """
    rows, energies = found.windows, found.energies
    kinds = energies.groupby(["boundary", "basis"], sort=False)["attempt"].nunique().reset_index(name="windows")
    words = {e.boundary: e.words for e in found.mapping.energies}
    out = rows.reset_index(drop=True)
    dropped = [
        {"status": status, "reason": reason, "rows": [int(i) + 1 for i in each.index]}
        for (status, reason), each in out[out["status"] != "ok"].groupby(["status", "reason"], sort=False)
    ]
    return {
        "source": found.mapping.source,
        "rows": len(rows),
        "used": int(rows["status"].eq("ok").sum()),
        "configurations": int(rows.loc[rows["status"] == "ok", "configuration_id"].nunique()),
        "blocks": int(rows["block"].nunique()),
        "energies": [{**kind, "words": words.get(kind["boundary"], "")} for kind in kinds.to_dict("records")],
        "dropped": dropped,
        "unused_columns": list(found.unused),
        "scores": len(found.scores),
        "baseline": found.mapping.baseline,
        "notes": _notes(found),
    }


def _notes(found: Imported) -> list[str]:
    """What a reader of the numbers should know beforehand."""
    rows, energies, notes = found.windows, found.energies, list(found.notes)
    if rows["block"].nunique() < 2:
        notes.append("one block: ratios get no interval and no test; name the source's runs with `block` if each ran every configuration")
    boundary = next(b for b in (*BOUNDARY_ORDER, *schema.BOUNDARIES) if energies["boundary"].eq(b).any())
    with_it = energies.loc[energies["boundary"] == boundary, "attempt"]
    if without := int((rows["status"].eq("ok") & ~rows["attempt"].isin(with_it)).sum()):
        notes.append(f"{without} of these rows have no energy of boundary {boundary}, which an analysis takes: it leaves them out")
    if boundary != "gpu" and rows.loc[rows["status"] == "ok", "gpu"].ne("cpu").any():
        notes.append(
            f"the GPU did the work and has no energy here: what is left is of boundary {boundary}, and says nothing about the card"
        )
    options = rows["options"].str.extract(r'"num_gpus":(\d+)')[0].dropna().astype(int)
    if len(options) and options.max() > 1:
        notes.append(f"energies are of up to {options.max()} cards together (num_gpus)")
    if rows["flags"].explode().eq("nominal_window").any():
        notes.append("the source states rates only: a window stands for one second of them, and totals are not stated")
    if rows["tokens_out"].isna().all() and rows["requests"].isna().all():
        notes.append("neither output tokens nor requests are said: there is no energy a token; say -p tokens_out=... or map it")
    if found.mapping.source == evaluations.SOURCE:
        notes.append("energy and duration are of the whole evaluation, load of the model included")
        if found.scores.empty:
            notes.append("no scores: there are no samples_*.jsonl beside the results; lm_eval --log_samples writes them")
    return list(dict.fromkeys(notes))


def text(answer: dict) -> str:
    """The account for a terminal."""
    lines = [f"{answer['used']} of {answer['rows']} rows of {answer['source']}", f"  -> {answer['experiment']}"]
    lines.append(f"{answer['configurations']} configurations in {answer['blocks']} block(s)")
    for e in answer["energies"]:
        lines.append(f"energy: {e['boundary']}, {e['basis']}, of {e['windows']} windows" + (f" ({e['words']})" if e["words"] else ""))
    lines += [f"scores: {answer['scores']} {'items' if answer['scores'] > answer['used'] else 'rows'}"] if answer["scores"] else []
    for each in answer["dropped"]:
        shown = ", ".join(map(str, each["rows"][:MOST_SHOWN])) + (", ..." if len(each["rows"]) > MOST_SHOWN else "")
        lines.append(f"not used: {len(each['rows'])} row(s) ({shown}): {each['reason']}")
    if unused := answer["unused_columns"]:
        more = f" and {len(unused) - 12} more (--json lists them)" if len(unused) > 12 else ""
        lines.append(f"columns that nothing was taken from: {', '.join(u[:60] for u in unused[:12])}{more}")
    return "\n".join([*lines, *(f"note: {note}" for note in answer["notes"])])


# --- a first mapping, to be corrected


def guess(files: tuple[Path, ...]) -> str:
    """A first mapping of a table of no known tool, as YAML with a remark wherever it is not sure."""
    import yaml

    rows = _rows_in(files[0])
    frame, base = load(files, "", {"rows": rows} if rows else {})
    if base is not None:
        return f"# These are the columns of {base.source}: no mapping is needed, say what is missing with -p.\n"
    body = {"source": files[0].name} | ({"rows": rows} if rows else {}) | {"energies": [], "columns": {}, "constants": {}, "options": {}}
    left, unsure = [], []
    for column in (str(c) for c in frame.columns if not str(c).startswith(FILE)):
        why = known_names.ambiguous(column)
        name, times = ("", 1.0) if why else known_names.our_column(column)
        if "." in column and not re.search(r"energy|power|util|temp|mem", column.rsplit(".", 1)[0].lower()):
            name, times = known_names.our_column(column.rsplit(".", 1)[1])
        ours = {"accuracy": "score", "power_w": "power_mean_w"}.get(name, name)
        task = _task(column)
        if why:
            unsure.append(f"{column}: {why}")
        elif name.startswith("energy_") and name.split("_")[1] in ("j", "wh", "kwh", "gpu") and not name.endswith("pct"):
            unit = {"energy_wh": "Wh", "energy_kwh": "kWh"}.get(name, "J") if times == 1 else cells.header_unit(column, "J")
            per = "token" if "per_token" in name else "request" if "per_request" in name else "run"
            body["energies"].append({"column": column, "unit": unit, "boundary": "gpu", "per": per})
        elif one_of_several := _pattern_of(column, frame):
            entry = {"column": one_of_several, "unit": cells.spelt(cells.header_unit(column, "J") or "J"), "boundary": "gpu", "per": "run"}
            body["energies"] += [entry] if entry not in body["energies"] else []
        elif task and "score" not in body["columns"]:
            body["columns"]["score"], body["constants"]["task"] = column, task
        elif ours in mappings.PLACES or ours in mappings.OURS:
            body["columns"].setdefault(ours, column)
        elif windows.role_of(column, frame[column], frame[column].astype(str)) == "factor":
            body["options"][re.sub(r"[^\w.]+", "_", column.lower()).strip("_")] = column
        elif re.fullmatch(r"(run|rep|repeat|repetition|trial|block|seed|iteration)s?", column.lower()) and _all_ran(frame[column]):
            body["block"] = column
        else:
            left.append(column)
    by_power = {"power_mean_w", "duration_s"} <= set(body["columns"]) or {"power_mean_w", "throughput_tok_s"} <= set(body["columns"])
    if not body["energies"] and by_power:
        timed = "duration_s" in body["columns"]
        product = " * ".join(f"`{body['columns'][n]}`" for n in ("power_mean_w", "duration_s")) if timed else ""
        quotient = "`{power_mean_w}` / `{throughput_tok_s}`".format(**body["columns"]) if not timed else ""
        body["energies"] = [{"column": product or quotient, "unit": "J", "boundary": "gpu", "per": "run" if timed else "token"}]
    body["energies"] = [
        {**e, "basis": "measured", "words": ""}
        for e in body["energies"] or [dict.fromkeys(("column", "unit"), "?") | {"boundary": "gpu", "per": "run"}]
    ]
    missing = [c for c in ("gpu", "model", "quantization", "batch_size", "input_tokens", "output_tokens") if c not in body["columns"]]
    body["constants"] |= dict.fromkeys(missing, "?")
    remarks = [
        "# A first guess. Check every line: whether boundary is gpu, cpu_package, dram or machine; whether basis is measured or estimated;",
        "# whether an energy is per run, token or request; fill in each '?'. `block`: only where each run measured everything.",
        *(f"# not read: {line[:200]}" for line in unsure),
        *([f"# nothing was taken from: {', '.join(left)[:300]}"] if left else []),
    ]
    body = {key: value for key, value in body.items() if value}
    return "\n".join(remarks) + "\n" + yaml.safe_dump(body, sort_keys=False, allow_unicode=True, width=120)


def _rows_in(path: Path) -> str:
    """Where the rows of a JSON file stand, where it is no table by itself."""
    return reading.rows_in(reading.read_documents(path)) if path.suffix == ".json" and path.is_file() else ""


def _task(column: str) -> str:
    """The task whose score a header names, such as `MMLU (%)`; "" for another header."""
    with suppress(UserError):
        return catalog.task(re.sub(r"[\s_]*(\(%\)|\[%\]|%|acc\w*|score)$", "", column.strip(), flags=re.I)).slug
    return ""


def _all_ran(runs: pd.Series) -> bool:
    """Whether every run has as many rows as the others, two at least: then each may have measured every configuration."""
    counts = runs.value_counts()
    return len(counts) > 1 and counts.nunique() == 1 and counts.iloc[0] > 1


def _pattern_of(column: str, frame: pd.DataFrame) -> str:
    """The pattern of numbered columns of energies, one a device: `gpu*_energy_j`; "" where the column is not one of several."""
    pattern = re.sub(r"\d+", "*", column, count=1)
    alike = [c for c in map(str, frame.columns) if re.sub(r"\d+", "*", c, count=1) == pattern]
    return pattern if len(alike) > 1 and "energy" in column.lower() else ""
