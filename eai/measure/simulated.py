"""A load on a simulated card: the same loop, warm-up and window as on a real one, and no model."""

from eai import simulation
from eai.measure.work import FixedGeneration, Work
from eai.order import PlannedWindow
from eai.power.simulated import SimulatedClock
from eai.settings import Configuration, Sweep
from eai.workload import fit, models


class SimulatedSystem:
    """What the windows of one load run on where the card is simulated. Raises Unsupported where such a card could not run the strategy."""

    def __init__(self, first: Configuration, sweep: Sweep):
        simulation.require_supported(first)
        self._sweep = sweep

    def refusal(self, c: Configuration) -> Exception | None:
        """Unsupported or DoesNotFit for a configuration that a real card of this kind would refuse, else None."""
        try:
            simulation.require_supported(c)
            simulation.require_fit(c)
        except (models.Unsupported, fit.DoesNotFit) as error:
            return error
        return None

    def open(self) -> None:
        """Nothing is loaded."""

    def close(self) -> None:
        """Nothing was loaded."""

    def work(self, w: PlannedWindow, clock: SimulatedClock) -> Work:
        """The work of one window, which makes the card's clock move and its power rise."""
        return SimulatedWork(w, self._sweep, clock)


class SimulatedWork(FixedGeneration):
    """Fixed generation of which nothing is left but the time and the power it takes."""

    def __init__(self, w: PlannedWindow, sweep: Sweep, clock: SimulatedClock):
        clock.begin()
        self._simulated, self._is_lost = simulation.sizes(w.configuration), simulation.is_lost(w, sweep)
        super().__init__(simulation.SimulatedGeneration(w, sweep, clock), self._simulated, clock)

    def run_for(self, duration_s: float) -> None:
        """Whole calls until `duration_s` has passed; a card that is to be lost is lost half way."""
        if self._is_lost:
            self._clock.card.lost_at_s = self._clock.now_s() + duration_s / 2
        super().run_for(duration_s)

    def columns(self) -> dict:
        """The window's columns about the work, memory as the shapes say."""
        return super().columns() | {"memory_peak_gb": self._simulated.memory_gb}
