"""Launches of servers, read from what people deploy: shell, systemd, Dockerfile, Modelfile, compose, Kubernetes, Helm values, settings.

What one container or unit says in image, entrypoint, command, arguments, environment and nested settings is put together into one
subject before any rule sees it. YAML and JSON are parsed into nodes only, so no tag is ever constructed; nothing is run.
"""

import itertools
import json
import re
import shlex
from collections.abc import Iterator
from functools import cached_property

import yaml

from eai import strategies
from eai.audit.files import Unit, Unreadable
from eai.audit.subjects import MODEL_PLACES, NAMES, Option, Subject, canonical, card_in_text, engine_of_image, engine_of_program

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_MAX_DEPTH = 150  # no deployment nests deeper, and libyaml's composer recurses in C
_MAX_NODES = 200_000
_LONGEST_VALUE = 2000  # variables made of variables double with each line
_LOOP, _DONE = re.compile(r"(for|while|until)\b"), re.compile(r"done\b")
_HINT = re.compile(
    r"vllm|sglang|text-generation|llama|ollama|lmdeploy|trtllm|\.gguf|aphrodite|kobold|lm[-_]eval|fastchat|load[-_](in[-_])?[48]-?bit|nvidia-smi",
    re.I,
)
_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*=")
_VARIABLE = re.compile(r"\$(?:\{(\w+)(?:\[@\])?(?::?-([^}]*))?\}|\((\w+)\)|(\w+))")
_TRAINING = re.compile(
    r"learning_rate|num_train_epochs|gradient_checkpointing|gradient_accumulation|lora_r\b|warmup_steps|optimizer|per_device_train"
)
_OTHER_RUNTIME = re.compile(r"openvino|onnx|tensorrt|\bipex\b|exllama", re.IGNORECASE)
_KEYS = NAMES["containers"]
_WORDS, _ENVIRONMENT, _IMAGE_KEYS, _ENGINE_SETTINGS = _KEYS["words"], _KEYS["environment"], _KEYS["image"], _KEYS["engine_settings"]
_TEMPLATE = re.compile(r"\{[{%][^{}\n]*[%}]\}")
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F][0-9a-fA-F]{2}")
_SERVES = {"vllm": ("serve", "run"), "sglang": ("serve",), "ollama": ("serve", "run"), "lmdeploy": ("serve",)}
_FROM_ENVIRONMENT = ("tgi", "ollama", "llama.cpp", "djl", "vllm")

Environment = dict[str, Option]


def expand(word: str, env: Environment) -> str:
    """A word with $NAME, ${NAME:-default} and $(NAME) replaced where the file gives them; others stay as they are."""

    def value(match: re.Match) -> str:
        name = match[1] or match[3] or match[4]
        known = env[name].value if name in env else match[2]
        return match[0] if known is None else str(known)

    return _VARIABLE.sub(value, word) if "$" in word else word


def _split(text: str) -> list[str]:
    """The words of a shell line, `;`, `&&` and `|` as words of their own; split at spaces where quotes do not close."""
    text = re.sub(r"\$\([^()]*\)", "SUBSTITUTED", re.sub(r"\$\((\w+)\)", r"${\1}", text))
    lexer = shlex.shlex(text, posix=True, punctuation_chars=";&|()<>")
    lexer.whitespace_split, lexer.commenters = True, "#"
    try:
        return list(lexer)
    except ValueError:
        return text.split()


def options(words: list[tuple[str, int]], subject: Subject) -> None:
    """Enter `--name value`, `--name=value`, `-n value` and bare flags (True) into a subject."""
    for position, (word, line) in enumerate(words):
        if not re.match(r"--?[A-Za-z]", word):
            continue
        name, equals, value = word.partition("=")
        following = words[position + 1][0] if position + 1 < len(words) else "-x"
        if equals:
            subject.add(name, value, line)
        else:
            subject.add(name, True if re.match(r"--?[A-Za-z]", following) else following, line)


def _program(words: list[tuple[str, int]]) -> tuple[int, str]:
    """(position, engine) of the first word that starts a server; (-1, "") if none does."""
    has_weights = any(w.endswith(".gguf") for w, _ in words)
    trains = re.search(r"train|finetune|lora|sft", " ".join(w for w, _ in words)) is not None
    for position, (word, _) in enumerate(words):
        engine, name = engine_of_program(word), word.rpartition("/")[2]
        following = words[position + 1][0] if position + 1 < len(words) else ""
        if engine and name.split(".")[0] in _SERVES and "." not in name and following not in _SERVES[name]:
            continue
        if engine:
            return position, engine
        if name in ("server", "main") and has_weights:
            return position, "llama.cpp"
        if name == "nvidia-smi":
            return position, "nvidia-smi"
        if re.match(r"--load[-_](in[-_])?[48]-?bit", word) and not trains:
            return 0, "transformers"
    return -1, ""


def launch(words: list[tuple[str, int]], env: Environment, facts: dict | None = None, image: str = "") -> Subject | None:
    """The server that a command line starts, with its options and what its engine reads from the environment; None if it starts none."""
    env = dict(env)
    settings = list(itertools.takewhile(lambda x: _ASSIGNMENT.match(x[0]), words))
    env |= {w.partition("=")[0]: Option(w.partition("=")[2], line) for w, line in settings}
    words = words[len(settings) :]
    if not words and not image:
        return None
    if words and words[0][0] in ("docker", "podman", "nerdctl") and any(w == "run" for w, _ in words[:3]):
        return _docker_run(words, env, facts)
    position, engine = _program(words)
    engine = engine or engine_of_image(image)
    if not engine:
        return None
    place = words[max(position, 0)][1] if words else min((o.line for o in env.values()), default=1)
    subject = Subject(
        "server", engine, place, facts={**(facts or {}), "program": words[position][0].rpartition("/")[2] if position >= 0 else ""}
    )
    if engine in _FROM_ENVIRONMENT and "vllm/vllm-openai" not in image and not (engine == "vllm" and position >= 0):
        for name, option in env.items():
            subject.add(name, expand(str(option.value), env), option.line)
    rest = words[position + 1 :]
    options(rest, subject)
    plain = [w for w, _ in rest[:2] if not w.startswith("-")]
    if plain and plain[0] in ("serve", "run", "start") and len(plain) > 1:
        subject.options.setdefault("model", Option(plain[1], place))
    for pair in str(subject.get("model_args") or "").split(","):  # lm_eval
        name, equals, value = pair.partition("=")
        if equals:
            subject.add(name, value, place)
    return subject


def _docker_run(words: list[tuple[str, int]], env: Environment, facts: dict | None) -> Subject | None:
    """The server in `docker run -e NAME=VALUE IMAGE ARGUMENTS`."""
    for position, (word, line) in enumerate(words):
        before = words[position - 1][0] if position else ""
        if before in ("-e", "--env") and "=" in word:
            env[word.partition("=")[0]] = Option(word.partition("=")[2], line)
        elif not word.startswith("-") and "/" in word and not before.startswith(("-v", "--v", "--m")) and engine_of_image(word):
            return launch([("", line), *words[position + 1 :]] if position + 1 < len(words) else [("", line)], env, facts, word)
        elif word == "ollama":
            return None
    return None


def _logical_lines(text: str) -> Iterator[tuple[str, int, list[str]]]:
    """(joined text, first line, physical lines) of a script: backslashes and open arrays continue a line."""
    parts: list[str] = []
    start = 1
    for number, line in enumerate(text.splitlines(), start=1):
        if parts and line.lstrip().startswith("#"):
            continue
        start = start if parts else number
        continues = line.rstrip().endswith(("\\", "^"))
        parts.append(line.rstrip().rstrip("\\^") if continues else line)
        opened = re.match(r"\s*(?:declare -a |local -a )?\w+\+?=\(", parts[0]) is not None
        if continues or (opened and not any(")" in p for p in parts) and len(parts) < 200):
            continue
        yield " ".join(parts), start, parts
        parts = []
    if parts:
        yield " ".join(parts), start, parts


def shell(text: str, env: Environment | None = None, first_line: int = 1, facts: dict | None = None) -> list[Subject]:
    """The servers that a script starts, in its order; also those whose settings it only exports."""
    env, own, found, depth = dict(env or {}), {}, [], 0
    for joined, start, parts in _logical_lines(text):
        line = first_line + start - 1
        stripped = joined.strip().lstrip("@-").strip().strip("\"'," if joined.strip()[:1] in "\"'" else "")
        stripped = re.sub(r"^(ExecStart\w*=[-@+!]*|RUN |web: *|cmd: *)", "", stripped)
        if stripped.startswith(("#", "//", "REM ", "echo ")):
            continue
        depth = max(0, depth + bool(_LOOP.match(stripped)) - bool(_DONE.match(stripped)))
        is_settings = re.match(
            r"(export |set |setx |ENV |declare |local |readonly |Environment=|launchctl setenv )?[\"']?\w+(\+?[:?]?=|\s)", stripped
        )
        if not (_HINT.search(stripped) or is_settings or "$" in stripped):
            continue
        if array := re.match(r"(?:declare -a |local -a |local )?(\w+)\+?=\((.*)\)\s*$", stripped):
            before = f"{env[array[1]].value} " if array[1] in env and "+=(" in stripped else ""
            env[array[1]] = Option(before + " ".join(map(shlex.quote, _split(array[2]))), line)
            continue
        words = _located(_split(stripped), parts, line)
        for command in _commands(words):
            settings = _assigned(command)
            if settings is not None:
                settings = {n: Option(expand(str(o.value), env)[:_LONGEST_VALUE], o.line) for n, o in settings.items()}
                env.update(settings)
                own.update(settings)
                continue
            whole = [x for word, at in command for x in _expanded(word, at, env)]
            script = next(
                (whole[i + 1][0] for i, (w, _) in enumerate(whole[:-1]) if w in ("-c", "-lc", "-ec") and " " in whole[i + 1][0]), None
            )
            if script is not None and re.search(r"(^|/)(ba|z|da)?sh$", whole[0][0].split("=")[-1]):
                found += shell(script, env, line, facts)
            elif subject := launch(whole, env, {**(facts or {}), "in_loop": depth > 0}):
                found.append(subject)
    return found + _only_settings(own, found, facts)


def _located(words: list[str], parts: list[str], line: int) -> list[tuple[str, int]]:
    """Words with the physical line that each stands in; words and lines go in step, so a few lines ahead are looked at."""
    found, at = [], 0
    for word in words:
        at = next((i for i in range(at, min(at + 20, len(parts))) if word in parts[i]), at)
        found.append((word, line + at))
    return found


def _commands(words: list[tuple[str, int]]) -> Iterator[list[tuple[str, int]]]:
    """The commands of a line, cut at `;`, `&&`, `|` and brackets; `do`, `then` and `nohup` before a command are dropped."""
    command: list[tuple[str, int]] = []
    for word, line in [*words, (";", 0)]:
        if re.fullmatch(r"[;&|()<>]+", word):
            if command:
                yield command
            command = []
        elif command or word not in ("do", "then", "else", "nohup", "exec", "sudo", "time", "{", "!"):
            command.append((word, line))


def _assigned(command: list[tuple[str, int]]) -> Environment | None:
    """The variables that a command only sets; None if it does anything else."""
    words = [(w.removeprefix("Environment=").strip("\"'"), at) for w, at in command]
    if words[0][0] in ("export", "set", "ENV", "declare", "local", "readonly", "-x", "typeset"):
        words = words[1:]
    if words[:1] and words[0][0] in ("setx", "setenv", "launchctl"):
        names = [x for x in words if x[0] not in ("setx", "setenv", "launchctl")]
        return {names[0][0]: Option(names[1][0], names[0][1])} if len(names) > 1 else None
    joined = [(re.sub(r"^(\w+)[:?]=", r"\1=", w), at) for w, at in words]
    if len(joined) == 3 and joined[1][0] in ("=", ":=", "?="):  # make
        joined = [(f"{joined[0][0]}={joined[2][0]}", joined[0][1])]
    if not joined or not all(_ASSIGNMENT.match(w) for w, _ in joined):
        return None
    return {w.partition("=")[0]: Option(w.partition("=")[2], at) for w, at in joined}


def _expanded(word: str, line: int, env: Environment) -> list[tuple[str, int]]:
    """A word after expansion; one that is nothing but a variable becomes the words of its value."""
    text = expand(word, env)
    return [(w, line) for w in _split(text)] if text != word and _VARIABLE.fullmatch(word) else [(text, line)]


def _only_settings(own: Environment, found: list[Subject], facts: dict | None) -> list[Subject]:
    """Servers that a text configures through variables without starting them: Ollama's and llama.cpp's."""
    made = []
    for engine, prefix in (("ollama", "OLLAMA_"), ("llama.cpp", "LLAMA_ARG_")):
        settings = {n: o for n, o in own.items() if n.startswith(prefix)}
        if settings and not any(s.engine == engine for s in found):
            made.append(launch([], settings, facts, engine.replace(".", "-")))
    return [s for s in made if s is not None]


def dockerfile(text: str) -> list[Subject]:
    """The server that each stage of a Dockerfile starts: image, environment, entrypoint and command together."""
    stages: dict[str, tuple[str, Environment, list, list]] = {}
    image, env, entry, command, name, found = "", {}, [], [], "", []
    for joined, start, parts in _logical_lines(text):
        keyword, _, rest = joined.strip().partition(" ")
        rest = rest.strip()
        if keyword.upper() == "FROM":
            found += _contained(image, entry + command, env)
            words = rest.split()
            words = [w for w in words if not w.startswith("--")] or [""]
            image, env, entry, command = stages.get(words[0], (expand(words[0], env), dict(env), [], []))
            name = words[2] if len(words) > 2 else ""
            env, entry, command = dict(env), list(entry), list(command)
        elif keyword.upper() in ("ENV", "ARG"):
            words = _located(_split(rest), parts, start)
            given = _assigned(words) or (_assigned([(f"{words[0][0]}={words[1][0]}", start)]) if len(words) == 2 else None) or {}
            env |= {n: Option(expand(str(o.value), env)[:_LONGEST_VALUE], o.line) for n, o in given.items()}
        elif keyword.upper() == "ENTRYPOINT":
            entry, command = _exec_form(rest, start, parts), []
        elif keyword.upper() == "CMD":
            command = _exec_form(rest, start, parts)
        stages[name] = (image, env, entry, command)
    return found + _contained(image, entry + command, env)


def _exec_form(text: str, start: int, parts: list[str]) -> list[tuple[str, int]]:
    """The words of ENTRYPOINT or CMD: a JSON list, else a line for the shell."""
    try:
        words = json.loads(text) if text.startswith("[") else None
    except ValueError:
        words = None
    if isinstance(words, list):
        return _located(list(map(str, words)), parts, start)
    return [("sh", start), ("-c", start), (text, start)]


def _contained(image: str, words: list[tuple[str, int]], env: Environment, facts: dict | None = None) -> list[Subject]:
    """The servers that a container starts."""
    whole = [x for word, at in words for x in _expanded(word, at, env)]
    script = next((i for i, (w, _) in enumerate(whole[:-1]) if w in ("-c", "-lc", "-ec")), None)
    if script is not None and re.search(r"(^|/)(ba|z|da)?sh$", whole[0][0]):
        inner = shell(whole[script + 1][0], env, whole[script + 1][1], facts)
        if inner or not engine_of_image(image):
            return inner
    subject = launch(whole, env, facts, image)
    return [subject] if subject else []


def modelfile(text: str) -> list[Subject]:
    """The model that an Ollama Modelfile describes."""
    subject = Subject("server", "ollama", 1, facts={"program": "Modelfile"})
    for number, line in enumerate(text.splitlines(), start=1):
        words = line.split()
        if len(words) == 2 and words[0].upper() == "FROM":
            subject.add("model", words[1], number)
        elif len(words) == 3 and words[0].upper() == "PARAMETER":
            subject.add(words[1], words[2], number)
    return [subject]


def key_values(unit: Unit) -> list[Subject]:
    """TOML and properties: each section's `name = value` as a mapping, and commands among the values."""
    facts, found = _file_facts(unit), []
    subject = Subject("config", "", 1, facts=dict(facts))
    for number, line in enumerate(unit.text.splitlines(), start=1):
        if line.startswith("["):
            found.append(subject)
            subject = Subject("config", "", number, facts=dict(facts))
        elif match := re.match(r"\s*([\w.\-\"]+)\s*=\s*(.+?)\s*$", line):
            value = match[2].strip().strip("\"'")
            subject.add(match[1].strip('"'), _typed(value), number)
            found += shell(value, first_line=number, facts=facts) if " " in value and _HINT.search(value) else []
    return [s for s in [*found, subject] if s.place == "server" or _is_setting(s)]


def _typed(text: str) -> object:
    """The text of a value as bool, int, float or text."""
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _file_facts(unit: Unit) -> dict:
    """What a configuration as a whole tells: the one card it names, training, another runtime."""
    return {
        "gpu": card_in_text(unit.text),
        "trains": bool(_TRAINING.search(unit.text)),
        "other_runtime": bool(_OTHER_RUNTIME.search(unit.text)),
    }


def _is_setting(subject: Subject) -> bool:
    """Complete a mapping's facts; whether it holds anything."""
    given = subject.options
    strategy = str(subject.get("quantization") or "")
    subject.engine = str(given["engine"].value) if "engine" in given else ""
    subject.facts["serves"] = (
        bool(set(_KEYS["serving"]) & set(given) - {"gpu"}) or ("gpu" in given and bool(subject.model)) or "option_model_id" in given
    )
    subject.facts["parameters"] = bool(subject.model) and (
        bool({"hardware_platform", "generation_length", "sequence_length"} & set(subject.facts.get("keys", ())))
        or ("batch_size" in given and strategy in strategies.STRATEGIES)
    )
    return bool(given)


class Config:
    """A JSON or YAML file as subjects. Raises Unreadable if it does not parse."""

    def __init__(self, unit: Unit):
        self.unit = unit
        is_json = unit.path.endswith(".json")
        text = _SURROGATE.sub("?", unit.text.replace("\t", " ")) if is_json else _without_templates(unit.text)
        if _depth(text) > _MAX_DEPTH:
            raise Unreadable(f"nested deeper than {_MAX_DEPTH} levels")
        try:
            self.roots = [n for n in yaml.compose_all(text, Loader=_LOADER) if n is not None]
        except (yaml.YAMLError, RecursionError, ValueError) as error:
            raise Unreadable(f"does not parse as {'JSON' if is_json else 'YAML'}: {' '.join(str(error).split())[:120]}") from None
        self.taken: set[int] = set()

    @cached_property
    def facts(self) -> dict:
        """What the whole file tells, with the one model it names."""
        named = {
            str(_scalar(v))
            for n in self._nodes()
            if isinstance(n, yaml.MappingNode)
            for k, v in n.value
            if isinstance(k, yaml.ScalarNode)
            and isinstance(v, yaml.ScalarNode)
            and (canonical(k.value) in MODEL_PLACES or (k.value == "name" and "/" in v.value))
        }
        return _file_facts(self.unit) | ({"model": named.pop()} if len(named) == 1 else {})

    def _nodes(self) -> Iterator[yaml.Node]:
        """Every node once, parents first; an anchor used many times is visited once."""
        stack, seen = list(reversed(self.roots)), set()
        while stack and len(seen) < _MAX_NODES:
            node = stack.pop()
            if id(node) in seen:
                continue
            seen.add(id(node))
            yield node
            if isinstance(node, yaml.MappingNode):
                stack += [v for _, v in reversed(node.value)]
            elif isinstance(node, yaml.SequenceNode):
                stack += reversed(node.value)

    @cached_property
    def subjects(self) -> list[Subject]:
        """Containers with all that belongs to them, then single command lines, then plain mappings."""
        found = []
        for node in self._nodes():
            if isinstance(node, yaml.MappingNode):
                made = self._container(node) if id(node) not in self.taken or _image(node) else []
                if not made and id(node) not in self.taken:
                    made = self._plain(node)
                found += made
            elif id(node) in self.taken:
                continue
            elif isinstance(node, yaml.ScalarNode) and " " in node.value and _HINT.search(node.value):
                is_block = node.style in ("|", ">")
                text = node.value if node.style == "|" or not is_block else node.value.replace("\n", " ")
                found += shell(text, first_line=node.start_mark.line + 1 + is_block, facts=self.facts)
            elif isinstance(node, yaml.SequenceNode) and node.value and all(isinstance(v, yaml.ScalarNode) for v in node.value):
                words = [(v.value, v.start_mark.line + 1) for v in node.value]
                if _HINT.search(" ".join(w for w, _ in words)) and not any(" " in w for w, _ in words):
                    made = _contained("", words, {}, self.facts)
                    found += made
                    self.taken |= {id(v) for v in node.value} if made else set()
        return found

    def _plain(self, node: yaml.MappingNode) -> list[Subject]:
        """A mapping's own scalars as settings."""
        subject = Subject("config", "", node.start_mark.line + 1, facts=dict(self.facts))
        subject.facts["keys"] = [k.value for k, _ in _pairs(node)]
        for key, value in _pairs(node):
            if isinstance(value, yaml.ScalarNode):
                subject.add(key.value, _scalar(value), key.start_mark.line + 1)
            elif isinstance(value, yaml.SequenceNode) and len(value.value) > 1 and canonical(key.value) in ("gpu", "num_gpus"):
                subject.facts["several_cards"] = True
        return [subject] if _is_setting(subject) else []

    def _container(self, node: yaml.MappingNode) -> list[Subject]:
        """The servers of a mapping that has an image, a command, or an engine's settings; empty if it is no container."""
        image = _image(node)
        words, env, settings = [], {}, []
        inside: list[yaml.Node] = []
        self._gather(node, words, env, settings, inside, 0)
        has_engine = any(k.value.lower() in _ENGINE_SETTINGS and isinstance(v, yaml.MappingNode) for k, v in _pairs(node))
        is_kserve = any(k.value == "modelFormat" for k, _ in _pairs(node)) and bool(words)
        image = image or ("vllm" if has_engine or is_kserve else "")
        starts = engine_of_image(image) or (
            words and any(k.value.lower() in _WORDS for k, _ in _pairs(node)) and _HINT.search(" ".join(w for w, _ in words))
        )
        if not starts:
            return []
        expanded = {name: Option(expand(str(o.value), {}), o.line) for name, o in env.items()}
        found = _contained(image, words, expanded, dict(self.facts)) if words or expanded else []
        if not found and engine_of_image(image):
            found = [Subject("server", engine_of_image(image), node.start_mark.line + 1, facts=dict(self.facts))]
        for subject in found:
            for name, option in settings:
                if canonical(name) not in subject.options:
                    subject.add(name, option.value, option.line)
        if found:
            self.taken |= {id(n) for n in [node, *inside]}
        return found

    def _gather(self, node: yaml.MappingNode, words: list, env: Environment, settings: list, inside: list, depth: int) -> None:
        """Collect a container's words, environment and settings from its mapping and those below it; other containers are left out."""
        ordered = sorted(_pairs(node), key=lambda p: _WORDS.index(p[0].value.lower()) if p[0].value.lower() in _WORDS else -1)
        for key, value in ordered:
            name, line = key.value.lower(), key.start_mark.line + 1
            if name in _KEYS["no_options"] or depth > 6 or any(x is value for x in inside[-200:]) or len(inside) > 5000:
                continue
            inside.append(value)
            if name in _WORDS and isinstance(value, yaml.ScalarNode):
                is_folded = value.style in ("|", ">")
                text = (
                    " ".join(x.strip().rstrip("\\") for x in value.value.splitlines())
                    if value.style != "|" or not _HINT.search(value.value)
                    else value.value
                )
                looks = value.style == "|" or "&&" in text or ";" in text
                at = line + is_folded
                words += [("sh", at), ("-c", at), (text, at)] if looks else [(w, at) for w in _split(text)]
            elif isinstance(value, yaml.SequenceNode) and all(isinstance(v, yaml.ScalarNode) for v in value.value):
                inside += value.value
                if name in _ENVIRONMENT:
                    env |= {n: Option(v, at) for n, _, v, at in ((*x.value.partition("="), x.start_mark.line + 1) for x in value.value)}
                elif name in _WORDS or any(v.value.startswith("--") for v in value.value):
                    words += [(v.value, v.start_mark.line + 1) for v in value.value]
            elif isinstance(value, yaml.SequenceNode):
                for item in (v for v in value.value if isinstance(v, yaml.MappingNode) and not _image(v)):
                    inside.append(item)
                    pairs = {k.value: v for k, v in _pairs(item) if isinstance(v, yaml.ScalarNode)}
                    if name in _ENVIRONMENT and {"name", "value"} <= set(pairs):
                        env[pairs["name"].value] = Option(pairs["value"].value, pairs["value"].start_mark.line + 1)
            elif isinstance(value, yaml.MappingNode) and name in _ENVIRONMENT:
                env |= {k.value: Option(v.value, k.start_mark.line + 1) for k, v in _pairs(value) if isinstance(v, yaml.ScalarNode)}
            elif isinstance(value, yaml.MappingNode) and not _image(value):
                self._gather(value, words, env, settings, inside, depth + 1)
            elif isinstance(value, yaml.ScalarNode) and name not in ("name", "image"):
                settings.append((key.value, Option(_scalar(value), line)))


def _pairs(node: yaml.MappingNode) -> list[tuple[yaml.ScalarNode, yaml.Node]]:
    """The entries of a mapping whose keys are scalars; `<<` brings in the mapping it names, which own keys override."""
    own = [(k, v) for k, v in node.value if isinstance(k, yaml.ScalarNode) and k.value != "<<"]
    names = {k.value for k, _ in own}
    merged = [v for k, v in node.value if isinstance(k, yaml.ScalarNode) and k.value == "<<"]
    sources = [x for v in merged for x in (v.value if isinstance(v, yaml.SequenceNode) else [v]) if isinstance(x, yaml.MappingNode)]
    return [(k, v) for source in sources for k, v in source.value if isinstance(k, yaml.ScalarNode) and k.value not in names] + own


def _image(node: yaml.MappingNode) -> str:
    """The container image that a mapping names, empty if none."""
    for key, value in _pairs(node):
        if key.value.lower() not in _IMAGE_KEYS:
            continue
        if isinstance(value, yaml.ScalarNode) and value.value:
            return expand(value.value, {})
        if isinstance(value, yaml.MappingNode):
            return next((v.value for k, v in _pairs(value) if k.value in ("repository", "name") and isinstance(v, yaml.ScalarNode)), "")
    return ""


def _without_templates(text: str) -> str:
    """YAML without Helm's or Jinja's braces: a line of nothing else is dropped, others hold a place."""
    if "{{" not in text and "{%" not in text:
        return text
    lines = []
    for line in text.split("\n"):
        bare = _TEMPLATE.sub("", line)
        lines.append("" if bare != line and not bare.strip() else _TEMPLATE.sub("TEMPLATE", line))
    return "\n".join(lines)


def _depth(text: str) -> int:
    """An upper bound of the nesting: brackets open at once, or the longest run of indentation and dashes that starts a line."""
    depth = deepest = 0
    for bracket in re.findall(r"[\[\]{}]", text):
        depth += 1 if bracket in "[{" else -1
        deepest = max(deepest, depth)
    return max([deepest, *(len(re.match(r"[\s\-?]*", line).group()) // 2 for line in text.splitlines() if line[:1] in " -?")])


def _scalar(node: yaml.ScalarNode) -> object:
    """A scalar as bool, int, float, None or text, by the tag YAML gives it."""
    kind = node.tag.rpartition(":")[2]
    if kind == "null":
        return None
    if kind == "bool":
        return node.value.lower() in ("true", "yes", "on")
    return _typed(node.value) if kind in ("int", "float") else expand(node.value, {})
