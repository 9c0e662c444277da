"""A simulated experiment with planted effects: the known truth that every analysis is tested against.

Energies are multiplicative: every effect is a factor, blocks share one (the room, the card's temperature) and windows have their
own noise. Interactions and the course of time can be planted too, and so can nothing at all.

Does the analysis give back what was planted? A whole simulated study over many seeds at once, judged by the same statistics.

The array path here has no tables, so that hundreds of studies take seconds; a test holds that it gives what `comparison` and
`interaction` give from tables of the same numbers.
"""

import itertools
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from scipy import stats

from eai import schema
from eai.errors import UserError
from eai.settings import Configuration
from eai.stats import comparisons as tests
from eai.stats.intervals import Interval


@dataclass(frozen=True)
class Truth:
    """What is planted. Factors multiply the energy per output token; a missing name means 1.

    `base_j_per_token`: energy per output token at all factors 1; `synergy`: factors of pairs (gpu, quantization); `block_sd`,
    `window_sd`: standard deviations of the logarithm; `power_w`: mean power, which turns energy into time; `drift`: change of the
    logarithm from the first window of a block to its last; `gain`, `offset_w`: the sensor's error, one for all (one card).
    """

    gpus: dict[str, float] = field(default_factory=lambda: {"a100": 1.0})
    models: dict[str, float] = field(default_factory=lambda: {"model-7b": 1.0})
    quantizations: dict[str, float] = field(default_factory=lambda: {"fp16": 1.0, "int8_pure": 0.8})
    tasks: dict[str, float] = field(default_factory=lambda: {"generate": 1.0})
    batches: dict[int, float] = field(default_factory=lambda: {1: 1.0})
    synergy: dict[tuple[str, str], float] = field(default_factory=dict)
    base_j_per_token: float = 3.0
    block_sd: float = 0.03
    window_sd: float = 0.01
    power_w: float = 250.0
    drift: float = 0.0
    gain: float = 1.0
    offset_w: float = 0.0
    boundary: str = "gpu"
    basis: str = "simulated"


def experiment(truth: Truth, blocks: int, rng: np.random.Generator, repeats: int = 1) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The windows and energies tables of an experiment that `truth` would have given, in seeded random order within blocks."""
    configurations = pd.DataFrame(_configurations(truth))
    frame = configurations.merge(
        pd.DataFrame(itertools.product(range(1, blocks + 1), range(1, repeats + 1)), columns=["block", "repeat"]), how="cross"
    )
    frame["order"] = frame.assign(u=rng.random(len(frame))).groupby(["job", "block"])["u"].rank(method="first").astype(int)
    windows_a_block = frame.groupby(["job", "block"])["order"].transform("max")
    block_effects = rng.normal(0, truth.block_sd, blocks * configurations["job"].nunique())
    shared = block_effects[frame.groupby(["job", "block"]).ngroup()]
    noise = rng.normal(0, truth.window_sd, len(frame))
    course = truth.drift * (frame["order"] - 1) / np.maximum(windows_a_block - 1, 1)
    per_token = frame.pop("true_j_per_token") * np.exp(shared + noise + course)
    frame["tokens_out"] = 256 * frame["batch_size"] * 8
    frame["duration_s"] = per_token * frame["tokens_out"] / truth.power_w
    frame["attempt"] = [f"{i:08x}" for i in range(len(frame))]
    frame["energy_j"] = truth.gain * per_token * frame["tokens_out"] + truth.offset_w * frame["duration_s"]
    return _windows(frame, truth), _energies(frame, truth)


def items(windows: pd.DataFrame, right: dict[str, float], n_items: int, rng: np.random.Generator, alike: float = 0.8) -> pd.DataFrame:
    """Item-level scores of every configuration: `right` is the planted probability of a right answer by strategy.

    Columns configuration_id, block, task, item, score. An item is easy or hard for all configurations of its task and model: `alike` is
    the correlation of the latent ease (a Gaussian copula), so paired comparisons see less noise than unpaired ones. Answers are greedy:
    one block stands for all.
    """
    configurations = windows.drop_duplicates("configuration_id")
    ease = {key: rng.normal(size=n_items) for key, _ in configurations.groupby(["model", "task"])}
    parts = []
    for row in configurations.to_dict("records"):
        own = np.sqrt(alike) * ease[row["model"], row["task"]] + np.sqrt(1 - alike) * rng.normal(size=n_items)
        score = (stats.norm.cdf(own) < right[row["quantization"]]).astype(float)
        keys = {"configuration_id": row["configuration_id"], "block": 1, "task": row["task"], "item": np.arange(n_items)}
        parts.append(pd.DataFrame(keys | {"score": score}))
    return pd.concat(parts, ignore_index=True)


def true_ratio(truth: Truth, gpu: str, quantization: str, baseline: str) -> float:
    """The planted ratio of energies of two strategies on one GPU."""
    interaction = truth.synergy.get((gpu, quantization), 1.0) / truth.synergy.get((gpu, baseline), 1.0)
    return truth.quantizations[quantization] / truth.quantizations[baseline] * interaction


def _configurations(truth: Truth):
    """One dictionary a configuration, with its job and true energy per token."""
    factors = (truth.gpus, truth.models, truth.quantizations, truth.tasks, truth.batches)
    for gpu, model, quantization, task, batch in itertools.product(*factors):
        configuration = Configuration(
            gpu=gpu, model=model, quantization=quantization, batch_size=batch, input_tokens=512, output_tokens=256, task=task
        )
        planted = [f[name] for f, name in zip(factors, (gpu, model, quantization, task, batch), strict=True)]
        energy = truth.base_j_per_token * float(np.prod(planted)) * truth.synergy.get((gpu, quantization), 1.0)
        yield {
            "job": f"{gpu}-{model}",
            "configuration_id": configuration.configuration_id,
            **configuration.columns(),
            "true_j_per_token": energy,
        }


def _windows(frame: pd.DataFrame, truth: Truth) -> pd.DataFrame:
    """The windows table."""
    frame = frame.assign(requests=8 * frame["batch_size"], calls=8, tokens_in=512 * 8 * frame["batch_size"], load=1, status="ok", reason="")
    frame = frame.assign(
        basis=truth.basis, power_mean_w=frame["energy_j"] / frame["duration_s"], memory_peak_gb=16.0, flags=[[]] * len(frame)
    )
    return frame.reindex(columns=[c.name for c in schema.WINDOWS])


def _energies(frame: pd.DataFrame, truth: Truth) -> pd.DataFrame:
    """The energies table; the uncertainty terms are what the planted gain and offset amount to."""
    frame = frame.assign(
        device_id="GPU-" + frame["job"], boundary=truth.boundary, method="power", primary=True, basis=truth.basis, status="ok"
    )
    frame["u_offset_j"] = abs(truth.offset_w) * frame["duration_s"]
    frame["u_gain_j"] = abs(truth.gain - 1) * frame["energy_j"]
    return frame.reindex(columns=[c.name for c in schema.ENERGIES])


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
