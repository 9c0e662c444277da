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


_ALL = (
    Quantity("energy_wh", False, True),
    Quantity("energy_j", False, True),
    Quantity("energy_kwh", False),
    Quantity("energy_gpu_j", False, True),
    Quantity("energy_cpu_j", False, True),
    Quantity("energy_ram_j", False, True),
    Quantity("energy_j_per_1k_tok", False, True),
    Quantity("energy_j_per_token", False, True),
    Quantity("energy_j_per_request", False, True),
    Quantity("tokens_per_j", True),
    Quantity("power_w", None, True),
    Quantity("throughput_tok_s", True, True),
    Quantity("duration_s", False, True),
    Quantity("latency_s", False, True),
    Quantity("tokens_out"),
    Quantity("output_tokens"),
    Quantity("input_tokens"),
    Quantity("batch_size"),
    Quantity("requests"),
    Quantity("num_gpus"),
    Quantity("tensor_parallel"),
    Quantity("n_items"),
    Quantity("n_runs"),
    Quantity("n_blocks"),
    Quantity("n_windows"),
    Quantity("accuracy", True),
    Quantity("accuracy_retained_pct", True),
    Quantity("eor", True),
    Quantity("tweor", True),
    Quantity("perplexity", False),
    Quantity("energy_reduction_pct", True),
    Quantity("energy_change_pct", False),
    Quantity("ratio_to_baseline", False),
    Quantity("cost_usd", False),
    Quantity("price_usd_per_kwh"),
    Quantity("carbon_kg", False),
    Quantity("carbon_g_per_kwh"),
    Quantity("pue"),
    Quantity("tdp_w"),
    Quantity("idle_power_w"),
    Quantity("idle_stated_w"),
    Quantity("memory_gb", False),
    Quantity("memory_bandwidth_gb_s", True),
    Quantity("gpu_utilisation_pct"),
    Quantity("gpu_utilisation"),
    Quantity("throughput_std_tok_s"),
    Quantity("power_std_w"),
    Quantity("energy_std_j_per_1k_tok"),
    Quantity("params_b"),
    Quantity("run"),
    Quantity("x"),
    Quantity("q"),
    Quantity("scale"),
    Quantity("zero_point"),
    Quantity("q_min"),
    Quantity("q_max"),
)
QUANTITIES = {q.name: q for q in _ALL}
ENERGIES = ("energy_wh", "energy_j_per_1k_tok", "energy_j_per_token", "energy_j_per_request", "energy_j")
SPREADS = {"throughput_tok_s": "throughput_std_tok_s", "power_w": "power_std_w", "energy_j_per_1k_tok": "energy_std_j_per_1k_tok"}
KEYS = (
    "gpu",
    "architecture",
    "model",
    "weights",
    "quantization",
    "precision",
    "task",
    "options",
    "engine",
    "num_gpus",
    "tensor_parallel",
    "batch_size",
    "input_tokens",
    "output_tokens",
    "params_b",
    "power_limit_w",
    "session",
    "location",
    "accounting",
    "boundary",
    "basis",
    "best",
    "reduction_against",
)
FACTORS = (
    "gpu",
    "model",
    "quantization",
    "precision",
    "task",
    "options",
    "engine",
    "num_gpus",
    "tensor_parallel",
    "batch_size",
    "input_tokens",
    "output_tokens",
    "params_b",
    "power_limit_w",
)
