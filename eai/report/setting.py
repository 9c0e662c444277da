"""The sections on what was measured, on what, and how: factors, machine, software, meter, what was left out, the replicate."""

import pandas as pd

from eai.report import wording as w
from eai.report.elements import Points, Prose, Section, Table
from eai.report.facts import Facts
from eai.report.phrases import caption, column, head, plain, say

SOFTWARE = ("python", "torch", "transformers", "bitsandbytes")


def setup(facts: Facts, language: str) -> Section:
    """Factors and levels, machine, software, meter and what was left out."""
    excluded = facts.selection.excluded.groupby(["status", "reason"])["n"].sum()
    lines = w.joined([f"{n} × {status} ({reason})" for (status, reason), n in excluded.items()], language)
    left_out = say("excluded", language, lines=lines) if lines else say("nothing_excluded", language)
    table = Table(factors(facts, language), caption("setup", language))
    return Section([head("setup", language), table, Points((*machines(facts, language), left_out))])


def factors(facts: Facts, language: str) -> pd.DataFrame:
    """The texts of the factors and their levels; those that mean something for what ran."""
    levels = {f: facts.levels(f) for f in w.FACTOR if f != "load"} | {"load": list(dict.fromkeys(facts.loads["traffic"]))}
    rows = [(w.say(w.FACTOR, f, language), w.joined(map(plain, of), language)) for f, of in levels.items() if of]
    return pd.DataFrame(rows, columns=[column("factor", language), column("levels", language)])


def machines(facts: Facts, language: str) -> list[str]:
    """Machine, software, meter and recorded limits of the jobs; one line a distinct value."""
    if not facts.provenance:
        return [say("no_provenance", language)]
    return list(dict.fromkeys(line for job in facts.provenance for line in _job(job, language)))


def _job(job: dict, language: str) -> list[str]:
    """What one job recorded of itself; the software of a job that drove a server is the client's."""
    machine = job.get("machine", {})
    words = {"cpu": machine.get("cpu", "?"), "cores": machine.get("cores", "?"), "memory": machine.get("memory_gb", "?")}
    gpu = f", {job['gpu']}" if job.get("gpu", "cpu") != "cpu" else ""
    known = [f"{name} {version}" for name, version in job.get("versions", {}).items() if version and name in SOFTWARE]
    lines = [
        say("machine", language, **words, gpu=gpu),
        w.say(w.LOADS if job.get("server") else w.SENTENCES, "versions", language, versions=w.joined(known, language)),
        say("meter", language, meter=f"`{(job.get('meter') or {}).get('meter', '?')}`"),
    ]
    return lines + ([say("recorded", language, lines="; ".join(job["limitations"]))] if job.get("limitations") else [])


def method(facts: Facts, language: str) -> Section:
    """How the numbers were obtained: the replicate, of a model here and of a server, and the tests where there was anything to test."""
    ours = len(facts.provenance) > 0
    told = [] if ours and facts.only_served else [say("replicate" if ours else "replicate_foreign", language)]
    told += [w.say(w.LOADS, "replicate", language)] if ours and len(facts.loads) else []
    told += [say("tests", language)] if facts.has_baseline else []
    return Section([head("method", language), Prose(tuple(told))])
