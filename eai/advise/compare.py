"""Strategies side by side on one card, model and batch size: energy, speed, memory, rank with its probability, and paradoxes from the rows.

A ratio is taken between rows of one session where both stand in one: the session's and the card's share of the error cancels. Otherwise it
is the ratio of two costs, each with its own interval.
"""

import numpy as np
from scipy import stats

from eai.advise.accuracy import accuracy
from eai.advise.crossover import crossovers
from eai.advise.evidence import Cost, cost_or_reason, measure_command, rows, scaled
from eai.advise.optimize import STRATEGIES, probabilities
from eai.advise.parameters import Request, cannot_run, fits
from eai.errors import UserError
from eai.footprint import fit
from eai.predict.features import canonical, shape
from eai.predict.prediction import judged
from eai.quantity import Quantity

BASELINE = "fp16"
NORMAL_95 = 1.96


def compare(r: Request) -> dict:
    """The strategies side by side. Keys: rows (by rank), not_told, paradoxes, recommendation, crossovers, advice, assumptions, warnings.

    Raises UserError where not one strategy can be told.
    """
    known, not_told = _known(r)
    if not known:
        raise UserError(f"no strategy of {r.model.slug} at batch {r.batch_size} on {r.gpu.name} can be told", "", measure_command(r))
    ordered = sorted(known, key=lambda q: known[q].energy_j_per_token.value)
    p_best = dict(zip(ordered, probabilities([known[q] for q in ordered]), strict=True))
    table = [_row(r.with_(quantization=q), known, rank, float(p_best[q])) for rank, q in enumerate(ordered, start=1)]
    return {
        "baseline": BASELINE,
        "rows": table,
        "not_told": not_told,
        "paradoxes": paradoxes(table),
        "recommendation": recommendation(table),
        "crossovers": crossovers(r.gpu.slug),
        "advice": advice(r),
        "measure": measure_command(r),
        "assumptions": list(r.assumptions),
        "warnings": list(r.warnings),
    }


def _known(r: Request) -> tuple[dict[str, Cost], list[dict]]:
    """(strategy -> cost, the strategies that cannot be told with the reason)."""
    known, not_told = {}, []
    for strategy in (*STRATEGIES, *(() if r.quantization in STRATEGIES else (r.quantization,))):
        wanted, reason = r.with_(quantization=strategy), cannot_run(r.gpu, strategy)
        if not reason and not fits(wanted):
            reason = fit(r.model, strategy, r.gpu, r.batch_size, r.input_tokens, r.output_tokens).explained
        found = None
        if not reason:
            found, reason = cost_or_reason(wanted)
        if found is None:
            not_told.append({"quantization": strategy, "reason": reason})
        else:
            known[strategy] = found
    return known, not_told


def _row(wanted: Request, known: dict[str, Cost], rank: int, p_best: float) -> dict:
    """One strategy's line."""
    c = known[wanted.quantization]
    parts = fit(wanted.model, wanted.quantization, wanted.gpu, wanted.batch_size, wanted.input_tokens, wanted.output_tokens)
    ratio, how = ratio_to_baseline(wanted, known)
    quality = accuracy(wanted, wanted.min_accuracy)
    joule = c.energy_j_per_token
    return {
        "quantization": wanted.quantization,
        "energy_j_per_1k_tok": c.energy_j_per_1k_tok.to_json(),
        "ratio_to_baseline": ratio.to_json() if ratio else None,
        "ratio_evidence": how,
        "throughput_tok_s": c.throughput_tok_s.to_json(),
        "tokens_per_j": Quantity(1 / joule.value, 1 / joule.high, 1 / joule.low, "tok/J").to_json(),
        "vram_gb": {"value": parts.needed_gb, "low": None, "high": None, "unit": "GB"},
        "latency_s": c.latency_s(wanted.batch_size, wanted.output_tokens).to_json(),
        "power_w": c.power_w.to_json(),
        "energy_j_per_request": scaled(joule, wanted.output_tokens, "J").to_json(),
        "rank": rank,
        "p_best": p_best,
        "accuracy": quality.to_json(),
        "basis": c.basis,
        "evidence": list(c.evidence),
        "warnings": list(c.warnings),
    }


def ratio_to_baseline(wanted: Request, known: dict[str, Cost]) -> tuple[Quantity | None, str]:
    """(energy over fp16's, how it was taken): within sessions where both stand, else from the two costs; None without fp16."""
    if canonical(wanted.quantization) == BASELINE:
        return (Quantity(1.0, unit=""), "the baseline") if wanted.quantization == BASELINE else (Quantity(1.0, unit=""), "taken as fp16's")
    pairs = session_ratios(wanted)
    if len(pairs):
        value = float(np.exp(np.mean(np.log(list(pairs.values())))))
        sd, df = pair_spread()
        half = float(stats.t.ppf(0.975, df)) * sd * np.sqrt(1 + 1 / len(pairs))
        return Quantity(value, value * np.exp(-half), value * np.exp(half), ""), f"within {len(pairs)} session(s): {', '.join(pairs)}"
    if BASELINE not in known:
        return None, "fp16 cannot be told here"
    own, base = known[wanted.quantization], known[BASELINE]
    value = own.energy_j_per_token.value / base.energy_j_per_token.value
    half = NORMAL_95 * float(np.hypot(own.sd_own, base.sd_own))
    how = f"{own.basis} over {base.basis}, with the errors that the two do not share"
    return Quantity(value, value * np.exp(-half), value * np.exp(half), ""), how


def session_ratios(wanted: Request) -> dict[str, float]:
    """Session -> energy over fp16's in that session, for this card, shape and batch size."""
    table = rows()
    same = (table["gpu"] == wanted.gpu.slug) & (table["shape"] == shape(wanted.model)) & (table["batch_size"] == wanted.batch_size)
    means = table[same].groupby(["session", "quantization"])["energy_j_per_token"].mean().unstack()
    strategy = canonical(wanted.quantization)
    if BASELINE not in means or strategy not in means:
        return {}
    return (means[strategy] / means[BASELINE]).dropna().to_dict()


def pair_spread() -> tuple[float, int]:
    """(sd of a log ratio to fp16 between sessions of one card, shape and batch size, its degrees of freedom), pooled over strategies."""
    table = judged().rows
    keys = ["gpu", "shape", "batch_size"]
    base = table[table["quantization"] == BASELINE].set_index([*keys, "session"])["energy_j_per_token"]
    others = table[table["quantization"] != BASELINE].set_index([*keys, "session", "quantization"])["energy_j_per_token"]
    logs = np.log(others / base.reindex(others.index.droplevel("quantization")).to_numpy()).dropna()
    groups = logs.groupby(level=[*keys, "quantization"])
    df = (groups.size() - 1).clip(lower=0)
    return float(np.sqrt((groups.var().fillna(0.0) * df).sum() / df.sum())), int(df.sum())


def paradoxes(table: list[dict]) -> list[str]:
    """Where a smaller format costs more energy, or lower power does: only what the intervals carry is called shown."""
    found = []
    base = next((e for e in table if e["quantization"] == BASELINE), None)
    for e in table:
        ratio = e["ratio_to_baseline"]
        if base is None or ratio is None or e["quantization"] in (BASELINE, "bf16") or ratio["value"] <= 1:
            continue
        carried = "shown" if ratio["low"] > 1 else "not shown: the interval includes 1"
        change, low, high = (ratio[k] - 1 for k in ("value", "low", "high"))
        text = f"{e['quantization']} costs {change:+.0%} [{low:+.0%}, {high:+.0%}] energy against fp16 ({carried})"
        watts = e["power_w"]["value"], base["power_w"]["value"]
        if watts[0] < watts[1]:
            text += f", at {watts[0]:.0f} W instead of {watts[1]:.0f} W: lower power, lower speed, more energy a token"
        found.append(text)
    return found


def recommendation(table: list[dict]) -> str:
    """The first by rank whose accuracy may be recommended, with its reasons, and what an unknown accuracy keeps out."""
    chosen = next((e for e in table if e["accuracy"]["acceptable"]), None)
    if chosen is None:
        return "none: not one strategy has a known accuracy"
    sure = f"best with probability {chosen['p_best']:.2f}"
    text = f"{chosen['quantization']}: rank {chosen['rank']} in energy ({sure}), {chosen['accuracy']['note']}"
    barred = [e for e in table if e["rank"] < chosen["rank"]]
    if barred:
        first = barred[0]
        text += f". {first['quantization']} costs less energy, but: {first['accuracy']['note']}"
    return text


def advice(r: Request) -> list[str]:
    """What the context changes."""
    found = []
    if r.batch_size == 1:
        found.append("chat at batch 1: batch concurrent users first, it saves more than any strategy")
    elif r.batch_size >= 8:
        found.append("serving in batches: compare at this batch size only, the order at batch 1 need not hold")
    if not fits(r.with_(quantization=BASELINE)):
        found.append("fp16 does not fit: here quantization is about fitting, not about saving")
    return found
