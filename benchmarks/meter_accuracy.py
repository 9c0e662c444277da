"""How far our energies are from the truth, beside the methods in use elsewhere; prints one JSON line.

    python benchmarks/meter_accuracy.py [--seeds 500] [--cells]

Simulated cards of six kinds, windows of 5, 10 and 30 s, decode steps of 10 to 100 ms, a ramp and a throttle step. Every seed draws
new phases, steps and shares of busy time. Gain is kept apart: errors are judged on cards without gain and offset, coverage of the
stated 95 % interval on cards whose gain and offset are drawn from what the budget states.
"""

import argparse
import json
import time

import known_power
import numpy as np
from known_power import PRESETS, Preset, Truth
from scipy import stats

from eai.power.derive import derive
from eai.power.readings import NEAR_BEATS, DeviceSpec, beats, is_aliased, wave_rel
from eai.power.trace import scatter as scatter_of

DURATIONS_S = (5.0, 10.0, 30.0)
LOADS = ("decode", "ramp", "throttle", "creep")
U_IDLE_W = 1.0


def workload(kind: str, preset: Preset, duration_s: float, rng: np.random.Generator) -> tuple[Truth, float | None]:
    """(truth, decode step [s] or None) of one random load of this kind."""
    start_s = 1000.0 + rng.uniform(0, 1)
    if kind == "creep":
        return known_power.creep(start_s, duration_s, rng.uniform(0.6, 1.0) * preset.high_w, preset.idle_w), None
    if kind == "ramp":
        return known_power.ramp(start_s, duration_s, rng.uniform(0.7, 0.95) * preset.high_w, preset.high_w, preset.idle_w), None
    if kind == "throttle":
        reduced_w = rng.uniform(0.5, 0.8) * preset.high_w
        return known_power.throttle(start_s, duration_s, preset.high_w, reduced_w, rng.uniform(0.1, 0.5), preset.idle_w), None
    step_s = rng.uniform(0.010, 0.100)
    return known_power.decode(start_s, duration_s, step_s, rng.uniform(0.5, 0.95), preset.high_w, preset.low_w, preset.idle_w), step_s


def one(preset: Preset, kind: str, duration_s: float, systematic: bool, rng: np.random.Generator) -> dict:
    """One window: our relative error, whether it was flagged, whether the interval covers, and the foils' errors."""
    load, step_s = workload(kind, preset, duration_s, rng)
    card = known_power.draw_card(preset, rng, systematic)
    idle_w = card.sensor.gain * preset.idle_w + card.sensor.offset_w + rng.normal(0, U_IDLE_W)
    spec = card.spec(preset, idle_w, U_IDLE_W, step_s)
    stream = known_power.record(load, card, spec, rng)
    derived = derive(stream, load.start_s, load.stop_s, spec)
    primary = next(e for e in derived.energies if e.primary)
    quantity = primary.absolute()
    power = stream[stream["field"] == "power_instant_w"]
    t_s, power_w = power["t_s"].to_numpy(), power["value"].to_numpy()
    edges = (t_s, power_w, load.start_s, load.stop_s)
    methods = {
        "mean_1hz": known_power.mean_times_time(*edges, 1.0),
        "mean_10hz": known_power.mean_times_time(*edges, 0.1),
        "inside_trapezoid": known_power.inside_trapezoid(*edges),
        "dedup_trapezoid": known_power.dedup_trapezoid(*edges),
    }
    result = {name: value / load.energy_j - 1 for name, value in methods.items()}
    flagged = derived.status != "ok"
    return result | {
        "ours": primary.energy_j / load.energy_j - 1,
        "flagged": flagged,
        "covers": quantity.low <= load.energy_j <= quantity.high,
    }


def cell(preset: Preset, kind: str, duration_s: float, seeds: int, seed: int) -> dict:
    """Errors (no gain, no offset) and coverage (both drawn) of one cell; rows that we flag are apart."""
    rng = np.random.default_rng([seed, 1])
    errors = [one(preset, kind, duration_s, False, rng) for _ in range(seeds)]
    ours = np.array([e["ours"] for e in errors if not e["flagged"]])
    covers = [c["covers"] for c in (one(preset, kind, duration_s, True, rng) for _ in range(seeds)) if not c["flagged"]]
    result = {"preset": preset.name, "load": kind, "duration_s": duration_s, "n": seeds}
    result |= {"flagged_share": 1 - len(ours) / seeds, "bias": float(ours.mean()), "sd": float(ours.std(ddof=1)), "n_covered": len(covers)}
    result |= {"over_3_percent": float(np.mean(np.abs(ours) > 0.03)), "covered": int(np.sum(covers))}
    for name in ("mean_1hz", "mean_10hz", "inside_trapezoid", "dedup_trapezoid"):
        result[f"{name}_rms"] = float(np.sqrt(np.mean([e[name] ** 2 for e in errors])))
    return result


def aliasing(count: int, seed: int = 0) -> dict:
    """How well the alias check of one log tells windows that a sensor with holes (25 of 100 ms) fools from those that it does not.

    Steps of 10 to 250 ms, half of them within 2 % of where harmonics meet updates; 20 to 80 % busy, 20 to 90 % of the power in that part,
    lengths that scatter by 0 to 3 %, windows of 2 to 60 s. A window is `aliased` if its mean is off by over 5 % at the worst of 16 phases
    of the sensor, `clear` if by under 2 % at all of them; between the two the interval has to hold. One log of each is judged, at a random
    phase. `covered` is the share of windows not flagged whose truth lies within 1.96 x the statistical and the aliasing term.
    """
    rng, update_s, averaging_s = np.random.default_rng([seed, 2]), 0.1, 0.025
    device = DeviceSpec("", "gpu", "simulated", update_s=update_s, averaging_s=averaging_s)
    worst, flagged, covered = [], [], []
    for _ in range(count):
        step_s = rng.uniform(0.010, 0.250)
        if rng.random() < 0.5:
            step_s = update_s * rng.integers(1, 5) / rng.integers(1, 5) * rng.uniform(0.98, 1.02)
        busy, low, scatter = rng.uniform(0.2, 0.8), rng.uniform(0.1, 0.8), rng.choice([0, 0.002, 0.01, 0.03])
        duration_s = float(np.exp(rng.uniform(np.log(2), np.log(60))))
        steps_s = step_s * np.clip(1 + scatter * rng.standard_normal(int(1.2 * (duration_s + 3) / step_s) + 10), 0.3, None)
        edge_s = np.concatenate([[0.0], np.cumsum(np.column_stack([busy * steps_s, (1 - busy) * steps_s]).ravel())])
        energy_j = np.concatenate([[0.0], np.cumsum(np.tile([1.0, low], len(steps_s)) * np.diff(edge_s))])
        errors, logs = [], []
        for phase_s in np.arange(16) / 16 * update_s:
            t = np.arange(1.0 + phase_s, 1.0 + duration_s, update_s)
            seen_w = (np.interp(t, edge_s, energy_j) - np.interp(t - averaging_s, edge_s, energy_j)) / averaging_s
            truth_w = np.diff(np.interp([t[0] - update_s, t[-1]], edge_s, energy_j))[0] / (len(t) * update_s)
            errors.append(seen_w.mean() / truth_w - 1), logs.append(seen_w)
        seen_w = logs[int(rng.integers(16))]
        worst.append(float(np.max(np.abs(errors))))
        flagged.append(is_aliased(device, step_s, duration_s, seen_w))
        if not flagged[-1]:
            near = beats(device, step_s, duration_s) < NEAR_BEATS
            u = np.hypot(scatter_of(seen_w) / seen_w.mean() / np.sqrt(len(seen_w)), wave_rel(seen_w) / 2 if near else 0.0)
            covered.append(np.mean(np.abs(errors) < 1.96 * u))
    worst, flagged = np.array(worst), np.array(flagged)
    share = {f"flagged_over_{limit:.0%}": float(flagged[worst > limit].mean()) for limit in (0.08, 0.05, 0.03)}
    return share | {
        "windows": count,
        "flagged_of_aliased": share["flagged_over_5%"],
        "flagged_of_clear": float(flagged[worst < 0.02].mean()),
        "flagged_under_5%": float(flagged[worst < 0.05].mean()),
        "covered": float(np.mean(covered)),
    }


def below_90(cells: list[dict]) -> list[str]:
    """Cells whose coverage is shown to be under 90 %: one-sided binomial tests, Holm over the cells, 5 %."""
    tests = sorted((stats.binomtest(c["covered"], c["n_covered"], 0.90, alternative="less").pvalue, i) for i, c in enumerate(cells))
    found = []
    for rank, (p, i) in enumerate(tests):
        if p > 0.05 / (len(tests) - rank):
            break
        found.append(f"{cells[i]['preset']} {cells[i]['load']} {cells[i]['duration_s']:g} s")
    return found


def judge(cells: list[dict]) -> dict:
    """The figures against what must be reached."""
    long = [c for c in cells if c["duration_s"] >= 10]
    presets = sorted({c["preset"] for c in cells})
    pooled = {
        p: sum(c["covered"] for c in cells if c["preset"] == p) / sum(c["n_covered"] for c in cells if c["preset"] == p) for p in presets
    }
    weights = [c["n"] * (1 - c["flagged_share"]) for c in cells]
    figures = {
        "bias_worst_10s": max(abs(c["bias"]) for c in long),
        "sd_worst_10s": max(c["sd"] for c in long),
        "bias_worst_5s": max(abs(c["bias"]) for c in cells if c["duration_s"] < 10),
        "sd_worst_5s": max(c["sd"] for c in cells if c["duration_s"] < 10),
        "flagged_share": float(np.mean([c["flagged_share"] for c in cells])),
        "flagged_share_worst": max(c["flagged_share"] for c in cells),
        "over_3_percent": float(np.average([c["over_3_percent"] for c in cells], weights=weights)),
        "coverage": pooled,
        "cells_below_90": below_90(cells),
    }
    for name in ("mean_1hz", "mean_10hz", "inside_trapezoid", "dedup_trapezoid"):
        figures[f"{name}_rms_worst"] = max(c[f"{name}_rms"] for c in cells)
        figures[f"{name}_rms_10s"] = float(np.sqrt(np.mean([c[f"{name}_rms"] ** 2 for c in long])))
    good = figures["bias_worst_10s"] <= 0.01 and figures["sd_worst_10s"] <= 0.015 and figures["over_3_percent"] <= 0.01
    figures["ok"] = good and all(0.93 <= c <= 0.97 for c in pooled.values()) and not figures["cells_below_90"]
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=500)
    parser.add_argument("--cells", action="store_true", help="print every cell too")
    arguments = parser.parse_args()
    begin_s = time.perf_counter()
    plan = [(p, k, d) for p in PRESETS for k in LOADS for d in DURATIONS_S]
    cells = [cell(p, k, d, arguments.seeds, i) for i, (p, k, d) in enumerate(plan)]
    result = {
        "benchmark": "meter_accuracy",
        "seeds": arguments.seeds,
        "windows": 2 * arguments.seeds * len(plan),
        **judge(cells),
        "aliasing": aliasing(4 * arguments.seeds),
    }
    result["seconds"] = time.perf_counter() - begin_s
    print(json.dumps(result | ({"cells": cells} if arguments.cells else {})))


if __name__ == "__main__":
    main()
