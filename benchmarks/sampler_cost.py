"""What sampling at 20 Hz costs: CPU time of the sampler, and throughput of a running decode loop; prints one JSON line.

    python benchmarks/sampler_cost.py [--seconds 20] [--pairs 200]

Where there is an NVIDIA GPU its NVML is read, else a card whose power reading is constant, on the real clock and thread: then the number
is the cost of our own code and says nothing of the driver's. The loop is a decoder's: small matrix-vector
products in one thread, issued from Python, so it competes with the sampler for the interpreter as generation does. Sampled and
unsampled slices alternate in random order.
"""

import argparse
import json
import time
from types import SimpleNamespace

import known_power
import numpy as np
from faulty_nvml import CounterSpec, FakeCard, FakeNvml
from scipy import stats

from eai.errors import UserError
from eai.power.meter import Clock
from eai.power.nvml import NvmlMeter
from eai.power.simulated import SensorSpec

SLICE_S = 0.25


class ConstantNvml(FakeNvml):
    """A driver that answers at once: simulating a sensor would cost more than reading it."""

    ANSWER = (SimpleNamespace(nvmlReturn=0, value=SimpleNamespace(uiVal=300_000), timestamp=0, latencyUsec=0),)

    def nvmlDeviceGetFieldValues(self, card, field_ids):
        return self.ANSWER


def meter() -> tuple[NvmlMeter, bool]:
    """(meter, whether its card is real)."""
    try:
        return NvmlMeter(shared=True), True
    except UserError:
        clock = Clock()
        load = known_power.constant(clock.now_s() - 1.0, 1.0, 300.0, 80.0)
        card = FakeCard(load, {"power_instant_w": SensorSpec()}, CounterSpec())
        return NvmlMeter(ConstantNvml([card], clock), clock=clock, environ={}), False


def cpu_share(source: NvmlMeter, seconds: float) -> tuple[float, float, int]:
    """(share of one core, sampling rate in Hz, beats) of a meter that samples while nothing else runs."""
    source.start()
    cpu_s, begin_s = time.process_time(), time.monotonic()
    time.sleep(seconds)
    cpu_s, duration_s = time.process_time() - cpu_s, time.monotonic() - begin_s
    stream = source.stop()
    beats = int((stream["field"] == source.cards[0].power_field).sum())
    return cpu_s / duration_s, 1 / source.sample_s, beats


def decode_steps(weights: list, x, until_s: float) -> float:
    """Steps of a small decoder per second until a time."""
    import torch

    steps, begin_s = 0, time.monotonic()
    with torch.inference_mode():
        while time.monotonic() < until_s:
            for w in weights:
                x = torch.nn.functional.silu(torch.mv(w, x))
            steps += 1
    return steps / (time.monotonic() - begin_s)


def throughput_loss(source: NvmlMeter, pairs: int) -> dict:
    """Loss of decode throughput with the sampler on: median of paired log ratios with its 95 % interval.

    The interval is that of the order statistics: on a machine that others use too, single slices are far out.
    """
    import torch

    torch.set_num_threads(1)
    torch.manual_seed(0)
    weights = [torch.randn(576, 576) / 24 for _ in range(60)]
    x, rng, ratios = torch.randn(576), np.random.default_rng(0), []
    decode_steps(weights, x, time.monotonic() + 2)
    for _ in range(pairs):
        rates = {}
        for sampled in rng.permutation([True, False]):
            if sampled:
                source.start()
            rates[bool(sampled)] = decode_steps(weights, x, time.monotonic() + SLICE_S)
            if sampled:
                source.stop()
        ratios.append(np.log(rates[False] / rates[True]))
    ratios = np.sort(ratios)
    below = int(stats.binom.ppf(0.025, pairs, 0.5))
    low, high = float(ratios[max(below - 1, 0)]), float(ratios[min(pairs - below, pairs - 1)])
    return {"loss": float(np.median(ratios)), "loss_low": low, "loss_high": high, "pairs": pairs}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--pairs", type=int, default=200)
    arguments = parser.parse_args()
    source, real = meter()
    with source:
        share, rate_hz, beats = cpu_share(source, arguments.seconds)
        loss = throughput_loss(source, arguments.pairs)
    result = {"benchmark": "sampler_cost", "real_gpu": real, "rate_hz": rate_hz, "beats": beats, "cpu_share": share, **loss}
    print(json.dumps(result | {"ok": share <= 0.01 and loss["loss_high"] <= 0.01}))


if __name__ == "__main__":
    main()
