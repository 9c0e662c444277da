"""A verdict on every claim and every table: computed from the tables, never written down.

The order of authority: our own measurements where they cover the claim (reproduced, contradicted); else the source's own tables where
they refute it (inconsistent), or its other statements about the same thing (inconsistent if they exclude each other); else what
independent sources measured (reproduced, contradicted, mixed); else the source's own tables (consistent); else not decided or untested.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd

from eai.claims import checks, evaluate, evidence, measured
from eai.claims.evaluate import Outcome, stated
from eai.claims.findings import parse_rows, to_frame
from eai.errors import UserError

KINDS: dict[str, Callable[[pd.Series, pd.DataFrame], Outcome]] = {
    "value": evaluate.value, "change": evaluate.change, "difference": evaluate.difference, "range": evaluate.range_of_changes,
    "count": evaluate.count, "label": evaluate.label, "arithmetic": evaluate.arithmetic, "rule": evaluate.rule,
    "ranking": evaluate.ranking, "equal": evaluate.equal, "correlation": evaluate.correlation, "synergy": evaluate.synergy,
    "excess": evaluate.excess, "crossover": evaluate.crossover, "scaling": evaluate.scaling, "exists": evaluate.exists,
}  # fmt: skip
NOT_FIGURES = ("claims", "sources")
LIMITS = ("gpu", "tdp_w")


def limits_of(published: dict[str, pd.DataFrame], source: str = "") -> pd.DataFrame:
    """Board limits and idle power by GPU: what the source itself states, vendors' figures where it states none."""
    parts = [f for f in published.values() if set(LIMITS) <= set(f.columns) and "throughput_tok_s" not in f]
    if not parts:
        return pd.DataFrame(columns=["gpu", "tdp_w", "idle_power_w"])
    frame = pd.concat(parts, ignore_index=True)
    if "idle_power_w" not in frame:
        frame["idle_power_w"] = np.nan
    own = frame[frame["source"] == source] if "source" in frame else frame[:0]
    return pd.concat(
        [own, frame[~frame["gpu"].isin(own["gpu"]) & ~frame["gpu"].map(lambda g: any(str(g).startswith(f"{o}_") for o in own["gpu"]))]],
        ignore_index=True,
    )


def _sources(published: dict[str, pd.DataFrame]) -> dict[str, list[str]]:
    """The names of the checkable tables of each source."""
    out: dict[str, list[str]] = {}
    for name, frame in published.items():
        if name not in NOT_FIGURES and "source" in frame and len(frame):
            out.setdefault(str(frame["source"].iloc[0]), []).append(name)
    return out


def table_findings(published: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """The findings of the general checks on every published table, and on each source's tables together."""
    found = []
    for source, names in _sources(published).items():
        limits = limits_of(published, source)
        usable = {}
        for name in names:
            try:
                one = checks.check_table(published[name], name=name, limits=limits)
            except UserError:
                continue
            one["source"] = source
            found.append(one[one["verdict"] != "untested"])
            usable[name] = published[name]
        together = checks.check_source(usable, source)
        found.append(together[together["verdict"] != "untested"])
    return pd.concat([f for f in found if len(f)], ignore_index=True) if any(len(f) for f in found) else to_frame([])


def _from_checks(claim: pd.Series, findings: pd.DataFrame) -> Outcome:
    """A claim about a whole table rests on what the named checks find there."""
    wanted = claim["quantity"].split(";")
    tables = claim["tables"].split(";")
    about = [bool({part.split(":")[0] for part in rows.split("; ")} & set(tables)) for rows in findings["rows"]]
    mine = findings[findings["check"].isin(wanted) & np.array(about, dtype=bool)]
    bad = mine[mine["verdict"] == "inconsistent"]
    if mine.empty:
        return Outcome("untested", f"the checks {', '.join(wanted)} do not apply to {', '.join(tables)}")
    use = bad if len(bad) else mine
    rows = tuple((t, (n,)) for text in use["rows"] for t, n in sorted(parse_rows(text)))
    if bad.empty:
        return Outcome("consistent", f"{len(mine)} checks find nothing", "", rows)
    more = f" (and {len(bad) - 1} more findings)" if len(bad) > 1 else ""
    return Outcome("inconsistent", bad["reason"].iloc[0] + more, bad["computed"].iloc[0], rows)


def _conflicts(claims: pd.DataFrame, outcomes: dict[str, Outcome]) -> dict[str, Outcome]:
    """Claims of one topic whose stated ranges exclude each other.

    Where the tables decide, the verdict stands and the reason names the other claim; where they do not (no figures, or figures printed
    too coarsely to tell the two apart), both are inconsistent: the source cannot mean both.
    """
    changed = dict(outcomes)
    topical = claims[np.array([isinstance(t, str) and t != "" for t in claims["topic"]], dtype=bool)]
    for _, group in topical.groupby("topic", sort=False):
        for i, claim in group.iterrows():
            low, high, tolerance = evaluate.bounds(claim)
            against = []
            for j, other in group.iterrows():
                a, b, t = evaluate.bounds(other)
                if i != j and (low - tolerance >= b + t - 1e-9 or high + tolerance <= a - t + 1e-9):
                    against.append(other)
            if not against:
                continue
            outcome = changed[claim["id"]]
            text = "; ".join(f"'{o['claim']}' ({o['id']})" for o in against)
            undecided = outcome.verdict == "untested" or all(outcomes[o["id"]].verdict == outcome.verdict == "consistent" for o in against)
            verdict = "inconsistent" if undecided else outcome.verdict
            link = (
                ", which its figures are too coarse to tell from what the source also states:"
                if undecided and outcome.verdict == "consistent"
                else ". The source also states"
            )
            changed[claim["id"]] = replace(outcome, verdict=verdict, reason=f"{outcome.reason}{link} {text}")
    return changed


def _weighed(own: Outcome, other: Outcome | None) -> Outcome:
    """What other sources measured beside what the claim's own source says: a claim that its own figures refute stays refuted."""
    if other is None or own.verdict == "inconsistent" or (other.verdict == "not decided" and own.verdict != "untested"):
        return own
    return replace(other, reason=f"{other.reason}. Its own source: {own.verdict}")


def claim_verdicts(
    published: dict[str, pd.DataFrame], findings: pd.DataFrame, measured_tables: dict[str, pd.DataFrame] | pd.DataFrame | None = None
) -> pd.DataFrame:
    """One row a claim of the registry (`published["claims"]`), in its order.

    Raises UserError for a claim of an unknown kind or about a table that is not there.
    """
    claims = published["claims"]
    tables = {n: evaluate.prepared(f, n) for n, f in published.items() if n not in NOT_FIGURES}
    outcomes = {}
    for _, claim in claims.iterrows():
        names = claim["tables"] if isinstance(claim["tables"], str) else ""
        if absent := [n for n in filter(None, names.split(";")) if n not in tables]:
            raise UserError(f"claim {claim['id']} is about table '{absent[0]}'", f"one of {', '.join(tables)}", "correct claims.csv")
        if claim["kind"] == "checks":
            outcomes[claim["id"]] = _from_checks(claim, findings)
            continue
        if claim["kind"] not in KINDS:
            raise UserError(
                f"claim {claim['id']} has kind '{claim['kind']}'", f"one of {', '.join([*KINDS, 'checks'])}", "correct claims.csv"
            )
        where = claim["where"] if isinstance(claim["where"], str) else ""
        outcomes[claim["id"]] = KINDS[claim["kind"]](claim, evaluate.select(tables, names, where))
    outcomes = _conflicts(claims, outcomes)
    doubted = findings[(findings["verdict"] == "inconsistent") & findings["claim"].str.contains("was measured")]["rows"]
    doubted = {table for rows in doubted for table, _ in parse_rows(rows)}  # what the checks find not to be measured is no evidence
    others = evidence.gathered({n: t for n, t in tables.items() if n not in doubted}, _sources(published))
    rows = []
    for line, (_, claim) in enumerate(claims.iterrows(), start=2):
        published_outcome = outcomes[claim["id"]]
        own, other = measured.judge(claim, measured_tables), evidence.judge(claim, others)
        outcome = own or _weighed(published_outcome, other)
        rows.append(
            {
                "id": claim["id"],
                "source": claim["source"],
                "claim": claim["claim"],
                "verdict": outcome.verdict,
                "reason": outcome.reason,
                "stated": stated(claim),
                "computed": outcome.computed,
                "rows": outcome.where() or f"claims:{line}",
                "check": claim["kind"],
                "published_verdict": published_outcome.verdict,
                "evidence_verdict": other.verdict if other else "",
                "evidence": other.reason if other else "",
            }
        )
    return to_frame(rows)


def all_verdicts(published: dict[str, pd.DataFrame], measured: dict[str, pd.DataFrame] | pd.DataFrame | None = None) -> pd.DataFrame:
    """Every claim's verdict, then every finding on the tables: id, source, claim, verdict, reason, stated, computed, rows, check.

    `published` holds the tables of data/published by name, `claims` among them; `measured` the summary of an experiment (or a
    dict with `summary`). `rows` names tables and their lines as an editor counts them.
    """
    published = {n: f.reset_index(drop=True) for n, f in published.items()}
    if "claims" not in published:
        raise UserError("no table 'claims'", "the registry data/published/claims.csv among the published tables")
    findings = table_findings(published)
    verdicts = claim_verdicts(published, findings, measured)
    findings["published_verdict"] = findings["verdict"]
    return pd.concat([verdicts, findings], ignore_index=True)
