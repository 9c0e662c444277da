"""Random weights in a model's real shapes, made one tensor at a time on the device, through the same loading path as published ones.

Energy and speed of a dense decoder depend on its shapes and formats, not on what it says; scores are never measured on these. A
tensor is made when the loader asks for it and quantized at once, so a model that is quantized never exists in 16 bits as a whole.
Rotary buffers are computed by the model's own constructor.
"""

import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eai import catalog
from eai.errors import UserError
from eai.settings import EMBEDDED_MODEL
from eai.workload import embedded, outliers

DEFAULT_SD = 0.02


@dataclass(frozen=True)
class RandomTensor:
    """A parameter that does not exist yet: `tensor[...]`, as the loader reads a safetensors slice, makes it in bf16 on `device`.

    Each name has its own seed, so values do not depend on the order or number of the loader's threads.
    """

    name: str
    shape: tuple[int, ...]
    sd: float
    seed: int
    device: str
    plan: "outliers.Plan | None" = None

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


def config(model: str) -> Any:
    """The transformers configuration of a model's shapes: from its folder, the catalog, or its config.json on the hub.

    Raises UserError for a model whose shapes cannot be found, without loading any weight.
    """
    from transformers import AutoConfig

    directory = embedded.folder() if model == EMBEDDED_MODEL else Path(model).expanduser()
    if not directory.is_dir():
        try:
            return from_catalog(catalog.model(model))
        except UserError:
            if model.startswith(("/", "./", "../", "~")):
                raise UserError(f"{model} is not a folder", "a folder with a config.json or a model's name", "check the path") from None
    try:
        found = AutoConfig.from_pretrained(str(directory) if directory.is_dir() else model)
    except (OSError, ValueError) as error:
        raise UserError(
            f"no shapes known for '{model}' ({str(error).strip().splitlines()[0][:120]})",
            "a model of data/catalog/models.csv, a folder with a config.json, or a hub id that can be reached",
            "add it to models.csv",
        ) from None
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


def build(found: Any, weights: str, device: str, dtype: Any, quantization: Any, seed: int = 0) -> Any:
    """A model of these shapes on the device, quantized as asked; `random_outliers` has outlier channels planted.

    Raises UserError if the family has no norms that channels could be planted in.
    """
    import torch
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        empty = AutoModelForCausalLM.from_config(found, dtype=torch.bfloat16)
    shapes = {name: tuple(parameter.shape) for name, parameter in empty.named_parameters()}
    plan = outliers.Plan.of(found, seed) if weights == "random_outliers" else None
    if plan and not any(plan.touches(name) for name in shapes):
        raise UserError(f"cannot plant outlier channels in the family '{found.model_type}'", "a family with norms before its projections")
    sd = getattr(found, "initializer_range", DEFAULT_SD)
    state = {name: RandomTensor(name, shape, sd, seed, device, plan) for name, shape in shapes.items()}
    return type(empty).from_pretrained(
        None, config=found, state_dict=state, dtype=dtype, device_map={"": device}, quantization_config=quantization
    )
