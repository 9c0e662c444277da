"""The protocol: a sweep becomes windows, each written as it ends, none measured twice.

One job (one gpu x one model), with time running to the right::

    bare idle | block 1                                                            | block 2 ...
              | load A                                   | load C | load B         |
              | context   warm  ###### warm  ######  context
              |  idle      up   window  up   window   idle

A block holds every configuration once, in seeded random order (`order`), and is the replicate. Before each window the work runs
until its speed has settled; the window repeats the work for at least `window_s` with no cold gap. The meter's edge readings lie
outside the window. A configuration that cannot run becomes a row with its status and reason, and the job goes on.
"""

import json
import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from eai import power, provenance, schema
from eai.errors import UserError
from eai.jobs import device_mark, differing_settings, done_keys, finished_job, resolve_experiment, resolve_gpu, slug
from eai.order import PlannedWindow, job_order
from eai.power import steady
from eai.power.meter import Baseline, Meter
from eai.settings import Sweep
from eai.store import JobStore, new_attempt
from eai.workload import device, fit, generation, memory, models

COLUMNS = tuple(column.name for column in schema.WINDOWS)

Say = Callable[[str], None]


@dataclass(frozen=True)
class Protocol:
    """How long each part lasts, resolved for the meter at hand: a sensor needs time that an exact counter of CPU time does not.

    Seconds: `window_s` of work, at most `warmup_cap_s` of warm-up, `idle_s` of each idle measurement (0: none).
    """

    window_s: float
    warmup_cap_s: float
    idle_s: float

    @classmethod
    def of(cls, sweep: Sweep, meter: Meter) -> "Protocol":
        """The sweep's own figures where it gives them, else 10 / 60 / 5 s with a sensor and 2 / 1 / 0 s with the estimate."""
        window_s, warmup_cap_s, idle_s = (2.0, 1.0, 0.0) if meter.basis == "estimated" else (10.0, 60.0, 5.0)
        given = (sweep.window_s, sweep.warmup_cap_s, sweep.idle_s)
        return cls(*(default if asked is None else asked for asked, default in zip(given, (window_s, warmup_cap_s, idle_s), strict=True)))


@dataclass(frozen=True)
class Warm:
    """What the warm-up found: seconds spent, coefficient of variation of the last groups (None: too few), steady, TTFT, step time [s]."""

    duration_s: float
    cv: float | None
    steady: bool
    ttft_s: float
    step_time_s: float | None


def run(sweep: Sweep, say: Say = print) -> Path:
    """Measure what the sweep asks for and is not on disk yet; returns the experiment's folder.

    `say` gets one line a window with what was found and how long the rest will take. Raises UserError for what can be known
    beforehand: a model or GPU that is not there, a folder that cannot be written or that was measured in another way.
    """
    experiment = resolve_experiment(sweep)
    for asked in sweep.gpus:
        for model in sweep.models:
            finished = finished_job(experiment, sweep, asked, model)
            gpu = asked if finished else resolve_gpu(asked)
            if finished := finished or finished_job(experiment, sweep, gpu, model):
                say(f"{finished.name}: every window is on disk, nothing to measure")
            else:
                models.locate(model, sweep.weights)
                _run_job(sweep, gpu, model, experiment, say)
    return experiment


def _run_job(sweep: Sweep, gpu: str, model: str, experiment: Path, say: Say) -> None:
    """Measure the windows of one job that are missing."""
    plan = job_order(sweep, gpu, model)
    meter, why = power.best_meter(gpu if gpu == "cpu" else device.cuda_uuid(), sweep.meter, sweep.shared)
    threads = device.set_threads(sweep.threads)
    name = f"{gpu}--{slug(model)}--{device_mark(gpu, meter)}"
    if differing := differing_settings(experiment / name, sweep):
        raise UserError(
            f"{experiment / name} was measured with another {', '.join(differing)}",
            "one protocol an experiment",
            "choose another experiment name",
        )
    with JobStore(experiment / name) as store, meter:
        done = done_keys(store.directory)
        left = [w for w in plan if w.key not in done]
        say(f"{name}: {len(left)} of {len(plan)} windows to measure; {why}")
        store.append_provenance(
            provenance.line(
                job=name,
                gpu=gpu,
                model=model,
                threads=threads,
                settings=sweep.model_dump(exclude={"experiment"}),
                meter=meter.metadata(),
                meter_why=why,
                limitations=meter.limitations(),
            )
        )
        job = _Job(sweep, meter, store, Protocol.of(sweep, meter), name, say, len(left))
        job.idle("bare")
        for load in _loads(left):
            job.measure_load(load)


def _loads(windows: list[PlannedWindow]) -> list[list[PlannedWindow]]:
    """The windows grouped by (block, load), in order."""
    groups: dict[tuple[int, int], list[PlannedWindow]] = {}
    for w in windows:
        groups.setdefault((w.block, w.load), []).append(w)
    return list(groups.values())


class _Job:
    """The state of a running job: where rows go, and how far it is."""

    def __init__(self, sweep: Sweep, meter: Meter, store: JobStore, protocol: Protocol, name: str, say: Say, total: int):
        self.sweep, self.meter, self.store, self.protocol, self.name, self.say = sweep, meter, store, protocol, name, say
        self.total, self.ended, self.began_s = total, 0, time.monotonic()

    def idle(self, kind: str, w: PlannedWindow | None = None) -> Baseline | None:
        """Measure and record the idle power: bare before anything is loaded, context and context_after around a load's windows."""
        if not self.protocol.idle_s:
            return None
        baseline = self.meter.idle(self.protocol.idle_s, kind)
        where = {"job": self.name, "block": w.block if w else 0, "load": w.load if w else 0, "kind": kind}
        for device_id, power_w in baseline.power_w.items():
            found = {"device_id": device_id, "power_w": power_w, "u_power_w": baseline.u_power_w[device_id]}
            self.store.append_idle(where | found | {"duration_s": baseline.duration_s})
        return baseline

    def measure_load(self, windows: list[PlannedWindow]) -> None:
        """Load a model once and measure its windows; whatever stops the load becomes a row for each of them."""
        first, block = windows[0].configuration, windows[0].block
        device.release()
        memory.reset_peak(models.torch_device(first.gpu))
        try:
            models.require_supported(first.quantization, first.gpu, first.weights)
            windows = self._that_fit(windows)
            if not windows:
                return self.store.compact(block)
            loaded = models.load(first.model, first.quantization, first.gpu, first.weights, self.sweep.trust_remote_code, self.sweep.seed)
        except Exception as error:
            status, reason = failure(error)
            for w in windows:
                self._commit(w, {"status": status, "reason": reason})
        else:
            baseline = self.idle("context", windows[0])
            for w in windows:
                self._measure(w, loaded, baseline)
            self.idle("context_after", windows[0])
        self.store.compact(block)

    def _that_fit(self, windows: list[PlannedWindow]) -> list[PlannedWindow]:
        """The windows that may fit in the free memory; each of the others becomes a row, and is not tried."""
        first = windows[0].configuration
        shapes, kept = fit.shapes(first.model), []
        for w in windows:
            try:
                fit.check(shapes, w.configuration, models.torch_device(first.gpu))
                kept.append(w)
            except fit.DoesNotFit as error:
                status, reason = failure(error)
                self._commit(w, {"status": status, "reason": reason})
        return kept

    def _measure(self, w: PlannedWindow, loaded: models.LoadedModel, baseline: Baseline | None) -> None:
        """Warm up, measure one window and commit it. What the work raises becomes the row's status; a fault of ours is raised."""
        c = w.configuration
        try:
            work = generation.Generation(loaded, c.batch_size, c.input_tokens, c.output_tokens, **c.options)
            warm = warm_up(work, self.protocol.warmup_cap_s, self.meter.power_w)
            gaps_s = work.inter_token_s()
            memory.reset_peak(loaded.device)
            calls: list[generation.Produced] = []
            with power.window(self.meter, baseline, warm.step_time_s) as measured:
                end_s = time.monotonic() + self.protocol.window_s
                while time.monotonic() < end_s:
                    calls.append(work.run())
        except Exception as error:
            status, reason = failure(error)
            return self._commit(w, {"status": status, "reason": reason})
        sensed = {name: value for name, value in measured.context.items() if name in COLUMNS}
        row = measured.to_row() | sensed | _work_columns(calls, warm, gaps_s, loaded)
        if (busy := measured.context.get("cpu_threads_busy")) is not None:
            row["cpu_time_s"] = busy * measured.duration_s
        row["flags"] = row["flags"] + ([] if warm.steady else ["not_steady"])
        self._commit(w, row, [e.to_row() for e in measured.energies], measured.stream)

    def _commit(self, w: PlannedWindow, row: dict, energies: Iterable[dict] = (), stream=None) -> None:
        """Write one window, measured or not, and say so."""
        c = w.configuration
        empty = dict.fromkeys(COLUMNS)
        fixed = {"job": self.name, "block": w.block, "configuration_id": c.configuration_id, "repeat": w.repeat, "attempt": new_attempt()}
        fixed |= c.columns() | {"order": w.order, "load": w.load, "meter": self.meter.name, "basis": self.meter.basis}
        window = empty | {"flags": [], "reason": ""} | row | fixed
        self.store.append_window(window, list(energies), stream)
        self.ended += 1
        what = f"block {w.block} {c.quantization} batch {c.batch_size}: {_outcome(window, energies)}"
        self.say(f"[{self.ended}/{self.total}] {what}; {self._remaining()}")

    def _remaining(self) -> str:
        left_s = (time.monotonic() - self.began_s) / self.ended * (self.total - self.ended)
        return f"about {int(left_s // 60)}:{int(left_s % 60):02d} left"


def _outcome(window: dict, energies: Iterable[dict]) -> str:
    """The outcome of a window in a few words."""
    if window["status"] != "ok":
        return f"{window['status']} ({window['reason']})"
    energy_j = sum(e["energy_j"] for e in energies if e["primary"] and e["energy_j"] is not None)
    per_token = energy_j / window["tokens_out"]
    return f"{window['tokens_out'] / window['duration_s']:.1f} tok/s, {per_token:.3g} J/token ({window['basis']})"


def _work_columns(calls: list[generation.Produced], warm: Warm, gaps_s: list[float], loaded: models.LoadedModel) -> dict:
    """The window's columns about the work: counted, not assumed."""
    steps = calls[0].tokens_out // calls[0].requests - 1
    middle = statistics.median(call.duration_s for call in calls)
    return {
        "calls": len(calls),
        "requests": sum(call.requests for call in calls),
        "tokens_in": sum(call.tokens_in for call in calls),
        "tokens_out": sum(call.tokens_out for call in calls),
        "ttft_s": warm.ttft_s,
        "step_time_s": (middle - warm.ttft_s) / steps if steps else None,
        "itl_s": statistics.median(gaps_s) if gaps_s else None,
        "itl_p95_s": float(np.quantile(gaps_s, 0.95)) if gaps_s else None,
        "memory_peak_gb": memory.peak_gb(loaded.device),
        "model_bytes": loaded.model_bytes,
        "ran": json.dumps(loaded.report["linears"], sort_keys=True),
        "warmup_s": warm.duration_s,
        "warmup_cv": warm.cv,
    }


def warm_up(work: generation.Generation, cap_s: float, power_w: Callable[[], float | None] = lambda: None) -> Warm:
    """Run the work until its speed and power have settled, or for `cap_s` seconds; at least once, and three times for the first token.

    Speed: the coefficient of variation of the last 5 groups of at least 16 decode steps is <= 2 %. Power, where `power_w` tells it:
    no slope over the last 5 groups.
    """
    start_s, ttft_s = time.monotonic(), work.first_token_s()
    groups_s: list[float] = []
    readings: list[tuple[float, float]] = []

    def group() -> float:
        calls = [work.run() for _ in range(max(1, -(-steady.GROUP_STEPS // work.output_tokens)))]
        groups_s.append(statistics.mean(call.duration_s for call in calls))
        if (watts := power_w()) is not None:
            readings.append((time.monotonic(), watts))
        return groups_s[-1]

    def settled() -> bool:
        return not readings or steady.power_settled(*zip(*readings[-steady.GROUPS :], strict=True))

    verdict, _ = steady.warm_up(group, time.monotonic, cap_s - (time.monotonic() - start_s), settled, group_steps=1)
    steps = work.output_tokens - 1
    step_time_s = (groups_s[-1] - ttft_s) / steps if steps and groups_s[-1] > ttft_s else None
    return Warm(time.monotonic() - start_s, verdict.cv, verdict.steady and settled(), ttft_s, step_time_s)


def failure(error: Exception) -> tuple[str, str]:
    """Status and one-line reason of what stopped a window: failure is data.

    An error of the store itself is not a window's failure and is raised again.
    """
    if isinstance(error, models.Unsupported):
        return "unsupported", str(error)
    if isinstance(error, fit.DoesNotFit):
        return "oom", str(error)
    reason = " ".join(str(error).split())[:300] or type(error).__name__
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return "oom", reason
    if isinstance(error, OSError):
        raise error
    return "failed", f"{type(error).__name__}: {reason}"
