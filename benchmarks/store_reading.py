"""What reading a large experiment costs: CPU seconds of its windows and energies, against a bare pandas reading of them. One JSON line.

    python benchmarks/store_reading.py [--windows 100000]

The sample's windows, repeated. Each reading is a process of its own; `first` parses the JSON lines and leaves the copy in Parquet that
`again` reads. `again_ratio`: of the CPU time of `pandas.read_parquet` on the same rows. Targets: again <= 1 s and 400 MiB.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from eai import tables

READ = """
import json, resource, sys, time
import pandas as pd
from eai import tables
tables.read_windows("sample"), tables.read_energies("sample")
began_s, windows = time.process_time(), 0
if sys.argv[2] == "bare":
    for name in ("windows", "energies"):
        windows = max(windows, len(pd.read_parquet(f"{sys.argv[1]}/.eai/{name}.parquet")))
else:
    windows = len(tables.read_windows(sys.argv[1]))
    assert len(tables.read_energies(sys.argv[1])) >= windows
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(json.dumps({"windows": windows, "cpu_s": round(time.process_time() - began_s, 2), "peak_mib": round(peak)}))
"""


def repeated(folder: Path, count: int) -> None:
    """Write an experiment of `count` windows: the sample's, each time as further blocks."""
    (source,) = tables.job_dirs("sample")
    rows = tables.read_jsonl(source / "windows.jsonl")
    energies: dict[str, list[dict]] = {}
    for each in tables.read_jsonl(source / "energies.jsonl"):
        energies.setdefault(each["attempt"], []).append(each)
    (folder / source.name).mkdir()
    with open(folder / source.name / "windows.jsonl", "w") as windows, open(folder / source.name / "energies.jsonl", "w") as beside:
        for i in range(count):
            row = rows[i % len(rows)]
            own = {"attempt": f"{i:08x}", "block": row["block"] + 1000 * (i // len(rows))}
            windows.write(json.dumps(row | own) + "\n")
            beside.writelines(json.dumps(each | own) + "\n" for each in energies[row["attempt"]])


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--windows", type=int, default=100_000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        repeated(Path(place), arguments.windows)
        found = {}
        for name in ("first", "again", "bare"):
            done = subprocess.run([sys.executable, "-c", READ, place, name], capture_output=True, text=True, check=True)
            found[name] = json.loads(done.stdout)
    ratio = {"again_ratio": round(found["again"]["cpu_s"] / max(found["bare"]["cpu_s"], 0.01), 2)}
    passed = {"again_cpu_s": found["again"]["cpu_s"] <= 1.0, "again_peak_mib": found["again"]["peak_mib"] <= 400}
    print(json.dumps({"benchmark": "store_reading"} | found | ratio | {"passed": passed}))


if __name__ == "__main__":
    main()
