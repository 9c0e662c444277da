"""Every parameter of a sweep and of one configuration, validated once.

The field names of `Sweep` are the parameters of the measure notebook and the keys of sweep.yaml; papermill passes lists as strings,
so lists are parsed from strings too.

A task is plain generation, a benchmark of the catalog, an offline set of ours, or a user's file of items. Task, version, few-shot setting
and limit are part of a configuration's key: scores and EORs of different keys are never compared. Items are JSON lines, one question or
text a line. Three kinds; all lines of a file are of the kind of its first line::

    choice  {"question": "The sky is", "choices": ["blue", "wooden"], "answer": 0}     which choice fits best; answer counts from 0
    open    {"question": "2 + 2 =", "answer": "4"}                                      the answer is generated and compared as a whole
    text    {"text": "It was late when ..."}                                            how well the text is predicted: perplexity

Further fields are kept: `id` names the item (default: its line number), `"example": true` makes the line a worked example for few-shot
prompts instead of an item, `source` says where the answer is from.
"""

import contextlib
import difflib
import hashlib
import itertools
import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple
from urllib.parse import SplitResult, urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator, model_validator

from eai import catalog, inputs, strategies
from eai.errors import UserError
from eai.schema import CONFIGURATION

EMBEDDED_MODEL = "embedded/SmolLM2-135M-Instruct"
OPTION_DEFAULTS = {"kv_cache": True, "cache": "dynamic", "compile": False}
GENERATE = "generate"
METRICS = {"choice": "acc", "open": "exact_match", "text": "word_perplexity"}
TEXTS = {"choice": ("question",), "open": ("question", "answer"), "text": ("text",)}
"""The fields of each kind of item that hold a text."""
SETS = Path(str(files("eai"))) / "workload" / "sets"
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


@dataclass(frozen=True)
class TaskCard:
    """One task as it is run. `metric`: what its score is; `version`: as lm-eval or we count it, of a user's file its digest; `few_shot`:
    worked examples in the prompt unless the sweep says otherwise; `examples`: how many there are (None: as many as asked for); `path`: a
    user's file, else None; `harness`: lm-eval's own name where it brings the items; `chance`: score of a guess (None: varies, or none)."""

    name: str
    metric: str
    version: str
    few_shot: int
    examples: int | None
    path: Path | None = None
    harness: str = ""
    chance: float | None = None

    def options(self, limit: int | None, few_shot: int | None) -> dict[str, int | str]:
        """What makes one score of this task comparable with another, for the key of a configuration; tasks that take no examples stay at
        none. Raises UserError where more examples are asked for than there are."""
        wanted = self.few_shot if few_shot is None or self.examples == 0 else few_shot
        if self.examples is not None and wanted > self.examples:
            raise UserError(f"fewshot {wanted} of task '{self.name}'", f"at most {self.examples}, the examples it has", "lower fewshot")
        return {"fewshot": wanted, "version": self.version} | ({} if limit is None else {"limit": limit})


def task_card(asked: str) -> TaskCard:
    """The task called `asked`: a name of data/catalog/tasks.csv, or the path of a JSONL file (docs/tasks.md documents its fields). Raises
    UserError with the nearest names for one that is not known, and for a file that cannot be used, with its line."""
    if asked.endswith(".jsonl") or "/" in asked:
        path = Path(asked).expanduser()
        found = read_items(path)
        try:  # scores of other items would stand under the benchmark's name
            known = catalog.task(path.stem).name
        except UserError:
            chance = sum(1 / len(row["choices"]) for row in found.items) / len(found.items) if found.kind == "choice" else None
            return TaskCard(path.stem, METRICS[found.kind], f"sha256:{found.digest}", 0, len(found.examples), path, chance=chance)
        raise UserError(f"{path} would be scored as {known}, which it is not", "a name of its own", f"rename it, such as my-{path.name}")
    try:
        task = catalog.task(asked)
    except UserError as error:
        near = str(error).partition("such as ")[2].partition(";")[0] or "mmlu"
        raise UserError(f"unknown task '{asked}'", f"{GENERATE}, {near}, or the path of a .jsonl file of your own") from None
    is_own, stored = (SETS / f"{task.slug}.yaml").exists(), SETS / f"{task.slug}.jsonl"
    examples = len(read_items(stored).examples) if stored.exists() else task.few_shot if is_own or not task.few_shot else None
    harness = "" if is_own else task.lm_eval
    return TaskCard(task.slug, task.metric, task.version, task.few_shot, examples, harness=harness, chance=task.chance)


class Items(NamedTuple):
    """What a file holds: the kind, the items and the worked examples in order, each with an `id`; `digest`: 8 hex of its SHA-256."""

    kind: str
    items: tuple[dict, ...]
    examples: tuple[dict, ...]
    digest: str


def _shown(value: Any) -> str:
    """A value for an error message; a missing one by that word."""
    return "missing" if value is None else f"{value!r:.60}"


def _kind(row: dict) -> str:
    """The kind that a line's fields say."""
    return "text" if "text" in row else "choice" if "choices" in row else "open"


def _problem(row: dict, kind: str) -> str:
    """What is wrong with a line in a file of a kind; empty if nothing."""
    choices, answer = row.get("choices"), row.get("answer")
    if _kind(row) != kind:
        return f"a line of kind {_kind(row)} in a file of kind {kind}; expected one kind a file"
    if kind == "choice":
        if not isinstance(choices, list) or len(choices) < 2 or not all(isinstance(c, str) and c.strip() for c in choices):
            return f"choices is {_shown(choices)}; expected a list of two texts or more"
        if twice := [c for c in choices if choices.count(c) > 1]:
            return f"choices names '{twice[0]}' twice; expected different texts"
        if not isinstance(answer, int) or isinstance(answer, bool) or not 0 <= answer < len(choices):
            return f"answer is {_shown(answer)}; expected the number of a choice, 0 to {len(choices) - 1}"
    for name in TEXTS[kind]:
        if not isinstance(row.get(name), str) or not row[name].strip():
            return f"{name} is {_shown(row.get(name))}; expected a text that is not empty"
    return ""


def read_items(path: Path) -> Items:
    """The items of a JSON-lines file. Raises UserError, which names the line, for a file that cannot be read or is empty, a line that is
    not an object or lacks a field, an answer that is none of the choices, a name that stands twice, and lines of two kinds."""
    try:
        content = path.read_bytes()
        lines = content.decode("utf-8-sig").split("\n")  # not splitlines: a text may hold U+2028, which ends no line of JSON
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "not UTF-8"
        raise UserError(f"cannot read {path} ({why})", "a JSONL file in UTF-8", "check the path") from None
    rows, do = [], "correct that line"
    for number, line in ((number, line) for number, line in enumerate(lines, start=1) if line.strip()):
        where = f"{path}, line {number}"
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise UserError(f"{where} is not JSON ({getattr(error, 'msg', 'not JSON')})", "one object a line", do) from None
        if not isinstance(row, dict):
            raise UserError(f"{where} is {_shown(row)}", 'an object such as {"question": ..., "answer": ...}', do)
        rows.append(row | {"id": str(row.get("id", number)), "line": number, "example": row.get("example") is True})
    items, examples = (tuple(row for row in rows if row["example"] is wanted) for wanted in (False, True))
    if not items:
        only = f": all of its {len(rows)} lines are worked examples" if rows else ": it is empty"
        raise UserError(f"{path} holds no items{only}", "one JSON object a line", "see docs/tasks.md for the fields")
    kind, seen = _kind(items[0]), set()
    for row in rows:
        if problem := _problem(row, kind) or (f"id {row['id']!r} stands twice" if row["id"] in seen else ""):
            raise UserError(f"{path}, line {row['line']}: {problem}", do=do)
        seen.add(row["id"])
    return Items(kind, items, examples, hashlib.sha256(content).hexdigest()[:8])


# A server: the loads that it is driven with, closed (so many requests always in flight: what it can do at a given concurrency) or open (so
# many arrive a second, as users do). The two give different latencies at the same throughput (Schroeder, Wierman and Harchol-Balter, Open
# versus closed, NSDI 2006).

PRIVATE = ("server", "server_model", "server_pid")
"""Parameters that say where a server is and not what it does: addresses, folders and process ids are not written down."""

KEY_VARIABLE = "EAI_API_KEY"
SCHEMES = {"http": 80, "https": 443}


class Load(NamedTuple):
    """A load: `concurrency` requests in flight, or `rate_per_s` requests per second that arrive as a Poisson process; the other is None."""

    concurrency: int | None = None
    rate_per_s: float | None = None

    def __str__(self) -> str:
        return f"closed:{self.concurrency}" if self.concurrency else f"open:{self.rate_per_s:g}"


def load(text: str) -> Load:
    """The load written as `closed:4` or `open:2.5`. Raises UserError for anything else."""
    match = re.fullmatch(r"closed:([1-9]\d*)|open:(\d+(?:\.\d+)?)", text.strip())
    if match and (match[1] or float(match[2]) > 0):
        return Load(int(match[1])) if match[1] else Load(rate_per_s=float(match[2]))
    expected = "closed:N with N requests in flight, or open:R with R requests per second"
    raise UserError(f"load '{text}'", expected, "for example closed:4 or open:2.5")


def address(server: str) -> SplitResult:
    """The parts of a server's address. Raises UserError for what is none, and for one with a name or password in it."""
    wanted = "an address such as http://127.0.0.1:8000/v1"
    if "@" in server:
        found = "the server's address holds a name or a password"
        raise UserError(found, wanted, f"put a key into the environment variable {KEY_VARIABLE}")
    try:
        parts = urlsplit(server.strip())
        port = parts.port
    except ValueError as error:
        raise UserError(f"server '{server}' ({error})", wanted) from None
    if parts.scheme not in SCHEMES or not parts.hostname or port == 0 or parts.query or parts.fragment:
        raise UserError(f"server '{server}'", wanted)
    return parts


def _server_problem(sweep: Any, option_defaults: dict[str, Any]) -> str:
    """What is wrong with a sweep of a server in a few words, "" if nothing is; raises UserError for its address. What the server runs was
    decided by whoever started it and cannot be seen through its protocol: model and quantization are as stated, one of each, and options of
    a model in this process are not its."""
    if not sweep.server:
        alone, fields = ("server_name", "server_model", "server_pid", "server_timeout_s", "loads"), type(sweep).model_fields
        stated = [name for name in alone if getattr(sweep, name) != fields[name].default]
        if stated:
            return f"{stated[0]} is of a server; set server to its address, or take {stated[0]} out"
        files = [name for name in sweep.quantizations if name.startswith(strategies.GGUF)]
        return f"{files[0]} is run by a server such as llama.cpp's; set server to its address" if files else ""
    address(sweep.server)
    if not sweep.server_name:
        return "server needs server_name, what runs there, such as vllm-0.11: it is part of the configuration"
    if sweep.batch_sizes not in ([1], type(sweep).model_fields["batch_sizes"].default):
        return "a server forms its batches itself; take batch_sizes out and set loads, such as closed:4"
    for name in ("models", "quantizations", "gpus"):
        if len(getattr(sweep, name)) != 1:
            return f"{name} of a server is the one it was started with; found {len(getattr(sweep, name))}"
    if sweep.gpus[0].startswith("simulated_"):
        return "a server runs on hardware that exists; set gpus to auto"
    if sweep.tasks != ["generate"] or sweep.weights != "published":
        return "a server is measured by plain generation with published weights"
    changed = [name for name, default in option_defaults.items() if getattr(sweep, name) != default]
    return f"{changed[0]} is an option of a model in this process; a server has its own" if changed else ""


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
Loads = Annotated[Strings, AfterValidator(lambda value: _unique([str(load(text)) for text in value]))]
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
    task: str = GENERATE
    options: dict[str, Any] = {}

    @field_validator("options")
    @classmethod
    def _without_defaults(cls, value: dict) -> dict:
        """Options at their default are left out, so that a new option does not change the id of old configurations."""
        return {k: v for k, v in value.items() if k not in OPTION_DEFAULTS or OPTION_DEFAULTS[k] != v}

    @model_validator(mode="after")
    def _lengths(self) -> "Configuration":
        if self.task == GENERATE and not (self.input_tokens and self.output_tokens):
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
    tasks: Strings = [GENERATE]
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
        if problem := _server_problem(self, OPTION_DEFAULTS):
            raise ValueError(problem)
        scored = [card.options(self.limit, self.fewshot) for card in self.task_cards().values()]
        if not scored and (self.limit is not None or self.fewshot is not None):
            raise ValueError("limit and fewshot are of tasks; name one beside 'generate'")
        if scored and self.weights != "published":
            raise ValueError(f"weights {self.weights} answer at random: tasks need published weights")
        if scored and (changed := [name for name, default in OPTION_DEFAULTS.items() if getattr(self, name) != default]):
            raise ValueError(f"{changed[0]} is an option of plain generation; measure tasks in a sweep without it")
        return self

    def task_cards(self) -> dict[str, TaskCard]:
        """The tasks other than plain generation, by name. Raises UserError for one that is not known, a file that cannot be used, or two
        of one name."""
        found: dict[str, TaskCard] = {}
        for card in (task_card(each) for each in self.tasks if each != GENERATE):
            if card.name in found or card.name == GENERATE:
                raise UserError(f"two tasks are called '{card.name}'", "one name a task", "rename the file")
            found[card.name] = card
        return found

    def task_names(self) -> list[str]:
        """The tasks by name, plain generation first; a user's file by its own, without the path to it."""
        return [GENERATE] * (GENERATE in self.tasks) + list(self.task_cards())

    def configurations(self, gpu: str, model: str) -> list[Configuration]:
        """Every configuration of the job `gpu` x `model`, in the order of the grid. Lengths are axes of plain generation; a task's items
        have their own, written as 0. A server has loads in place of batch sizes."""
        common, kinds = {"gpu": gpu, "model": model, "weights": self.weights}, []
        own = {name: getattr(self, name) for name in OPTION_DEFAULTS}
        plain = [{"server": self.server_name, "load": load} for load in self.loads] if self.server else [own]
        if GENERATE in self.tasks:
            for i, o, options in itertools.product(self.input_tokens, self.output_tokens, plain):
                kinds.append({"task": GENERATE, "input_tokens": i, "output_tokens": o, "options": options})
        for name, card in self.task_cards().items():
            kinds.append({"task": name, "input_tokens": 0, "output_tokens": 0, "options": card.options(self.limit, self.fewshot)})
        cells = itertools.product(self.quantizations, [1] if self.server else self.batch_sizes, kinds)
        return [Configuration(**common, **kind, quantization=strategy, batch_size=batch) for strategy, batch, kind in cells]

    def digest(self) -> str:
        """8 hex digits that name what the sweep measures; the same settings give the same digits."""
        text = json.dumps(self.model_dump(exclude={"experiment", "baseline", *PRIVATE}), sort_keys=True)
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
        with contextlib.suppress(OSError, ValueError):  # what is no list and no path is refused below
            places = [(t, (path.parent / str(t)).resolve()) for t in _as_list(content["tasks"])]
            content["tasks"] = [str(p) if p.suffix == ".jsonl" and p.is_file() else t for t, p in places]
    return sweep(**content)
