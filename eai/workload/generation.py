"""Generation of fixed shape: so many sequences, so many tokens in, so many out, greedy, every token counted.

Prompts are stretches of a text of ours (passage.txt), so that activations are those of real prose; each sequence of a batch starts
elsewhere in it. No token ends a text before its length: energies are compared at equal length.
"""

import itertools
import math
import statistics
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from eai.errors import UserError
from eai.workload.models import LoadedModel, passage_tokens

STRIDE_TOKENS = 37
RANDOM_TEXT_TOKENS = 4096


@dataclass(frozen=True)
class Produced:
    """What one call did, counted from its result: sequences, input and output tokens, and how long it took [s]."""

    requests: int
    tokens_in: int
    tokens_out: int
    duration_s: float


def prompts(ids: list[int], batch_size: int, input_tokens: int) -> list[list[int]]:
    """`batch_size` prompts of exactly `input_tokens` tokens; sequence i starts 37 i tokens into the text, which repeats if it is short."""
    repeated = ids * (2 + input_tokens // len(ids))
    starts = [(i * STRIDE_TOKENS) % len(ids) for i in range(batch_size)]
    return [repeated[start : start + input_tokens] for start in starts]


class _TokenClock:
    """Notes when each token of a batch arrives; transformers hands it the prompt first, which is not noted."""

    def __init__(self, synchronize: Callable[[], None]):
        self._synchronize, self._prompt_seen = synchronize, False
        self.moments_s: list[float] = []

    def put(self, value: Any) -> None:
        """A token of every sequence, or the prompt."""
        if self._prompt_seen:
            self._synchronize()
            self.moments_s.append(time.perf_counter())
        self._prompt_seen = True

    def end(self) -> None:
        """Nothing is left to do when the text ends."""


def _outputs(model: Any) -> int:
    """The number of tokens that the head can give, which as an id is none of them: an end token that never comes.

    `min_new_tokens` would hold the length too, but masks the end token in the logits of every step: 2 % of a small model's time.
    """
    return model.get_output_embeddings().weight.shape[0]


def _everywhere(config: Any) -> Any:
    """The configuration with compilation on every device: by itself the library compiles on accelerators only."""
    config._compile_all_devices = True
    return config


@dataclass(frozen=True)
class Generation:
    """A batch of fixed shape on a loaded model; `run()` is one workload call.

    `cache`: dynamic (grows with the text) or static (allocated whole, which `compile`, torch.compile of the decode step, needs).
    Raises UserError if input and output together exceed the model's context, or the options exclude each other.
    """

    loaded: LoadedModel
    batch_size: int
    input_tokens: int
    output_tokens: int
    kv_cache: bool = True
    cache: str = "dynamic"
    compile: bool = False

    def __post_init__(self):
        self._check_options()
        asked, context = self.input_tokens + self.output_tokens, self.loaded.context_tokens
        if context and asked > context:
            raise UserError(
                f"{self.input_tokens} input + {self.output_tokens} output tokens", f"at most {context}, the model's context", "shorten one"
            )

    def _check_options(self) -> None:
        if self.cache not in ("dynamic", "static"):
            raise UserError(f"cache '{self.cache}'", "dynamic or static")
        if self.cache == "static" and not self.kv_cache:
            raise UserError("a static cache was asked for with kv_cache off", "kv_cache on", "leave one of them out")
        if self.compile and self.cache != "static":
            raise UserError(
                "compile was asked for with a dynamic cache", "cache static", "a growing cache would be compiled anew each step"
            )

    def _text(self) -> list[int]:
        """The token ids that prompts are cut from: the passage, or draws from the vocabulary where there is no tokenizer."""
        if self.loaded.tokenizer is not None:
            return passage_tokens(self.loaded.tokenizer)
        vocabulary = self.loaded.model.get_input_embeddings().weight.shape[0]
        return np.random.default_rng(self.loaded.seed).integers(vocabulary, size=RANDOM_TEXT_TOKENS).tolist()

    @cached_property
    def _inputs(self) -> dict[str, Any]:
        import torch

        tensor = torch.tensor(prompts(self._text(), self.batch_size, self.input_tokens), device=self.loaded.device)
        return {"input_ids": tensor, "attention_mask": torch.ones_like(tensor)}

    def _settings(self, new_tokens: int) -> Any:
        from transformers import CompileConfig, GenerationConfig

        model = self.loaded.model
        pad = model.generation_config.pad_token_id
        return GenerationConfig(
            do_sample=False,
            max_new_tokens=new_tokens,
            use_cache=self.kv_cache,
            eos_token_id=_outputs(model),
            pad_token_id=0 if pad is None else pad,
            disable_compile=not self.compile,
            **({"cache_implementation": "static"} if self.cache == "static" else {}),
            **({"compile_config": _everywhere(CompileConfig())} if self.compile else {}),
        )

    def _precision(self) -> Any:
        """Autocast where the strategy is fp16_mixed, else nothing."""
        import torch

        return torch.autocast("cuda", torch.float16) if self.loaded.strategy.slug == "fp16_mixed" else nullcontext()

    def _synchronize(self) -> None:
        if self.loaded.device.startswith("cuda"):
            import torch

            torch.cuda.synchronize(self.loaded.device)

    def run(self, new_tokens: int | None = None) -> Produced:
        """One batch, `output_tokens` each unless `new_tokens` says otherwise; ends when the device has finished.

        Raises UserError if the model produced another number of tokens than was asked for.
        """
        import torch

        wanted = new_tokens or self.output_tokens
        self._synchronize()
        start = time.perf_counter()
        with torch.inference_mode(), self._precision():
            result = self.loaded.model.generate(**self._inputs, generation_config=self._settings(wanted))
        self._synchronize()
        duration_s = time.perf_counter() - start
        if wanted > 1:
            self.verify_options()
        produced = (result.shape[1] - self.input_tokens) * result.shape[0]
        if produced != wanted * self.batch_size:
            raise UserError(
                f"the model produced {produced} tokens", f"{wanted * self.batch_size}", "this model cannot be measured at a fixed length"
            )
        return Produced(self.batch_size, self.batch_size * self.input_tokens, produced, duration_s)

    def verify_options(self) -> None:
        """Nothing, if the compiled step exists where it was asked for. Raises UserError if the library left it out in silence."""
        if self.compile and not hasattr(self.loaded.model, "_compiled_call"):
            raise UserError("compile was asked for, but no compiled step ran", "a model and format that torch.compile takes")

    def token_times_s(self) -> list[float]:
        """Time from the call to each token of one batch [s]: the first is the TTFT, differences are inter-token latencies.

        Reading each token makes the device wait for the host, so this call stays outside measured windows.
        """
        import torch

        clock = _TokenClock(self._synchronize)
        self._synchronize()
        start = time.perf_counter()
        with torch.inference_mode(), self._precision():
            self.loaded.model.generate(**self._inputs, generation_config=self._settings(self.output_tokens), streamer=clock)
        return [moment - start for moment in clock.moments_s]

    def inter_token_s(self) -> list[float]:
        """Inter-token latencies of one batch [s], one fewer than output tokens."""
        times = self.token_times_s() if self.output_tokens > 1 else [0.0]
        return [after - before for before, after in itertools.pairwise(times)]

    def first_token_s(self, calls: int = 3, cap_s: float = math.inf) -> float:
        """Time to first token of the whole batch [s]: the median of `calls` calls that produce one token, fewer within `cap_s`."""
        times: list[float] = []
        while len(times) < calls and (not times or sum(times) < cap_s):
            times.append(self.run(new_tokens=1).duration_s)
        return statistics.median_low(times)
