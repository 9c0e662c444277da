"""How a foreign table says what we say: which column, which unit, which boundary, and what its rows repeat.

A mapping is small enough for a YAML file::

    source: my power logger
    energies:
      - {column: gpu_kwh, unit: kWh, boundary: gpu, basis: measured}
    columns: {model: model_name, batch_size: bs, duration_s: seconds, tokens_out: new_tokens}
    constants: {gpu: rtx4090, quantization: fp16, input_tokens: 512, output_tokens: 256}
    units: {duration_s: s}
    block: run            # only where the source measured every configuration once a run

Nothing is guessed: a boundary, a basis and every part of the configuration has to be said.
"""

from dataclasses import dataclass, field, fields, replace

from eai import schema
from eai.errors import UserError

JOULES = {"J": 1.0, "mJ": 1e-3, "kJ": 1e3, "Wh": 3.6e3, "mWh": 3.6, "kWh": 3.6e6}
SECONDS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "min": 60.0, "h": 3600.0}
PER = ("window", "output_token", "request")


@dataclass(frozen=True)
class Energy:
    """One energy column: its unit, what it covers, where it comes from, and per what it is stated."""

    column: str
    unit: str
    boundary: str
    basis: str
    per: str = "window"
    device_id: str = ""

    def __post_init__(self):
        for name, allowed in (("unit", JOULES), ("boundary", schema.BOUNDARIES), ("basis", schema.BASES), ("per", PER)):
            if getattr(self, name) not in allowed:
                raise UserError(f"energy column {self.column}: {name} '{getattr(self, name)}'", f"one of {', '.join(allowed)}")


@dataclass(frozen=True)
class Mapping:
    """How to read one foreign table. `columns`: ours -> theirs; `constants`: ours -> value; `units` of durations: ours -> unit.

    `block`: a column whose values are the source's runs, if each run measured every configuration (it is used for pairing);
    without it all rows of a configuration are repeats of one block, because nothing says that they are independent. `failed`: a column
    that is not empty, or not among `passed`, where the row failed.
    """

    source: str
    energies: tuple[Energy, ...]
    columns: dict[str, str] = field(default_factory=dict)
    constants: dict[str, object] = field(default_factory=dict)
    units: dict[str, str] = field(default_factory=dict)
    block: str | None = None
    failed: str | None = None
    passed: tuple[str, ...] = ()


def mapping_from(document: object, base: Mapping | None = None) -> Mapping:
    """The mapping in a parsed YAML document; on top of `base`, a known tool's, whose entries it completes or replaces.

    Raises UserError for unknown, missing or misshapen keys.
    """
    known = {f.name for f in fields(Mapping)}
    if not isinstance(document, dict):
        raise UserError(f"a mapping that is {str(document)[:40]!r}", f"keys among {', '.join(sorted(known))}")
    wrong = sorted(str(key) for key in set(document) - known)
    if wrong or not (base or document.get("energies")):
        found = f"mapping keys {', '.join(wrong)}" if wrong else "a mapping without energies"
        raise UserError(found, f"some of {', '.join(sorted(known))}, energies among them")
    for name in ("columns", "constants", "units"):
        if not isinstance(document.get(name, {}), dict):
            raise UserError(f"{name} of the mapping is {str(document[name])[:40]!r}", "pairs of our name: theirs")
    rest = {k: v for k, v in document.items() if k != "energies"}
    if "passed" in rest:
        rest["passed"] = tuple(str(v) for v in rest["passed"])
    if "energies" in document:
        rest["energies"] = _energies(document["energies"])
    return Mapping(**({"source": "unnamed"} | rest)) if base is None else _completed(base, rest)


def _energies(entries: object) -> tuple[Energy, ...]:
    """The energy columns of a mapping. Raises UserError for an entry that is none."""
    if not isinstance(entries, list) or not all(isinstance(e, dict) for e in entries):
        raise UserError(f"energies of the mapping: {str(entries)[:40]!r}", "a list of {column: ..., unit: ..., boundary: ..., basis: ...}")
    try:
        return tuple(Energy(**e) for e in entries)
    except TypeError as error:
        raise UserError(f"an energy of the mapping: {error}", f"{', '.join(f.name for f in fields(Energy))}") from None


def _completed(base: Mapping, rest: dict) -> Mapping:
    """`base` with further columns, constants and units, and whatever else the document says in its place."""
    merged = {name: getattr(base, name) | rest.get(name, {}) for name in ("columns", "constants", "units")}
    return replace(base, **(rest | merged))


def with_constants(mapping: Mapping, constants: dict[str, object]) -> Mapping:
    """The mapping with values that hold for every row; they go before a column for the same."""
    columns = {ours: theirs for ours, theirs in mapping.columns.items() if ours not in constants}
    return replace(mapping, columns=columns, constants=mapping.constants | constants)


CODECARBON = Mapping(
    source="CodeCarbon emissions.csv (kWh a run; columns of version 2.3); tokens and configuration are not in it",
    energies=(
        Energy("gpu_energy", "kWh", "gpu", "measured"),
        Energy("cpu_energy", "kWh", "cpu_package", "estimated"),
        Energy("ram_energy", "kWh", "dram", "estimated"),
    ),
    columns={"duration_s": "duration", "gpu": "gpu_model"},
)

OPTIMUM_BENCHMARK = Mapping(
    source="optimum-benchmark, report flattened to CSV (kWh of one decode pass of the whole batch)",
    energies=(
        Energy("report.decode.energy.gpu", "kWh", "gpu", "measured"),
        Energy("report.decode.energy.cpu", "kWh", "cpu_package", "estimated"),
        Energy("report.decode.energy.ram", "kWh", "dram", "estimated"),
    ),
    columns={
        "model": "config.backend.model",
        "batch_size": "config.scenario.input_shapes.batch_size",
        "input_tokens": "config.scenario.input_shapes.sequence_length",
        "output_tokens": "config.scenario.generate_kwargs.max_new_tokens",
        "duration_s": "report.decode.latency.mean",
        "throughput_tok_s": "report.decode.throughput.value",
    },
)

ML_ENERGY = Mapping(
    source="ML.ENERGY benchmark v3, LLM runs (GPU energy per output token; no totals)",
    energies=(Energy("energy_per_token_joules", "J", "gpu", "published", per="output_token"),),
    columns={
        "model": "model_id",
        "gpu": "gpu_model",
        "task": "task",
        "batch_size": "max_num_seqs",
        "throughput_tok_s": "output_throughput_tokens_per_sec",
    },
    failed="is_stable",
    passed=("True", "true", "1"),
)

EXAMPLES = {"codecarbon": CODECARBON, "optimum-benchmark": OPTIMUM_BENCHMARK, "ml-energy": ML_ENERGY}
