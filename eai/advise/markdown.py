"""Every answer as Markdown: tables of quantities with intervals, then what they rest on."""

import re

from eai import catalog
from eai.quantity import Quantity

TITLES = {"energy_kwh": "energy", "cost_usd": "cost", "carbon_kg": "carbon", "energy_fraction": "share of the energy"}


def to_markdown(answer: dict) -> str:
    """The answer of any of the advisor's questions as Markdown; which one it is follows from its keys."""
    writers = {
        "ranking": _optimize,
        "current": _estimate,
        "max_regression": _gate,
        "rows": _compare,
        "configurations": _experiment,
        "patterns": _diagnose,
    }
    for key, write in writers.items():
        if key in answer:
            return "\n".join([*_substituted(answer), *write(answer)]).rstrip() + "\n"
    raise ValueError(f"not an answer of the advisor: {sorted(answer)}")


def _substituted(a: dict) -> list[str]:
    """The first lines: what was taken for a name that the catalog lacks, because every number below is of that instead."""
    taken = [w for w in a.get("warnings", []) if catalog.NOT_THERE in w]
    return [line for w in taken for line in (f"**Warning**: {w}.", "")]


def quantity(q: dict | None, digits: str = ".3g") -> str:
    """`1.23 [1.1, 1.4] kWh`, or a dash for what is not known."""
    if not q or q["value"] is None:
        return "-"
    return format(Quantity(q["value"], q["low"], q["high"], q["unit"]), digits)


def table(header: list[str], rows: list[list[str]]) -> list[str]:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return ["| " + " | ".join(str(cell).replace("|", "/") for cell in line) + " |" for line in lines] + [""]


def _where(c: dict) -> str:
    """A configuration in words, with its task, server and load where an experiment had them."""
    lengths = f"{c['input_tokens']} tokens in, {c['output_tokens']} out" if c["output_tokens"] else ""
    words = (c["model"], c["quantization"], f"batch {c['batch_size']} on {c['gpu']}", lengths, c.get("work", ""))
    return ", ".join(filter(None, words))


def _bullets(title: str, lines: list[str]) -> list[str]:
    return [f"## {title}", "", *(f"- {line}" for line in lines), ""] if lines else []


def _footer(a: dict) -> list[str]:
    """Assumptions and warnings, at the end of every answer."""
    assumed = [f"{x['name']} = {x['value']}{(' ' + x['unit']) if x.get('unit') else ''}: {x['reason']}" for x in a.get("assumptions", [])]
    return _bullets("Assumptions", assumed) + _bullets("Warnings", list(a.get("warnings", [])))


def _optimize(a: dict) -> list[str]:
    chosen = a["recommended"]
    lines = ["# Recommended configuration", "", _where(chosen["configuration"]) if chosen else "None.", ""]
    if chosen:
        speeds = [quantity(chosen[k]) for k in ("throughput_tok_s", "latency_s", "vram_gb")]
        seen = chosen["observed"]
        speeds.append(_seen(seen, "utilization", "pct", "%"))
        lines += ["## Performance", "", *table(["throughput", "latency of a request", "memory", "utilisation, min to max"], [speeds])]
        energies = [quantity(chosen[k]) for k in ("energy_j_per_1k_tok", "energy_j_per_request", "power_w")]
        energies.append(_seen(seen, "power", "w", "W"))
        lines += ["## Energy", "", *table(["per 1000 output tokens", "per request", "mean power", "power read, min to max"], [energies])]
        lines += [f"Read: {seen['of']}, n = {seen['n']} ({seen['rows']}).", ""] if seen else []
        month = [quantity(a["monthly"][k]) for k in ("energy_kwh", "cost_usd", "carbon_kg")]
        lines += ["## Cost and carbon, a month", "", *table(["energy", "cost", "carbon"], [month])]
        lines += _bullets("Measurement transparency", [f"basis: {chosen['basis']}", *chosen["evidence"], *chosen["warnings"]])
    lines += ["## Why this configuration", "", a["why"] + ".", ""]
    header = ["configuration", "J per 1000 tokens", "tok/s", "accuracy", "P(best)", "P(front)", "basis"]
    lines += ["## Ranking", "", *table(header, [_ranked(e) for e in a["ranking"]])]
    lines += _bullets("Optimization insights", a["insights"]) + _bullets("Pitfalls", a["pitfalls"])
    lines += _bullets("Left out", _left_out(a["excluded"]))
    rest = [f"{k}: {v}" for k, v in a["transparency"].items()]
    return lines + _bullets("What the ranking rests on", rest) + _bullets("To know more", [a["measure"]]) + _footer(a)


def _seen(observed: dict | None, name: str, unit: str, shown: str) -> str:
    """`131 (129 to 132) W` as read, a dash where nobody read it."""
    if not observed or observed[f"{name}_mean_{unit}"] is None:
        return "-"
    mean, low, high = (observed[f"{name}_{how}_{unit}"] for how in ("mean", "min", "max"))
    return f"{mean:.3g} ({low:.3g} to {high:.3g}) {shown}"


def _left_out(excluded: list[dict]) -> list[str]:
    """One line a strategy and kind of reason: reasons that differ in numbers alone are one kind, and the first stands for them."""
    kinds: dict[tuple, tuple[list[int], str]] = {}
    for x in excluded:
        c = x["configuration"]
        kind = (c["quantization"], re.sub(r"[\d.,e+\[\] ]+| and waits.*fill", "", x["reason"]))
        kinds.setdefault(kind, ([], x["reason"]))[0].append(c["batch_size"])
    return [f"{q} at batch {', '.join(map(str, sizes))}: {reason}" for (q, _), (sizes, reason) in kinds.items()]


def _ranked(e: dict) -> list[str]:
    c = e["configuration"]
    numbers = [quantity(e["energy_j_per_1k_tok"]), quantity(e["throughput_tok_s"])]
    return [
        f"{c['quantization']}, batch {c['batch_size']}",
        *numbers,
        e["accuracy"]["status"],
        f"{e['p_best']:.2f}",
        f"{e['p_front']:.2f}",
        e["basis"],
    ]


def _compare(a: dict) -> list[str]:
    header = [
        "rank",
        "strategy",
        "J per 1000 tokens",
        "against fp16",
        "tok/s",
        "tok/J",
        "memory",
        "latency",
        "power",
        "P(best)",
        "accuracy",
        "basis",
    ]
    names = ("energy_j_per_1k_tok", "ratio_to_baseline", "throughput_tok_s", "tokens_per_j", "vram_gb", "latency_s", "power_w")
    rows = [
        [e["rank"], e["quantization"], *(quantity(e[k]) for k in names), f"{e['p_best']:.2f}", e["accuracy"]["status"], e["basis"]]
        for e in a["rows"]
    ]
    lines = ["# Strategies side by side", "", *table(header, rows), "## Recommendation", "", a["recommendation"] + ".", ""]
    lines += _bullets("From which size on quantization saves", [x["text"] for x in a["crossovers"]])
    lines += _bullets("Paradoxes", a["paradoxes"]) + _bullets("In this context", a["advice"])
    lines += _bullets("Not told", [f"{x['quantization']}: {x['reason']}" for x in a["not_told"]])
    lines += _bullets("Where the numbers come from", [f"{e['quantization']} ({e['basis']}): {'; '.join(e['evidence'])}" for e in a["rows"]])
    return lines + _bullets("To know more", [a["measure"]]) + _footer(a)


def _estimate(a: dict) -> list[str]:
    bills = [("current", a["current"]), ("optimized", a["optimized"])]
    names = ("energy_kwh", "cost_usd", "carbon_kg", "card_hours", "energy_j_per_request")
    header = ["a month", "energy", "cost", "carbon", "hours of one card", "per request", "basis"]
    rows = [[which, *(quantity(b[k]) for k in names), b["basis"]] for which, b in bills if b]
    lines = ["# Monthly energy, cost and carbon", "", *(f"- {which}: {_where(b['configuration'])}" for which, b in bills if b), ""]
    lines += [*table(header, rows), f"Optimized: {a['optimized_note']}.", ""]
    if a["savings"]:
        lines += _bullets("Savings", [f"{TITLES[k]}: {quantity(v)}" for k, v in a["savings"].items()])
    shares = [f"{TITLES[k]}: " + ", ".join(f"{name} {share:.0%}" for name, share in v.items()) for k, v in a["shares"].items() if v]
    lines += _bullets("Where the width of the intervals comes from", shares)
    lines += _bullets("Owning the card", _ownership(a))
    evidence = [f"{which}: {line}" for which, b in bills if b for line in (*b["evidence"], *b["warnings"])]
    return lines + _bullets("Where the numbers come from", evidence) + _footer(a)


def _ownership(a: dict) -> list[str]:
    """A month of owning each card with its parts, and the break-even; nothing where no price was given."""
    if not a.get("ownership"):
        return []
    crossing = a["break_even"]
    owned = [a["ownership"], *([crossing["other"]] if crossing else [])]
    lines = [
        f"{_where(o['configuration'])}: {quantity(o['total_usd'])} a month for {quantity(o['card_hours'])}, "
        f"of which the card {quantity(o['card_usd'])} and electricity {quantity(o['energy_usd'])}"
        for o in owned
    ]
    if crossing and crossing["requests"]:
        chance = f"a crossing in {crossing['p_crosses']:.0%} of the draws"
        served = " and ".join(f"{n:.3g}" for n in crossing["served"])
        lines.append(f"one whole card each: the dearer is cheaper from {quantity(crossing['requests'])} a month on ({chance})")
        lines.append(f"one card of each serves {served} requests a month: beyond that it takes more cards")
    elif crossing:
        lines.append(f"no break-even: {crossing['why']}")
    return lines + [w for o in owned[1:] for w in o["warnings"] if w not in a["warnings"]]


def _gate(a: dict) -> list[str]:
    word = "a regression is shown" if a["failed"] else "no regression is shown"
    terms = f"limit {a['max_regression']:.1%}, {a['metric']}, {a['basis']} {a['boundary']}"
    text = f"{word}; {a['undecided']} of {len(a['rows'])} comparisons are undecided ({terms})."
    rows = [
        [
            f"{e['model']}, {e['quantization']}, batch {e['batch_size']}",
            quantity(e["ratio"]),
            e["n_before"],
            e["n_after"],
            e["verdict"],
            e["reason"],
        ]
        for e in a["rows"]
    ]
    return [
        "# Regression gate",
        "",
        text,
        "",
        *table(["configuration", "after / before", "n before", "n after", "verdict", "reason"], rows),
    ]


def _diagnose(a: dict) -> list[str]:
    lines = ["# Diagnosis", "", _where(a["configuration"]), "", f"**{a['verdict']}**: {a['summary']}.", ""]
    header = ["figure", "reported", "expected as stated", "deviation", "basis"]
    rows = [
        [d["figure"], f"{d['reported']:.4g}", quantity(d["expected"]), f"{d['deviation_pct']:+.1f} %", d["basis"]] for d in a["expected"]
    ]
    lines += ["## Figures", "", *table(header, rows)]
    for p in a["patterns"]:
        lines += _pattern(p)
    lines += _bullets("Rows of the stated configuration", a["evidence"])
    shown = [f"{name}: {p:.1%}" for name, p in a["probabilities"].items() if p >= 0.001]
    lines += _bullets("Probability of every cause of the figures", shown)
    lines += _bullets("Not to be told apart by these figures", [_open(u) for u in a["undecided"]])
    return lines + _bullets("To know more", [a["measure"]]) + _footer(a)


def _pattern(p: dict, level: str = "##") -> list[str]:
    """One pattern: cause, evidence, fixes with their expected impact, verification."""
    mark = "" if p["named"] else ", not proven"
    lines = [f"{level} {p['name']} ({p['kind'].replace('_', ' ')}), confidence {p['confidence']:.0%}{mark}", "", p["root_cause"] + "."]
    lines += [p["variant"] + "."] if p["variant"] else []
    lines += ["", *(f"- {line}" for line in p["evidence"]), ""]
    for i, x in enumerate(p["fixes"], start=1):
        rests = f" ({'; '.join(x['evidence'])})" if x["evidence"] else ""
        code = ["", "```python", x["code"], "```", ""] if x["code"] else []
        lines += [f"{i}. {x['fix']}{_saved(x['expected_impact'])}{rests}", *(f"   {w}" for w in _accuracy(x)), *code]
    return [*lines, "Verify:", "", *(f"- {line}" for line in p["verification"]), ""]


def _accuracy(x: dict) -> list[str]:
    """What a fix does to accuracy, and its warnings, each once."""
    note = [] if x["accuracy"] is None else [f"accuracy {x['accuracy']['status']}: {x['accuracy']['note']}"]
    return list(dict.fromkeys([*note, *x["warnings"]]))


def _saved(q: dict | None) -> str:
    """`: saves 58 % [51, 65] of the energy`, empty where no number is known."""
    if not q or q["value"] is None:
        return ""
    value, low, high = (100 * q[k] for k in ("value", "low", "high"))
    if value < 0:
        return f": costs {-value:.0f} % [{-high:.0f}, {-low:.0f}] more energy"
    return f": saves {value:.0f} % [{low:.0f}, {high:.0f}] of the energy"


def _open(u: dict) -> str:
    """A pair that the figures leave open."""
    decides = f" (would decide {u['decides']:.0%} of cases)" if u["decides"] else ""
    return f"{' or '.join(u['patterns'])}: " + (
        f"give {u['would_decide']}{decides}" if u["would_decide"] else "no further figure would decide"
    )


def _experiment(a: dict) -> list[str]:
    header = ["configuration", "verdict", "patterns", "notes"]
    rows = [[_where(c["configuration"]), c["verdict"], c["summary"], "; ".join(c["notes"])] for c in a["configurations"]]
    counts = ", ".join(f"{n} {word}" for word, n in a["counts"].items())
    lines = [f"# Diagnosis of {a['experiment']}", "", f"{counts}; {a['basis']} energy, {a['boundary']}.", "", *table(header, rows)]
    for p in a["patterns"]:
        lines += [f"## {_where(p['configuration'])}", "", *_pattern(p, "###")]
    return lines + _footer(a)
