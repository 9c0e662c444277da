"""What the sweep costs besides measuring: planning, a job, a further batch size, a run with nothing to do; prints one JSON line.

    python benchmarks/sweep_overhead.py [--quick] [--part planning job batch nothing]

Simulated cards, so that measuring itself takes almost nothing. `job_s`: seconds by which `eai run` grows with each job, less the
imports and the measuring of that job, which are timed alone in a process of their own; the analysis afterwards is not in it. `batch_s`:
seconds by which a job grows with each further batch size, the simulation of its windows included: an upper bound. Targets in seconds:
planning 10,000 jobs 20, a job 5, a batch size 0.2, a run over 500 done jobs 3.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from eai import catalog, measure, settings
from eai.cluster import engine
from eai.errors import UserError
from eai.jobs import plan
from eai.power.simulated import PREFIX, model_of

TARGETS = {"planning_s": 20.0, "job_s": 5.0, "batch_s": 0.2, "nothing_to_do_s": 3.0}
SHAPE = {"input_tokens": [64], "output_tokens": [64], "window_s": 5.0, "warmup_cap_s": 2.0, "idle_s": 2.0, "blocks": 1}
ALONE = "import sys; from eai import measure, settings; "
ALONE += "measure.run(settings.Sweep.model_validate_json(sys.argv[1]), lambda line: None)"


def gpus() -> list[str]:
    """Every card that can be simulated."""
    found = []
    for gpu in catalog.gpus():
        try:
            found.append(PREFIX + model_of(gpu.slug).slug)
        except UserError:
            continue
    return found


def models() -> list[str]:
    """Models of the catalog, the small ones first."""
    return [m.hf_id for m in sorted(catalog.models(), key=lambda m: m.params_total)]


def sweep(cards: list[str], names: list[str], **changes) -> settings.Sweep:
    """A sweep over cards and models with little to measure."""
    return settings.sweep(gpus=cards, models=names, **({"quantizations": ["fp16"], "batch_sizes": [1]} | SHAPE | changes))


def planning(folder: Path, jobs: int) -> dict:
    """Seconds to plan `jobs` jobs of 100 configurations each into an empty folder, and into one that holds half of them."""
    cards = gpus()
    names = [f"someone/model-{i}" for i in range(-(-jobs // len(cards)))]
    asked = sweep(cards, names, quantizations=["fp16", "bf16", "nf4", "nf4_dq", "int8_pure"], batch_sizes=[1, 4, 16, 64], blocks=5)
    times_s = []
    for _ in range(2):
        began_s = time.perf_counter()
        planned = plan(asked, folder / "planned")
        times_s.append(time.perf_counter() - began_s)
        for job in planned[::2]:
            (folder / "planned" / f"{job.id}--51000000").mkdir(parents=True, exist_ok=True)
    return {"planning_s": round(max(times_s), 2), "planned_jobs": len(planned)}


def _eai(asked: settings.Sweep, folder: Path, out: Path) -> float:
    """Seconds of `eai run` on a sweep, as a user starts it."""
    path = folder / f"{out.name}.yaml"
    path.write_text(asked.model_dump_json(exclude={"experiment"}))
    command = [str(Path(sys.executable).with_name("eai")), "run", str(path), "--out", str(out)]
    began_s = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder)
    if done.returncode:
        raise SystemExit(f"eai run ended with {done.returncode}: {done.stderr.strip() or done.stdout.strip()[-500:]}")
    return time.perf_counter() - began_s


def job(folder: Path, few: int, many: int, repeats: int = 5) -> dict:
    """Seconds a job costs the engine besides imports and measuring: its time over `many` jobs less that over `few`, less one job alone.

    Medians over repeats in turn: on a machine that others use too, single runs are far out.
    """
    names, card = models(), gpus()[:1]
    slopes_s, alone_s, starts_s = [], [], []
    for i in range(repeats):
        alone = sweep(card, names[:1], experiment=str(folder / f"alone-{i}"))
        began_s = time.perf_counter()
        subprocess.run([sys.executable, "-c", ALONE, alone.model_dump_json()], check=True, capture_output=True, cwd=folder)
        alone_s.append(time.perf_counter() - began_s)
        spent_s = [_engine(sweep(card, names[:count]), folder / f"jobs-{i}-{count}") for count in (few, many)]
        slopes_s.append((spent_s[1] - spent_s[0]) / (many - few))
        starts_s.append(spent_s[0] - few * slopes_s[-1])
    own_s = [slope - alone for slope, alone in zip(slopes_s, alone_s, strict=True)]
    found = {"job_s": own_s, "job_with_imports_s": slopes_s, "imports_and_measuring_s": alone_s, "engine_start_s": starts_s}
    return {name: round(statistics.median(values), 2) for name, values in found.items()} | {
        "job_range_s": [round(min(own_s), 2), round(max(own_s), 2)],
        "job_repeats": repeats,
    }


def _engine(asked: settings.Sweep, out: Path) -> float:
    """Seconds of the engine over the jobs of a sweep."""
    began_s = time.perf_counter()
    failed = engine.run(asked, plan(asked, out), out, out / "figures", engine.Options())
    if failed:
        raise SystemExit(f"a job failed: {failed[0].error}")
    return time.perf_counter() - began_s


def batch(folder: Path, further: int) -> dict:
    """Seconds that each further batch size of a job takes, the simulation of its window included."""
    spent_s = []
    for count in (1, 1 + further):
        asked = sweep(gpus()[:1], models()[:1], batch_sizes=list(range(1, count + 1)), experiment=str(folder / f"batches-{count}"))
        began_s = time.perf_counter()
        measure.run(asked, lambda line: None)
        spent_s.append(time.perf_counter() - began_s)
    return {"batch_s": round((spent_s[1] - spent_s[0]) / further, 3)}


def nothing(folder: Path, jobs: int) -> dict:
    """Seconds of `eai run` over jobs that are all done, after a first run has analyzed them; the median of three."""
    cards, names = gpus(), models()
    per_card = -(-jobs // len(cards))
    asked, out = sweep(cards[: -(-jobs // per_card)], names[:per_card]), folder / "done"
    measure.run(asked.model_copy(update={"experiment": str(out)}), lambda line: None)
    _eai(asked, folder, out)
    return {"nothing_to_do_s": round(statistics.median(_eai(asked, folder, out) for _ in range(3)), 2), "done_jobs": len(plan(asked, out))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tenth of the jobs")
    parser.add_argument("--part", nargs="+", choices=("planning", "job", "batch", "nothing"))
    arguments = parser.parse_args()
    scale, parts = 10 if arguments.quick else 1, arguments.part or ("planning", "job", "batch", "nothing")
    for name in ("EAI_SIMULATED_PACE", "EAI_SIMULATED_GPUS"):
        os.environ.pop(name, None)
    began_s = time.perf_counter()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        os.environ["EAI_FIGURES"], os.environ["EAI_LOCKS"] = str(folder / "figures"), str(folder / "locks")
        found = planning(folder, 10_000 // scale) if "planning" in parts else {}
        found |= job(folder, 1, 4) if "job" in parts else {}
        found |= batch(folder, 40 // scale) if "batch" in parts else {}
        found |= nothing(folder, 500 // scale) if "nothing" in parts else {}
    passed = {name: found[name] <= limit for name, limit in TARGETS.items() if name in found}
    load = round(os.getloadavg()[2], 1)
    seconds = round(time.perf_counter() - began_s, 1)
    print(json.dumps({"benchmark": "sweep_overhead", **found, "passed": passed, "load_15min": load, "seconds": seconds}))


if __name__ == "__main__":
    main()
