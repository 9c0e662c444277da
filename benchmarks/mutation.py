"""Faults planted in the code that computes numbers, one at a time: do its tests see them? Prints one JSON line.

    pip install --target cosmic cosmic-ray
    PYTHONPATH=cosmic python benchmarks/mutation.py --make mutants.jsonl [--each 10] [--seed 0]
    python benchmarks/mutation.py --run mutants.jsonl --results results.jsonl [--only stats/intervals]

Mutants are cosmic-ray's: an operator, number, comparison, condition, loop or exception replaced. `--each` of them are drawn from
every module (decorators, annotations, texts and bit operators left out), at most one a line. cosmic-ray's own runner starts an interpreter
a mutant, and importing pandas and scipy takes longer than most of the tests; here one process has them loaded and forks. A mutant is killed
if one of the module's own tests fails, or uses five times the CPU time that all of them need. Run it in a copy of the repository: its files
are changed meanwhile.
"""

import argparse
import ast
import contextlib
import difflib
import json
import os
import random
import resource
import signal
import sys
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TESTS = {
    "stats/intervals": "stats_intervals stats_scores | analyze_summary analyze_perplexity",
    "stats/comparisons": "stats_comparisons stats_interactions stats_pareto | analyze_comparison analyze_regression",
    "stats/scores": "stats_scores | analyze_scores analyze_tasks",
    "stats/diagnostics": "stats_diagnostics | analyze_stability analyze_study",
    "stats/planning": "stats_planning",
    "quantity": "quantity terminal | advise_estimate advise_page",
    "footprint": "footprint workload_layers | workload_formats catalog simulation",
    "cells": "import_language import_shapes | import_tools claims_foreign import_strangers",
    "claims/chance": "claims_checks | claims_planted claims_verdicts",
    "claims/repeated": "claims_checks | claims_planted",
    "claims/relations": "claims_ratios claims_checks | claims_planted claims_affine claims_verdicts",
    "claims/physical": "claims_checks | claims_planted claims_foreign",
    "power/nvml": "power_sensor | power_derive power_accuracy",
    "power/derive": "power_derive | recorded power_trace power_server",
    "power/trace": "power_trace | power_logs power_formats",
    "power/window": "power_window power_sensor | power_derive power_nvml",
    "serving/traffic": "workload_server | measure_server",
    "predict/work": "predictor | predict_rows footprint",
    "predict/physics": "predictor | predict_rows advise_estimate",
    "predict/predictor": "predictor | predict_rows advise_estimate",
    "predict/sources": "predict_rows | predictor",
    "analyze/selection": "analyze_metrics analyze_summary | analyze_matrix analyze_tasks analyze_quality analyze_comparison analyze_load",
    "analyze/summary": "analyze_summary analyze_load analyze_scores analyze_perplexity | analyze_quality analyze_stability analyze_tasks",
    "analyze/comparison": "analyze_comparison analyze_interaction | analyze_regression analyze_importers analyze_recovery plots",
    "analyze/deployment": "analyze_matrix | stats_pareto analyze_study",
    "analyze/roofline": "analyze_roofline analyze_prefill | analyze_tasks",
}
"""Tests of each module, the quickest to see a fault first; those after the bar are asked only about a mutant that the others let live."""
BITS = ("BitAnd", "BitOr", "BitXor", "LShift", "RShift")
"""Operators that fail on every float: nothing is learned from them."""
EARLY = ("-W", "ignore::pytest.PytestAssertRewriteWarning")
"""hypothesis is loaded before pytest could rewrite it."""
DIGEST = ("test_the_shipped_constants_belong_to_the_evidence", "test_edited_evidence_is_fitted_anew_once")
"""Tests of the digest that covers predict/physics.py and work.py: they see every change of a letter, and say nothing of numbers."""
CPU_FACTOR, CPU_FLOOR_S, WALL_FACTOR = 5, 10, 8


class _Bare(ast.NodeTransformer):
    """A module without what its numbers do not depend on: annotations, decorators, texts."""

    def visit_FunctionDef(self, node):
        node.decorator_list, node.returns = [], None
        self.generic_visit(node)
        return node

    def visit_ClassDef(self, node):
        node.decorator_list = []
        self.generic_visit(node)
        return node

    def visit_arg(self, node):
        node.annotation = None
        return node

    def visit_AnnAssign(self, node):
        node.annotation = ast.Constant(None)
        self.generic_visit(node)
        return node

    def visit_Constant(self, node):
        return ast.Constant("") if isinstance(node.value, str) else node


def bare(text: str) -> str:
    """What of a module's code counts; "" where it is no Python."""
    try:
        return ast.dump(_Bare().visit(ast.parse(text)))
    except SyntaxError:
        return ""


def make(each: int, seed: int):
    """Mutants as rows: module, line, operator, change, and the text of the file."""
    from cosmic_ray import ast as trees
    from cosmic_ray import plugins
    from cosmic_ray.mutating import mutate_code

    rng = random.Random(seed)
    for module in TESTS:
        path = ROOT / "eai" / f"{module}.py"
        text = path.read_text()
        tree, plain, places = trees.get_ast_from_path(path), bare(text), []
        for name in plugins.operator_names():
            if (kind := plugins.get_operator(name)).arguments() or name.endswith(BITS):
                continue
            found = [start for node in trees.ast_nodes(tree) for start, _ in kind().mutation_positions(node)]
            places += [(start[0], name, number) for number, start in enumerate(found)]
        rng.shuffle(places)
        lines: set[int] = set()
        for line, name, number in places:
            if len(lines) == each:
                break
            if line in lines or not (mutated := mutate_code(text, plugins.get_operator(name)(), number)):
                continue
            if (shown := bare(mutated)) and shown != plain:
                lines.add(line)
                diff = difflib.unified_diff(text.splitlines(), mutated.splitlines(), lineterm="", n=0)
                change = " -> ".join(" ".join(row[1:].split()) for row in list(diff)[2:] if row[0] in "+-")
                yield {"module": module, "line": line, "operator": name, "change": change, "text": mutated}


def tried(tests: str, cpu_s: float, wall_s: float, clean: bool = False) -> tuple[str, float, float]:
    """(outcome, CPU s, wall s) of tests in a process of their own: passed, failed or endless.

    The clean run keeps the rewritten asserts of the tests for those that follow; no bytecode of a mutant is ever kept.
    """
    began_s = time.monotonic()
    if (child := os.fork()) == 0:
        os.setsid()
        resource.setrlimit(resource.RLIMIT_CPU, (int(cpu_s), int(cpu_s) + 1))
        sys.dont_write_bytecode = not clean
        with open(os.devnull, "w") as nothing:
            os.dup2(nothing.fileno(), 1)
            os.dup2(nothing.fileno(), 2)
        import pytest

        files = [f"tests/test_{name}.py" for name in tests.split()]
        os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # nbval alone takes longer than most of the tests
        if "predictor" in tests:  # else a changed digest would fit everything anew
            import eai.predict.predictor as shipped

            digest = json.loads(shipped.SHIPPED.read_text())["digest"]
            shipped.digest = lambda: digest
            files += [f"--deselect=tests/test_predictor.py::{name}" for name in DIGEST]
        os._exit(int(pytest.main(["-x", "-q", "-p", "no:cacheprovider", *EARLY, *files])))
    while (waited := os.wait4(child, os.WNOHANG))[0] == 0:
        if time.monotonic() - began_s > wall_s:
            os.killpg(child, signal.SIGKILL)
        time.sleep(0.05)
    _, status, used = waited
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    outcome = "endless" if os.WIFSIGNALED(status) else "passed" if os.WEXITSTATUS(status) == 0 else "failed"
    return outcome, used.ru_utime + used.ru_stime, time.monotonic() - began_s


def run(mutants: list[dict], results: Path) -> None:
    """Try each mutant that has no result yet, module by module; a line each to `results`."""
    import hypothesis
    import numpy
    import pandas
    import pyarrow.parquet
    import pydantic
    import pytest
    import scipy.optimize
    import scipy.stats
    import statsmodels.stats.api
    import yaml

    del hypothesis, numpy, pandas, pyarrow, pydantic, pytest, scipy, statsmodels, yaml
    known = [json.loads(line) for line in results.read_text().splitlines()] if results.exists() else []
    done = {(row["module"], row["change"], row["line"]) for row in known}
    needed: dict[str, tuple[float, float]] = {}
    for mutant in mutants:
        module = mutant["module"]
        if (module, mutant["change"], mutant["line"]) in done:
            continue
        path = ROOT / "eai" / f"{module}.py"
        plain, stamp = path.read_text(), path.stat()
        for tests in TESTS[module].split("|"):
            if tests not in needed:
                outcome, *needed[tests] = tried(tests, 600, 1800, clean=True)
                if outcome != "passed":
                    sys.exit(f"the tests of {module} do not pass as they are: {tests}")
            cpu_s, wall_s = needed[tests]
            try:
                path.write_text(mutant["text"])
                outcome, used_s, _ = tried(tests, CPU_FACTOR * cpu_s + CPU_FLOOR_S, WALL_FACTOR * wall_s + 60)
            finally:
                path.write_text(plain)
                os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
            if outcome != "passed":
                break
        row = {k: v for k, v in mutant.items() if k != "text"} | {"outcome": outcome, "cpu_s": round(used_s, 1), "all_s": round(cpu_s, 1)}
        with open(results, "a") as file:
            file.write(json.dumps(row) + "\n")


def main() -> None:
    """Make or run, and print the counts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--make", type=Path)
    parser.add_argument("--run", type=Path)
    parser.add_argument("--results", type=Path, default=Path("mutation-results.jsonl"))
    parser.add_argument("--each", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", choices=TESTS)
    arguments = parser.parse_args()
    if arguments.make:
        arguments.make.write_text("".join(json.dumps(row) + "\n" for row in make(arguments.each, arguments.seed)))
        return
    os.chdir(ROOT)
    sys.path.insert(0, str(ROOT))
    mutants = [json.loads(line) for line in arguments.run.read_text().splitlines()]
    run([m for m in mutants if not arguments.only or m["module"] in arguments.only], arguments.results)
    rows = [json.loads(line) for line in arguments.results.read_text().splitlines()]
    alive = [{k: row[k] for k in ("module", "line", "change")} for row in rows if row["outcome"] == "passed"]
    counts = Counter("alive" if row["outcome"] == "passed" else "killed" for row in rows)
    share = round(len(alive) / max(len(rows), 1), 3)
    print(json.dumps({"benchmark": "mutation", "mutants": len(rows)} | counts | {"alive_share": share, "survivors": alive}))


if __name__ == "__main__":
    main()
