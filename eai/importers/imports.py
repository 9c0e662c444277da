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

import numpy as np
import pandas as pd

from eai import catalog, cells, schema
from eai.analyze.selection import BOUNDARY_ORDER
from eai.errors import UserError
from eai.importers import mappings, reading, windows
from eai.importers.mappings import Energy, Mapping
from eai.importers.reading import FILE, read_table, read_tables
from eai.inputs import yaml_mapping

LM_EVAL = "lm-eval results and a power log; load of the model included"
SCORE_COLUMNS = [c.name for c in schema.SCORES]
ALIASES = {
    "mlenergy": "ml-energy-3", "ml-energy": "ml-energy-3", "llm-perf": "optimum-benchmark", "llmperf": "optimum-benchmark",
    "vllm": "vllm-bench", "genai-perf": "aiperf",
}  # fmt: skip
LOGS = {"lm-eval": LM_EVAL, "nvidia-smi": "power log and a table of phases"}
BOARD = Energy("power log", "J", "gpu", "measured", words="power readings of the board, integrated")
MOST_SHOWN = 6
WANTED = "a mapping as docs/importing.md shows"
ReadPower = Callable[[Path], Callable[[float, float], list[dict]]]
"""Reads a power log; what it answers gives the joules of each device between two instants, as `windows.convert` asks for them."""


@dataclass(frozen=True)
class Asked:
    """An import's options: files, the tool's name, a mapping file, values for every row, phases, power log, lm-eval results, and columns
    that are no factors."""

    files: tuple[Path, ...]
    tool: str = ""
    mapping: Path | None = None
    constants: dict[str, object] = field(default_factory=dict)
    phases: Path | None = None
    power: Path | None = None
    scores: tuple[Path, ...] = ()
    ignore: tuple[str, ...] = ()


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


def read(asked: Asked, read_power: ReadPower) -> Imported:
    """The tables of what was asked for.

    Raises UserError for a tool nobody knows, files that cannot be read, what is not said, and where no row can be used.
    """
    known = [*mappings.tools(), *LOGS]
    plain = {k.replace("-", ""): v for k, v in (dict(zip(known, known, strict=True)) | ALIASES).items()}
    name = asked.tool.lower().replace("-", "").replace("_", "").replace(" ", "")
    if name and name not in plain:
        near = f"one of {', '.join(known)}{mappings.nearest(asked.tool, plain.values())}"
        raise UserError(f"format '{asked.tool}'", near, "or say with --mapping which column is which")
    tool, document = plain.get(name, ""), yaml_mapping(asked.mapping, WANTED) if asked.mapping else {}
    found = (_phases if tool in LOGS else _table)(asked, tool, document, read_power)
    if found.windows["status"].ne("ok").all():
        why = found.windows["reason"].value_counts()
        raise UserError(f"none of the {len(found.windows)} rows can be used ({why.index[0]})", "a measured energy", "nothing was written")
    windows.possible(found.windows, found.energies)
    return replace(found, scores=joined(list(asked.scores), found.windows)) if asked.scores else found


def _completed(asked: Asked, document: object, base: Mapping | None) -> Mapping:
    """The tool's mapping, completed by the user's and by -p; a power log beside makes energies needless."""
    if asked.power is not None and base is None and isinstance(document, dict) and not document.get("energies"):
        base = Mapping("unnamed", ())
    mapping = mappings.with_constants(mappings.mapping_from(document, base), asked.constants)
    return replace(mapping, ignore=mapping.ignore + asked.ignore)


def _unused(frame: pd.DataFrame, used: set) -> tuple[str, ...]:
    return tuple(str(c) for c in frame.columns if c not in used and not str(c).startswith(FILE))


def _table(asked: Asked, tool: str, document: object, read_power: ReadPower) -> Imported:
    """A table of rows with their energies in it, or with a power log beside."""
    frame, base = load(asked.files, tool, document)
    if base is None and asked.mapping is None:
        expected = f"--format (one of {', '.join([*mappings.tools(), *LOGS])}) or --mapping"
        raise UserError("no known tool by these columns", expected, "eai import FILE --guess writes a first mapping")
    mapping = _completed(asked, document, base)
    found = windows.convert(frame, mapping, read_power(asked.power) if asked.power else None)
    if asked.power:
        words = BOARD.words if mapping.log_boundary == "gpu" else f"power of the {mapping.log_boundary}, integrated"
        mapping = replace(mapping, energies=(replace(BOARD, boundary=mapping.log_boundary, words=words),))
    zeros = []
    for energy in (e for e in mapping.energies if e.column in frame):
        values = pd.to_numeric(frame[energy.column], errors="coerce")
        if off := int((values <= 0).sum()):
            what = "0" if not (values < 0).any() else "not above 0"
            zeros.append(f"{energy.column} is {what} in {off} of {len(frame)} rows: the {energy.boundary} was not measured")
    return Imported(found.windows, found.energies, found.scores, mapping, _unused(frame, found.used), (*found.notes, *zeros))


def load(files, tool: str, document: object) -> tuple[pd.DataFrame, Mapping | None]:
    """The rows of the files and the mapping of their tool: the one named, else the one whose columns they have, else None."""
    own, known = str(document.get("rows", "")) if isinstance(document, dict) else "", mappings.tools()
    if tool:
        base = known[tool]
        try:
            return read_tables(files, own or base.rows), base
        except UserError:  # somebody may have flattened them before
            frame = read_tables(files)
            if (own or base.rows) and set(base.match) <= set(frame.columns):
                return frame, base
            raise
    nested = "" if own else reading.rows_in(Path(files[0]))
    is_nested = Path(files[0]).suffix in (".json", ".jsonl")
    for rows in dict.fromkeys([own, *(m.rows for m in known.values() if is_nested)]):
        try:
            frame = read_tables(files, rows)
        except UserError:
            if rows == own:
                raise
            continue
        if (name := mappings.recognise(frame.columns)) and (known[name].rows == rows or not rows):
            return frame, known[name]
    return read_tables(files, own or nested), None


def _phases(asked: Asked, tool: str, document: object, read_power: ReadPower) -> Imported:
    """A power log cut by a table of phases, or by evaluations that say when they ran."""
    if tool == "lm-eval" and asked.power is None:
        raise UserError("lm-eval's results hold no energy", "the power log that was recorded beside them", "name it with --power")
    if tool == "nvidia-smi" and asked.phases is None:
        raise UserError("a power log alone", "a table of what ran when, with start_s and stop_s", "name it with --phases")
    if tool == "nvidia-smi" and len(asked.files) > 1:
        do = "import them one by one, then `eai merge`"
        raise UserError(f"{len(asked.files)} power logs", "one log, which may hold several cards", do)
    phases = read_table(asked.phases) if tool == "nvidia-smi" else pd.DataFrame([phase(path) for path in asked.files])
    own = [c for c in phases.columns if c in mappings.OURS and c not in ("duration_s", "options", *asked.constants)]
    base = Mapping(LOGS[tool], (BOARD,), {c: c for c in own} | ({"options": "options"} if "options" in phases else {}))
    mapping = _completed(asked, document, base)
    found = windows.of_phases(phases, read_power(asked.power or asked.files[0]), mapping)
    scores = found.scores
    if tool == "lm-eval":
        scores = pd.concat([items(path, found.windows.iloc[[i]]) for i, path in enumerate(asked.files)], ignore_index=True)
    unused = _unused(phases, {"start_s", "stop_s", *found.used})
    return Imported(found.windows, found.energies, scores, mapping, unused, found.notes)


def account(found: Imported) -> dict:
    """What became of the source's rows: `{source, rows, used, configurations, blocks, energies, dropped, unused_columns, scores, notes}`.

    `energies`: boundary, basis, the source's words and number of windows that have one; `dropped`: each reason with its rows, from 1;
    `notes`: what a reader of the numbers should know beforehand.
    """
    rows, energies, notes, mapping = found.windows.reset_index(drop=True), found.energies, list(found.notes), found.mapping
    ok = rows["status"].eq("ok")
    if rows["block"].nunique() < 2:
        notes.append("one block: ratios get no interval and no test; name the source's runs with `block` if each ran every configuration")
    boundary = next(b for b in (*BOUNDARY_ORDER, *schema.BOUNDARIES) if energies["boundary"].eq(b).any())
    if without := int((ok & ~rows["attempt"].isin(energies.loc[energies["boundary"] == boundary, "attempt"])).sum()):
        notes.append(f"{without} of these rows have no energy of boundary {boundary}, which an analysis takes: it leaves them out")
    if boundary not in ("gpu", "machine") and rows.loc[ok, "gpu"].ne("cpu").any():
        left = f"what is left is of boundary {boundary}, and says nothing about the card"
        notes.append(f"the GPU did the work and has no energy here: {left}")
    cards = rows["options"].str.extract(r'"num_gpus":(\d+)')[0].dropna().astype(int)
    if len(cards) and cards.max() > 1:
        notes.append(f"energies are of up to {cards.max()} cards together (num_gpus)")
    if rows["flags"].explode().eq("nominal_window").any():
        notes.append("the source states rates only: a window stands for one second of them, and totals are not stated")
    if rows["tokens_out"].isna().all() and rows["requests"].isna().all():
        notes.append("neither output tokens nor requests are said: there is no energy per token; say -p tokens_out=... or map it")
    if mapping.source == LM_EVAL:
        notes.append("energy and duration are of the whole evaluation, load of the model included")
        if found.scores.empty:
            notes.append("no scores: there are no samples_*.jsonl beside the results; lm_eval --log_samples writes them")
    kinds = energies.groupby(["boundary", "basis"], sort=False)["attempt"].nunique().reset_index(name="windows")
    words = {e.boundary: e.words for e in mapping.energies}
    return {
        "source": mapping.source,
        "rows": len(rows),
        "used": int(ok.sum()),
        "configurations": int(rows.loc[ok, "configuration_id"].nunique()),
        "blocks": int(rows["block"].nunique()),
        "energies": [{**kind, "words": words.get(kind["boundary"], "")} for kind in kinds.to_dict("records")],
        "dropped": [
            {"status": status, "reason": reason, "rows": [int(i) + 1 for i in each.index]}
            for (status, reason), each in rows[~ok].groupby(["status", "reason"], sort=False)
        ],
        "unused_columns": list(found.unused),
        "scores": len(found.scores),
        "baseline": mapping.baseline,
        "notes": list(dict.fromkeys(notes)),
    }


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


# --- evaluations by lm-eval that ran while a power log was recorded


def phase(path: Path) -> dict:
    """The evaluation of one lm-eval results file as a phase: start_s and stop_s (epoch seconds), what ran, how many items; what it leaves
    open is left out.

    lm-eval's clock starts before the model is loaded, so such a phase is of load and task together. Raises UserError for a document that is
    none of lm-eval's, has several tasks (which joule was whose is not known), or does not say when it ran.
    """
    document = reading.read_documents(path)[0]
    scores = lm_eval_scores(document, "")
    in_groups = {name for members in document.get("group_subtasks", {}).values() for name in members}
    scores = scores[~scores["task"].isin(in_groups)]
    if len(scores) > 1:
        found, do = f"{path} holds the tasks {', '.join(scores['task'])} and one duration", "the energy cannot be split between them"
        raise UserError(found, "one task, or group such as mmlu, a run of lm_eval", f"{do}: run them one by one")
    try:
        start_s, duration_s = float(document["date"]), float(document["total_evaluation_time_seconds"])
    except (KeyError, TypeError, ValueError):
        raise UserError(f"{path} does not say when it ran", "date and total_evaluation_time_seconds", "use a newer lm_eval") from None
    row, (model, strategy), config = scores.iloc[0], _asked_of(document), document.get("config", {})
    version = {str(document.get("versions", {}).get(name)) for name in _leaves(document, row["task"])}
    options = {"fewshot": None if pd.isna(row["few_shot"]) else int(row["few_shot"]), "version": ",".join(sorted(version))}
    options |= {"limit": config["limit"]} if config.get("limit") else {}
    found = {"task": row["task"], "input_tokens": 0, "output_tokens": 0, "options": options, "model": model, "quantization": strategy}
    found |= {"batch_size": config.get("batch_size") if str(config.get("batch_size")).isdecimal() else None}
    known = {name: value for name, value in found.items() if value is not None}
    return {"start_s": start_s, "stop_s": start_s + duration_s} | known | {"requests": row["n_items"]}


def _leaves(document: dict, task: str) -> list[str]:
    """The tasks that hold the items of `task`: itself, or those of a group, whose version is theirs."""
    members = document.get("group_subtasks", {}).get(task) or []
    return [leaf for member in members for leaf in _leaves(document, member)] or [task]


def _asked_of(document: dict) -> tuple[str | None, str | None]:
    """(model, strategy) that lm-eval was asked for, as `pretrained=org/name,dtype=float16` or a mapping; None where it leaves them open."""
    said = document.get("config", {}).get("model_args") or {}
    pairs = said.items() if isinstance(said, dict) else (part.split("=", 1) for part in str(said).split(",") if "=" in part)
    asked = {str(key).strip(): str(value).strip() for key, value in pairs}
    strategy = windows.DTYPES.get(asked.get("dtype", "").removeprefix("torch."))
    if asked.get("load_in_8bit") == "True":
        threshold = float(asked.get("llm_int8_threshold", 6))
        strategy = {6.0: "int8_default", 0.0: "int8_pure"}.get(threshold, f"int8_t{threshold:g}")
    elif asked.get("load_in_4bit") == "True":
        kind = asked.get("bnb_4bit_quant_type", "fp4")
        double = kind == "nf4" and asked.get("bnb_4bit_use_double_quant") == "True"
        strategy = "nf4_dq" if double else kind if kind in ("nf4", "fp4") else None
    return asked.get("pretrained") or document.get("model_name"), strategy


def items(path: Path, measured: pd.DataFrame) -> pd.DataFrame:
    """The scores of a results file item by item (schema.SCORES) for its window, the only row of `measured`; empty without samples.

    An item is named as in a measured window, `task/number`. Raises UserError where the samples do not add up to the stated score.
    """
    document = reading.read_documents(path)[0]
    (window,) = measured.to_dict("records")
    stated = lm_eval_scores(document, "").set_index("task").loc[window["task"]]
    name, _, filtered = stated["metric"].partition(",")
    parts = []
    for leaf in _leaves(document, window["task"]):
        file = path.with_name(f"samples_{leaf}{path.stem.removeprefix('results')}.jsonl")
        if not file.is_file():
            return pd.DataFrame(columns=SCORE_COLUMNS)
        rows = read_table(file)
        rows = rows[rows["filter"] == filtered] if filtered and "filter" in rows else rows
        if absent := [c for c in ("doc_id", name) if c not in rows]:
            raise UserError(f"{file} has no {', '.join(absent)}", "lm-eval's samples", "write them with lm_eval --log_samples")
        parts.append(pd.DataFrame({"item": [f"{leaf}/{n}" for n in rows["doc_id"]], "score": rows[name].astype(float)}))
    table = pd.concat(parts, ignore_index=True)
    if abs(table["score"].mean() - stated["score"]) > 1e-6:
        found = f"the samples beside {path} score {table['score'].mean():.6f} and the document says {stated['score']:.6f}"
        raise UserError(found, "samples of the same run", "take away the samples that are not of it")
    return table.assign(metric=name, **{key: window[key] for key in (*schema.WINDOW_KEY, "attempt", "task")}).reindex(columns=SCORE_COLUMNS)


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
        wanted = (metrics or {}).get(task)
        with suppress(UserError):
            wanted = wanted or catalog.task(task).metric
        if wanted is None:
            continue
        key = next((k for k in numbers if k == wanted or k.split(",")[0] == wanted), None)
        if key is None:
            raise UserError(f"task {task} has no {wanted}", f"one of {', '.join(k for k in numbers if ',' in k)}", "name its metric")
        row = {"configuration_id": configuration_id, "task": task, "version": results.get("versions", {}).get(task)}
        score = pd.to_numeric(str(numbers[key]), errors="coerce")
        if not 0 <= score <= 1:  # `N/A`, NaN, a percentage
            do = "leave the task out, or divide percentages by 100"
            raise UserError(f"{key} of {task} is {numbers[key]}", "a fraction in [0, 1]", do)
        row |= {"few_shot": _of_leaves(results, "n-shot", task, max), "metric": key, "score": float(score)}
        rows.append(row | {"n_items": _of_leaves(results, "n-samples", task, sum)})
    if not rows:
        raise UserError(f"tasks {', '.join(results['results'])}", "one whose metric is known", "pass metrics={task: metric}")
    return pd.DataFrame(rows)


def _of_leaves(results: dict, field: str, task: str, joined: Callable[[list], int]) -> int | None:
    """A count of a task, of a group (mmlu) joined over the subtasks that make it up; None where the document does not say it."""
    known = results.get(field, {})
    counts = [known.get(leaf) for leaf in ([task] if task in known else _leaves(results, task))]
    counts = [c.get("effective", c.get("original")) if isinstance(c, dict) else c for c in counts]
    return joined(counts) if None not in counts else None


def joined(files: list[Path], frame: pd.DataFrame) -> pd.DataFrame:
    """The scores of results files for the windows that measured the same task on the same model (and strategy, where a file says it).

    One row a window, standing for all items. Raises UserError for a file that fits no window: an EOR is the score of a task over the energy
    of that same task.
    """
    parts = []
    for file in files:
        document = reading.read_documents(file)[0]
        scores, (model, strategy) = lm_eval_scores(document, ""), _asked_of(document)
        model = windows.slug("model", model or "")
        fits = frame[(frame["status"] == "ok") & (frame["model"] == model)]
        fits = fits[fits["quantization"] == strategy] if strategy else fits
        both = fits.merge(scores.assign(task=[windows.slug("task", t) for t in scores["task"]]).drop(columns="configuration_id"), on="task")
        if both.empty:
            who = f"{', '.join(scores['task'][:3])} of {model}{f', {strategy}' if strategy else ''}"
            tasks, models = (", ".join(sorted(set(frame[c])))[:60] for c in ("task", "model"))
            expected = f"a row of that task; the rows are of {tasks} on {models}"
            do = "an EOR is the score of a task over the energy of that task"
            raise UserError(f"{file} scores {who}, which no row measured", expected, do)
        parts.append(both.assign(item="all of " + both["configuration_id"], items=both["n_items"].fillna(0).astype(int)))
    table = pd.concat(parts, ignore_index=True)
    if (twice := table.duplicated(["attempt"])).any():
        found = f"two results files score row {table.loc[twice.idxmax(), 'attempt']}"
        raise UserError(found, "one score a configuration", "name one of them")
    return table.reindex(columns=SCORE_COLUMNS)


# --- a first mapping, to be corrected


def guess(files: tuple[Path, ...]) -> str:
    """A first mapping of a table of no known tool, as YAML with a remark wherever it is not sure."""
    import yaml

    rows = reading.rows_in(files[0])
    frame, base = load(files, "", {"rows": rows} if rows else {})
    if base is not None:
        return f"# These are the columns of {base.source}: no mapping is needed, say what is missing with -p.\n"
    is_stated = {c: frame[c].map(lambda v: str(v).strip() not in ("", "nan", "None")).any() for c in frame}
    frame = frame[[c for c in frame if not str(c).startswith(FILE) and is_stated[c]]]
    texts, remarks, left = {c: frame[c].astype(str) for c in frame}, [], []
    energies, columns, constants, options, units, split, extra = [], {}, {}, {}, {}, {}, {}
    for column in map(str, frame.columns):
        cells_, low, distinct = frame[column], column.lower(), texts[column].nunique()
        pattern, why = re.sub(r"\d+", "*", column, count=1), mappings.ambiguous(column)
        several = "energy" in low and sum(re.sub(r"\d+", "*", str(c), count=1) == pattern for c in frame) > 1  # one device a column
        name, task = "" if why else _named(column, cells_), _task(column)
        if why:
            remarks.append(f"not read: {column}: {why}")
        elif several:
            entry = {"column": pattern, "unit": cells.spelt(cells.header_unit(column, "J") or "J"), "boundary": "gpu", "per": "run"}
            energies += [entry] if entry not in energies else []
        elif name.startswith("energy"):
            energies.append(_energy(column, name))
        elif task and "score" not in columns:
            columns["score"], constants["task"] = column, task
        elif name in mappings.OURS and name not in columns:
            columns[name], last = column, column.rsplit(".", 1)[-1]
            plain = name == last or mappings.our_column(last)[0] in mappings.RECOGNISED or mappings.meaning(last)[1]
            units |= {name: "?"} if mappings.unit_of(name)[0] in ("s", "W") and not plain else {}
        elif (runs := _runs_in(cells_)) and "block" not in extra:
            split[column], extra["block"] = runs
        elif re.fullmatch(r"(run|rep|repeat|repetition|trial|block|seed|iteration)s?", low) and _all_ran(cells_):
            extra["block"] = column
        elif re.search(r"(prompt|question|sample|request|item|query)(_?id|_?index)?$", low) and distinct > len(frame) / 2:
            extra["per"] = "request"
        elif windows.role_of(column, cells_, texts[column]) == "factor" and 1 < distinct <= len(frame) / 2:
            options[re.sub(r"[^\w.]+", "_", low).strip("_")] = column
        else:
            left += [column] if distinct > 1 else []
    if "key" in frame and "quantization" not in columns and any(not windows.strategy(k).startswith("unspec") for k in texts["key"]):
        columns["quantization"] = "key"
    if "task" not in columns and (task := next((t for t in map(_task, rows.split(".")) if t), "")):
        constants["task"] = task
    if "model" in columns and texts[columns["model"]].str.fullmatch(mappings.TAGGED).all():
        split[columns["model"]], columns["model"] = mappings.TAGGED, "base"
        columns.setdefault("quantization", "tag")
        frame = mappings.prepared(frame, Mapping("", (), split=split))
    fixed = [c for n, c in columns.items() if n in schema.CONFIGURATION]
    for option, column in list(options.items()):  # what follows from the rest is no factor of its own
        if not fixed or frame.astype(str).groupby(fixed)[column].nunique().max() > 1:
            fixed.append(column)
        else:
            del options[option]
    energies = [e | {"basis": "measured", "words": ""} for e in _told_once(energies, columns, remarks)]
    if "duration_s" not in columns and {"tokens_out", "throughput_tok_s"} <= set(columns):
        columns["duration_s"] = "`{tokens_out}` / `{throughput_tok_s}`".format(**columns)
    elif "duration_s" not in columns and "latency_s" in columns:
        many = columns.get("requests") or columns.get("n_items")
        columns["duration_s"] = f"`{columns['latency_s']}` * `{many}`" if many else columns["latency_s"] if "per" in extra else "?"
        remarks.append(f"duration_s: {columns['latency_s']} times the number of requests is right where they ran one after the other")
        energies = [e | {"per": e["per"] if many or "per" in extra or e["per"] == "token" else "request"} for e in energies]
    if "score" in columns and cells.floats(frame[columns["score"]]).max() > 1:
        extra["score_unit"] = "percent"
    labels = frame[columns["quantization"]].dropna().astype(str).unique() if "quantization" in columns else []
    odd = [label for label in labels if windows.strategy(label).startswith("unspecified")]
    extra |= {"values": {"quantization": dict.fromkeys(odd, "?")}} if odd else {}
    constants |= dict.fromkeys([c for c in ("gpu", "model", "quantization", "batch_size") if c not in columns], "?")
    constants |= {n: 0 if {"score", "task"} & {*columns, *constants} else "?" for n in windows.LENGTHS if n not in columns}
    if "score" in columns:
        constants |= {n: "?" for n in ("task", "n_items") if n not in {*columns, *constants} and not (n == "n_items" and "per" in extra)}
    head = [
        "A first guess. Check every line: whether boundary is gpu, cpu_package, dram or machine; whether basis is measured or estimated;",
        "whether an energy is per run, token or request; fill in each '?'. `block`: only where each run measured everything.",
        *(line[:220] for line in remarks),
        *([f"nothing was taken from: {', '.join(left)[:300]}"] if left else []),
    ]
    body = {"source": files[0].name, "rows": rows, "energies": energies, "columns": columns, "constants": constants, "options": options}
    body = {key: value for key, value in (body | {"units": units, "split": split} | extra).items() if value}
    return "".join(f"# {line}\n" for line in head) + yaml.safe_dump(body, sort_keys=False, allow_unicode=True, width=120)


def _named(column: str, cells_: pd.Series) -> str:
    """Our name for a column by its header and what its cells hold; `energy...` for an energy, whose unit need not be known."""
    part = column if re.search(r"energy|power|util|temp|mem", column.rsplit(".", 1)[0].lower()) else column.rsplit(".", 1)[-1]
    name = mappings.our_column(part)[0]
    if name not in mappings.RECOGNISED and name not in mappings.OURS:
        name = mappings.meaning(part)[0] or ("energy_net" if re.search(r"energy_net|net_energy", name) else "")
    name = {"accuracy": "score", "accuracy_pct": "score", "power_w": "power_mean_w", "power": "power_mean_w"}.get(name, name)
    name = f"{name}_s" if name in ("latency", "ttft", "itl", "duration") else name
    name = windows.COUNTS[name] if name in windows.LENGTHS and windows.counted(cells_) else name
    if (name == "gpu" and cells_.astype(str).str.lower().isin(("cuda", "gpu")).all()) or name.endswith("pct"):
        return ""
    is_text = name in ("gpu", "model", "quantization", "task", "engine")
    return name if is_text or np.isfinite(cells.numbers(cells_, mappings.unit_of(name)[0])[0]).any() else ""


def _energy(column: str, name: str) -> dict[str, str]:
    """A first entry of the mapping's energies for a column; a unit that the header does not state is asked for."""
    words = set(mappings.words_of(column))
    per = "token" if "per_token" in name else "request" if "per_request" in name else "run"
    part = next((p for p, marks in mappings.PARTS.items() if words & marks), "")
    boundary = {"cpu": "cpu_package", "ram": "dram"}.get(part, "machine" if words & mappings.MACHINE else "gpu")
    unit = mappings.meaning(column)[1] or cells.header_unit(column, "J") or ("J" if "j" in words else "")
    return {"column": column, "unit": cells.spelt(unit) if unit else "?", "boundary": boundary, "per": per}


def _told_once(energies: list[dict], columns: dict, remarks: list[str]) -> list[dict]:
    """The energies, each boundary once: a figure a token or in another unit beside that of the run is left to `eai check`.

    Without an energy, power times time or over a rate; else a `?`.
    """
    power, time, rate = columns.get("power_mean_w"), columns.get("duration_s") or columns.get("latency_s"), columns.get("throughput_tok_s")
    net = [e for e in energies if power and time and "net" in mappings.words_of(e["column"])]
    remarks += [f"not taken: {e['column']}, which is net of idle power: power times time is gross, as others state it" for e in net]
    kept = {}
    for energy in sorted((e for e in energies if e not in net), key=lambda e: (e["per"] != "run", e["unit"] != "J")):
        first = kept.setdefault(energy["boundary"] + energy["column"] * ("*" in energy["column"]), energy)
        if first is not energy:
            remarks.append(f"not taken: {energy['column']}, beside {first['column']} (`eai check` compares them)")
    if kept:
        return list(kept.values())
    if power and (time or rate):
        per = "token" if not time else "run" if "duration_s" in columns else "request"
        return [{"column": f"`{power}` * `{time}`" if time else f"`{power}` / `{rate}`", "unit": "J", "boundary": "gpu", "per": per}]
    return [{"column": "?", "unit": "?", "boundary": "gpu", "per": "run"}]


def _runs_in(cells_: pd.Series) -> tuple[str, str] | None:
    """The pattern that takes the run out of names such as `run_3_repetition_0`, and the part that holds it; None for other cells."""
    for mark in ("repetition", "repeat", "rep", "trial", "run"):
        found = cells_.astype(str).str.extract(rf"(?:.*[_-])?{mark}[_-]?(\d+)$")[0]
        if found.notna().all() and _all_ran(found):
            return rf"{mark}[_-]?(?P<{mark}>\d+)$", mark
    return None


def _task(column: str) -> str:
    """The task whose score a header names, such as `MMLU (%)`; "" for another header."""
    with suppress(UserError):
        return catalog.task(re.sub(r"[\s_]*(\(%\)|\[%\]|%|acc\w*|score)$", "", column.strip(), flags=re.I)).slug
    return ""


def _all_ran(runs: pd.Series) -> bool:
    """Whether every run has as many rows as the others, two at least: then each may have measured every configuration."""
    counts = runs.value_counts()
    return len(counts) > 1 and counts.nunique() == 1 and counts.iloc[0] > 1
