"""A parsed Python file as the rules see it: its calls, loops, model loads and what the file as a whole does."""

import ast
import re
import sys
import warnings
from functools import cached_property

from eai import catalog
from eai.audit.bindings import UNKNOWN, dotted
from eai.audit.files import Unit, Unreadable
from eai.audit.values import Built, Symbol, Values
from eai.errors import UserError

_MODEL_CLASS = re.compile(r"(AutoModel\w*|\w+For[A-Z]\w+|\w+Model|\w+LMHeadModel)\.from_pretrained$")
_TRAINING = re.compile(
    r"^(backward|prepare_model_for_(kbit|int8)_training|get_peft_model|gradient_checkpointing_enable|LoraConfig|SFTConfig"
    r"|\w*Trainer|\w*TrainingArguments)$"
)
_QUALITY = re.compile(
    r"perplexity|lm_eval|accuracy|exact_match|\brouge|\bbleu|\bmmlu|\bf1_score|simple_evaluate|cross_entropy", re.IGNORECASE
)
_OF_INTEREST = re.compile(
    r"^(from_pretrained|generate|BitsAndBytesConfig|pipeline|LLM|AutoTokenizer|AutoModel\w*|transformers|vllm|ollama|nvml\w+|EmissionsTracker|max_new_tokens)$"
)
_COMMANDS = (
    "nvidia-smi",
    "vllm serve",
    "text-generation-launcher",
    "llama-server",
    "ollama serve",
    "api/generate",
    "per_token",
    "input_ids",
)
_GENERATION_ARGUMENTS = {"max_new_tokens", "do_sample", "use_cache", "input_ids", "attention_mask", "generation_config", "sampling_params"}
_MACHINE = re.compile(r"__name__|is_available|cuda|device|exists\(|is_bf16_supported|cache|is None$")
_KEEPING = ("compile", "prepare", "DataParallel", "float", "int", "cast")
_LOOPS = (ast.For, ast.AsyncFor, ast.While)
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)


class Code:
    """One Python file or notebook, parsed; never imported, never run. Raises Unreadable if it does not parse."""

    def __init__(self, unit: Unit):
        self.unit = unit
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self.tree = ast.parse(unit.text)
            self.is_relevant = _concerns_inference(self.tree, unit.text)
            self.values = Values(self.tree if self.is_relevant else ast.Module([], []))
        except SyntaxError as error:
            version = f"{sys.version_info.major}.{sys.version_info.minor}"
            raise Unreadable(f"does not parse as Python {version}: line {error.lineno}, {error.msg}") from None
        except (RecursionError, MemoryError, ValueError) as error:
            raise Unreadable(f"does not parse: {type(error).__name__}") from None

    @cached_property
    def calls(self) -> list[Built]:
        """Every call with its arguments resolved, in the order of the tree."""
        resolved = [self.values.resolve(n) for n in self.values.nodes if isinstance(n, ast.Call)]
        return [c for c in resolved if isinstance(c, Built)]

    def line(self, number: int) -> str:
        """The source of one line (from 1)."""
        lines = self.unit.text.splitlines()
        return lines[number - 1] if number <= len(lines) else ""

    def named(self, *names: str) -> list[Built]:
        """The calls whose last name is one of `names`."""
        return [c for c in self.calls if c.last in names]

    @cached_property
    def modules(self) -> set[str]:
        """Top-level names of everything the file imports."""
        imported = {a.name for n in self.values.nodes if isinstance(n, ast.Import) for a in n.names}
        imported |= {n.module or "" for n in self.values.nodes if isinstance(n, ast.ImportFrom)}
        return {name.partition(".")[0] for name in imported}

    @cached_property
    def trains(self) -> bool:
        """Whether the file trains: then inference's figures do not apply."""
        bases = [dotted(b).rpartition(".")[2] for n in self.values.nodes if isinstance(n, ast.ClassDef) for b in n.bases]
        return any(_TRAINING.match(name) for name in (*(c.last for c in self.calls), *bases))

    @cached_property
    def checks_quality(self) -> bool:
        """Whether the file looks at accuracy or perplexity anywhere in its code (comments and strings count as well)."""
        return bool(_QUALITY.search(self.unit.text))

    @cached_property
    def model_loads(self) -> list[Built]:
        """`from_pretrained` of a model class, and `pipeline(...)` of transformers."""
        loads = [c for c in self.calls if _MODEL_CLASS.search(c.name)]
        return loads + [c for c in self.calls if c.name in ("pipeline", "transformers.pipeline") and "transformers" in self.modules]

    @cached_property
    def model_names(self) -> set[str]:
        """Names that models go by in this file: those they are loaded into, and parameters called `model` or `llm`."""
        loaded = {self.assigned_name(x.node) for x in self.model_loads} - {""}
        given = {a.arg for n in self.values.nodes if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef) for a in n.args.args}
        return loaded | (given & {"model", "llm", "lm"} if "torch" in self.modules else set())

    @cached_property
    def engines(self) -> list[Built]:
        """Offline engines of vLLM: `LLM(...)`."""
        return [c for c in self.calls if c.name in ("LLM", "vllm.LLM") and "vllm" in self.modules]

    def is_handler(self, node: ast.AST) -> bool:
        """Whether a function answers web requests: decorated as a route of Flask, FastAPI or the like."""
        decorators = [ast.unparse(d) for d in getattr(node, "decorator_list", [])]
        return any(re.search(r"\.(route|get|post|put|websocket|api_route)\(", d) for d in decorators)

    @cached_property
    def generations(self) -> list[Built]:
        """Calls that generate text: `.generate(...)` in a file that imports a language-model library, or with its arguments."""
        serves = self.modules & {"transformers", "vllm", "optimum", "peft", "awq", "gptqmodel", "auto_gptq", "unsloth"}
        calls = [c for c in self.named("generate") if "." in c.name and c.name != "self.generate"]
        pipelines = {self.assigned_name(c.node) for c in self.model_loads if c.last == "pipeline"} | {"pipe", "generator"}
        piped = [c for c in self.calls if c.name and c.name in pipelines and "max_new_tokens" in c.kwargs]
        return [c for c in calls if serves or _GENERATION_ARGUMENTS & set(c.kwargs)] + piped

    def model_id(self, load: Built):
        """The model's name as far as the file tells: a string, else UNKNOWN."""
        keywords = ("pretrained_model_name_or_path", "model", "model_id", "model_name")
        candidates = [*load.args[:1], *(load.kwargs[k] for k in keywords if k in load.kwargs)]
        if load.last == "pipeline":
            candidates = [load.kwargs["model"]] if "model" in load.kwargs else load.args[1:2]
        return next((c for c in candidates if isinstance(c, str) and not isinstance(c, Symbol)), UNKNOWN)

    def params_b(self, load: Built) -> float | None:
        """Parameters of the loaded model [1e9] by the catalog or its name, None if neither tells."""
        name = self.model_id(load)
        return params_b(name) if name is not UNKNOWN else None

    def quantization_config(self, load: Built) -> Built | None:
        """The BitsAndBytesConfig that a model is loaded with, None if there is none or it is not known."""
        config = load.kwargs.get("quantization_config")
        if not isinstance(config, Built) and isinstance(load.kwargs.get("model_kwargs"), dict):
            config = load.kwargs["model_kwargs"].get("quantization_config")
        return config if isinstance(config, Built) and config.last == "BitsAndBytesConfig" else None

    def on_gpu(self, load: Built) -> bool:
        """Whether the loaded model is put on a GPU: device_map, device, or `.to("cuda")` / `.cuda()` on the load or its name."""
        placed = [load.kwargs.get("device_map"), load.kwargs.get("device")]
        if any(str(p).startswith(("auto", "cuda", "balanced", "sequential")) for p in placed if p is not None and p is not UNKNOWN):
            return True
        for a in self.values.ancestors(load.node):
            if isinstance(a, ast.Call) and isinstance(a.func, ast.Attribute) and a.func.attr in ("to", "cuda") and self._moves_to_gpu(a):
                return True
            if not isinstance(a, ast.Call | ast.Attribute):
                break
        target = self.assigned_name(load.node)
        return bool(target) and any(c.name in (f"{target}.to", f"{target}.cuda") and self._moves_to_gpu(c.node) for c in self.calls)

    def _moves_to_gpu(self, node: ast.AST | None) -> bool:
        """Whether `x.cuda()` or `x.to(device)` goes to a GPU: "cuda..." as a constant, or a device chosen between cuda and cpu."""
        if not isinstance(node, ast.Call):
            return False
        if isinstance(node.func, ast.Attribute) and node.func.attr == "cuda":
            return True
        return any(
            "cuda" in f"{self._device_text(a)} {self.values.resolve(a)}"
            for a in [*node.args, *(k.value for k in node.keywords if k.arg == "device")]
        )

    def _device_text(self, node: ast.AST) -> str:
        """The source of a device expression, followed once through a name."""
        if isinstance(node, ast.Name):
            found = [v for (_, name), bound in self.values.bound.items() if name == node.id for _, v in bound if v is not None]
            return " ".join(ast.unparse(v) for v in found)
        return ast.unparse(node)

    def assigned_name(self, node: ast.AST) -> str:
        """The name that a call's result (or `call.to(...)`) is assigned to, empty if none; a wrapper's name is not the model's."""
        inner = node
        for a in self.values.ancestors(node):
            if isinstance(a, ast.Assign) and len(a.targets) == 1:
                return dotted(a.targets[0])
            is_wrapped = isinstance(a, ast.Call) and inner is not a.func and dotted(a.func).rpartition(".")[2] not in _KEEPING
            if is_wrapped or not isinstance(a, ast.Call | ast.Attribute | ast.Await):
                return ""
            inner = a
        return ""

    def function(self, node: ast.AST) -> ast.AST:
        """The function around a node, the module if none."""
        return next((a for a in self.values.ancestors(node) if isinstance(a, ast.FunctionDef | ast.AsyncFunctionDef)), self.tree)

    def is_option(self, node: ast.AST) -> bool:
        """Whether a node is one choice of several that this file does not decide: under a test of unknown outcome, or in a table.

        Tests of the machine (`if torch.cuda.is_available()`) and of the entry point (`__name__`) are no such choice.
        """
        if self._is_made_for_callers(node):
            return True
        if self._follows_a_return(node):
            return True
        inner = node
        for a in self.values.ancestors(node):
            if isinstance(a, ast.If | ast.IfExp) and inner is not a.test:
                taken = self.values.resolve(a.test)
                is_body = inner in a.body if isinstance(a.body, list) else inner is a.body
                if taken is not is_body and not _MACHINE.search(ast.unparse(a.test)):
                    return True
            if isinstance(a, ast.match_case) or (isinstance(a, ast.Dict) and _is_table_of_calls(a)):
                return True
            inner = a
        return False

    def _is_made_for_callers(self, node: ast.AST) -> bool:
        """Whether a node is what a function returns that nothing in this file calls: one entry of a table of makers, or a library's."""
        function = self.function(node)
        if not isinstance(self.values.parent.get(node), ast.Return) or isinstance(function, ast.Module):
            return False
        return not self._is_called(function)

    def is_left_to_callers(self, call: ast.Call, names: tuple[str, ...]) -> bool:
        """Whether one of these keywords is a parameter of the function around, which nothing in this file calls: others decide on it."""
        function = self.function(call)
        if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef) or self._is_called(function):
            return False
        own = {a.arg for a in (*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs)}
        return any(isinstance(k.value, ast.Name) and k.value.id in own for k in call.keywords if k.arg in names)

    def _is_called(self, function: ast.FunctionDef) -> bool:
        """Whether anything in this file calls a function of that name."""
        return any(c.name.rpartition(".")[2] == function.name for c in self.calls)

    def _follows_a_return(self, node: ast.AST) -> bool:
        """Whether a node is returned by a function that may already have returned something else: the last of several choices."""
        function = self.function(node)
        if not isinstance(self.values.parent.get(node), ast.Return) or isinstance(function, ast.Module):
            return False
        tests = [s for s in function.body if isinstance(s, ast.If) and s.lineno < node.lineno and not _MACHINE.search(ast.unparse(s.test))]
        return any(isinstance(x, ast.Return) for s in tests for x in s.body)

    def loops_around(self, node: ast.AST) -> list[ast.AST]:
        """The loops and comprehensions around a node inside its own function, innermost first."""
        found = []
        for a in self.values.ancestors(node):
            if isinstance(a, _FUNCTIONS):
                break
            if isinstance(a, (*_LOOPS, ast.ListComp, ast.SetComp, ast.GeneratorExp)):
                found.append(a)
        return found


def _is_table_of_calls(node: ast.Dict) -> bool:
    """Whether a dictionary offers several built things to choose from: `{"int8": Config(...), "nf4": Config(...)}`."""
    return len(node.values) > 1 and all(isinstance(v, ast.Call | ast.Lambda) for v in node.values)


def _concerns_inference(tree: ast.Module, text: str) -> bool:
    """Whether code, not only a docstring, names what the rules look for: most files do not, and need no further work."""
    if any(word in text for word in _COMMANDS):
        return True
    for node in ast.walk(tree):
        name = getattr(node, "id", None) or getattr(node, "attr", None) or getattr(node, "name", None) or getattr(node, "module", None)
        name = name or getattr(node, "arg", None)
        if isinstance(name, str) and _OF_INTEREST.match(name):
            return True
    return False


def params_b(name: str) -> float | None:
    """Parameters [1e9] of a model called `name`: from the catalog, else from the size in its name, else None."""
    try:
        return catalog.model(name).params_total / 1e9
    except UserError:
        stated = catalog.params_in_name(name.rpartition("/")[2])
        return stated / 1e9 if stated else None
