"""The system under test: what a load's windows run on, opened once and closed before the next."""

from typing import Protocol

from eai import plugins
from eai.errors import UserError
from eai.jobs import PlannedWindow
from eai.measure.simulation import SimulatedSystem
from eai.measure.work import FixedGeneration, Work, task_passes
from eai.power.meter import Clock
from eai.power.simulated import is_simulated
from eai.settings import Configuration, Sweep
from eai.workload import device, generation, models, tasks


class System(Protocol):
    """What the windows of one load share. `refusal` says beforehand why a window cannot run on it; None if it may."""

    def refusal(self, c: Configuration) -> Exception | None: ...
    def open(self) -> None: ...
    def work(self, w: PlannedWindow, clock: Clock) -> Work: ...
    def close(self) -> None: ...


class LoadedSystem:
    """A model in this process, under one strategy.

    Raises CannotRun before anything is loaded where the strategy cannot run here.
    """

    def __init__(self, first: Configuration, sweep: Sweep):
        device.release()
        device.reset_peak(models.torch_device(first.gpu))
        if refused := models.refusal(first):
            raise refused
        self._first, self._sweep, self._shapes = first, sweep, models.shapes(first.model)
        self._cards = sweep.task_cards()

    def refusal(self, c: Configuration) -> Exception | None:
        """CannotRun for what certainly cannot run or fit, a task's error where its items cannot be downloaded, else None."""
        try:
            if refused := models.refusal(c, self._shapes):
                return refused
            if c.task in self._cards:
                tasks.task_objects(self._cards[c.task])
        except UserError as error:
            return error
        return None

    def open(self) -> None:
        """Load the model and verify what the strategy made of it."""
        first, sweep = self._first, self._sweep
        self.loaded = models.load(first.model, first.quantization, first.gpu, first.weights, sweep.trust_remote_code, sweep.seed)

    def work(self, w: PlannedWindow, clock: Clock) -> Work:
        """The work of one window."""
        c = w.configuration
        if c.task in self._cards:
            return task_passes(self.loaded, self._cards[c.task], c.batch_size, c.options, self._sweep.seed, clock)
        shape = generation.Generation(self.loaded, c.batch_size, c.input_tokens, c.output_tokens, **c.options)
        return FixedGeneration(shape, self.loaded, clock)

    def close(self) -> None:
        """Nothing: the next load frees the memory of this one, after its own idle power was taken."""


def system(first: Configuration, sweep: Sweep) -> System:
    """The system under test that a load's configurations need; `first` is one of them."""
    if sweep.server:
        return plugins.server().System(first, sweep)
    return SimulatedSystem(first, sweep) if is_simulated(first.gpu) else LoadedSystem(first, sweep)
