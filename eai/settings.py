"""Every parameter of a sweep and of one configuration, validated once.

The field names of `Sweep` are the parameters of the measure notebook and the keys of sweep.yaml; papermill passes lists as strings,
so lists are parsed from strings too.
"""

import difflib
import hashlib
import itertools
import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator, model_validator

from eai import inputs, servers, strategies, taskcards
from eai.errors import UserError
from eai.schema import CONFIGURATION

EMBEDDED_MODEL = "embedded/SmolLM2-135M-Instruct"
OPTION_DEFAULTS = {"kv_cache": True, "cache": "dynamic", "compile": False}

EXPECTED = {
    "too_short": "a list of {min_length} or more",
    "string_too_short": "a name",
    "string_type": "text",
    "list_type": "a list",
    "literal_error": "{expected}",
    "greater_than": "more than {gt:g}",
    "greater_than_equal": "{ge:g} or more",
    **dict.fromkeys(("int_type", "int_parsing", "int_parsing_size", "int_from_float"), "a whole number"),
    **dict.fromkeys(("float_type", "float_parsing", "finite_number"), "a number"),
    **dict.fromkeys(("bool_type", "bool_parsing"), "true or false"),
}
"""What was expected, by pydantic's type of error and filled in from its context."""


def _as_list(value: Any) -> Any:
    """A list from a list, a scalar, or the text of either (YAML, or names separated by commas); ValueError where it has two readings."""
    if isinstance(value, str):
        try:
            parsed = inputs.yaml_value(value)
            if isinstance(parsed, str):
                for part in value.split(","):
                    inputs.yaml_value(part)
                parsed = [part.strip() for part in value.split(",")]
        except UserError as error:
            raise ValueError(str(error)) from error
        value = parsed
    return list(value) if isinstance(value, list | tuple) else [value]


def _unique(value: list) -> list:
    if len(set(value)) != len(value):
        raise ValueError(f"names a value twice: {value}")
    return value


Strings = Annotated[list[Annotated[str, Field(min_length=1)]], BeforeValidator(_as_list), Field(min_length=1), AfterValidator(_unique)]
Counts = Annotated[list[Annotated[int, Field(ge=1)]], BeforeValidator(_as_list), Field(min_length=1), AfterValidator(_unique)]
Weights = Literal["published", "random", "random_outliers"]
Strategies = Annotated[Strings, AfterValidator(lambda value: [strategies.get(slug).slug for slug in value])]
Loads = Annotated[Strings, AfterValidator(lambda value: _unique([str(servers.load(text)) for text in value]))]
Baseline = Annotated[str, AfterValidator(lambda value: value if value == "auto" else strategies.get(value).slug)]


class Configuration(BaseModel):
    """What is measured: one gpu, model, quantization, batch size, length and task. Immutable and hashable by its id."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    gpu: str
    model: str
    weights: Weights = "published"
    quantization: str
    batch_size: int = Field(ge=1)
    input_tokens: int = Field(ge=0)
    output_tokens: int = Field(ge=0)
    task: str = taskcards.GENERATE
    options: dict[str, Any] = {}

    @field_validator("options")
    @classmethod
    def _without_defaults(cls, value: dict) -> dict:
        """Options at their default are left out, so that a new option does not change the id of old configurations."""
        return {k: v for k, v in value.items() if k not in OPTION_DEFAULTS or OPTION_DEFAULTS[k] != v}

    @model_validator(mode="after")
    def _lengths(self) -> "Configuration":
        if self.task == taskcards.GENERATE and not (self.input_tokens and self.output_tokens):
            raise ValueError("input_tokens and output_tokens of plain generation are 1 or more; 0 stands for the items of a task")
        return self

    @property
    def configuration_id(self) -> str:
        """First 12 hex digits of the SHA-256 of the configuration's canonical JSON (sorted keys, no spaces)."""
        text = json.dumps(self.model_dump(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def columns(self) -> dict[str, Any]:
        """The configuration as the columns of schema.CONFIGURATION, options as canonical JSON."""
        row = {name: getattr(self, name) for name in CONFIGURATION}
        return row | {"options": json.dumps(self.options, sort_keys=True, separators=(",", ":"))}


class Sweep(BaseModel):
    """A sweep: the grid of configurations and how each is measured. Its defaults are the embedded run, which needs no GPU and no hub."""

    model_config = ConfigDict(extra="forbid", validate_default=True, allow_inf_nan=False)

    experiment: str = "embedded"
    gpus: Strings = ["auto"]
    models: Strings = [EMBEDDED_MODEL]
    weights: Weights = "published"
    quantizations: Strategies = ["fp32", "bf16", "int8_default", "int8_pure", "nf4_dq"]
    batch_sizes: Counts = [1, 4]
    input_tokens: Counts = [64]
    output_tokens: Counts = [16]
    tasks: Strings = [taskcards.GENERATE]
    limit: int | None = Field(None, ge=1, description="items of each task, the first ones (MMLU: of each subject); None: all")
    fewshot: int | None = Field(None, ge=0, description="worked examples in the prompts of tasks that take any; None: the task's own")
    kv_cache: bool = True
    cache: Literal["dynamic", "static"] = "dynamic"
    compile: bool = Field(False, description="torch.compile of the decode step; needs cache: static")
    blocks: int = Field(3, ge=1)
    repeats: int = Field(1, ge=1)
    window_s: float | None = Field(None, gt=0, description="seconds of work a window; None: 10 with a sensor, 2 with the CPU estimate")
    warmup_cap_s: float | None = Field(None, ge=0, description="longest warm-up before a window, in s; None: 60, or 1 on a CPU estimate")
    idle_s: float | None = Field(None, ge=0, description="seconds of each idle measurement; 0: none, no net energy; None: 5 with a sensor")
    threads: int = Field(1, ge=0, description="CPU threads of the measured process; 0 leaves the library's choice")
    seed: int = Field(0, ge=0)
    meter: Literal["auto", "nvml", "rapl", "estimate"] = "auto"
    shared: bool = Field(False, description="measure although others use the card: their energy is in the number, and it is flagged")
    server: str = Field("", description="address of an OpenAI-compatible server to measure in place of a model in this process")
    server_name: str = Field("", description="what runs there, such as vllm-0.11; part of the configuration")
    server_model: str = Field("", description="the model's name at the server, where it is not that of `models`")
    server_pid: int = Field(0, ge=0, description="the server's process, where another one listens for it; 0: the one that listens")
    server_timeout_s: float = Field(60.0, gt=0, description="longest wait for the next piece of a reply, in seconds")
    loads: Loads = ["closed:1"]
    baseline: Baseline = "auto"
    trust_remote_code: bool = False

    @model_validator(mode="before")
    @classmethod
    def _truth_is_no_number(cls, given: dict[str, Any]) -> Any:
        """Refuse true for 1, which Python takes for a number, and names that no file system takes."""
        for name, value in given.items():
            field, each = cls.model_fields.get(name), value if isinstance(value, list | tuple) else [value]
            if field and field.annotation is not bool and any(isinstance(one, bool) for one in each):
                raise ValueError(f"{name} = {str(value).lower()}; expected a number or a name, and not a truth value")
            if any(isinstance(one, str) and inputs.too_long(one) for one in each):
                raise ValueError(f"{name} holds a name that is too long for a file; expected at most 255 characters")
        return given

    @field_validator("experiment")
    @classmethod
    def _plain_name(cls, value: str) -> str:
        if not value or value in (".", "..") or "\0" in value:
            raise ValueError("needs a folder name")
        if ".." in Path(value).parts:
            raise ValueError(f"'{value}' climbs out of its folder with '..'; write the folder's whole path, or a plain name")
        return value

    @model_validator(mode="after")
    def _parts_agree(self) -> "Sweep":
        if self.cache == "static" and not self.kv_cache:
            raise ValueError("cache static needs kv_cache true")
        if self.compile and self.cache != "static":
            raise ValueError("compile true needs cache static: a growing cache is compiled anew each step")
        if problem := servers.problem(self, OPTION_DEFAULTS):
            raise ValueError(problem)
        scored = [card.options(self.limit, self.fewshot) for card in self.task_cards().values()]
        if not scored and (self.limit is not None or self.fewshot is not None):
            raise ValueError("limit and fewshot are of tasks; name one beside 'generate'")
        if scored and self.weights != "published":
            raise ValueError(f"weights {self.weights} answer at random: tasks need published weights")
        if scored and (changed := [name for name, default in OPTION_DEFAULTS.items() if getattr(self, name) != default]):
            raise ValueError(f"{changed[0]} is an option of plain generation; measure tasks in a sweep without it")
        return self

    def task_cards(self) -> dict[str, taskcards.TaskCard]:
        """The tasks other than plain generation, by name. Raises UserError for one that is not known, or a file that cannot be used."""
        return taskcards.cards(self.tasks)

    def task_names(self) -> list[str]:
        """The tasks by name, plain generation first; a user's file by its own, without the path to it."""
        return [taskcards.GENERATE] * (taskcards.GENERATE in self.tasks) + list(self.task_cards())

    def configurations(self, gpu: str, model: str) -> list[Configuration]:
        """Every configuration of the job `gpu` x `model`, in the order of the grid. Lengths are axes of plain generation; a task's items
        have their own, written as 0. A server has loads in place of batch sizes."""
        common, kinds = {"gpu": gpu, "model": model, "weights": self.weights}, []
        own = {name: getattr(self, name) for name in OPTION_DEFAULTS}
        plain = [{"server": self.server_name, "load": load} for load in self.loads] if self.server else [own]
        if taskcards.GENERATE in self.tasks:
            for i, o, options in itertools.product(self.input_tokens, self.output_tokens, plain):
                kinds.append({"task": taskcards.GENERATE, "input_tokens": i, "output_tokens": o, "options": options})
        for name, card in self.task_cards().items():
            kinds.append({"task": name, "input_tokens": 0, "output_tokens": 0, "options": card.options(self.limit, self.fewshot)})
        cells = itertools.product(self.quantizations, [1] if self.server else self.batch_sizes, kinds)
        return [Configuration(**common, **kind, quantization=strategy, batch_size=batch) for strategy, batch, kind in cells]

    def digest(self) -> str:
        """8 hex digits that name what the sweep measures; the same settings give the same digits."""
        text = json.dumps(self.model_dump(exclude={"experiment", "baseline", *servers.PRIVATE}), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:8]


def unknown_parameter(found: str, name: str, known: Collection[str]) -> UserError:
    """The error of a parameter that there is not, with the nearest one."""
    near = difflib.get_close_matches(name, known, n=1)
    return UserError(f"{found} '{name}'", f"one of {', '.join(known)}", f"did you mean '{near[0]}'?" if near else "")


def sweep(**parameters: Any) -> Sweep:
    """A validated sweep. Raises UserError, one line, for an unknown name or a value out of range."""
    try:
        return Sweep(**parameters)
    except ValidationError as error:
        first = error.errors()[0]
    name, do = ".".join(str(part) for part in first["loc"]) or "settings", "correct it and run again"
    if first["type"] == "extra_forbidden":
        raise unknown_parameter("unknown parameter", name, Sweep.model_fields)
    if first["type"] == "value_error":
        raise UserError(f"{name}: {first['ctx']['error']}", do=do)
    expected = EXPECTED.get(first["type"], first["msg"].removeprefix("Input should be ")).format(**first.get("ctx", {}))
    raise UserError(f"{name} = {first['input']!r}", expected, do)


def sweep_from(namespace: Mapping[str, Any]) -> Sweep:
    """A validated sweep from the names of a notebook's parameters cell; other names are ignored."""
    return sweep(**{name: namespace[name] for name in Sweep.model_fields if name in namespace})


def read_sweep(path: Path) -> Sweep:
    """The sweep of a YAML file; files of items that it names by a relative path count from its folder. Raises UserError if it is missing,
    not YAML, not a mapping, or not valid."""
    content = inputs.yaml_mapping(path, "a sweep.yaml")
    if content.get("tasks"):
        places = [(t, (path.parent / str(t)).resolve()) for t in _as_list(content["tasks"])]
        content["tasks"] = [str(p) if p.suffix == ".jsonl" and p.is_file() else t for t, p in places]
    return sweep(**content)
