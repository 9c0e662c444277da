"""A fake NVML over simulated sensors, to be injected where the real binding goes; faults are scheduled, not improvised.

It answers with the real binding's constants and exceptions, so the meter under test cannot tell the difference. Time is a clock that
the meter shares, so a ten-second window takes milliseconds.
"""

from collections import defaultdict
from dataclasses import dataclass, field
from types import SimpleNamespace

import numpy as np

from eai.power.simulate import CounterSpec, SensorSpec
from eai.power.truth import Timeline, Truth
from eai.power.virtual import VirtualClock


@dataclass
class FakeCard:
    """One simulated GPU. `truth`: its power curve, fixed or growing as the work runs.

    `sensors` maps field names (power_instant_w, power_average_w, power_usage_w) to their behaviour.

    Faults: `lost_at_s` and `error_from_s` (with `error_code`) by the clock, `zero_from_s` for readings of 0, `denied` for NVML functions
    that answer NotSupported, `corrupts_below_s`: reading the counter again within this time loses `corruption` of what was added.
    """

    truth: Truth | Timeline
    sensors: dict[str, SensorSpec]
    counter: CounterSpec | None = None
    uuid: str = "GPU-00000000-0000-0000-0000-000000000000"
    name: str = "NVIDIA A100-SXM4-40GB"
    architecture: int = 7
    mig: bool = False
    virtual: bool = False
    processes: tuple[int, ...] = ()
    temperature_c: float = 55.0
    sm_clock_mhz: int = 1410
    power_limit_w: float = 400.0
    memory_total_bytes: int = 40 * 10**9
    memory_used_bytes: int = 16 * 10**9
    throttle_s: tuple[tuple[float, float], ...] = ()
    capped_s: tuple[tuple[float, float], ...] = ()
    lost_at_s: float | None = None
    zero_from_s: float | None = None
    error_from_s: float | None = None
    error_code: int = 999
    denied: frozenset[str] = field(default_factory=frozenset)
    corrupts_below_s: float = 0.0
    corruption: float = 0.0


def _overlap_s(spans: tuple[tuple[float, float], ...], until_s: float) -> float:
    return sum(max(min(stop, until_s) - start, 0.0) for start, stop in spans)


class FakeNvml:
    """The functions of the NVML binding that the meter uses, over `cards` on `clock`; `calls` counts them by name."""

    def __init__(self, cards: list[FakeCard], clock: VirtualClock, driver: str = "550.54.15", vbios: str = "92.00.45.00.03"):
        import pynvml

        self._real, self.cards, self.clock, self.driver, self.vbios = pynvml, cards, clock, driver, vbios
        self.calls: dict[str, int] = defaultdict(int)
        self._counter_read: dict[str, tuple[float, float]] = {}
        self._counter_loss: dict[str, float] = defaultdict(float)

    def __getattr__(self, name: str):
        """Constants and exceptions of the real binding; any function not simulated here is an error of the test."""
        value = getattr(self._real, name)
        if callable(value) and not isinstance(value, type):
            raise AttributeError(f"the fake NVML has no {name}")
        return value

    def _enter(self, function: str, card: FakeCard) -> float:
        """Count the call, raise the faults that are due, return the time."""
        self.calls[function] += 1
        now_s = self.clock.now_s()
        if card.lost_at_s is not None and now_s >= card.lost_at_s:
            raise self._real.NVMLError(self._real.NVML_ERROR_GPU_IS_LOST)
        if function in card.denied:
            raise self._real.NVMLError(self._real.NVML_ERROR_NOT_SUPPORTED)
        if card.error_from_s is not None and now_s >= card.error_from_s:
            raise self._real.NVMLError(card.error_code)
        return now_s

    def _power_w(self, card: FakeCard, name: str, now_s: float) -> float:
        if card.zero_from_s is not None and now_s >= card.zero_from_s:
            return 0.0
        return float(card.sensors[name].read(card.truth, np.array([now_s]))[0])

    def nvmlDeviceGetCount(self):
        return len(self.cards)

    def nvmlDeviceGetHandleByIndex(self, index):
        return self.cards[index]

    def nvmlDeviceGetUUID(self, card):
        return card.uuid

    def nvmlDeviceGetName(self, card):
        return card.name

    def nvmlDeviceGetArchitecture(self, card):
        return card.architecture

    def nvmlSystemGetDriverVersion(self):
        return self.driver

    def nvmlDeviceGetVbiosVersion(self, card):
        return self.vbios

    def nvmlDeviceGetFieldValues(self, card, field_ids):
        now_s = self._enter("nvmlDeviceGetFieldValues", card)
        names = {self._real.NVML_FI_DEV_POWER_INSTANT: "power_instant_w", self._real.NVML_FI_DEV_POWER_AVERAGE: "power_average_w"}
        values = []
        for field_id in field_ids:
            name = names.get(field_id)
            known = name in card.sensors
            milliwatts = round(1e3 * self._power_w(card, name, now_s)) if known else 0
            published_s = float(card.sensors[name].update_times(np.array([now_s]))[0]) if known else 0.0
            values.append(
                SimpleNamespace(
                    fieldId=field_id,
                    nvmlReturn=0 if known else self._real.NVML_ERROR_NOT_SUPPORTED,
                    value=SimpleNamespace(uiVal=max(milliwatts, 0)),
                    timestamp=int(published_s * 1e6),
                    latencyUsec=40,
                )
            )
        return values

    def nvmlDeviceGetPowerUsage(self, card):
        now_s = self._enter("nvmlDeviceGetPowerUsage", card)
        if "power_usage_w" not in card.sensors:
            raise self._real.NVMLError(self._real.NVML_ERROR_NOT_SUPPORTED)
        return max(round(1e3 * self._power_w(card, "power_usage_w", now_s)), 0)

    def nvmlDeviceGetTotalEnergyConsumption(self, card):
        now_s = self._enter("nvmlDeviceGetTotalEnergyConsumption", card)
        if card.counter is None:
            raise self._real.NVMLError(self._real.NVML_ERROR_NOT_SUPPORTED)
        value_j = float(card.counter.read(card.truth, np.array([now_s]))[0])
        before_s, before_j = self._counter_read.get(card.uuid, (-np.inf, value_j))
        if now_s - before_s < card.corrupts_below_s:
            self._counter_loss[card.uuid] += card.corruption * (value_j - before_j)
        self._counter_read[card.uuid] = (now_s, value_j)
        return int(1e3 * (value_j - self._counter_loss[card.uuid]))

    def nvmlDeviceGetViolationStatus(self, card, policy):
        now_s = self._enter("nvmlDeviceGetViolationStatus", card)
        spans = card.throttle_s if policy == self._real.NVML_PERF_POLICY_THERMAL else card.capped_s
        return SimpleNamespace(referenceTime=int(now_s * 1e6), violationTime=int(_overlap_s(spans, now_s) * 1e9))

    def nvmlDeviceGetEnforcedPowerLimit(self, card):
        self._enter("nvmlDeviceGetEnforcedPowerLimit", card)
        return round(card.power_limit_w * 1e3)

    def nvmlDeviceGetTemperature(self, card, sensor):
        self._enter("nvmlDeviceGetTemperature", card)
        return round(card.temperature_c)

    def nvmlDeviceGetClockInfo(self, card, clock):
        self._enter("nvmlDeviceGetClockInfo", card)
        return card.sm_clock_mhz if clock == self._real.NVML_CLOCK_SM else 1215

    def nvmlDeviceGetUtilizationRates(self, card):
        now_s = self._enter("nvmlDeviceGetUtilizationRates", card)
        return SimpleNamespace(gpu=100 if card.truth.start_s <= now_s <= card.truth.stop_s else 0, memory=0)

    def nvmlDeviceGetMemoryInfo(self, card):
        self._enter("nvmlDeviceGetMemoryInfo", card)
        total, used = card.memory_total_bytes, card.memory_used_bytes
        return SimpleNamespace(total=total, used=used, free=total - used)

    def nvmlDeviceGetCurrentClocksEventReasons(self, card):
        self._enter("nvmlDeviceGetCurrentClocksEventReasons", card)
        return 0

    def nvmlDeviceGetMigMode(self, card):
        self._enter("nvmlDeviceGetMigMode", card)
        return [int(card.mig), int(card.mig)]

    def nvmlDeviceGetVirtualizationMode(self, card):
        self._enter("nvmlDeviceGetVirtualizationMode", card)
        return self._real.NVML_GPU_VIRTUALIZATION_MODE_VGPU if card.virtual else self._real.NVML_GPU_VIRTUALIZATION_MODE_NONE

    def nvmlDeviceGetComputeRunningProcesses(self, card):
        self._enter("nvmlDeviceGetComputeRunningProcesses", card)
        return [SimpleNamespace(pid=pid, usedGpuMemory=10**9) for pid in card.processes]

    def nvmlDeviceGetPersistenceMode(self, card):
        self._enter("nvmlDeviceGetPersistenceMode", card)
        return 1

    def nvmlDeviceGetEccMode(self, card):
        self._enter("nvmlDeviceGetEccMode", card)
        return [1, 1]
