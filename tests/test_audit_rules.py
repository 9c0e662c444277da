"""Every rule hits its own example and leaves the other alone; severities follow from numbers that are checked here by hand."""

from pathlib import Path

import pytest

from eai import catalog, paths, tables
from eai.audit import report
from eai.audit.checks import CHECKS
from eai.audit.evidence import Evidence, Waste, fp32_weights, no_cache, reload_each_time, severity, spilled
from eai.audit.files import Unit
from eai.audit.run import findings_of, rules

SUFFIX = {"python": "py", "config": "yaml", "shell": "sh"}
NAMES = {
    "python": ("code.py", "python"),
    "sh": ("run.sh", "shell"),
    "yaml": ("config.yaml", "config"),
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
    assert page == report.rules_page(), "write it again: python -m eai.audit.report > docs/audit-rules.md"


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


def test_what_cannot_be_known_is_said(evidence):
    text = "from transformers import *\nm = AutoModelForCausalLM.from_pretrained(name, load_in_4bit=True)"
    assert [(f.rule, f.line, f.waste) for f in found(text, evidence)] == [("quantization-not-known", 2, None)]


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
