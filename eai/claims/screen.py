"""Verdicts and findings for a terminal: the summary first, on one screen; `--all` has every line."""

import re
import textwrap

import pandas as pd

from eai.claims.quantities import LABELS
from eai.terminal import findings_text

MOST_FINDINGS, MOST_ALIKE, MOST_CLAIMS, WIDTH = 12, 2, 4, 140
WRONG = ("inconsistent", "contradicted")


def counted(found: pd.DataFrame) -> dict[str, int]:
    """How many rows have each verdict that occurs."""
    return {str(k): int(v) for k, v in found["verdict"].value_counts().items()}


def everything(found: pd.DataFrame) -> str:
    """Every row in full, the counts last."""
    return findings_text(found, list(dict.fromkeys(found["verdict"])))


def _short(text: str, width: int) -> str:
    return textwrap.shorten(str(text), width, placeholder=" ...")


def _labelled(text: str) -> str:
    """A sentence with quantities by their labels: `energy [Wh]` for energy_wh."""
    return re.sub(r"\b[a-z]+(?:_[a-z0-9]+)+\b", lambda name: LABELS.get(name[0], name[0]), text)


def findings(found: pd.DataFrame) -> str:
    """What a check of a table found: what was checked and with what result, every contradiction, then what was not checked and why."""
    table = str(found["source"].iloc[0])
    checked = found[found["verdict"].isin(("consistent", "inconsistent", "not decided"))]
    bare = found[found["verdict"] == "untested"]
    wrong = found[found["verdict"] == "inconsistent"]
    if checked.empty:
        lines = [f"NOTHING WAS CHECKED in {table}: no check found the columns that it needs. That is no sign that the table is right."]
    else:
        n = checked["check"].nunique()
        lines = [
            f"{table}: {n} kind(s) of checks applied, {len(checked)} statements: {len(wrong)} inconsistent, {len(checked) - len(wrong)} not"
        ]
    shown = wrong[wrong.groupby(["check", "claim"], sort=False).cumcount() < MOST_ALIKE].head(MOST_FINDINGS)
    for row in shown.to_dict("records"):
        lines += [
            f"inconsistent {row['id']}",
            f"    {_labelled(row['claim'])}",
            *textwrap.wrap(_labelled(row["reason"]), WIDTH, initial_indent="    ", subsequent_indent="    "),
        ]
        lines += [f"    rows: {_short(row['rows'], WIDTH)}"] if row["rows"] else []
    if len(wrong) > len(shown):
        lines.append(f"{len(wrong) - len(shown)} more inconsistent, of the same kinds (--all)")
    lines += _not_checked(bare)
    return "\n".join(lines)


def _not_checked(bare: pd.DataFrame) -> list[str]:
    """What was left unchecked: remarks on rows and columns in full, checks that lack their columns by name."""
    remarks = [r for r in bare.to_dict("records") if r["claim"] != r["check"]]
    names = [r["check"] for r in bare.to_dict("records") if r["claim"] == r["check"]]
    lines = [f"not checked: {_short(r['reason'], 2 * WIDTH)}" for r in remarks]
    if names:
        lines += textwrap.wrap(f"not checked, for want of columns: {', '.join(dict.fromkeys(names))} (--all says what each needs)", WIDTH)
    return lines


def claims(found: pd.DataFrame, against: str | None) -> str:
    """The claims on one screen: verdicts by source, then the plainest contradictions of each source."""
    from eai.claims.findings import counts_by_source

    mine = found[found["check"].ne("") & ~found["id"].str.contains("/")]
    tables = found[found["id"].str.contains("/")]
    counts = counts_by_source(mine)
    width = max(map(len, counts["source"]), default=6)
    kinds = [c for c in counts.columns[1:] if counts[c].any()]
    lines = [
        f"{len(mine)} published claims" + (f", against {against}" if against else ""),
        f"{'source':<{width}}  " + "  ".join(f"{k:>12}" for k in kinds),
    ]
    lines += [f"{row['source']:<{width}}  " + "  ".join(f"{row[k]:>12}" for k in kinds) for row in counts.to_dict("records")]
    for kind in ("contradicted", "reproduced", "mixed", "inconsistent"):
        rows = mine[mine["verdict"] == kind]
        lines += [f"{kind}:"] if len(rows) else []
        lines += [
            f"  {row['id']}: {_short(row['claim'], 88)} | {_short(row['computed'], 30)}"
            for row in rows.head(MOST_CLAIMS).to_dict("records")
        ]
        lines += [f"  and {len(rows) - MOST_CLAIMS} more"] if len(rows) > MOST_CLAIMS else []
    wrong = tables[tables["verdict"] == "inconsistent"]
    lines.append(
        f"the checks find {len(wrong)} contradictions in {wrong['source'].nunique()} sources' "
        f"tables: {_short(', '.join(wrong['check'].value_counts().index), 90)}"
    )
    return "\n".join([*lines, "--all shows every claim and finding with its reason and rows"])
