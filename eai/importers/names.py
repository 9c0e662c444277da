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
    "tokens/s": "tok_s", "tok/s": "tok_s", "t/s": "tok_s", "%": "pct", "percent": "pct", "j/token": "j_per_token", "j/tok": "j_per_token",
}  # fmt: skip
_UNITS |= {
    "j/1k": "j_per_1k_tok",
    "j/1k tok": "j_per_1k_tok",
    "j/1k tokens": "j_per_1k_tok",
    "j/request": "j_per_request",
    "$": "usd",
    "kgco2": "kg",
}
_WORDS = {
    **dict.fromkeys(("device", "hardware", "platform", "card", "gpu_name", "gpu_model"), "gpu"),
    **dict.fromkeys(("model_name", "model_id", "model_file", "model_path", "checkpoint"), "model"),
    **dict.fromkeys(("quantisation", "quant", "config", "method", "strategy", "quantization_type", "quant_type", "dtype"), "quantization"),
    **dict.fromkeys(("benchmark", "dataset", "task_name"), "task"),
    **dict.fromkeys(("batch", "bs", "size_batch"), "batch_size"),
    **dict.fromkeys(("score", "acc", "quality_score", "pass_rate"), "accuracy"),
    **dict.fromkeys(("score_pct", "acc_pct"), "accuracy_pct"),
    **dict.fromkeys(("power", "power_mean_w", "mean_power_w", "w", "avg_power", "mean_power", "average_power", "avg_w"), "power_w"),
    **dict.fromkeys(("tok_s", "tokens_s"), "throughput_tok_s"),
    "j_per_token": "energy_j_per_token",
    "j_per_1k_tok": "energy_j_per_1k_tok",
    "energy_per_token_j": "energy_j_per_token",
    "energy_per_1k_tokens_j": "energy_j_per_1k_tok",
    **dict.fromkeys(("j_per_request", "energy_per_request_j"), "energy_j_per_request"),
    **dict.fromkeys(("energy_reduction", "reduction_pct", "energy_saving_pct"), "energy_reduction_pct"),
    "energy_ratio": "ratio_to_baseline",
    "tdp": "tdp_w",
    "cost": "cost_usd",
    "items": "n_items",
    **dict.fromkeys(("n_gpu", "n_gpus", "gpus", "gpu_count", "number_of_gpus", "ngpu", "ngpus", "gpu_num"), "num_gpus"),
    **dict.fromkeys(("tp", "tp_size", "tensor_parallel_size"), "tensor_parallel"),
    **dict.fromkeys(("framework", "backend", "inference_engine", "runtime", "motor"), "engine"),
    **dict.fromkeys(("tokens", "new_tokens", "n_tokens"), "tokens_out"),
    **dict.fromkeys(("emissions_kg", "co2_kg", "co2e_kg", "emissions_kgco2", "carbon_kg_co2", "emissions_kg_co2"), "carbon_kg"),
    **dict.fromkeys(("emissions_g", "co2_g", "co2e_g", "gco2", "gco2eq", "carbon_footprint_g"), "carbon_g"),
    **dict.fromkeys(("carbon_intensity", "carbon_intensity_g_per_kwh", "gco2_per_kwh"), "carbon_g_per_kwh"),
    **dict.fromkeys(("n", "runs"), "n_runs"),
    **dict.fromkeys(("seconds", "time_s"), "duration_s"),
    **dict.fromkeys(("output_len", "output_length"), "output_tokens"),
    **dict.fromkeys(("input_len", "input_length", "prompt_len", "prompt_length"), "input_tokens"),
}
ABROAD = {  # words of a header in German, French, Spanish, Italian and Chinese
    **dict.fromkeys(("energie", "énergie", "energía", "energia", "energieverbrauch", "能耗", "能量"), "energy"),
    **dict.fromkeys(("leistung", "puissance", "potencia", "potenza", "功率", "功耗"), "power"),
    **dict.fromkeys(("durchsatz", "débit", "rendimiento", "吞吐量"), "throughput"),
    **dict.fromkeys(("dauer", "laufzeit", "zeit", "durée", "temps", "duración", "tiempo", "tempo", "durata", "时间", "耗时"), "time"),
    **dict.fromkeys(("latenz", "latence", "latencia", "latenza", "inferencia"), "latency"),
    **dict.fromkeys(("modell", "modèle", "modelo", "modello", "模型"), "model"),
    **dict.fromkeys(("quantisierung", "cuantizacion", "cuantización", "quantizzazione", "量化"), "quantization"),
    **dict.fromkeys(("grafikkarte", "显卡"), "gpu"),
    **dict.fromkeys(("genauigkeit", "précision_du_modèle", "exactitude", "precisión", "accuratezza", "准确率"), "accuracy"),
    **dict.fromkeys(("aufgabe", "tâche", "tarea", "compito", "任务"), "task"),
    **dict.fromkeys(("generados", "generadas", "générés", "generierte", "ausgegeben"), "generated"),
    **dict.fromkeys(("numero", "número", "nombre", "anzahl"), "number"),
    **dict.fromkeys(("tamaño", "taille", "größe"), "size"),
    **dict.fromkeys(("medio", "media", "moyen", "moyenne", "mittlere", "promedio"), "mean"),
    **dict.fromkeys(("problemas", "preguntas", "fragen"), "items"),
}
UNITS = {
    **{u.lower(): u for u in ("J", "kJ", "Wh", "kWh", "W", "kW", "s", "ms", "h")},
    **dict.fromkeys(("joule", "joules"), "J"),
    **dict.fromkeys(("watt", "watts"), "W"),
    **dict.fromkeys(("second", "seconds", "sec", "secs"), "s"),
    **dict.fromkeys(("milliseconds", "msec"), "ms"),
    "minutes": "min",
    "hours": "h",
}
"""Units as words of a header spell them; `mj`, `mwh` and `mw` may be two and are none of these."""
NOT_MEANT = frozenset(
    re.findall(
        r"\w+",
        "std stdev sd var cv iqr min max peak p50 p90 p95 p99 low high lower upper ci abs error idle net busy limit cap rank ratio saving "
        "savings saved reduction change improvement baseline edp cost price load warmup setup init queue wait prompt input prefill decode "
        "source id kind percent pct tdp utilization util temperature temp carbon co2 co2e emissions vram start end began begin stamp date "
        "sample samples freq frequency clock 1k 1000 million thousand",
    )
)
"""A header with one of these words is not the plain quantity: a spread, a peak, a part of the run, a change."""
MACHINE = frozenset(("system", "wall", "node", "server", "machine", "socket", "outlet"))
PARTS = {"gpu": {"gpu", "cuda", "nvml"}, "cpu": {"cpu", "package", "rapl"}, "ram": {"ram", "dram", "memory"}}
STEMS = {"latency": {"latency"}, "power": {"power", "watts"}, "duration": {"duration", "time", "runtime", "elapsed"}}

RECOGNISED = frozenset((*_WORDS.values(), *(name for name, _ in CONVERSIONS.values()), "energy_wh", "energy_kwh", "energy_j", "tokens_in"))
RECOGNISED |= {"ttft_s", "itl_s", "tokens_per_j", "requests", "energy_gpu_j", "energy_cpu_j", "energy_ram_j"}
BOARDS = re.compile(r"(?:(\d{1,3})\s*[x×]\s*)?(.+?)(?:(?:(?<=\d)|\s|\s?\()[x×]\s?(\d{1,3})\)?)?")  # A100x4, A40 (x8), not rtx4090


def words_of(column: str) -> list[str]:
    """The words of a header, in English where they are of another language: `Energía (J/token gen)` is energy, j, per, token, gen."""
    text = re.sub(r"(?<=[a-z]{2})(?=[A-Z][a-z])", "_", str(column)).replace("/", " per ")
    return [ABROAD.get(word, word) for word in re.sub(r"[^\w.]+", "_", text.lower()).strip("_").split("_") if word]


def meaning(column: str) -> tuple[str, str]:
    """What a header speaks of by its words, without unit, and its unit: `avg_gpu_energy_joules` is ("energy_gpu", "J"); "" for neither."""
    words = words_of(column)
    have, at = set(words), words.index("per") if "per" in words else len(words)
    over, under = set(words[:at]), set(words[at + 1 :])
    unit = next((UNITS[w] for w in reversed(words[:at]) if w in UNITS), "")
    tokens, energy = have & {"token", "tokens", "tok", "toks"}, over & {"energy", "joule", "joules"}
    if tokens & over and over & {"input", "prompt"} and not under:
        return "tokens_in", ""
    if have & NOT_MEANT and not {"end", "to"} <= have:  # end to end is the whole
        return "", ""
    if (tokens and "first" in have) or "ttft" in have:
        return "ttft", unit
    if "tps" in have or "throughput" in have or (tokens & over and UNITS.get(words[at + 1] if under else "") == "s"):
        return "" if have & {"request", "requests", "req", "items", "total"} else "throughput_tok_s", ""
    if tokens & over and under & {"joule", "joules", "j"}:
        return "tokens_per_j", ""
    if under:
        per = "token" if tokens & under else "request" if under & {"request", "query", "inference"} else ""
        if per and (energy or unit == "J"):
            return f"energy_per_{per}", unit
        return ("itl", unit) if per == "token" and over & {"tpot", "time", "latency"} else ("", "")
    if energy or unit in ("Wh", "kWh"):
        return "energy" + next((f"_{part}" for part, marks in PARTS.items() if have & marks), ""), unit
    for name, marks in STEMS.items():
        if have & marks:
            return ("", "") if have & (PARTS["cpu"] | PARTS["ram"]) or (name == "duration" and have & PARTS["gpu"]) else (name, unit)
    if tokens and have & {"output", "generated", "completion", "gen"}:
        return "tokens_out", ""
    if have & {"count", "number", "num", "total", "n"} and (named := have & {"request", "requests", "items"}):
        return "n_items" if "items" in named else "requests", ""
    return "", ""


def our_name(text: str) -> str:
    """A header in snake case, with its usual synonyms as our names."""
    words = "_".join(words_of(text))
    words = re.sub(r"[^a-z0-9._]+", "_", words).strip("_")
    plain = re.sub(r"^(avg|mean|average)_", "", words)
    return _WORDS.get(words, _WORDS.get(plain, plain if plain in ("energy_j", "energy_wh", "output_tokens", "throughput_tok_s") else words))


@cache
def our_column(column: str) -> tuple[str, float]:
    """Our name for a printed header, and what its figures are multiplied by: `Energy (kJ)` is (`energy_j`, 1000).

    What no synonym covers is read by its words. A header that means nothing here comes back in snake case. Raises UserError for a unit that
    may be two, such as `mwh`.
    """
    found = spelt_out(column)
    if found[0] in RECOGNISED or set(words_of(column)) & MACHINE:
        return found
    name, unit = meaning(column)
    by_words = _with_unit(name, unit) if unit else (name, 1.0)
    return by_words if by_words[0] in RECOGNISED else found


@cache
def spelt_out(column: str) -> tuple[str, float]:
    """`our_column` of a header that has the usual spelling. Raises UserError for a unit that may be two."""
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
