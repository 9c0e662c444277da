"""Sums of two one-digit numbers, each once, in a fixed random order: a task that is made by rule and needs no source."""

import itertools

import numpy as np

SEED = 20261122
EXAMPLES = ((12, 3), (4, 11), (10, 10), (20, 5), (13, 6))
"""Worked examples of the few-shot prompt; none is an item, because each has a number of two digits."""


def items() -> list[dict]:
    """The 100 items, `{"id", "question", "answer"}`; the same ones in the same order always."""
    pairs = list(itertools.product(range(10), repeat=2))
    order = np.random.default_rng(SEED).permutation(len(pairs))
    return [_sum(f"arithmetic-{number:03d}", *pairs[i]) for number, i in enumerate(order, start=1)]


def examples() -> list[dict]:
    """The worked examples, in the order of the prompt."""
    return [_sum(f"arithmetic-example-{number}", *pair) for number, pair in enumerate(EXAMPLES, start=1)]


def _sum(name: str, a: int, b: int) -> dict:
    return {"id": name, "question": f"{a} + {b} =", "answer": str(a + b)}
