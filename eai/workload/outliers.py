"""Activation outliers: how many channels exceed LLM.int8()'s threshold in a real model, and as many planted in random weights.

LLM.int8() multiplies every input channel that holds a magnitude of at least 6 in 16 bits, so its cost depends on how many there
are. Dettmers et al. 2022 (arXiv 2208.07339, sections 3.2 and 4): models of 6.7 billion parameters and more have them in all layers,
in the same few channels, about 0.1 % of the features. Plain random weights have none. SmolLM2-135M, measured on English prose (64
tokens read, 8 decoded, batch 1, mean over the layers): 0.12 % of the channels into q, k and v, 0.02 % into gate and up, 0.05 % into o
and 1.6 % into down while reading; 0.06, 0.01, 0.00 and 0.15 % while decoding. Planted: 0.1 % of the channels, at least one, into all
of these but o.

In all layers is what large models do. SmolLM2-135M has outliers in a third of its layers, so LLM.int8() is slower on the planted ones
than on its own: 1.20 times the time a call [1.13, 1.28] (batch 1, 64 + 16 tokens, one CPU thread, median of 14 pairs), where int8_pure,
which looks for none, takes 1.02 times [0.97, 1.12].
"""

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

PLANTED_SHARE = 1e-3
THRESHOLD = 6.0
NORM_WEIGHT = 100.0
PRODUCT_SCALE = 300.0
_NORMS = ("input_layernorm.weight", "post_attention_layernorm.weight")
_READING = ("q_proj", "k_proj", "v_proj", "qkv_proj", "query_key_value", "gate_proj", "up_proj", "gate_up_proj", "dense_h_to_4h")
_EXPANDING = ("up_proj.weight", "gate_up_proj.weight", "dense_h_to_4h.weight")
_CONTRACTING = ("down_proj.weight", "dense_4h_to_h.weight")


@dataclass(frozen=True)
class Plan:
    """Which channels become outliers, the same in every layer: `hidden` of the norms' outputs, `inner` of the MLP's inner activations.

    What makes a channel is multiplied (the norm's weight by NORM_WEIGHT, the rows of an inner channel by `inner_factor`) and the
    columns that read it are divided by the same: the channel grows, everything behind it stays as it was.
    """

    hidden: tuple[int, ...]
    inner: tuple[int, ...]
    inner_factor: float

    @classmethod
    def of(cls, config: Any, seed: int = 0) -> "Plan":
        """The plan for a transformers configuration: PLANTED_SHARE of the channels, at least one."""
        import numpy as np

        rng = np.random.default_rng(seed)
        hidden = config.hidden_size
        inner = getattr(config, "intermediate_size", None) or 4 * hidden
        variance = hidden * getattr(config, "initializer_range", 0.02) ** 2
        chosen = [tuple(int(i) for i in rng.choice(n, max(1, round(PLANTED_SHARE * n)), replace=False)) for n in (hidden, inner)]
        return cls(*chosen, inner_factor=max(PRODUCT_SCALE / variance, 1.0))

    def touches(self, name: str) -> bool:
        """Whether a parameter of this name feeds a projection with planted channels."""
        return name.endswith(_NORMS)

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


def shares(model: Any, ids: list[list[int]], threshold: float = THRESHOLD) -> dict[str, float]:
    """Share of the input channels with a magnitude of at least `threshold` anywhere in the batch, by projection, mean over the layers.

    `ids` is a batch of prompts of one length, read once. A batch of single tokens shows what a decode step sees.
    """
    import torch

    found: dict[str, list[float]] = defaultdict(list)

    def watch(kind: str):
        def record(_, arguments):
            largest = arguments[0].detach().abs().flatten(0, -2).amax(0)
            found[kind].append(float((largest >= threshold).float().mean()))

        return record

    head = model.get_output_embeddings()
    linears = [(name, m) for name, m in model.named_modules() if isinstance(m, torch.nn.Linear) and m is not head]
    hooks = [module.register_forward_pre_hook(watch(name.rpartition(".")[2])) for name, module in linears]
    try:
        with torch.inference_mode():
            model(input_ids=torch.tensor(ids, device=next(model.parameters()).device), use_cache=False)
    finally:
        for hook in hooks:
            hook.remove()
    return {kind: sum(values) / len(values) for kind, values in found.items()}
