"""A parsed Python file as the rules see it: its calls, loops, model loads and what the file as a whole does."""

import ast
import re
import sys
import warnings
from functools import cached_property

from eai import catalog
from eai.advise.audit.files import Unit, Unreadable
from eai.advise.audit.values import UNKNOWN, Built, Symbol, Values, dotted
from eai.errors import UserError

_MODEL_CLASS = re.compile(r"(AutoModel\w*|\w+For[A-Z]\w+|\w+Model|\w+LMHeadModel)\.from_pretrained$")
_TRAINING = {
    "backward",
    "prepare_model_for_kbit_training",
    "prepare_model_for_int8_training",
    "get_peft_model",
    "gradient_checkpointing_enable",
    "Trainer",
    "SFTTrainer",
    "DPOTrainer",
    "GRPOTrainer",
    "Seq2SeqTrainer",
    "TrainingArguments",
    "SFTConfig",
}
_QUALITY = re.compile(
    r"perplexity|lm_eval|accuracy|exact_match|\brouge|\bbleu|\bmmlu|\bf1_score|simple_evaluate|cross_entropy", re.IGNORECASE
)
_OF_INTEREST = re.compile(
    r"^(from_pretrained|generate|BitsAndBytesConfig|pipeline|LLM|AutoTokenizer|AutoModel\w*|transformers|vllm|nvml\w+)$"
)
_COMMANDS = ("nvidia-smi", "vllm serve", "text-generation-launcher", "llama-server", "ollama serve")
_GENERATION_ARGUMENTS = {"max_new_tokens", "do_sample", "use_cache", "input_ids", "attention_mask", "generation_config", "sampling_params"}
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
        return any(c.last in _TRAINING for c in self.calls)

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
    def generations(self) -> list[Built]:
        """Calls that generate text: `.generate(...)` in a file that imports a language-model library, or with its arguments."""
        serves = self.modules & {"transformers", "vllm", "optimum", "peft", "awq", "gptqmodel", "auto_gptq", "unsloth"}
        calls = [c for c in self.named("generate") if "." in c.name and c.name != "self.generate"]
        return [c for c in calls if serves or _GENERATION_ARGUMENTS & set(c.kwargs)]

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
        moved = self.values.parent.get(load.node)
        if isinstance(moved, ast.Attribute) and moved.attr in ("to", "cuda"):
            return self._moves_to_gpu(self.values.parent.get(moved))
        target = self.assigned_name(load.node)
        return bool(target) and any(c.name in (f"{target}.to", f"{target}.cuda") and self._moves_to_gpu(c.node) for c in self.calls)

    def _moves_to_gpu(self, node: ast.AST | None) -> bool:
        """Whether `x.cuda()` or `x.to(device)` goes to a GPU: "cuda..." as a constant, or a device chosen between cuda and cpu."""
        if not isinstance(node, ast.Call):
            return False
        if isinstance(node.func, ast.Attribute) and node.func.attr == "cuda":
            return True
        return any("cuda" in self._device_text(a) for a in [*node.args, *(k.value for k in node.keywords if k.arg == "device")])

    def _device_text(self, node: ast.AST) -> str:
        """The source of a device expression, followed once through a name."""
        if isinstance(node, ast.Name):
            found = [v for (_, name), bound in self.values.bound.items() if name == node.id for _, v in bound if v is not None]
            return " ".join(ast.unparse(v) for v in found)
        return ast.unparse(node)

    def assigned_name(self, node: ast.AST) -> str:
        """The name that a call's result (or `call.to(...)`) is assigned to, empty if none."""
        for a in self.values.ancestors(node):
            if isinstance(a, ast.Assign) and len(a.targets) == 1:
                return dotted(a.targets[0])
            if not isinstance(a, ast.Call | ast.Attribute | ast.Await):
                return ""
        return ""

    def function(self, node: ast.AST) -> ast.AST:
        """The function around a node, the module if none."""
        return next((a for a in self.values.ancestors(node) if isinstance(a, ast.FunctionDef | ast.AsyncFunctionDef)), self.tree)

    def loops_around(self, node: ast.AST) -> list[ast.AST]:
        """The loops and comprehensions around a node inside its own function, innermost first."""
        found = []
        for a in self.values.ancestors(node):
            if isinstance(a, _FUNCTIONS):
                break
            if isinstance(a, (*_LOOPS, ast.ListComp, ast.SetComp, ast.GeneratorExp)):
                found.append(a)
        return found


def _concerns_inference(tree: ast.Module, text: str) -> bool:
    """Whether code, not only a docstring, names what the rules look for: most files do not, and need no further work."""
    if any(word in text for word in _COMMANDS):
        return True
    for node in ast.walk(tree):
        name = getattr(node, "id", None) or getattr(node, "attr", None) or getattr(node, "name", None) or getattr(node, "module", None)
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
