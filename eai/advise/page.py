"""An answer as a page: at most ten lines, tables, and what stands behind them; on a terminal, as Markdown, as HTML, from the same data.

Numbers a person reads: two or three digits, thousands apart, one unit for a value and its interval: `6,260 J [4,520 to 8,670]`.
"""

import html
from dataclasses import dataclass, field
from typing import Any

from eai.quantity import Quantity
from eai.quantity import plain as plain

MOST_LINES = 10


def count(n: float | None) -> str:
    """A whole number: `1,000,000`, a dash for what is not known."""
    return "-" if n is None else f"{n:,.0f}"


def quantity(q: dict | Quantity | None, unit: str | None = None, scale: float = 1.0) -> str:
    """`6,260 J [4,520 to 8,670]`, or a dash for what is not known; `scale` and `unit` turn it into another unit."""
    if isinstance(q, Quantity):
        q = q.to_json()
    if not q or q["value"] is None:
        return "-"
    unit = q["unit"] if unit is None else unit
    text = f"{plain(q['value'] * scale)} {unit}".rstrip()
    if q["low"] is not None and q["low"] != q["high"]:
        text += f" [{plain(q['low'] * scale)} to {plain(q['high'] * scale)}]"
    return text


def bare(q: dict | None) -> str:
    """`6,260 [4,520 to 8,670]`: a quantity in a column whose head has the unit."""
    return quantity(q, "")


def percent(share: float | None) -> str:
    """`96 %`; below one in a hundred `< 1 %`, a dash for what is not known."""
    if share is None:
        return "-"
    if 0 < abs(share) < 0.005:
        return "< 1 %"
    return "> 99 %" if 0.995 <= share < 1 else f"{share:.0%}".replace("%", " %")


@dataclass(frozen=True)
class Table:
    """A table: title, heads, rows of text; the last `aside` columns are left out where a terminal is narrow."""

    title: str
    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    aside: int = 0


@dataclass(frozen=True)
class Section:
    """A list of lines under a title, and code if there is some."""

    title: str
    lines: tuple[str, ...]
    code: str = ""


@dataclass
class Page:
    """One answer: title, the answer itself (at most ten lines), tables, what to type, and what stands behind it."""

    title: str
    answer: list[str]
    tables: list[Table] = field(default_factory=list)
    commands: list[Section] = field(default_factory=list)
    behind: list[Section] = field(default_factory=list)

    def add(self, title: str, lines: Any, code: str = "") -> None:
        """A section of what stands behind the answer, left out where it is empty."""
        lines = tuple(str(line) for line in lines if line)
        if lines or code:
            self.behind.append(Section(title, lines, code))

    def sections(self, explain: bool) -> list[Section]:
        """What to type, and with `explain` what stands behind."""
        return [*self.commands, *(self.behind if explain else [])]


def markdown(page: Page, explain: bool = True) -> str:
    """The page as Markdown."""
    lines = [f"# {page.title}", "", *[part for line in page.answer for part in (line, "")]]
    for t in page.tables:
        if t.rows:
            cells = [t.heads, ["---"] * len(t.heads), *t.rows]
            rows = ["| " + " | ".join(str(c).replace("|", "/") for c in row) + " |" for row in cells]
            lines += [*([f"## {t.title}", ""] if t.title else []), *rows, ""]
    for s in page.sections(explain):
        lines += [f"## {s.title}", "", *(f"- {line}" for line in s.lines), *([""] if s.lines else [])]
        lines += ["```", s.code, "```", ""] if s.code else []
    return "\n".join(lines).rstrip() + "\n"


def as_html(page: Page) -> str:
    """The page as one HTML document that loads nothing."""
    e = html.escape
    body = [f"<h1>{e(page.title)}</h1>", *(f"<p>{e(line)}</p>" for line in page.answer)]
    for t in page.tables:
        if t.rows:
            head = "".join(f"<th>{e(h)}</th>" for h in t.heads)
            rows = "".join("<tr>" + "".join(f"<td>{e(str(c))}</td>" for c in row) + "</tr>" for row in t.rows)
            body.append(f"<h2>{e(t.title)}</h2><table><tr>{head}</tr>{rows}</table>")
    for s in page.sections(True):
        items = "".join(f"<li>{e(line)}</li>" for line in s.lines)
        body.append(f"<h2>{e(s.title)}</h2>" + (f"<ul>{items}</ul>" if items else "") + (f"<pre>{e(s.code)}</pre>" if s.code else ""))
    style = "body{font:15px/1.45 sans-serif;max-width:70em;margin:2em auto;padding:0 1em}"
    style += "td,th{padding:.2em .7em;text-align:left;border-bottom:1px solid #ddd}"
    style += "table{border-collapse:collapse}pre{background:#f4f4f4;padding:.7em;overflow-x:auto}"
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{e(page.title)}</title><style>{style}</style>{"".join(body)}</html>\n'
    )


def terminal(page: Page, width: int, explain: bool = False, color: bool = False) -> str:
    """The page for a terminal of `width` columns: no line is wider; tables lose their side columns where it is narrow."""
    import io

    from rich import box
    from rich.console import Console
    from rich.padding import Padding
    from rich.table import Table as Rich
    from rich.text import Text

    out = io.StringIO()
    console = Console(
        file=out, width=width, force_terminal=color, no_color=not color, highlight=False, soft_wrap=False, legacy_windows=False
    )
    console.print(Text(page.title, style="bold"))
    for line in page.answer:
        console.print(Text(line))
    for t in page.tables:
        if not t.rows:
            continue
        kept = len(t.heads) - (t.aside if width < 120 else 0)
        made = Rich(box=box.SIMPLE_HEAD, title=t.title or None, title_justify="left", title_style="bold", padding=(0, 1), pad_edge=False)
        for i, head in enumerate(t.heads[:kept]):
            words = [w for row in t.rows for w in str(row[i]).split()] + head.split()
            made.add_column(head, overflow="fold", min_width=min(max(map(len, words), default=3), 18))
        for row in t.rows:
            made.add_row(*(Text(str(c)) for c in row[:kept]))
        console.print(made)
    for s in page.sections(explain):
        console.print(Text(s.title, style="bold"))
        for line in s.lines:
            console.print(Padding(Text(f"- {line}"), (0, 0, 0, 1)))
        if s.code:
            console.print(Padding(Text(s.code, style="cyan"), (0, 0, 0, 2)))
    if not explain and page.behind:
        console.print(Text("Reasons, evidence and assumptions: --explain", style="dim"))
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()) + "\n"
