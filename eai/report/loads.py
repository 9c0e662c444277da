"""The section on the loads of a server: what a token and a request cost at each, how long they wait, and whose processes are billed."""

import pandas as pd

from eai import plots
from eai.plots.load import named_series
from eai.report import wording as w
from eai.report.elements import Picture, Prose, Section, Table
from eai.report.facts import Facts
from eai.report.format import interval, number
from eai.report.phrases import caption, cost_words, cut, first_up, head, named, picture_caption

REMARKS = ("overloaded", "client_late", "tokens_from_pieces", "length_varies", "not_steady")
UNVERIFIED = "unverified"


def loads(facts: Facts, language: str) -> Section:
    """What each load of a server cost and how long its requests waited; empty where no server was measured."""
    if facts.loads.empty:
        return Section()
    costs = first_up(caption("loads", language, cost=cost_words(facts, language, "token")))
    return Section([
        head("loads", language, 3), Prose((cost_sentence(facts, language), wait_sentence(facts, language))),
        Table(cost_table(facts, language), costs, cut("loads", language)),
        Table(wait_table(facts, language), caption("waits", language), cut("loads", language)),
        picture(facts, language),
    ])  # fmt: skip


def cost_sentence(facts: Facts, language: str) -> str:
    """The range of the cost over the loads, and whose work is in it."""
    return w.both(language, cost_range(facts, language), _say("untested", language), billed(facts, language), _say("stated", language))


def cost_range(facts: Facts, language: str) -> str:
    """The load at which a token costs least and the one at which it costs most."""
    energy, labels = facts.loads["energy_j_per_token"], load_names(facts.loads)
    words = {"n": len(energy), "cost": cost_words(facts, language, "token"), "servers": servers(facts, language)}
    for end, i in (("low", energy.idxmin()), ("high", energy.idxmax())):
        words |= {end: interval(facts.loads.loc[i], "energy_j_per_token"), f"{end}_name": f"`{labels[i]}`"}
    return _say("range", language, **words)


def servers(facts: Facts, language: str) -> str:
    """What was stated to run there."""
    return w.joined([f"`{name}`" for name in dict.fromkeys(facts.loads["server"])], language)


def billed(facts: Facts, language: str) -> str:
    """Whose processes the energy is of; that this is not known where no provenance says that a server was driven from here."""
    boundary = facts.selection.boundary
    if not any(job.get("server") for job in facts.provenance):
        return _say("unknown", language)
    if facts.selection.basis == "estimated":
        return _say("processes", language)
    return _say("cards", language) if boundary == "gpu" else _say("machine", language, boundary=w.say(w.BOUNDARY, boundary, language))


def wait_range(facts: Facts, language: str) -> str:
    """The shortest and the longest median time to the first token over the loads."""
    waits, labels = facts.loads["ttft_s"], load_names(facts.loads)
    if waits.isna().all():
        return ""
    ends = {"low": waits.idxmin(), "high": waits.idxmax()}
    told = {end: interval(facts.loads.loc[i], "ttft_s") for end, i in ends.items()}
    return _say("wait_range", language, **told, **{f"{end}_name": f"`{labels[i]}`" for end, i in ends.items()})


def wait_sentence(facts: Facts, language: str) -> str:
    """How long requests waited, how many failed, and what was remarked on the windows of which loads."""
    table = facts.loads
    one_block = _say("one_block", language) if (table["n_blocks"] == 1).all() else ""
    return w.both(language, wait_range(facts, language), failures(facts, language), *_remarks(table, language), one_block)


def failures(facts: Facts, language: str) -> str:
    """How many requests failed, and at which loads."""
    table, labels = facts.loads, pd.Series(load_names(facts.loads))
    failed, everything = int(table["requests_failed"].sum()), int(table[["requests", "requests_failed"]].sum().sum())
    if not failed:
        return _say("none_failed", language, all=everything)
    return _say("failed", language, failed=failed, all=everything, where=_codes(labels[table["requests_failed"] > 0], language))


def _remarks(table: pd.DataFrame, language: str) -> list[str]:
    """A sentence for each remark that changes what may be concluded; the others by their names."""
    labels = pd.Series(load_names(table))
    has = {flag: labels[table["flags"].map(lambda flags, flag=flag: flag in flags)] for flag in REMARKS}
    told = [_say(flag, language, names=_codes(of, language)) for flag, of in has.items() if len(of)]
    others = sorted(set().union(*table["flags"]) - {*REMARKS, UNVERIFIED})
    return [*told, _say("other_remarks", language, names=_codes(others, language))] if others else told


def load_names(table: pd.DataFrame) -> list[str]:
    """The name of each row: its load, and whatever else varies between the rows."""
    return [", ".join(filter(None, pair)) for pair in zip(named_series(table), table["traffic"], strict=True)]


def cost_table(facts: Facts, language: str) -> pd.DataFrame:
    """The texts of energy and throughput by load."""
    rows = facts.loads.to_dict("records")
    columns = {
        "load": load_names(facts.loads),
        "cost": [interval(r, "energy_j_per_token") for r in rows],
        "per_request": [interval(r, "energy_j_per_request") for r in rows],
        "throughput": [interval(r, "throughput_tok_s") for r in rows],
        "requests_s": [number(r["requests_per_s"]) for r in rows],
        "n": [int(r["n_blocks"]) for r in rows],
    }
    return named(columns, language, unit=w.say(w.UNIT, "token", language))


def wait_table(facts: Facts, language: str) -> pd.DataFrame:
    """The texts of latencies and failures by load."""
    rows = facts.loads.to_dict("records")
    times = {name: [interval(r, name) for r in rows] for name in ("ttft_s", "ttft_p95_s", "itl_s", "latency_s")}
    failed = [f"{r['requests_failed']} / {r['requests'] + r['requests_failed']}" for r in rows]
    return named({"load": load_names(facts.loads), **times, "failed": failed, "n": [int(r["n_blocks"]) for r in rows]}, language)


def picture(facts: Facts, language: str, metrics: tuple[str, str] = ("energy_j_per_token", "ttft_s")) -> Picture:
    """The load curves of two columns of the loads table side by side."""
    fig, axes = plots.figure(1, 2, height_in=2.8)
    for metric, ax in zip(metrics, axes, strict=True):
        plots.load_curve(facts.loads, ax, metric)
    return Picture(fig, w.both(language, _say("figure", language), picture_caption(facts.loads, language)))


def _codes(names, language: str) -> str:
    """Names in a row, set as code."""
    return w.joined([f"`{name}`" for name in names], language)


def _say(key: str, language: str, **values: object) -> str:
    """A sentence on loads, filled in."""
    return w.say(w.LOADS, key, language, **values)
