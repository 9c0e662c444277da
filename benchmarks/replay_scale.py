"""Time and memory to derive stored windows again, at three sizes up to 10,000 windows of 6,000 samples; prints one JSON line.

    python benchmarks/replay_scale.py [--windows 10000] [--samples 6000]

The recordings are simulated, written as Parquet by blocks of windows and read back block by block, as a campaign is. Each size runs in a
process of its own: peak memory is a property of a process.
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

BLOCK = 50


def build(folder: Path, windows: int, samples: int) -> None:
    """Writes `windows` recorded windows: one block in memory at a time."""
    import known_power

    from eai.power.derive import derive

    preset = next(p for p in known_power.PRESETS if p.name == "ada_instant")
    duration_s = samples * preset.update_s / 2
    rng = np.random.default_rng(1)
    load = known_power.decode(1000.0, duration_s, 0.037, 0.9, preset.high_w, preset.low_w, preset.idle_w)
    card = known_power.draw_card(preset, rng)
    spec = card.spec(preset, preset.idle_w, 0.5, 0.037)
    stream = known_power.record(load, card, spec, rng)
    derived = derive(stream, load.start_s, load.stop_s, spec)
    window = {"start_s": load.start_s, "stop_s": load.stop_s, "status": derived.status, "meter_spec": spec.to_json()}
    for block in range(-(-windows // BLOCK)):
        attempts = [f"{block * BLOCK + i:08x}" for i in range(min(BLOCK, windows - block * BLOCK))]
        many = pd.concat([stream] * len(attempts), ignore_index=True)
        many["attempt"] = pd.Categorical(np.repeat(attempts, len(stream)))
        many.to_parquet(folder / f"samples{block}.parquet")
        pd.DataFrame([window | {"attempt": a} for a in attempts]).to_parquet(folder / f"windows{block}.parquet")
        energies = [e.to_row() | {"attempt": a} for a in attempts for e in derived.energies]
        pd.DataFrame(energies).to_parquet(folder / f"energies{block}.parquet")


def child(folder: str) -> None:
    """Replays every block of a folder and prints its figures."""
    from eai.power.derive import replay

    begin_s, windows, rows, mismatches = time.perf_counter(), 0, 0, 0
    for path in sorted(Path(folder).glob("samples*.parquet")):
        samples = pd.read_parquet(path)
        others = (pd.read_parquet(path.with_name(path.name.replace("samples", kind))) for kind in ("windows", "energies"))
        done, wrong = replay(*others, samples)
        windows, rows, mismatches = windows + done, rows + len(samples), mismatches + len(wrong)
    figures = {"windows": windows, "samples": rows, "mismatches": mismatches, "seconds": time.perf_counter() - begin_s}
    print(json.dumps(figures | {"peak_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--windows", type=int, default=10_000)
    parser.add_argument("--samples", type=int, default=6_000)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        return child(arguments.child)
    sizes = []
    for windows in (arguments.windows // 4, arguments.windows // 2, arguments.windows):
        with tempfile.TemporaryDirectory() as folder:
            build(Path(folder), windows, arguments.samples)
            done = subprocess.run([sys.executable, __file__, "--child", folder], capture_output=True, text=True, check=True)
            sizes.append(json.loads(done.stdout))
    slope = np.polyfit(np.log([s["samples"] for s in sizes]), np.log([s["seconds"] for s in sizes]), 1)[0]
    result = {"benchmark": "replay_scale", "sizes": sizes, "exponent": float(slope)}
    last = sizes[-1]
    result["ok"] = last["seconds"] <= 30 and last["peak_gib"] <= 2 and slope < 1.15 and not any(s["mismatches"] for s in sizes)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
