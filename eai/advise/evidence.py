"""What a configuration is expected to cost: a measured or published row where there is one, else a prediction; its accuracy; and what
to type to run, measure and verify it.

Every protocol takes its numbers from here. A row's interval is for another session of the same configuration. What the predictions of one
card and engine share cancels among them, and only among them.
"""

import hashlib
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from eai import catalog, paths, strategies, tables
from eai.advise.page import percent, signed
from eai.advise.request import SHAPE, STATED, Configuration, cannot_run, fits, memory, native
from eai.catalog import NORMAL_95, Model
from eai.errors import UserError
from eai.footprint import PUBLISHED_ONLY
from eai.predict import predictor, sources
from eai.predict.predictor import predict
from eai.predict.sources import SAME_WORK
from eai.quantity import Quantity

UNITS = {"energy_j_per_token": "J", "power_w": "W", "throughput_tok_s": "tok/s", "itl_s": "s"}
LENGTH_EFFECT = 0.10
SAME_BATCH = 0.02
"""A served load is an average: 7.998 sequences in flight are 8."""
SHARED = 0.7
"""The share of a prediction's error variance that predictions for one card and engine have in common: it changes none of their ranks."""
IDLE_SHARE, IDLE_FACTOR = 0.12, 1.8
UNQUANTIZED = {"fp16": "float16", "bf16": "bfloat16", "fp32": "float32"}
"""Strategies that load a model as it is, and torch's name of each."""
BOARDS = ("gpu", "module", "soc")
KEYS = ["gpu", "num_gpus", "shape", "strategy", "engine", "batch_size"]
FIGURES = [f"{name}{end}" for name in UNITS for end in ("", "_low", "_high")]
MILD_PERPLEXITY, BETTER_THAN_POSSIBLE = 0.05, -0.03
MOST_SEEN = 20_000
NEW = {
    "known": "card, engine and size are known",
    "new_card": "the card is new to the rows",
    "new_engine": "the engine is new on this card",
    "new_model": "the model is new to the rows",
    "new_both": "card and engine or model are new to the rows",
}

OWN: list[str] = []
_seen: dict[Configuration, tuple["Cost | None", str]] = {}


def use(experiments: Sequence[str]) -> None:
    """Take the user's measured experiments (names or folders) into the evidence of every later answer; an empty list takes them out."""
    if list(experiments) != OWN:
        OWN[:] = experiments
        for kept in (_tables, by_key, accuracy):
            kept.cache_clear()
        _seen.clear()


def within(value: float, half: float, unit: str = "") -> Quantity:
    """A value with the 95 % interval of a log-normal error of this half width."""
    return Quantity(float(value), float(value * np.exp(-half)), float(value * np.exp(half)), unit)


def scaled(q: Quantity, factor: float, unit: str) -> Quantity:
    """A quantity times an exact positive number, in another unit."""
    return replace(q * float(factor), unit=unit)


def inverse(number: float, q: Quantity, unit: str) -> Quantity:
    """An exact number over a quantity, whose ends change places; empty where the quantity is not known."""
    if q.value is None or not np.isfinite(q.value):
        return Quantity(None, unit=unit)
    return Quantity(number / q.value, *((None, None) if q.low is None else (number / q.high, number / q.low)), unit)


def sd_log(q: Quantity, least: float = 0.0) -> float:
    """Standard deviation of the logarithm behind a 95 % interval, at least `least`."""
    return least if q.low is None else max(least, float(np.log(q.high / q.low)) / 2 / NORMAL_95)


@dataclass(frozen=True)
class Cost:
    """What a configuration costs, gross at the GPUs' boards, and how that is known. `basis`: measured | published | predicted | given;
    `kind`: of a prediction what is new about it, else `row`; `sd_own`: the error of the log energy not shared by predictions of one card
    and engine."""

    energy_j_per_token: Quantity
    power_w: Quantity
    throughput_tok_s: Quantity
    itl_s: Quantity
    basis: str
    kind: str
    evidence: tuple[str, ...]
    warnings: tuple[str, ...] = ()
    sd_own: float = 0.0
    sd_shared: float = 0.0

    @property
    def energy_j_per_1k_tok(self) -> Quantity:
        return self.energy_j_per_token * 1e3

    def latency_s(self, c: Configuration) -> Quantity:
        """Time of one request in flight with its batch [s], without waiting."""
        return inverse(c.batch_size * c.output_tokens, self.throughput_tok_s, "s")

    @property
    def stated_error(self) -> float | None:
        """Half the width of the energy's 95 % interval as a factor less one: 0.3 is a factor of 1.3 either way."""
        q = self.energy_j_per_token
        return None if q.low is None else float(np.sqrt(q.high / q.low) - 1)

    def to_json(self) -> dict[str, Any]:
        found = {name: getattr(self, name).to_json() for name in (*UNITS, "energy_j_per_1k_tok")}
        found |= {"basis": self.basis, "kind": self.kind, "stated_error": self.stated_error}
        return found | {"evidence": list(self.evidence), "warnings": list(self.warnings)}


def canonical(quantization: str) -> str:
    """The strategy whose rows stand for this one: it moves and computes the same bytes."""
    return SAME_WORK.get(quantization, quantization)


@cache
def shape_of(name: str) -> str:
    """The shape of a model by name, as text: models of one shape do the same work. An unknown name is its own shape."""
    try:
        s = catalog.shape(name)
    except UserError:
        return name
    return f"{s.layers}x{s.hidden}x{s.kv_heads}-{s.experts}-{s.params_b:.0f}"


def shape(model: Model) -> str:
    """The shape of a model; one of stated shapes has none in common with a row."""
    return f"stated-{model.slug}" if model.source == STATED else shape_of(model.hf_id or model.slug)


@cache
def _tables() -> dict[str, Any]:
    """`rows`, `session_spread`, `idle_w`, `perplexities` and `scores`, kept in the cache folder under a hash of what they are made of."""
    seen = hashlib.sha256(f"{predictor.digest()} {pd.__version__}".encode())
    code = (Path(__file__), *sorted(Path(sources.__file__).parent.glob("*.py")))
    for path in (*sorted(paths.MEASURED.glob("*/summary.csv")), paths.CATALOG / "tasks.csv", paths.CATALOG / "accuracy.csv", *code):
        seen.update(path.read_bytes())
    return _made() if OWN else predictor.kept(f"advise-{seen.hexdigest()[:16]}.json", _made)


def _made() -> dict[str, Any]:
    found = _read_rows()
    read = {"rows": found, "perplexities": _read_perplexities(), "scores": _read_scores()}
    idle = tables.read_published("ecocompute_measurements").dropna(subset=["idle_stated_w"])
    made = {name: t.to_dict("records") for name, t in read.items()} | {"session_spread": list(_session_spread(found))}
    return made | {"idle_w": idle.groupby(idle["gpu"].map(sources.slug))["idle_stated_w"].median().to_dict()}


def rows() -> pd.DataFrame:
    """The evidence that may be cited: gross energy at the boards, with `shape`, `strategy` (canonical) and `source` (its session). Rows
    whose flaw breaks the physics are left out; another doubt stands beside its row."""
    return pd.DataFrame(_tables()["rows"])


@cache
def by_key() -> dict[tuple, list[dict[str, Any]]]:
    """The rows as dicts, by the values of KEYS."""
    found: dict[tuple, list] = {}
    for row in _tables()["rows"]:
        found.setdefault(tuple(row[k] for k in KEYS), []).append(row)
    return found


def _read_rows() -> pd.DataFrame:
    table = sources.evidence(OWN, extras=True)
    usable = table["learned"].astype(bool) | (table["source"] == "ecocompute")
    usable &= (table["accounting"].fillna("gross") != "net") & table["boundary"].isin(BOARDS)
    usable &= table[["energy_j_per_token", "batch_size"]].notna().all(axis=1)
    table = table[usable].reset_index(drop=True)
    table = table.assign(
        gpu=table["gpu"].map(sources.slug), strategy=table["quantization"].map(canonical), shape=table["model"].map(shape_of)
    )
    whole = table["batch_size"].astype(float).round()
    near = (table["batch_size"].astype(float) / whole - 1).abs() <= SAME_BATCH
    counts = {"batch_size": whole, "num_gpus": table["num_gpus"].fillna(1).astype(int)}
    sessions = tables.read_published("ecocompute_sessions").dropna(subset=["software"]).set_index("session")
    ran = table["session"].map("; " + sessions["date"].fillna("no date") + ": " + sessions["software"]).fillna("")
    table = table.assign(**counts, source=table["session"], doubt=table["doubt"].fillna(""), software=ran)[near]
    return table.astype({"batch_size": int}).reset_index(drop=True)


def session_spread() -> tuple[float, int]:
    """(standard deviation of the log energy of one configuration between sessions, its degrees of freedom), from all that were repeated."""
    return tuple(_tables()["session_spread"])


def _session_spread(table: pd.DataFrame) -> tuple[float, int]:
    """The pooled spread; what other token lengths change is taken out as predicted, so that rows of other lengths count too."""
    table = table[table["doubt"] == ""]
    table = table[table.groupby(KEYS)["source"].transform("nunique") > 1]
    if table.empty:
        return 0.1, 1
    asked = table[["gpu", "num_gpus", "model", "quantization", "engine", "batch_size", "input_tokens", "output_tokens"]]
    table = table.assign(log=np.log(table["energy_j_per_token"] / predict(asked)["energy_j_per_token"].to_numpy()))
    groups = table.dropna(subset="log").groupby([*KEYS, "source"])["log"].mean().groupby(level=KEYS)
    df = (groups.size() - 1).clip(lower=0)
    return float(np.sqrt((groups.var().fillna(0.0) * df).sum() / df.sum())), int(df.sum())


def key(c: Configuration) -> tuple:
    """What its rows are found by: the values of KEYS."""
    return c.gpu.slug, c.num_gpus, shape(c.model), canonical(c.quantization), c.engine, c.batch_size


def matching(c: Configuration) -> list[dict[str, Any]]:
    """All rows of a configuration, the preferred one first: measured, without doubt, same answer length, same model, most runs."""

    def order(row: dict) -> tuple:
        others = row["output_tokens"] != c.output_tokens, row["model"] not in (c.model.hf_id, c.model.slug)
        return row["basis"] != "measured", row["doubt"] != "", *others, -row["n"] if pd.notna(row["n"]) else 0.0

    return sorted(by_key().get(key(c), ()), key=order)


def as_table(configurations: Sequence[Configuration]) -> pd.DataFrame:
    """The predictor's input: one row a configuration; a model that no list has by its stated shapes."""
    made = []
    for c in configurations:
        made.append(c.to_json() | {"model": c.model.hf_id or None})
        if c.model.source == STATED:
            parameters = {"params_b": c.model.params_total / 1e9, "active_params_b": c.active_params / 1e9}
            made[-1] |= parameters | {name: getattr(c.model, name) for name in SHAPE if name not in parameters}
    return pd.DataFrame(made, dtype=object)  # plain objects: pandas reads its own strings one by one


def expect(configurations: Sequence[Configuration]) -> list[dict[str, Any]]:
    """One dict a configuration, all predicted at once: the figures with `_low` and `_high`, `kind` and `reason` (why not, else empty)."""
    if not configurations:
        return []
    found = predict(as_table(configurations), OWN)
    made = found[[*FIGURES, "kind", "calibrated", "remark", "reason"]].to_dict("records")
    return [p if p["reason"] or p["energy_j_per_token"] == p["energy_j_per_token"] else p | {"reason": "no prediction"} for p in made]


def can_measure(c: Configuration) -> bool:
    """Whether a configuration fits and can run, so that measuring it is advice."""
    return fits(c) and not cannot_run(c)


def cost_or_reason(c: Configuration) -> tuple[Cost | None, str]:
    """(cost, "") or (None, why it is not known or cannot run)."""
    return costs([c])[0]


def cost(c: Configuration) -> Cost:
    """The cost of a configuration. Raises UserError, with the reason and what to do about it, where neither row nor prediction gives it."""
    known, reason = cost_or_reason(c)
    if known is None:
        raise UserError(reason, "", f"measure it: `{measure_command(c)}`" if can_measure(c) else "choose another strategy or card")
    return known


def costs(configurations: Sequence[Configuration]) -> list[tuple[Cost | None, str]]:
    """(cost, "") or (None, reason) of each, all that are new predicted at once: a row of the configuration if its token lengths cost what
    the requested ones do, within 10 % as predicted; else the prediction."""
    if len(_seen) > MOST_SEEN:
        _seen.clear()
    new = [c for c in dict.fromkeys(configurations) if c not in _seen]
    reasons = {c: cannot_run(c) or ("" if (m := memory(c)).fits else m.explained) for c in new}
    asked = [c for c in new if not reasons[c]]
    found = {c: rows_of for c in asked if (rows_of := matching(c))}
    said = expect([*asked, *(_at_lengths(c, same[0]) for c, same in found.items())])
    here, there = dict(zip(asked, said, strict=False)), dict(zip(found, said[len(asked) :], strict=True))
    for c in new:
        p = here.get(c, {"reason": reasons[c]})
        row = _of_row(c, found[c], p, there[c]) if c in found else None
        _seen[c] = (row, "") if row else (None, p["reason"]) if p["reason"] else (from_prediction(p), "")
    return [_seen[c] for c in configurations]


def _at_lengths(c: Configuration, row: dict) -> Configuration:
    """The configuration at the token lengths that a row states."""
    return c.with_(**{k: int(row[k]) for k in ("input_tokens", "output_tokens") if pd.notna(row[k])})


def from_prediction(p: dict[str, Any]) -> Cost:
    """The cost that one prediction of `expect` states."""
    quantities = {name: Quantity(*(p[f"{name}{end}"] for end in ("", "_low", "_high")), unit) for name, unit in UNITS.items()}
    sd = sd_log(quantities["energy_j_per_token"])
    cited = f"predicted ({NEW.get(p['kind'], p['kind'])}); the interval is the error on rows that the fit had not seen"
    corrected = (f"corrected by {p['calibrated']}",) if p["calibrated"] else ()
    own, shared = sd * float(np.sqrt(1 - SHARED)), sd * float(np.sqrt(SHARED))
    said = (p["remark"],) if p["remark"] else ()
    return Cost(**quantities, basis="predicted", kind=p["kind"], evidence=(cited, *corrected), warnings=said, sd_own=own, sd_shared=shared)


def _of_row(c: Configuration, found: list[dict], here: dict[str, Any], there: dict[str, Any]) -> Cost | None:
    """The cost as the preferred row gives it, None where its token lengths (predicted `there`) cost over 10 % more or less than here."""
    row, effect, warnings = found[0], 0.0, []
    had = _at_lengths(c, row)
    if had != c:
        if here["reason"] or there["reason"]:
            return None
        effect = float(np.log(here["energy_j_per_token"] / there["energy_j_per_token"]))
        if abs(effect) > np.log1p(LENGTH_EFFECT):
            return None
        lengths = f"{had.input_tokens} tokens in and {had.output_tokens} out"
        warnings.append(f"the row has {lengths}: computed effect {signed(np.expm1(effect), 1)}, in the interval")
    warnings += [f"doubt about the row: {row['doubt']}"] if row["doubt"] else []
    runs = row["spread"] if pd.notna(row["spread"]) else 0.0
    sd = session_spread()[0]
    half = NORMAL_95 * float(np.hypot(np.sqrt(2) * sd, runs)) + abs(effect)
    joules, rate = row["energy_j_per_token"], row["throughput_tok_s"]
    watts = row["power_w"] if pd.notna(row["power_w"]) else joules * rate
    power = within(watts, half, "W")
    power = replace(power, high=max(watts, min(power.high, (c.gpu.tdp_w or np.inf) * c.num_gpus)))
    n = f", {row['n']:.0f} runs" if pd.notna(row["n"]) else ""
    where = f"{row['model']} on {row['gpu']}, {row['quantization']}, {row['engine']}, batch {row['batch_size']}"
    what = f"{where}{n}, {row['source']}{row['software']}"
    also = [f"also {o['row']}: {1e3 * o['energy_j_per_token']:,.0f} J per 1000 tokens ({o['source']})" for o in found[1:4]]
    figures = within(joules, half, "J"), power, within(rate, half, "tok/s"), within(c.batch_size / rate, half, "s")
    cited = (f"{row['row']}: {what}", *also)
    return Cost(*figures, row["basis"], "row", cited, tuple(warnings), float(np.hypot(sd, runs)))


def measure_command(c: Configuration, baseline: str | None = None) -> str:
    """The command that measures a configuration: a sweep beside its baseline for transformers, else a window around a load test."""
    if c.engine == "transformers":
        names = ", ".join(dict.fromkeys([baseline or "fp16", c.quantization]))
        lengths = f"input_tokens: [{c.input_tokens}], output_tokens: [{c.output_tokens}]"
        sweep = f"{{models: [{c.model.hf_id}], quantizations: [{names}], batch_sizes: [{c.batch_size}], {lengths}, blocks: 5}}"
        return f"echo '{sweep}' > sweep.yaml && eai run sweep.yaml"
    if c.engine in ("llama.cpp", "ollama"):
        sizes = f"-npp {c.input_tokens} -ntg {c.output_tokens} -npl {c.batch_size} -c {(c.input_tokens + c.output_tokens) * c.batch_size}"
        return f"eai measure -- llama-batched-bench -m MODEL.gguf {sizes} -ngl 99"
    lengths = f"--random-input-len {c.input_tokens} --random-output-len {c.output_tokens}"
    load = f"vllm bench serve --model {served_name(c)} --dataset-name random {lengths} --ignore-eos"
    return f"eai measure -- {load} --max-concurrency {c.batch_size} --num-prompts {max(100, 10 * c.batch_size)}"


def idle_w(gpu) -> Quantity:
    """Idle power of one board [W], model loaded: as published for the card, else 12 % of its limit within a factor of 1.8."""
    stated = _tables()["idle_w"].get(gpu.slug)
    value, factor = (stated, 1.3) if stated else (IDLE_SHARE * (gpu.tdp_w or np.nan), IDLE_FACTOR)
    return within(value, np.log(factor), "W")


@dataclass(frozen=True)
class Accuracy:
    """`status`: reference (unquantized) | score | perplexity | unknown | broken (a score at or below chance). `acceptable`: whether it may
    be recommended unasked; `retained`: score over the unquantized one, where measured."""

    status: str
    acceptable: bool
    note: str
    retained: Quantity | None = None
    perplexity_change: float | None = None
    evidence: tuple[str, ...] = ()

    @property
    def warnings(self) -> list[str]:
        return [] if self.acceptable else [f"accuracy {self.status}: {self.note}"]

    def to_json(self) -> dict[str, Any]:
        retained = None if self.retained is None else self.retained.to_json()
        numbers = {"score_retained": retained, "perplexity_change": self.perplexity_change}
        return {"status": self.status, "acceptable": self.acceptable, **numbers, "note": self.note, "evidence": list(self.evidence)}


def _read_perplexities() -> pd.DataFrame:
    """Relative changes of perplexity against fp16 of one source and model, without sessions that measured the two differently."""
    name = "ecocompute_measurements"
    raw = tables.read_published(name)
    raw = raw.assign(row=[f"{name}.csv:{line}" for line in range(2, len(raw) + 2)]).dropna(subset=["perplexity"])
    raw = raw[~raw["session"].str.startswith("dashboard")]
    pairs = raw[raw["quantization"] != "fp16"].merge(raw[raw["quantization"] == "fp16"], on=["session", "model"], suffixes=("", "_fp16"))
    pairs["change"] = pairs["perplexity"] / pairs["perplexity_fp16"] - 1
    kept = pairs[pairs.groupby(["session", "model"])["change"].transform("min") >= BETTER_THAN_POSSIBLE]
    kept = kept.assign(evidence=kept["row"] + " against " + kept["row_fp16"])
    others = tables.read_catalog("accuracy").query("metric == 'perplexity'")
    others = others.assign(change=others["value"] / others["baseline"] - 1, evidence=others["source"])
    found = pd.concat([kept, others])[["model", "quantization", "change", "evidence"]]
    return found.assign(shape=found["model"].map(shape_of))


def _read_scores() -> pd.DataFrame:
    """Scores of campaigns, which count for every model of the shape, and published ones, which count for that model alone (`of`)."""
    parts = [tables.read_result(p.parent, "summary").assign(campaign=p.parent.name) for p in sorted(paths.MEASURED.glob("*/summary.csv"))]
    key = ["campaign", "model", "task", "options"]
    columns = [*key, "quantization", "score", "score_low", "score_high"]
    table = pd.concat(parts)[columns].dropna(subset=["score"]) if parts else pd.DataFrame(columns=columns)
    table = table.drop_duplicates([*key, "quantization"])
    own = table.merge(table[table["quantization"].isin(("fp16", "bf16", "fp32"))].drop_duplicates(key), on=key, suffixes=("", "_base"))
    own = own.assign(of=own["model"].map(shape_of), evidence=own["campaign"] + "/summary.csv", checkpoint="")
    others = tables.read_catalog("accuracy").query("metric == 'score'")
    others = others.assign(of=others["model"], evidence=others["source"], checkpoint=others["checkpoint"].fillna(""))
    for end, column in (("", "value"), ("_base", "baseline")):
        share = others[column] / 100
        half = NORMAL_95 * np.sqrt(share * (1 - share) / others["n_items"])
        others = others.assign(**{f"score{end}": share, f"score_low{end}": share - half, f"score_high{end}": share + half})
    found = pd.concat([own, others], ignore_index=True)
    known = set(tables.read_catalog("tasks")["slug"])
    chances = {task: catalog.task(task).chance or 0.0 for task in found["task"].unique() if task in known}
    numbers = [f"score{end}{base}" for base in ("", "_base") for end in ("", "_low", "_high")]
    found = found.assign(chance=found["task"].map(chances).fillna(0.0))
    return found[["of", "quantization", "task", *numbers, "chance", "evidence", "checkpoint"]]


def at_chance(score_high: float, chance: float) -> bool:
    """Whether a score is at or below that of a guess: its interval does not reach above it. A score of 0 always is."""
    return bool(score_high <= chance or score_high <= 0)


def _scored(model: Model, quantization: str) -> list[dict[str, Any]]:
    own = shape(model), model.slug.removeprefix("meta-")
    return [s for s in _tables()["scores"] if s["quantization"] == quantization and s["of"] in own]


def served_name(c: Configuration) -> str:
    """What is loaded: the model, the checkpoint whose scores are known, or the place of a checkpoint to be chosen, in capitals."""
    if c.engine in ("vllm", "sglang") and (known := [s["checkpoint"] for s in _scored(c.model, c.quantization) if s["checkpoint"]]):
        return known[0]
    at_start = c.engine in ("vllm", "sglang") and c.quantization not in PUBLISHED_ONLY
    if c.quantization in (native(c.model), *UNQUANTIZED) or (at_start and c.quantization not in ("mxfp4", "nvfp4")):
        return c.model.hf_id or c.model.slug
    return f"{c.quantization.upper()}_CHECKPOINT_OF_{c.model.slug.upper().replace('-', '_').replace('.', '_')}"


@lru_cache(maxsize=512)
def accuracy(model: Model, quantization: str, min_accuracy: float | None = None) -> Accuracy:
    """What is known of a strategy's accuracy on a model: a measured share of the score in the worst task, else the change of perplexity (of
    another model a remark alone); with `min_accuracy` only a measured score, or no quantization, is acceptable."""
    strategy, own, exact = strategies.get(quantization), shape(model), Quantity(1.0, unit="")
    if quantization == native(model):
        return Accuracy("reference", True, "the format in which the model's authors publish it", exact)
    if not strategy.is_quantized and strategy.slug != "fp16_mixed":
        return Accuracy("reference", True, "unquantized: the reference that others are compared with", exact)
    if found := _scored(model, quantization):
        return _by_score(found, 1 - MILD_PERPLEXITY if min_accuracy is None else min_accuracy)
    same = [p for p in _tables()["perplexities"] if p["quantization"] == canonical(quantization)]
    cited, changes = tuple(p["evidence"] for p in same), [p["change"] for p in same]
    mine = [p for p in same if p["shape"] == own]
    if not mine:
        seen = f"; on other models its perplexity rose by {signed(min(changes), 1)} to {signed(max(changes), 1)}" if same else ""
        return Accuracy("unknown", False, f"no accuracy of {quantization} on {model.slug} is known{seen}", evidence=cited)
    worst = max(mine, key=lambda p: p["change"])
    note = f"perplexity {signed(worst['change'], 1)} against fp16 on {worst['model']}; no task score is known"
    note += "" if min_accuracy is None else f", so that {percent(min_accuracy)} is kept is not shown"
    mild = worst["change"] <= MILD_PERPLEXITY and min_accuracy is None
    return Accuracy("perplexity", mild, note, None, worst["change"], tuple(p["evidence"] for p in mine))


def _by_score(found: list[dict], floor: float) -> Accuracy:
    """The measured share of the score in the worst task, its interval from both scores' intervals."""
    cited = tuple(sorted({s["evidence"] for s in found}))
    if broken := next((s for s in found if at_chance(s["score_high"], s["chance"])), None):
        guess = f"no better than a guess ({percent(broken['chance'])})"
        note = f"its score in {broken['task']} ({percent(broken['score'])}) is {guess}: the output is broken"
        return Accuracy("broken", False, note, evidence=cited)
    worst = min(found, key=lambda s: s["score"] / s["score_base"])
    kept = within(
        worst["score"] / worst["score_base"],
        np.hypot(*(np.log(worst[f"score_high{s}"] / worst[f"score_low{s}"]) / 2 for s in ("", "_base"))),
    )
    note = f"keeps {percent(kept.value)} [{percent(kept.low)} to {percent(kept.high)}] of the score in {worst['task']}"
    of = f"the worst of {len(found)} tasks" if len(found) > 1 else "the only score"
    of += f" ({worst['checkpoint']})" if worst["checkpoint"] else ""
    return Accuracy("score", kept.value >= floor, f"{note}, {of}", kept, None, cited)


CODE = tomllib.loads(Path(__file__).with_name("code.toml").read_text())
LOAD, BATCH = CODE["load"], CODE["batch"]


def launch(c: Configuration, replicas: int = 1) -> str:
    """The command, or for transformers the Python code, that runs a configuration, a comment for several replicas; a checkpoint to be
    chosen is in capitals."""
    name, own, tokens, n = served_name(c), c.model.hf_id or c.model.slug, c.input_tokens + c.output_tokens, c.batch_size
    each = f"# {replicas} of these behind a load balancer, each on its own {c.num_gpus} card(s)\n" if replicas > 1 else ""
    if c.engine != "transformers":
        kind = f"--dtype {UNQUANTIZED[c.quantization]} " if c.quantization in UNQUANTIZED else f"--quantization {c.quantization} "
        words = {"kind": kind if name == own and c.quantization != native(c.model) else "", "length": max(2048, tokens)}
        words["split"] = f"--tensor-parallel-size {c.num_gpus} " if c.num_gpus > 1 else ""
        words["file"] = f"{c.model.slug}-{c.quantization.removeprefix(strategies.GGUF).upper()}.gguf"
        command = CODE["start"][c.engine].format(name=name, n=n, tokens=tokens, all_tokens=tokens * n, cards=c.num_gpus, **words)
        return each + command.rstrip()
    code = LOAD.get(c.quantization, f"# quantized to {c.quantization} with torchao after loading\n{LOAD['bf16']}")
    if c.quantization in PUBLISHED_ONLY:
        own, code = name, CODE["as_published"]
    elif c.quantization.startswith("int8_t"):
        code = CODE["threshold"].replace("THRESHOLD", c.quantization.removeprefix("int8_t"))
    return f"{each}{CODE['head'].format(name=own)}{code}\n{BATCH.format(batch_size=n, output_tokens=c.output_tokens)}"


def verify(c: Configuration, known: Cost) -> dict[str, Any]:
    """`command` that measures the configuration, what it should read, and what to conclude if it reads something else."""
    error = known.stated_error
    wide = "the stated error" if error is None else f"a factor of {1 + error:.2g}"
    expected = {name: getattr(known, name).to_json() for name in ("throughput_tok_s", "power_w", "energy_j_per_1k_tok")}
    conclude = (
        f"inside the intervals: the answer stands. Off by more than {wide}: trust your measurement, and give it with --throughput and "
        "--energy-j-per-1k to `eai diagnose`, which says why, and to `eai estimate` for the bill"
    )
    return {"command": measure_command(c), "expected": expected, "conclude": conclude}
