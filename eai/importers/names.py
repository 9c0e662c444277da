"""What a printed header means in our names: `Energy (MWh)` is megawatt hours, `Tokens/s` a throughput, `latency_ms` a time in seconds."""

import ast
import re
from functools import cache

from eai.errors import UserError
from eai.importers import cells

# A column in another unit: its name here and what to multiply its values by.
CONVERSIONS = {
    "accuracy_pct": ("accuracy", 0.01),
    "energy_kj": ("energy_j", 1e3),
    "power_kw": ("power_w", 1e3),
    "latency_ms": ("latency_s", 1e-3),
    "duration_ms": ("duration_s", 1e-3),
    "duration_min": ("duration_s", 60.0),
    "duration_h": ("duration_s", 3600.0),
    "carbon_g": ("carbon_kg", 1e-3),
    **{f"energy_{part}_wh": (f"energy_{part}_j", 3600.0) for part in ("gpu", "cpu", "ram")},
    **{f"energy_{part}_kwh": (f"energy_{part}_j", 3.6e6) for part in ("gpu", "cpu", "ram")},
    "duration_us": ("duration_s", 1e-6),
    "duration_ns": ("duration_s", 1e-9),
}
_UNITS = {
    "tokens/s": "tok_s",
    "tok/s": "tok_s",
    "t/s": "tok_s",
    "%": "pct",
    "percent": "pct",
    "j/token": "j_per_token",
    "j/tok": "j_per_token",
}
_UNITS |= {
    "j/1k": "j_per_1k_tok",
    "j/1k tok": "j_per_1k_tok",
    "j/1k tokens": "j_per_1k_tok",
    "j/request": "j_per_request",
    "$": "usd",
    "kgco2": "kg",
}
_WORDS = {
    "device": "gpu",
    "hardware": "gpu",
    "platform": "gpu",
    "card": "gpu",
    "gpu_name": "gpu",
    "model_name": "model",
    "quantisation": "quantization",
    "quant": "quantization",
    "config": "quantization",
    "method": "quantization",
    "strategy": "quantization",
    "benchmark": "task",
    "dataset": "task",
    "batch": "batch_size",
    "bs": "batch_size",
    "score": "accuracy",
    "acc": "accuracy",
    "score_pct": "accuracy_pct",
    "acc_pct": "accuracy_pct",
    "throughput": "throughput_tok_s",
    "tok_s": "throughput_tok_s",
    "tokens_per_s": "throughput_tok_s",
    "tokens_per_second": "throughput_tok_s",
    "power": "power_w",
    "avg_power_w": "power_w",
    "power_mean_w": "power_w",
    "mean_power_w": "power_w",
    **dict.fromkeys(
        ("w", "watt", "watts", "avg_power", "mean_power", "average_power_w", "average_power", "power_draw_w", "avg_w"), "power_w"
    ),
    **dict.fromkeys(("tps", "tokens_s", "tok_per_s", "throughput_tokens_s", "throughput_tokens_per_s"), "throughput_tok_s"),
    "time_s": "duration_s",
    "runtime_s": "duration_s",
    "inference_time_s": "duration_s",
    "j_per_token": "energy_j_per_token",
    "j_per_1k_tok": "energy_j_per_1k_tok",
    "energy_per_token_j": "energy_j_per_token",
    "energy_per_1k_tokens_j": "energy_j_per_1k_tok",
    "j_per_request": "energy_j_per_request",
    "energy_reduction": "energy_reduction_pct",
    "reduction_pct": "energy_reduction_pct",
    "energy_saving_pct": "energy_reduction_pct",
    "energy_ratio": "ratio_to_baseline",
    "tdp": "tdp_w",
    "cost": "cost_usd",
    "items": "n_items",
    **dict.fromkeys(("n_gpu", "n_gpus", "gpus", "gpu_count", "number_of_gpus", "ngpu", "ngpus", "gpu_num"), "num_gpus"),
    **dict.fromkeys(("tp", "tp_size", "tensor_parallel_size"), "tensor_parallel"),
    **dict.fromkeys(("framework", "backend", "inference_engine", "runtime"), "engine"),
    **dict.fromkeys(("tokens", "new_tokens", "generated_tokens", "total_output_tokens", "completion_tokens", "n_tokens"), "tokens_out"),
    **dict.fromkeys(("gpu_energy_j", "energy_j_gpu", "gpu_joules", "gpu_energy_joules"), "energy_gpu_j"),
    **dict.fromkeys(("joules", "energy_joules", "total_joules"), "energy_j"),
    **dict.fromkeys(("cpu_energy_j", "energy_j_cpu"), "energy_cpu_j"),
    **dict.fromkeys(("ram_energy_j", "dram_energy_j", "memory_energy_j"), "energy_ram_j"),
    **dict.fromkeys(("gpu_energy_wh",), "energy_gpu_wh"),
    "gpu_energy_kwh": "energy_gpu_kwh",
    "cpu_energy_kwh": "energy_cpu_kwh",
    "ram_energy_kwh": "energy_ram_kwh",
    **dict.fromkeys(("cpu_energy_wh",), "energy_cpu_wh"),
    **dict.fromkeys(("ram_energy_wh", "dram_energy_wh"), "energy_ram_wh"),
    **dict.fromkeys(("total_energy_j", "energy_total_j", "energy_consumed_j"), "energy_j"),
    **dict.fromkeys(("total_energy_wh", "energy_total_wh", "energy_consumed_wh"), "energy_wh"),
    **dict.fromkeys(("total_energy_kwh", "energy_consumed_kwh"), "energy_kwh"),
    **dict.fromkeys(("emissions_kg", "co2_kg", "co2e_kg", "emissions_kgco2", "carbon_kg_co2", "emissions_kg_co2"), "carbon_kg"),
    **dict.fromkeys(("emissions_g", "co2_g", "co2e_g", "gco2", "gco2eq", "carbon_footprint_g"), "carbon_g"),
    **dict.fromkeys(("carbon_intensity", "carbon_intensity_g_per_kwh", "gco2_per_kwh"), "carbon_g_per_kwh"),
    "n": "n_runs",
    "runs": "n_runs",
    **dict.fromkeys(("seconds", "elapsed_s", "elapsed_time_s", "wall_time_s", "total_time_s"), "duration_s"),
    **dict.fromkeys(("output_len", "output_length"), "output_tokens"),
    **dict.fromkeys(("input_len", "input_length", "prompt_len", "prompt_length"), "input_tokens"),
}
ABROAD = {  # words of a header in German, French, Spanish and Chinese
    **dict.fromkeys(("energie", "énergie", "energía", "energieverbrauch", "能耗", "能量"), "energy"),
    **dict.fromkeys(("leistung", "puissance", "potencia", "功率", "功耗"), "power"),
    **dict.fromkeys(("durchsatz", "débit", "rendimiento", "吞吐量"), "throughput"),
    **dict.fromkeys(("dauer", "laufzeit", "zeit", "durée", "temps", "duración", "tiempo", "时间", "耗时"), "time"),
    **dict.fromkeys(("modell", "modèle", "modelo", "模型"), "model"),
    **dict.fromkeys(("quantisierung", "量化"), "quantization"),
    **dict.fromkeys(("grafikkarte", "显卡"), "gpu"),
    **dict.fromkeys(("genauigkeit", "précision_du_modèle", "exactitude", "准确率"), "accuracy"),
    **dict.fromkeys(("aufgabe", "tâche", "tarea", "任务"), "task"),
}

BOARDS = re.compile(r"(?:(\d+)\s*[x×]\s*)?(.+?)(?:\s*\(?[x×]\s*(\d+)\)?)?")


def our_name(text: str) -> str:
    """A header in snake case, with its usual synonyms as our names."""
    words = re.sub(r"[^\w.]+", "_", text.lower()).strip("_")
    words = "_".join(ABROAD.get(word, word) for word in words.split("_"))
    words = re.sub(r"[^a-z0-9._]+", "_", words).strip("_")
    plain = re.sub(r"^(avg|mean|average)_", "", words)
    return _WORDS.get(words, _WORDS.get(plain, plain if plain in ("energy_j", "energy_wh", "output_tokens", "throughput_tok_s") else words))


@cache
def our_column(column: str) -> tuple[str, float]:
    """Our name for a printed header, and what its figures are multiplied by: `Energy (kJ)` is (`energy_j`, 1000).

    A header that means nothing here comes back in snake case. Raises UserError for a unit that may be two, such as `mwh`.
    """
    text = str(column).strip().removeprefix("\ufeff")
    unit = ""
    if match := re.fullmatch(r"(.*?)\s*[\[(]([^\])]*)[\])]\s*", text):
        text, unit = match[1], match[2].strip()
    elif text.endswith("%"):
        text, unit = text[:-1], "%"
    text = _UNITS.get(text.strip().lower(), text)
    if not unit and re.search(r"_(mj|mwh|mw)$", text, re.I):
        text, unit = text.rsplit("_", 1)
    name = our_name(text)
    if unit.lower() in _UNITS:
        suffix = _UNITS[unit.lower()]
        name = name if name.endswith(f"_{suffix}") else our_name(f"{name}_{suffix}")
    elif unit:
        return _with_unit(name, unit)
    return CONVERSIONS.get(name, (name, 1.0))


def _with_unit(name: str, unit: str) -> tuple[str, float]:
    """A name with a physical unit, brought to ours."""
    stem = re.sub(r"_(j|wh|kwh|s|w|gb)$", "", name)
    spelt = cells.spelt(unit)
    if spelt in ("Wh", "kWh"):
        name = our_name(f"{stem}_{spelt.lower()}")
        return CONVERSIONS.get(name, (name, 1.0))
    for ours, ends in (("J", "wh" if spelt.endswith("Wh") else "j"), ("s", "s"), ("W", "w"), ("GB", "gb")):
        if (times := cells.factor(unit, ours)) is not None:
            return our_name(f"{stem}_{ends}"), times / 3600 if ends == "wh" else times
    plain = our_name(f"{name}_{re.sub(r'[^a-z0-9]+', '_', unit.lower()).strip('_')}")
    return CONVERSIONS.get(plain, (plain, 1.0))


def ambiguous(column: str) -> str:
    """Why a header cannot be read, "" where it can."""
    try:
        our_column(column)
    except UserError as error:
        return str(error)
    return ""


def unit_of(name: str) -> tuple[str, float]:
    """The kind of unit (a key of cells.KINDS) of one of our quantities and what it is a multiple of: `energy_wh` is ("J", 3600)."""
    if name in ("accuracy", "score"):
        return "fraction", 1.0
    if name.startswith(("energy_", "idle_energy")) and not name.endswith("pct"):
        return "J", {"energy_wh": 3600.0, "energy_kwh": 3.6e6}.get(name, 1.0)
    return next(((unit, 1.0) for end, unit in (("tok_s", ""), ("_s", "s"), ("_w", "W"), ("_gb", "GB")) if name.endswith(end)), ("", 1.0))


def boards(name: object) -> tuple[int, str]:
    """How many cards a name speaks of, and the card: `8 x NVIDIA A40`, `A40 (x8)`, `['A10G', 'A10G']`. 1 where it says none."""
    if isinstance(name, str) and name.strip().startswith("["):
        try:
            name = ast.literal_eval(name.strip())
        except (ValueError, SyntaxError):
            name = str(name)
    if isinstance(name, list | tuple):
        if len(set(map(str, name))) == 1:
            return len(name), str(name[0])
        return 1, ", ".join(map(str, name))
    match = BOARDS.fullmatch(" ".join(str(name).split()))
    return (int(match[1] or match[3] or 1), match[2]) if match else (1, str(name))
