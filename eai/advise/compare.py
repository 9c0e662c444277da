"""Strategies side by side at one batch on one card and engine: energy, speed, memory, rank, what each alternative costs, and paradoxes.

A ratio is taken between rows of one source where both stand in one: the source's and the card's share of the error cancels. Otherwise it is
the ratio of two costs with the errors that they do not share.
"""

from typing import Any

import numpy as np

from eai.advise.bill import bill
from eai.advise.evidence import KEYS, Accuracy, Cost, accuracy, canonical, cost_or_reason, measure_command, rows, session_spread, shape
from eai.advise.optimize import STRATEGIES
from eai.advise.request import Configuration, Request, cannot_run, fits, memory, require_fit
from eai.errors import UserError
from eai.quantity import Quantity
from eai.site import DRAWS, NORMAL_95, SEED

WORTH = 0.05
"""A difference of less than 5 % in energy is none that a choice should rest on."""
MANY_REQUESTS = 1_000_000
BASELINES = ("fp16", "bf16")


def compare(r: Request) -> dict[str, Any]:
    """The strategies side by side. Keys: baseline, rows (by rank), not_told, paradoxes, recommendation, against, context, measure.

    `against`: the recommended against each alternative: % energy, % speed, money a month. Raises UserError, with the reasons, where none
    can run or be predicted.
    """
    c = r.now
    known, not_told = _known(r)
    if not known:
        require_fit(c)
        raise UserError(
            f"no strategy of {c.model.slug} at batch {c.batch_size} on {c.gpu.name}: {not_told[0]['reason']}",
            "",
            "name another card, batch or engine",
        )
    ordered = sorted(known, key=lambda q: known[q].energy_j_per_token.value)
    base = next((q for q in BASELINES if q in known), None)
    p_best = dict(zip(ordered, _probabilities([known[q] for q in ordered]), strict=True))
    table = [_row(r, c.with_(quantization=q), known, base, rank, float(p_best[q])) for rank, q in enumerate(ordered, start=1)]
    chosen = _chosen(table, r)
    return {
        "configuration": c.to_json(),
        "baseline": base or "fp16",
        "rows": table,
        "not_told": not_told,
        "paradoxes": paradoxes(table, base),
        "recommended": chosen["quantization"] if chosen else None,
        "recommendation": recommendation(table, chosen),
        "against": against(table, chosen),
        "context": context(r, table, chosen),
        "measure": [f"{c.cards}: {measure_command(c.with_(quantization=q), base)}" for q in _pair(table, chosen)],
        "assumptions": [*r.assumptions, *(f.assumption() for f in r.site.factors)],
        "warnings": list(r.warnings),
    }


def _pair(table: list[dict], chosen: dict | None) -> list[str]:
    """The recommended strategy and its nearest rival, to be measured."""
    names = [chosen["quantization"]] if chosen else []
    return [*names, *(e["quantization"] for e in table if e["quantization"] not in names)][:2]


def _known(r: Request) -> tuple[dict[str, Cost], list[dict]]:
    """(strategy -> cost, the strategies that cannot run, do not fit or cannot be predicted, with the reason)."""
    known, not_told = {}, []
    usual = STRATEGIES[r.now.engine]
    if "bf16" in usual and (r.now.gpu.compute_capability or 0) < 8.0:
        usual = tuple("fp16" if q == "bf16" else q for q in usual)
    for strategy in dict.fromkeys((*usual, r.now.quantization)):
        wanted = r.now.with_(quantization=strategy)
        lacks = cannot_run(wanted)
        found, reason = (None, f"needs {lacks}") if lacks else cost_or_reason(wanted)
        if found is None:
            not_told.append({"quantization": strategy, "reason": reason})
        else:
            known[strategy] = found
    return known, not_told


def _probabilities(costs: list[Cost]) -> np.ndarray:
    """The probability of each cost to have the least energy; what predictions of one card share cancels among them, not against rows."""
    rng = np.random.default_rng(SEED)
    common = rng.standard_normal(DRAWS)
    logs = np.array([np.log(k.energy_j_per_token.value) + k.sd_own * rng.standard_normal(DRAWS) + k.sd_shared * common for k in costs])
    return np.bincount(logs.argmin(axis=0), minlength=len(costs)) / DRAWS


def _row(r: Request, c: Configuration, known: dict[str, Cost], base: str | None, rank: int, p_best: float) -> dict[str, Any]:
    """One strategy's line."""
    k, parts = known[c.quantization], memory(c)
    ratio, how = ratio_to_baseline(c, known, base)
    quality: Accuracy = accuracy(c.model, c.quantization, r.min_accuracy)
    joule = k.energy_j_per_token
    month = bill(r, c, k)
    return {
        "quantization": c.quantization,
        **k.to_json(),
        "ratio_to_baseline": ratio.to_json() if ratio else None,
        "ratio_evidence": how,
        "tokens_per_j": Quantity(
            1 / joule.value, *((None, None) if joule.low is None else (1 / joule.high, 1 / joule.low)), "tok/J"
        ).to_json(),
        "vram_gb": {"value": parts.needed_gb, "low": None, "high": None, "unit": "GB"},
        "latency_s": k.latency_s(c).to_json(),
        "energy_j_per_request": month["energy_j_per_request"],
        "month": {name: month[name] for name in ("energy_kwh", "cost_usd", "carbon_kg")} | {"cards_usd": month["cards"]["usd"]},
        "rank": rank,
        "p_best": p_best,
        "accuracy": quality.to_json(),
        "warnings": [
            *k.warnings,
            *([f"{parts.needed_gb:.1f} of {parts.available_gb:.1f} GB: a longer prompt spills"] if parts.pressed else []),
        ],
    }


def ratio_to_baseline(c: Configuration, known: dict[str, Cost], base: str | None) -> tuple[Quantity | None, str]:
    """(energy over the baseline's, how it was taken): within sources where both stand, else from the two costs; None without a baseline."""
    if base is None:
        return None, "half precision cannot run or be predicted here"
    if canonical(c.quantization) == canonical(base):
        return Quantity(1.0, unit=""), "the baseline" if c.quantization == base else f"as {base}: the same bytes and compute"
    pairs = source_ratios(c, base)
    own, other = known[c.quantization], known[base]
    if pairs:
        value = float(np.exp(np.mean(np.log(list(pairs.values())))))
        half = NORMAL_95 * session_spread()[0] * float(np.sqrt(1 + 1 / len(pairs)))
        return Quantity(value, value * np.exp(-half), value * np.exp(half), ""), f"within {len(pairs)} source(s): {', '.join(pairs)}"
    value = own.energy_j_per_token.value / other.energy_j_per_token.value
    apart = np.hypot(own.sd_shared, other.sd_shared) if {own.basis, other.basis} != {"predicted"} else 0.0
    half = NORMAL_95 * float(np.sqrt(own.sd_own**2 + other.sd_own**2 + apart**2))
    return Quantity(
        value, value * np.exp(-half), value * np.exp(half), ""
    ), f"{own.basis} over {other.basis}, with the errors that the two do not share"


def source_ratios(c: Configuration, base: str) -> dict[str, float]:
    """Source -> energy over the baseline's in that source, for this card, shape, engine and batch size at one pair of lengths."""
    table = rows()
    keys = [k for k in KEYS if k != "strategy"]
    wanted = (c.gpu.slug, c.num_gpus, shape(c.model), c.engine, c.batch_size)
    here = table[(table[keys] == np.array(wanted, object)).all(axis=1)]
    means = here.groupby(["source", "input_tokens", "output_tokens", "strategy"], dropna=False)["energy_j_per_token"].mean().unstack()
    own, other = canonical(c.quantization), canonical(base)
    if own not in means or other not in means:
        return {}
    found = (means[own] / means[other]).dropna()
    return {} if found.empty else np.exp(np.log(found).groupby(level="source").mean()).to_dict()


def undecided(ratio: dict | None) -> bool:
    """Whether a ratio's interval includes 1: then nothing is said about which costs more."""
    return ratio is None or ratio["low"] is None or ratio["low"] <= 1 <= ratio["high"]


def paradoxes(table: list[dict], base: str | None) -> list[str]:
    """Where a smaller format costs more energy, and where lower power does; only what the interval carries is called shown."""
    found = []
    reference = next((e for e in table if e["quantization"] == base), None)
    for e in table:
        ratio = e["ratio_to_baseline"]
        if reference is None or ratio is None or e["accuracy"]["status"] == "reference" or ratio["value"] <= 1:
            continue
        low, high = (ratio["low"], ratio["high"]) if ratio["low"] is not None else (ratio["value"], ratio["value"])
        text = f"{e['quantization']} costs {ratio['value'] - 1:+.0%} [{low - 1:+.0%} to {high - 1:+.0%}] energy against {base}"
        text += " (undecided: the interval includes no change)" if undecided(ratio) else ""
        watts = e["power_w"]["value"], reference["power_w"]["value"]
        if watts[0] < 0.97 * watts[1]:
            text += f", at {watts[0]:.0f} W instead of {watts[1]:.0f} W: lower power, lower speed, more energy a token"
        found.append(text)
    return found


def _chosen(table: list[dict], r: Request) -> dict | None:
    """Of those whose accuracy may be recommended and whose request ends within the limit, the least energy; within 5 % of it the
    unquantized."""
    limit = r.max_latency_s or r.latency_p95_s
    fine = [e for e in table if e["accuracy"]["acceptable"]]
    fine = [e for e in fine if limit is None or e["latency_s"]["value"] <= limit] or fine
    close = [e for e in fine if e["energy_j_per_token"]["value"] <= (1 + WORTH) * fine[0]["energy_j_per_token"]["value"]]
    return min(close, key=lambda e: (e["accuracy"]["status"] != "reference", -e["throughput_tok_s"]["value"]), default=None)


def recommendation(table: list[dict], chosen: dict | None) -> str:
    """The recommended strategy with its reasons, and what an unknown accuracy keeps out."""
    if chosen is None:
        if not table:
            return "nothing runs here: see what was left out"
        first = table[0]
        return (
            f"no format that fits has a known accuracy here. By energy alone {first['quantization']} comes first "
            f"(lowest with probability {first['p_best']:.0%}); score it on your task before you choose it"
        )
    text = (
        f"{chosen['quantization']}: rank {chosen['rank']} of {len(table)} in energy "
        f"(lowest with probability {chosen['p_best']:.0%}), {chosen['accuracy']['note']}"
    )
    for e in table:
        saved = 1 - e["energy_j_per_token"]["value"] / chosen["energy_j_per_token"]["value"]
        if e["rank"] < chosen["rank"] and e["accuracy"]["status"] != "broken":
            close = " (within 5 %: no reason to quantize)" if saved < WORTH else ""
            return text + f". {e['quantization']} would take {saved:.0%} less energy{close}: {e['accuracy']['note']}"
    return text


def against(table: list[dict], chosen: dict | None) -> list[dict[str, Any]]:
    """The recommended against each alternative: fractions of energy and speed more (+) or less (-), USD of electricity a month less, and
    a line."""
    found = []
    for e in table:
        if chosen is None or e is chosen:
            continue
        energy = chosen["energy_j_per_token"]["value"] / e["energy_j_per_token"]["value"] - 1
        speed = chosen["throughput_tok_s"]["value"] / e["throughput_tok_s"]["value"] - 1
        usd = [x["month"]["cost_usd"]["value"] for x in (e, chosen)]
        money = None if None in usd else usd[0] - usd[1]
        words = f"{_more(energy, 'less energy', 'more energy')}, {_more(-speed, 'faster', 'slower')}"
        words += "" if money is None else f", {abs(money):,.2f} USD of electricity a month {'less' if money >= 0 else 'more'}"
        close = abs(np.log1p(energy)) < np.log1p(WORTH)
        found.append(
            {
                "quantization": e["quantization"],
                "energy_fraction": energy,
                "speed_fraction": speed,
                "usd_a_month": money,
                "text": f"against {e['quantization']}: {words}" + (" (the energies are within 5 %)" if close else ""),
            }
        )
    return found


def _more(change: float, less: str, more: str) -> str:
    """`24 % less energy`."""
    return f"{abs(change):.0%} {less if change <= 0 else more}"


def context(r: Request, table: list[dict], chosen: dict | None) -> list[str]:
    """What the context changes: short memory, critical latency, many requests, critical accuracy, and the batch."""
    found, c = [], r.now
    if not any(fits(c.with_(quantization=q)) for q in BASELINES):
        found.append("memory short: half precision does not fit here, so quantization is about fitting, not about saving")
    else:
        small = min(table, key=lambda e: e["vram_gb"]["value"])
        found.append(f"memory short: {small['quantization']} needs least, {small['vram_gb']['value']:.1f} GB")
    quick = min(table, key=lambda e: e["latency_s"]["value"])
    found.append(
        f"latency critical: {quick['quantization']} is fastest, {quick['latency_s']['value']:.3g} s a request at batch {c.batch_size}"
    )
    if r.requests >= MANY_REQUESTS and chosen is not None and (lines := [a for a in against(table, chosen) if a["usd_a_month"]]):
        worst = max(lines, key=lambda a: a["usd_a_month"])
        found.append(
            f"cost at {r.requests:,.0f} requests a month: {chosen['quantization']} instead of "
            f"{worst['quantization']} saves {worst['usd_a_month']:,.0f} USD of electricity a month"
        )
    safe = [e["quantization"] for e in table if e["accuracy"]["status"] in ("reference", "score")]
    found.append(
        f"accuracy critical: {', '.join(safe) if safe else 'none'} (unquantized, or with a measured score); the others need a score first"
    )
    if c.batch_size == 1:
        found.append("batch: one at a time; batching concurrent requests saves more than any strategy")
    elif c.batch_size >= 8:
        found.append("batch: the order at batch 1 need not hold here, nor this one there")
    return found
