"""Blocks are complete, seeded and random; loads stay together."""

import itertools
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from eai import jobs, settings

lists = st.lists(st.sampled_from(["fp32", "bf16", "nf4", "fp4", "int8_pure"]), min_size=1, unique=True)
batches = st.lists(st.integers(1, 64), min_size=1, max_size=4, unique=True)


@given(lists, batches, st.integers(1, 4), st.integers(1, 2), st.integers(0, 99))
def test_every_block_holds_every_window_once(quantizations, batch_sizes, blocks, repeats, seed):
    sweep = settings.sweep(quantizations=quantizations, batch_sizes=batch_sizes, blocks=blocks, repeats=repeats, seed=seed)
    planned = jobs.job_order(sweep, "cpu", "m")
    wanted = {
        (block, c.configuration_id, repeat)
        for block in range(1, blocks + 1)
        for c in sweep.configurations("cpu", "m")
        for repeat in range(1, repeats + 1)
    }
    assert Counter(w.key for w in planned) == Counter(wanted)
    assert [w.order for w in planned if w.block == 1] == list(range(1, len(planned) // blocks + 1))


@given(lists, batches, st.integers(0, 99))
def test_one_load_a_strategy_and_block(quantizations, batch_sizes, seed):
    planned = jobs.job_order(settings.sweep(quantizations=quantizations, batch_sizes=batch_sizes, blocks=2, seed=seed), "cpu", "m")
    loads = [(w.block, w.load, w.configuration.quantization) for w in planned]
    assert len(set(loads)) == 2 * len(quantizations)
    assert loads == sorted(loads, key=lambda x: x[:2])


def test_the_seed_decides_the_order_and_a_longer_run_begins_the_same():
    def keys(**more):
        return [w.key for w in jobs.job_order(settings.sweep(**more), "cpu", "m")]

    assert keys(seed=1) == keys(seed=1)
    assert keys(seed=1) != keys(seed=2)
    assert keys(blocks=5)[: len(keys(blocks=3))] == keys(blocks=3)


def test_no_strategy_is_always_first():
    """Over 200 blocks each of five strategies leads 40 times on average, sd 5.7; 15 to 65 is more than four sd."""
    planned = jobs.job_order(settings.sweep(blocks=200), "cpu", "m")
    leaders = Counter(w.configuration.quantization for w in planned if w.order == 1)
    assert all(15 <= leaders[q] <= 65 for q in settings.Sweep().quantizations)


def test_within_a_load_no_configuration_is_always_first():
    """Drift within a load must fall on all its windows: over 200 blocks each of four batch sizes leads its load 50 times, sd 6.1."""
    planned = jobs.job_order(settings.sweep(quantizations=["fp32"], batch_sizes=[1, 2, 4, 8], blocks=200), "cpu", "m")
    leaders = Counter(w.configuration.batch_size for w in planned if w.order == 1)
    assert sum(leaders.values()) == 200 and all(25 <= leaders[b] <= 75 for b in (1, 2, 4, 8)), leaders
    pairs = Counter((a.configuration.batch_size, b.configuration.batch_size) for a, b in itertools.pairwise(planned) if a.block == b.block)
    assert len(pairs) == 12, "some order of two never occurs"
