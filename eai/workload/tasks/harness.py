"""The model as lm-eval sees it: the one that is loaded and quantized already, every token counted where it is processed."""

import io
from bisect import bisect_left
from collections.abc import Sequence
from contextlib import redirect_stderr
from typing import Any

from eai.workload.models import LoadedModel
from eai.workload.tasks import definitions


def harness(loaded: LoadedModel, batch_size: int) -> Any:
    """An lm-eval model around `loaded`, with `scored_tokens` and `generated` filled by what it processes.

    `scored_tokens`: of each scored request in order, the input tokens of its forward pass; 0 where lm-eval reads several one-token
    continuations off one pass. `generated`: by prompt, (input tokens, new token ids, stop strings).
    """
    definitions.quiet()
    from lm_eval.models.huggingface import HFLM

    class Counted(HFLM):
        """lm-eval's model for transformers, which says nothing on a terminal and keeps account of tokens."""

        def __init__(self, **arguments: Any):
            super().__init__(**arguments)
            self.reset()

        def reset(self) -> None:
            """Forget what was counted."""
            self.scored_tokens: list[int] = []
            self.generated: dict[str, tuple[int, list[int], list[str]]] = {}

        def _loglikelihood_tokens(self, requests: Sequence, disable_tqdm: bool = False, override_bs: int | None = None) -> list:
            seen: set[tuple] = set()
            for _, context, continuation in requests:
                inputs = tuple((context + continuation)[-(self.max_length + 1) :][:-1])
                self.scored_tokens.append(0 if inputs in seen else len(inputs))
                seen.add(inputs)
            return super()._loglikelihood_tokens(requests, disable_tqdm=True, override_bs=override_bs)

        def tok_batch_encode(self, strings: list[str], *arguments: Any, **named: Any) -> Any:
            self._prompts = strings
            return super().tok_batch_encode(strings, *arguments, **named)

        def _model_generate(self, context: Any, max_length: int, stop: list[str], **named: Any) -> Any:
            result = super()._model_generate(context, max_length, stop, **named)
            rows = result[:, context.shape[1] :].tolist()
            for prompt, mask, row in zip(self._prompts, named["attention_mask"].tolist(), rows, strict=True):
                self.generated[prompt] = (sum(mask), row, list(stop))
            return result

    return Counted(
        pretrained=loaded.model,
        tokenizer=loaded.tokenizer,
        batch_size=batch_size,
        mixed_precision_dtype="float16" if loaded.strategy.slug == "fp16_mixed" else None,
    )


def answer(model: Any, kind: str, requests: list) -> list:
    """What the model answers to requests of one kind (loglikelihood, loglikelihood_rolling, generate_until), in their order."""
    if kind != "loglikelihood_rolling":
        return getattr(model, kind)(requests, disable_tqdm=True)
    with redirect_stderr(io.StringIO()):  # draws a bar whatever it is told
        return model.loglikelihood_rolling(requests, disable_tqdm=True)


def until_stop(tokenizer: Any, row: list[int], stops: list[str], end_tokens: set[int]) -> int:
    """How many tokens of a generated row are its own: up to the end token or the first stop string, that one included.

    What a batch decodes for a finished row while others go on is nobody's output.
    """
    row = row[: next((i + 1 for i, token in enumerate(row) if token in end_tokens), len(row))]

    def stopped(n: int) -> bool:
        text = tokenizer.decode(row[:n], skip_special_tokens=False)
        return any(stop in text for stop in stops)

    return min(bisect_left(range(1, len(row) + 1), True, key=stopped) + 1, len(row))
