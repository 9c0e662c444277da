"""Every rule hits its examples and leaves the others alone; severities follow from numbers checked here by hand; and what the audit
must leave alone or name without a number, each case a class seen in published packages."""

import ast
from pathlib import Path

import pytest

from eai import catalog, paths, tables
from eai.audit import commands as report
from eai.audit.checks import CHECKS
from eai.audit.evidence import Evidence, Waste, fp32_weights, no_cache, reload_each_time, severity, spilled
from eai.audit.run import findings_of, rules
from eai.audit.subjects import Unit
from eai.audit.values import Values

SUFFIX = {"python": "py", "config": "yaml", "shell": "sh"}
NAMES = {
    "python": ("code.py", "python"),
    "sh": ("run.sh", "shell"),
    "yaml": ("config.yaml", "config"),
    "pbtxt": ("config.pbtxt", "settings"),
    "json": ("config.json", "config"),
    "dockerfile": ("Dockerfile", "dockerfile"),
    "modelfile": ("Modelfile", "modelfile"),
}


@pytest.fixture(scope="module")
def evidence():
    return Evidence()


def found(text: str, evidence, kind: str = "python") -> list:
    return findings_of(Unit(f"code.{SUFFIX[kind]}", kind, text), evidence)


def slugs(text: str, evidence, kind: str = "python") -> list[str]:
    return [f.rule for f in found(text, evidence, kind)]


EXAMPLES = [
    (rule, says, kind, code) for rule in rules() for says in ("hit", "miss") for e in getattr(rule, says) for kind, code in e.items()
]


def test_there_are_rules_for_every_kind_of_file():
    assert len(rules()) >= 35 and {kind for _, _, kind, _ in EXAMPLES} == set(NAMES)
    assert {rule.ids["code"] for rule in rules() if "code" in rule.ids} == set(CHECKS)


@pytest.mark.parametrize(
    ("rule", "says", "kind", "code"), EXAMPLES, ids=[f"{next(iter(r.ids.values()))}-{s}-{k}{i}" for i, (r, s, k, _) in enumerate(EXAMPLES)]
)
def test_a_rule_hits_its_examples_and_misses_the_others(rule, says, kind, code, evidence):
    name, unit_kind = NAMES[kind]
    hits = [f for f in findings_of(Unit(name, unit_kind, code), evidence) if f.rule in rule.ids.values()]
    assert len(hits) == (says == "hit")
    assert all(1 <= f.line <= code.count("\n") + 1 and f.fix and f.message and "{" not in f.message for f in hits)


@pytest.mark.parametrize("rule", rules(), ids=lambda r: next(iter(r.ids.values())))
def test_every_name_of_a_rule_has_an_example_and_every_rule_a_reason(rule, evidence):
    seen = {
        f.rule for r, says, kind, code in EXAMPLES if r is rule and says == "hit" for f in findings_of(Unit(*NAMES[kind], code), evidence)
    }
    assert set(rule.ids.values()) <= seen and rule.miss
    assert len(rule.why.split()) > 8


def test_the_page_of_rules_is_the_one_in_the_repository():
    page = Path(paths.ROOT / "docs" / "audit-rules.md").read_text()
    assert page == report.rules_page(), "write it again: python -m eai.audit.commands > docs/audit-rules.md"


@pytest.mark.parametrize(
    ("value", "expected"), [(31, "critical"), (30, "warning"), (10, "warning"), (9.9, "info"), (-5, "info"), (None, "info")]
)
def test_severity_is_computed_from_the_waste(value, expected):
    waste = None if value is None else Waste(value, value, value, "published", "")
    assert severity(waste) == expected


def test_waste_of_default_int8_is_that_of_the_published_rows(evidence):
    """By hand: A800, Mistral-7B-v0.1: 169.03 W / 37.68 tok/s against 104.22 W / 10.24 tok/s; RTX 4090D, Qwen2.5-7B, gross."""
    waste = evidence.quantization("int8_default", "fp16")
    a800 = 100 * (1 - (169.03 / 37.68) / (104.22 / 10.24))
    qwen_4090d = 100 * (1 - (213.45 / 37.64) / (75.94 / 9.56))
    assert waste.low == pytest.approx(qwen_4090d, abs=0.1)
    assert waste.low < a800 < waste.high
    assert severity(waste) == "critical"
    assert any("qwen2.5-7b-instruct int8_default on rtx4090d" in row for row in waste.rows)


def test_waste_of_4_bit_on_small_models_is_a_warning_and_on_large_ones_nothing(evidence):
    small, all_sizes = evidence.quantization("nf4", "fp16", 3.5), evidence.quantization("nf4", "fp16")
    assert severity(small) == "warning"
    assert small.low < small.value < small.high
    assert severity(all_sizes) == "info"


def test_waste_of_batch_1_grows_with_what_could_share_a_batch(evidence):
    """By hand, A800 sweep: 131.02 W / 18.97 tok/s at batch 1, 137.70 W / 37.72 tok/s at batch 2."""
    assert evidence.batch_1(2).value == pytest.approx(100 * (1 - (137.70 / 37.72) / (131.02 / 18.97)), abs=2)
    assert evidence.batch_1(1) is None
    assert evidence.batch_1(3).value < evidence.batch_1(8).value <= evidence.batch_1().value < 100
    assert evidence.batch_1(1000) == evidence.batch_1()


def test_computed_wastes_follow_from_bytes_and_flops():
    assert fp32_weights().value == pytest.approx(50, abs=1)
    assert no_cache(1) is None
    assert no_cache(16).value < no_cache(256).value < no_cache(2048).value < 100
    share = reload_each_time()
    seconds_gb = 0.35 / 2
    assert share.value == pytest.approx(100 * seconds_gb / (seconds_gb + 256 / 2039), rel=1e-6)
    assert share.low < share.value < share.high


@pytest.mark.parametrize(
    "text",
    [
        "config = dict(load_in_8bit=True)\nmodel = AutoModelForCausalLM.from_pretrained(name, **config)",
        "c = {}\nc['load_in_8bit'] = True\nmodel = AutoModelForCausalLM.from_pretrained(name, **c)",
        "q = BitsAndBytesConfig(load_in_8bit=True)\nmodel = AutoModelForCausalLM.from_pretrained(name, quantization_config=q)",
        "p.add_argument('--q', default=True)\nargs = p.parse_args()\nm = AutoModelForCausalLM.from_pretrained(n, load_in_8bit=args.q)",
        "EIGHT = True\ndef load(n):\n    return AutoModelForCausalLM.from_pretrained(n, load_in_8bit=EIGHT)",
        "def load(n, load_in_8bit=True):\n    return AutoModelForCausalLM.from_pretrained(n, load_in_8bit=load_in_8bit)",
        "pipe = pipeline('text-generation', model=n, model_kwargs={'load_in_8bit': True})",
    ],
)
def test_values_are_followed_to_the_flag(text, evidence):
    assert slugs("from transformers import *\n" + text, evidence) == ["int8-default-threshold"]


@pytest.mark.parametrize(
    "text",
    [
        "model = AutoModelForCausalLM.from_pretrained(name, load_in_8bit=flag)",
        "if big:\n    eight = True\nelse:\n    eight = False\nmodel = AutoModelForCausalLM.from_pretrained(name, load_in_8bit=eight)",
        "p.add_argument('--q', action='store_true')\nargs = p.parse_args()\nm = AutoModel.from_pretrained(n, load_in_8bit=args.q)",
        "q = BitsAndBytesConfig(load_in_8bit=True, **settings)",
        "q = BitsAndBytesConfig(load_in_8bit=True)\nmodel = prepare_model_for_kbit_training(model)",
        "def show(load_in_8bit=True):\n    print(load_in_8bit)",
    ],
)
def test_what_cannot_be_known_is_not_guessed(text, evidence):
    assert set(slugs("from transformers import *\n" + text, evidence)) <= {"quantization-not-known"}


def test_a_model_that_does_not_fit_is_judged_by_what_it_spills(evidence):
    config = "engine: vllm\nmodel: meta-llama/Meta-Llama-3-70B-Instruct\ngpu: {}\nload_in_4bit: {}\n"
    assert "model-exceeds-gpu" in slugs(config.format("RTX 4090", "true"), evidence, "config")
    assert "model-exceeds-gpu" not in slugs(config.format("L40S", "true"), evidence, "config")
    assert "model-exceeds-gpu" not in slugs(config.format("RTX 4090", "true") + "tensor_parallel_size: 2\n", evidence, "config")
    gpu = catalog.gpu("rtx4090")
    half = spilled(50, 25, gpu)
    assert half.value == pytest.approx(100 * (1 - (1 / 1008) / (0.5 / 1008 + 0.7 * 0.5 / 25)), rel=1e-9)
    assert half.low < half.value < half.high and spilled(26, 25, gpu).value < half.value


LOOP = "from transformers import *\nfor {target} in {items}:\n    x = tokenizer({item}, return_tensors='pt')\n    y = model.generate(**x)\n"


@pytest.mark.parametrize(
    ("target", "items", "item", "hit"),
    [
        ("prompt", "prompts", "prompt", True),
        ("row", "dataset", "row['text']", True),
        ("i", "range(len(prompts))", "prompts[i]", True),
        ("i, q", "enumerate(questions)", "f'Q: {q}'", True),
        ("q", "['a', 'b', 'c', 'd']", "q", True),
        ("q", "['only one']", "q", False),
        ("batch", "loader", "batch", False),
        ("part", "batches", "part", False),
        ("i", "range(0, n, 8)", "prompts[i:i + 8]", False),
        ("run", "range(10)", "prompts", False),
    ],
)
def test_loops_over_single_prompts_are_told_from_batches(target, items, item, hit, evidence):
    assert ("batch-1-loop" in slugs(LOOP.format(target=target, items=items, item=item), evidence)) is hit


def test_a_loop_that_calls_a_single_prompt_function_is_found(evidence):
    text = """
from transformers import AutoModelForCausalLM
def ask(prompt):
    inputs = tokenizer(prompt, return_tensors="pt")
    return model.generate(**inputs)
answers = [ask(q) for q in questions]
while True:
    print(ask(input()))
"""
    assert [(f.rule, f.line) for f in found(text, evidence)] == [("batch-1-loop", 6)]


def test_a_pipeline_and_an_engine_in_a_loop_are_found(evidence):
    pipe = "from transformers import pipeline\np = pipeline('text-generation', model=m)\nfor t in texts:\n    p(t)\n"
    engine = "from vllm import LLM\nllm = LLM(model=m)\nfor t in texts:\n    llm.generate(t)\n"
    assert slugs(pipe, evidence) == slugs(engine, evidence) == ["batch-1-loop"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("vllm serve Qwen/Qwen2-1.5B --quantization bitsandbytes", ["server-4bit-small-model"]),
        ("vllm serve x/Foo-7B \\\n  --dtype=float32 \\\n  --max-num-seqs=1", ["server-fp32", "server-one-sequence"]),
        ("# vllm serve x/Foo-7B --dtype float32", []),
        ("FROM ollama/ollama\nENV OLLAMA_NUM_PARALLEL=1", ["server-one-sequence"]),
        ("llama-server -m model.gguf -ngl 0", ["server-cpu-offload"]),
        ("nvidia-smi --query-gpu=power.draw --format=csv --loop=1", ["power-log-slow"]),
        ("nvidia-smi -l 1", []),
    ],
)
def test_command_lines(text, expected, evidence):
    assert slugs(text, evidence, "shell") == expected


def test_commands_inside_compose_files_and_code_are_read(evidence):
    compose = "services:\n  llm:\n    command: vllm serve x/Foo-7B --dtype float32\n"
    compose += "  tgi:\n    command: [text-generation-launcher, --quantize, bitsandbytes]\n"
    assert [(f.rule, f.line) for f in found(compose, evidence, "config")] == [("server-fp32", 3), ("server-int8-default", 5)]
    code = "import subprocess\nsubprocess.run(['nvidia-smi', '--query-gpu=power.draw', '-l', '1'])\n"
    assert slugs(code, evidence) == ["power-log-slow"]


def test_training_is_left_alone(evidence):
    config = "model: Qwen/Qwen2-1.5B\nload_in_4bit: true\nload_in_8bit: true\nlearning_rate: 1e-4\n"
    assert slugs(config, evidence, "config") == []


def test_without_published_rows_no_number_is_invented():
    empty = Evidence(tables.read_published("ecocompute_measurements").iloc[:0])
    hits = found("from transformers import BitsAndBytesConfig\nc = BitsAndBytesConfig(load_in_8bit=True)", empty)
    assert [(h.rule, h.waste) for h in hits] == [("int8-default-threshold", None)]
    assert hits[0].to_json()["severity"] == "info"


HEAD = "import torch\nfrom transformers import *\n"
MODULE = """
class Encoder:
    def __init__(self):
        self.net = AutoModel.from_pretrained("a/b")

    def forward(self, x):
        return self.net(x)
"""
ONE_BY_ONE = "for q in questions:\n    x = tokenizer(q, return_tensors='pt')\n    y = model.generate(**x)\n"


def seen(text: str, evidence, name: str = "code.py", kind: str = "python") -> list[tuple[str, str]]:
    return [(f.rule, severity(f.waste)) for f in findings_of(Unit(name, kind, text), evidence)]


@pytest.mark.parametrize(
    "text",
    [
        "def load(kind):\n    if kind == '8bit':\n        return BitsAndBytesConfig(load_in_8bit=True)\n",
        "q = BitsAndBytesConfig(load_in_8bit=True) if eight else None\n",
        "TABLE = {'int8': BitsAndBytesConfig(load_in_8bit=True), 'none': dict()}\n",
        "match kind:\n    case 'int8':\n        q = BitsAndBytesConfig(load_in_8bit=True)\n",
        "def _int8():\n    return BitsAndBytesConfig(load_in_8bit=True)\nMAKERS = [_int8]\n",
    ],
)
def test_an_option_that_the_file_does_not_decide_has_no_number(text, evidence):
    assert seen(HEAD + text, evidence) == [("int8-default-threshold", "info")]


@pytest.mark.parametrize(
    "text",
    [
        "if torch.cuda.is_available():\n    q = BitsAndBytesConfig(load_in_8bit=True)\n",
        "if __name__ == '__main__':\n    q = BitsAndBytesConfig(load_in_8bit=True)\n",
        "KIND = '8bit'\nif KIND == '8bit':\n    q = BitsAndBytesConfig(load_in_8bit=True)\n",
        "def make():\n    return BitsAndBytesConfig(load_in_8bit=True)\nq = make()\n",
        "m = AutoModel.from_pretrained(n, **{'quantization_config': BitsAndBytesConfig(load_in_8bit=True), 'device_map': 'auto'})\n",
    ],
)
def test_a_branch_that_is_taken_keeps_its_number(text, evidence):
    assert seen(HEAD + text, evidence) == [("int8-default-threshold", "critical")]


def test_a_few_samples_generated_while_training_have_no_number(evidence):
    assert seen(HEAD + "trainer = RewardTrainer(model)\n" + ONE_BY_ONE, evidence) == [("batch-1-loop", "info")]
    assert seen(HEAD + "class Mine(Trainer):\n    pass\n" + ONE_BY_ONE, evidence) == [("batch-1-loop", "info")]
    assert seen(HEAD + ONE_BY_ONE, evidence) == [("batch-1-loop", "critical")]


def test_tests_and_calibration_are_no_waste(evidence):
    test = HEAD + "def test_int8():\n    q = BitsAndBytesConfig(load_in_8bit=True)\n"
    assert seen(test, evidence, "test_int8.py") == seen(test, evidence, "pkg/tests/int8.py") == [("int8-default-threshold", "info")]
    assert seen(test, evidence, "int8.py") == [("int8-default-threshold", "critical")]
    assert seen(HEAD + "q = BitsAndBytesConfig(load_in_8bit=True)\n", evidence, "test_drive.py") == [("int8-default-threshold", "critical")]
    assert seen(HEAD + "def collect():\n" + _indented(ONE_BY_ONE.replace("questions", "calibration_data")), evidence) == []


def _indented(text: str) -> str:
    """The lines of a text, four spaces further in."""
    return "".join(f"    {line}\n" for line in text.splitlines())


@pytest.mark.parametrize(
    "text",
    [
        "model = wrap(AutoModelForCausalLM.from_pretrained('a/b'))\nmodel(prompt)\n",
        "model = OVModelForCausalLM.from_pretrained('a/b')\nmodel(**x)\n",
        MODULE,
        "encoder_config.use_cache = False\nmodel = AutoModel.from_pretrained('a/b')\nmodel.generate(x)\n",
        "t = CLIPTokenizer.from_pretrained('a/b')\nmodel.generate(**t(texts, padding='max_length'))\n",
    ],
)
def test_wrappers_other_runtimes_and_fixed_lengths_are_left_alone(text, evidence):
    assert seen(HEAD + text, evidence) == []


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("model = AutoModel.from_pretrained('a/b').float().cuda()\n", "fp32-on-gpu"),
        ("model = AutoModel.from_pretrained('a/b')\nmodel.config.use_cache = False\nmodel.generate(x)\n", "kv-cache-off"),
        ("g = GenerationConfig(use_cache=False)\nmodel.generate(x, generation_config=g)\n", "kv-cache-off"),
        ("k = {'max_new_tokens': 64}\nk.update(use_cache=False)\nmodel.generate(x, **k)\n", "kv-cache-off"),
        ("p = pipeline('text-generation', model='a/b')\nt['y'] = t['x'].apply(lambda x: p(x))\n", "batch-1-loop"),
        ("@app.post('/x')\ndef f(t):\n    p = pipeline('text-generation', model='a/b')\n    return p(t)\n", "model-reloaded-in-loop"),
        (
            "def f(t):\n    p = pipeline('text-generation', model='a/b')\n    return p(t)\nfor t in ts:\n    f(t)\n",
            "model-reloaded-in-loop",
        ),
    ],
)
def test_waste_is_found_through_chains_configurations_and_calls(text, rule, evidence):
    assert (rule, "critical") in seen(HEAD + text, evidence)


def test_one_string_is_told_by_its_annotation_or_form(evidence):
    text = HEAD + "p = pipeline('text-generation', model='a/b', batch_size=8)\ndef f(q{}):\n    return p({})\n"
    found = [bool(seen(text.format(*part), evidence)) for part in ((": str", "q"), (": list", "q"), ("", "q"), ("", "f'Q: {q}'"))]
    assert found == [True, False, False, True]


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("for f in *.txt; do\n  llama-cli -m m.gguf -ngl 99 -f $f\ndone", "server-reloads-model"),
        ("llama-server -m m.gguf --parallel 1", "server-one-sequence"),
    ],
)
def test_local_servers(text, rule, evidence):
    assert [r for r, _ in seen(text, evidence, "run.sh", "shell")] == [rule]


def test_a_command_after_a_loop_is_not_in_it(evidence):
    assert seen("for f in *; do\n  echo $f\ndone\nllama-cli -m m.gguf -ngl 99", evidence, "run.sh", "shell") == []


@pytest.mark.parametrize(
    ("code", "value"),
    [
        ("a = {'x': 1}\nx = {**a, 'y': 2}", {"x": 1, "y": 2}),
        ("a = {'x': 1}\nx = dict(a, y=2)", {"x": 1, "y": 2}),
        ("a = {'x': 1}\nx = a.copy()", {"x": 1}),
        ("a = {'x': 1}\nx = a | {'y': 2}", {"x": 1, "y": 2}),
        ("n = 7\nx = f'm-{n}B'", "m-7B"),
        ("a = 'org/'\nx = a + 'm'", "org/m"),
        ("d = {'k': 'v'}\nk = 'k'\nx = d[k]", "v"),
        ("import torch\nx = getattr(torch, 'float16')", "torch.float16"),
        ("a = 'b'\nx = a == 'b'", True),
    ],
)
def test_expressions_are_worth_what_python_says(code, value):
    values = Values(ast.parse(code))
    assert values.resolve(values.nodes[0].body[-1].value) == value


def test_turns_that_need_each_other_are_no_batch(evidence):
    turns = "messages = []\nfor turn in range(8):\n    x = tokenizer(messages, str(turn))\n    y = model.generate(**x)\n"
    turns = turns.replace("tokenizer(messages, str(turn))", "tokenizer(f'{messages} {turn}')")
    assert seen(HEAD + turns, evidence) == [("batch-1-loop", "critical")]
    assert seen(HEAD + turns + "    messages.append(tokenizer.decode(y[0]))\n", evidence) == []
    assert seen(HEAD + turns + "    messages += [tokenizer.decode(y[0])]\n", evidence) == []
    conversations = "for chat in chats:\n" + _indented(turns.replace("{turn}", "{chat}") + "    messages.append(y)\n")
    assert seen(HEAD + conversations, evidence) == [("batch-1-loop", "critical")]


def test_a_batch_filled_in_a_loop_is_a_batch(evidence):
    text = "from vllm import LLM\nllm = LLM('a/b')\nfor row in rows:\n    held.append(row)\n    if len(held) == 8:\n"
    assert seen(text + "        texts = [ask(r) for r in held]\n        llm.generate(texts)\n", evidence) == []
    assert seen(text + "        text = ask(row)\n        llm.generate(text)\n", evidence) == [("batch-1-loop", "critical")]


def test_warming_up_is_no_work(evidence):
    assert seen(HEAD + ONE_BY_ONE.replace("questions", "WARMUP_PROMPTS"), evidence) == []


def test_the_last_of_several_returns_is_an_option(evidence):
    text = "def config(four):\n    if four:\n        return None\n    return BitsAndBytesConfig(load_in_8bit=True)\nq = config(x)\n"
    assert seen(HEAD + text, evidence) == [("int8-default-threshold", "info")]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (
            "def ask(q):\n    x = tokenizer(q)\n    return model.generate(**x, max_new_tokens=1)\nfor q in qs:\n    ask(q)\n",
            [("batch-1-loop", "info")],
        ),
        (
            "class A:\n    def ask(self, q):\n        x = tokenizer(q)\n        return model.generate(**x)\n"
            "class B:\n    def ask(self, q):\n        return q\n    def all(self, qs):\n        return [self.ask(q) for q in qs]\n",
            [],
        ),
        ("def count(r, t):\n    n_tokens = r if r is not None and r.usage else len(t.split())\n    return n_tokens\n", []),
        ("def f():\n    # a rough estimate\n    n_tokens = len(t.split())\n", []),
        ("class MockModel:\n    def f(self, t):\n        input_tokens = len(t.split())\n", []),
        ("def f(use_cache=False):\n    return model.generate(**x, use_cache=use_cache, max_new_tokens=9)\n", [("kv-cache-off", "info")]),
        (
            "def f(use_cache=False):\n    return model.generate(**x, use_cache=use_cache, max_new_tokens=9)\nf()\n",
            [("kv-cache-off", "critical")],
        ),
        ("from vllm import LLM\nllm = LLM('a/b')\ngs = [llm.generate(p, request_id=str(i)) for i, p in enumerate(ps)]\n", []),
        ("for chunk in model.generate(**tokenizer(chunk)):\n    print(chunk)\n", []),
    ],
)
def test_what_a_reading_of_more_packages_taught(text, found, evidence):
    assert seen(HEAD + text, evidence) == found


def test_waiting_for_a_card_measures_no_energy(evidence):
    text = "import pynvml, time\nwhile True:\n    w = pynvml.nvmlDeviceGetPowerUsage(h)\n    {}\n    time.sleep(10)\n"
    assert seen(text.format("print(w)"), evidence) == []
    assert [r for r, _ in seen(text.format("total += w"), evidence)] == ["power-sampled-slowly"]


def test_other_runtimes_eight_bit_weights_are_not_llm_int8(evidence):
    config = "backend: {}\nmodel: org/Foo-7B\nload_in_8bit: true\n"
    assert seen(config.format("openvino"), evidence, "c.yaml", "config") == []
    assert seen(config.format("transformers"), evidence, "c.yaml", "config") == [("config-int8-default", "critical")]


def test_a_data_type_that_callers_choose_is_an_option(evidence):
    text = "import torch\nfrom transformers import AutoModelForCausalLM\ndef load(name, dtype=torch.float32):\n"
    text += "    model = AutoModelForCausalLM.from_pretrained(name, dtype=dtype, device_map='cuda')\n    return model, 1\n"
    assert seen(text, evidence) == [("fp32-on-gpu", "info")]
    assert seen(text + "model, _ = load('a/b')\n", evidence) == [("fp32-on-gpu", "critical")]
    assert seen(text.replace("dtype=dtype", "dtype=torch.float32"), evidence) == [("fp32-on-gpu", "critical")]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("if many:\n    go(prompts)\nelse:\n" + "    " + ONE_BY_ONE.replace("\n    ", "\n        "), [("batch-1-loop", "info")]),
        (ONE_BY_ONE.replace("**x", "**x, max_new_tokens=1"), [("batch-1-loop", "info")]),
        ("if fast and torch.cuda.is_available():\n    q = BitsAndBytesConfig(load_in_8bit=True)\n", [("int8-default-threshold", "info")]),
        ("m = AutoModelForCausalLM.from_pretrained(n).to('cuda')\nm = m.to(dtype)\nm.generate(input_ids=x, max_new_tokens=2)\n", []),
        ("import requests\nfor t in ts:\n    requests.post('http://localhost:1/api/embeddings', json={'prompt': t})\n", []),
        ("from PIL import Image\n" + ONE_BY_ONE, [("batch-1-loop", "info")]),
        ("base = load()\np = pipeline('text-generation', model=base, device=0)\np(['a', 'b'])\n", []),
        ("app = Flask('x')\n@app.post('/x')\nasync def f(r):\n    return await server.generate(r.prompt)\n", []),
        ("app = Flask('x')\n@app.post('/x')\nasync def f(r):\n    async for x in server.generate(r.prompt):\n        y = x\n", []),
    ],
)
def test_what_reading_public_packages_taught(text, found, evidence):
    assert seen(HEAD + text, evidence) == found


@pytest.mark.parametrize(("count", "missed"), [("len(t.split())", 25), ("int(len(t.split()) * 1.2)", 10), ("len(t.split()) / 0.75", 0)])
def test_words_for_tokens_err_by_the_rule_of_thumb(count, missed, evidence):
    """0.75 words a token: without a factor a quarter of the tokens is missed, with 1.2 a tenth, with 4/3 none."""
    waste = found(HEAD + f"num_tokens = {count}\n", evidence)[0].waste
    assert waste.value == pytest.approx(missed, abs=1e-9) and waste.unit == "% of the figure" and waste.low <= waste.value <= waste.high


PIVOT = """out = text
for tokenizer, model in steps:
    y = model.generate(**tokenizer([out], return_tensors="pt"), max_length=100)
    out = tokenizer.decode(y[0])
"""
ASK = "def ask(q):\n    x = tokenizer(q, return_tensors='pt')\n    return model.generate(**x, max_new_tokens=9)\n"
POWER = "import pynvml\ndef watts():\n    return pynvml.nvmlDeviceGetPowerUsage(h) / 1000\ndef run():\n"
WAIT = "import pynvml\nwhile on:\n    rows.append(pynvml.nvmlDeviceGetPowerUsage(h))\n    stop.wait(timeout={})\n"
PIPE = "pipe = pipeline('summarization', model='org/m', device=0, dtype='auto')\npipe({})\n"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (PIVOT, []),  # the last turn's answer is the next turn's prompt
        (PIVOT.replace("    out =", "    other ="), []),  # one fixed prompt, several models
        (ASK + "table['a'] = table['q'].apply(ask)\n", [("batch-1-loop", "critical")]),
        (ASK + "table['a'] = table['q'].map(ask, batched=True)\n", []),
        ("def bench(ps):\n" + _indented(ONE_BY_ONE.replace("questions", "ps")), [("batch-1-loop", "info")]),
        ("m = [{'type': 'audio', 'url': u}]\n" + ONE_BY_ONE, [("batch-1-loop", "info")]),
        (
            "app = FastAPI()\n@app.post('/say')\ndef speech(q):\n    return model.generate(**tokenizer(q))\n",
            [("endpoint-one-prompt", "info")],
        ),
        (POWER + "    a = watts()\n    model.generate(x)\n    return (a + watts()) / 2\n", [("power-read-after-work", "critical")]),
        (POWER + "    a = watts()\n    model.generate(x)\n    return a\n", []),
        ("n_tokens = len(text.split())\n", [("tokens-counted-as-words", "warning")]),
        ("text = render_dummy_text(9)\nn_tokens = len(text.split())\n", []),  # a simulated server
        (WAIT.format(2), [("power-sampled-slowly", "info")]),
        (WAIT.format(0.1), []),
        (PIPE.format("dataset['article']"), [("batch-1-loop", "critical")]),
        (PIPE.format("texts, batch_size=1"), [("batch-1-loop", "critical")]),
        (PIPE.format("texts, batch_size=8"), []),
        (PIPE.format("text"), []),
    ],
)
def test_what_reading_public_repositories_taught(text, found, evidence):
    assert seen(HEAD + text, evidence) == found


def test_a_file_called_a_benchmark_measures_one_stream_on_purpose(evidence):
    assert seen(HEAD + ONE_BY_ONE, evidence, "localbenchmark.py") == [("batch-1-loop", "info")]
    assert seen(HEAD + ONE_BY_ONE, evidence, "workbook.py") == [("batch-1-loop", "critical")]


def test_a_function_given_to_apply_waits_for_a_local_server(evidence):
    text = "from openai import OpenAI\nc = OpenAI(base_url='http://localhost:8000/v1')\ndef ask(q):\n"
    text += "    return c.chat.completions.create(model='m', messages=[{'role': 'user', 'content': q}])\na = table['q'].apply(ask)\n"
    assert seen(text, evidence) == [("requests-in-sequence", "critical")]
    assert seen(text.replace("localhost", "api.example.org"), evidence) == []
