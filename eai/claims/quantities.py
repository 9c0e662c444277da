"""The names and units that the checks work in; `importers.names` brings a table's headers to them.

A table keeps its own columns; here `accuracy_pct` becomes `accuracy`, `Energy (Wh)` becomes `energy_wh`, `latency_ms` seconds.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Quantity:
    """One physical quantity: its name with unit, whether more is better (None: neither), and whether it is measured with noise."""

    name: str
    higher_is_better: bool | None = None
    noisy: bool = False


ENERGIES = ("energy_wh", "energy_j_per_1k_tok", "energy_j_per_token", "energy_j_per_request", "energy_j")
PARTS = ("energy_gpu_j", "energy_cpu_j", "energy_ram_j")
SPREADS = {"throughput_tok_s": "throughput_std_tok_s", "power_w": "power_std_w", "energy_j_per_1k_tok": "energy_std_j_per_1k_tok"}
_NOISY = (*ENERGIES, *PARTS, "tokens_per_j", "power_w", "throughput_tok_s", "duration_s", "latency_s")
_MORE = (
    "tokens_per_j", "throughput_tok_s", "accuracy", "accuracy_retained_pct", "eor", "tweor", "energy_reduction_pct",
    "memory_bandwidth_gb_s",
)  # fmt: skip
_LESS = (*ENERGIES, *PARTS, "energy_kwh", "duration_s", "latency_s", "perplexity", "energy_change_pct", "ratio_to_baseline", "cost_usd",
         "carbon_kg", "memory_gb")  # fmt: skip
_NEITHER = (
    "power_w", "tokens_out", "output_tokens", "input_tokens", "batch_size", "requests", "num_gpus", "tensor_parallel", "n_items", "n_runs",
    "n_blocks", "n_windows", "price_usd_per_kwh", "carbon_g_per_kwh", "pue", "tdp_w", "idle_power_w", "idle_stated_w",
    "gpu_utilisation_pct", "gpu_utilisation", *SPREADS.values(), "params_b", "run", "x", "q", "scale", "zero_point", "q_min", "q_max",
)  # fmt: skip
_BETTER = dict.fromkeys(_MORE, True) | dict.fromkeys(_LESS, False) | dict.fromkeys(_NEITHER)
QUANTITIES = {name: Quantity(name, better, name in _NOISY) for name, better in _BETTER.items()}

COUNTS = ("batch_size", "input_tokens", "output_tokens", "params_b", "power_limit_w", "num_gpus", "tensor_parallel")
FACTORS = ("gpu", "model", "quantization", "precision", "task", "options", "engine", "num_gpus", "tensor_parallel", "batch_size",
           "input_tokens", "output_tokens", "params_b", "power_limit_w")  # fmt: skip
KEYS = (*FACTORS, "architecture", "weights", "session", "location", "accounting", "boundary", "basis", "best", "reduction_against")
KNOWN = frozenset((*QUANTITIES, *KEYS))
BASELINES = ("fp16", "bf16", "fp32", "unspecified_baseline", "baseline")
LABELS = {
    "energy_wh": "energy [Wh]", "energy_kwh": "energy [kWh]", "energy_j": "energy [J]", "energy_gpu_j": "GPU energy [J]",
    "energy_cpu_j": "CPU energy [J]", "energy_ram_j": "memory energy [J]", "energy_j_per_token": "energy per token [J]",
    "energy_j_per_1k_tok": "energy per 1,000 tokens [J]", "energy_j_per_request": "energy per request [J]",
    "tokens_per_j": "tokens per joule", "power_w": "power [W]", "throughput_tok_s": "throughput [tok/s]", "duration_s": "duration [s]",
    "latency_s": "latency [s]", "tokens_out": "output tokens", "carbon_kg": "carbon [kg CO2e]",
    "carbon_g_per_kwh": "carbon intensity [g/kWh]", "cost_usd": "cost [USD]", "price_usd_per_kwh": "price [USD/kWh]",
    "memory_gb": "memory [GB]", "n_items": "number of items", "ratio_to_baseline": "ratio to the baseline",
    "energy_reduction_pct": "energy reduction [%]",
}  # fmt: skip
"""What people read where a finding names a quantity; `--json` keeps the names of columns."""
