"""A parsed Python file as the rules see it: its calls, model loads, engines, generations, web handlers, and the commands it runs.

Never imported, never run. Values are followed through the file by `values`; loads, engines and generate calls become subjects like the
launches of `deployments`, so that one rule covers an option wherever it is written.
"""

import ast
import re
import sys
import warnings
from collections.abc import Iterator
from functools import cached_property

from eai.audit.deployments import launch, shell
from eai.audit.files import Unit, Unreadable
from eai.audit.subjects import NAMES, Option, Subject, card_in_text
from eai.audit.values import UNKNOWN, Built, Symbol, Values, dotted

MODEL_CLASS = re.compile(
    r"((AutoModel\w*|\w+For[A-Z]\w+|\w+Model|\w+LMHeadModel)\.from_(pretrained|quantized)|HuggingFacePipeline\.from_model_id)$"
)
_TRAINING = re.compile(
    r"^(backward|prepare_model_for_(kbit|int8)_training|get_peft_model|gradient_checkpointing_enable|LoraConfig|SFTConfig"
    r"|\w*Trainer|\w*TrainingArguments)$"
)
_QUALITY = re.compile(
    r"perplexity|lm_eval|accuracy|exact_match|\brouge|\bbleu|\bmmlu|\bf1_score|simple_evaluate|cross_entropy", re.IGNORECASE
)
_GENERATION_ARGUMENTS = {"max_new_tokens", "do_sample", "use_cache", "input_ids", "attention_mask", "generation_config", "sampling_params"}
_MACHINE = re.compile(r"__name__|is_available|cuda|device|exists\(|is_bf16_supported|cache|is None$")
_KEEPING = ("compile", "prepare", "DataParallel", "float", "int", "cast", "half", "eval")
_LOOPS = (ast.For, ast.AsyncFor, ast.While)
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)
_ENGINES, _RUNNERS, _LIBRARIES = NAMES["python"]["engines"], NAMES["python"]["runners"], set(NAMES["python"]["libraries"])
_ONE_PROMPT = {"generate", "chat", "create_completion", "create_chat_completion", "generate_simple"}
_ROUTE = re.compile(
    r"\.(route|get|post|put|websocket|api_route)\(|^(bentoml|svc|service)\.api\b|(web_endpoint|fastapi_endpoint|on_message|serve\.ingress)\b|^api\b.*\bPOST"
)
_HANDLER_METHODS = {
    "predict": "Predictor|LitAPI|kserve|Model",
    "inference": "Handler",
    "handle": "Handler",
    "__call__": "EndpointHandler|serve.deployment",
}


class Code:
    """One Python file or notebook, parsed. Raises Unreadable if it does not parse."""

    def __init__(self, unit: Unit):
        self.unit = unit
        self._functions: dict[int, ast.AST] = {}
        try:
            self.tree = parse(unit.text)
            self.values = Values(self.tree)
        except SyntaxError as error:
            version = f"{sys.version_info.major}.{sys.version_info.minor}"
            raise Unreadable(f"does not parse as Python {version}: line {error.lineno}, {error.msg}") from None
        except (RecursionError, MemoryError, ValueError) as error:
            raise Unreadable(f"does not parse: {type(error).__name__}") from None

    @cached_property
    def calls(self) -> list[Built]:
        """Every call with its arguments resolved, in the order of the tree; names imported `as` another by their own name."""
        known = {a.asname: a.name for n in self.values.nodes if isinstance(n, ast.Import | ast.ImportFrom) for a in n.names if a.asname}
        found = [c for n in self.values.nodes if isinstance(n, ast.Call) and isinstance(c := self.values.resolve(n), Built)]
        for call in found if known else ():
            first, dot, rest = call.name.partition(".")
            call.name = known.get(first, first) + dot + rest
        return found

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
    def model_loads(self) -> list[Built]:
        """`from_pretrained` of a model class, and `pipeline(...)` of transformers."""
        loads = [c for c in self.calls if MODEL_CLASS.search(c.name)]
        return loads + [
            c for c in self.calls if c.last == "pipeline" and self.modules & {"transformers", "optimum"} and c.name != "mii.pipeline"
        ]

    @cached_property
    def model_names(self) -> set[str]:
        """Names that models go by in this file: those they are loaded into, and parameters called `model` or `llm`."""
        loaded = {self.assigned_name(x.node) for x in self.model_loads} - {""}
        given = {a.arg for n in self.values.nodes if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef) for a in n.args.args}
        return loaded | (given & {"model", "llm", "lm"} if "torch" in self.modules else set())

    @cached_property
    def engines(self) -> list[tuple[Built, str]]:
        """Engines made in Python with their kind: vLLM's `LLM(...)`, llama.cpp's `Llama(...)`, SGLang, LMDeploy, DeepSpeed, ..."""
        found = []
        for call in self.calls:
            name = call.name.rpartition(".")[0] if call.last == "from_pretrained" else call.last
            engine, module = _ENGINES.get(name.rpartition(".")[2], ("", ""))
            if engine and {module, module.replace("_community", "")} & self.modules:
                found.append((call, engine))
        return found

    @cached_property
    def direct(self) -> set[str]:
        """Names that are called with a prompt: transformers pipelines that generate text, and engines."""
        tasks = ("text-generation", "text2text-generation", "image-text-to-text", "summarization", "translation")
        made = [c for c in self.model_loads if c.last == "pipeline" and (c.args[:1] or [c.kwargs.get("task")])[0] in tasks]
        return {name for c in [*made, *(e for e, _ in self.engines)] if (name := self.assigned_name(c.node))}

    @cached_property
    def generations(self) -> list[Built]:
        """Calls that generate text: `.generate(...)` in a file that imports a language-model library or with its arguments, pipelines,
        engines, and a thread whose target is `generate`."""
        calls = [c for c in self.named("generate") if "." in c.name and c.name not in ("self.generate", "ollama.generate")]
        found = [c for c in calls if self.modules & _LIBRARIES or _GENERATION_ARGUMENTS & set(c.kwargs)]
        piped = self.direct | {"pipe", "generator"} | {self.assigned_name(c.node) for c in self.model_loads if c.last == "pipeline"}
        found += [
            c
            for c in self.calls
            if c.name and ((c.name in piped and "max_new_tokens" in c.kwargs) or self.is_prompted(c)) and c not in calls
        ]
        found += [c for c in self.named("Thread") if str(c.kwargs.get("target", "")).endswith(".generate")]
        return found

    def is_prompted(self, call: Built) -> bool:
        """Whether a call gives a prompt to a pipeline or engine of this file: `llm(x)`, `llm.chat(x)`, `generator.generate_simple(x)`."""
        owner, _, method = call.name.rpartition(".")
        return call.name in self.direct or (owner in self.direct and method in _ONE_PROMPT) or method == "generate_simple"

    @cached_property
    def handlers(self) -> dict[ast.AST, str]:
        """Functions that answer requests, with the framework's word for it: routes, BentoML APIs, Gradio's functions, workers."""
        given: dict[str, str] = {}
        for call in self.calls:
            is_event = "gradio" in self.modules and call.last in ("click", "submit", "Interface", "ChatInterface", "change", "then", "load")
            if is_event and call.kwargs.get("batch") is not True:
                given |= {str(v): "Gradio" for v in [*call.args[:1], call.kwargs.get("fn")] if isinstance(v, Symbol)}
            if call.name.endswith("serverless.start") and isinstance(call.args[:1][0] if call.args else None, dict):
                given |= {str(call.args[0].get("handler")): "RunPod"}
        found = {}
        for node in self.values.nodes:
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            decorators = " ".join(ast.unparse(d) for d in node.decorator_list)
            if _ROUTE.search(decorators) or any(_ROUTE.search(ast.unparse(d)) for d in node.decorator_list):
                found[node] = "endpoint"
            elif node.name in given or f"self.{node.name}" in given:
                found[node] = given.get(node.name) or given[f"self.{node.name}"]
            elif node.name in ("predict_fn", "transform_fn"):
                found[node] = "SageMaker"
            elif node.name in _HANDLER_METHODS and isinstance(around := self.values.parent.get(node), ast.ClassDef):
                kind = " ".join([around.name, *map(ast.unparse, [*around.bases, *around.decorator_list])])
                if (
                    re.search(_HANDLER_METHODS[node.name], kind) and self.modules & {"cog", "litserve", "kserve", "ts", "ray"}
                ) or "EndpointHandler" in kind:
                    found[node] = "worker"
        return found

    def quantization_config(self, load: Built) -> Built | None:
        """The quantization configuration that a model is loaded with, None if there is none or it is not known."""
        config = load.kwargs.get("quantization_config")
        if not isinstance(config, Built) and isinstance(load.kwargs.get("model_kwargs"), dict):
            config = load.kwargs["model_kwargs"].get("quantization_config")
        return config if isinstance(config, Built) else None

    def on_gpu(self, load: Built) -> bool:
        """Whether the loaded model is put on a GPU: device_map, device, or `.to("cuda")` / `.cuda()` on the load or its name."""
        inner = load.kwargs.get("model_kwargs")
        placed = [load.kwargs.get("device_map"), load.kwargs.get("device"), inner.get("device_map") if isinstance(inner, dict) else None]
        places = ("auto", "cuda", "balanced", "sequential", "{'': 0", "{'': 'cuda")
        if any(str(p).startswith(places) or (type(p) is int and p >= 0) for p in placed if p is not None and p is not UNKNOWN):
            return True
        if any(self._moves_to_gpu(k) for k in [ast.Call(load.node.func, [k.value], []) for k in load.node.keywords if k.arg == "device"]):
            return True
        for a in self.values.ancestors(load.node):
            if isinstance(a, ast.Call) and isinstance(a.func, ast.Attribute) and a.func.attr in ("to", "cuda") and self._moves_to_gpu(a):
                return True
            if not isinstance(a, ast.Call | ast.Attribute):
                break
        target = self.assigned_name(load.node)
        return bool(target) and any(c.name in (f"{target}.to", f"{target}.cuda") and self._moves_to_gpu(c.node) for c in self.calls)

    def _moves_to_gpu(self, node: ast.Call) -> bool:
        """Whether `x.cuda()` or `x.to(device)` goes to a GPU: "cuda..." as a constant, or a device chosen between cuda and cpu."""
        if isinstance(node.func, ast.Attribute) and node.func.attr == "cuda":
            return True
        values = [*node.args, *(k.value for k in node.keywords if k.arg == "device")]
        return any("cuda" in f"{self._device_text(a)} {self.values.resolve(a)}" for a in values)

    def _device_text(self, node: ast.AST) -> str:
        """The source of a device expression, followed once through a name."""
        if isinstance(node, ast.Name):
            return " ".join(map(ast.unparse, self.bound(node.id)))
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
        if id(node) not in self._functions:
            around = (a for a in self.values.ancestors(node) if isinstance(a, ast.FunctionDef | ast.AsyncFunctionDef))
            self._functions[id(node)] = next(around, self.tree)
        return self._functions[id(node)]

    def source(self, function: ast.AST) -> str:
        """The text of a function, of the whole file for a module."""
        if isinstance(function, ast.Module):
            return self.unit.text
        return "\n".join(self.lines[function.lineno - 1 : function.end_lineno])

    @cached_property
    def lines(self) -> list[str]:
        """The lines of the file."""
        return self.unit.text.splitlines()

    def is_option(self, node: ast.AST) -> bool:
        """Whether a node is one choice of several that this file does not decide: under a test of unknown outcome, in a table, or
        returned by a function that nothing here calls.

        Tests of the machine (`if torch.cuda.is_available()`) and of the entry point (`__name__`) are no such choice.
        """
        function = self.function(node)
        if isinstance(self.values.parent.get(node), ast.Return) and not isinstance(function, ast.Module):
            tests = [s for s in function.body if isinstance(s, ast.If) and s.lineno < node.lineno and not _is_of_machine(s.test)]
            if not self.is_called(function) or any(isinstance(x, ast.Return) for s in tests for x in s.body):
                return True
        return self.is_in_branch(node)

    def is_in_branch(self, node: ast.AST) -> bool:
        """Whether a node stands under a test of unknown outcome, or in a table of several choices."""
        inner = node
        for a in self.values.ancestors(node):
            if isinstance(a, ast.If | ast.IfExp) and inner is not a.test:
                taken = self.values.resolve(a.test)
                is_body = inner in a.body if isinstance(a.body, list) else inner is a.body
                if taken is not is_body and not _is_of_machine(a.test):
                    return True
            if isinstance(a, ast.match_case):
                return True
            if isinstance(a, ast.Dict) and len(a.values) > 1 and all(isinstance(v, ast.Call | ast.Lambda) for v in a.values):
                return True
            inner = a
        return False

    def is_left_to_callers(self, call: ast.Call, names: tuple[str, ...]) -> bool:
        """Whether one of these keywords is a parameter of the function around, which nothing in this file calls: others decide on it."""
        function = self.function(call)
        if isinstance(function, ast.Module) or self.is_called(function):
            return False
        own = {a.arg for a in (*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs)}
        return any(isinstance(k.value, ast.Name) and k.value.id in own for k in call.keywords if k.arg in names)

    def is_called(self, function: ast.FunctionDef) -> bool:
        """Whether anything in this file calls a function of that name."""
        return function.name in self._called

    @cached_property
    def _called(self) -> set[str]:
        """The last names of everything that is called."""
        return {c.last for c in self.calls}

    @cached_property
    def defined(self) -> dict[str, ast.AST]:
        """The functions of the file by name, the last of each."""
        return {n.name: n for n in self.values.nodes if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)}

    @cached_property
    def _bound(self) -> dict[str, list[ast.AST]]:
        """Every expression that each name is bound to anywhere in the file; fields of classes by their annotations as `.name`."""
        found: dict[str, list[ast.AST]] = {}
        for (_, name), every in self.values.bound.items():
            found.setdefault(name, []).extend(v for _, v in every if v is not None)
        for node in (n for n in self.values.nodes if isinstance(n, ast.ClassDef)):
            for field in (f for f in node.body if isinstance(f, ast.AnnAssign)):
                found.setdefault(f".{ast.unparse(field.target)}", []).append(field.annotation)
        return found

    def bound(self, name: str) -> list[ast.AST]:
        """Every expression that a name is bound to anywhere in the file; `.name`: the annotations of a class's field."""
        return self._bound.get(name, [])

    @cached_property
    def generations_in(self) -> dict[ast.AST, list[Built]]:
        """The generations of each function (of the module, where they stand in none)."""
        found: dict[ast.AST, list[Built]] = {}
        for call in self.generations:
            found.setdefault(self.function(call.node), []).append(call)
        return found

    def loops_around(self, node: ast.AST) -> list[ast.AST]:
        """The loops and comprehensions around a node inside its own function, innermost first."""
        found = []
        for a in self.values.ancestors(node):
            if isinstance(a, _FUNCTIONS):
                break
            if isinstance(a, (*_LOOPS, ast.ListComp, ast.SetComp, ast.GeneratorExp)):
                found.append(a)
        return found

    @cached_property
    def facts(self) -> dict:
        """What the file as a whole tells every subject of it."""
        names = {n.arg for n in self.values.nodes if isinstance(n, ast.keyword)}
        pinned = re.search(r"transformers\s*(?:==|~=|<=|<)\s*([34])\.", self.unit.text) or re.search(
            r"transformers\s*<\s*5", self.unit.text
        )
        return {
            "gpu": card_in_text(self.unit.text),
            "trains": self.trains,
            "generates": bool(self.generations),
            "checks_quality": bool(_QUALITY.search(self.unit.text)),
            "speaks_of_gpu": bool(re.search(r"cuda|\bgpu\b|cublas", self.unit.text, re.IGNORECASE)),
            "looks_at_attention": "output_attentions" in self.unit.text,
            "transformers_4": bool(pinned) or self.unit.transformers_4 or "torch_dtype" in names or "use_auth_token" in names,
        }

    @cached_property
    def subjects(self) -> list[Subject]:
        """The loads, engines, generate calls and requests of the file, and the servers that it starts."""
        found = [self._load(c) for c in self.model_loads]
        attached = {id(self.quantization_config(c).node) for c in self.model_loads if self.quantization_config(c)}
        loose = [self._subject("load", "transformers", c) for c in self.named("BitsAndBytesConfig") if id(c.node) not in attached]
        for subject in loose:
            subject.facts["direct_flag"] = False
        found += loose
        found += [self._subject("engine", engine, c) for c, engine in self.engines]
        found += [self._generate(c) for c in self.generations] + list(self._settings())
        found += [self._request(c) for c in self.calls if "keep_alive" in self.body(c)]
        return found + self._commands()

    def _subject(self, place: str, engine: str, call: Built) -> Subject:
        """A call's keywords as options, those of dictionaries meant for the engine among them."""
        subject = Subject(place, engine, call.node.lineno, facts=dict(self.facts), is_open=call.is_open)
        nested = [
            v
            for k, v in call.kwargs.items()
            if k in ("engine_kwargs", "vllm_kwargs", "model_kwargs", "model_loading_config") and isinstance(v, dict)
        ]
        for source in [*nested, call.kwargs]:
            for name, value in source.items():
                if isinstance(name, str) and not isinstance(value, dict):
                    subject.add(name, value, call.node.lineno, call.node)
                subject.is_open |= not isinstance(name, str)
        if call.args and "model" not in subject.options and (place == "engine" or MODEL_CLASS.search(call.name)):
            subject.add("model", call.args[0], call.node.lineno, call.node)
        return subject

    def _load(self, call: Built) -> Subject:
        """A model load with its quantization configuration's options, its device, and a data type raised in the same chain of calls."""
        subject = self._subject("load", "transformers", call)
        if call.last == "pipeline" and "model" not in subject.options and len(call.args) > 1:
            subject.add("model", call.args[1], call.node.lineno, call.node)
        config = self.quantization_config(call)
        for name, value in config.kwargs.items() if config else ():
            subject.add(name, value, config.node.lineno, config.node)
        subject.is_open |= config is not None and config.is_open
        if self._is_raised(call):
            subject.add("dtype", "float32", call.node.lineno, call.node)
        task = (call.args[:1] or [call.kwargs.get("task")])[0]
        subject.facts |= {
            "on_gpu": self.on_gpu(call),
            "is_plain": re.match(r"(transformers\.)?AutoModel\w*\.from_pretrained$", call.name) is not None
            or (call.last == "pipeline" and isinstance(subject.get("model"), str) and subject.model != ""),
            "direct_flag": "load_in_4bit" in call.kwargs
            or (isinstance(call.kwargs.get("model_kwargs"), dict) and "load_in_4bit" in call.kwargs["model_kwargs"]),
            "quantized": config is not None
            or "quantization_config" in call.kwargs
            or any(f"load_in_{n}bit" in call.kwargs for n in (4, 8)),
            "generates": self.facts["generates"] or (call.last == "pipeline" and task in ("text-generation", "text2text-generation")),
            "left_to_callers": self.is_left_to_callers(call.node, ("dtype", "torch_dtype")),
            "moved_on": bool(re.search(r"half\(|\.to\([^)]*(dtype|float16)", ast.unparse(self._chain(call.node)) + self._moves(call))),
        }
        memory = subject.get("max_memory") or call.kwargs.get("max_memory")
        subject.facts["spills_on_purpose"] = isinstance(memory, dict) and memory.get("cpu") not in (None, 0, "0", "0GB", "0GiB")
        return subject

    def _moves(self, load: Built) -> str:
        """The source of every `model.to(...)`, `.half()` and the like on the name that a model is loaded into."""
        name = self.assigned_name(load.node)
        return " ".join(
            ast.unparse(c.node) for c in self.calls if name and c.name.startswith(f"{name}.") and c.last in ("to", "half", "bfloat16")
        )

    def _chain(self, node: ast.AST) -> ast.AST:
        """The outermost of the calls chained onto a call: all of `f(...).half().cuda()`."""
        for a in self.values.ancestors(node):
            if not isinstance(a, ast.Call | ast.Attribute):
                break
            node = a
        return node

    def _is_raised(self, load: Built) -> bool:
        """Whether a loaded model is made float32 in the same chain of calls: `from_pretrained(...).float()` or `.to(torch.float32)`."""
        for a in self.values.ancestors(load.node):
            if isinstance(a, ast.Call) and isinstance(a.func, ast.Attribute):
                to_fp32 = a.func.attr == "to" and any(ast.unparse(x) in ("torch.float32", "torch.float") for x in a.args)
                if to_fp32 or (a.func.attr == "float" and not a.args):
                    return True
            elif not isinstance(a, ast.Attribute):
                return False
        return False

    def _generate(self, call: Built) -> Subject:
        """A generation with the options of the configuration object it is given."""
        subject = self._subject("generate", "", call)
        for value in [*call.args, *call.kwargs.values()]:
            if isinstance(value, Built) and value.last in ("GenerationConfig", "SamplingParams"):
                for name, given in value.kwargs.items():
                    if name not in subject.options:
                        subject.add(name, given, call.node.lineno, call.node)
        return subject

    def _settings(self) -> Iterator[Subject]:
        """`model.config.use_cache = False` of a model loaded here, in a file that generates; `config._attn_implementation = "eager"`."""
        models = {self.assigned_name(load.node) for load in self.model_loads} - {""}
        for (_, name), bound in self.values.bound.items():
            owner, _, setting = name.rpartition(".")
            model, _, config = owner.rpartition(".")
            values = [v.value if isinstance(v, ast.Constant) else None for _, v in bound]
            node = bound[0][0]
            is_cache = setting == "use_cache" and model in models and config in ("config", "generation_config") and bool(self.generations)
            if is_cache and values and all(v is False for v in values) and not self.is_option(node):
                yield Subject("generate", "", node.lineno, {"use_cache": Option(False, node.lineno, node)}, dict(self.facts))
            if setting == "_attn_implementation" and "eager" in values and self.model_loads:
                facts = {**self.facts, "generates": True}
                yield Subject("load", "", node.lineno, {"attn_implementation": Option("eager", node.lineno, node)}, facts)

    def body(self, call: Built) -> dict:
        """What a request carries: its `json=`, else its keywords."""
        return call.kwargs["json"] if isinstance(call.kwargs.get("json"), dict) else call.kwargs

    def _request(self, call: Built) -> Subject:
        """A request to a local server."""
        body = self.body(call)
        subject = Subject("request", "ollama", call.node.lineno, facts=dict(self.facts))
        for name, value in body.items():
            if isinstance(name, str):
                subject.add(name, value, call.node.lineno, call.node)
        subject.facts |= {"in_loop": bool(self.loops_around(call.node)), "asks": bool({"prompt", "messages"} & {str(k) for k in body})}
        return subject

    def _commands(self) -> list[Subject]:
        """Servers started through subprocess or os.system, by a notebook's `!` lines and shell cells, or by os.environ."""
        found = []
        for call in self.calls:
            given = call.args[0] if call.last in _RUNNERS and call.args else None
            if isinstance(given, list):
                subject = launch([("?" if w is UNKNOWN else str(w), call.node.lineno) for w in given], {}, dict(self.facts))
                found += [subject] if subject else []
            elif isinstance(given, str):
                found += shell(given, first_line=call.node.lineno, facts=self.facts)
        for node in self.values.nodes if not any(s.place == "server" for s in found) else ():
            if isinstance(node, ast.List) and len(node.elts) > 2 and all(isinstance(w, ast.Constant) for w in node.elts[:2]):
                words = self.values.resolve(node)
                if isinstance(words, list):
                    subject = launch(
                        [("?" if w is UNKNOWN else str(w), e.lineno) for w, e in zip(words, node.elts, strict=True)], {}, dict(self.facts)
                    )
                    found += [subject] if subject and subject.engine != "transformers" else []
        for line, text in self.unit.shell_lines:
            found += shell(text, first_line=line, facts=self.facts)
        for (_, name), updates in self.values.updates.items():
            if name in ("os.environ", "environ"):
                lines = [
                    f"export {key}={self.values.resolve(value)}"
                    for _, key, value in updates
                    if str(key).startswith(("OLLAMA_", "LLAMA_ARG_"))
                ]
                found += shell("\n".join(lines), first_line=updates[0][0].lineno) if lines else []
        return found


def _is_of_machine(test: ast.AST) -> bool:
    """Whether a test asks only about the machine or the entry point, in each of its parts."""
    return all(_MACHINE.search(ast.unparse(part)) for part in (test.values if isinstance(test, ast.BoolOp) else [test]))


def parse(text: str) -> ast.Module:
    """The syntax tree of a file or of a notebook's cells, which may `await` outside a function. Raises SyntaxError."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return compile(text, "<audited>", "exec", ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
