"""Texts of a wanted number of tokens for a server whose tokenizer is not at hand: words are counted, the server says what they came to.

Each prompt begins with a number of its own, so that a server that keeps the beginnings of earlier prompts finds no more than the
template in its cache.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import numpy as np

from eai.errors import UserError

Seed = int | Sequence[int]

STRIDE_WORDS = 37
TOLERANCE = 0.05
_TRIES = 4


@cache
def passage() -> tuple[str, ...]:
    """The words of our text."""
    return tuple(files("eai.workload").joinpath("passage.txt").read_text(encoding="utf-8").split())


@dataclass(frozen=True)
class Prompts:
    """Prompts of `n_words` words each; number i is the same text whenever it is asked for with the same seed."""

    n_words: int
    seed: Seed = 0

    def text(self, i: int) -> str:
        """Prompt i: a number of six digits, then words from a place in the text that moves on by 37 words each time."""
        words = passage()
        number = int(np.random.default_rng([*np.atleast_1d(self.seed), i]).integers(100_000, 1_000_000))
        start = (i * STRIDE_WORDS) % len(words)
        repeated = words * (2 + self.n_words // len(words))
        return " ".join([f"{number}.", *repeated[start : start + self.n_words]])


def fitted(input_tokens: int, count: Callable[[str], int], seed: Seed = 0) -> Prompts:
    """Prompts of about `input_tokens` tokens (within 5 %, or one word), by `count`, which says how many tokens a text came to.

    The number of words is corrected by the tokens a word that were found. Raises UserError where the shortest prompt is longer already:
    chat templates add tokens of their own.
    """
    least = count(Prompts(1, seed).text(0))
    if least > input_tokens * (1 + TOLERANCE):
        raise UserError(f"{input_tokens} input tokens", f"at least {least}: the server's template comes on top", "set input_tokens higher")
    best, best_off, n_words, per_word = 1, abs(least - input_tokens), max(round((input_tokens - least) / 1.4), 1), 1.4
    for trial in range(1, _TRIES + 1):
        counted = count(Prompts(n_words, seed).text(trial))
        if abs(counted - input_tokens) < best_off:
            best, best_off = n_words, abs(counted - input_tokens)
        if best_off <= max(TOLERANCE / 2 * input_tokens, 1):
            break
        per_word = max((counted - least) / max(n_words - 1, 1), 0.5)
        n_words = max(round(n_words + (input_tokens - counted) / per_word), 1)
    return Prompts(best, seed)
