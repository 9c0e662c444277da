"""What a sweep would do, before anything starts: which configurations cannot run, what is left in hours, energy, cost and carbon, and which
part of it shows most in so many hours.

What cannot run is told from shapes and data sheets by the rules that a run goes by; what cannot be judged, such as a model of unknown
shapes, is not judged. A run makes a row with status and reason of each, and goes on.

Hours follow from the protocol; how long a warm-up and a load take is known only afterwards, so the interval spans none to all of the
allowed warm-up and a load at a third to three times the assumed pace. Energy is the predicted power of each configuration over its windows
and warm-ups, at the GPU's board.

A sweep is cut along its lists (cards, models, strategies, batch sizes, tasks), in blocks and in items of each task. Every cut is forecast
and counted: the comparisons with the baseline that show a change of 5 % in energy with a planned power of 0.8 at alpha over the family,
and the scores that do so on their items. The cut that shows most is taken, of equals the shortest; where none has that power, the one with
the highest expected number. Lists are cut from their end; of batch sizes the ends stay, of tasks the shortest, and the baseline always.
"""

import itertools
import json
import math
from collections import Counter, namedtuple
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import MappingProxyType, SimpleNamespace
from typing import NamedTuple

import numpy as np
from scipy import special

from eai import catalog, footprint, strategies, tables
from eai.catalog import DRAWS, J_PER_KWH, SEED, Model, Site, drawn
from eai.catalog import bill as billed
from eai.errors import UserError
from eai.footprint import Device, supports
from eai.jobs import Job
from eai.measure.work import simulated_refusal
from eai.power.simulated import PREFIX, is_simulated, model_of
from eai.quantity import Quantity, plain, shortest
from eai.settings import GENERATE, Configuration, Sweep
from eai.stats import planning
from eai.stats.comparisons import ALPHA, MIN_POWER
from eai.workload import device, sources

MOST_LINES = 20
LOAD_GB_S, LOAD_FIXED_S, LOAD_UNKNOWN_S, LOAD_FACTOR = 1.0, 10.0, 60.0, 3.0
# of a pass over a task's items: share of the peak while reading, steps over the roofline, launches of a step, and how far off that may be
READING_SHARE, STEP_FACTOR, STEP_LAUNCH_S, TASK_FACTOR = 0.5, 3.0, 0.02, 3.0
MOST_PREDICTED = 120
Blocked = Mapping[tuple[str, str], Collection[int]]  # by (gpu, model): the places in the sweep's grid of the cells that cannot run
Obstacle = namedtuple("Obstacle", "gpu model quantization batch_size input_tokens output_tokens task status reason")
"""One configuration that cannot run: `status` as its rows will have it, and the reason with its figures."""


class Obstacles(NamedTuple):
    """What cannot run: the rows, the windows that they stand for, and by (gpu, model) the places of the cells in the sweep's grid."""

    rows: tuple[Obstacle, ...]
    windows: int
    cells: dict[tuple[str, str], frozenset[int]]


def obstacles(sweep: Sweep, planned: Sequence[Job], elsewhere: bool = False) -> Obstacles:
    """What of the jobs that are not done cannot run; `elsewhere`: not on this machine, whose libraries and memory then say nothing."""
    rows, cells, windows = [], {}, 0
    for job in (job for job in planned if not (job.is_done or sweep.server)):
        grid, shapes = sweep.configurations(job.gpu, job.model), _shapes(job.model)
        target = Device(job.gpu, has_libraries=not elsewhere)  # not in the catalog: its libraries alone can be judged
        if job.gpu == "cpu":
            target = Device("this machine", is_cpu=True, memory_gb=None if elsewhere else device.free_gb("cpu"))
        else:
            with suppress(UserError):
                target = Device.of_catalog(model_of(job.gpu) if is_simulated(job.gpu) else catalog.gpu(job.gpu), not elsewhere)
        why = {}
        for i, c in enumerate(grid):
            sizes, made_up = (c.batch_size, c.input_tokens, c.output_tokens, c.options.get("kv_cache", True)), is_simulated(c.gpu)
            if found := simulated_refusal(c, shapes) if made_up else supports(c.quantization, target, c.weights, shapes, *sizes):
                why[i] = (found.kind, found.reason)
        rows += [Obstacle(*(getattr(grid[i], name) for name in Obstacle._fields[:-2]), *found) for i, found in why.items()]
        cells[job.gpu, job.model] = frozenset(why)
        windows += len(why) * job.windows // len(grid)
    return Obstacles(tuple(rows), windows, cells)


def _shapes(model: str) -> Model | None:
    """The model's shapes from the catalog, its folder or the local cache; None where nobody here knows them."""
    with suppress(UserError):
        return catalog.model(model)
    path = Path(model).expanduser() / "config.json"
    try:
        if not path.is_file():
            from huggingface_hub import try_to_load_from_cache

            name, pinned = sources.at_revision(model)
            path = Path(str(try_to_load_from_cache(name, "config.json", **pinned)))
        return footprint.from_config(json.loads(path.read_text()), model)
    except (UserError, KeyError, ZeroDivisionError, OSError, ValueError):  # the hub's errors on names are ValueErrors
        return None


def obstacle_lines(found: Obstacles, planned: Sequence[Job]) -> list[str]:
    """What cannot run, for a person: the count by status, then what shares a reason, at most twenty lines."""
    if not found.rows:
        return []
    counts = ", ".join(f"{n} {status}" for status, n in Counter(row.status for row in found.rows).items())
    total = sum(job.windows for job in planned if not job.is_done)
    each = f"{len(found.rows)} configuration{'s' * (len(found.rows) > 1)} ({counts})"
    text = [f"cannot run: {each}, {found.windows} of {total} windows; each becomes a row with its reason"]
    alike: dict[tuple[str, str, str], list[Obstacle]] = {}
    for row in found.rows:
        alike.setdefault((row.gpu, row.model, row.reason.rstrip(".")), []).append(row)
    for (gpu, model, reason), rows in list(alike.items())[:MOST_LINES]:  # configurations that share a reason: each part once
        work = dict.fromkeys(r.task if not r.input_tokens else f"{r.input_tokens} + {r.output_tokens} tokens" for r in rows)
        batches = f"batch {', '.join(dict.fromkeys(str(r.batch_size) for r in rows))}"
        together = "; ".join(", ".join(part) for part in (dict.fromkeys(r.quantization for r in rows), [batches], work))
        text.append(f"  {gpu} x {model}, {together}: {reason}")
    more = len(alike) - MOST_LINES
    return text + ([f"  and {more} more reasons: --json lists every configuration"] if more > 0 else [])


def add(quantities: Iterable[Quantity], unit: str) -> Quantity:
    """The sum, ends added to ends: errors that all share, such as a pace or a model's, do not average out."""
    return Quantity(*(float(sum(ends)) for ends in zip(*map(_ends, quantities), strict=True)), unit)


def _ends(q: Quantity) -> tuple[float, float, float]:
    return q.value, *((q.value, q.value) if q.low is None else (q.low, q.high))


def _within(value: float, factor: float) -> Quantity:
    return Quantity(value, value / factor, value * factor, "s")


def window_s(sweep: Sweep, gpu: str) -> tuple[Quantity, float]:
    """(seconds of a window with its warm-up, seconds of one idle measurement) on a device, by the protocol."""
    from eai.measure.job import Protocol

    lasts = Protocol.of(sweep, SimpleNamespace(basis=basis_of(sweep, gpu)))  # what the protocol asks of a meter before there is one
    cap = lasts.warmup_cap_s
    return Quantity(lasts.window_s + cap / 2, lasts.window_s, lasts.window_s + cap, "s"), lasts.idle_s


def basis_of(sweep: Sweep, gpu: str) -> str:
    """The basis of the energies that a device will give here: a processor without a readable counter is an estimate."""
    from eai.power import cpu

    if is_simulated(gpu):
        return "simulated"
    is_estimate = gpu == "cpu" and (sweep.meter == "estimate" or (sweep.meter == "auto" and cpu.rapl_refusal()))
    return "estimated" if is_estimate else "measured"


def load_s(model: str) -> Quantity:
    """Seconds of one load: the 16-bit weights at the assumed pace, with a constant; within a factor of three."""
    try:
        return _within(LOAD_FIXED_S + footprint.weight_bytes(catalog.model(model), "fp16") / 1e9 / LOAD_GB_S, LOAD_FACTOR)
    except UserError:
        return _within(LOAD_UNKNOWN_S, LOAD_FACTOR)


def pass_s(c: Configuration) -> Quantity | None:
    """Seconds of one pass over a task's items, within a factor of three; None for unknown items, shapes or cards. Reading: 2 flops a weight
    and prompt token at half the card's peak, a launch a batch. Answering: three steps of the roofline and their launches for every
    token."""
    size, card = task_size(c.task), c.gpu.removeprefix(PREFIX)
    if size is None or card == "cpu":
        return None
    try:
        gpu, model = catalog.gpu(card), catalog.model(c.model)
        prompt = int(size["prompt_tokens"] + c.options.get("fewshot", size["few_shot"]) * size["example_tokens"])
        step = footprint.footprint(model, c.quantization, c.batch_size, prompt, int(max(size["answer_tokens"], 1)), gpu)
        peak = footprint.peak_flops(gpu, c.quantization)
    except UserError:
        return None
    items = min(size["items"], c.options.get("limit", size["items"]) * size["subjects"])
    calls = items * size["requests"]
    reading = calls * footprint.prefill_flops(model, prompt) / (READING_SHARE * peak) + calls / c.batch_size * STEP_LAUNCH_S
    answering = items / c.batch_size * size["answer_tokens"] * (STEP_FACTOR * step.step_s + STEP_LAUNCH_S)
    return _within(reading + answering, TASK_FACTOR)


@cache
def task_size(task: str) -> dict | None:
    """Items, requests per item, and tokens of prompts, examples and answers of a task, None where they are not known."""
    try:
        slug = "" if task.endswith(".jsonl") or "/" in task else catalog.task(task).slug
        row = tables.read_catalog("tasks").set_index("slug").loc[slug]
    except (UserError, KeyError):
        return None
    names = ("items", "few_shot", "requests", "prompt_tokens", "example_tokens", "answer_tokens")
    return {name: float(row[name]) for name in names} | {"subjects": 57 if row.name == "mmlu" else 1}


def job_s(sweep: Sweep, job: Job, blocked: Collection[int] = ()) -> tuple[float, float, Quantity]:
    """(share of a job's cells that can run, share of those whose length can be forecast, seconds of the missing windows). Cells that are
    `blocked` or not forecast count nothing. A window of a task takes whole passes over it, where they last longer than the protocol's."""
    grid, (window, idle_s) = sweep.configurations(job.gpu, job.model), window_s(sweep, job.gpu)
    able = [c for i, c in enumerate(grid) if i not in blocked]
    passes = [pass_s(c) for c in able if c.task != GENERATE]
    over = [q for q in passes if q is not None]
    known = len(able) - len(passes) + len(over)
    more = [sum(max(0.0, getattr(q, end) - window.low) for q in over) / max(known, 1) for end in ("value", "low", "high")]
    loads = len({c.quantization for c in able}) / len({c.quantization for c in grid}) * job.loads * job.windows_left / job.windows
    windows = add([window, Quantity(*map(float, more))], "s") * (known / len(grid) * job.windows_left)
    lasts = add([windows, load_s(job.model) * loads, Quantity(idle_s * (2 * loads + (loads > 0)))], "s")
    return len(able) / len(grid), known / len(grid), lasts


def energy_j(sweep: Sweep, left: Sequence[Job], blocked: Blocked = MappingProxyType({})) -> tuple[Quantity | None, float, str]:
    """(energy [J] of the windows that can be predicted, their number, why others cannot) at the GPUs' boards. Of many configurations every
    k-th is predicted and stands for its neighbours in the grid."""
    import pandas as pd

    from eai.predict import predict

    a_job = len(sweep.configurations(left[0].gpu, left[0].model)) if left else 0
    step = max(1, -(-len(left) * a_job // MOST_PREDICTED))
    places = ((left[i // a_job], i % a_job) for i in range(0, len(left) * a_job, step))
    able = [(job, i) for job, i in places if i not in blocked.get((job.gpu, job.model), ())]
    picked = [(job, sweep.configurations(job.gpu, job.model)[i]) for job, i in able]
    if not picked:
        return None, 0.0, "nothing that can run is left"
    rows = []
    for _, c in picked:
        size = task_size(c.task) if c.task != GENERATE else None
        lengths = {} if size is None else {"input_tokens": int(size["prompt_tokens"]), "output_tokens": int(max(size["answer_tokens"], 1))}
        rows.append(c.columns() | {"gpu": c.gpu.removeprefix(PREFIX)} | lengths)
    found = predict(pd.DataFrame(rows).drop(columns=["options", "task"]))
    parts, windows, refusal = [], 0.0, ""
    for (job, c), row in zip(picked, found.to_dict("records"), strict=True):
        lasts, own = _ends(window_s(sweep, job.gpu)[0]), job.windows_left / a_job * step
        whole = None if c.task == GENERATE else pass_s(c)
        if row["reason"] or (c.task != GENERATE and whole is None):
            refusal = refusal or row["reason"] or f"the items of task {c.task} are not known"
            continue
        lasts = lasts if whole is None else map(max, lasts, _ends(whole))
        watts = (row["power_w"], row["power_w_low"], row["power_w_high"])
        parts.append(Quantity(*(w * s * own for w, s in zip(watts, lasts, strict=True)), "J"))
        windows += own
    return (add(parts, "J") if parts else None), windows, refusal


def bill(energy: Quantity, site: Site) -> dict:
    """Cost and carbon of an energy [J] at a site, with the spread of its factors."""
    rng = np.random.default_rng(SEED)
    money = billed(energy.value, drawn(energy, rng.standard_normal(DRAWS)), site, rng)
    return {name: money[name].to_json() for name in ("cost_usd", "carbon_kg")} | {"assumptions": [f.assumption() for f in site.factors]}


def forecast(sweep: Sweep, planned: Sequence[Job], region: str = "us", blocked: Blocked = MappingProxyType({})) -> dict:
    """What is left, as a JSON-able dict. Both shares are of the windows that can run (`blocked` cells cannot, and cost nothing): those that
    the hours cover, and those of the energy. Quantities are None where nothing can be predicted, and `not_predicted` says why."""
    left = sorted((job for job in planned if not job.is_done), key=lambda job: job.gpu)
    parts = [(job, *job_s(sweep, job, blocked.get((job.gpu, job.model), ()))) for job in left]
    gpus = dict.fromkeys(job.gpu for job in left)
    hours = {gpu: add((lasts / 3600 for job, _, _, lasts in parts if job.gpu == gpu), "h") for gpu in gpus}
    able, known = (sum(part[0].windows_left * part[i] for part in parts) for i in (1, 2))
    on_cards = [job for job in planned if not job.is_done and job.gpu != "cpu"]
    energy, predicted, refusal = energy_j(sweep, on_cards, blocked) if on_cards else (None, 0.0, "no GPU is left to measure on")
    if not refusal and len(on_cards) < len(left):
        refusal = "a processor's power is not predicted"
    money = bill(energy, Site(region)) if energy else {"cost_usd": None, "carbon_kg": None, "assumptions": []}
    return {
        "basis": "predicted",
        "windows": sum(job.windows_left for job in left),
        "device_hours": add(hours.values(), "h").to_json() if hours else None,
        "hours_share": round(known / able, 3) if able else 1.0,
        "hours": {gpu: q.to_json() for gpu, q in hours.items()},
        "energy_kwh": replace(energy / J_PER_KWH, unit="kWh").to_json() if energy else None,
        "predicted_share": round(min(predicted / able, 1.0), 3) if able else 0.0,
        "not_predicted": refusal,
        **money,
    }


def lines(found: dict) -> list[str]:
    """The forecast for a person."""

    def text(q: dict) -> str:  # three digits in a unit of its size: `3.82 [1.85 to 9.17] min`
        said = Quantity(**q).in_readable_unit()
        ends = "" if said.low is None else f" [{plain(said.low)} to {plain(said.high)}]"
        return f"{plain(said.value)}{ends} {said.unit}"

    if not found["windows"]:
        return ["nothing is left to measure"]
    said = [f"left: {found['windows']} windows, predicted {text(found['device_hours'])} of device time, one measurement at a time"]
    said += [f"  {gpu}: {text(hours)}" for gpu, hours in found["hours"].items()] if len(found["hours"]) > 1 else []
    if found["hours_share"] < 1:
        said.append(f"  without {1 - found['hours_share']:.0%} of the windows: tasks whose items, or models whose shapes, are not known")
    if found["energy_kwh"] is None:
        return [*said, f"energy, cost and carbon: not predicted: {found['not_predicted']}"]
    part = found["predicted_share"]  # what is not all of them is never rounded up to it
    share = "all windows that can run" if part == 1 else f"{min(part, 0.99):.0%} of the windows that can run"
    others = f"; not for the others: {found['not_predicted']}" if part < 1 and found["not_predicted"] else ""
    said.append(f"energy at the boards in windows and warm-ups: predicted {text(found['energy_kwh'])} for {share}{others}")
    said.append(f"cost: predicted {text(found['cost_usd'])}; carbon: predicted {text(found['carbon_kg'])}; both for {share}")
    return said + [f"  {a['name']} {a['value']:g} {a['unit']}: {a['reason']}" for a in found["assumptions"]]


CHANGE = 0.95
SPREAD, USUAL_SPREAD = {"estimated": 0.03}, 0.015
SCORE, CORRELATION = 0.5, 0.7  # of a task's items before they ran: a score in the middle, and strategies that mostly answer alike
ITEMS = (None, 1000, 500, 200, 100, 50, 20)
MOST_BLOCKS = 20


class Cut(NamedTuple):
    """A part of the sweep by the places of its jobs, strategies, batch sizes and kinds of work, with its forecast hours [h], comparisons
    with their power, and the same of scores."""

    places: tuple[tuple[int, ...], ...]
    blocks: int
    items: int | None
    hours: float
    comparisons: int
    power: float
    scored: int
    score_power: float

    @property
    def worth(self) -> tuple[float, float, float]:  # shown with planned power, shown by expectation, the less time the better
        kinds = ((self.comparisons, self.power), (self.scored, self.score_power))
        return sum(n for n, p in kinds if p >= MIN_POWER), round(sum(n * p for n, p in kinds), 6), -self.hours


class _Grid:
    """The cells of a sweep as an array of (job, strategy, batch size, kind of work): what a window of each lasts, and what can run."""

    def __init__(self, sweep: Sweep, planned: Sequence[Job], elsewhere: bool):
        self.sweep, self.jobs = sweep, list(planned)
        configurations = [sweep.configurations(job.gpu, job.model) for job in planned]
        shape = (len(planned), len(sweep.quantizations), len(sweep.batch_sizes), -1)
        blocked = obstacles(sweep, [replace(job, windows_done=0) for job in planned], elsewhere).cells
        able = [[i not in blocked[j.gpu, j.model] for i in range(len(c))] for j, c in zip(planned, configurations, strict=True)]
        passes = [[pass_s(c) if c.task != GENERATE else None for c in each] for each in configurations]
        self.runs = np.array(able).reshape(shape)
        self.pass_s = np.array([[q.value if q else 0.0 for q in each] for each in passes]).reshape(shape)
        lasts = [window_s(sweep, job.gpu) for job in planned]
        self.lasts_s, self.least_s = (np.array([getattr(q, n) for q, _ in lasts]).reshape(-1, 1, 1, 1) for n in ("value", "low"))
        self.idle_s = np.array([idle_s for _, idle_s in lasts])
        self.load_s = np.array([load_s(job.model).value for job in planned])
        self.tasks = [c.task for c in configurations[0][: self.runs.shape[3]]]
        bases = [strategies.default_baseline(job.gpu) if sweep.baseline == "auto" else sweep.baseline for job in planned]
        self.base = np.array([[base == name for name in sweep.quantizations] for base in bases])
        self._sizes = {task: task_size(task) for task in set(self.tasks) - {GENERATE}}
        self.spread = max(SPREAD.get(basis_of(sweep, gpu), USUAL_SPREAD) for gpu in {job.gpu for job in planned})

    def n_items(self, task: str, items: int | None) -> float:
        """Items of a task that a cut runs; 0 for plain generation and for what is not known."""
        size, limit = self._sizes.get(task), items or self.sweep.limit
        return 0.0 if not size else min(size["items"], limit * size["subjects"] if limit else size["items"])

    def window_s(self, items: int | None) -> np.ndarray:
        share = [self.n_items(t, items) / self.n_items(t, None) if self._sizes.get(t) else 1.0 for t in self.tasks]
        return np.where(self.runs, self.lasts_s + np.maximum(self.pass_s * share - self.least_s, 0.0), 0.0)


def within(sweep: Sweep, planned: Sequence[Job], hours: float, elsewhere: bool = False) -> tuple[Sweep, list[str]]:
    """The part of a sweep for so many hours of device time, and what it leaves out and can show, a line each. Raises UserError for hours
    that are not above zero, for a server (its loads are not forecast), and where nothing useful fits."""
    if not hours > 0 or math.isinf(hours):
        raise UserError(f"--hours {hours:g}", "hours above 0")
    if sweep.server:
        raise UserError("--hours with a server", "a sweep of models in this process", "set blocks and loads by hand")
    grid = _Grid(sweep, planned, elsewhere)
    (whole,) = _cuts(grid, math.inf, whole=True)
    best = whole if whole.hours <= hours else max(_cuts(grid, hours), key=lambda cut: cut.worth, default=None)
    if best is None:
        raise UserError(f"nothing of this sweep fits into {hours:g} h", "two blocks of one comparison", "give more hours, or fewer items")
    kept = sweep if best is whole else _sweep(grid, best)
    return kept, _lines(grid, kept, best, whole, hours)


def _places(grid: _Grid) -> Iterator[tuple[tuple[int, ...], ...]]:
    """The places of every cut along the lists."""
    all_places = [range(n) for n in grid.runs.shape]
    gpus, models = (list(dict.fromkeys(getattr(job, name) for job in grid.jobs)) for name in ("gpu", "model"))
    kept = [i for i in all_places[1] if grid.base[:, i].any()]
    others = [i for i in all_places[1] if i not in kept]
    ends = sorted(all_places[2], key=lambda i: min(i, len(all_places[2]) - 1 - i))
    cost = grid.window_s(None).sum(axis=(0, 1, 2))
    tasks = sorted(dict.fromkeys(grid.tasks), key=lambda t: sum(c for c, own in zip(cost, grid.tasks, strict=True) if own == t))
    lengths = [range(1, len(s) + 1) for s in (gpus, models, others, ends, tasks)]
    for g, m, q, b, t in itertools.product(*lengths):
        jobs = tuple(i for i, job in enumerate(grid.jobs) if job.gpu in gpus[:g] and job.model in models[:m])
        kinds = tuple(i for i, task in enumerate(grid.tasks) if task in tasks[:t])
        yield jobs, tuple(sorted(kept + others[:q])), tuple(sorted(ends[:b])), kinds


def _cuts(grid: _Grid, hours: float, whole: bool = False) -> Iterator[Cut]:
    ladder = [n for n in ITEMS if n is None or not grid.sweep.limit or n < grid.sweep.limit]
    lasts = {n: grid.window_s(n) for n in ladder}
    for places in [tuple(tuple(range(n)) for n in grid.runs.shape)] if whole else _places(grid):
        jobs, chosen, _, kinds = places
        able = grid.runs[np.ix_(*places)]
        base = grid.base[np.ix_(jobs, chosen)][:, :, None, None]
        paired = able & ~base & (able & base).any(axis=1, keepdims=True)
        loads = able.any(axis=(2, 3)).sum(axis=1)
        per_block_s, once_s = (loads * (grid.load_s + 2 * grid.idle_s)[list(jobs)]).sum(), grid.idle_s[list(jobs)].sum()
        tasks = [grid.tasks[k] for k in kinds]
        for items in [None] if whole or not any(map(grid._sizes.get, tasks)) else ladder:
            block_s = lasts[items][np.ix_(*places)].sum() * grid.sweep.repeats + per_block_s
            counts = [grid.n_items(t, items) for t in tasks]
            scored = int(paired[..., [n > 0 for n in counts]].sum())
            least = min((n for n in counts if n), default=0.0)  # of items: as `planning.detectable_score_ratio` plans it
            se = math.sqrt(2 * (1 - CORRELATION) * (1 - SCORE) / (SCORE * least)) if least else math.inf
            score_power = float(special.ndtr(-math.log(CHANGE) / se + special.ndtri(ALPHA / 2))) if least else 0.0
            for blocks in [grid.sweep.blocks] if whole else range(2, max(grid.sweep.blocks, MOST_BLOCKS) + 1):
                spent = float(block_s * blocks + once_s) / 3600
                if spent > hours:
                    break
                n = int(paired.sum())
                if n or whole:
                    yield Cut(places, blocks, items, spent, n, _power(grid.spread, blocks, n), scored, score_power)


@cache
def _power(spread: float, blocks: int, family: int) -> float:
    return planning.power(spread, blocks, CHANGE, ALPHA / family) if blocks > 1 and family else 0.0


def detectable(spread: float, blocks: int, family: int) -> float:
    """The smallest change of energy that so many blocks show with power 0.8 at alpha over the family (0.03: 3 %); NaN for one block."""
    from scipy import optimize

    if blocks < 2:
        return math.nan
    return -math.expm1(-optimize.brentq(lambda x: planning.power(spread, blocks, math.exp(-x), ALPHA / family) - MIN_POWER, 1e-6, 20))


def _sweep(grid: _Grid, cut: Cut) -> Sweep:
    sweep, (chosen, quantizations, batch_sizes, kinds) = grid.sweep, cut.places
    jobs, names = [grid.jobs[i] for i in chosen], {grid.tasks[i] for i in kinds}
    asked = sorted(sweep.tasks, key=lambda task: task != GENERATE)  # the order of `task_names`
    has_tasks = bool(names - {GENERATE})
    update = {
        "gpus": [a for a, gpu in zip(sweep.gpus, dict.fromkeys(j.gpu for j in grid.jobs), strict=True) if gpu in {j.gpu for j in jobs}],
        "models": [m for m in sweep.models if m in {j.model for j in jobs}],
        "quantizations": [sweep.quantizations[i] for i in quantizations],
        "batch_sizes": [sweep.batch_sizes[i] for i in batch_sizes],
        "tasks": [task for task, name in zip(asked, sweep.task_names(), strict=True) if name in names],
        "blocks": cut.blocks,
        "limit": (cut.items or sweep.limit) if has_tasks else None,
        "fewshot": sweep.fewshot if has_tasks else None,
    }
    return sweep.model_copy(update=update)


def _lines(grid: _Grid, kept: Sweep, cut: Cut, whole: Cut, hours: float) -> list[str]:
    asked = grid.sweep
    words = {"gpus": "cards", "models": "models", "quantizations": "strategies", "batch_sizes": "batch sizes", "tasks": "tasks"}
    lists = [(getattr(kept, name), getattr(asked, name), word) for name, word in words.items()]
    parts = [f"{len(a)} of {len(b)} {word} ({', '.join(map(str, a))})" for a, b, word in lists if len(a) < len(b)]
    parts += [f"{kept.blocks} blocks (asked for: {asked.blocks})"] if kept.blocks != asked.blocks else []
    parts += [f"{kept.limit} items a task (of MMLU a subject)"] if kept.limit != asked.limit and kept.limit else []
    change = f"{100 * (1 - CHANGE):.0f} %"
    least = detectable(grid.spread, cut.blocks, max(cut.comparisons, 1))
    lines = [
        f"in {hours:g} h of device time: forecast {shortest(cut.hours)} h of {shortest(whole.hours)} h; "
        + ("; ".join(parts) or "the whole sweep"),
        f"{cut.comparisons} comparisons with the baseline (the whole sweep: {whole.comparisons}): a change of {change} in energy is shown "
        f"with probability {cut.power:.2f}, one of {100 * least:.2g} % with 0.80; smaller ones stay inconclusive "
        f"(paired blocks spread by {100 * grid.spread:g} %, assumed)",
    ]
    if cut.scored:
        n = min(n for i in cut.places[3] if (n := grid.n_items(grid.tasks[i], cut.items)))
        ratio = planning.detectable_score_ratio(int(n), SCORE, CORRELATION)
        lines.append(f"scores, {n:g} items or more: a change of {100 * (1 - 1 / ratio):.0f} % of a score near one half is shown with 0.80")
    return lines
