"""A parsed Python file as the rules see it: its calls, model loads, engines, generations, web handlers, and the commands it runs.

Never imported, never run. Values are followed through the file by `values`; loads, engines and generate calls become subjects like the
launches of `deployments`, so that one rule covers an option wherever it is written.
"""

import ast
import itertools
import re
import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property

from eai.audit.deployments import launch, shell
from eai.audit.subjects import NAMES, WORDS, Option, Subject, Unit, Unreadable, card_in_text, parse
from eai.audit.values import FUNCTIONS, UNKNOWN, Built, Symbol, Values, dotted

_LOOPS = (ast.For, ast.AsyncFor, ast.While, ast.ListComp, ast.SetComp, ast.GeneratorExp)
_ENGINES, _RUNNERS, _LIBRARIES = NAMES["python"]["engines"], NAMES["python"]["runners"], set(NAMES["python"]["libraries"])
_WORKERS = NAMES["workers"]


class Code:
    """One Python file or notebook, parsed. Raises Unreadable if it does not parse."""

    def __init__(self, unit: Unit):
        self.unit = unit
        self._functions: dict[int, ast.AST] = {}
        try:
            self.values = Values(parse(unit.text))
        except SyntaxError as error:
            version = f"{sys.version_info.major}.{sys.version_info.minor}"
            raise Unreadable(f"does not parse as Python {version}: line {error.lineno}, {error.msg}") from None
        except (RecursionError, MemoryError, ValueError) as error:
            raise Unreadable(f"does not parse: {type(error).__name__}") from None
        self.lines = unit.text.splitlines()

    def nodes(self, *kinds: type) -> Iterator[ast.AST]:
        return (n for n in self.values.nodes if isinstance(n, kinds))

    @cached_property
    def calls(self) -> list[Built]:
        """Every call with its arguments resolved, in the order of the tree; names imported `as` another by their own name."""
        known = {a.asname: a.name for n in self.nodes(ast.Import, ast.ImportFrom) for a in n.names if a.asname}
        found = [c for n in self.nodes(ast.Call) if isinstance(c := self.values.resolve(n), Built)]
        for call in found if known else ():
            first, dot, rest = call.name.partition(".")
            call.name = known.get(first, first) + dot + rest
        return found

    def named(self, *names: str) -> list[Built]:
        return [c for c in self.calls if c.last in names]

    @cached_property
    def modules(self) -> set[str]:
        imported = {a.name for n in self.nodes(ast.Import) for a in n.names} | {n.module or "" for n in self.nodes(ast.ImportFrom)}
        return {name.partition(".")[0] for name in imported}

    @cached_property
    def trains(self) -> bool:
        bases = [dotted(b).rpartition(".")[2] for n in self.nodes(ast.ClassDef) for b in n.bases]
        return any(WORDS.training_calls.match(name) for name in (*(c.last for c in self.calls), *bases))

    @cached_property
    def model_loads(self) -> list[Built]:
        """`from_pretrained` of a model class, and `pipeline(...)` of transformers, not a pipeline of that name which is called."""
        is_called = any(name == "pipeline" for _, name in self.values.bound) or not self.modules & {"transformers", "optimum"}
        pipelines = [] if is_called else [c for c in self.named("pipeline") if c.name != "mii.pipeline"]
        return [c for c in self.calls if WORDS.model_class.search(c.name)] + pipelines

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
        made = [c for c in self.model_loads if c.last == "pipeline" and task_of(c) in WORDS.text_tasks]
        return {self.assigned_name(c.node) for c in [*made, *(e for e, _ in self.engines)]} - {""}

    @cached_property
    def generations(self) -> list[Built]:
        """Calls that generate text: `.generate(...)`, pipelines, engines, and a thread whose target is `generate`."""
        piped = self.direct | {"pipe", "generator"} | {self.assigned_name(c.node) for c in self.model_loads if c.last == "pipeline"}

        def generates(call: Built) -> bool:
            if call.last == "generate" and "." in call.name and call.name not in ("self.generate", "ollama.generate"):
                return bool(self.modules & _LIBRARIES or set(WORDS.generation_arguments) & set(call.kwargs))
            is_thread = call.last == "Thread" and str(call.kwargs.get("target", "")).endswith(".generate")
            return bool(call.name) and (is_thread or (call.name in piped and "max_new_tokens" in call.kwargs) or self.is_prompted(call))

        return [c for c in self.calls if generates(c)]

    def is_prompted(self, call: Built) -> bool:
        """Whether a call gives a prompt to a pipeline or engine of this file: `llm(x)`, `llm.chat(x)`, `generator.generate_simple(x)`."""
        owner, _, method = call.name.rpartition(".")
        return call.name in self.direct or (owner in self.direct and method in WORDS.one_prompt_methods) or method == "generate_simple"

    @cached_property
    def generations_in(self) -> dict[ast.AST, list[Built]]:
        found: dict[ast.AST, list[Built]] = {}
        for call in self.generations:
            found.setdefault(self.function(call.node), []).append(call)
        return found

    @cached_property
    def handlers(self) -> dict[ast.AST, str]:
        """Functions that answer requests, with the framework's word for it: routes, BentoML APIs, Gradio's functions, workers."""
        given, found = dict.fromkeys(("predict_fn", "transform_fn"), "SageMaker"), {}
        for call in self.calls:
            is_event = "gradio" in self.modules and call.last in ("click", "submit", "Interface", "ChatInterface", "change", "then", "load")
            if is_event and call.kwargs.get("batch") is not True:
                given |= {str(v).removeprefix("self."): "Gradio" for v in [*call.args[:1], call.kwargs.get("fn")] if isinstance(v, Symbol)}
            if call.name.endswith("serverless.start") and call.args and isinstance(call.args[0], dict):
                given[str(call.args[0].get("handler"))] = "RunPod"
        for node in self.nodes(*FUNCTIONS):
            around, kind = self.values.parent.get(node), given.get(node.name, "")
            if any(WORDS.route.search(ast.unparse(d)) for d in node.decorator_list):
                kind = "endpoint"
            elif not kind and node.name in _WORKERS and isinstance(around, ast.ClassDef):
                about = " ".join([around.name, *map(ast.unparse, [*around.bases, *around.decorator_list])])
                is_known = re.search(_WORKERS[node.name], about) and self.modules & {"cog", "litserve", "kserve", "ts", "ray"}
                kind = "worker" if is_known or "EndpointHandler" in about else ""
            if kind:
                found[node] = kind
        return found

    def moves(self, load: Built) -> list[ast.Call]:
        """What moves or casts a loaded model: `.to(...)`, `.cuda()`, `.half()` and the like, on the load or on the name it goes into."""
        found, name = [], self.assigned_name(load.node)
        for a in itertools.takewhile(lambda a: isinstance(a, ast.Call | ast.Attribute), self.values.ancestors(load.node)):
            if isinstance(a, ast.Call) and isinstance(a.func, ast.Attribute) and a.func.attr in WORDS.moving:
                found.append(a)
        return found + [c.node for c in self.calls if name and c.last in WORDS.moving and c.name == f"{name}.{c.last}"]

    def on_gpu(self, load: Built) -> bool:
        """Whether the loaded model is put on a GPU: device_map, device, or `.to("cuda")` / `.cuda()` on the load or its name."""
        placed = [load.kwargs.get("device_map"), load.kwargs.get("device"), _model_kwargs(load).get("device_map")]
        if any(str(p).startswith(WORDS.gpu_places) or (type(p) is int and p >= 0) for p in placed if p is not None and p is not UNKNOWN):
            return True
        moves = self.moves(load)
        given = [a for m in moves for a in [*m.args, *(k.value for k in m.keywords if k.arg == "device")]]
        given += [k.value for k in load.node.keywords if k.arg == "device"]
        sources = [s for a in given for s in (self.bound[a.id] if isinstance(a, ast.Name) else [a])]
        return any(m.func.attr == "cuda" for m in moves) or any(
            "cuda" in text for text in [*map(ast.unparse, sources), *(str(self.values.resolve(a)) for a in given)]
        )

    def assigned_name(self, node: ast.AST) -> str:
        """The name that a call's result (or `call.to(...)`) is assigned to, empty if none; a wrapper's name is not the model's."""
        inner = node
        for a in self.values.ancestors(node):
            if isinstance(a, ast.Assign) and len(a.targets) == 1:
                return dotted(a.targets[0])
            is_wrapped = isinstance(a, ast.Call) and inner is not a.func and dotted(a.func).rpartition(".")[2] not in WORDS.keeping
            if is_wrapped or not isinstance(a, ast.Call | ast.Attribute | ast.Await):
                return ""
            inner = a
        return ""

    def function(self, node: ast.AST) -> ast.AST:
        if id(node) not in self._functions:
            self._functions[id(node)] = self.values.around(node, FUNCTIONS) or self.values.nodes[0]
        return self._functions[id(node)]

    def source(self, function: ast.AST) -> str:
        return "\n".join(self.lines if isinstance(function, ast.Module) else self.lines[function.lineno - 1 : function.end_lineno])

    def is_option(self, node: ast.AST) -> bool:
        """Whether a node is one choice of several that this file does not decide, tests of the machine and the entry point apart."""
        function = self.function(node)
        if isinstance(self.values.parent.get(node), ast.Return) and not isinstance(function, ast.Module):
            tests = [s for s in function.body if isinstance(s, ast.If) and s.lineno < node.lineno and not _is_of_machine(s.test)]
            if any(isinstance(x, ast.Return) for s in tests for x in s.body) or not self.named(function.name):
                return True
        return self.is_in_branch(node)

    def is_in_branch(self, node: ast.AST) -> bool:
        """Whether a node stands under a test of unknown outcome, in an exception's handler, or in a table of several choices."""
        inner = node
        for a in self.values.ancestors(node):
            if isinstance(a, ast.If | ast.IfExp) and inner is not a.test:
                is_body = inner in a.body if isinstance(a.body, list) else inner is a.body
                if self.values.resolve(a.test) is not is_body and not _is_of_machine(a.test):
                    return True
            is_table = isinstance(a, ast.Dict) and len(a.values) > 1 and all(isinstance(v, ast.Call | ast.Lambda) for v in a.values)
            if is_table or isinstance(a, ast.match_case | ast.ExceptHandler):
                return True
            inner = a
        return False

    @cached_property
    def defined(self) -> dict[str, ast.AST]:
        return {n.name: n for n in self.nodes(*FUNCTIONS)}

    @cached_property
    def bound(self) -> dict[str, list[ast.AST]]:
        """Every expression that each name is bound to anywhere in the file; the annotations of a class's fields as `.name`."""
        found = defaultdict(list)
        for (_, name), every in self.values.bound.items():
            found[name] += [v for _, v in every if v is not None]
        for field in (f for n in self.nodes(ast.ClassDef) for f in n.body if isinstance(f, ast.AnnAssign)):
            found[f".{ast.unparse(field.target)}"].append(field.annotation)
        return found

    def loops_around(self, node: ast.AST) -> list[ast.AST]:
        """The loops and comprehensions that repeat a node inside its own function, innermost first, not of what a loop runs over."""
        found, inner = [], node
        for a in self.values.ancestors(node):
            if isinstance(a, (*FUNCTIONS, ast.Lambda, ast.ClassDef)):
                break
            is_source = inner is getattr(a, "iter", None) or (isinstance(a, _LOOPS[3:]) and inner is a.generators[0])
            if isinstance(a, _LOOPS) and not is_source:
                found.append(a)
            inner = a
        return found

    @cached_property
    def facts(self) -> dict:
        text, names = self.unit.text, {n.arg for n in self.nodes(ast.keyword)}
        return {
            "gpu": card_in_text(text),
            "trains": self.trains,
            "generates": bool(self.generations),
            "checks_quality": bool(WORDS.quality.search(text)),
            "speaks_of_gpu": bool(re.search(r"cuda|\bgpu\b|cublas", text, re.IGNORECASE)),
            "looks_at_attention": "output_attentions" in text,
            "transformers_4": self.unit.transformers_4 or bool(WORDS.transformers_4.search(text)) or "use_auth_token" in names,
        }

    @cached_property
    def subjects(self) -> list[Subject]:
        attached = {id(c.node) for load in self.model_loads if (c := _quantization(load))}
        found = [self._load(c) for c in self.model_loads]
        for config in (c for c in self.named("BitsAndBytesConfig") if id(c.node) not in attached):
            found.append(self._subject("load", "transformers", config, direct_flag=False))
        for call in (c for c in self.named("cpu_offload", "disk_offload") if "accelerate" in self.modules):
            found.append(self._subject("load", "accelerate", call))
        for call, engine in self.engines:
            found.append(self._subject("engine", engine, call, on_cpu="cpu" in self.source(self.function(call.node)).lower()))
        for call in self.generations:
            subject = self._subject("generate", "", call)
            subject.options = self._subject("generate", "", replace(call, kwargs=configured(call))).options | subject.options
            found.append(subject)
        found += self._settings()
        for call in (c for c in self.calls if "keep_alive" in body(c)):
            given = {k: v for k, v in body(call).items() if isinstance(k, str)}
            is_looped = bool(self.loops_around(call.node))
            request = Subject("request", "ollama", call.node.lineno, facts=self.facts | {"in_loop": is_looped})
            request.facts["asks"] = bool({"prompt", "messages"} & set(given))
            for name, value in given.items():
                request.add(name, value, call.node.lineno, call.node)
            found.append(request)
        return found + self._commands()

    def _subject(self, place: str, engine: str, call: Built, **facts: object) -> Subject:
        """A call's keywords as options, those of dictionaries meant for the engine among them."""
        line = call.node.lineno
        subject = Subject(place, engine, line, facts=self.facts | {"chosen": set(call.chosen)} | facts, is_open=call.is_open)
        for source in [*(call.kwargs[k] for k in WORDS.nested_options if isinstance(call.kwargs.get(k), dict)), call.kwargs]:
            for name, value in source.items():
                if isinstance(name, str) and not isinstance(value, dict):
                    subject.add(name, value, line, call.node)
                subject.is_open |= not isinstance(name, str)
        if call.args and "model" not in subject.options and (place == "engine" or WORDS.model_class.search(call.name)):
            subject.add("model", call.args[0], line, call.node)
        return subject

    def _load(self, call: Built) -> Subject:
        """A model load with its quantization configuration's options, its device, and a data type raised in the same chain of calls."""
        subject, config, line = self._subject("load", "transformers", call), _quantization(call), call.node.lineno
        is_pipeline = call.last == "pipeline"
        if is_pipeline and "model" not in subject.options and len(call.args) > 1:
            subject.add("model", call.args[1], line, call.node)
        if config:
            for name, value in config.kwargs.items():
                subject.add(name, value, config.node.lineno, config.node)
            subject.is_open |= config.is_open
            subject.facts["chosen"] |= config.chosen
        moves = [(m.func.attr, " ".join(map(ast.unparse, [*m.args, *(k.value for k in m.keywords)]))) for m in self.moves(call)]
        if any((how == "float" and not to) or (how == "to" and to in ("torch.float32", "torch.float")) for how, to in moves):
            subject.add("dtype", "float32", line, call.node)
        memory = call.kwargs.get("max_memory")
        subject.facts |= {
            "on_gpu": self.on_gpu(call),
            "is_plain": bool(subject.model) if is_pipeline else WORDS.plain_class.match(call.name) is not None,
            "direct_flag": "load_in_4bit" in {**call.kwargs, **_model_kwargs(call)},
            "quantized": config is not None or bool({"quantization_config", "load_in_4bit", "load_in_8bit"} & set(call.kwargs)),
            "generates": self.facts["generates"] or (is_pipeline and task_of(call) in WORDS.text_tasks[:2]),
            "moved_on": any(how in ("half", "bfloat16") or (how == "to" and re.search(r"dtype|float16", to)) for how, to in moves),
            "spills_on_purpose": isinstance(memory, dict) and memory.get("cpu") not in (None, 0, "0", "0GB", "0GiB"),
        }
        return subject

    def _settings(self) -> Iterator[Subject]:
        """`model.config.use_cache = False` of a model loaded here, in a file that generates; `config._attn_implementation = "eager"`."""
        models = {self.assigned_name(load.node) for load in self.model_loads} - {""}
        for (_, name), every in self.values.bound.items():
            owner, _, setting = name.rpartition(".")
            model, _, config = owner.rpartition(".")
            values, node = [getattr(v, "value", None) for _, v in every], every[0][0]
            is_cache = setting == "use_cache" and model in models and config in ("config", "generation_config") and bool(self.generations)
            if is_cache and all(v is False for v in values) and not self.is_option(node):
                yield Subject("generate", "", node.lineno, {"use_cache": Option(False, node.lineno, node)}, dict(self.facts))
            if setting == "_attn_implementation" and "eager" in values and self.model_loads:
                option = {"attn_implementation": Option("eager", node.lineno, node)}
                yield Subject("load", "", node.lineno, option, self.facts | {"generates": True})

    def _commands(self) -> list[Subject]:
        """Servers started through subprocess or os.system, by a notebook's `!` lines and shell cells, or by os.environ."""
        found: list[Subject] = []

        def start(words: list, lines: list[int]) -> None:
            subject = launch([("?" if w is UNKNOWN else str(w), at) for w, at in zip(words, lines, strict=True)], {}, dict(self.facts))
            found.extend([subject] if subject else [])

        for call in self.calls:
            given = call.args[0] if call.last in _RUNNERS and call.args else None
            if isinstance(given, list):
                start(given, [call.node.lineno] * len(given))
            elif isinstance(given, str):
                found += shell(given, first_line=call.node.lineno, facts=self.facts)
        for node in self.nodes(ast.List) if not found else ():
            words = self.values.resolve(node) if len(node.elts) > 2 and all(isinstance(w, ast.Constant) for w in node.elts[:2]) else None
            if isinstance(words, list):
                start(words, [e.lineno for e in node.elts])
                found = [s for s in found if s.engine != "transformers"]
        for line, text in self.unit.shell_lines:
            found += shell(text, first_line=line, facts=self.facts)
        for (_, name), updates in self.values.updates.items():
            for node, key, value in updates if name in ("os.environ", "environ") else ():
                if str(key).startswith(("OLLAMA_", "LLAMA_ARG_")):
                    found += shell(f"export {key}={self.values.resolve(value)}", first_line=node.lineno)
        return found


def task_of(pipeline: Built) -> object:
    """The task that a pipeline is made for."""
    return (pipeline.args[:1] or [pipeline.kwargs.get("task")])[0]


def body(call: Built) -> dict:
    """What a request carries: its `json=`, else its keywords."""
    return call.kwargs["json"] if isinstance(call.kwargs.get("json"), dict) else call.kwargs


def configured(call: Built) -> dict:
    """The options of the configuration objects that a generation is given."""
    given = [v for v in [*call.args, *call.kwargs.values()] if isinstance(v, Built) and v.last in ("GenerationConfig", "SamplingParams")]
    return {name: value for config in reversed(given) for name, value in config.kwargs.items()}


def _model_kwargs(load: Built) -> dict:
    return load.kwargs["model_kwargs"] if isinstance(load.kwargs.get("model_kwargs"), dict) else {}


def _quantization(load: Built) -> Built | None:
    given = (load.kwargs.get("quantization_config"), _model_kwargs(load).get("quantization_config"))
    return next((c for c in given if isinstance(c, Built)), None)


def _is_of_machine(test: ast.AST) -> bool:
    return all(WORDS.asks_machine.search(ast.unparse(part)) for part in (test.values if isinstance(test, ast.BoolOp) else [test]))
