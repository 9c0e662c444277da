"""What a printed header means in our names: `Energy (MWh)` is megawatt hours, `Tokens/s` a throughput, `latency_ms` a time in seconds."""

import ast
import re
from functools import cache
from pathlib import Path

import yaml

from eai.errors import UserError
from eai.importers import cells

_READ = yaml.load(Path(__file__).with_name("names.yaml").read_text(encoding="utf-8"), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
_WORDS, _ENDINGS, _UNITS, _ABROAD = (
    {theirs: ours for ours, several in _READ[part].items() for theirs in several} for part in ("words", "endings", "units", "abroad")
)
CONVERSIONS = {theirs: (ours, times) for theirs, (ours, times) in _READ["conversions"].items()}
NOT_MEANT, MACHINE = frozenset(_READ["not_meant"].split()), frozenset(_READ["machine"])
PARTS, STEMS = ({name: set(words) for name, words in _READ[part].items()} for part in ("parts", "stems"))
RECOGNISED = frozenset((*_READ["words"], *(name for name, _ in CONVERSIONS.values()), *_READ["more"]))
BOARDS = re.compile(r"(?:(\d{1,3})\s*[x×]\s*)?(.+?)(?:(?:(?<=\d)|\s|\s?\()[x×]\s?(\d{1,3})\)?)?")  # A100x4, A40 (x8), not rtx4090


def words_of(column: str) -> list[str]:
    """The words of a header, in English where they are of another language: `Energía (J/token gen)` is energy, j, per, token, gen."""
    text = re.sub(r"(?<=[a-z]{2})(?=[A-Z][a-z])", "_", str(column)).replace("/", " per ")
    return [_ABROAD.get(word, word) for word in re.sub(r"[^\w.]+", "_", text.lower()).strip("_").split("_") if word]


def meaning(column: str) -> tuple[str, str]:
    """What a header names by its words, without unit, and its unit: `avg_gpu_energy_joules` is ("energy_gpu", "J"); "" for neither."""
    words = words_of(column)
    have, at = set(words), words.index("per") if "per" in words else len(words)
    over, under = set(words[:at]), set(words[at + 1 :])
    unit = next((_UNITS[w] for w in reversed(words[:at]) if w in _UNITS), "")
    tokens, energy = have & {"token", "tokens", "tok", "toks"}, over & {"energy", "joule", "joules"}
    if tokens & over and over & {"input", "prompt"} and not under:
        return "tokens_in", ""
    if have & NOT_MEANT and not {"end", "to"} <= have:  # end to end is the whole
        return "", ""
    if (tokens and "first" in have) or "ttft" in have:
        return "ttft", unit
    if "tps" in have or "throughput" in have or (tokens & over and _UNITS.get(words[at + 1] if under else "") == "s"):
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
    text = _ENDINGS.get(text.strip().lower(), text)
    if not unit and re.search(r"_(mj|mwh|mw)$", text, re.I):
        text, unit = text.rsplit("_", 1)
    name = our_name(text)
    if unit.lower() in _ENDINGS:
        suffix = _ENDINGS[unit.lower()]
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


def meant(column: object) -> tuple[str, float]:
    """`our_column`, with "" for a header whose unit may be two."""
    return ("", 1.0) if ambiguous(str(column)) else our_column(str(column))


def unit_of(name: str) -> tuple[str, float]:
    """The kind of unit (a key of cells.KINDS) of one of our quantities and what it is a multiple of: `energy_wh` is ("J", 3600)."""
    if name in ("accuracy", "score"):
        return "fraction", 1.0
    if name.startswith(("energy_", "idle_energy")) and not name.endswith("pct"):
        return "J", {"energy_wh": 3600.0, "energy_kwh": 3.6e6}.get(name, 1.0)
    return next(((unit, 1.0) for end, unit in (("tok_s", ""), ("_s", "s"), ("_w", "W"), ("_gb", "GB")) if name.endswith(end)), ("", 1.0))


def boards(name: object) -> tuple[int, str]:
    """How many cards a name states, and the card: `8 x NVIDIA A40`, `A40 (x8)`, `['A10G', 'A10G']`. 1 where it says none."""
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
