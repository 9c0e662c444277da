"""Does the analysis give back what was planted? A whole simulated study over many seeds at once, judged by the same statistics.

The array path here has no tables, so that hundreds of studies take seconds; a test holds that it gives what `comparison` and
`interaction` give from tables of the same numbers.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from eai.analyze.simulated import Truth
from eai.errors import UserError
from eai.stats import comparisons as tests
from eai.stats.intervals import Interval

STUDY = Truth(
    gpus={"a100": 0.6, "l40s": 0.75, "rtx4090": 0.8, "rtx3090ti": 1.0, "rtx4060ti": 0.9, "v100": 1.4},
    models={"qwen": 1.0, "distill": 0.8, "mistral": 0.95, "neural-chat": 0.95, "bloomz": 1.1, "yi": 0.85},
    quantizations={"fp16": 1.0, "int8_pure": 0.75, "fp16_mixed": 0.84, "dynamic": 1.0},
    tasks={"mmlu": 1.0, "arc_challenge": 1.0, "truthfulqa": 1.1, "hellaswag": 1.3, "gsm8k": 8.0},
    synergy={("v100", "int8_pure"): 1.3, ("l40s", "int8_pure"): 0.95},
)
AXES = ("gpu", "model", "quantization", "task")


@dataclass(frozen=True)
class Judged:
    """Comparisons of many seeds: the planted log ratio, its interval, p, p adjusted within each seed, and the outcome.

    Arrays have the seed first and one comparison a column; `truth` has one value a comparison.
    """

    truth: np.ndarray
    interval: Interval
    p: np.ndarray
    p_holm: np.ndarray
    outcome: np.ndarray


def logs(truth: Truth, blocks: int, seeds: int, rng: np.random.Generator) -> np.ndarray:
    """Log energies per token of `seeds` studies: axes seed, gpu, model, quantization, task, block.

    A job is one gpu and model: its blocks share an effect (the room, the card's temperature); every window has its own noise.
    """
    shape = tuple(len(f) for f in (truth.gpus, truth.models, truth.quantizations, truth.tasks))
    shared = rng.normal(0, truth.block_sd, (seeds, *shape[:2], 1, 1, blocks))
    return planted(truth)[None, ..., None] + shared + rng.normal(0, truth.window_sd, (seeds, *shape, blocks))


def planted(truth: Truth) -> np.ndarray:
    """The planted log energy per token: axes gpu, model, quantization, task."""
    factors = (truth.gpus, truth.models, truth.quantizations, truth.tasks)
    mains = np.ix_(*(np.log(list(f.values())) for f in factors))
    pairs = np.log([[truth.synergy.get((g, q), 1.0) for q in truth.quantizations] for g in truth.gpus])
    return np.log(truth.base_j_per_token) + sum(mains) + pairs[:, None, :, None]


def strategies(truth: Truth, energies: np.ndarray) -> Judged:
    """Every strategy against the first one in every stratum, paired on block; one family a study."""
    difference = (energies - energies[:, :, :, :1])[:, :, :, 1:]
    true = (planted(truth) - planted(truth)[:, :, :1])[:, :, 1:]
    n = energies.shape[-1]
    found = tests.paired(_flat(difference.mean(axis=-1)), _flat(difference.std(axis=-1, ddof=1)), n)
    return _judged(true.reshape(-1), found)


def interactions(truth: Truth, energies: np.ndarray) -> Judged:
    """Synergy of each strategy with each GPU against the first one: strata averaged within a block, Welch between cards."""
    ratios = (energies - energies[:, :, :, :1])[:, :, :, 1:].mean(axis=4)
    points = np.moveaxis(ratios, 3, 2).reshape(*ratios.shape[:2], ratios.shape[3], -1)
    mean, sd, n = points.mean(axis=-1), points.std(axis=-1, ddof=1), points.shape[-1]
    found = tests.welch(*(_flat(x) for x in (mean[:, 1:], sd[:, 1:])), n, *(_flat(_like(x[:, :1], mean[:, 1:])) for x in (mean, sd)), n)
    true = (planted(truth) - planted(truth)[:, :, :1])[:, :, 1:].mean(axis=(1, 3))
    return _judged((true[1:] - true[:1]).reshape(-1), found)


def factor(truth: Truth, energies: np.ndarray, name: str) -> Judged:
    """Every level of `gpu`, `model` or `task` against the first one, all else the same: tasks paired on block, cards by Welch's test."""
    if name not in ("gpu", "model", "task"):
        raise UserError(f"factor {name}", "gpu, model or task")
    axis = AXES.index(name)
    true = np.moveaxis(planted(truth), axis, 0)
    ordered = np.moveaxis(energies, axis + 1, 1)
    own, base = ordered[:, 1:], _like(ordered[:, :1], ordered[:, 1:])
    n = energies.shape[-1]
    if name == "task":
        d = own - base
        found = tests.paired(_flat(d.mean(axis=-1)), _flat(d.std(axis=-1, ddof=1)), n)
    else:
        moments = [_flat(f(x)) for x in (own, base) for f in (lambda v: v.mean(axis=-1), lambda v: v.std(axis=-1, ddof=1))]
        found = tests.welch(moments[0], moments[1], n, moments[2], moments[3], n)
    return _judged((true[1:] - true[:1]).reshape(-1), found)


def figures(judged: Judged) -> dict[str, float]:
    """What a study should keep: coverage, rate of false alarms, families with one, power, wrong directions; each with its n.

    `coverage_se` is the standard error over seeds: comparisons of one study share blocks. A planted ratio of 1 is a null.
    """
    null = np.isclose(judged.truth, 0)
    covered = (np.log(judged.interval.low) <= judged.truth) & (judged.truth <= np.log(judged.interval.high))
    shown = np.isin(judged.outcome, ("lower", "higher"))
    wrong = np.where(judged.truth < 0, judged.outcome == "higher", judged.outcome == "lower") & ~null
    seeds = len(covered)
    per_seed = covered.mean(axis=1)
    found = {"seeds": seeds, "comparisons": int(covered.shape[1]), "nulls": int(null.sum())}
    found |= {"coverage": float(per_seed.mean()), "coverage_se": float(per_seed.std(ddof=1) / np.sqrt(seeds))}
    found |= {"power": float(shown[:, ~null].mean()) if (~null).any() else float("nan"), "wrong_direction": float(wrong.mean())}
    if null.any():
        alarms = (judged.p[:, null] <= tests.ALPHA).mean(axis=1)
        found |= {"null_rate": float(alarms.mean()), "null_rate_se": float(alarms.std(ddof=1) / np.sqrt(seeds))}
        found |= {"family_error": float(shown[:, null].any(axis=1).mean())}
    return found


def block_table(truth: Truth, energies: np.ndarray) -> pd.DataFrame:
    """One seed of `logs` as a table: gpu, model, quantization, task, job, block, energy_j_per_token."""
    index = pd.MultiIndex.from_product(
        [truth.gpus, truth.models, truth.quantizations, truth.tasks, range(1, energies.shape[-1] + 1)], names=[*AXES, "block"]
    )
    table = pd.DataFrame({"energy_j_per_token": np.exp(energies).reshape(-1)}, index=index).reset_index()
    return table.assign(job=table["gpu"] + "-" + table["model"])


def _judged(true: np.ndarray, difference: tests.Difference) -> Judged:
    """Interval, p, Holm within each seed, and outcome; equivalence is not asked for here."""
    p = tests.p_value(difference)
    p_holm = np.array([tests.adjust(row) for row in p])
    nan = np.full(p.shape, np.nan)
    return Judged(true, tests.ratio_interval(difference), p, p_holm, tests.outcome(difference, p_holm, nan, np.zeros(p.shape)))


def _flat(values: np.ndarray) -> np.ndarray:
    """Seed first, everything else in one axis."""
    return values.reshape(len(values), -1)


def _like(values: np.ndarray, other: np.ndarray) -> np.ndarray:
    """The reference level repeated to the shape of the other levels."""
    return np.broadcast_to(values, other.shape)
