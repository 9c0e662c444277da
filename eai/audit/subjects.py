"""What a rule looks at: a server's launch, an engine or model load in Python, a generate call, a mapping of a configuration.

All of them are options with a value and a place. Spellings differ (`--max-num-seqs`, `maxNumSeqs`, MAX_CONCURRENT_REQUESTS); the table
`rules/names.yaml` gives each option one name, and says how the engines are recognised.
"""

import math
import operator
import re
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path

import yaml

from eai import catalog, footprint, strategies
from eai.audit.values import UNKNOWN, Symbol
from eai.errors import UserError

RULES = Path(__file__).parent / "rules"
NAMES = yaml.safe_load((RULES / "names.yaml").read_text())
_SPELLINGS = {spelling: name for name, spellings in NAMES["options"].items() for spelling in spellings}
_DTYPES = {spelling: dtype for dtype, spellings in NAMES["dtypes"].items() for spelling in spellings}
_PROGRAMS = [(engine, re.compile(rf"^(?:{x['program']})$", re.IGNORECASE)) for engine, x in NAMES["engines"].items() if "program" in x]
_IMAGES = [(engine, re.compile(x["image"], re.IGNORECASE)) for engine, x in NAMES["engines"].items() if "image" in x]
_CARDS = re.compile(
    r"\b(?:(?i:RTX[ _-]?A?\d{4}(?:[ _-]?Ti)?(?:[ _-]?D\b)?(?:[ _-](?:8|16)[ ]?GB)?)|[AHLVB]\d{2,3}[GS]?|[LT]4|MI300X"
    r"|(?:(?<=nvidia-)|(?<=tesla-))[ahlvtb]\d{1,3}[gs]?)\b"
)
_SEVERAL = re.compile(r"\b(?:[2-9]|1\d)[ ]?[x×*-][ ]?(?:NVIDIA[ -])?(?:RTX|[AHLVB]\d{2,3}|[LT]4)")
_FOUR_BITS = re.compile(r"(awq|gptq|exl[23]|(nv|mx)fp4|[-_.]i?q4|[-_](u?int|fp|nf)4|[-_](?:bnb-)?4bit|w4a(8|16))", re.IGNORECASE)
_EIGHT_BITS = re.compile(r"([-_.]q8|[-_]fp8|[-_]int8|[-_]8bit|w8a)", re.IGNORECASE)
_ENCODERS = re.compile(  # tasks and models that decode no text
    r"\b(embed(ding)?|classify|score|reward|pooling)\b|\b(bge|e5|gte|whisper|clip|vit)\b|[-_]embed|rerank|sentence-transformers"
    r"|\b(ro|distil|al|de)?berta?\b|diffusion",
    re.IGNORECASE,
)
_ASIDE = re.compile(r"\b(not|unlike|instead|avoid|issue|bug|than)\b|n't\b")
_COMPARE = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge, "==": operator.eq}
MODEL_PLACES = ("model", "base_model", "pretrained", "pretrained_model_name_or_path")


@dataclass(frozen=True)
class Option:
    """One option's value, the line it stands in, and in Python the call that gives it."""

    value: object
    line: int
    node: object = None


def canonical(name: str) -> str:
    """The one name of an option: dashes and camel case as underscores, then the table of spellings."""
    snake = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name.lstrip("-")).replace("-", "_").replace(".", "_").lower()
    return _SPELLINGS.get(snake, snake)


def engine_of_program(word: str) -> str:
    """The engine that a program or Python module is, empty if none."""
    name = word.rpartition("/")[2]
    return next((engine for engine, pattern in _PROGRAMS if pattern.match(name)), "")


def engine_of_image(image: str) -> str:
    """The engine that a container image holds, empty if none."""
    return next((engine for engine, pattern in _IMAGES if pattern.search(image)), "")


@cache
def params_b(name: str) -> float | None:
    """Parameters [1e9] of a model called `name`: from the catalog, else from the size in its name, else None."""
    try:
        return catalog.model(name).params_total / 1e9
    except UserError:
        stated = catalog.params_in_name(name.rpartition("/")[2].replace(":", "-"))
        return stated / 1e9 if stated else None


@cache
def card(name: str) -> catalog.Gpu | None:
    """The catalog's GPU of that name, however it is decorated (`nvidia-l4`, `NVIDIA-A100-SXM4-80GB`), None if it lists none."""
    whole = re.sub(r"(?i)nvidia[-_ ]?(tesla[-_ ]?)?|tesla[-_ ]|geforce[-_ ]", "", name)
    found = _CARDS.search(whole)
    for spelling in (whole, found.group() if found else ""):
        try:
            return catalog.gpu(spelling)
        except UserError:
            continue
    return None


def card_in_text(text: str) -> catalog.Gpu | None:
    """The one card that a text names, None if it names none or several; a line that mentions it in passing names none."""
    if _SEVERAL.search(text):
        return None
    text = "\n".join(line for line in text.splitlines() if not _ASIDE.search(line)) if _CARDS.search(text) else ""
    cards = {g.slug: g for word in set(_CARDS.findall(text)) if (g := card(word)) is not None}
    return next(iter(cards.values())) if len(cards) == 1 else None


@dataclass
class Subject:
    """One thing with options. `place`: server | engine | load | generate | request | config; `facts`: what else the file states; `is_open`:
    further options may come from elsewhere, so that an absent one is no default."""

    place: str
    engine: str
    line: int
    options: dict[str, Option] = field(default_factory=dict)
    facts: dict[str, object] = field(default_factory=dict)
    is_open: bool = False

    def add(self, name: str, value: object, line: int, node: object = None) -> None:
        """Give an option its value; data types in their one spelling."""
        name = canonical(name)
        if name in ("dtype", "compute_dtype", "bnb_4bit_compute_dtype") and isinstance(value, str):
            value = _DTYPES.get(value.removeprefix("torch.").lower(), value.removeprefix("torch."))
        self.options[name] = Option(value, line, node)

    def get(self, name: str) -> object:
        """The value of an option or fact, None if there is none."""
        if name in self.options:
            return self.options[name].value
        if name in self.facts:
            return self.facts[name]
        return getattr(self, name) if name in ("engine", "place", "size_b", "spills", "capability", "fits_one", "bits") else None

    @cached_property
    def model(self) -> str:
        """The name of the model, empty if the file does not state it."""
        given = next((self.options[n].value for n in MODEL_PLACES if n in self.options), self.facts.get("model", ""))
        return given if isinstance(given, str) and not isinstance(given, Symbol) else ""

    @cached_property
    def size_b(self) -> float | None:
        """Parameters of the model [1e9], None if neither catalog nor name state them."""
        return params_b(self.model) if self.model else None

    @cached_property
    def gpu(self) -> catalog.Gpu | None:
        """The card, where options or the file name exactly one."""
        named = self.options.get("gpu")
        known = card(named.value) if named is not None and isinstance(named.value, str) else None
        return known or self.facts.get("gpu")

    @property
    def decodes_on_gpu(self) -> bool:
        """Whether published and computed figures apply: of text that a GPU decodes to be read; not of a CPU, an encoder, a benchmark."""
        task = " ".join(str(self.get(name) or "") for name in ("task", "runner", "convert"))
        return (
            self.get("device") not in ("cpu", "mps") and not self.facts.get("benchmarks") and not _ENCODERS.search(f"{task} {self.model}")
        )

    @property
    def capability(self) -> float | None:
        """The card's CUDA compute capability, None if the card is not known."""
        return self.gpu.compute_capability if self.gpu else None

    @property
    def cards(self) -> int | None:
        """How many cards share the model, None where the file states no number."""
        given = [self.options[n].value for n in ("tensor_parallel_size", "num_gpus", "pipeline_parallel_size") if n in self.options]
        known = [int(str(x)) for x in given if str(x).isdigit()]
        return max(known) if known else (None if given or self.facts.get("several_cards") else 1)

    @property
    def strategy(self) -> str:
        """The strategy that flags, data type and the model's name amount to; 16 bit where they say nothing."""
        quantization = str(self.get("quantization") or "")
        if self.get("load_in_4bit") is True or _FOUR_BITS.search(f"-{quantization}") or _FOUR_BITS.search(self.model):
            return "nf4"
        if self.get("load_in_8bit") is True or _EIGHT_BITS.search(f"-{quantization}") or _EIGHT_BITS.search(self.model):
            return "int8_default"
        if quantization in strategies.STRATEGIES:
            return quantization
        if quantization in ("bitsandbytes", "bitsandbytes-nf4", "bitsandbytes-fp4"):
            return "int8_default" if self.engine == "tgi" and quantization == "bitsandbytes" else "nf4"
        return "fp32" if self.get("dtype") == "float32" else "fp16"

    @property
    def bits(self) -> float:
        """Stored bits of a quantized weight."""
        return strategies.get(self.strategy).weight_bits

    @cached_property
    def need(self) -> tuple[float, float] | None:
        """(memory needed at batch 1, memory usable on one card) in GB; None where model or card are not known."""
        if self.gpu is None or self.gpu.memory_gb is None or not self.model:
            return None
        available = footprint.available_gb(self.gpu)
        try:
            return footprint.footprint(self.model, self.strategy).memory_gb, available
        except UserError:
            weights = self.size_b * strategies.get(self.strategy).weight_bits / 8 if self.size_b else None
            return (weights, available) if weights else None

    @property
    def spills(self) -> bool:
        """Whether the model is larger than the one card it runs on."""
        return self.need is not None and self.cards == 1 and self.need[0] > self.need[1]

    @property
    def fits_one(self) -> bool | None:
        """Whether one card holds the model with a third of its memory left for the KV cache, None where that is unknown."""
        return None if self.need is None else self.need[0] <= 0.67 * self.need[1]


def meets(value: object, wanted: object, is_open: bool) -> bool:
    """Whether an option's value is what a rule wants: a value, one of a list, present, absent, unknown, `{not: [...]}` or `< 16`."""
    if isinstance(wanted, dict):
        if "all" in wanted:
            return all(meets(value, w, is_open) for w in wanted["all"])
        return not meets(value, wanted["not"], is_open)
    if isinstance(wanted, list):
        return any(meets(value, w, is_open) for w in wanted)
    if wanted in ("absent", "unknown"):
        is_unknown = value is UNKNOWN or isinstance(value, Symbol)
        return is_unknown if wanted == "unknown" else value is None and not is_open
    if value is None or value is UNKNOWN or wanted == "present":
        return value is not None and value is not UNKNOWN
    if isinstance(wanted, bool):
        return value is wanted or (isinstance(value, str) and value.lower() in (("true", "1", "") if wanted else ("false", "0")))
    if isinstance(wanted, str) and wanted.startswith("~"):
        return re.search(wanted[1:], str(value)) is not None
    comparison = re.fullmatch(r"([<>]=?) *(\S+)", wanted) if isinstance(wanted, str) else None
    if comparison or isinstance(wanted, int | float):
        try:
            number = float(value) if isinstance(value, int | float | str) and not isinstance(value, bool) else math.nan
        except ValueError:
            return False
        return _COMPARE[comparison[1] if comparison else "=="](number, float(comparison[2] if comparison else wanted))
    return str(value).lower() == wanted.lower()
