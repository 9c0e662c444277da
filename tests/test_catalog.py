"""The catalog's facts agree with physics and with each other, and every usual name finds them."""

import json
from dataclasses import replace

import pytest

from eai import catalog, footprint
from eai.errors import UserError

STUDY_GPUS = ("A100 PCIe", "RTX 4090", "RTX 3090 Ti", "RTX 4060 Ti", "V100", "L40S")
ADVISOR_GPUS = (
    "rtx5090",
    "rtx4090d",
    "a800",
    "a100",
    "h100",
    "rtx3090",
    "v100",
    "h200",
    "rtx4090",
    "rtx3090ti",
    "rtx4060ti",
    "l40s",
    "l4",
    "t4",
)
STUDY_MODELS = (
    "Qwen2.5-7B-Instruct",
    "DeepSeek-R1-Distill-Qwen-7B",
    "Mistral-7B-Instruct-v0.2",
    "Neural-Chat-7B-v3-3",
    "Bloomz-7B1",
    "Yi-6B",
)
ADVISOR_MODELS = (
    "Qwen2-1.5B",
    "Phi-3-mini-4k",
    "Yi-1.5-6B",
    "mistralai/Mistral-7B-Instruct-v0.2",
    "Qwen/Qwen2-7B",
    "meta-llama/Llama-3-8B",
    "HuggingFaceTB/SmolLM2-135M-Instruct",
)


@pytest.mark.parametrize("name", STUDY_GPUS + ADVISOR_GPUS)
def test_gpus_of_study_and_advisor_are_known(name):
    assert catalog.gpu(name).bandwidth_gb_s > 0


@pytest.mark.parametrize("name", STUDY_MODELS + ADVISOR_MODELS)
def test_models_of_study_and_advisor_are_known(name):
    assert catalog.model(name).params_total > 1e8


@pytest.mark.parametrize(
    ("name", "slug"),
    [
        ("NVIDIA GeForce RTX 4090 D", "rtx4090d"),
        ("RTX 4090D", "rtx4090d"),
        ("rtx4090d", "rtx4090d"),
        ("NVIDIA GeForce RTX 4090", "rtx4090"),
        ("NVIDIA H100 80GB HBM3", "h100_sxm"),
        ("NVIDIA H100 PCIe", "h100_pcie"),
        ("NVIDIA A100-PCIE-40GB", "a100_pcie_40gb"),
        ("NVIDIA A100 80GB PCIe", "a100_pcie_80gb"),
        ("Tesla V100-SXM2-16GB", "v100_sxm_16gb"),
        ("A800-SXM4-80GB", "a800_sxm_80gb"),
        ("NVIDIA L4", "l4"),
        ("cpu", "cpu"),
    ],
)
def test_names_of_nvml_and_of_tables_find_the_same_card(name, slug):
    assert catalog.gpu(name).slug == slug


def test_memory_tells_boards_apart_that_share_a_name():
    name = "NVIDIA GeForce RTX 4060 Ti"
    assert catalog.gpu(name).memory_gb == 16
    assert catalog.gpu(name, memory_gb=7.6).slug == "rtx4060ti_8gb"


def test_an_unqualified_name_says_what_it_was_taken_for():
    assert "SXM" in catalog.resolve("gpu", "a100")[1]
    assert catalog.resolve("gpu", "l40s")[1] == ""


def test_an_unknown_card_is_refused_unless_its_memory_and_bandwidth_are_near_a_known_one():
    with pytest.raises(UserError, match="such as"):
        catalog.nearest_gpu("RTX 4075")
    found, remark = catalog.nearest_gpu("RTX 4075", memory_gb=12, bandwidth_gb_s=500)
    assert found.slug.startswith("rtx4070") and "not in the catalog" in remark and "RTX 4075" in remark
    with pytest.raises(UserError, match="15 %"):
        catalog.nearest_gpu("RTX 4075", memory_gb=12, bandwidth_gb_s=1500)
    assert catalog.nearest_gpu("rtx4070") == (catalog.gpu("rtx4070"), "")


@pytest.mark.parametrize(
    ("name", "total", "active", "layers"),
    [
        ("Qwen/Qwen3-30B-A3B", 30.5, 3.35, 48),
        ("Qwen/Qwen3-30B-A3B-Instruct-2507-FP8", 30.5, 3.35, 48),
        ("openai/gpt-oss-20b", 20.9, 3.6, 24),
        ("mistralai/Mixtral-8x7B-Instruct-v0.1", 46.7, 12.9, 32),
        ("someone/New-8x7B", 46.7, 12.9, 32),
        ("someone/New-32B-A4B", 32, 4, 48),
        ("someone/New-70B-Instruct", 70, 70, 80),
        ("Qwen2.5-7B-Instruct-AWQ", 7.07, 7.07, 28),
    ],
)
def test_a_models_shape_comes_from_the_catalog_or_its_name(name, total, active, layers):
    found = catalog.shape(name)
    assert found.params_b == pytest.approx(total, rel=0.02) and found.active_params_b == pytest.approx(active, rel=0.03)
    assert found.layers == layers


def test_a_shape_is_read_from_a_config_and_given_figures_replace_it(tmp_path):
    config = {"model_type": "qwen3_moe", "hidden_size": 2048, "num_hidden_layers": 48, "num_attention_heads": 32, "num_key_value_heads": 4}
    config |= {"head_dim": 128, "vocab_size": 151936, "intermediate_size": 6144, "moe_intermediate_size": 768}
    config |= {"num_experts": 128, "num_experts_per_tok": 8}
    (tmp_path / "config.json").write_text(json.dumps(config))
    found = catalog.shape(str(tmp_path))
    assert found.params_b == pytest.approx(30.5, rel=0.03) and found.active_params_b == pytest.approx(3.35, rel=0.1)
    assert catalog.shape(None, params_b=13, layers=44).layers == 44
    with pytest.raises(UserError, match="states no size"):
        catalog.shape("someone/nameless")


@pytest.mark.parametrize(
    ("name", "same"),
    [
        ("llama-3.1-8b", "meta-llama/Llama-3.1-8B-Instruct"),
        ("google/gemma-2-9b", "google/gemma-2-9b-it"),
        ("Qwen/Qwen3-32B-Instruct", "Qwen/Qwen3-32B"),
        ("llama-2-13b-chat-hf", "meta-llama/Llama-2-13b-hf"),
        ("llama-4-scout", "meta-llama/Llama-4-Scout-17B-16E-Instruct"),
    ],
)
def test_a_short_name_has_the_shape_of_the_one_listed_model_that_it_begins(name, same):
    assert replace(catalog.shape(name), origin="") == replace(catalog.shape(same), origin="")


@pytest.mark.parametrize("name", ["llama-3", "mistral-small", "gpt-oss", "qwen3", "phi-3"])
def test_a_name_that_begins_several_shapes_is_refused(name):
    with pytest.raises(UserError, match="states no size"):
        catalog.shape(name)


def test_a_batch_of_a_mixture_reads_more_experts_and_the_busiest_gpu_more_than_the_mean():
    shape = catalog.shape("Qwen/Qwen3-30B-A3B")
    assert shape.touched(1) == pytest.approx(8 / 128) and shape.touched(16) == pytest.approx(1 - (120 / 128) ** 16)
    assert shape.expert_params_b * (1 - 8 / 128) + shape.active_params_b == pytest.approx(shape.params_b)
    assert 1 < shape.imbalance(8, 8) < 3 and shape.imbalance(4096, 8) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("call", [catalog.gpu, catalog.nearest_gpu, catalog.model, catalog.task, catalog.region])
@pytest.mark.parametrize("name", ["banana", "", "  "])
def test_an_unknown_name_is_one_line_with_suggestions(call, name):
    with pytest.raises(UserError) as error:
        call(name)
    assert "such as" in str(error.value) and "\n" not in str(error.value)


def test_a_misspelt_name_is_suggested():
    with pytest.raises(UserError, match="qwen2-7b"):
        catalog.model("Qwen2-7")


@pytest.mark.parametrize("model", catalog.models(), ids=lambda m: m.slug)
def test_stated_parameters_follow_from_the_shapes(model):
    computed = footprint.parameters(model)
    assert computed.total == model.params_total
    assert computed.embedding == model.params_embedding
    stated = catalog.params_in_name(model.slug)
    if stated:
        assert stated == pytest.approx(model.params_total, rel=0.22)


@pytest.mark.parametrize("gpu", [g for g in catalog.gpus() if g.slug != "cpu"], ids=lambda g: g.slug)
def test_peaks_are_dense_and_consistent(gpu):
    """Ratios fixed by the hardware; a sparse figure (twice as large) in one column breaks them."""
    assert 1.5 <= gpu.bandwidth_gb_s / gpu.tdp_w <= 12
    assert gpu.fp32_tflops <= (gpu.tf32_tflops or gpu.fp16_tflops)
    if gpu.bf16_tflops:
        assert gpu.bf16_tflops == gpu.fp16_tflops
        assert gpu.tf32_tflops is None or gpu.fp16_tflops / gpu.tf32_tflops == pytest.approx(2, rel=0.02)
    if gpu.int8_tops and gpu.architecture not in ("CDNA 2", "RDNA 3", "RDNA 3.5"):  # their INT8 runs at the rate of FP16
        geforce = gpu.name.startswith("GeForce")
        assert gpu.int8_tops / gpu.fp16_tflops == pytest.approx(4 if geforce else 2, rel=0.03)
    if gpu.fp8_tflops:
        assert gpu.fp8_tflops / gpu.fp16_tflops == pytest.approx(2, rel=0.03)
    amd = gpu.vendor == "AMD" and gpu.architecture != "RDNA 2"
    assert (gpu.bf16_tflops is not None) == (amd or gpu.vendor == "Intel" or (gpu.compute_capability or 0) >= 8.0)


@pytest.mark.parametrize(
    ("slug", "cores", "boost_ghz"),
    [
        ("rtx4090", 16384, 2.52),
        ("rtx4090d", 14592, 2.52),
        ("rtx4060ti_16gb", 4352, 2.535),
        ("rtx3090", 10496, 1.695),
        ("rtx5090", 21760, 2.407),
    ],
)
def test_fp32_peak_is_cores_times_clock(slug, cores, boost_ghz):
    assert catalog.gpu(slug).fp32_tflops == pytest.approx(2 * cores * boost_ghz / 1e3, rel=0.01)


@pytest.mark.parametrize(
    ("slug", "bus_bits", "gbit_s_per_pin"),
    [
        ("rtx4090", 384, 21),
        ("rtx3090", 384, 19.5),
        ("rtx4060ti_16gb", 128, 18),
        ("rtx5090", 512, 28),
        ("l4", 192, 12.5),
        ("t4", 256, 10),
        ("l40s", 384, 18),
    ],
)
def test_bandwidth_is_bus_width_times_data_rate(slug, bus_bits, gbit_s_per_pin):
    assert catalog.gpu(slug).bandwidth_gb_s == pytest.approx(bus_bits * gbit_s_per_pin / 8, rel=0.01)


def test_every_row_has_a_source_and_every_alias_an_entry():
    for entry in (*catalog.gpus(), *catalog.models(), *catalog.tasks(), *catalog.regions()):
        assert entry.source and entry.retrieved
    known = {"gpu": catalog.gpus(), "model": catalog.models(), "task": catalog.tasks(), "region": catalog.regions()}
    for row in catalog.tables.read_catalog("aliases").itertuples():
        slugs = {getattr(e, "slug", None) or e.region for e in known[row.kind]}
        assert row.slug in slugs, row.alias


def test_no_key_means_two_things_without_saying_so():
    for kind in ("gpu", "model", "task", "region"):
        shared = {key: found for key, found in catalog._index(kind).items() if len(found) > 1}
        assert all(all(note for _, note in found) for found in shared.values()), shared


def test_electricity_defaults_are_inside_their_ranges():
    us, cn = catalog.region("US"), catalog.region("China")
    assert (us.price_usd_per_kwh, us.carbon_g_per_kwh) == (0.12, 390)
    assert (cn.price_usd_per_kwh, cn.carbon_g_per_kwh) == (0.085, 555)
    for entry in catalog.regions():
        if entry.carbon_g_per_kwh_low is not None:
            assert entry.carbon_g_per_kwh_low < entry.carbon_g_per_kwh < entry.carbon_g_per_kwh_high
        if entry.price_usd_per_kwh_low is not None:
            assert entry.price_usd_per_kwh_low < entry.price_usd_per_kwh < entry.price_usd_per_kwh_high
        assert 0 < entry.carbon_g_per_kwh < 1000


def test_tasks_have_the_published_sizes():
    ours = ("arithmetic", "facts", "continuations", "perplexity")
    assert {t.slug: t.items for t in catalog.tasks() if t.slug not in ours} == {
        "mmlu": 14042,
        "arc_challenge": 1172,
        "hellaswag": 10042,
        "truthfulqa": 817,
        "gsm8k": 1319,
    }


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Foo-7B", 7e9),
        ("facebook/opt-350m", 350e6),
        ("bloomz-7b1", 7e9),
        ("mixtral-8x7b", None),
        ("gpt2", None),
        ("Qwen2.5-0.5B-Instruct", 0.5e9),
        ("llama-3", None),
    ],
)
def test_a_size_is_read_from_a_name(name, expected):
    assert catalog.params_in_name(name) == expected
