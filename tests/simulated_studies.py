"""Clean tables, simulated: what an honest study would print, in the shapes of published ones; false alarms are counted on them."""

import numpy as np
import pandas as pd

GPUS = ("gpu-a", "gpu-b", "gpu-c", "gpu-d")
STRATEGIES = {"fp32": 1.0, "int8": 0.78, "fp16": 0.85, "dynamic": 0.9}
ITEMS = {"mmlu": 14042, "gsm8k": 1319}
INTERACTION_SD = 0.03
NOISE_SD = 0.01


def study(rng: np.random.Generator) -> pd.DataFrame:
    """Scores, energies, EOR, TWEOR and printed reductions of models x GPUs x strategies x tasks, rounded as papers round.

    Energies are a product of main effects with an interaction of 3 % and noise of 1 %; scores are binomial, one per GPU.
    """
    rows = []
    gpus, models = GPUS[: rng.integers(2, 5)], [f"model-{i}" for i in range(rng.integers(2, 5))]
    for task in list(ITEMS)[: rng.integers(1, 3)]:
        base, power = rng.uniform(20, 400), {g: rng.uniform(150, 400) for g in gpus}
        effect = {name: np.exp(rng.normal(0, 0.3)) for name in (*gpus, *models)}
        for model in models:
            true = rng.uniform(0.3, 0.9)
            for gpu in gpus:
                printed = {}
                for strategy, factor in STRATEGIES.items():
                    energy = base * effect[gpu] * effect[model] * factor * np.exp(rng.normal(0, INTERACTION_SD) + rng.normal(0, NOISE_SD))
                    score = rng.binomial(ITEMS[task], true - 0.01 * (strategy != "fp32")) / ITEMS[task]
                    time = energy * 3600 / power[gpu] * np.exp(NOISE_SD * np.sin(12.9898 * len(rows)))  # no draw: the seeds' tables stay
                    printed[strategy] = energy
                    rows.append(
                        {
                            "gpu": gpu,
                            "model": model,
                            "quantization": strategy,
                            "task": task,
                            "n_items": ITEMS[task],
                            "accuracy": round(score, 3),
                            "energy_wh": round(energy, 2),
                            "duration_s": round(time, 1),
                            "eor": round(score / energy, 6),
                            "tweor": round(score / energy / time, 9),
                            "energy_reduction_pct": np.nan if strategy == "fp32" else round(100 * (1 - energy / printed["fp32"]), 1),
                        }
                    )
    return pd.DataFrame(rows)


def campaign(rng: np.random.Generator, net: bool) -> pd.DataFrame:
    """Power, throughput and energy per token of a sweep, means of ten runs with their standard deviations; labelled as it was counted."""
    rows = []
    idle = rng.uniform(12, 25) if net else 0.0
    for gpu in GPUS[: rng.integers(1, 4)]:
        for number, size in enumerate(rng.uniform(1, 14, rng.integers(2, 5))):
            for strategy, (speed, draw) in {"fp16": (1.0, 1.0), "nf4": (0.6, 0.55), "int8_default": (0.25, 0.45)}.items():
                rate = 200 / size * speed * np.exp(rng.normal(0, INTERACTION_SD))
                power = rng.uniform(150, 300) * draw
                t, p = rng.normal(rate, 0.008 * rate, 10), rng.normal(power, 0.015 * power, 10)
                e = (p - idle) / t * 1000
                rows.append(
                    {
                        "gpu": gpu,
                        "model": f"model-{number}-{gpu}",
                        "quantization": strategy,
                        "batch_size": 1,
                        "output_tokens": 256,
                        "n_runs": 10,
                        "accounting": "net" if net else "gross",
                        "throughput_tok_s": round(t.mean(), 2),
                        "throughput_std_tok_s": round(t.std(ddof=1), 2),
                        "power_w": round(p.mean(), 2),
                        "energy_j_per_1k_tok": round(e.mean(), 1),
                        "energy_std_j_per_1k_tok": round(e.std(ddof=1), 1),
                        "energy_j_per_request": round(e.mean() * 0.256, 1),
                    }
                )
    return pd.DataFrame(rows)


def runs(rng: np.random.Generator) -> pd.DataFrame:
    """Ten independent runs of a few configurations, raw."""
    rows = []
    for batch in (1, 2, 4, 8, 16)[: rng.integers(2, 6)]:
        for strategy in ("fp16", "nf4"):
            rate, power = 30 * batch**0.9 * np.exp(rng.normal(0, 0.05)), rng.uniform(120, 300)
            for run in range(1, 11):
                t, p = rng.normal(rate, 0.01 * rate), rng.normal(power, 0.01 * power)
                energy = {"throughput_tok_s": round(t, 2), "power_w": round(p, 2), "energy_j_per_1k_tok": round(p / t * 1000, 1)}
                rows.append({"gpu": "gpu-a", "model": "model-7b", "quantization": strategy, "batch_size": batch, "run": run, **energy})
    return pd.DataFrame(rows)
