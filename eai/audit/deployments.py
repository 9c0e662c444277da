"""Launches of servers, read from what people deploy: shell, systemd, Dockerfile, Modelfile, compose, Kubernetes, Helm values, settings.

What one container or unit says in image, entrypoint, command, arguments, environment, environment files and nested settings is put together
into one subject before any rule sees it. YAML and JSON are parsed into nodes only, so no tag is ever constructed; nothing is run.
"""

import itertools
import json
import re
import shlex
from collections.abc import Callable, Iterator
from functools import cached_property

import yaml

from eai import strategies
from eai.audit.subjects import NAMES, WORDS, Option, Subject, Unit, Unreadable, canonical, card_in_text, engine_of

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_MAX_DEPTH = 150  # no deployment nests deeper, and libyaml's composer recurses in C
_MAX_NODES = 200_000
_LONGEST_VALUE = 2000  # variables made of variables double with each line
_KEYS = NAMES["containers"]
_WORDS, _ENVIRONMENT, _IMAGE_KEYS, _ENGINE_SETTINGS = _KEYS["words"], _KEYS["environment"], _KEYS["image"], _KEYS["engine_settings"]

Environment = dict[str, Option]
Words = list[tuple[str, int]]
"""Words of a command with the line that each stands in."""
Reader = Callable[[str], dict[str, str]]
"""The variables of an environment file by its name."""


def expand(word: str, env: Environment) -> str:
    """A word with $NAME, ${NAME:-default} and $(NAME) replaced where the file gives them; others stay as they are."""

    def value(match: re.Match) -> str:
        name = match[1] or match[3] or match[4]
        known = env[name].value if name in env else match[2]
        return match[0] if known is None else str(known)

    return WORDS.variable.sub(value, word) if "$" in word else word


def _split(text: str) -> list[str]:
    """The words of a shell line, `;`, `&&` and `|` as words of their own; split at spaces where quotes do not close."""
    text = re.sub(r"\$\([^()]*\)", "SUBSTITUTED", re.sub(r"\$\((\w+)\)", r"${\1}", text))
    lexer = shlex.shlex(text, posix=True, punctuation_chars=";&|()<>")
    lexer.whitespace_split, lexer.commenters = True, "#"
    try:
        return list(lexer)
    except ValueError:
        return text.split()


def _program(words: Words) -> tuple[int, str]:
    """(position, engine) of the first word that starts a server; (-1, "") if none does."""
    has_weights = any(w.endswith(".gguf") for w, _ in words)
    for position, ((word, _), (following, _)) in enumerate(itertools.pairwise([*words, ("", 0)])):
        engine, name = engine_of(word), word.rpartition("/")[2]
        if following == "serve" and re.match(r"\$\{?VLLM", word, re.IGNORECASE):
            return position, "vllm"
        if engine and following not in NAMES["serves"].get(name, (following,)):
            continue
        if engine or name == "nvidia-smi":
            return position, engine or name
        if name in ("server", "main") and has_weights:
            return position, "llama.cpp"
        if re.match(r"--load[-_](in[-_])?[48]-?bit", word) and not any(re.search(r"train|finetune|lora|sft", w) for w, _ in words):
            return 0, "transformers"
    return -1, ""


def launch(words: Words, env: Environment, facts: dict | None = None, image: str = "", files: Reader | None = None) -> Subject | None:
    """The server that a command line starts, with its options and what its engine reads from the environment; None if it starts none."""
    settings = list(itertools.takewhile(lambda x: WORDS.assignment.match(x[0]), words))
    env = env | {w.partition("=")[0]: Option(w.partition("=")[2], line) for w, line in settings}
    words = words[len(settings) :]
    if not words and not image:
        return None
    if words and words[0][0] in ("docker", "podman", "nerdctl") and any(w == "run" for w, _ in words[:3]):
        return _docker_run(words, env, facts, files)
    position, engine = _program(words)
    engine = engine or engine_of(image=image)
    if not engine:
        return None
    place = words[max(position, 0)][1] if words else min((o.line for o in env.values()), default=1)
    program = words[position][0].rpartition("/")[2] if position >= 0 else ""
    subject = Subject("server", engine, place, facts=(facts or {}) | {"program": program})
    if engine in WORDS.from_environment and "vllm/vllm-openai" not in image and not (engine == "vllm" and position >= 0):
        for name, option in env.items():
            subject.add(name, expand(str(option.value), env), option.line)
    if WORDS.for_cpu.search(" ".join([image, *(f"{n}={o.value}" for n, o in env.items())])):
        subject.facts["device"] = "cpu"
    rest = words[position + 1 :]
    for name, option in env.items() if engine == "vllm" else ():
        rest += [(w, option.line) for w in _split(expand(str(option.value), env))] if WORDS.arguments.fullmatch(name) else []
    for (word, line), (following, _) in itertools.pairwise([*rest, ("-x", 0)]):  # --name value, --name=value, -n value, bare flags
        if re.match(r"--?[A-Za-z]", word):
            name, equals, value = word.partition("=")
            subject.add(name, value if equals else True if re.match(r"--?[A-Za-z]", following) else following, line)
    plain = [w for w, _ in rest[:2] if not w.startswith("-")]
    if len(plain) > 1 and plain[0] in ("serve", "run", "start"):
        subject.options.setdefault("model", Option(plain[1], place))
    for name, equals, value in (pair.partition("=") for pair in str(subject.get("model_args") or "").split(",")):  # lm_eval
        if equals:
            subject.add(name, value, place)
    return subject


def _docker_run(words: Words, env: Environment, facts: dict | None, files: Reader | None) -> Subject | None:
    """The server in `docker run -e NAME=VALUE --env-file FILE IMAGE ARGUMENTS`."""
    for position, ((before, _), (word, line)) in enumerate(itertools.pairwise(words), start=1):
        option, _, value = word.partition("=") if word.startswith("--env") else (before, "=", word)
        if option in ("-e", "--env") and "=" in value:
            env[value.partition("=")[0]] = Option(value.partition("=")[2], line)
        elif option == "--env-file" and files and value:
            env |= {n: Option(v, line) for n, v in files(value).items()}
        elif not word.startswith("-") and "/" in word and not before.startswith(("-v", "--v", "--m")):
            rest = words[position + 1 :]
            if engine_of(image=word) or _program(rest)[1]:
                return launch([("", line), *rest], env, facts, word)
        elif word == "ollama":
            return None
    return None


def _logical_lines(text: str) -> Iterator[tuple[str, int, list[str]]]:
    """(joined text, first line, physical lines) of a script: backslashes and open arrays continue a line."""
    parts: list[str] = []
    start = 1
    for number, line in enumerate([*text.splitlines(), ""], start=1):
        if parts and line.lstrip().startswith("#"):
            continue
        start = start if parts else number
        continues = line.rstrip().endswith(("\\", "^", " `"))
        parts.append(line.rstrip().rstrip("\\^`") if continues else line)
        opened = re.match(r"\s*(?:declare -a |local -a )?\w+\+?=\(", parts[0]) is not None
        if not continues and (not opened or any(")" in p for p in parts) or len(parts) >= 200):
            yield " ".join(parts), start, parts
            parts = []
    if parts:
        yield " ".join(parts), start, parts


def shell(
    text: str, env: Environment | None = None, first_line: int = 1, facts: dict | None = None, files: Reader | None = None
) -> list[Subject]:
    """The servers that a script starts, in its order; also those whose settings it only exports."""
    env, own, found, depth = dict(env or {}), {}, [], 0
    for joined, start, parts in _logical_lines(text):
        line, stripped = first_line + start - 1, WORDS.powershell.sub(r"export \1\2=\3", joined).strip().lstrip("@-").strip()
        stripped = WORDS.start.sub("", stripped.strip("\"',") if stripped[:1] in ("'", '"') else stripped)
        if stripped.startswith(("#", "//", "REM ", "echo ")):
            continue
        depth = max(0, depth + bool(WORDS.loop.match(stripped)) - bool(WORDS.done.match(stripped)))
        if not (WORDS.hint.search(stripped) or WORDS.setting.match(stripped) or "$" in stripped):
            continue
        if stripped.startswith("EnvironmentFile="):
            env |= {n: Option(v, line) for n, v in (files(stripped.partition("=")[2]) if files else {}).items()}
            continue
        if array := re.match(r"(?:declare -a |local -a |local )?(\w+)\+?=\((.*)\)\s*$", stripped):
            before = f"{env[array[1]].value} " if array[1] in env and "+=(" in stripped else ""
            env[array[1]] = Option(before + " ".join(map(shlex.quote, _split(array[2]))), line)
            continue
        for command in _commands(_located(_split(stripped), parts, line)):
            settings = _assigned(command)
            if settings is not None:
                settings = {n: Option(expand(str(o.value), env)[:_LONGEST_VALUE], o.line) for n, o in settings.items()}
                env |= settings
                own |= settings
                continue
            whole = [x for word, at in command for x in _expanded(word, at, env)]
            inner = _script(whole)
            if inner is not None:
                found += shell(inner, env, line, facts, files)
            elif subject := launch(whole, env, (facts or {}) | {"in_loop": depth > 0}, files=files):
                found.append(subject)
    own_names = (("ollama", r"OLLAMA_.*"), ("llama.cpp", r"LLAMA_ARG_.*"), ("vllm", WORDS.arguments))
    for engine, names in own_names:  # set here, started elsewhere
        settings = {n: o for n, o in own.items() if re.fullmatch(names, n)}
        if settings and not any(s.engine == engine for s in found):
            found.append(launch([], settings, facts, engine.replace(".", "-")))
    return found


def _script(words: Words) -> str | None:
    """What a shell runs with -c, None if the words start no shell."""
    if not words or not WORDS.shells.search(words[0][0].split("=")[-1]):
        return None
    given = (after for (w, _), (after, _) in itertools.pairwise(words) if re.fullmatch(r"-\w*c", w))
    return next(given, None)


def _located(words: list[str], parts: list[str], line: int) -> Words:
    """Words with the physical line that each stands in; words and lines go in step, so a few lines ahead are looked at."""
    found, at = [], 0
    for word in words:
        at = next((i for i in range(at, min(at + 20, len(parts))) if word in parts[i]), at)
        found.append((word, line + at))
    return found


def _commands(words: Words) -> Iterator[Words]:
    """The commands of a line, cut at `;`, `&&`, `|` and brackets; `do`, `then` and `nohup` before a command are dropped."""
    command: Words = []
    for word, line in [*words, (";", 0)]:
        if re.fullmatch(r"[;&|()<>]+", word):
            if command:
                yield command
            command = []
        elif command or word not in ("do", "then", "else", "nohup", "exec", "sudo", "time", "{", "!"):
            command.append((word, line))


def _assigned(command: Words) -> Environment | None:
    """The variables that a command only sets; None if it does anything else."""
    words = [(re.sub(r"^(\w+)[:?]=", r"\1=", w.removeprefix("Environment=").strip("\"'")), at) for w, at in command]
    first = words[0][0]
    if first in ("setx", "setenv", "launchctl"):
        names = [x for x in words if x[0] not in ("setx", "setenv", "launchctl")]
        return {names[0][0]: Option(names[1][0], names[0][1])} if len(names) > 1 else None
    if first in ("export", "set", "ENV", "declare", "local", "readonly", "-x", "typeset"):
        words = words[1:]
    if len(words) == 3 and words[1][0] in ("=", ":=", "?="):  # make
        words = [(f"{words[0][0]}={words[2][0]}", words[0][1])]
    if not words or not all(WORDS.assignment.match(w) for w, _ in words):
        return None
    return {w.partition("=")[0]: Option(w.partition("=")[2], at) for w, at in words}


def _expanded(word: str, line: int, env: Environment) -> Words:
    """A word after expansion; one that is nothing but a variable becomes the words of its value."""
    text = expand(word, env)
    return [(w, line) for w in _split(text)] if text != word and WORDS.variable.fullmatch(word) else [(text, line)]


def dockerfile(text: str) -> list[Subject]:
    """The server that each stage of a Dockerfile starts: image, environment, entrypoint and command together."""
    stages: dict[str, tuple[str, Environment, Words, Words]] = {}
    image, env, entry, command, name, found = "", {}, [], [], "", []
    for joined, start, parts in _logical_lines(text):
        keyword, _, rest = joined.strip().partition(" ")
        keyword, rest = keyword.upper(), rest.strip()
        if keyword == "FROM":
            found += _contained(image, entry + command, env)
            words = [w for w in rest.split() if not w.startswith("--")] or [""]
            image, env, entry, command = stages.get(words[0], (expand(words[0], env), env, [], []))
            name, env = words[2] if len(words) > 2 else "", dict(env)
        elif keyword in ("ENV", "ARG"):
            words = _located(_split(rest), parts, start)
            given = _assigned(words) or (_assigned([(f"{words[0][0]}={words[1][0]}", start)]) if len(words) == 2 else None) or {}
            env |= {n: Option(expand(str(o.value), env)[:_LONGEST_VALUE], o.line) for n, o in given.items()}
        elif keyword in ("ENTRYPOINT", "CMD"):
            try:
                words = _located([str(w) for w in json.loads(rest if rest.startswith("[") else "")], parts, start)
            except ValueError:  # a line for the shell
                words = [("sh", start), ("-c", start), (rest, start)]
            entry, command = (words, []) if keyword == "ENTRYPOINT" else (entry, words)
        stages[name] = (image, env, entry, command)
    return found + _contained(image, entry + command, env)


def _contained(image: str, words: Words, env: Environment, facts: dict | None = None) -> list[Subject]:
    """The servers that a container starts."""
    whole = [x for word, at in words for x in _expanded(word, at, env)]
    script = _script(whole)
    if script is not None:
        inner = shell(script, env, next(at for w, at in whole if w == script), facts)
        if inner or not engine_of(image=image):
            return inner
    subject = launch(whole, env, facts, image)
    return [subject] if subject else []


def hcl(text: str, files: Reader | None = None) -> list[Subject]:
    """Servers in Terraform and Nomad: scripts that an instance runs first, and containers: the lists and maps beside an `image = "..."`."""
    found = shell(text, files=files)
    places = list(WORDS.hcl_image.finditer(text))
    for place in places:
        nearest = [abs(p.start() - place.start()) for p in places if p is not place]
        reach = min([1500, *(n // 2 for n in nearest)])
        before = max(0, place.start() - reach)
        block = text[before : place.end() + reach]
        words, env = [], {}
        for match in sorted(WORDS.hcl_list.finditer(block), key=lambda m: m[1] not in ("entrypoint", "entryPoint", "command")):
            at = text.count("\n", 0, before + match.start(2)) + 1
            words += _located(re.findall(r'"((?:[^"\\]|\\.)*)"', match[2]), match[2].splitlines(), at)
        for match in WORDS.hcl_pair.finditer(block):
            at = text.count("\n", 0, before + match.start()) + 1
            env[match[1] or match[3]] = Option(match[2] or match[4], at)
        found += _contained(place[1], words, env)
    return found


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
    """TOML, properties and Triton's pbtxt: each section's `name = value` as a mapping, and commands among the values."""
    facts, found = _file_facts(unit), []
    subject = Subject("config", "", 1, facts=dict(facts))
    for number, line in enumerate(unit.text.splitlines(), start=1):
        if line.startswith("["):
            found.append(subject)
            subject = Subject("config", "", number, facts=dict(facts))
        elif match := re.match(r"\s*([\w.\-\"]+)\s*[=:]\s*(.+?)\s*$", line):
            value = match[2].strip().strip("\"'")
            subject.add(match[1].strip('"'), _typed(value), number)
            found += shell(value, first_line=number, facts=facts) if " " in value and WORDS.hint.search(value) else []
    return [s for s in [*found, subject] if s.place == "server" or _is_setting(s)]


def _typed(text: str) -> object:
    """The text of a value as bool, int, float or text."""
    value = text if re.fullmatch(r"0\d+|[\d.]*:.*|.*_.*", text) else yaml.safe_load(text) if re.fullmatch(r"[\w.+-]+", text) else text
    return value if isinstance(value, bool | int | float) else text


def _file_facts(unit: Unit) -> dict:
    """What a configuration as a whole states: the one card it names, training, another runtime, several cards."""
    is_limited = WORDS.limits.search(unit.text)
    return {
        "gpu": card_in_text(unit.text),
        "trains": bool(WORDS.training_settings.search(unit.text)),
        "other_runtime": bool(WORDS.other_runtime.search(unit.text)),
        "several_cards": bool(re.search(r"(?m)(tensor|pipeline)[-_]?parallel[-_]?(size|degree)\W+([2-9]|1\d)", unit.text, re.I)),
        "device": "cpu" if WORDS.names_cpu.search(unit.text) or (is_limited and not WORDS.names_gpu.search(unit.text)) else None,
        "benchmarks": bool(re.search(r"(?m)^\s*[\"']?(scenario|benchmark\w*|launcher)[\"']?\s*:", unit.text)),
    }


def _is_setting(subject: Subject) -> bool:
    """Complete a mapping's facts; whether it holds anything."""
    given = subject.options
    subject.engine = str(given["engine"].value) if "engine" in given else ""
    is_for_card = "gpu" in given and bool(subject.model)
    subject.facts["serves"] = bool(set(_KEYS["serving"]) & set(given) - {"gpu"}) or is_for_card or "option_model_id" in given
    subject.facts["parameters"] = bool(subject.model) and (
        bool({"hardware_platform", "generation_length", "sequence_length"} & set(subject.facts.get("keys", ())))
        or ("batch_size" in given and str(subject.get("quantization") or "") in strategies.STRATEGIES)
    )
    return bool(given)


def subjects(unit: Unit) -> list[Subject]:
    """What a file other than Python holds, by its kind. Raises Unreadable if it does not parse."""
    if unit.kind in ("config", "settings"):
        return Config(unit).subjects if unit.kind == "config" else key_values(unit)
    if unit.kind in ("dockerfile", "modelfile"):
        found = dockerfile(unit.text) if unit.kind == "dockerfile" else modelfile(unit.text)
    else:
        found = (hcl if unit.kind == "hcl" else shell)(unit.text, files=unit.environment)
    card = card_in_text(unit.text) if found else None
    for subject in found:
        subject.facts.setdefault("gpu", card)
    return found


class Config:
    """A JSON or YAML file as subjects. Raises Unreadable if it does not parse."""

    def __init__(self, unit: Unit):
        self.unit = unit
        is_json = unit.path.endswith(".json")
        if is_json:
            text = WORDS.surrogate.sub("?", unit.text.replace("\t", " "))
        else:  # without Helm's or Jinja's braces: a line of nothing else is dropped, others hold a place
            bare = ((line, WORDS.template.sub("", line)) for line in unit.text.split("\n"))
            text = "\n".join("" if b != line and not b.strip() else WORDS.template.sub("TEMPLATE", line) for line, b in bare)
        brackets = itertools.accumulate(1 if bracket in "[{" else -1 for bracket in re.findall(r"[\[\]{}]", text))
        runs = (len(re.match(r"[\s\-?]*", line).group()) // 2 for line in text.splitlines() if line[:1] in " -?")
        if max(0, *brackets, *runs, 0) > _MAX_DEPTH:
            raise Unreadable(f"nested deeper than {_MAX_DEPTH} levels")
        try:
            self.roots = [n for n in yaml.compose_all(text, Loader=_LOADER) if n is not None]
        except (yaml.YAMLError, RecursionError, ValueError) as error:
            raise Unreadable(f"does not parse as {'JSON' if is_json else 'YAML'}: {' '.join(str(error).split())[:120]}") from None
        self.taken: set[int] = set()
        self.variables = {n: Option(v, 1) for n, v in unit.environment(".env").items()}
        scalars = [(k.value, v.value) for n in self._nodes() for k, v in _pairs(n) if isinstance(v, yaml.ScalarNode)]
        named = {expand(v, {}) for k, v in scalars if canonical(k) in WORDS.model_places or (k == "name" and "/" in v)}
        self.facts = _file_facts(unit) | ({"model": named.pop()} if len(named) == 1 else {})

    def _nodes(self) -> Iterator[yaml.Node]:
        """Every node once, parents first; an anchor used many times is visited once."""
        stack, seen = list(reversed(self.roots)), set()
        while stack and len(seen) < _MAX_NODES:
            node = stack.pop()
            if id(node) not in seen:
                seen.add(id(node))
                yield node
                if not isinstance(node, yaml.ScalarNode):
                    stack += reversed([v for _, v in node.value] if isinstance(node, yaml.MappingNode) else node.value)

    @cached_property
    def subjects(self) -> list[Subject]:
        """Containers with all that belongs to them, then single command lines, then plain mappings."""
        found = []
        for node in self._nodes():
            if isinstance(node, yaml.MappingNode):
                made = self._container(node) if id(node) not in self.taken or _image(node) else []
                found += made or (self._plain(node) if id(node) not in self.taken else [])
            elif id(node) in self.taken:
                continue
            elif isinstance(node, yaml.ScalarNode) and " " in node.value and WORDS.hint.search(node.value):
                text = node.value.replace("\n", " ") if node.style == ">" else node.value
                found += shell(text, self.variables, node.start_mark.line + 1 + (node.style in ("|", ">")), self.facts)
            elif isinstance(node, yaml.SequenceNode) and node.value and all(isinstance(v, yaml.ScalarNode) for v in node.value):
                words = [(v.value, v.start_mark.line + 1) for v in node.value]
                if WORDS.hint.search(" ".join(w for w, _ in words)) and not any(" " in w for w, _ in words):
                    made = _contained("", words, self.variables, self.facts)
                    found += made
                    self.taken |= {id(v) for v in node.value} if made else set()
        return found

    def _plain(self, node: yaml.MappingNode) -> list[Subject]:
        """A mapping's own scalars as settings, variables of Ollama and llama.cpp as their server's; measured results are none."""
        pairs = _pairs(node)
        if any(WORDS.result.search(k.value) for k, _ in pairs):
            return []
        subject = Subject("config", "", node.start_mark.line + 1, facts=self.facts | {"keys": [k.value for k, _ in pairs]})
        exported = {}
        for key, value in pairs:
            if isinstance(value, yaml.ScalarNode):
                subject.add(key.value, _scalar(value), key.start_mark.line + 1)
                if key.value.startswith(("OLLAMA_", "LLAMA_ARG_")):
                    exported[key.value] = Option(_scalar(value), key.start_mark.line + 1)
            elif isinstance(value, yaml.SequenceNode) and len(value.value) > 1 and canonical(key.value) in ("gpu", "num_gpus"):
                subject.facts["several_cards"] = True
        if exported:
            return [launch([], exported, dict(self.facts), "ollama" if "OLLAMA_" in str(list(exported)) else "llama-cpp")]
        return [subject] if _is_setting(subject) else []

    def _container(self, node: yaml.MappingNode) -> list[Subject]:
        """The servers of a mapping that has an image, a command, or an engine's settings; empty if it is no container."""
        words, env, settings, inside = [], dict(self.variables), [], []
        self._gather(node, words, env, settings, inside, 0)
        keys = {k.value: v for k, v in _pairs(node)}
        has_engine = any(k.lower() in _ENGINE_SETTINGS and not isinstance(v, yaml.ScalarNode) for k, v in keys.items())
        named = keys.get("engine") if words else None
        image = _image(node) or ("vllm" if has_engine or ("modelFormat" in keys and words) else "")
        image = image or (named.value.lower() if isinstance(named, yaml.ScalarNode) else "")
        has_command = any(k.lower() in _WORDS for k in keys) and WORDS.hint.search(" ".join(w for w, _ in words))
        if not engine_of(image=image) and not has_command:
            return []
        expanded = {name: Option(expand(str(o.value), self.variables), o.line) for name, o in env.items()}
        found = _contained(image, words, expanded, dict(self.facts)) if words or expanded else []
        if not found and engine_of(image=image):
            found = [Subject("server", engine_of(image=image), node.start_mark.line + 1, facts=dict(self.facts))]
        for subject in found:
            for name, option in settings:
                if canonical(name) not in subject.options:
                    subject.add(name, option.value, option.line)
        self.taken |= {id(n) for n in [node, *inside]} if found else set()
        return found

    def _gather(self, node: yaml.MappingNode, words: Words, env: Environment, settings: list, inside: list, depth: int) -> None:
        """Collect a container's words, environment and settings from its mapping and those below it; other containers are left out."""
        for key, value in sorted(_pairs(node), key=lambda p: _WORDS.index(p[0].value.lower()) if p[0].value.lower() in _WORDS else -1):
            name, line = key.value.lower(), key.start_mark.line + 1
            if name in _KEYS["no_options"] or depth > 6 or any(x is value for x in inside[-200:]) or len(inside) > 5000:
                continue
            inside.append(value)
            is_list = isinstance(value, yaml.SequenceNode)
            items = value.value if is_list else [value]
            texts = [(v.value, v.start_mark.line + 1) for v in items if isinstance(v, yaml.ScalarNode)]
            inside += items if len(texts) == len(items) else []
            if name == "env_file" and texts:
                env |= {n: Option(v, line) for file, _ in texts for n, v in self.unit.environment(file).items()}
            elif name in _WORDS and isinstance(value, yaml.ScalarNode):
                is_script, at, text = value.style == "|", line + (value.style in ("|", ">")), value.value
                if not is_script or not WORDS.hint.search(text):
                    text = " ".join(x.strip().rstrip("\\") for x in text.splitlines())
                is_script |= "&&" in text or ";" in text
                words += [("sh", at), ("-c", at), (text, at)] if is_script else [(w, at) for w in _split(text)]
            elif is_list and len(texts) == len(items):
                if name in _ENVIRONMENT:
                    env |= {t.partition("=")[0]: Option(t.partition("=")[2], at) for t, at in texts}
                elif name in _WORDS or any(t.startswith("--") for t, _ in texts):
                    words += texts
            elif is_list:
                for item in (v for v in items if isinstance(v, yaml.MappingNode) and not _image(v)):
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


def _pairs(node: yaml.Node) -> list[tuple[yaml.ScalarNode, yaml.Node]]:
    """The entries of a mapping whose keys are scalars; `<<` brings in the mapping it names, which own keys override."""
    every = [(k, v) for k, v in node.value if isinstance(k, yaml.ScalarNode)] if isinstance(node, yaml.MappingNode) else []
    own = [(k, v) for k, v in every if k.value != "<<"]
    names, merged = {k.value for k, _ in own}, [v for k, v in every if k.value == "<<"]
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


def _scalar(node: yaml.ScalarNode) -> object:
    """A scalar as bool, int, float, None or text, by the tag YAML gives it."""
    kind = node.tag.rpartition(":")[2]
    if kind == "null":
        return None
    if kind == "bool":
        return node.value.lower() in ("true", "yes", "on")
    return _typed(node.value) if kind in ("int", "float") else expand(node.value, {})
