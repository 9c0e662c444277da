"""The stages of the campaign that are no sweeps: the card and its sensor, whether each strategy computes what it should, other methods."""

import statistics
import time
from dataclasses import asdict

import generation_ratio
import known_power
import numpy as np
import pandas as pd
import sampler_cost

from eai import jobs, machine, power
from eai.errors import UserError
from eai.measure.job import system
from eai.power import probe as probing
from eai.power.nvml import NvmlMeter
from eai.power.readings import row
from eai.power.simulated import SimulatedMeter, is_simulated
from eai.settings import EMBEDDED_MODEL

POLL_S, POLLED_S, STEADY_READS, LEVEL_S, READS = 0.05, 4.0, 12, 5.0, 200
STRATEGIES = ("bf16", "fp16", "int8_default", "int8_pure", "nf4", "fp8")
NO_MODEL = {"basis": "simulated", "reason": "a simulated card loads no model"}
BESIDE = {"models": ["Qwen/Qwen2-1.5B-Instruct"], "quantizations": ["bf16"], "batch_sizes": [1], "blocks": 1}
BESIDE_WINDOWS, BESIDE_S = 3, 6.0


def meter_of(campaign) -> NvmlMeter:
    """The GPU's meter alone, without the processor's beside it."""
    if is_simulated(campaign.gpu):
        return SimulatedMeter(campaign.gpu)
    from eai.workload import device

    return NvmlMeter(gpu=device.cuda_uuid())


def busy_of(meter: NvmlMeter) -> probing.Busy:
    """A load of the meter's card that lasts as long as it is told to."""
    if isinstance(meter, SimulatedMeter):
        return lambda duration_s: meter.clock.work(duration_s, 0.8 * meter.clock.card.power_limit_w)
    return probing.torch_load()


def facts(campaign) -> dict:
    """What `eai doctor` and NVML say, the cost of a reading [ms], and the counter beside the integral of power at idle and under full load.
    The readings of both windows are kept in raw.parquet."""
    with meter_of(campaign) as meter:
        card, busy, levels, streams = meter.cards[0], busy_of(meter), {}, []
        busy(1.0)
        baseline = meter.idle(1.5, "context")
        for name, work in {"idle": meter.clock.sleep, "load": busy}.items():
            with power.window(meter, baseline) as window:
                work(LEVEL_S)
            levels[name] = {"duration_s": window.duration_s, "status": window.status, **{e.method: e.energy_j for e in window.energies}}
            streams.append(window.stream.assign(level=name))
        cost = {name: _reading_ms(read) for name, read in {"power": card.power, "edge": card.edge}.items()}
    pd.concat(streams).to_parquet(campaign.out / "raw.parquet")
    return {"basis": meter.basis, "doctor": machine.examine(), "card": card.facts(), "levels": levels, "reading_ms": cost}


def _reading_ms(read) -> dict:
    """Median and 95th percentile of the time that a reading takes [ms]."""
    spent_ms = []
    for _ in range(READS):
        begin_s = time.perf_counter()
        read()
        spent_ms.append(1e3 * (time.perf_counter() - begin_s))
    return {"median": float(np.median(spent_ms)), "p95": float(np.quantile(spent_ms, 0.95))}


def correct(campaign) -> dict:
    """Each strategy on the embedded model: verified when it is loaded, then each layer's output against that of fp32. Where the model's
    package is not at hand, random weights in its shapes with planted outlier channels. A strategy that does not run has its reason."""
    if is_simulated(campaign.gpu):
        return NO_MODEL
    from eai.workload import models

    model, weights = EMBEDDED_MODEL, "published"
    try:
        models.locate(model)
    except UserError:
        model, weights = "HuggingFaceTB/SmolLM2-135M-Instruct", "random_outliers"
    rows = []
    for strategy in STRATEGIES:
        try:
            error = models.layer_errors(model, [strategy], campaign.gpu, weights)["error"]
            rows.append({"strategy": strategy, "status": "ok", "last_layer": float(error.iloc[-1]), "by_layer": error.tolist()})
        except Exception as error:  # whatever a library does on a card that it has not met: the others go on
            rows.append({"strategy": strategy, "status": "failed", "reason": f"{type(error).__name__}: {error}".splitlines()[0][:300]})
    return {"basis": "measured", "model": model, "weights": weights, "strategies": rows}


def ratio(campaign) -> dict:
    """Throughput of a measured generation over a bare `generate`, median of pairs with its 95 % interval."""
    if is_simulated(campaign.gpu):
        return NO_MODEL
    from eai.workload import generation, models

    loaded, found = models.load(BESIDE["models"][0], "bf16", campaign.gpu, "random_outliers"), []
    for batch in (1, 8):
        logs = generation_ratio.log_ratios(generation.Generation(loaded, batch, 128, 32), 8, np.random.default_rng(0))
        value, low, high = (float(np.exp(v)) for v in generation_ratio.median_interval(logs))
        found.append({"batch_size": batch, "ratio": value, "low": low, "high": high, "pairs": len(logs)})
    return {"basis": "measured", "model": BESIDE["models"][0], "ratios": found}


def cost(campaign) -> dict:
    """What the sampler costs with the real driver: its share of a core, and what a decode loop on the processor loses."""
    if is_simulated(campaign.gpu):
        return NO_MODEL
    with meter_of(campaign) as meter:
        share, rate_hz, beats = sampler_cost.cpu_share(meter, 8.0)
        return {"basis": "measured", "cpu_share": share, "rate_hz": rate_hz, "beats": beats, **sampler_cost.throughput_loss(meter, 20)}


def probe(campaign) -> dict:
    """What the sensor does: idle power without a context, everything that eai.power.probe finds, and the cost of polling the counter."""
    with meter_of(campaign) as meter:
        bare = meter.idle(3.0, "bare")
        card, busy = meter.cards[0], busy_of(meter)
        found = probing.probe(card, busy, steady_reads=STEADY_READS, keep=not is_simulated(campaign.gpu))
        levels = {"bare_idle_w": bare.power_w.get(card.uuid), "idle_w": found.idle_w, "load_w": found.load_w}
        facts = {"card": card.facts(), "counter_spread": found.counter_spread, "polling": polling(card, busy) if card.has_counter else None}
    return {"basis": meter.basis, **levels, **facts, "sensor": asdict(found.sensor)}


def polling(card, busy: probing.Busy) -> dict:
    """Mean power [W] under a steady load by the counter's edges, left alone and read 20 times a second between them: some lose energy."""

    def counter() -> list:
        return [r for r in card.edge() if r[3] == "energy_counter_j"]

    def mean_w(polled: bool) -> float:
        sampler, first = card.clock.sampler(counter, POLL_S), counter()[0]
        if polled:
            sampler.start()
        busy(POLLED_S)
        if polled:
            sampler.stop()
        last = counter()[0]
        return (last[4] - first[4]) / (last[0] - first[0])

    busy(2.0)
    quiet_w, polled_w = mean_w(False), mean_w(True)
    return {"quiet_w": quiet_w, "polled_w": polled_w, "loss": 1 - polled_w / quiet_w, "period_s": POLL_S}


def beside(campaign) -> dict:
    """The same windows of generation by our meter, by the mean of readings at 10 and at 1 Hz times the time, and by zeus where it is."""
    asked = campaign.sweep(BESIDE | {"weights": "random_outliers", "input_tokens": [128], "output_tokens": [64]})
    planned = jobs.job_order(asked, campaign.gpu, asked.models[0])[0]
    under_test = system(planned.configuration, asked)
    under_test.open()
    with meter_of(campaign) as meter:
        baseline = meter.idle(1.5, "context")
        rows = [_window(meter, baseline, under_test.work(planned, meter.clock)) for _ in range(BESIDE_WINDOWS)]
    under_test.close()
    names = [name for name in rows[0] if name.endswith("_over_ours")]
    return {"basis": meter.basis, "windows": rows, "medians": {n: statistics.median(r[n] for r in rows if r[n] is not None) for n in names}}


def _window(meter: NvmlMeter, baseline: power.Baseline, work) -> dict:
    """One window by every method at once."""
    card, clock = meter.cards[0], meter.clock
    warm = work.warm_up(1.5, meter.power_w)
    samplers = {"mean_10hz": clock.sampler(lambda: usage(card), 0.1), "mean_1hz": clock.sampler(lambda: usage(card), 1.0)}
    with power.window(meter, baseline, warm.step_time_s) as window:
        zeus = _Zeus(isinstance(meter, SimulatedMeter))
        for sampler in samplers.values():
            sampler.start()
        work.run_for(BESIDE_S)
        readings = {name: [r[4] for r in sampler.stop()] for name, sampler in samplers.items()}
        zeus_j = zeus.end_j()
    ours = next(e.energy_j for e in window.energies if e.primary)
    found = {name: statistics.mean(values) * window.duration_s for name, values in readings.items()}
    t_s, power_w = _trace(window.stream, card)
    for name, method in (("inside_trapezoid", known_power.inside_trapezoid), ("dedup_trapezoid", known_power.dedup_trapezoid)):
        found[name] = method(t_s, power_w, window.start_s, window.stop_s)
    found |= {"zeus": zeus_j}
    shares = {f"{name}_over_ours": value / ours if value is not None else None for name, value in found.items() if name != "zeus" or value}
    told = {"status": window.status, "duration_s": window.duration_s, "ours_j": ours, "zeus_why": zeus.why}
    return {**told, **{f"{n}_j": v for n, v in found.items()}, **shares}


def usage(card) -> list:
    """The reading that nvidia-smi logs, as one row: PowerUsage where the card has it, else the field that our meter reads."""
    try:
        value_w = card.nvml.nvmlDeviceGetPowerUsage(card.handle) / 1e3
    except card.nvml.NVMLError:
        return card.power()
    return [row(card.clock.now_s(), card.uuid, "gpu", "power_usage_w", value_w)]


def _trace(stream, card):
    own = stream[stream["field"] == card.power_field].sort_values("t_s")
    return own["t_s"].to_numpy(), own["value"].to_numpy()


class _Zeus:
    """A window of zeus over the same work, where the package is installed and the card is real; `why` says what stopped it."""

    def __init__(self, is_simulated_card: bool):
        self._monitor, self.why = None, "a simulated card" if is_simulated_card else ""
        if is_simulated_card:
            return
        try:
            from zeus.monitor import ZeusMonitor

            self._monitor = ZeusMonitor(gpu_indices=[0])
            self._monitor.begin_window("beside")
        except Exception as error:  # it is one method of several: the others go on without it
            self._monitor, self.why = None, f"{type(error).__name__}: {error}".splitlines()[0][:200]

    def end_j(self) -> float | None:
        """The energy that zeus found [J], None without zeus."""
        return None if self._monitor is None else float(sum(self._monitor.end_window("beside").gpu_energy.values()))
