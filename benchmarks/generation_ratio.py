"""Throughput of a measured generation over a bare `generate` of the same shape; prints one JSON line.

    python benchmarks/generation_ratio.py [--model ID] [--weights W] [--quantization Q] [--batch-size N]
        [--input-tokens N] [--output-tokens N] [--pairs 30]

What is measured must be the model, not our own loop: the ratio has to be at least 0.99. Bare is what a user would write, `generate` with
a limit on new tokens and nothing else; measured is `Generation.run`, which holds the length, synchronizes and counts. Both run on the same
loaded model with the same prompts, in pairs of random order; the interval of the median ratio is that of the order statistics,
because on a machine that others use too single calls are far out.
"""

import argparse
import json
import time

import numpy as np
from scipy import stats

from eai.errors import UserError
from eai.settings import EMBEDDED_MODEL
from eai.workload import device, generation, models

LIMIT = 0.99


def bare_s(work: generation.Generation) -> float:
    """Seconds of one bare `generate`. Raises UserError if the model ended early: then the shapes differ."""
    import torch

    loaded, inputs = work.loaded, work._inputs
    work._synchronize()
    start = time.perf_counter()
    with torch.inference_mode():
        result = loaded.model.generate(**inputs, max_new_tokens=work.output_tokens, do_sample=False)
    work._synchronize()
    duration_s = time.perf_counter() - start
    produced = result.shape[1] - work.input_tokens
    if produced != work.output_tokens:
        raise UserError(f"bare generate ended after {produced} tokens", f"{work.output_tokens}", "choose another --output-tokens")
    return duration_s


def log_ratios(work: generation.Generation, pairs: int, rng: np.random.Generator) -> np.ndarray:
    """Logarithms of measured over bare throughput, one a pair; the order within a pair is random."""
    calls = {"bare": lambda: bare_s(work), "measured": lambda: work.run().duration_s}
    for call in calls.values():
        call()
    ratios = []
    for _ in range(pairs):
        spent_s = {name: calls[name]() for name in rng.permutation(list(calls))}
        ratios.append(np.log(spent_s["bare"] / spent_s["measured"]))
    return np.array(ratios)


def median_interval(values: np.ndarray) -> tuple[float, float, float]:
    """The median with the 95 % interval of the order statistics."""
    ordered, n = np.sort(values), len(values)
    below = int(stats.binom.ppf(0.025, n, 0.5))
    return float(np.median(ordered)), float(ordered[max(below - 1, 0)]), float(ordered[min(n - below, n - 1)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default=EMBEDDED_MODEL)
    parser.add_argument("--weights", default="published")
    parser.add_argument("--quantization", default="bf16")
    parser.add_argument("--batch-size", type=int, default=1)
    parser.add_argument("--input-tokens", type=int, default=64)
    parser.add_argument("--output-tokens", type=int, default=16)
    parser.add_argument("--pairs", type=int, default=30)
    arguments = parser.parse_args()
    gpu = device.cuda_name() or "cpu"
    device.set_threads(1)
    loaded = models.load(arguments.model, arguments.quantization, gpu, arguments.weights)
    work = generation.Generation(loaded, arguments.batch_size, arguments.input_tokens, arguments.output_tokens)
    logs = log_ratios(work, arguments.pairs, np.random.default_rng(0))
    ratio, low, high = (float(np.exp(v)) for v in median_interval(logs))
    found = {"benchmark": "generation_ratio", "gpu": gpu, "unit": "1", **vars(arguments), "ratio": ratio, "low": low, "high": high}
    print(json.dumps(found | {"limit": LIMIT, "shown": low >= LIMIT, "ok": ratio >= LIMIT}))


if __name__ == "__main__":
    main()
