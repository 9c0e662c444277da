"""The stages of the campaign that are no sweeps: the card's sensor, other methods beside ours, outlier channels of real weights."""

import statistics
from dataclasses import asdict

import known_power

from eai import jobs, power
from eai.measure.job import system
from eai.power import probe as probing
from eai.power.nvml import NvmlMeter
from eai.power.readings import row
from eai.power.simulated import SimulatedMeter, is_simulated
from eai.settings import EMBEDDED_MODEL

POLL_S, POLLED_S = 0.05, 8.0
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


def probe(campaign) -> dict:
    """What the sensor does: idle power without a context, everything that eai.power.probe finds, and the cost of polling the counter."""
    with meter_of(campaign) as meter:
        bare = meter.idle(3.0, "bare")
        card, busy = meter.cards[0], busy_of(meter)
        found = probing.probe(card, busy, steady_reads=20, keep=not is_simulated(campaign.gpu))
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
    return {"status": window.status, "duration_s": window.duration_s, "ours_j": ours, **{f"{n}_j": v for n, v in found.items()}, **shares}


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
    """A window of zeus over the same work, where the package is installed and the card is real."""

    def __init__(self, is_simulated_card: bool):
        self._monitor = None
        if is_simulated_card:
            return
        try:
            from zeus.monitor import ZeusMonitor
        except ImportError:
            return
        self._monitor = ZeusMonitor(gpu_indices=[0])
        self._monitor.begin_window("beside")

    def end_j(self) -> float | None:
        """The energy that zeus found [J], None without zeus."""
        return None if self._monitor is None else float(sum(self._monitor.end_window("beside").gpu_energy.values()))


def outliers(campaign) -> dict:
    """Share of channels of magnitude 6 and more, by projection: of the embedded model's real weights, and as planted in random ones."""
    if is_simulated(campaign.gpu):
        return {"basis": "simulated", "reason": "a simulated card loads no model"}
    from eai.workload import generation, models, sources

    real = models.load(EMBEDDED_MODEL, "bf16", campaign.gpu)
    ids = generation.prompts(generation.passage_tokens(real.tokenizer), 1, 128)
    found = {"real_prefill": sources.outlier_shares(real.model, ids), "real_decode": sources.outlier_shares(real.model, [ids[0][-1:]])}
    planted = models.load(BESIDE["models"][0], "bf16", campaign.gpu, "random_outliers")
    return {"basis": "measured", **found, "planted": planted.report["outlier_shares"], "planted_share": sources.PLANTED_SHARE}
