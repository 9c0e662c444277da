"""What a person waits for: CPU seconds and peak memory of each, beside a bare library doing the least of it in the same run. One JSON line.

    python benchmarks/waiting.py [--quick] [--only NAME ...]

    experiment    100,000 windows and their energies, read again        beside pandas.read_parquet of the same rows
    summary       10,000 configurations x 10 blocks                      beside pandas' groupby: mean, sd and count of the same logarithms
    comparisons   the same windows                                       likewise
    import        a table of 100,000 rows                                beside pandas.read_csv of it
    check         a table of 1,000,000 rows                              beside pyarrow.csv.read_csv of it
    trace         a log of 5,000,000 readings                            beside duckdb's integral of it, where duckdb is installed
    report claims optimize estimate compare diagnose doctor              beside `import pandas`

Each is a process of its own, its children's time included; `ratio` is of the CPU seconds, which a busy machine stretches alike; `target` as
stated in CPU seconds of a quiet core, or where it says so as a ratio.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from store_reading import repeated
from trace_speed import write

CLI = "import sys; from eai.cli import main; sys.argv[0] = 'eai'; main()"
PLAN = ("--model", "Qwen/Qwen2-7B", "--gpu", "a100_sxm4_80gb")
ANSWERS = {
    "report": (["report", "sample", "--out", "{place}/report"], 6.0),
    "claims": (["claims"], 1.5),
    "optimize": (["optimize", *PLAN], 1.0),
    "estimate": (["estimate", *PLAN, "--requests", "1e6"], 1.0),
    "compare": (["compare", *PLAN], 1.0),
    "diagnose": (["diagnose", *PLAN, "--throughput", "20", "--energy-j-per-1k", "9000"], 1.0),
    "doctor": (["doctor"], 1.0),
}
READ = "import sys; from eai import tables; tables.read_windows(sys.argv[1]), tables.read_energies(sys.argv[1])"
BARE_READ = "import sys, pandas as pd; [pd.read_parquet(f'{sys.argv[1]}/.eai/{n}.parquet') for n in ('windows', 'energies')]"
SUMMARY = """import sys, pandas as pd
from eai.analyze.{module} import {name} as made
windows, energies = (pd.read_pickle(f"{{sys.argv[1]}}/{{n}}.pkl") for n in ("windows", "energies"))
assert len(made(windows, energies)) >= 7_500
"""
LOADING = "import sys, pandas as pd; w, e = (pd.read_pickle(f'{sys.argv[1]}/{n}.pkl') for n in ('windows', 'energies'))\n"
BARE_GROUPS = LOADING + (
    "import numpy as np\ne.assign(x=np.log(e['energy_j'])).groupby('configuration_id')['x'].agg(['mean', 'std', 'size'])"
)
DUCK = """import sys, duckdb
duckdb.execute("set threads to 1")
steps = f"select power_w p, t_s - lag(t_s) over (order by t_s) dt from read_csv('{sys.argv[1]}')"
print(duckdb.execute(f"select sum(p * dt) from ({steps})").fetchall())
"""


PEAK = """import atexit, sys
atexit.register(lambda: print(*[line for line in open("/proc/self/status") if line.startswith("VmHWM")], file=sys.stderr))
"""
"""Tells a process' own peak: the one that wait4 knows begins with that of whoever started it."""


def spent(code: str, *arguments: str) -> dict:
    """CPU seconds and peak MiB of a program and its children; one that ends with more than 1 is an error."""
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", PEAK + code, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    said = process.stderr.read()
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in (0, 1):
        raise RuntimeError(f"{arguments}: exit {process.returncode}: {said[-500:].decode()}")
    return {"cpu_s": round(used.ru_utime + used.ru_stime, 2), "peak_mib": int(said.rpartition(b"VmHWM:")[2].split()[0]) // 1024}


def less(found: dict, start: dict) -> float:
    """CPU seconds beyond those of another program, which loads what both need."""
    return max(found["cpu_s"] - start["cpu_s"], 0.01)


def beside(found: dict, bare: dict, target: str, value: float, limit: float) -> dict:
    """A line of the result: what was found, the bare library's, their ratio, and whether the target is met."""
    ratio = {"bare_cpu_s": bare["cpu_s"], "ratio": round(found["cpu_s"] / max(bare["cpu_s"], 0.01), 2)}
    return found | ratio | {"target": target, "met": bool(value <= limit)}


def groups(place: Path, configurations: int, blocks: int = 10) -> None:
    """Windows and energies of so many configurations in four strategies, with a scatter of 2 % about 1, 0.8, 1.3 and 0.9 times 100 J."""
    from eai import tables

    window, energy = tables.read_windows("sample").iloc[[0]], tables.read_energies("sample").iloc[[0]]
    rng, n = np.random.default_rng(0), configurations * blocks
    configuration, block = np.divmod(np.arange(n), blocks)
    names = np.array(["fp32", "int8_default", "nf4", "bf16"])[configuration % 4]
    own = {
        "configuration_id": [f"{i:016x}" for i in configuration],
        "model": [f"m{i}" for i in configuration // 4],
        "quantization": names,
        "block": block + 1,
        "attempt": [f"{i:08x}" for i in range(n)],
        "repeat": 1,
        "job": "j",
    }
    windows = window.loc[window.index.repeat(n)].reset_index(drop=True).assign(**own)
    joules = 100 * np.array([1.0, 0.8, 1.3, 0.9])[configuration % 4] * np.exp(rng.normal(0, 0.02, n))
    keys = {name: own[name] for name in own if name in energy}
    energies = energy.loc[energy.index.repeat(n)].reset_index(drop=True).assign(**keys, energy_j=joules, primary=True)
    windows.to_pickle(place / "windows.pkl")
    energies.to_pickle(place / "energies.pkl")


def table(path: Path, rows: int, codecarbon: bool = False) -> None:
    """A table of clean runs: of strategies, with tokens, seconds and joules; or as CodeCarbon 3 writes it, in kWh."""
    rng = np.random.default_rng(0)
    tokens, seconds = rng.integers(1_000, 9_000, rows), np.round(rng.uniform(5, 60, rows), 3)
    joules = np.round(seconds * rng.uniform(100, 300, rows), 2)
    names = {"model": rng.choice([f"m{i}" for i in range(20)], rows), "quantization": rng.choice(["fp16", "int8", "nf4"], rows)}
    names |= {"gpu": rng.choice(["A100", "H100", "L40S"], rows), "batch_size": rng.choice([1, 4, 16], rows)}
    frame = pd.DataFrame(names | {"tokens_out": tokens, "duration_s": seconds, "energy_j": joules})
    if codecarbon:
        kwh = {"gpu_energy": joules / 3.6e6, "cpu_energy": 1e-4, "ram_energy": 1e-5, "energy_consumed": joules / 3.6e6 + 1.1e-4}
        rest = {"gpu_model": "NVIDIA L40S", "duration": seconds, "emissions": 0.4 * kwh["energy_consumed"], "run_id": np.arange(rows)}
        frame = pd.DataFrame(kwh | rest | {"timestamp": "2025-03-01T10:00:00"})
    frame.to_csv(path, index=False)


def measured(names: list[str], quick: bool, place: Path) -> dict:
    """The lines asked for."""
    found, small = {}, 20 if quick else 1
    plain = spent("import pandas")
    if "experiment" in names:
        folder = place / "experiment"
        folder.mkdir()
        repeated(folder, 100_000 // small)
        spent(READ, str(folder))
        again, bare = spent(READ, str(folder)), spent(BARE_READ, str(folder))
        met = max(again["cpu_s"] - spent("from eai import tables; tables.read_windows('sample')")["cpu_s"], again["peak_mib"] / 400)
        found["experiment"] = beside(again, bare, "1 s beyond loading, 400 MiB", met, 1.0)
    if {"summary", "comparisons"} & set(names):
        groups(place, 10_000 // small)
        loading, bare = spent(LOADING, str(place)), spent(BARE_GROUPS, str(place))
        for name, module, call in (("summary", "summary", "summarize"), ("comparisons", "comparison", "compare")):
            code = SUMMARY.format(module=module, name=call).replace("7_500", str(7_500 // small))
            used = spent(code, str(place))
            found[name] = beside(used, bare, "1 s beyond loading", less(used, loading), 1.0)
    if "import" in names:
        table(place / "import.csv", 100_000 // small, codecarbon=True)
        bare = spent("import sys, pandas; pandas.read_csv(sys.argv[1])", str(place / "import.csv"))
        constants = ("model=m1", "quantization=fp16", "batch_size=1", "input_tokens=100", "output_tokens=5000", "tokens_out=5000")
        given = ["--format", "codecarbon", *(word for each in constants for word in ("-p", each))]
        used = spent(CLI, "import", str(place / "import.csv"), "--out", str(place / "imported"), *given)
        found["import"] = beside(used, bare, "4 s", used["cpu_s"], 4.0)
    if "check" in names:
        table(place / "check.csv", 1_000_000 // small)
        bare = spent("import sys, pyarrow.csv; pyarrow.csv.read_csv(sys.argv[1])", str(place / "check.csv"))
        used = spent(CLI, "check", str(place / "check.csv"))
        found["check"] = beside(used, bare, "6 x Arrow", used["cpu_s"] / bare["cpu_s"], 6.0)
    if "trace" in names:
        path = place / "log.csv"
        write("two_columns", path, 5_000_000 // small)
        used = spent(CLI, "trace", str(path))
        try:
            bare = spent(DUCK, str(path))
            met = max(used["cpu_s"] / bare["cpu_s"] / 1.2, used["peak_mib"] / bare["peak_mib"])
        except RuntimeError:
            bare, met = {"cpu_s": float("nan")}, float("nan")
        found["trace"] = beside(used, bare, "1.2 x duckdb on one thread, its memory", met, 1.0)
    for name in names:
        if name in ANSWERS:
            arguments, limit = ANSWERS[name]
            given = [text.format(place=place) for text in arguments]
            spent(CLI, *given)
            shutil.rmtree(place / "report", ignore_errors=True)
            used = spent(CLI, *given)
            found[name] = beside(used, plain, f"{limit:g} s", used["cpu_s"], limit)
    return found


def main() -> None:
    """Run and print."""
    names = ["experiment", "summary", "comparisons", "import", "check", "trace", *ANSWERS]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a twentieth of the rows")
    parser.add_argument("--only", nargs="+", choices=names, default=names)
    arguments = parser.parse_args()
    os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")
    with tempfile.TemporaryDirectory() as place:
        os.environ["EAI_FIGURES"] = f"{place}/figures"
        found = measured(arguments.only, arguments.quick, Path(place))
    print(json.dumps({"benchmark": "waiting"} | found | {"ok": all(line["met"] for line in found.values())}))


if __name__ == "__main__":
    main()
