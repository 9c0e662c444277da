"""A configuration that nobody measured: energy per output token, throughput and power, each with a 95 % interval, or a refusal.

The interval comes from leave-one-out errors of the kind that fits: a card never seen, a model never seen on a known card, or a known
card and model in a session of its own. Basis: predicted.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
import pandas as pd

from eai import catalog, footprint, strategies
from eai.catalog import Gpu, Model
from eai.errors import UserError
from eai.predict.features import features
from eai.predict.folds import Judged, replicated_batch
from eai.predict.rows import ASSUMED_INPUT_TOKENS, NORMAL_95, clean_rows
from eai.predict.support import MOST_CONTEXT_TOKENS, beyond_own_batches, refusal, unseen
from eai.quantity import Quantity

PREFILL_PEAK_SHARE = 0.4
MOST_PREFILL_SHARE = 0.3
KIND = {"gpu": "a card never seen", "shape": "a model never seen on a known card", "session": "a known card and model, another session"}
FOLDS_OF = {"gpu": ("gpu",), "shape": ("shape", "session"), "session": ("session", "shape")}
MEASURE = "measure it: `eai run` with this gpu, model, quantization and batch size"


@dataclass(frozen=True)
class Prediction:
    """What a configuration would cost: quantities with 95 % prediction intervals, and where they come from.

    `kind`: gpu | shape | session, what is new; `folds`: per target, the model used and its leave-one-out errors and coverage;
    `rows`: source rows of the same strategy that it was learned from; `remarks`: what widens or limits it.
    """

    energy_j_per_token: Quantity
    throughput_tok_s: Quantity
    power_w: Quantity
    kind: str
    folds: dict[str, dict]
    rows: tuple[str, ...]
    remarks: tuple[str, ...]
    basis: str = "predicted"

    @property
    def explained(self) -> str:
        """One sentence: which model, and how wrong it was where it was tested."""
        f = self.folds["energy"]
        return (
            f"predicted for {KIND[self.kind]} by the {f['model'].replace('_', '-')} model, whose leave-one-{f['left_out']}-out error is "
            f"{f['median']:.0%} (median) and {f['p90']:.0%} (90th percentile) over {f['n']} rows in {f['folds']} folds"
        )


@cache
def judged(accounting: str = "gross") -> Judged:
    """The clean rows of the repository with both models and their errors, computed once a process."""
    return Judged(clean_rows(accounting))


def predict(
    gpu: Gpu | str,
    model: Model | str,
    quantization: str,
    batch_size: int = 1,
    input_tokens: int = 512,
    output_tokens: int = 256,
    accounting: str = "gross",
    known: Judged | None = None,
) -> Prediction:
    """The prediction for one configuration; `known` replaces the repository's rows.

    Raises UserError, with what to measure, for a strategy, size, batch, context or card outside what the rows have seen, for a prompt
    that would cost more than 30 % of the energy, and for net energy on a card without net rows.
    """
    gpu = catalog.gpu(gpu) if isinstance(gpu, str) else gpu
    model = catalog.model(model) if isinstance(model, str) else model
    known = known or judged(accounting)
    name = f"{model.slug} in {quantization} at batch {batch_size} on {gpu.slug}"
    why = why_not(known.rows, gpu, model, quantization, batch_size, input_tokens, output_tokens, accounting)
    if why:
        raise UserError(f"{name} cannot be predicted: {why}", "", MEASURE)
    wanted = features(gpu, model, quantization, batch_size, input_tokens, output_tokens)
    return _predict(known, wanted, prefill_cost(gpu, model, input_tokens, output_tokens), name)


def why_not(
    rows: pd.DataFrame,
    gpu: Gpu,
    model: Model,
    quantization: str,
    batch_size: int,
    input_tokens: int,
    output_tokens: int,
    accounting: str = "gross",
) -> str:
    """Why the rows cannot predict a configuration, empty if they can."""
    strategies.get(quantization)
    if gpu.bandwidth_gb_s is None or gpu.tdp_w is None or gpu.fp16_tflops is None:
        return f"the catalog has no bandwidth, compute peak or board power of {gpu.name}"
    if input_tokens + output_tokens > MOST_CONTEXT_TOKENS:
        return f"a context of {input_tokens + output_tokens} tokens lies beyond the {MOST_CONTEXT_TOKENS} that the rows support"
    wanted = features(gpu, model, quantization, batch_size, input_tokens, output_tokens)
    if accounting == "net" and wanted["gpu"] not in set(rows["gpu"]):
        return f"net energy is known on {', '.join(sorted(set(rows['gpu'])))} alone"
    return refusal(rows, wanted)


def prefill_cost(gpu: Gpu, model: Model, input_tokens: int, output_tokens: int) -> tuple[float, float]:
    """(energy [J], time [s]) an output token of prompt tokens beyond those of the rows: full board power at 40 % of the compute peak."""
    extra = footprint.prefill_flops(model, input_tokens) - footprint.prefill_flops(model, ASSUMED_INPUT_TOKENS)
    seconds = max(extra, 0.0) / (PREFILL_PEAK_SHARE * footprint.peak_flops(gpu, "fp16")) / output_tokens
    return gpu.tdp_w * seconds, seconds


def _predict(known: Judged, wanted: dict, prefill: tuple[float, float], name: str) -> Prediction:
    """The prediction of features that are within the rows' support."""
    kind, remarks = unseen(known.rows, wanted), []
    energy, time = (_step(known, wanted, target, kind) for target in ("energy", "time"))
    batch = wanted["batch_size"]
    joules, seconds = energy[0] / batch, time[0] / batch
    share = prefill[0] / (prefill[0] + joules)
    if share > MOST_PREFILL_SHARE:
        raise UserError(f"{name} cannot be predicted: reading the prompt would cost about {share:.0%} of its energy", "", MEASURE)
    if prefill[0] > 0:
        remarks.append(
            f"{share:.1%} of the energy is a computed prefill of prompt tokens beyond {ASSUMED_INPUT_TOKENS}; it is in doubt in full"
        )
    if batch > replicated_batch(known.rows):
        remarks.append(
            f"batches above {replicated_batch(known.rows)} were seen in one session: the interval holds the error of extrapolating them"
        )
    if beyond_own_batches(known.rows, wanted):
        remarks.append(f"{wanted['quantization']} itself was not seen at batch {batch}: its batches are taken to scale like the others'")
    e = Quantity(joules + prefill[0], joules * np.exp(-energy[1]), joules * np.exp(energy[1]) + 2 * prefill[0], "J")
    t = (seconds + prefill[1], seconds * np.exp(-time[1]), seconds * np.exp(time[1]) + 2 * prefill[1])
    rate = Quantity(1 / t[0], 1 / t[2], 1 / t[1], "tok/s")
    same = known.rows[known.rows["quantization"] == wanted["quantization"]]
    folds = {"energy": energy[2], "time": time[2]}
    return Prediction(e, rate, _power(e, rate, wanted["tdp_w"], energy[1], time[1]), kind, folds, tuple(same["rows"]), tuple(remarks))


def _step(known: Judged, wanted: dict, target: str, kind: str) -> tuple[float, float, dict]:
    """(value of a step, half width of its interval on the log scale, the folds behind it).

    A new model on a known card runs in a new session too, so the wider of both kinds of folds counts; where no session can be left out
    (net rows), the models' folds stand for it. Beyond the batches that two sessions have seen, the error of predicting the only session
    from the others joins in quadrature.
    """
    model = known.best(kind, target)
    tested = [f for k in FOLDS_OF[kind] if (f := known.summary(k, model, target))["n"]]
    if not tested:
        raise UserError(f"no fold can test a prediction of {target} for {KIND[kind]} from these rows", "", MEASURE)
    decisive = max(tested if kind == "shape" else tested[:1], key=lambda f: f["half_width"])
    half = decisive["half_width"]
    if wanted["batch_size"] > replicated_batch(known.rows):
        half = float(np.hypot(half, NORMAL_95 * known.summary("session", model, target)["larger_batch_rms"]))
    value = float(known.fitted(model, target).step(pd.DataFrame([wanted]))[0])
    return value, half, decisive


def _power(energy: Quantity, rate: Quantity, tdp_w: float, half_energy: float, half_time: float) -> Quantity:
    """Mean board power [W]: energy times throughput, its interval from both as if independent, cut at the board's limit."""
    value, half = min(energy.value * rate.value, tdp_w), float(np.hypot(half_energy, half_time))
    return Quantity(value, value * np.exp(-half), min(value * np.exp(half), tdp_w), "W")
