"""Evaluations by lm-eval that ran while a power log was recorded: the study's own procedure, read from its files.

    results_<date>.json           when it ran, how long, on what, how many items        -> a phase of the power log
    samples_<task>_<date>.jsonl   beside it, of `lm_eval --log_samples`: each item      -> scores item by item

lm-eval's clock starts before the model is loaded, so the energy of such a phase is of load and task together. A document with several
tasks has one duration for all of them: which joule was whose is not known, and it is refused.
"""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pandas as pd

from eai import catalog, schema
from eai.errors import UserError
from eai.importers import windows
from eai.importers.reading import read_json, read_table

SOURCE = "lm-eval results and a power log; load of the model included"
COLUMNS = [c.name for c in schema.SCORES]


def phase(path: Path) -> dict:
    """The evaluation of one results file as a phase: start_s and stop_s (epoch seconds), what ran, and how many items.

    Raises UserError for a document that is none of lm-eval's, has several tasks, or does not say when it ran.
    """
    document = read_json(path)
    scores = lm_eval_scores(document if isinstance(document, dict) else {}, "")
    in_groups = {name for members in document.get("group_subtasks", {}).values() for name in members}
    scores = scores[~scores["task"].isin(in_groups)]
    if len(scores) > 1:
        found, do = f"{path} holds the tasks {', '.join(scores['task'])} and one duration", "the energy cannot be split between them"
        raise UserError(found, "one task, or group such as mmlu, a run of lm_eval", f"{do}: run them one by one")
    try:
        start_s, duration_s = float(document["date"]), float(document["total_evaluation_time_seconds"])
    except (KeyError, TypeError, ValueError):
        raise UserError(f"{path} does not say when it ran", "date and total_evaluation_time_seconds", "use a newer lm_eval") from None
    row = scores.iloc[0]
    return {"start_s": start_s, "stop_s": start_s + duration_s} | _configuration(document, row) | {"requests": row["n_items"]}


def _configuration(document: dict, row: pd.Series) -> dict:
    """What the document says of the configuration; what it leaves open is left out, and has to be said by whoever imports it."""
    asked, config = _model_args(document), document.get("config", {})
    version = {str(document.get("versions", {}).get(name)) for name in _leaves(document, row["task"])}
    options = {"fewshot": None if pd.isna(row["few_shot"]) else int(row["few_shot"]), "version": ",".join(sorted(version))}
    options |= {"limit": config["limit"]} if config.get("limit") else {}
    found = {"task": row["task"], "input_tokens": 0, "output_tokens": 0, "options": options}
    found |= {"model": asked.get("pretrained") or document.get("model_name"), "quantization": _quantization(asked)}
    found |= {"batch_size": config.get("batch_size") if str(config.get("batch_size")).isdecimal() else None}
    return {name: value for name, value in found.items() if value is not None}


def _leaves(document: dict, task: str) -> list[str]:
    """The tasks that hold the items of `task`: itself, or those of a group, whose version is theirs."""
    members = document.get("group_subtasks", {}).get(task) or []
    return [leaf for member in members for leaf in _leaves(document, member)] or [task]


def _model_args(document: dict) -> dict[str, str]:
    """lm-eval's model arguments, which it writes as `pretrained=org/name,dtype=float16` or as a mapping."""
    said = document.get("config", {}).get("model_args") or {}
    pairs = said.items() if isinstance(said, dict) else (part.split("=", 1) for part in str(said).split(",") if "=" in part)
    return {str(key).strip(): str(value).strip() for key, value in pairs}


def _quantization(asked: dict[str, str]) -> str | None:
    """The strategy that the model arguments ask transformers for; None where they leave it open."""
    if asked.get("load_in_8bit") == "True":
        threshold = float(asked.get("llm_int8_threshold", 6))
        return {6.0: "int8_default", 0.0: "int8_pure"}.get(threshold, f"int8_t{threshold:g}")
    if asked.get("load_in_4bit") == "True":
        kind = asked.get("bnb_4bit_quant_type", "fp4")
        double = kind == "nf4" and asked.get("bnb_4bit_use_double_quant") == "True"
        return "nf4_dq" if double else kind if kind in ("nf4", "fp4") else None
    return windows.DTYPES.get(asked.get("dtype", "").removeprefix("torch."))


def items(path: Path, windows: pd.DataFrame) -> pd.DataFrame:
    """The scores of a results file item by item (schema.SCORES) for its window, the only row of `windows`; empty without samples.

    An item is named as in a measured window, `task/number`. Raises UserError where the samples do not add up to the stated score.
    """
    document = read_json(path)
    (window,) = windows.to_dict("records")
    stated = lm_eval_scores(document, "").set_index("task").loc[window["task"]]
    name, _, filtered = stated["metric"].partition(",")
    parts = []
    for leaf in _leaves(document, window["task"]):
        file = path.with_name(f"samples_{leaf}{path.stem.removeprefix('results')}.jsonl")
        if not file.is_file():
            return pd.DataFrame(columns=COLUMNS)
        rows = read_table(file)
        rows = rows[rows["filter"] == filtered] if filtered and "filter" in rows else rows
        if absent := [c for c in ("doc_id", name) if c not in rows]:
            raise UserError(f"{file} has no {', '.join(absent)}", "lm-eval's samples", "write them with lm_eval --log_samples")
        parts.append(pd.DataFrame({"item": [f"{leaf}/{n}" for n in rows["doc_id"]], "score": rows[name].astype(float)}))
    table = pd.concat(parts, ignore_index=True)
    if abs(table["score"].mean() - stated["score"]) > 1e-6:
        found = f"the samples beside {path} score {table['score'].mean():.6f} and the document says {stated['score']:.6f}"
        raise UserError(found, "samples of the same run", "take away the samples that are not of it")
    return table.assign(metric=name, **{key: window[key] for key in (*schema.WINDOW_KEY, "attempt", "task")}).reindex(columns=COLUMNS)


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
    known, parts = results.get(field, {}), results.get("group_subtasks", {}).get(task) or []
    if task in known or not parts:
        found = known.get(task)
        return found.get("effective", found.get("original")) if isinstance(found, dict) else found
    counts = [_of_leaves(results, field, part, joined) for part in parts]
    return joined(counts) if None not in counts else None


def joined(files: list[Path], frame: pd.DataFrame) -> pd.DataFrame:
    """The scores of results files for the windows that measured the same task on the same model (and strategy, where a file says it).

    One row a window, standing for all items. Raises UserError for a file that fits no window: an EOR is the score of a task over the energy
    of that same task.
    """
    parts = []
    for file in files:
        document = read_json(file)
        scores = lm_eval_scores(document if isinstance(document, dict) else {}, "")
        asked = _model_args(document)
        model, strategy = windows.slug("model", asked.get("pretrained") or document.get("model_name") or ""), _quantization(asked)
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
    return table.reindex(columns=COLUMNS)
