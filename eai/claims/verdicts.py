"""A verdict on every claim and every table: computed from the tables, never written down.

The order of authority: our own measurements where they cover the claim (reproduced, contradicted); else the source's own tables where
they refute it (inconsistent), or its other statements about the same thing (inconsistent if they exclude each other); else what
independent sources measured (reproduced, contradicted, mixed); else the source's own tables (consistent); else not decided or untested.
"""

from contextlib import suppress
from dataclasses import replace

import numpy as np
import pandas as pd

from eai.claims import checks, evaluate, evidence
from eai.claims.evaluate import KINDS, Outcome, stated, word
from eai.claims.tabular import parse_rows, say, to_frame, where
from eai.errors import UserError

NOT_FIGURES = ("claims", "sources")


def _sources(published: dict[str, pd.DataFrame]) -> dict[str, list[str]]:
    """The names of the checkable tables of each source."""
    of = {n: str(f["source"].iloc[0]) for n, f in published.items() if n not in NOT_FIGURES and "source" in f and len(f)}
    return {source: [n for n, s in of.items() if s == source] for source in dict.fromkeys(of.values())}


def _from_checks(claim: pd.Series, findings: pd.DataFrame) -> Outcome:
    """A claim about a whole table rests on what the named checks find there."""
    wanted, tables = claim["quantity"].split(";"), claim["tables"].split(";")
    about = [bool({part.split(":")[0] for part in rows.split("; ")} & set(tables)) for rows in findings["rows"]]
    mine = findings[findings["check"].isin(wanted) & np.array(about, dtype=bool)]
    bad = mine[mine["verdict"] == "inconsistent"]
    if mine.empty:
        return Outcome("untested", say("the checks {checks} do not apply to {tables}", checks=", ".join(wanted), tables=", ".join(tables)))
    rows = where(pair for text in (mine if bad.empty else bad)["rows"] for pair in sorted(parse_rows(text)))
    if bad.empty:
        return Outcome("consistent", say("{n} checks find nothing", n=len(mine)), "", rows)
    more = say(" (and {n} more findings)", n=len(bad) - 1) if len(bad) > 1 else ""
    return Outcome("inconsistent", bad["reason"].iloc[0] + more, bad["computed"].iloc[0], rows)


def _conflicts(claims: pd.DataFrame, outcomes: dict[str, Outcome]) -> dict[str, Outcome]:
    """Claims of one topic whose stated ranges exclude each other. Where the tables decide, the verdict stands and the reason names the
    other claim; where they do not (no figures, or figures printed too coarsely to tell the two apart), both are inconsistent: the source
    cannot mean both."""
    changed = dict(outcomes)
    topical = claims[[isinstance(t, str) and t != "" for t in claims["topic"]]]
    for _, group in topical.groupby("topic", sort=False):
        ranges = {c["id"]: (c, evaluate.bounds(c)) for _, c in group.iterrows()}
        for name, (_, (low, high, tolerance)) in ranges.items():
            apart = [(o, low - tolerance >= b + t - 1e-9 or high + tolerance <= a - t + 1e-9) for o, (a, b, t) in ranges.values()]
            against = [o for o, excluded in apart if excluded and o["id"] != name]
            if not against:
                continue
            outcome = outcomes[name]
            text = "; ".join(f"'{say(o['claim'])}' ({o['id']})" for o in against)
            undecided = outcome.verdict == "untested" or all(outcomes[o["id"]].verdict == outcome.verdict == "consistent" for o in against)
            coarse = "{reason}, which its figures are too coarse to tell from what the source also states: {claims}"
            sentence = coarse if undecided and outcome.verdict == "consistent" else "{reason}. The source also states {claims}"
            verdict, reason = "inconsistent" if undecided else outcome.verdict, say(sentence, reason=outcome.reason, claims=text)
            changed[name] = replace(outcome, verdict=verdict, reason=reason)
    return changed


def claim_verdicts(
    published: dict[str, pd.DataFrame], findings: pd.DataFrame, measured_tables: dict[str, pd.DataFrame] | pd.DataFrame | None = None
) -> pd.DataFrame:
    """One row a claim of the registry (`published["claims"]`), in its order. Raises UserError for a claim of an unknown kind or about a
    table that is not there."""
    claims = published["claims"]
    tables = {n: evaluate.prepared(f, n) for n, f in published.items() if n not in NOT_FIGURES}
    outcomes = {}
    for _, claim in claims.iterrows():
        names, kind = word(claim, "tables"), claim["kind"]
        for what, given, allowed in (("table", filter(None, names.split(";")), tables), ("kind", [kind], [*KINDS, "checks"])):
            if wrong := [name for name in given if name not in allowed]:
                raise UserError(f"claim {claim['id']} names {what} '{wrong[0]}'", f"one of {', '.join(allowed)}", "correct claims.csv")
        rows = evaluate.select(tables, names, word(claim, "where"))
        own = _from_checks(claim, findings) if kind == "checks" else KINDS[kind](claim, rows)
        outcomes[claim["id"]] = own or evaluate.nothing(claim)
    outcomes = _conflicts(claims, outcomes)
    doubted = findings[(findings["verdict"] == "inconsistent") & findings["claim"].str.contains("was measured")]["rows"]
    doubted = {table for rows in doubted for table, _ in parse_rows(rows)}  # what the checks find not to be measured is no evidence
    others = evidence.gathered({n: t for n, t in tables.items() if n not in doubted}, _sources(published))
    rows = []
    for line, (_, claim) in enumerate(claims.iterrows(), start=2):
        own, other = outcomes[claim["id"]], evidence.by_sources(claim, others)
        outcome = evidence.by_experiment(claim, measured_tables) or own
        decided = other is not None and (other.verdict != "not decided" or own.verdict == "untested")
        if outcome is own and decided and own.verdict != "inconsistent":  # a claim that its own figures refute stays refuted
            outcome = replace(other, reason=say("{reason}. Its own source: {verdict}", reason=other.reason, verdict=say(own.verdict)))
        rows.append({
            **claim[["id", "source", "claim"]], "verdict": outcome.verdict, "reason": outcome.reason, "stated": stated(claim),
            "computed": outcome.computed, "rows": outcome.rows or f"claims:{line}", "check": claim["kind"],
            "published_verdict": own.verdict, "evidence_verdict": other.verdict if other else "", "evidence": other.reason if other else "",
        })  # fmt: skip
    return to_frame(rows)


def all_verdicts(published: dict[str, pd.DataFrame], measured: dict[str, pd.DataFrame] | pd.DataFrame | None = None) -> pd.DataFrame:
    """Every claim's verdict, then every finding on the tables: id, source, claim, verdict, reason, stated, computed, rows, check.
    `published` holds the tables of data/published by name, `claims` among them; `measured` the summary of an experiment (or a dict with
    `summary`). `rows` names tables and their lines as an editor counts them."""
    published = {n: f.reset_index(drop=True) for n, f in published.items()}
    if "claims" not in published:
        raise UserError("no table 'claims'", "the registry data/published/claims.csv among the published tables")
    parts = [f for f in published.values() if {"gpu", "tdp_w"} <= set(f.columns) and "throughput_tok_s" not in f]
    boards = pd.concat([pd.DataFrame(columns=["gpu", "tdp_w", "idle_power_w", "source"], dtype=object), *parts], ignore_index=True)
    found = [to_frame([])]
    for source, names in _sources(published).items():  # boards' limits are what the source states, vendors' figures where it states none
        own, usable = boards[boards["source"] == source], {}
        known = [g in set(own["gpu"]) or any(str(g).startswith(f"{o}_") for o in own["gpu"]) for g in boards["gpu"]]
        limits = pd.concat([own, boards[~np.array(known, bool)]], ignore_index=True)
        for name in names:
            with suppress(UserError):
                found.append(checks.check_table(published[name], name, limits).assign(source=source))
                usable[name] = published[name]
        found.append(checks.check_source(usable, source))
    found = [f[f["verdict"] != "untested"] for f in found]
    findings = pd.concat([f for f in found if len(f)] or found[:1], ignore_index=True)
    claims = claim_verdicts(published, findings, measured)
    return pd.concat([claims, findings.assign(published_verdict=findings["verdict"])], ignore_index=True)
