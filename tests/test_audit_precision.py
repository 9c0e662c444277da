"""What the audit must leave alone or name without a number, and what it must find: each case a class seen in published packages."""

import ast

import pytest

from eai.audit.evidence import Evidence, severity
from eai.audit.files import Unit
from eai.audit.run import findings_of
from eai.audit.values import Values

HEAD = "import torch\nfrom transformers import *\n"
MODULE = """
class Encoder:
    def __init__(self):
        self.net = AutoModel.from_pretrained("a/b")

    def forward(self, x):
        return self.net(x)
"""
LOOP = "for q in questions:\n    x = tokenizer(q, return_tensors='pt')\n    y = model.generate(**x)\n"


@pytest.fixture(scope="module")
def evidence():
    return Evidence()


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
    assert seen(HEAD + "trainer = RewardTrainer(model)\n" + LOOP, evidence) == [("batch-1-loop", "info")]
    assert seen(HEAD + "class Mine(Trainer):\n    pass\n" + LOOP, evidence) == [("batch-1-loop", "info")]
    assert seen(HEAD + LOOP, evidence) == [("batch-1-loop", "critical")]


def test_tests_and_calibration_are_no_waste(evidence):
    test = HEAD + "def test_int8():\n    q = BitsAndBytesConfig(load_in_8bit=True)\n"
    assert seen(test, evidence, "test_int8.py") == seen(test, evidence, "pkg/tests/int8.py") == [("int8-default-threshold", "info")]
    assert seen(test, evidence, "int8.py") == [("int8-default-threshold", "critical")]
    assert seen(HEAD + "q = BitsAndBytesConfig(load_in_8bit=True)\n", evidence, "test_drive.py") == [("int8-default-threshold", "critical")]
    assert seen(HEAD + "def collect():\n" + _indented(LOOP.replace("questions", "calibration_data")), evidence) == []


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
    assert seen(HEAD + LOOP.replace("questions", "WARMUP_PROMPTS"), evidence) == []


def test_the_last_of_several_returns_is_an_option(evidence):
    text = "def config(four):\n    if four:\n        return None\n    return BitsAndBytesConfig(load_in_8bit=True)\nq = config(x)\n"
    assert seen(HEAD + text, evidence) == [("int8-default-threshold", "info")]


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
