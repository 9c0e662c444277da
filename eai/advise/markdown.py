"""Every answer as Markdown: tables of quantities with intervals, then what they rest on."""

import re

from eai.quantity import Quantity

TITLES = {"energy_kwh": "energy", "cost_usd": "cost", "carbon_kg": "carbon", "energy_fraction": "share of the energy"}


def to_markdown(answer: dict) -> str:
    """The answer of optimize, compare, estimate or the regression gate as Markdown; which one it is follows from its keys."""
    for key, write in (("ranking", _optimize), ("current", _estimate), ("max_regression", _gate), ("rows", _compare)):
        if key in answer:
            return "\n".join(write(answer)).rstrip() + "\n"
    raise ValueError(f"not an answer of the advisor: {sorted(answer)}")


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
    return (
        f"{c['model']}, {c['quantization']}, batch {c['batch_size']} on {c['gpu']}, {c['input_tokens']} tokens in, {c['output_tokens']} out"
    )


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
        lines += ["## Performance", "", *table(["throughput", "latency of a request", "memory"], [speeds])]
        energies = [quantity(chosen[k]) for k in ("energy_j_per_1k_tok", "energy_j_per_request", "power_w")]
        lines += ["## Energy", "", *table(["per 1000 output tokens", "per request", "mean power"], [energies])]
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
    evidence = [f"{which}: {line}" for which, b in bills if b for line in (*b["evidence"], *b["warnings"])]
    return lines + _bullets("Where the numbers come from", evidence) + _footer(a)


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
