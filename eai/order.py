"""The seeded random order in which a job's windows are measured.

A block holds every configuration once: it is the replicate, so drift of the machine falls on all configurations alike. Loading a
model costs far more than a window, so inside a block the loads stand in random order and the configurations that share a load
(other batch sizes, other lengths) in random order within it: a split-plot design (Montgomery, Design and Analysis of Experiments, ch. 14).
"""

from dataclasses import dataclass

import numpy as np

from eai.settings import Configuration, Sweep


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


def block_order(configurations: list[Configuration], repeats: int, rng: np.random.Generator, block: int) -> list[PlannedWindow]:
    """One block: loads shuffled, then the windows of each load shuffled; every window once."""
    loads: dict[str, list[Configuration]] = {}
    for configuration in configurations:
        loads.setdefault(configuration.quantization, []).append(configuration)
    planned: list[PlannedWindow] = []
    for number, quantization in enumerate(rng.permutation(sorted(loads)), start=1):
        cells = [(c, repeat) for c in loads[str(quantization)] for repeat in range(1, repeats + 1)]
        for i in rng.permutation(len(cells)):
            configuration, repeat = cells[i]
            planned.append(PlannedWindow(block, number, len(planned) + 1, repeat, configuration))
    return planned


def job_order(sweep: Sweep, gpu: str, model: str) -> list[PlannedWindow]:
    """All windows of the job `gpu` x `model` in the order of measuring; the same sweep and seed give the same order."""
    configurations = sweep.configurations(gpu, model)
    blocks = range(1, sweep.blocks + 1)
    return [w for block in blocks for w in block_order(configurations, sweep.repeats, np.random.default_rng([sweep.seed, block]), block)]
