"""A GPU that exists in software alone: known power over virtual time, seen through simulated sensors by the real meter.

`gpus: [simulated_h200_sxm]`, or any other NVIDIA slug of the catalog, runs the whole pipeline without a GPU and without loading a
model. Everything it yields has the basis `simulated`: it tests the measuring, it measures nothing. Its sensors behave as published for
its architecture (arXiv:2312.02741), with a gain, an offset and phases of each card's own.

Every stream begins at the same virtual second, so a window depends on nothing that ran before it. Environment:

    EAI_SIMULATED_GPUS    how many cards this machine has (1); CUDA_VISIBLE_DEVICES chooses among them as it does among real ones
    EAI_SIMULATED_PACE    host seconds that a virtual second takes (0: as fast as it can)
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from eai.errors import UserError
from eai.power.fake import CounterSpec, FakeCard, FakeNvml, SensorSpec, Timeline, VirtualClock
from eai.power.meter import Baseline
from eai.power.nvml import NvmlMeter, visible
from eai.power.sensor import ARCHITECTURES, GAIN_REL, OFFSET_W

if TYPE_CHECKING:
    from eai.catalog import Gpu

WIDTH = 3**0.5
"""Half width of a uniform draw of standard deviation 1: no card is wilder than its uncertainty budget can bear."""

LARGE_W = 400.0
"""Power limit from which on a card's offset is as large as published; below, it shrinks with the board."""

PREFIX = "simulated_"
START_S = 1000.0
BARE_SHARE, CONTEXT_SHARE = 0.10, 0.17
"""Idle power over the board's limit, bare and with a context: an H100 of 700 W draws 72 and 122 W."""

REST_C, HOT_C = 35.0, 75.0
"""Temperatures of an unloaded card and of one at its limit."""

SENSORS = {5: (0.020, 0.010), 7: (0.100, 0.025), 9: (0.100, 0.025)}
"""(update, averaging) [s] of the instant power by NVML's architecture number; (0.1, 0.1) for the others."""


def is_simulated(gpu: str) -> bool:
    """Whether `gpu` names a card that exists in software alone."""
    return gpu.startswith(PREFIX)


def model_of(gpu: str) -> Gpu:
    """The catalog's entry of the card that `gpu` simulates. Raises UserError for an unknown one, or one whose sensors are not known."""
    from eai import catalog

    found = catalog.gpu(gpu.removeprefix(PREFIX))
    if ARCHITECTURES.get(found.architecture, 0) < ARCHITECTURES["Volta"]:  # before Volta there is no energy counter
        known = ", ".join(name for name, number in ARCHITECTURES.items() if number >= ARCHITECTURES["Volta"])
        raise UserError(f"cannot simulate {found.name}", f"an NVIDIA GPU of {known} in data/catalog/gpus.csv", "choose another slug")
    return found


def count(environ: Mapping[str, str] = os.environ) -> int:
    """How many simulated cards this machine has. Raises UserError for a number that is none."""
    text = environ.get("EAI_SIMULATED_GPUS", "1")
    if not text.isdigit() or not 1 <= int(text) <= 255:
        raise UserError(f"EAI_SIMULATED_GPUS={text}", "a number from 1 to 255", "unset it for one card")
    return int(text)


def _pace(environ: Mapping[str, str]) -> float:
    text = environ.get("EAI_SIMULATED_PACE", "0")
    try:
        pace = float(text)
    except ValueError:
        pace = -1.0
    if not 0 <= pace <= 10:
        raise UserError(f"EAI_SIMULATED_PACE={text}", "host seconds a virtual second, 0 to 10", "unset it for no waiting")
    return pace


def uuid(gpu: str, index: int) -> str:
    """The UUID of card `index`: always the same, and told by its first eight digits, which name a job's folder."""
    digest = hashlib.sha256(model_of(gpu).slug.encode()).hexdigest()
    return f"GPU-5100{digest[:2]}{index:02x}-{digest[2:6]}-4{digest[6:9]}-8{digest[9:12]}-{digest[12:24]}"


def _card(gpu: str, index: int) -> FakeCard:
    """Card `index`: gain, offset and phases drawn from what the uncertainty budget states, by its UUID."""
    model, own = model_of(gpu), uuid(gpu, index)
    rng = np.random.default_rng(int(own[4:12], 16))
    architecture = ARCHITECTURES[model.architecture]
    update_s, averaging_s = SENSORS.get(architecture, (0.100, 0.100))
    gain = 1.0 + GAIN_REL * float(rng.uniform(-WIDTH, WIDTH))
    offset_w = OFFSET_W * min(model.tdp_w / LARGE_W, 1.0) * float(rng.uniform(-WIDTH, WIDTH))
    phase_s, tick_phase_s = float(rng.uniform(0, update_s)), float(rng.uniform(0, 0.100))
    sensor = SensorSpec(update_s, averaging_s, phase_s, gain=gain, offset_w=offset_w)
    return FakeCard(
        Timeline(START_S, BARE_SHARE * model.tdp_w),
        {"power_instant_w": sensor},
        CounterSpec(0.100, tick_phase_s, gain=gain, offset_w=offset_w),
        uuid=own,
        name=f"{model.name} (simulated)",
        architecture=architecture,
        power_limit_w=model.tdp_w,
        memory_total_bytes=int(model.memory_gb * 1e9),
        memory_used_bytes=0,
    )


def box(gpu: str, environ: Mapping[str, str] = os.environ) -> FakeNvml:
    """The driver of this machine's simulated cards, on a clock of their own."""
    clock = SimulatedClock(START_S, _pace(environ))
    return FakeNvml([_card(gpu, i) for i in range(count(environ))], clock, driver="simulated", vbios="simulated")


def present(gpu: str, environ: Mapping[str, str] = os.environ) -> list[tuple[str, str]]:
    """(UUID, slug) of the simulated cards that CUDA_VISIBLE_DEVICES leaves to this process, in its order."""
    return [(own, gpu) for own, _ in visible(box(gpu, environ), environ)]


class SimulatedClock(VirtualClock):
    """Virtual time in which a card works: while `work` passes, the card draws power."""

    card: FakeCard
    rest_w: float

    def work(self, duration_s: float, power_w: float) -> None:
        """Let time pass while the card draws `power_w`; a power above its limit is capped by it."""
        power_w = min(power_w, self.card.power_limit_w)
        self.card.truth.add(self.now_s(), duration_s, power_w)
        self.card.temperature_c = REST_C + (HOT_C - REST_C) * power_w / self.card.power_limit_w
        self.sleep(duration_s)

    def begin(self) -> None:
        """The first second again, the card at rest: what follows does not depend on what ran before."""
        self.restart(START_S)
        self.card.truth = Timeline(START_S, self.rest_w)


class SimulatedMeter(NvmlMeter):
    """The NVIDIA meter on one simulated card, the first visible one or the one named by its UUID. Basis `simulated`.

    `clock.work(duration_s, power_w)` is how work makes the card draw power.
    """

    name, basis = "simulated", "simulated"

    def __init__(self, gpu: str, own: str | None = None, environ: Mapping[str, str] = os.environ):
        nvml, model = box(gpu, environ), model_of(gpu)
        own = own or visible(nvml, environ)[0][0]
        super().__init__(nvml, own, nvml.clock, environ=environ)
        self.clock.card, self.clock.rest_w = self.cards[0].handle, CONTEXT_SHARE * model.tdp_w
        self._bare_w = BARE_SHARE * model.tdp_w
        self.clock.begin()

    def idle(self, duration_s: float = 5.0, kind: str = "context") -> Baseline:
        """Power of the card at rest; lower before anything was loaded."""
        context_w = self.clock.rest_w
        self.clock.rest_w = self._bare_w if kind == "bare" else context_w
        try:
            return super().idle(duration_s, kind)
        finally:
            self.clock.rest_w = context_w
            self.clock.begin()

    def start(self) -> None:
        """As on a real card, from the first virtual second."""
        self.clock.begin()
        super().start()

    def limitations(self) -> list[str]:
        """That nothing was measured, before what the real meter would say."""
        return ["simulated: no GPU was there, and no number of these says anything about one", *super().limitations()]
