"""Which configurations of a sweep cannot run on their card, told from shapes and data sheets before anything is loaded.

Only what is certain counts, by the rules that a run goes by: a strategy that the card or the weights rule out, weights and KV cache larger
than the memory that a program can use, more tokens than the model's context. What cannot be judged, such as a model of unknown shapes or
the items of a task, is not judged. A run makes a row with status and reason of each, and goes on.
"""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from eai import catalog, footprint, strategies
from eai.catalog import Gpu, Model
from eai.cluster.plan import Job
from eai.errors import UserError
from eai.measure import simulation
from eai.power.simulated import is_simulated, model_of
from eai.settings import Configuration, Sweep
from eai.workload import device, formats, models

MOST_LINES = 20


@dataclass(frozen=True)
class Obstacle:
    """One configuration that cannot run: `status` as its rows will have it, and the reason with its figures."""

    gpu: str
    model: str
    quantization: str
    batch_size: int
    input_tokens: int
    output_tokens: int
    task: str
    status: str
    reason: str


@dataclass(frozen=True)
class Obstacles:
    """What cannot run: the rows, the windows that they stand for, and by (gpu, model) the places of the cells in the sweep's grid."""

    rows: tuple[Obstacle, ...] = ()
    windows: int = 0
    cells: dict[tuple[str, str], frozenset[int]] = field(default_factory=dict)

    def to_json(self) -> dict:
        """The count and the rows as a JSON-able dict."""
        return {"windows": self.windows, "configurations": len(self.rows), "rows": [asdict(row) for row in self.rows]}


def find(sweep: Sweep, planned: Sequence[Job], elsewhere: bool = False) -> Obstacles:
    """What of the jobs that are not done cannot run; `elsewhere`: not on this machine, whose libraries and memory then say nothing."""
    if sweep.server:
        return Obstacles()
    rows, cells, windows = [], {}, 0
    for job in (job for job in planned if not job.is_done):
        grid, card, shapes = sweep.configurations(job.gpu, job.model), _card(job.gpu), _shapes(job.model)
        why = {i: found for i, c in enumerate(grid) if (found := _why(c, card, shapes, elsewhere))}
        rows += [_row(grid[i], *found) for i, found in why.items()]
        cells[job.gpu, job.model] = frozenset(why)
        windows += len(why) * job.windows // len(grid)
    return Obstacles(tuple(rows), windows, cells)


def _row(c: Configuration, status: str, reason: str) -> Obstacle:
    """The row of a configuration that cannot run."""
    return Obstacle(c.gpu, c.model, c.quantization, c.batch_size, c.input_tokens, c.output_tokens, c.task, status, reason)


def _card(gpu: str) -> Gpu | None:
    """The card of the catalog, None for a processor and for a card that is not in it."""
    try:
        return None if gpu == "cpu" else model_of(gpu) if is_simulated(gpu) else catalog.gpu(gpu)
    except UserError:
        return None


def _shapes(model: str) -> Model | None:
    """The model's shapes from the catalog, its folder or the local cache; None where nobody here knows them."""
    try:
        return catalog.model(model)
    except UserError:
        pass
    path = Path(model).expanduser() / "config.json"
    try:
        if not path.is_file():
            from huggingface_hub import try_to_load_from_cache

            path = Path(str(try_to_load_from_cache(model, "config.json")))
        return footprint.from_config(json.loads(path.read_text()), model)
    except (UserError, KeyError, ZeroDivisionError, OSError, ValueError):  # the hub's errors on names are ValueErrors
        return None


def _why(c: Configuration, card: Gpu | None, shapes: Model | None, elsewhere: bool) -> tuple[str, str] | None:
    """(status, reason) of a configuration that cannot run, None of one that may."""
    if reason := _unsupported(c, card, elsewhere):
        return "unsupported", reason
    if shapes is None:
        return None
    if reason := _too_large(c, card, shapes, elsewhere):
        return "oom", reason
    asked = c.input_tokens + c.output_tokens
    return ("failed", f"{asked} tokens exceed the model's context of {shapes.context}") if asked > shapes.context else None


def _unsupported(c: Configuration, card: Gpu | None, elsewhere: bool) -> str | None:
    """Why the card or the weights rule out the strategy."""
    strategy = strategies.get(c.quantization)
    if is_simulated(c.gpu):
        try:
            return simulation.require_supported(c)
        except UserError as error:
            return str(error)
    if c.gpu == "cpu":
        return formats.unsupported_reason(strategy, "cpu", c.weights)
    have = card.compute_capability if card else None
    if have and strategy.min_capability and have < strategy.min_capability:
        return f"{strategy.slug} needs compute capability {strategy.min_capability:g}, {card.name} has {have:g}"
    return formats.weights_reason(strategy, c.weights) or (None if elsewhere else formats.library_reason(strategy))


def _too_large(c: Configuration, card: Gpu | None, shapes: Model, elsewhere: bool) -> str | None:
    """Why the configuration cannot fit in the memory of its card, or of this machine."""
    if is_simulated(c.gpu):
        found = footprint.fit(shapes, c.quantization, card, c.batch_size, c.input_tokens, c.output_tokens)
        return None if found.fits else found.explained
    have_gb = footprint.available_gb(card) if card else None if elsewhere or c.gpu != "cpu" else device.free_gb("cpu")
    needed_gb = models.needed_bytes(shapes, c) / 1e9
    if have_gb is None or needed_gb <= have_gb:
        return None
    return f"needs at least {needed_gb:.1f} GB for weights and KV cache of {have_gb:.1f} GB " + (f"on {card.name}" if card else "free here")


def lines(found: Obstacles, planned: Sequence[Job]) -> list[str]:
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
    for (gpu, model, reason), rows in list(alike.items())[:MOST_LINES]:
        text.append(f"  {gpu} x {model}, {_together(rows)}: {reason}")
    more = len(alike) - MOST_LINES
    return text + ([f"  and {more} more reasons: --json lists every configuration"] if more > 0 else [])


def _together(rows: Sequence[Obstacle]) -> str:
    """Configurations that share a reason: each part once."""
    work = dict.fromkeys(r.task if not r.input_tokens else f"{r.input_tokens} + {r.output_tokens} tokens" for r in rows)
    parts = [dict.fromkeys(r.quantization for r in rows), [f"batch {', '.join(dict.fromkeys(str(r.batch_size) for r in rows))}"], work]
    return "; ".join(", ".join(part) for part in parts)
