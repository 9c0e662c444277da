"""One template an answer: the answer first, in at most ten lines; then the table; reasons, evidence and assumptions behind it."""

from typing import Any

from eai import catalog
from eai.advise.page import Page, Section, Table, bare, count, markdown, percent, plain, quantity

ROLES = {
    "recommended": "recommended",
    "best": "best, whatever the accuracy",
    "cheapest": "cheapest cards",
    "fastest": "fastest",
    "smallest": "smallest cards",
}
TITLES = {"energy_kwh": "energy", "cost_usd": "cost", "carbon_kg": "carbon"}


def page_of(answer: dict[str, Any]) -> Page:
    """The page of any of the advisor's answers; which one it is follows from its keys."""
    makers = {
        "ranking": _optimize,
        "current": _estimate,
        "max_regression": _gate,
        "rows": _compare,
        "configurations": _experiment,
        "patterns": _diagnose,
    }
    return next(make for key, make in makers.items() if key in answer)(answer)


def to_markdown(answer: dict[str, Any], explain: bool = True) -> str:
    """Any answer as Markdown."""
    return markdown(page_of(answer), explain)


def _name(c: dict, model: bool = False) -> str:
    """A configuration in words."""
    if not c.get("gpu"):
        return "your figures"
    engine = c.get("engine", "transformers")
    flight = f"batch {c['batch_size']}" if engine == "transformers" else f"up to {c['batch_size']} in flight"
    gpu = catalog.gpu(c["gpu"]).name if _known(c["gpu"]) else c["gpu"]
    cards = f"{c['num_gpus']} x {gpu}" if c.get("num_gpus", 1) > 1 else gpu
    lengths = f", {count(c['input_tokens'])} tokens in, {count(c['output_tokens'])} out" if model and c.get("output_tokens") else ""
    return (f"{c['model']}, " if model else "") + f"{c['quantization']} with {engine}, {flight}, on {cards}" + lengths


def _known(gpu: str) -> bool:
    return any(g.slug == gpu for g in catalog.gpus())


def _substituted(a: dict) -> list[str]:
    """What was taken for a name that the catalog lacks, because every number is of that instead: it stands in the answer, not behind it."""
    return [f"Note: {w}." for w in a.get("warnings", []) if catalog.NOT_THERE in w]


def _assumed(page: Page, a: dict, but: tuple[str, ...] = ()) -> None:
    """Assumptions and warnings, behind every answer."""
    lines = []
    for x in a.get("assumptions", []):
        if x["name"].startswith(but or ("\0",)):
            continue
        value = x["value"]
        if isinstance(value, int | float):
            value = count(value) if float(value).is_integer() else plain(value, 6)
        ends = f" [{plain(x['low'])} to {plain(x['high'])}]" if x.get("low") is not None and x["low"] != x["high"] else ""
        lines.append(f"{x['name'].replace('_', ' ')} = {value}{(' ' + x['unit']) if x.get('unit') else ''}{ends}: {x['reason']}")
    page.add("Assumptions", lines)
    page.add("Warnings", a.get("warnings", []))


def _money(q: dict | None) -> str:
    return quantity(q) if q else "-"


def _optimize(a: dict) -> Page:
    chosen, best = a["recommended"], a["short_list"].get("best")
    page = Page("What to run", _substituted(a))
    if chosen is None:
        page.answer.append(f"Nothing is recommended. {a['why'][0].upper()}{a['why'][1:]}.")
    else:
        page.answer += _plan_in_words(a, chosen, best)
    page.answer = page.answer[:10]
    rows, seen = [], {}
    for role, e in a["short_list"].items():
        seen.setdefault(str(e["configuration"]), []).append(ROLES[role])
    for e in {str(e["configuration"]): e for e in a["short_list"].values()}.values():
        rows.append(_ranked(e, ", ".join(seen[str(e["configuration"])])))
    heads = (
        "role",
        "configuration",
        "cards",
        "J / 1000 tokens",
        "request s",
        "kWh / month",
        "cards USD / month",
        "limits met",
        "best of all",
        "accuracy",
        "basis",
    )
    page.tables.append(Table("Short list", heads, tuple(rows), aside=5))
    if chosen:
        page.commands.append(Section("Start it", (), a["launch"]))
        v = a["verify"]
        expected = ", ".join(quantity(v["expected"][k]) for k in ("throughput_tok_s", "power_w", "energy_j_per_1k_tok"))
        page.commands.append(
            Section("Verify it", (f"expected in this test, all slots busy: {expected} per 1000 tokens", v["conclude"]), v["command"])
        )
    page.add("Why", [a["why"]])
    if chosen:
        _behind_optimize(page, a, chosen)
    page.behind.append(
        Section(
            "Ranking",
            tuple(
                (
                    f"{i}. {_name(e['configuration'])}: {bare(e['energy_j_per_1k_tok'])} J per 1000 tokens, {plain(e['kwh_a_month'])} "
                    f"kWh a month, accuracy {e['accuracy']['status']}, best with {percent(e['p_best'])}, {e['basis']}"
                )
                for i, e in enumerate(a["ranking"][:15], start=1)
            ),
        )
    )
    page.add("Insights", a["insights"])
    page.add("Pitfalls", a["pitfalls"])
    page.add("Nearly", a["near_misses"])
    page.add("Left out", _left_out(a["excluded"]))
    t = a["transparency"]
    page.add(
        "What it rests on", [", ".join(f"{n} {basis}" for basis, n in t["basis"].items()) + " entries", t["between_sessions"], t["limits"]]
    )
    page.add("To know more", a["measure"])
    page.add("To explore", ["eai notebook advise, or --plot FILE.svg with this command"])
    _assumed(page, a)
    return page


def _plan_in_words(a: dict, chosen: dict, best: dict | None) -> list[str]:
    """What to run, what it takes, how sure that is, and what would change it."""
    month, load = a["monthly"], a["capacity"]
    lines = [f"Run {_name(chosen['configuration'], model=True)}" + (f": {chosen['boards']} card(s) in all." if load else ".")]
    speed = "" if load else f"{quantity(chosen['throughput_tok_s'])} at {quantity(chosen['power_w'])}, "
    lines.append(f"It takes {speed}{quantity(chosen['energy_j_per_1k_tok'])} per 1000 tokens ({chosen['basis']}).")
    idle = month["idle"]["energy_kwh"]["value"]
    waiting = f" and {plain(idle)} kWh idle" if idle and idle > 0.005 * month["energy_kwh"]["value"] else ""
    cards = month["cards"]["usd"]
    money = f"{_money(cards)} for cards" if cards and month["cards"]["how"].startswith("rent") else _money(month["total_usd"])
    lines.append(f"A month: {quantity(month['energy_kwh'])}{waiting}, {money}, {quantity(month['carbon_kg'], 'kg CO2e')}.")
    if load:
        twice = load["at_twice_the_load"]
        then = f"p95 {plain(twice['latency_p95_s'])} s" if twice["stable"] else "overloaded"
        needed = twice["replicas_needed"] * chosen["configuration"]["num_gpus"]
        lines.append(
            f"Load {percent(load['load'])}, p95 {plain(load['latency_p95_s'])} "
            f"s; at twice the load {then} on these cards, {needed} would do."
        )
    lines += [
        f"{_LIMIT[name]} within {plain(a['request']['limits'][name])} s: probability {percent(p)}." for name, p in chosen["p_meets"].items()
    ]
    lines.append(
        f"Best of those whose accuracy is known: probability {percent(chosen['p_best_known'])}."
        if chosen["accuracy"]["acceptable"]
        else f"Check first: {chosen['accuracy']['note']}."
    )
    if best and best["configuration"] != chosen["configuration"] and best["objective"] and best["objective"] < 0.95 * chosen["objective"]:
        why = best["accuracy"]["note"] if not best["accuracy"]["acceptable"] else "it meets the limits less surely"
        lines.append(
            f"{_name(best['configuration'])} would take {percent(1 - best['objective'] / chosen['objective'])} less {a['goal']}: {why}."
        )
    return lines + [f"Nearly: {line}." for line in a["near_misses"][:1]]


_LIMIT = {
    "latency_p95_s": "p95 of a request",
    "ttft_p95_s": "p95 of the first token",
    "itl_p95_s": "p95 between tokens",
    "max_latency_s": "A request",
}


def _ranked(e: dict, role: str) -> tuple[str, ...]:
    met = percent(min(e["p_meets"].values())) if e["p_meets"] else "-"
    return (
        role,
        _name(e["configuration"]),
        str(e["boards"]),
        bare(e["energy_j_per_1k_tok"]),
        plain(e["latency_s"]["value"]),
        plain(e["kwh_a_month"]),
        plain(e["usd_a_month_cards"]),
        met,
        percent(e["p_best"]),
        e["accuracy"]["status"],
        e["basis"],
    )


def _behind_optimize(page: Page, a: dict, chosen: dict) -> None:
    """Configuration, performance, energy, the month and the evidence of what is recommended."""
    c, month = chosen["configuration"], a["monthly"]
    card = catalog.gpu(c["gpu"])
    page.add(
        "Configuration",
        [
            f"{c['model']} in {c['quantization']} with {c['engine']}, {c['input_tokens']} tokens in, {c['output_tokens']} out",
            (
                f"{c['num_gpus']} x {card.name}: {card.architecture}, {plain(card.memory_gb)} "
                f"GB, {plain(card.bandwidth_gb_s, 4)} GB/s, {plain(card.tdp_w)} W"
            ),
            f"memory {quantity(chosen['vram_gb'])} a card",
        ],
    )
    speed = [
        (
            f"{quantity(chosen['throughput_tok_s'])} of one replica, {quantity(chosen['itl_s'], 'ms', 1e3)} "
            f"between tokens, {quantity(chosen['latency_s'])} a request"
        )
    ]
    if a["capacity"]:
        k = a["capacity"]
        speed += [
            (
                f"{k['replicas']} replica(s), load {percent(k['load'])}, busy "
                f"{percent(k['busy_share'])} of the time, {plain(k['in_flight'])} requests in flight"
            ),
            (
                f"mean {plain(k['latency_mean_s'])} s, p95 {plain(k['latency_p95_s'])} "
                f"s, first token p95 {plain(k['ttft_p95_s'])} s ({k['model']})"
            ),
        ]
    page.add("Performance", speed)
    page.add(
        "Energy",
        [
            (
                f"{quantity(chosen['energy_j_per_1k_tok'])} per 1000 tokens, "
                f"{quantity(chosen['energy_j_per_request'])} a request, {quantity(chosen['tokens_per_j'])}"
            ),
            f"mean power {quantity(chosen['power_w'])}; stated error a factor of {1 + chosen['stated_error']:.2g}"
            if chosen["stated_error"]
            else "",
        ],
    )
    page.add("A month", _month_lines(month))
    page.add("Evidence", [*chosen["evidence"], *chosen["warnings"], f"accuracy: {chosen['accuracy']['note']}"])


def _month_lines(b: dict) -> list[str]:
    """The bill in lines."""
    cards = b["cards"]
    lines = [
        f"in use {quantity(b['energy_kwh'])}, {_money(b['cost_usd'])}, {quantity(b['carbon_kg'], 'kg CO2e')}",
        f"idle {quantity(b['idle']['energy_kwh'])}, {_money(b['idle']['cost_usd'])}" if b["idle"]["energy_kwh"]["value"] else "",
        f"{cards['number']} card(s), {quantity(cards['hours'])} of work, {_money(cards['usd'])} ({cards['how']})",
        f"made of that: {quantity(b['embodied_kg'], 'kg CO2e')} embodied in the cards",
        f"{'in all' if b['cards']['usd'] else 'electricity alone (what the cards cost is not known)'} "
        f"{quantity(b['total_usd'])}, {quantity(b['usd_per_million_tokens'])} per million tokens",
    ]
    return [line for line in lines if line]


def _left_out(excluded: list[dict]) -> list[str]:
    """One line a reason's kind, strategy and engine, with how many configurations it bars."""
    kinds: dict[tuple, list[dict]] = {}
    for x in excluded:
        c = x["configuration"]
        kinds.setdefault((x["kind"], c["quantization"], c["engine"]), []).append(x)
    return [f"{q} with {engine}, {len(each)} configuration(s): {each[0]['reason']}" for (_, q, engine), each in kinds.items()]


def _compare(a: dict) -> Page:
    page = Page("Strategies side by side", _substituted(a))
    head = a["recommendation"]
    page.answer.append(f"{head[0].upper()}{head[1:]}." if a["recommended"] is None else f"Take {head}.")
    page.answer.append(f"{_name(a['configuration'], model=True)}.".replace(f"{a['configuration']['quantization']} with ", "with "))
    page.answer += [x["text"][0].upper() + x["text"][1:] + "." for x in a["against"][:4]]
    page.answer += [f"Paradox: {p}." for p in a["paradoxes"][:2]]
    heads = (
        "rank",
        "strategy",
        "J / 1000 tokens",
        f"against {a['baseline']}",
        "tok/s",
        "memory GB",
        "accuracy",
        "request s",
        "watts",
        "tok/J",
        "lowest",
        "basis",
    )
    rows = tuple(
        (
            str(e["rank"]),
            e["quantization"],
            bare(e["energy_j_per_1k_tok"]),
            bare(e["ratio_to_baseline"]) if e["ratio_to_baseline"] else "-",
            plain(e["throughput_tok_s"]["value"]),
            plain(e["vram_gb"]["value"]),
            e["accuracy"]["status"],
            plain(e["latency_s"]["value"]),
            plain(e["power_w"]["value"]),
            plain(e["tokens_per_j"]["value"]),
            percent(e["p_best"]),
            e["basis"],
        )
        for e in a["rows"]
    )
    page.tables.append(Table("", heads, rows, aside=5))
    page.add("In your context", a["context"])
    page.add("Against each alternative", [x["text"] for x in a["against"]])
    page.add("Paradoxes", a["paradoxes"])
    page.add("Cannot run, does not fit or cannot be predicted", [f"{x['quantization']}: {x['reason']}" for x in a["not_told"]])
    page.add(
        "Evidence",
        [f"{e['quantization']} ({e['basis']}): {'; '.join(e['evidence'])}; accuracy: {e['accuracy']['note']}" for e in a["rows"]],
    )
    page.add("To know more", a["measure"])
    page.add("To explore", ["--plot FILE.svg draws it"])
    _assumed(page, a)
    page.answer = page.answer[:10]
    return page


def _estimate(a: dict) -> Page:
    now, then, save = a["current"], a["optimized"], a["savings"]
    page = Page("A month's energy, cost and carbon", _substituted(a))
    page.answer.append(
        f"Now ({_name(now['configuration'], model=True)}): {quantity(now['energy_kwh'])}, "
        f"{_money(now['cost_usd'])} of electricity, {quantity(now['carbon_kg'], 'kg CO2e')}."
    )
    page.answer.append(
        f"That is {count(a['request']['requests_a_month'])} requests a month ({count(a['request']['requests_a_day'])} a day)"
        + _cards(now)
        + "."
    )
    if then:
        page.answer.append(
            f"Better: {_name(then['configuration'])}: {quantity(then['energy_kwh'])}, {_money(then['cost_usd'])}" + _cards(then) + "."
        )
        if a.get("not_proposed"):
            page.answer.append(f"{a['not_proposed']} is not proposed: no accuracy of it on this model is known.")
        share = save["energy_fraction"]
        ends = f" [{percent(share['low'])} to {percent(share['high'])}]" if share["low"] is not None else ""
        page.answer.append(
            f"It saves {percent(share['value'])}{ends} of the energy: {quantity(save['energy_kwh'])}, "
            f"{_money(save['cost_usd'])}, {quantity(save['carbon_kg'], 'kg CO2e')} a month."
        )
        page.answer += [
            f"- {x['lever']} ({x['change']}): {percent(x['energy_fraction'])} of what is left, {plain(x['kwh'])} kWh"
            for x in a["levers"][:4]
        ]
    else:
        note = a["optimized_note"]
        page.answer.append(f"{note[0].upper()}{note[1:].rstrip('.')}.")
    page.answer = page.answer[:10]
    heads = (
        "a month",
        "energy in use",
        "electricity",
        "carbon",
        "idle kWh",
        "cards",
        "in all USD",
        "USD / million tokens",
        "a request",
        "basis",
    )
    rows = []
    for which, b in (("now", now), ("better", then)):
        if b:
            idle = b.get("idle")
            rows.append(
                (
                    which,
                    quantity(b["energy_kwh"]),
                    _money(b["cost_usd"]),
                    quantity(b["carbon_kg"]),
                    plain(idle["energy_kwh"]["value"]) if idle else "-",
                    str(b["cards"]["number"] or "-"),
                    bare(b.get("total_usd")) if b.get("total_usd") and b["cards"]["usd"] else "-",
                    bare(b.get("usd_per_million_tokens")) if b.get("usd_per_million_tokens") else "-",
                    quantity(b["energy_j_per_request"]),
                    b["basis"],
                )
            )
    page.tables.append(Table("", heads, tuple(rows), aside=4))
    if a["levers"]:
        page.tables.append(
            Table(
                "By lever, one after the other",
                ("lever", "change", "saves", "kWh a month"),
                tuple((x["lever"], x["change"], percent(x["energy_fraction"]), plain(x["kwh"])) for x in a["levers"]),
            )
        )
    if then:
        page.commands.append(Section("Start it", (), then["launch"]))
    if "idle" in now:
        page.add("The whole bill now", _month_lines(now))
    if then:
        page.add("The whole bill then", _month_lines(then))
        page.add("About the better plan", [a["optimized_note"], f"accuracy: {then['accuracy']['note']}"])
    page.add(
        "What widens the intervals",
        [f"{TITLES[k]}: " + ", ".join(f"{name} {percent(share)}" for name, share in v.items()) for k, v in a["shares"].items() if v],
    )
    page.add("Two cards", _break_even(a["break_even"]))
    page.add(
        "Evidence", [f"{which}: {line}" for which, b in (("now", now), ("better", then)) if b for line in (*b["evidence"], *b["warnings"])]
    )
    _assumed(page, a)
    return page


def _cards(b: dict) -> str:
    """`, 3 cards, 1,220 hours of one`."""
    hours, n = b["cards"]["hours"]["value"], b["cards"]["number"]
    if hours is None:
        return ""
    return f", {plain(hours)} hours of one card" + (f": {n} cards" if n and n > 1 else "")


def _break_even(found: dict | None) -> list[str]:
    if not found:
        return []
    lines = _month_lines(found["other"])
    if found["requests"]:
        served = " and ".join(plain(n) for n in found["served"])
        lines.append(
            f"one whole card each: the dearer is cheaper from {quantity(found['requests'])} "
            f"a month on (in {percent(found['p_crosses'])} of the draws)"
        )
        lines.append(f"one card of each serves {served} requests a month: beyond that it takes more cards")
    else:
        lines.append(f"no break-even: {found['why']}")
    return lines


WORDS = {"healthy": "Healthy", "fault": "Fault", "costly_choice": "A costly choice", "undecided": "Undecided", "unknown": "Unknown"}


def _diagnose(a: dict) -> Page:
    page = Page("Diagnosis", _substituted(a))
    page.answer.append(f"{WORDS[a['verdict']]}: {a['summary']}.")
    page.answer.append(f"{_name(a['configuration'], model=True)}.")
    first = next((p for p in a["patterns"] if p["named"]), None)
    if first:
        page.answer.append(f"Cause: {first['root_cause']}.")
        if first["fixes"]:
            page.answer.append(f"Do first: {first['fixes'][0]['fix']}.")
            page.answer += _change(first["fixes"][0])
    page.answer = page.answer[:10]
    rows = tuple(
        (
            d["figure"].replace("_j_per_1k_tok", "").replace("_tok_s", "").replace("_w", ""),
            f"{plain(d['reported'])} {d['expected']['unit']}",
            bare(d["expected"]),
            f"{round(d['deviation_pct']):+d} %",
            "outside" if d["outside"] else "inside",
            d["basis"],
        )
        for d in a["expected"]
    )
    page.tables.append(
        Table("Reported against expected as stated", ("figure", "reported", "expected [95 %]", "deviation", "interval", "basis"), rows)
    )
    shown = tuple(
        (p["title"], f"{p['level']}, {percent(p['confidence'])}", p["kind"].replace("_", " "), p["variant"] or "-") for p in a["patterns"]
    )
    page.tables.append(Table("Patterns", ("pattern", "share of the match", "kind", "variant"), shown, aside=1))
    for p in a["patterns"]:
        _pattern(page, p)
    page.add("Evidence", a["evidence"])
    page.add(
        "Still open",
        [f"{' or '.join(u['patterns'])}" + (f": give {u['would_decide']}" if u["would_decide"] else "") for u in a["undecided"]],
    )
    page.add("To know more", [a["measure"]] if a["measure"] else [])
    _assumed(page, a)
    return page


def _change(x: dict) -> list[str]:
    """Now and then of a fix, and what it saves."""
    found = []
    if x["now"] and x["then"]:
        parts = []
        for key, unit in (("throughput_tok_s", "tok/s"), ("energy_j_per_1k_tok", "J per 1000 tokens"), ("power_w", "W")):
            if x["now"].get(key) is not None and x["then"].get(key) is not None:
                parts.append(f"{plain(x['now'][key])} -> {plain(x['then'][key])} {unit}")
        found += [f"Expected: {', '.join(parts)}."] if parts else []
    q = x["expected_impact"]
    if q:
        saves = q["value"] >= 0
        low, high = sorted((abs(q["low"]), abs(q["high"]))) if q["low"] * q["high"] > 0 else (q["low"], q["high"])
        money = (
            f", {plain(abs(x['usd_a_month']))} USD of electricity a month"
            if x.get("usd_a_month") and (x["usd_a_month"] > 0) == saves
            else ""
        )
        found.append(
            f"It {'saves' if saves else 'costs'} {percent(abs(q['value']))} [{percent(low)} to {percent(high)}] of the energy{money}."
        )
    return found


def _pattern(page: Page, p: dict) -> None:
    """One pattern: evidence, fixes in order, verification."""
    page.add(f"{p['title']}: {p['level']}", [f"{p['root_cause']}.", *p["evidence"]])
    for i, x in enumerate(p["fixes"], start=1):
        note = [f"accuracy {x['accuracy']['status']}: {x['accuracy']['note']}"] if x["accuracy"] else []
        page.add(f"Fix {i}: {x['fix']}", [*_change(x), *dict.fromkeys([*note, *x["warnings"], *x["evidence"]])], x["code"])
    then = next((x["then"] for x in p["fixes"] if x["then"]), None)
    watch = (
        [
            (
                f"after the fix expect {plain(then['throughput_tok_s'])} tok/s at {plain(then['power_w'])} W; if "
                "either is off by more than 10 %, another cause remains: diagnose again with the new figures"
            )
        ]
        if then
        else []
    )
    page.add("Verify", [*p["verification"], *watch])


def _experiment(a: dict) -> Page:
    counts = ", ".join(f"{n} {word.replace('_', ' ')}" for word, n in a["counts"].items())
    page = Page(
        f"Diagnosis of {a['experiment']}",
        [f"{counts[0].upper()}{counts[1:]} of {len(a['configurations'])} configurations; {a['basis']} energy, {a['boundary']}."],
    )
    page.answer += [
        f"{p['title'][0].upper()}{p['title'][1:]}: {n} configuration(s), for one {_work(p['configuration'])}."
        for p, n in _grouped(a["patterns"])
    ][:7]
    page.answer += [w + "." for w in a["warnings"]][:2]
    rows = tuple(
        (_work(c["configuration"]), c["verdict"].replace("_", " "), c["summary"], "; ".join(c["notes"])) for c in a["configurations"]
    )
    page.tables.append(Table("", ("configuration", "verdict", "why", "notes"), rows, aside=1))
    for p, _ in _grouped(a["patterns"]):
        _pattern(page, p)
    return page


def _grouped(patterns: list[dict]) -> list[tuple[dict, int]]:
    """The first of each pattern with how many configurations it is named for."""
    groups: dict[str, list[dict]] = {}
    for p in patterns:
        groups.setdefault(p["name"], []).append(p)
    return [(each[0], len(each)) for each in groups.values()]


def _work(c: dict) -> str:
    """A configuration of an experiment in words, with its task, server and load."""
    lengths = f"{count(c['input_tokens'])} in, {count(c['output_tokens'])} out" if c.get("output_tokens") else ""
    return ", ".join(filter(None, (c["model"], c["quantization"], f"batch {c['batch_size']} on {c['gpu']}", lengths, c.get("work", ""))))


def _gate(a: dict) -> Page:
    word = "A regression is shown" if a["failed"] else "No regression is shown"
    terms = f"limit {percent(a['max_regression'])}, {a['metric']}, {a['basis']} {a['boundary']}"
    page = Page("Regression gate", [f"{word}; {a['undecided']} of {len(a['rows'])} comparisons are undecided ({terms})."])
    page.answer += [f"{n} {verdict.replace('_', ' ')}" for verdict, n in a["counts"].items()]
    rows = tuple(
        (
            f"{e['model']}, {e['quantization']}, batch {e['batch_size']}",
            bare(e["ratio"]),
            e["verdict"].replace("_", " "),
            e["reason"],
            str(e["n_before"]),
            str(e["n_after"]),
        )
        for e in a["rows"]
    )
    page.tables.append(Table("", ("configuration", "after / before", "verdict", "reason", "n before", "n after"), rows, aside=2))
    return page
