"""A simulated experiment with planted effects: the known truth that every analysis is tested against.

Energies are multiplicative: every effect is a factor, blocks share one (the room, the card's temperature) and windows have their
own noise. Interactions and the course of time can be planted too, and so can nothing at all.
"""

import itertools
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from scipy import stats

from eai import schema
from eai.settings import Configuration


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
