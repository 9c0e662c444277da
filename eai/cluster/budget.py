"""What to measure in so many hours: the part of a sweep that can show most, and what that is.

A sweep is cut along its lists (cards, models, strategies, batch sizes, tasks), in blocks and in items of each task. Every cut is forecast
and counted: the comparisons with the baseline that show a change of 5 % in energy with a planned power of 0.8 at alpha over the family,
and the scores that do so on their items. The cut that shows most is taken, of equals the shortest; where none has that power, the one with
the highest expected number. Lists are cut from their end; of batch sizes the ends stay, of tasks the shortest, and the baseline always.
"""

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from scipy import optimize, stats

from eai import strategies
from eai.cluster import forecast
from eai.errors import UserError
from eai.plan import Job
from eai.quantity import shortest
from eai.settings import GENERATE, Sweep
from eai.stats import planning
from eai.stats.comparisons import ALPHA, MIN_POWER

CHANGE = 0.95
SPREAD = {"estimated": 0.03}
USUAL_SPREAD = 0.015
SCORE, CORRELATION = 0.5, 0.7
"""Of a task's items before they ran: a score in the middle, and two strategies that answer mostly the same ones alike."""
ITEMS = (None, 1000, 500, 200, 100, 50, 20)
MOST_BLOCKS = 20


@dataclass(frozen=True)
class Cut:
    """A part of the sweep by the places in its lists, with its forecast hours [h], comparisons with their power, and the same of scores."""

    jobs: tuple[int, ...]
    quantizations: tuple[int, ...]
    batch_sizes: tuple[int, ...]
    kinds: tuple[int, ...]
    blocks: int
    items: int | None
    hours: float
    comparisons: int
    power: float
    scored: int
    score_power: float

    @property
    def worth(self) -> tuple[float, float, float]:
        """What cuts are ranked by: shown with planned power, shown by expectation, and the less time the better."""
        kinds = ((self.comparisons, self.power), (self.scored, self.score_power))
        return sum(n for n, p in kinds if p >= MIN_POWER), round(sum(n * p for n, p in kinds), 6), -self.hours


class _Grid:
    """The cells of a sweep as an array of (job, strategy, batch size, kind of work): what a window of each lasts, and what can run."""

    def __init__(self, sweep: Sweep, planned: Sequence[Job], elsewhere: bool):
        self.sweep, self.jobs = sweep, list(planned)
        configurations = [sweep.configurations(job.gpu, job.model) for job in planned]
        shape = (len(planned), len(sweep.quantizations), len(sweep.batch_sizes), -1)
        blocked = forecast.obstacles(sweep, [replace(job, windows_done=0) for job in planned], elsewhere).cells
        able = [[i not in blocked[j.gpu, j.model] for i in range(len(c))] for j, c in zip(planned, configurations, strict=True)]
        passes = [[forecast.pass_s(c) if c.task != GENERATE else None for c in each] for each in configurations]
        self.runs = np.array(able).reshape(shape)
        self.pass_s = np.array([[q.value if q else 0.0 for q in each] for each in passes]).reshape(shape)
        lasts = [forecast.window_s(sweep, job.gpu) for job in planned]
        self.lasts_s, self.least_s = (np.array([getattr(q, n) for q, _ in lasts]).reshape(-1, 1, 1, 1) for n in ("value", "low"))
        self.idle_s = np.array([idle_s for _, idle_s in lasts])
        self.load_s = np.array([forecast.load_s(job.model).value for job in planned])
        self.tasks = [c.task for c in configurations[0][: self.runs.shape[3]]]
        bases = [strategies.default_baseline(job.gpu) if sweep.baseline == "auto" else sweep.baseline for job in planned]
        self.base = np.array([[base == name for name in sweep.quantizations] for base in bases])
        self._sizes = {task: forecast.task_size(task) for task in set(self.tasks) - {GENERATE}}
        self.spread = max(SPREAD.get(forecast.basis_of(sweep, gpu), USUAL_SPREAD) for gpu in {job.gpu for job in planned})

    def n_items(self, task: str, items: int | None) -> float:
        """Items of a task that a cut runs; 0 for plain generation and for what is not known."""
        size, limit = self._sizes.get(task), items or self.sweep.limit
        return 0.0 if not size else min(size["items"], limit * size["subjects"] if limit else size["items"])

    def window_s(self, items: int | None) -> np.ndarray:
        """Seconds of a window of every cell, 0 where it cannot run: the protocol's, or whole passes over so many items of a task."""
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


def _places(grid: _Grid, whole: bool) -> Iterator[tuple[tuple[int, ...], ...]]:
    """The places (jobs, strategies, batch sizes, kinds of work) of every cut along the lists, or of the whole sweep alone."""
    sweep, all_places = grid.sweep, tuple(tuple(range(n)) for n in grid.runs.shape)
    if whole:
        yield all_places
        return
    gpus, models = (list(dict.fromkeys(getattr(job, name) for job in grid.jobs)) for name in ("gpu", "model"))
    kept = [i for i in all_places[1] if grid.base[:, i].any()]
    others = [i for i in all_places[1] if i not in kept]
    ends = sorted(all_places[2], key=lambda i: min(i, len(sweep.batch_sizes) - 1 - i))
    cost = grid.window_s(None).sum(axis=(0, 1, 2))
    tasks = sorted(dict.fromkeys(grid.tasks), key=lambda t: sum(c for c, own in zip(cost, grid.tasks, strict=True) if own == t))
    lengths = [range(1, len(s) + 1) for s in (gpus, models, others, ends, tasks)]
    for g, m, q, b, t in itertools.product(*lengths):
        jobs = tuple(i for i, job in enumerate(grid.jobs) if job.gpu in gpus[:g] and job.model in models[:m])
        kinds = tuple(i for i, task in enumerate(grid.tasks) if task in tasks[:t])
        yield jobs, tuple(sorted(kept + others[:q])), tuple(sorted(ends[:b])), kinds


def _cuts(grid: _Grid, hours: float, whole: bool = False) -> Iterator[Cut]:
    """Every cut of the sweep that fits."""
    ladder = [n for n in ITEMS if n is None or not grid.sweep.limit or n < grid.sweep.limit]
    lasts = {n: grid.window_s(n) for n in ladder}
    for places in _places(grid, whole):
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
            score_power = float(stats.norm.cdf(-math.log(CHANGE) / se - stats.norm.isf(ALPHA / 2))) if least else 0.0
            for blocks in [grid.sweep.blocks] if whole else range(2, max(grid.sweep.blocks, MOST_BLOCKS) + 1):
                spent = float(block_s * blocks + once_s) / 3600
                if spent > hours:
                    break
                n = int(paired.sum())
                if n or whole:
                    yield Cut(*places, blocks, items, spent, n, _power(grid.spread, blocks, n), scored, score_power)


@cache
def _power(spread: float, blocks: int, family: int) -> float:
    """The power of one comparison to show CHANGE at alpha over the family; 0 for one block."""
    return planning.power(spread, blocks, CHANGE, ALPHA / family) if blocks > 1 and family else 0.0


def detectable(spread: float, blocks: int, family: int) -> float:
    """The smallest change of energy that so many blocks show with power 0.8 at alpha over the family (0.03: 3 %); NaN for one block."""
    if blocks < 2:
        return math.nan
    return -math.expm1(-optimize.brentq(lambda x: planning.power(spread, blocks, math.exp(-x), ALPHA / family) - MIN_POWER, 1e-6, 20))


def _sweep(grid: _Grid, cut: Cut) -> Sweep:
    """The settings of a cut."""
    sweep, jobs = grid.sweep, [grid.jobs[i] for i in cut.jobs]
    names = {grid.tasks[i] for i in cut.kinds}
    asked = sorted(sweep.tasks, key=lambda task: task != GENERATE)  # the order of `task_names`
    has_tasks = bool(names - {GENERATE})
    update = {
        "gpus": [a for a, gpu in zip(sweep.gpus, dict.fromkeys(j.gpu for j in grid.jobs), strict=True) if gpu in {j.gpu for j in jobs}],
        "models": [m for m in sweep.models if m in {j.model for j in jobs}],
        "quantizations": [sweep.quantizations[i] for i in cut.quantizations],
        "batch_sizes": [sweep.batch_sizes[i] for i in cut.batch_sizes],
        "tasks": [task for task, name in zip(asked, sweep.task_names(), strict=True) if name in names],
        "blocks": cut.blocks,
        "limit": (cut.items or sweep.limit) if has_tasks else None,
        "fewshot": sweep.fewshot if has_tasks else None,
    }
    return sweep.model_copy(update=update)


def _lines(grid: _Grid, kept: Sweep, cut: Cut, whole: Cut, hours: float) -> list[str]:
    """What is measured of the sweep, what it leaves out, and what can then be shown."""
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
        n = min(n for i in cut.kinds if (n := grid.n_items(grid.tasks[i], cut.items)))
        ratio = planning.detectable_score_ratio(int(n), SCORE, CORRELATION)
        lines.append(f"scores, {n:g} items or more: a change of {100 * (1 - 1 / ratio):.0f} % of a score near one half is shown with 0.80")
    return lines
