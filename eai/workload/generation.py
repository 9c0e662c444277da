"""Generation of fixed shape: so many sequences, so many tokens in, so many out, greedy, every token counted.

Prompts are stretches of a text of ours (passage.txt), so that activations are those of real prose; each sequence of a batch starts
elsewhere in it. No token ends a text before its length: energies are compared at equal length.
"""

import itertools
import math
import statistics
import time
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property
from types import SimpleNamespace
from typing import Any

import numpy as np

from eai.errors import UserError
from eai.workload.models import LoadedModel, passage_tokens

STRIDE_TOKENS = 37
RANDOM_TEXT_TOKENS = 4096
SHORT_PROMPT = 8


@dataclass(frozen=True)
class Produced:
    """What one call did, counted from its result: sequences, input and output tokens, and how long it took [s]. `token_s`: when each token
    of the batch came, from the call [s]; empty where that was not looked at."""

    requests: int
    tokens_in: int
    tokens_out: int
    duration_s: float
    token_s: tuple[float, ...] = ()


def prompts(ids: list[int], batch_size: int, input_tokens: int) -> list[list[int]]:
    """`batch_size` prompts of exactly `input_tokens` tokens; sequence i starts 37 i tokens into the text, which repeats if it is short."""
    repeated = ids * (2 + input_tokens // len(ids))
    starts = [(i * STRIDE_TOKENS) % len(ids) for i in range(batch_size)]
    return [repeated[start : start + input_tokens] for start in starts]


@dataclass(frozen=True)
class Generation:
    """A batch of fixed shape on a loaded model; `run()` is one workload call. `cache`: dynamic (grows with the text) or static (allocated
    whole, which `compile`, torch.compile of the decode step, needs; settings.Sweep holds that). Raises UserError beyond the model's
    context."""

    loaded: LoadedModel
    batch_size: int
    input_tokens: int
    output_tokens: int
    kv_cache: bool = True
    cache: str = "dynamic"
    compile: bool = False

    def __post_init__(self):
        asked, context = self.input_tokens + self.output_tokens, self.loaded.context_tokens
        if context and asked > context:
            asked = f"{self.input_tokens} input + {self.output_tokens} output tokens"
            raise UserError(asked, f"at most {context}, the model's context", "shorten one")

    @cached_property
    def _inputs(self) -> dict[str, Any]:
        import torch

        if self.loaded.tokenizer is not None:
            text = passage_tokens(self.loaded.tokenizer)
        else:  # draws from the vocabulary
            vocabulary = self.loaded.model.get_input_embeddings().weight.shape[0]
            text = np.random.default_rng(self.loaded.seed).integers(vocabulary, size=RANDOM_TEXT_TOKENS).tolist()
        tensor = torch.tensor(prompts(text, self.batch_size, self.input_tokens), device=self.loaded.device)
        return {"input_ids": tensor, "attention_mask": torch.ones_like(tensor)}

    def _settings(self, new_tokens: int) -> Any:
        from transformers import CompileConfig, GenerationConfig

        # The number of tokens that the head can give is no token's id: an end that never comes. `min_new_tokens` would hold the length
        # too, but masks the end token in the logits of every step: 2 % of a small model's time.
        model, more = self.loaded.model, {"cache_implementation": "static"} if self.cache == "static" else {}
        if self.compile:
            more["compile_config"] = CompileConfig()
            more["compile_config"]._compile_all_devices = True  # by itself the library compiles on accelerators only
        return GenerationConfig(
            do_sample=False,
            max_new_tokens=new_tokens,
            use_cache=self.kv_cache,
            eos_token_id=model.get_output_embeddings().weight.shape[0],
            pad_token_id=model.generation_config.pad_token_id or 0,
            disable_compile=not self.compile,
            **more,
        )

    @property
    def times_tokens(self) -> bool:
        """Whether every call says when its tokens came. A processor has nothing to wait for; reading each token of a GPU would slow it."""
        return self.loaded.device == "cpu"

    def _synchronize(self) -> None:
        if self.loaded.device.startswith("cuda"):
            import torch

            torch.cuda.synchronize(self.loaded.device)

    def run(self, new_tokens: int | None = None, timed: bool | None = None, prompt_tokens: int | None = None) -> Produced:
        """One batch, `output_tokens` each unless `new_tokens` says otherwise; ends when the device has finished. `timed`: note when each
        token comes, by default where that costs nothing. Raises UserError if another number of tokens came out."""
        import torch

        wanted, moments_s = new_tokens or self.output_tokens, []

        def put(_) -> None:  # of a streamer, for each token of the batch
            self._synchronize()
            moments_s.append(time.perf_counter())

        inputs = {name: tensor[:, :prompt_tokens] for name, tensor in self._inputs.items()}
        streamer = {"streamer": SimpleNamespace(put=put, end=lambda: None)} if (self.times_tokens if timed is None else timed) else {}
        precision = torch.autocast("cuda", torch.float16) if self.loaded.strategy.slug == "fp16_mixed" else nullcontext()
        self._synchronize()
        start = time.perf_counter()
        with torch.inference_mode(), precision:
            result = self.loaded.model.generate(**inputs, generation_config=self._settings(wanted), **streamer)
        self._synchronize()
        duration_s = time.perf_counter() - start
        if wanted > 1 and self.compile and not hasattr(self.loaded.model, "_compiled_call"):  # left out in silence
            raise UserError("compile was asked for, but no compiled step ran", "a model and format that torch.compile takes")
        tokens_in = inputs["input_ids"].numel()
        produced = result.numel() - tokens_in
        if produced != wanted * self.batch_size:
            do = "this model cannot be measured at a fixed length"
            raise UserError(f"the model produced {produced} tokens", f"{wanted * self.batch_size}", do)
        token_s = tuple(moment - start for moment in moments_s[1:])  # after the prompt
        return Produced(self.batch_size, tokens_in, produced, duration_s, token_s)

    def inter_token_s(self) -> list[float]:
        times = self.run(timed=True).token_s if self.output_tokens > 1 else [0.0]
        return [after - before for before, after in itertools.pairwise(times)]

    def first_token_s(self, calls: int = 3, cap_s: float = math.inf) -> float:
        """Time to first token of the whole batch [s]: the median of `calls` calls that produce one token, fewer within `cap_s`."""
        times: list[float] = []
        while len(times) < calls and (not times or sum(times) < cap_s):
            times.append(self.run(new_tokens=1).duration_s)
        return statistics.median_low(times)

    def least_s(self) -> float:
        """Seconds that a whole call takes at least, from one of two tokens after eight of the prompt's, which has touched every weight. A
        static cache is allocated, and its step compiled, for the whole length: there one whole call is made, and nothing said."""
        if self.cache == "static":
            self.run()
            return 0.0
        token_s = self.run(min(self.output_tokens, 2), timed=True, prompt_tokens=SHORT_PROMPT).token_s
        return token_s[0] + (self.output_tokens - 1) * (token_s[-1] - token_s[0])
