"""CPU time and memory to integrate a power log of five million readings, beside Arrow reading the same file; prints one JSON line.

    python benchmarks/trace_speed.py [--samples 5000000]

Each form is measured in a process of its own: peak memory is a property of a process.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

FORMS = ("two_columns", "nvidia_smi", "parquet")
POWER_W = 300.0


def write(form: str, path: Path, samples: int) -> float:
    """Writes a log of two alternating powers around POWER_W every 10 ms; returns its true energy [J]."""
    if form == "parquet":
        frame = pd.DataFrame({"t_s": np.arange(samples) * 0.01, "device_id": "GPU-0", "field": "power_instant_w"})
        frame["value"] = POWER_W + np.where(np.arange(samples) % 2, 1.0, -1.0)
        frame.astype({"device_id": "category", "field": "category"}).to_parquet(path)
        return POWER_W * (samples - 1) * 0.01
    with open(path, "w") as file:
        file.write("t_s,power_w\n" if form == "two_columns" else "timestamp, index, power.draw [W]\n")
        for begin in range(0, samples, 100_000):
            file.writelines(_line(form, i) for i in range(begin, min(begin + 100_000, samples)))
    return POWER_W * (samples - 1) * 0.01


def _line(form: str, i: int) -> str:
    power_w = POWER_W + (1 if i % 2 else -1)
    if form == "two_columns":
        return f"{i / 100:.2f},{power_w:.2f}\n"
    seconds, hundredths = divmod(i, 100)
    minutes, hours = divmod(seconds // 60, 60)[1], seconds // 3600
    return f"2024/05/{1 + hours // 24:02d} {hours % 24:02d}:{minutes:02d}:{seconds % 60:02d}.{hundredths:02d}0, 0, {power_w:.2f} W\n"


def child(path: str) -> None:
    """Integrates one log and prints its figures."""
    from eai.power.logs import read_log
    from eai.power.trace import summarize_trace

    begin_s = time.process_time()
    energy = summarize_trace(read_log(path))["energy_j"]
    cpu_s = time.process_time() - begin_s
    print(json.dumps({"cpu_s": cpu_s, "peak_gib": _peak_gib(), "energy_j": energy.value}))


def arrow_child(path: str) -> None:
    """Reads the same columns of one log with Arrow alone, as numbers and stamps in text, and prints its figures."""
    import pyarrow.csv
    import pyarrow.parquet

    begin_s = time.process_time()
    if path.endswith(".parquet"):
        rows = sum(len(b) for b in pyarrow.parquet.ParquetFile(path).iter_batches(columns=["t_s", "value"]))
    else:
        rows = sum(len(b) for b in pyarrow.csv.open_csv(path))
    print(json.dumps({"cpu_s": time.process_time() - begin_s, "peak_gib": _peak_gib(), "rows": rows}))


def _peak_gib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=5_000_000)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--arrow", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child or arguments.arrow:
        return child(arguments.child) if arguments.child else arrow_child(arguments.arrow)
    result = {"benchmark": "trace_speed", "samples": arguments.samples}
    with tempfile.TemporaryDirectory() as folder:
        for form in FORMS:
            path = Path(folder) / f"log.{'parquet' if form == 'parquet' else 'csv'}"
            truth_j = write(form, path, arguments.samples)
            figures, arrow = (
                json.loads(subprocess.run([sys.executable, __file__, mode, str(path)], capture_output=True, text=True, check=True).stdout)
                for mode in ("--child", "--arrow")
            )
            figures["ratio_to_arrow"] = figures["cpu_s"] / arrow["cpu_s"]
            figures["error"] = figures.pop("energy_j") / truth_j - 1
            result[form] = figures
            path.unlink()
    result["ok"] = all(result[f]["peak_gib"] <= 0.6 and abs(result[f]["error"]) < 1e-6 for f in FORMS)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
