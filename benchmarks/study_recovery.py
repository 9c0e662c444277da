"""A simulated study of 6 GPUs x 6 models x 5 tasks x 4 strategies, analyzed over many seeds; prints one JSON line.

    python benchmarks/study_recovery.py [--seeds 1000] [--blocks 5]

Planted: effects of hardware, model, task and strategy, two interactions of strategy and hardware, and one strategy and one task that
change nothing. For each analysis: coverage of the 95 % intervals with its standard error over seeds, the rate at which a planted null
is called significant (alpha 5 %), families with any such call after Holm, power, and shown ratios of the wrong direction.
"""

import argparse
import json
import time

import numpy as np
import planted

AT_ONCE = 50


def recovered(seeds: int, blocks: int, seed: int = 0) -> dict:
    """The figures of each analysis over `seeds` simulated studies, drawn `AT_ONCE` at a time to bound the memory."""
    rng = np.random.default_rng(seed)
    parts: dict[str, list[dict]] = {}
    for start in range(0, seeds, AT_ONCE):
        energies = planted.logs(planted.STUDY, blocks, min(AT_ONCE, seeds - start), rng)
        judged = {"strategies": planted.strategies, "interactions": planted.interactions}
        for name, analysis in judged.items():
            parts.setdefault(name, []).append(planted.figures(analysis(planted.STUDY, energies)))
        for name in ("gpu", "model", "task"):
            parts.setdefault(name, []).append(planted.figures(planted.factor(planted.STUDY, energies, name)))
    return {name: _pooled(rows) for name, rows in parts.items()}


def _pooled(rows: list[dict]) -> dict:
    """Parts of a simulation as one: means weighted by their seeds, standard errors as of independent parts."""
    weights = np.array([row["seeds"] for row in rows], float)
    share = weights / weights.sum()
    pooled = {"seeds": int(weights.sum()), "comparisons": rows[0]["comparisons"], "nulls": rows[0]["nulls"]}
    for key in [k for k in rows[0] if k not in pooled]:
        values = np.array([row[key] for row in rows])
        pooled[key] = round(float(np.sqrt(np.sum((share * values) ** 2)) if key.endswith("_se") else share @ values), 5)
    return pooled


def main() -> None:
    """Run it from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=1000)
    parser.add_argument("--blocks", type=int, default=5)
    arguments = parser.parse_args()
    began = time.perf_counter()
    found = recovered(arguments.seeds, arguments.blocks)
    seconds = round(time.perf_counter() - began, 1)
    print(json.dumps({"benchmark": "study_recovery", "seeds": arguments.seeds, "blocks": arguments.blocks, "seconds": seconds} | found))


if __name__ == "__main__":
    main()
