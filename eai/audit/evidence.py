"""Expected waste from published rows and from the roofline: the numbers behind a finding's severity.

Published energies mix gross and net accounting, so every ratio is taken of gross energy, mean power over throughput, and only between rows
of one session, card, model and batch size.
"""

from functools import cached_property

import numpy as np
import pandas as pd

from eai import catalog, footprint, tables
from eai.audit.finding import Waste

PROXY_MODEL = "mistral-7b-instruct-v0.2"
PROXY_GPU = "a800_sxm_80gb"
SMALL_PARAMS_B = 3.5
_SETTING = ["session", "gpu", "model"]


def published() -> pd.DataFrame:
    """The published per-configuration rows; without repeats or power they are left out by `Evidence`."""
    return tables.read_published("ecocompute_measurements")


class Evidence:
    """Answers "how much would the fix save" from a table of published rows.

    `rows` has session, gpu, model, params_b, quantization, batch_size, throughput_tok_s and power_w. Rows without power, throughput
    or batch size give no gross energy and are left out; repeats of a configuration inside a session count as their mean.
    """

    def __init__(self, rows: pd.DataFrame):
        usable = rows.dropna(subset=["power_w", "throughput_tok_s", "batch_size"])
        gross = 1e3 * usable["power_w"] / usable["throughput_tok_s"]
        keys = [*_SETTING, "quantization", "batch_size", "params_b"]
        self.rows = usable.assign(gross_j_per_1k_tok=gross).groupby(keys, as_index=False)["gross_j_per_1k_tok"].mean()

    def _waste(self, spent: pd.Series, needed: pd.Series, labels: list[str], note: str) -> Waste | None:
        """Median and range of 1 - needed/spent in percent; None without a pair."""
        if len(labels) == 0:
            return None
        share = 100 * (1 - needed.to_numpy() / spent.to_numpy())
        return Waste(float(np.median(share)), float(share.min()), float(share.max()), "published", note, tuple(labels))

    def quantization(self, used: str, instead: str, max_params_b: float | None = None) -> Waste | None:
        """Waste of `used` against `instead` at the same batch size, over all pairs measured in one session."""
        rows = self.rows if max_params_b is None else self.rows[self.rows["params_b"] <= max_params_b]
        on = [*_SETTING, "batch_size"]
        spent, needed = rows[rows["quantization"] == used], rows[rows["quantization"] == instead]
        pairs = spent.merge(needed, on=on, suffixes=("", "_instead"))
        labels = [f"{p.session}: {p.model} on {p.gpu}, batch {p.batch_size:.0f}" for p in pairs.itertuples()]
        note = f"{used} against {instead}, gross energy an output token, median of {len(pairs)} pairs of published rows"
        return self._waste(pairs["gross_j_per_1k_tok"], pairs["gross_j_per_1k_tok_instead"], labels, note)

    def batch(self, used: int, instead: int) -> Waste | None:
        """Waste of batch size `used` against `instead`: same session, card, model and quantization."""
        on = [*_SETTING, "quantization"]
        spent, needed = self.rows[self.rows["batch_size"] == used], self.rows[self.rows["batch_size"] == instead]
        pairs = spent.merge(needed, on=on, suffixes=("", "_instead"))
        labels = [f"{p.session}: {p.model} {p.quantization} on {p.gpu}, batch {used} and {instead}" for p in pairs.itertuples()]
        note = f"batch {used} against batch {instead}, gross energy an output token, median of {len(pairs)} pairs of published rows"
        return self._waste(pairs["gross_j_per_1k_tok"], pairs["gross_j_per_1k_tok_instead"], labels, note)

    @cached_property
    def batches(self) -> list[int]:
        """Batch sizes that a published session compares with batch 1, ascending."""
        return [b for b in sorted(int(x) for x in self.rows["batch_size"].unique()) if b > 1 and self.batch(1, b)]

    def batch_1(self, available: int | None = None) -> Waste | None:
        """Waste of batch 1 where `available` requests could share a batch (None: unknown, 8 assumed); at most what was measured."""
        reachable = [b for b in self.batches if b <= min(available or 8, 8)]
        return self.batch(1, reachable[-1]) if reachable else None


def no_cache(output_tokens: int = 256, input_tokens: int = 512) -> Waste | None:
    """Waste of generating without a KV cache: the whole context is read again for every token.

    Roofline times of Mistral-7B in FP16 on an A800 at batch 1, taken as energy at equal power; the range spans half and twice the
    prompt length.
    """
    if output_tokens < 2:
        return None

    def share(prompt: int) -> float:
        model, gpu = catalog.model(PROXY_MODEL), catalog.gpu(PROXY_GPU)
        known = footprint.footprint(model, "fp16", 1, prompt, output_tokens, gpu)
        cached = known.prefill_s + (output_tokens - 1) * known.step_s
        contexts = range(prompt, prompt + output_tokens)
        weights = known.weight_bytes
        again = sum(footprint.roofline_s(footprint.prefill_flops(model, n), weights, gpu, "fp16") for n in contexts)
        return 100 * (1 - cached / again)

    note = f"roofline of Mistral-7B FP16 on an A800, batch 1, {input_tokens} tokens in and {output_tokens} out; power taken as equal"
    return Waste(share(input_tokens), share(input_tokens // 2), share(2 * input_tokens), "computed", note)


def fp32_weights() -> Waste:
    """Waste of FP32 weights on a GPU: decoding is bound by bytes, and FP32 has twice those of FP16."""
    model, gpu = catalog.model(PROXY_MODEL), catalog.gpu(PROXY_GPU)
    share = [
        100
        * (1 - footprint.footprint(model, "fp16", b, 512, 256, gpu).step_s / footprint.footprint(model, "fp32", b, 512, 256, gpu).step_s)
        for b in (1, 8, 64)
    ]
    note = "roofline of a decode step of Mistral-7B on an A800, FP32 against FP16 at batch 1 (range to batch 64); power taken as equal"
    return Waste(share[0], min(share), max(share), "computed", note)


def spilled(needed_gb: float, available_gb: float, gpu: catalog.Gpu) -> Waste:
    """Waste of a model that does not fit: the part that is spilled crosses PCIe for every token, from bytes.

    Against a model that fits entirely; PCIe at 12-50 GB/s (25 in the middle), the GPU at 50-100 % (70 %) of its power while it waits.
    """
    share = 1 - available_gb / needed_gb
    on_gpu_s, all_on_gpu_s = (1 - share) / gpu.bandwidth_gb_s, 1 / gpu.bandwidth_gb_s

    def waste(pcie_gb_s: float, power_ratio: float) -> float:
        return 100 * (1 - all_on_gpu_s / (on_gpu_s + power_ratio * share / pcie_gb_s))

    note = f"{100 * share:.0f} % of the bytes cross PCIe at 12-50 GB/s for each token, the GPU waiting at 50-100 % of its power"
    return Waste(waste(25, 0.7), waste(50, 0.5), waste(12, 1.0), "estimate", note)


def reload_each_time(output_tokens: int = 256) -> Waste:
    """Waste of loading the weights again for every generation, from bytes: a disk's rate against a GPU's bandwidth.

    Assumes weights read at 1-7 GB/s (2 in the middle) at 25-50 % (35 %) of the decode power, one generation of `output_tokens` a load.
    """
    decode_s = output_tokens / catalog.gpu(PROXY_GPU).bandwidth_gb_s

    def share(disk_gb_s: float, power_ratio: float) -> float:
        load = power_ratio / disk_gb_s
        return 100 * load / (load + decode_s)

    note = (
        f"weights read at 1-7 GB/s and at 25-50 % of the decode power before each {output_tokens} tokens decoded at {PROXY_GPU}'s bandwidth"
    )
    return Waste(share(2, 0.35), share(7, 0.25), share(1, 0.5), "estimate", note)
