"""One job: the loop over blocks, loads and windows, with every outcome committed as it comes."""

import itertools
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from eai import machine, paths, power, schema
from eai.errors import UserError, WindowFault
from eai.footprint import CannotRun
from eai.jobs import (
    PlannedWindow,
    device_mark,
    differing_settings,
    done_keys,
    finished_job,
    job_order,
    marks,
    resolve_experiment,
    slug,
)
from eai.measure.work import FixedGeneration, SimulatedWork, TaskPasses, Work, simulated_refusal
from eai.power.meter import Baseline, Clock, Meter
from eai.power.simulated import is_simulated
from eai.quantity import shortest
from eai.settings import GENERATE, PRIVATE, Configuration, Sweep
from eai.store import JobStore, new_attempt
from eai.tables import read_jsonl
from eai.workload import device, generation, models, sources, tasks


@dataclass(frozen=True)
class Protocol:
    """The durations [s], resolved for the meter at hand: a sensor needs time that an exact counter of CPU time does not. `window_s` of
    work, at most `warmup_cap_s` of warm-up, `idle_s` of each idle measurement (0: none)."""

    window_s: float
    warmup_cap_s: float
    idle_s: float

    @classmethod
    def of(cls, sweep: Sweep, meter: Meter) -> "Protocol":
        """The sweep's own figures where it gives them, else 10 / 60 / 5 s with a sensor and 2 / 1 / 0 s with the estimate."""
        usual = (2.0, 1.0, 0.0) if meter.basis == "estimated" else (10.0, 60.0, 5.0)
        given = (sweep.window_s, sweep.warmup_cap_s, sweep.idle_s)
        return cls(*(default if asked is None else asked for asked, default in zip(given, usual, strict=True)))


class System:
    """What the windows of one load run on, opened once and closed before the next: here a simulated card, on which nothing is loaded."""

    def __init__(self, first: Configuration, sweep: Sweep):
        self._first, self._sweep = first, sweep

    def refusal(self, c: Configuration) -> Exception | None:
        found = simulated_refusal(c)
        return CannotRun(found) if found else None

    def open(self) -> None:
        """Load what all windows share."""

    def work(self, w: PlannedWindow, clock: Clock) -> Work:
        return SimulatedWork(w, self._sweep, clock)

    def close(self) -> None:
        """Nothing: the next load frees the memory of this one, after its own idle power was taken."""


class LoadedSystem(System):
    """A model in this process, under one strategy. Raises CannotRun before anything is loaded where the strategy cannot run here."""

    def __init__(self, first: Configuration, sweep: Sweep):
        super().__init__(first, sweep)
        device.release()
        device.reset_peak(models.torch_device(first.gpu))
        if refused := models.refusal(first):
            raise refused
        self._shapes, self._cards = models.shapes(first.model), sweep.task_cards()

    def refusal(self, c: Configuration) -> Exception | None:
        """CannotRun for what certainly cannot run or fit, a task's error where its items cannot be loaded, else None."""
        try:
            if refused := models.refusal(c, self._shapes):
                return refused
            if c.task in self._cards:
                tasks.task_objects(self._cards[c.task])
        except UserError as error:
            return error
        return None

    def open(self) -> None:
        first, sweep = self._first, self._sweep
        self.loaded = models.load(first.model, first.quantization, first.gpu, first.weights, sweep.trust_remote_code, sweep.seed)

    def work(self, w: PlannedWindow, clock: Clock) -> Work:
        c = w.configuration
        if c.task in self._cards:
            sizes = (c.batch_size, c.options["fewshot"], c.options.get("limit"))
            return TaskPasses(tasks.Passes(self.loaded, self._cards[c.task], *sizes, self._sweep.seed), self.loaded, clock)
        shape = generation.Generation(self.loaded, c.batch_size, c.input_tokens, c.output_tokens, **c.options)
        return FixedGeneration(shape, self.loaded, clock)


def system(first: Configuration, sweep: Sweep) -> System:
    """The system under test that a load's configurations need; `first` is one of them."""
    if sweep.server:
        return paths.server().System(first, sweep)
    return System(first, sweep) if is_simulated(first.gpu) else LoadedSystem(first, sweep)


COLUMNS = tuple(column.name for column in schema.WINDOWS)

Say = Callable[[str], None]


def run(sweep: Sweep, say: Say = print) -> Path:
    """Measure what the sweep asks for and is not on disk yet; returns the experiment's folder. `say` gets one line a window. Raises
    UserError for a model or GPU that is not there, a folder that cannot be written or that was measured in another way."""
    experiment = resolve_experiment(sweep)
    for asked in sweep.gpus:
        for model in sweep.models:
            if not _told_finished(experiment, sweep, asked, model, say):
                with machine.take("cpu" if sweep.server else asked, partial(marks, experiment, model=model), say) as card:
                    gpu = paths.server().resolve_gpu(sweep) if sweep.server else card.gpu
                    if not _told_finished(experiment, sweep, gpu, model, say):
                        _require(sweep, card, gpu, model)
                        _run_job(sweep, gpu, model, experiment, say)
    return experiment


def _told_finished(experiment: Path, sweep: Sweep, gpu: str, model: str, say: Say) -> bool:
    if finished := finished_job(experiment, sweep, gpu, model):
        say(f"{finished.name}: every window is on disk, nothing to measure")
    return finished is not None


def _require(sweep: Sweep, card: machine.Card, gpu: str, model: str) -> None:
    """Raise UserError for a model that is not to be had, and where CUDA chose another card than the leased one before the lease."""
    if sweep.server:
        paths.server().require(sweep, model)
    elif is_simulated(gpu):
        models.known_shapes(model)
    else:
        models.locate(model, sweep.weights)
    if card.gpu != "cpu" and not is_simulated(card.gpu) and (used := device.cuda_uuid()) != card.uuid:
        raise UserError(f"CUDA uses {used} in this process", f"the leased card {card.uuid}", "restart the kernel and run again")


def _run_job(sweep: Sweep, gpu: str, model: str, experiment: Path, say: Say) -> None:
    plan = job_order(sweep, gpu, model)
    is_here = not (is_simulated(gpu) or sweep.server)
    card = device.cuda_uuid() if is_here and gpu != "cpu" else gpu
    meter, why = paths.server().meter(sweep, gpu) if sweep.server else power.best_meter(card, sweep.meter, sweep.shared)
    threads = device.set_threads(sweep.threads) if is_here else None
    name = f"{gpu}--{slug(model)}--{device_mark(gpu, meter)}"
    revision = sources.revision(model) if is_here and sweep.weights == "published" else None
    _require_revision(experiment / name, model, revision)
    if differing := differing_settings(experiment / name, sweep):
        found = f"{experiment / name} was measured with another {', '.join(differing)}"
        raise UserError(found, "one protocol an experiment", "choose another experiment name")
    with JobStore(experiment / name) as store, meter:
        done = done_keys(store.directory)
        left = [w for w in plan if w.key not in done]
        say(f"{name}: {len(left)} of {len(plan)} windows to measure; {why}")
        store.append_provenance(
            machine.line(
                job=name,
                basis=meter.basis,
                gpu=gpu,
                model=model,
                revision=revision,
                threads=threads,
                roofs=device.processor_roofs() if gpu == "cpu" and not sweep.server else None,
                settings=sweep.model_dump(exclude={"experiment", *PRIVATE}) | {"tasks": sweep.task_names()},
                server=paths.server().facts(sweep) if sweep.server else None,
                meter=meter.metadata(),
                meter_why=why,
                limitations=meter.limitations(),
            )
        )
        job = _Job(sweep, meter, store, Protocol.of(sweep, meter), name, say, len(left))
        job.idle("bare")
        for _, windows in itertools.groupby(left, lambda w: (w.block, w.load)):
            job.measure_load(list(windows))


def _require_revision(job: Path, model: str, revision: str | None) -> None:
    """Raise UserError where the job was begun with another commit of the model's repository: two models in one cell."""
    before = {line.get("revision") for line in read_jsonl(job / "provenance.jsonl")} - {None}
    if revision and before and revision not in before:
        old = min(before)
        name = model.partition("@")[0]
        raise UserError(f"{model} is at {revision[:12]} now, and was at {old[:12]}", "one revision a job", f"measure {name}@{old}, or anew")


class _Job:
    """A running job: where rows go, and how far it is."""

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
        """Open what the windows run on once and measure them; whatever stops it becomes a row for each of them."""
        block = windows[0].block
        try:
            under_test = system(windows[0].configuration, self.sweep)
            refusals = [(w, under_test.refusal(w.configuration)) for w in windows]
            for w, refusal in refusals:
                if refusal:
                    self._commit(w, failure(refusal))
            if windows := [w for w, refusal in refusals if not refusal]:
                under_test.open()
        except Exception as error:
            for w in windows:
                self._commit(w, failure(error))
            windows = []
        if windows:
            try:
                baseline = self.idle("context", windows[0])
                for w in windows:
                    self._measure(w, under_test, baseline)
                self.idle("context_after", windows[0])
            finally:
                under_test.close()
        self.store.compact(block)

    def _measure(self, w: PlannedWindow, under_test: System, baseline: Baseline | None) -> None:
        """Warm up, measure one window and commit it. What the work raises becomes the row's status; a fault of ours is raised."""
        try:
            work = under_test.work(w, self.meter.clock)
            warm = work.warm_up(self.protocol.warmup_cap_s, self.meter.power_w)
            with power.window(self.meter, baseline, warm.step_time_s, pads_loaded=warm.keeps_running) as measured:
                work.run_for(self.protocol.window_s)
            done, scores = work.columns(), work.scores()
        except Exception as error:
            return self._commit(w, failure(error))
        sensed = {name: value for name, value in measured.context.items() if name in COLUMNS}
        row = measured.meter_columns() | sensed | warm.columns() | done
        if (busy := measured.context.get("cpu_threads_busy")) is not None:
            row["cpu_time_s"] = busy * measured.duration_s
        row["flags"] = [*measured.flags, *done.get("flags", []), *([] if warm.steady else ["not_steady"])]
        self._commit(w, row, [e.to_row() for e in measured.energies], measured.stream, scores)

    def _commit(self, w: PlannedWindow, row: dict, energies: Iterable[dict] = (), stream=None, scores: Iterable[dict] = ()) -> None:
        c = w.configuration
        fixed = {"job": self.name, "block": w.block, "configuration_id": c.configuration_id, "repeat": w.repeat, "attempt": new_attempt()}
        fixed |= c.columns() | {"order": w.order, "load": w.load, "meter": self.meter.name, "basis": self.meter.basis}
        window = dict.fromkeys(COLUMNS) | {"flags": [], "reason": ""} | row | fixed
        self.store.append_window(window, list(energies), stream, list(scores))
        self.ended += 1
        work = c.quantization if c.task == GENERATE else f"{c.quantization} {c.task}"
        if window["status"] == "ok":
            energy_j = sum(e["energy_j"] for e in energies if e["primary"] and e["energy_j"] is not None)
            n, unit = (window["tokens_out"], "tok") if c.task == GENERATE else (window["requests"], "item")
            outcome = f"{shortest(n / window['duration_s'])} {unit}/s, {shortest(energy_j / n)} J/{unit} ({window['basis']})"
        else:
            outcome = f"{window['status']} ({window['reason']})"
        what = f"block {w.block} {work} {c.options.get('load') or f'batch {c.batch_size}'}: {outcome}"
        left_s = (time.monotonic() - self.began_s) / self.ended * (self.total - self.ended)
        self.say(f"[{self.ended}/{self.total}] {what}; about {int(left_s // 60)}:{int(left_s % 60):02d} left")


def failure(error: Exception) -> dict:
    """Status and one-line reason of what stopped a window: failure is data. An error of the store itself is raised again."""
    if isinstance(error, WindowFault):
        return {"status": error.status, "reason": str(error)}
    if isinstance(error, CannotRun):
        return {"status": error.kind, "reason": str(error)}
    reason = " ".join(str(error).split())[:300] or type(error).__name__
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return {"status": "oom", "reason": reason}
    if isinstance(error, OSError):
        raise error
    return {"status": "failed", "reason": f"{type(error).__name__}: {reason}"}
