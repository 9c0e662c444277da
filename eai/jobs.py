"""Jobs of a sweep: their windows in seeded random order, which card and folder they belong to, what is already measured."""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from eai import machine, tables
from eai.paths import slug
from eai.power.meter import Meter
from eai.settings import Configuration, Sweep

SAME_THROUGHOUT = ("window_s", "warmup_cap_s", "idle_s", "threads", "seed", "meter")
RETRIED = ("failed", "lost", "timeout")
NOT_AGAIN = "EAI_NOT_AGAIN"
"""Environment variable: attempts, separated by commas, that failed in this very run and are left for the next one."""


@dataclass(frozen=True)
class PlannedWindow:
    """One window to measure: its block, load and place in the block (all from 1), and repeat."""

    block: int
    load: int
    order: int
    repeat: int
    configuration: Configuration

    @property
    def key(self) -> tuple[int, str, int]:
        """(block, configuration_id, repeat): unique within a job."""
        return (self.block, self.configuration.configuration_id, self.repeat)


def job_order(sweep: Sweep, gpu: str, model: str) -> list[PlannedWindow]:
    """All windows of the job `gpu` x `model` in the order of measuring; the same sweep and seed give the same order.

    A block holds every configuration once: it is the replicate, so drift of the machine falls on all configurations alike. Loading a
    model costs far more than a window, so inside a block the loads stand in random order and the configurations that share a load
    (other batch sizes, other lengths) in random order within it: a split-plot design (Montgomery, Design and Analysis of Experiments,
    chapter 14).
    """
    loads: dict[str, list[Configuration]] = {}
    for configuration in sweep.configurations(gpu, model):
        loads.setdefault(configuration.quantization, []).append(configuration)
    planned: list[PlannedWindow] = []
    for block in range(1, sweep.blocks + 1):
        rng, before = np.random.default_rng([sweep.seed, block]), len(planned)
        for number, quantization in enumerate(rng.permutation(sorted(loads)), start=1):
            cells = [(c, repeat) for c in loads[str(quantization)] for repeat in range(1, sweep.repeats + 1)]
            for configuration, repeat in (cells[i] for i in rng.permutation(len(cells))):
                planned.append(PlannedWindow(block, number, len(planned) - before + 1, repeat, configuration))
    return planned


def device_mark(gpu: str, meter: Meter) -> str:
    """8 characters that tell this card, or this machine where there is none, from another."""
    if gpu == "cpu" and meter.name != "none":
        return machine.machine_mark()
    return slug(meter.devices()[0].device_id.removeprefix("GPU-"))[:8]


def finished_job(experiment: Path, sweep: Sweep, gpu: str, model: str) -> Path | None:
    """A job folder that already holds every window of the sweep, measured the same way, on whichever card; None if there is none."""
    wanted = wanted_keys(sweep, gpu, model)
    for directory in folders(experiment, gpu, model):
        if wanted <= done_keys(directory) and not differing_settings(directory, sweep):
            return directory
    return None


def folders(experiment: Path, gpu: str, model: str) -> list[Path]:
    """The folders of a job, one a card it has begun on, sorted by name."""
    return sorted(experiment.glob(f"{gpu}--{slug(model)}--*"))


def marks(experiment: Path, gpu: str, model: str) -> list[str]:
    """The marks of the cards on which a job has begun."""
    return [folder.name.rpartition("--")[2] for folder in folders(experiment, gpu, model)]


def wanted_keys(sweep: Sweep, gpu: str, model: str) -> set[tuple[int, str, int]]:
    """The keys (block, configuration_id, repeat) of all windows of a job; the order of measuring does not matter here."""
    ids = [c.configuration_id for c in sweep.configurations(gpu, model)]
    return {(block, i, repeat) for block in range(1, sweep.blocks + 1) for i in ids for repeat in range(1, sweep.repeats + 1)}


def differing_settings(directory: Path, sweep: Sweep) -> list[str]:
    """The settings that decide how a window is measured and that differ from those of the windows already in a job folder."""
    earlier = [line["settings"] for line in tables.read_jsonl(directory / "provenance.jsonl")]
    return [name for name in SAME_THROUGHOUT if any(old.get(name) != getattr(sweep, name) for old in earlier)]


def done_keys(directory: Path) -> set[tuple]:
    """Keys of the windows on disk that need no second try: failures that may be gone tomorrow do."""
    rows = tables.read_jsonl(directory / "windows.jsonl")
    last = {(row["block"], row["configuration_id"], row["repeat"]): row for row in rows}
    not_again = set(os.environ.get(NOT_AGAIN, "").split(","))
    return {key for key, row in last.items() if row["status"] not in RETRIED or row.get("attempt") in not_again}


def resolve_experiment(sweep: Sweep) -> Path:
    """The folder a sweep writes to; `auto` is data/sample if that holds all of it, else a run named after the settings."""
    if sweep.experiment != "auto":
        return tables.experiment_dir(sweep.experiment)
    jobs = [("cpu" if gpu == "auto" else gpu, model) for gpu in sweep.gpus for model in sweep.models]
    sample = tables.experiment_dir("sample")
    if all(finished_job(sample, sweep, *job) for job in jobs):
        return sample
    return tables.experiment_dir(f"run-{sweep.digest()}")
