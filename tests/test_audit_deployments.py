"""Options of one server, however they are spread: compose, Kubernetes, Helm, Dockerfile, systemd, Ray Serve, shell, parameter files."""

import pytest

from eai import catalog, footprint
from eai.audit.evidence import Evidence, Waste, launches, many_cards, severity
from eai.audit.run import findings_of
from eai.audit.subjects import Subject, Unit, card, card_in_text

KINDS = {
    "compose.yaml": "config",
    "values.yaml": "config",
    "request.json": "config",
    "Dockerfile": "dockerfile",
    "run.sh": "shell",
    "llm.service": "shell",
    "Makefile": "shell",
    "serving.properties": "settings",
    "pyproject.toml": "settings",
    "main.tf": "hcl",
    "run.ps1": "shell",
}


@pytest.fixture(scope="module")
def evidence():
    return Evidence()


def found(name: str, text: str, evidence) -> list[tuple[str, int]]:
    return [(f.rule, f.line) for f in findings_of(Unit(name, KINDS[name], text), evidence)]


def slugs(name: str, text: str, evidence) -> set[str]:
    return {rule for rule, _ in found(name, text, evidence)}


BOTH = {"server-fp32", "server-one-sequence"}
SPREAD = {
    "image and folded command": (
        "compose.yaml",
        "services:\n  a:\n    image: vllm/vllm-openai:v1\n    command: >\n      --dtype float32\n      --max-num-seqs 1\n",
    ),
    "entrypoint and command": (
        "compose.yaml",
        "services:\n  a:\n    image: x\n    entrypoint: [python3, -m, vllm.entrypoints.openai.api_server]\n"
        "    command: [--dtype, float32, --max-num-seqs=1]\n",
    ),
    "merged from an anchor": (
        "compose.yaml",
        "x: &llm\n  image: vllm/vllm-openai\nservices:\n  a:\n    <<: *llm\n    command: --dtype float32 --max-num-seqs 1\n",
    ),
    "default of a variable": (
        "compose.yaml",
        "a:\n  image: vllm/vllm-openai\n  command: --dtype ${DTYPE:-float32} --max-num-seqs ${N:-1}\n",
    ),
    "a shell inside": (
        "compose.yaml",
        "a:\n  image: vllm/vllm-openai\n  command: [sh, -c, 'vllm serve x --dtype float32 --max-num-seqs 1']\n",
    ),
    "TGI's environment": (
        "compose.yaml",
        "a:\n  image: ghcr.io/huggingface/text-generation-inference\n  environment: {DTYPE: float32, MAX_BATCH_SIZE: 1}\n",
    ),
    "a pod": (
        "compose.yaml",
        "kind: Pod\nspec:\n  containers:\n  - image: vllm/vllm-openai\n    command: [vllm, serve]\n"
        "    args: [org/x, '--dtype=$(TYPE)', --max-num-seqs, '1']\n"
        "    env: [{name: TYPE, value: float32}]\n",
    ),
    "KServe": ("compose.yaml", "model:\n  modelFormat: {name: huggingface}\n  args: [--dtype=float32, --max-num-seqs=1]\n"),
    "a Helm template": (
        "compose.yaml",
        "{{- if .x }}\na:\n  image: {{ .Values.image }}\n  command: [vllm, serve]\n"
        "  args: [--dtype=float32, --max-num-seqs=1]\n{{- end }}\n",
    ),
    "Helm values": ("values.yaml", "image: {repository: r/vllm-openai}\nextraArgs: [--dtype=float32]\nvllmConfig: {maxNumSeqs: 1}\n"),
    "Ray Serve": (
        "values.yaml",
        "llm_configs:\n- model_loading_config: {model_id: m}\n  engine_kwargs: {dtype: float32, max_num_seqs: 1}\n",
    ),
    "exec form": ("Dockerfile", 'FROM vllm/vllm-openai:v1\nCMD ["--dtype", "float32", \\\n     "--max-num-seqs", "1"]\n'),
    "shell form, ENV, stages": (
        "Dockerfile",
        "FROM x AS base\nARG T=float32\nENV TYPE=${T} N=1\nFROM base\nENTRYPOINT python -m vllm.entrypoints.openai.api_server\n"
        "CMD --skipped\n"
        "ENTRYPOINT vllm serve m --dtype $TYPE --max-num-seqs $N\n",
    ),
    "systemd": (
        "llm.service",
        "[Service]\nEnvironment=T=float32\nExecStart=/opt/bin/vllm serve m \\\n  --dtype ${T} \\\n  --max-num-seqs 1\n",
    ),
    "docker run": (
        "run.sh",
        "IMG=vllm/vllm-openai:v1\ndocker run --gpus all -v $PWD/a:/b -p 1:2 vllm/vllm-openai:v1 --dtype float32 --max-num-seqs 1\n",
    ),
    "docker run -e": ("run.sh", "docker run -e DTYPE=float32 -e MAX_NUM_SEQS=1 runpod/worker-vllm:stable\n"),
    "array": (
        "run.sh",
        'A=(\n  --dtype float32\n  --max-num-seqs 1\n)\nCUDA_VISIBLE_DEVICES=0 nohup vllm serve m "${A[@]}" > log 2>&1 &\n',
    ),
    "make": ("Makefile", "N := 1\nserve:\n\tvllm serve $(MODEL) --dtype float32 --max-num-seqs $(N)\n"),
    "DJL": ("serving.properties", "option.model_id=org/m\noption.dtype=fp32\noption.max_rolling_batch_size=1\n"),
    "Terraform's container": (
        "main.tf",
        'resource "aws_ecs_task_definition" "t" {\n  container_definitions = jsonencode([{\n    name  = "tgi"\n'
        '    image = "ghcr.io/huggingface/text-generation-inference:2.0"\n    command = ["--dtype", "float32"]\n'
        '    environment = [{ name = "MAX_BATCH_SIZE", value = "1" }]\n  }])\n}\n',
    ),
    "Terraform's start-up script": (
        "main.tf",
        'resource "aws_instance" "t" {\n  user_data = <<-EOF\n    #!/bin/bash\n    docker run --gpus all vllm/vllm-openai:v1 \\\n'
        "      --dtype float32 --max-num-seqs 1\n  EOF\n}\n",
    ),
    "a Nomad job": (
        "main.tf",
        'task "a" {\n  config {\n    image = "vllm/vllm-openai:v1"\n'
        '    args = [\n      "--dtype=float32",\n      "--max-num-seqs=1",\n    ]\n  }\n}\n',
    ),
    "PowerShell": ("run.ps1", '$env:TYPE = "float32"\nvllm serve m `\n  --dtype $TYPE `\n  --max-num-seqs 1\n'),
    "PowerShell's class": (
        "run.ps1",
        '[Environment]::SetEnvironmentVariable("VLLM_ARGS", "--dtype float32 --max-num-seqs 1", "User")\n',
    ),
    "arguments in a variable": ("run.sh", 'docker run --gpus all -e VLLM_ARGS="--dtype float32 --max-num-seqs 1" org/vllm-demo:v0\n'),
    "arguments of a container": (
        "compose.yaml",
        "a:\n  image: vllm/vllm-openai\n  environment:\n  - VLLM_ARGS=--dtype float32 --max-num-seqs 1\n",
    ),
    "a server's name in a variable": ("run.sh", '"${VLLM_CMD[@]}" serve "$MODEL" --dtype float32 --max-num-seqs 1\n'),
    "KubeAI": ("compose.yaml", "spec:\n  url: hf://org/m\n  engine: VLLM\n  args: [--dtype=float32, --max-num-seqs=1]\n"),
    "an operator's own resource": (
        "compose.yaml",
        "spec:\n  contextWindow: 4096\n  engineArgs:\n  - --dtype=float32\n  - --max-num-seqs=1\n",
    ),
    "a task's command": ("pyproject.toml", '[tool.tasks]\nserve = "vllm serve m --dtype float32 --max-num-seqs 1"\n'),
}


@pytest.mark.parametrize("how", SPREAD)
def test_options_are_put_together_wherever_they_stand(how, evidence):
    name, text = SPREAD[how]
    wanted = {rule.replace("server-", "config-") for rule in BOTH} if how == "DJL" else BOTH
    assert slugs(name, text, evidence) == wanted


def test_each_option_has_its_own_line(evidence):
    pod = "spec:\n  containers:\n  - name: llm\n    image: vllm/vllm-openai\n    args:\n"
    pod += "    - --dtype=float32\n    - --max-num-seqs\n    - '1'\n"
    assert found("compose.yaml", pod, evidence) == [("server-fp32", 6), ("server-one-sequence", 7)]
    script = "vllm serve m \\\n  --port 1 \\\n  --dtype float32\n"
    assert found("run.sh", script, evidence) == [("server-fp32", 3)]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("compose.yaml", "a:\n  image: nginx\n  command: --dtype float32\nb:\n  image: vllm/vllm-openai\n"),
        ("compose.yaml", "a:\n  image: vllm/vllm-openai\n  environment: {DTYPE: float32}\n"),
        ("compose.yaml", "containers:\n- image: vllm/vllm-openai\n- image: proxy\n  args: [--max-num-seqs, '1']\n"),
        ("run.sh", "pip install vllm\necho vllm serve m --dtype float32\n# vllm serve m --dtype float32\nollama pull x\n"),
        ("run.sh", "docker build -t vllm --dtype float32 .\n"),
        ("Dockerfile", 'FROM vllm/vllm-openai AS a\nCMD [\'x\']\nFROM nginx\nCMD ["--dtype", "float32"]\n'),
        ("request.json", '{"model_type": "llama", "torch_dtype": "float32", "architectures": ["A"], "max_length": 20, "use_cache": false}'),
        ("values.yaml", "image: vllm/vllm-openai-cpu\nargs: [--device, cpu, --dtype, float32]\n"),
    ],
)
def test_what_belongs_to_another_container_or_starts_nothing_is_left_alone(name, text, evidence):
    assert not slugs(name, text, evidence) & BOTH


def test_the_advisor_s_own_parameters(evidence):
    one = '{"model_id": "Qwen/Qwen2-1.5B", "hardware_platform": "rtx5090", "quantization": "%s", "batch_size": %d}'
    assert slugs("request.json", one % ("nf4", 1), evidence) == {"config-4bit-small-model", "config-batch-1"}
    assert slugs("request.json", one % ("int8_default", 8), evidence) == {"config-int8-default"}
    assert slugs("request.json", one % ("fp32", 8), evidence) == {"config-fp32"}
    assert slugs("request.json", one % ("fp16", 8), evidence) == set()
    big = '{"model_id": "meta-llama/Meta-Llama-3-70B-Instruct", "hardware_platform": "rtx4090d", "batch_size": 8}'
    assert slugs("request.json", big, evidence) == {"model-exceeds-gpu"}


def test_a_card_is_known_by_its_many_names():
    for name in ("NVIDIA-A100-SXM4-80GB", "nvidia-l4", "H100", "Tesla T4", "NVIDIA GeForce RTX 4090", "nvidia-tesla-v100"):
        assert card(name) is not None, name
    assert card("cpu-only") is None or card("cpu-only").slug == "cpu"
    assert card_in_text("# one RTX 4090 (24 GB)").slug == "rtx4090"
    assert card_in_text("# 8x A100, or an A100") is None and card_in_text("an L4 or a T4") is None


def subject(model: str, gpu: str, **options) -> Subject:
    made = Subject("server", "vllm", 1, facts={"gpu": catalog.gpu(gpu), "model": model})
    for name, value in options.items():
        made.add(name, value, 1)
    return made


def test_severity_depends_on_the_model_and_the_card(evidence):
    small, large = subject("Qwen/Qwen2-0.5B", "h100_sxm"), subject("meta-llama/Meta-Llama-3-70B-Instruct", "h100_sxm")
    assert severity(launches(small)) == "critical" and launches(large).value == 0
    assert launches(subject("org/unknown-7B", "h100_sxm")) is None
    on_5090 = evidence.quantization("nf4", "fp16", 3.5, subject("Qwen/Qwen2-1.5B", "rtx5090"))
    assert all("rtx5090" in row for row in on_5090.rows) and "of about this size on rtx5090" in on_5090.note


def test_tensor_parallelism_costs_two_all_reduces_a_layer():
    """By hand: 32 layers, 15 us each, on 4 cards, against the roofline of a decode step on one."""
    two = many_cards(subject("mistralai/Mistral-7B-Instruct-v0.2", "a100_sxm_80gb", tensor_parallel_size=4))
    step_s = footprint.footprint("mistral-7b-instruct-v0.2", "fp16", 1, 512, 256, "a100_sxm_80gb").step_s
    waiting_s = 2 * 32 * 15e-6 * 4
    assert isinstance(two, Waste) and two.value == pytest.approx(100 * waiting_s / (step_s + waiting_s), rel=1e-9)
    assert two.low < two.value < two.high


def test_settings_without_a_server_are_read_and_loops_end_where_they_end(evidence):
    assert slugs("run.sh", "export OLLAMA_NUM_PARALLEL=1\n", evidence) == {"server-one-sequence"}
    loop = "for f in *; do\n  ./llama-cli -m m.gguf -ngl 99 -f $f\ndone\n"
    assert slugs("run.sh", loop, evidence) == {"server-reloads-model"}
    assert slugs("run.sh", "for f in *; do\n  echo $f\ndone\nllama-cli -m m.gguf -ngl 99", evidence) == set()


def test_a_variable_made_of_another_is_followed(evidence):
    script = "TYPE=float32\nexport DTYPE=${TYPE}\nvllm serve m --dtype $DTYPE\n"
    assert found("run.sh", script, evidence) == [("server-fp32", 3)]


FILES = {
    "compose.yaml": ("env_file: [llm.env]", "compose.yaml", "a:\n  image: r/text-generation-inference\n  env_file: [llm.env]\n"),
    "service": (
        "EnvironmentFile",
        "llm.service",
        "[Service]\nEnvironmentFile=-/etc/llm/llm.env\nExecStart=vllm serve m --dtype ${DTYPE} --max-num-seqs ${MAX_BATCH_SIZE}\n",
    ),
    "docker": ("--env-file", "run.sh", "docker run --env-file ./llm.env ghcr.io/huggingface/text-generation-inference:2.0\n"),
}


@pytest.mark.parametrize("how", FILES)
def test_environment_files_beside_a_deployment_are_read(how, evidence, tmp_path):
    (tmp_path / "llm.env").write_text("# types\nDTYPE=float32\nexport MAX_BATCH_SIZE='1'\n")
    _, name, text = FILES[how]
    assert {f.rule for f in findings_of(Unit(str(tmp_path / name), KINDS[name], text), evidence)} == BOTH
    (tmp_path / "llm.env").unlink()
    assert not {f.rule for f in findings_of(Unit(str(tmp_path / name), KINDS[name], text), evidence)} & BOTH


def test_variables_of_a_compose_file_come_from_the_file_beside_it(evidence, tmp_path):
    (tmp_path / ".env").write_text("TYPE=float32\n")
    text = "a:\n  image: vllm/vllm-openai\n  command: --dtype ${TYPE:-bfloat16} --max-num-seqs ${N:-1}\n"
    assert {f.rule for f in findings_of(Unit(str(tmp_path / "compose.yaml"), "config", text), evidence)} == BOTH


def test_measured_results_are_no_deployment(evidence):
    row = '{"gpu": "H100", "num_gpus": 2, "model": "Qwen/Qwen2.5-7B-Instruct", "max_num_seqs": 1%s}'
    assert slugs("request.json", row % "", evidence) == {"config-one-sequence"}
    assert slugs("request.json", row % ', "joules_per_token": 1.5', evidence) == set()


POD = "spec:\n  containers:\n  - image: {image}\n    args: [--model=org/m, --max-num-seqs=1, --dtype=float32]\n{rest}"
NO_GPU = {
    "the image": POD.format(image="registry/vllm-cpu-rhel9:3.3.0", rest=""),
    "a variable": POD.format(image="org/vllm:v0", rest="    env: [{name: VLLM_TARGET_DEVICE, value: cpu}]\n"),
    "resources": POD.format(image="org/vllm:v0", rest="    resources:\n      limits: {cpu: '4', memory: 8Gi}\n"),
    "hidden cards": "a:\n  image: vllm/vllm-openai\n  command: --max-num-seqs 1\n  environment: {CUDA_VISIBLE_DEVICES: -1}\n",
}


@pytest.mark.parametrize("how", NO_GPU)
def test_a_server_without_a_gpu_gets_no_number_of_a_gpu(how, evidence):
    findings = findings_of(Unit("compose.yaml", "config", NO_GPU[how]), evidence)
    assert [(f.rule, f.waste) for f in findings] == [("server-one-sequence", None)]
    on_gpu = POD.format(image="org/vllm:v0", rest="    resources:\n      limits: {cpu: '4', nvidia.com/gpu: 1}\n")
    assert {severity(f.waste) for f in findings_of(Unit("compose.yaml", "config", on_gpu), evidence)} == {"critical"}


def test_encoders_and_benchmarks_get_no_number_of_decoding(evidence):
    for text in (
        "a:\n  image: vllm/vllm-openai\n  command: --model org/m --task embed --dtype float32\n",
        "a:\n  image: vllm/vllm-openai\n  command: --model BAAI/bge-m3 --dtype float32\n",
        "scenario: {name: inference}\nbackend: {model: org/m, quantization: fp16, batch_size: 1}\n",
    ):
        assert [f.waste for f in findings_of(Unit("compose.yaml", "config", text), evidence)] == [None]
