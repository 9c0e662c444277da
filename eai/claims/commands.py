"""The commands `eai claims` and `eai check`, and what they print: the summary first, on one screen; `--all` has every line."""

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from eai.errors import UserError
from eai.terminal import Json, emit, findings_text, records

if TYPE_CHECKING:
    import pandas as pd

MOST_FINDINGS, MOST_ALIKE, MOST_CLAIMS, WIDTH = 12, 2, 4, 140
All = Annotated[bool, typer.Option("--all", help="Every one, with what was not checked or not decided, in full.")]


def claims(
    against: Annotated[str | None, typer.Option(metavar="EXPERIMENT", help="Measured experiment to test the claims against.")] = None,
    every: All = False,
    as_json: Json = False,
) -> None:
    """Every published claim with its computed verdict, and what the checks find in the published tables."""
    from eai import tables
    from eai.claims import every_verdict

    if against is not None and not against.strip():
        raise UserError("--against is empty", "an experiment", "name one, or leave --against out")
    found = every_verdict(tables.read_result(against, "summary") if against else None)
    _answer("claims", found, every, as_json, lambda: claims_text(found, against))


def check(
    table: Annotated[Path, typer.Argument(metavar="TABLE", help="CSV, JSON, Parquet or Markdown.")],
    mapping: Annotated[Path | None, typer.Option(help="JSON or YAML as `eai import` reads it, or short: our name: their column.")] = None,
    every: All = False,
    as_json: Json = False,
) -> None:
    """The general checks on any table of results. Exit 1 if something in it contradicts itself, 2 if nothing could be checked."""
    from eai import tables
    from eai.claims import checks

    found = checks.check_file(table, checks.read_mapping(mapping) if mapping else None, tables.read_published("gpu_specifications"))
    _answer("findings", found, every, as_json, lambda: check_text(found))
    if (found["verdict"] == "inconsistent").any():
        raise typer.Exit(1)
    if not found["verdict"].isin(("consistent", "not decided")).any():
        wanted = "expected columns that bear on each other; name them with --mapping."
        typer.echo(f"eai: nothing could be checked in {table}; {wanted}", err=True)
        raise typer.Exit(2)


def _answer(name: str, found: "pd.DataFrame", every: bool, as_json: bool, short) -> None:
    """One JSON document with the counts of each verdict that occurs, or the text."""
    answer = {name: records(found), "counts": {str(k): int(v) for k, v in found["verdict"].value_counts().items()}}
    emit(answer, as_json, "" if as_json else findings_text(_spoken(found), found["verdict"].unique()) if every else short())


def _spoken(found: "pd.DataFrame") -> "pd.DataFrame":
    """The findings with quantities as people read them; `--json` keeps the names of columns. A file keeps its name."""
    from eai.claims.tabular import labelled

    ids = [f"{table}{slash}{labelled(rest)}" for table, slash, rest in found["id"].str.partition("/").to_numpy()]
    return found.assign(id=ids, claim=found["claim"].map(labelled), reason=found["reason"].map(labelled))


def add_to(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.command("claims")(claims)
    app.command("check")(check)


def _short(text: str, width: int) -> str:
    return textwrap.shorten(str(text), width, placeholder=" ...")


def check_text(found: "pd.DataFrame") -> str:
    """What a check of a table found: what was checked and with what result, every contradiction, then what was not checked and why."""
    bare, found = found[found["verdict"] == "untested"], _spoken(found)
    table, wrong = str(found["source"].iloc[0]), found[found["verdict"] == "inconsistent"]
    checked = found[found["verdict"].isin(("consistent", "inconsistent", "not decided"))]
    lines = [f"NOTHING WAS CHECKED in {table}: no check found the columns that it needs. That is no sign that the table is right."]
    if len(checked):
        counted = f"{len(checked)} statements: {len(wrong)} inconsistent, {len(checked) - len(wrong)} not"
        lines = [f"{table}: {checked['check'].nunique()} kind(s) of checks applied, {counted}"]
    shown = wrong[wrong.groupby(["check", "claim"], sort=False).cumcount() < MOST_ALIKE].head(MOST_FINDINGS)
    for row in shown.to_dict("records"):
        reason = textwrap.wrap(row["reason"], WIDTH, initial_indent="    ", subsequent_indent="    ")
        lines += [f"inconsistent {row['id']}", f"    {row['claim']}", *reason]
        lines += [f"    rows: {_short(row['rows'], WIDTH)}"] if row["rows"] else []
    if len(wrong) > len(shown):
        lines.append(f"{len(wrong) - len(shown)} more inconsistent, of the same kinds (--all)")
    lines += [f"not checked: {_short(reason, 2 * WIDTH)}" for reason in bare.loc[bare["claim"] != bare["check"], "reason"]]
    if names := ", ".join(bare.loc[bare["claim"] == bare["check"], "check"].unique()):
        lines += textwrap.wrap(f"not checked, columns are missing: {names} (--all says what each needs)", WIDTH)
    return "\n".join(lines)


def claims_text(found: "pd.DataFrame", against: str | None) -> str:
    """The claims on one screen: verdicts by source, then the plainest contradictions of each source."""
    import pandas as pd

    from eai.claims.tabular import VERDICTS

    is_table = found["id"].str.contains("/")
    mine, wrong = found[found["check"].ne("") & ~is_table], found[is_table & found["verdict"].eq("inconsistent")]
    counts = pd.crosstab(mine["source"], mine["verdict"])
    counts = counts[[v for v in VERDICTS if v in counts]]
    width = max(map(len, counts.index), default=6)
    lines = [
        f"{len(mine)} published claims" + (f", against {against}" if against else ""),
        "  ".join([f"{'source':<{width}}", *(f"{verdict:>12}" for verdict in counts)]),
    ]
    lines += ["  ".join([f"{source:<{width}}", *(f"{n:>12}" for n in row)]) for source, *row in counts.itertuples()]
    for kind in ("contradicted", "reproduced", "mixed", "inconsistent"):
        rows = mine[mine["verdict"] == kind]
        first = rows.head(MOST_CLAIMS).to_dict("records")
        lines += [f"{kind}:"] if first else []
        lines += [f"  {row['id']}: {_short(row['claim'], 88)} | {_short(row['computed'], 30)}" for row in first]
        lines += [f"  and {len(rows) - MOST_CLAIMS} more"] if len(rows) > MOST_CLAIMS else []
    kinds = _short(", ".join(wrong["check"].value_counts().index), 90)
    lines.append(f"the checks find {len(wrong)} contradictions in {wrong['source'].nunique()} sources' tables: {kinds}")
    return "\n".join([*lines, "--all shows every claim and finding with its reason and rows"])
