"""The system under test: what a load's windows run on, opened once and closed before the next."""

from typing import Protocol

from eai.measure.work import FixedGeneration, Work
from eai.power.clock import Clock
from eai.settings import Configuration, Sweep
from eai.workload import device, fit, generation, memory, models


class System(Protocol):
    """What the windows of one load share. `refusal` says beforehand why a window cannot run on it; None if it may."""

    def refusal(self, c: Configuration) -> Exception | None: ...
    def open(self) -> None: ...
    def work(self, c: Configuration, clock: Clock) -> Work: ...


class LoadedSystem:
    """A model in this process, under one strategy.

    Raises Unsupported before anything is loaded where the strategy cannot run here.
    """

    def __init__(self, first: Configuration, sweep: Sweep):
        device.release()
        memory.reset_peak(models.torch_device(first.gpu))
        models.require_supported(first.quantization, first.gpu, first.weights)
        self._first, self._sweep, self._shapes = first, sweep, fit.shapes(first.model)

    def refusal(self, c: Configuration) -> Exception | None:
        """DoesNotFit for a configuration that certainly needs more memory than is free, else None."""
        try:
            fit.check(self._shapes, c, models.torch_device(c.gpu))
        except fit.DoesNotFit as error:
            return error
        return None

    def open(self) -> None:
        """Load the model and verify what the strategy made of it."""
        first, sweep = self._first, self._sweep
        self.loaded = models.load(first.model, first.quantization, first.gpu, first.weights, sweep.trust_remote_code, sweep.seed)

    def work(self, c: Configuration, clock: Clock) -> Work:
        """The work of one window."""
        shape = generation.Generation(self.loaded, c.batch_size, c.input_tokens, c.output_tokens, **c.options)
        return FixedGeneration(shape, self.loaded, clock)


def system(first: Configuration, sweep: Sweep) -> System:
    """The system under test that a load's configurations need; `first` is one of them."""
    return LoadedSystem(first, sweep)
