"""Expected waste: the numbers behind a finding's severity, of this model and this card where the file states them.

Published energies mix gross and net accounting, so every ratio is taken of gross energy, mean power over throughput, and only between rows
of one session, card, model and batch size. What no row answers is computed from bytes and flops, or estimated with its assumptions
stated. Where neither model nor card is known, Mistral-7B on an A800 stands in, and the note says so.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from eai import catalog, footprint, tables
from eai.audit.subjects import Subject
from eai.errors import UserError

CRITICAL_PCT, WARNING_PCT = 30.0, 10.0
ENERGY, FIGURE = "% of the energy", "% of the figure"
PROXY_MODEL, PROXY_GPU = "mistral-7b-instruct-v0.2", "a800_sxm_80gb"
SMALL_PARAMS_B = 3.5
_SETTING = ["session", "gpu", "model"]
_TYPICAL_TOKENS = 256


@dataclass(frozen=True)
class Waste:
    """Expected waste: the share [%] of the energy spent that the fix would save, or by which a measured figure is wrong. `basis`: published
    (ratios of published rows, `rows` names them), computed (bytes and flops of a roofline) or estimate (assumptions in `note`)."""

    value: float
    low: float
    high: float
    basis: str
    note: str
    rows: tuple[str, ...] = ()
    unit: str = ENERGY

    def to_json(self) -> dict:
        """A quantity `{value, low, high, unit}` with its basis, note, and the rows behind it."""
        numbers = {name: round(getattr(self, name), 1) for name in ("value", "low", "high")}
        return asdict(self) | numbers | {"rows": list(self.rows)}


def severity(waste: Waste | None) -> str:
    """critical above 30 %, warning from 10 %, else info; info too where no number stands behind the finding."""
    if waste is None or waste.value < WARNING_PCT:
        return "info"
    return "critical" if waste.value > CRITICAL_PCT else "warning"


class Evidence:
    """Answers "how much would the fix save" from rows with session, gpu, model, params_b, quantization, batch_size, throughput_tok_s and
    power_w; None: the published table, read when it is first needed. Rows that give no gross energy are left out."""

    def __init__(self, rows: pd.DataFrame | None = None):
        self._given = rows
        self._answers: dict[tuple, Waste | None] = {}

    def once(self, key: tuple, subject: Subject | None, compute: Callable[[], Waste | None]) -> Waste | None:
        """The answer to a question about a model and card, computed the first time it is asked."""
        whole = (*key, *((subject.model, subject.gpu and subject.gpu.slug, subject.strategy, subject.cards) if subject is not None else ()))
        if whole not in self._answers:
            self._answers[whole] = compute()
        return self._answers[whole]

    @cached_property
    def rows(self) -> pd.DataFrame:
        """One row a configuration and session, with its gross energy [J / 1000 output tokens]."""
        table = tables.read_published("ecocompute_measurements") if self._given is None else self._given
        usable = table.dropna(subset=["power_w", "throughput_tok_s", "batch_size"])
        gross = 1e3 * usable["power_w"] / usable["throughput_tok_s"]
        keys = [*_SETTING, "quantization", "batch_size", "params_b"]
        return usable.assign(gross_j_per_1k_tok=gross).groupby(keys, as_index=False)["gross_j_per_1k_tok"].mean()

    def _compare(self, column: str, used: object, instead: object, subject: Subject | None, most_b: float = np.inf) -> Waste | None:
        """Waste of `used` against `instead`: median and range over pairs alike otherwise, nearest in card and size; None without a pair."""
        on = [*_SETTING, *({"quantization", "batch_size"} - {column})]
        spent, needed = self.rows[self.rows[column] == used], self.rows[self.rows[column] == instead]
        pairs = spent.merge(needed, on=on, suffixes=("", "_instead"))
        pairs = pairs[pairs["params_b"] <= most_b]
        size, gpu = (subject.size_b, subject.gpu.slug if subject.gpu else None) if subject is not None else (None, None)
        on_card = pairs[pairs["gpu"] == gpu] if gpu else pairs.iloc[:0]
        alike = pairs[pairs["params_b"].between(size / 2, size * 2)] if size else pairs.iloc[:0]
        both = on_card[on_card.index.isin(alike.index)]
        places = ((both, f" of about this size on {gpu}"), (alike, " of about this size on other cards"), (on_card, f" on {gpu}"))
        others = pairs, " of other models and cards" if size or gpu else ""
        chosen, where = next((place for place in places if not place[0].empty), others)
        if chosen.empty:
            return None
        share = 100 * (1 - chosen["gross_j_per_1k_tok_instead"] / chosen["gross_j_per_1k_tok"])
        labels = tuple(f"{p.session}: {p.model} {p.quantization} on {p.gpu}, batch {p.batch_size:.0f}" for p in chosen.itertuples())
        what = "batch {} against batch {}" if column == "batch_size" else "{} against {}"
        note = f"{what.format(used, instead)}, gross energy an output token, median of {len(chosen)} pairs of published rows{where}"
        return Waste(float(np.median(share)), float(share.min()), float(share.max()), "published", note, labels)

    def quantization(self, used: str, instead: str, max_params_b: float | None = None, subject: Subject | None = None) -> Waste | None:
        """Waste of `used` against `instead` at the same batch size, over the pairs measured in one session."""
        return self._compare("quantization", used, instead, subject, max_params_b or np.inf)

    @cached_property
    def _batches(self) -> list[int]:
        """Batch sizes that a published session compares with batch 1, ascending."""
        return [b for b in sorted(int(x) for x in self.rows["batch_size"].unique()) if b > 1 and self._compare("batch_size", 1, b, None)]

    def batch_1(self, available: int | None = None, subject: Subject | None = None) -> Waste | None:
        """Waste of batch 1 where `available` requests could share a batch (None: unknown, 8 assumed); at most what was measured."""
        reachable = [b for b in self._batches if b <= min(available or 8, 8)]
        compare = lambda: self._compare("batch_size", 1, reachable[-1], subject)  # noqa: E731
        return self.once(("batch", reachable[-1]), subject, compare) if reachable else None


def _in_catalog(subject: Subject | None) -> catalog.Model | None:
    """The subject's model where the catalog has it."""
    try:
        return catalog.model(subject.model) if subject is not None and subject.model else None
    except UserError:
        return None


def _known(subject: Subject | None) -> tuple[catalog.Model, catalog.Gpu, str]:
    """(model, card, their names for a note): the subject's own where the catalog has them, else the stand-ins."""
    model, gpu = _in_catalog(subject) or catalog.model(PROXY_MODEL), subject.gpu if subject is not None else None
    if gpu is None or None in (gpu.bandwidth_gb_s, gpu.fp16_tflops, gpu.fp32_tflops):
        gpu = catalog.gpu(PROXY_GPU)
    return model, gpu, f"{model.slug} on {gpu.name}"


def no_cache(output_tokens: int = _TYPICAL_TOKENS, input_tokens: int = 512, subject: Subject | None = None) -> Waste | None:
    """Waste of generating without a KV cache: the whole context is read again for every token; range over half and twice the prompt."""
    if output_tokens < 2:
        return None
    model, gpu, names = _known(subject)
    output_tokens = min(output_tokens, 4096)

    def share(prompt: int) -> float:
        known = footprint.footprint(model, "fp16", 1, prompt, output_tokens, gpu)
        cached = known.prefill_s + (output_tokens - 1) * known.step_s
        stride = max(1, output_tokens // 256)
        contexts = range(prompt, prompt + output_tokens, stride)
        again = stride * sum(footprint.roofline_s(footprint.prefill_flops(model, n), known.weight_bytes, gpu, "fp16") for n in contexts)
        return 100 * (1 - cached / again)

    note = f"roofline of {names}, FP16, batch 1, {input_tokens} tokens in and {output_tokens} out; power taken as equal"
    return Waste(share(input_tokens), share(input_tokens // 2), share(2 * input_tokens), "computed", note)


def fp32_weights(subject: Subject | None = None) -> Waste:
    """Waste of FP32 weights on a GPU: decoding is bound by bytes, and FP32 has twice those of FP16."""
    model, gpu, names = _known(subject)
    steps = [[footprint.footprint(model, dtype, b, 512, 256, gpu).step_s for dtype in ("fp16", "fp32")] for b in (1, 8, 64)]
    share = [100 * (1 - half / full) for half, full in steps]
    note = f"roofline of a decode step of {names}, FP32 against FP16 at batch 1 (range to batch 64); power taken as equal"
    return Waste(share[0], min(share), max(share), "computed", note)


def spilled(needed_gb: float, available_gb: float, gpu: catalog.Gpu) -> Waste:
    """Waste of a model that does not fit, against one that does: the part that is spilled crosses PCIe for every token, from bytes."""
    part, all_on_gpu_s = 1 - available_gb / needed_gb, 1 / gpu.bandwidth_gb_s

    def share(pcie_gb_s: float, power_ratio: float) -> float:
        return 100 * (1 - all_on_gpu_s / ((1 - part) * all_on_gpu_s + power_ratio * part / pcie_gb_s))

    note = f"{100 * part:.0f} % of the bytes cross PCIe at 12-50 GB/s for each token, the GPU waiting at 50-100 % of its power"
    return Waste(share(25, 0.7), share(50, 0.5), share(12, 1.0), "estimate", note)


def offloaded(gigabytes: float, subject: Subject) -> Waste | None:
    """Waste of `gigabytes` of weights that live on the host on purpose; None where the model's size is not known."""
    if not subject.size_b:
        return None
    weights = subject.size_b * subject.bits / 8
    return spilled(weights, weights - min(gigabytes, 0.95 * weights), _known(subject)[1])


def reload_each_time(output_tokens: int = _TYPICAL_TOKENS, gpu: catalog.Gpu | None = None) -> Waste:
    """Waste of loading the weights again for every generation of `output_tokens`: a disk's rate against a GPU's bandwidth."""
    gpu = gpu if gpu is not None and gpu.bandwidth_gb_s else catalog.gpu(PROXY_GPU)

    def share(disk_gb_s: float, power_ratio: float) -> float:
        load = power_ratio / disk_gb_s
        return 100 * load / (load + output_tokens / gpu.bandwidth_gb_s)

    note = f"weights read at 1-7 GB/s, at 25-50 % of the decode power, before each {output_tokens} tokens decoded at {gpu.name}'s bandwidth"
    return Waste(share(2, 0.35), share(7, 0.25), share(1, 0.5), "estimate", note)


def launches(subject: Subject) -> Waste | None:
    """Waste of launching each kernel from the CPU, for the model and card that the file names; None if it does not name both."""
    if subject.gpu is None or _in_catalog(subject) is None:
        return None
    model, gpu, names = _known(subject)
    step_s = footprint.footprint(model, "fp16", 1, 512, 256, gpu).step_s / (subject.cards or 1)

    def share(kernels: int, launch_s: float) -> float:
        waiting = max(0.0, model.layers * kernels * launch_s - step_s)
        return 100 * 0.5 * waiting / (step_s + 0.5 * waiting)

    note = f"12-20 kernels a layer at 4-8 us each against a decode step of {1e3 * step_s:.1f} ms ({names}, FP16, batch 1), half power"
    return Waste(share(15, 5e-6), share(12, 4e-6), share(20, 8e-6), "estimate", note)


def many_cards(subject: Subject) -> Waste | None:
    """Waste of tensor parallelism where one card would do: every card waits for two all-reduces a layer, at batch 1 and equal power; an
    all-reduce takes 8 us over NVLink to 40 us over PCIe. None without model and card."""
    model, cards = _in_catalog(subject), subject.cards or 1
    if model is None or subject.gpu is None or cards < 2:
        return None
    step_s = footprint.footprint(model, subject.strategy, 1, 512, 256, subject.gpu).step_s

    waits = [2 * model.layers * reduce_s * cards for reduce_s in (15e-6, 8e-6, 40e-6)]
    note = f"two all-reduces a layer at 8-40 us on {cards} cards against a decode step of {1e3 * step_s:.1f} ms on one ({model.slug})"
    return Waste(*(100 * waiting / (step_s + waiting) for waiting in waits), "estimate", note)


def slow_sampling(interval_s: float) -> Waste:
    """Error of mean power times time when samples are `interval_s` apart: the sd of two uniform edge errors is interval / sqrt(6)."""
    note = f"sd of the two window edges at one sample each {interval_s:g} s, for 10 s of work (range 30 s to 1 s)"
    return Waste(*(min(100 * interval_s / 6**0.5 / window, 100.0) for window in (10.0, 30.0, 1.0)), "computed", note, unit=FIGURE)


def of_rule(name: str, subject: Subject, evidence: Evidence) -> Waste | None:
    """The waste that a rule names in its `waste:`, for one subject. Raises KeyError for a name that is none."""

    def number(option: str, otherwise: float) -> float:
        try:
            return float(str(subject.get(option)))
        except ValueError:
            return otherwise

    tokens = int(number("max_new_tokens", number("max_tokens", _TYPICAL_TOKENS)))
    offload, interval = number("cpu_offload_gb", 0.0), number("l", number("loop", 1.0))
    compute = {
        "batch_1": lambda: evidence.batch_1(None, subject),
        "int8_default": lambda: evidence.quantization("int8_default", "fp16", None, subject),
        "nf4_small": lambda: evidence.quantization("nf4", "fp16", SMALL_PARAMS_B, subject),
        "fp32_weights": lambda: fp32_weights(subject),
        "no_cache": lambda: no_cache(tokens, subject=subject),
        "spilled": lambda: spilled(*subject.need, subject.gpu),
        "offloaded": lambda: offloaded(offload, subject),
        "reload": lambda: reload_each_time(tokens, subject.gpu),
        "launches": lambda: launches(subject),
        "many_cards": lambda: many_cards(subject),
        "slow_sampling": lambda: slow_sampling(interval),
    }[name]
    return evidence.once((name, tokens, offload, interval), subject, compute)
