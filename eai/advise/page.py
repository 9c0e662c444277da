"""An answer as a page: one Jinja template an answer (folder templates) writes Markdown, a terminal and HTML show that same Markdown; and
its chart. Numbers a person reads: two or three digits, thousands apart, one unit for a value and its interval: `6,260 J [4,520 to 8,670]`.
"""

import os
import re
import textwrap
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from eai import catalog, paths
from eai.errors import UserError
from eai.quantity import plain

KINDS = {"ranking": "optimize", "current": "estimate", "max_regression": "gate", "rows": "compare", "configurations": "experiment"}
"""A key that only this answer has -> its template."""
STYLE = """body{font:15px/1.45 sans-serif;max-width:70em;margin:2em auto;padding:0 1em}
td,th{padding:.2em .7em;text-align:left;border-bottom:1px solid #ddd}table{border-collapse:collapse}
pre{background:#f4f4f4;padding:.7em;overflow-x:auto}"""


def count(n: float | None) -> str:
    """A whole number: `1,000,000`, a dash for what is not known."""
    return "-" if n is None else f"{n:,.0f}"


def quantity(q: dict | None, unit: str | None = None, scale: float = 1.0) -> str:
    """`6,260 J [4,520 to 8,670]`, or a dash for what is not known; `scale` and `unit` turn it into another unit."""
    if not q or q["value"] is None:
        return "-"
    text = f"{plain(q['value'] * scale)} {q['unit'] if unit is None else unit}".rstrip()
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


def signed(change: float, digits: int = 0) -> str:
    """`+17 %`: a relative change with its sign."""
    return f"{100 * change:+.{digits}f} %"


def name(c: dict, model: bool = False, cards: bool = True) -> str:
    """A configuration in words: `nf4 with transformers, batch 1, on 2 x H100 SXM5 80 GB`."""
    if not c.get("gpu"):
        return "your figures"
    engine, n, size = c["engine"], c["num_gpus"], c["batch_size"]
    flight = f"batch {size}" if engine == "transformers" else "one request at a time" if size == 1 else f"up to {size} in flight"
    text = f"{c['quantization']} with {engine}, {flight}"
    text += f", on {f'{n} x ' if n > 1 else ''}{catalog.gpu(c['gpu']).name}" if cards else ""
    return f"{c['model']}, {text}, {count(c['input_tokens'])} tokens in, {count(c['output_tokens'])} out" if model else text


def sentence(text: str) -> str:
    """The text with a capital at its beginning and one full stop at its end."""
    return f"{text[:1].upper()}{text[1:].rstrip('.')}."


def assumption(x: dict) -> str:
    """One assumption: name = value unit [range]: reason."""
    value = x["value"]
    if isinstance(value, int | float):
        value = count(value) if float(value).is_integer() else f"{value:,.6g}"
    ends = f" [{plain(x['low'])} to {plain(x['high'])}]" if x.get("low") is not None and x["low"] != x["high"] else ""
    return f"{x['name'].replace('_', ' ')} = {value}{(' ' + x['unit']) if x.get('unit') else ''}{ends}: {x['reason']}"


def change(x: dict) -> list[str]:
    """Of a fix: the figures now and then, and what it saves, in two lines at most."""
    found, now, then, q, usd = [], x["now"] or {}, x["then"] or {}, x["expected_impact"], x["usd_a_month"]
    units = {"throughput_tok_s": "tok/s", "energy_j_per_1k_tok": "J per 1000 tokens", "power_w": "W"}
    known = [key for key in units if now.get(key) is not None and then.get(key) is not None]
    if known:
        found.append("Expected: " + ", ".join(f"{plain(now[key])} -> {plain(then[key])} {units[key]}" for key in known) + ".")
    if q:
        word, low, high = "saves" if q["value"] >= 0 else "costs", q["low"], q["high"]
        low, high = sorted((abs(low), abs(high))) if low * high > 0 else (low, high)
        money = f", {plain(abs(usd))} USD of electricity a month" if usd and (usd > 0) == (q["value"] >= 0) else ""
        found.append(f"It {word} {percent(abs(q['value']))} [{percent(low)} to {percent(high)}] of the energy{money}.")
    return found


def grouped(patterns: list[dict]) -> list[tuple[dict, int]]:
    """The first of each pattern with how many configurations it is named for."""
    names = [p["name"] for p in patterns]
    return [(next(p for p in patterns if p["name"] == n), names.count(n)) for n in dict.fromkeys(names)]


@cache
def environment():
    """The Jinja environment of the templates, with the filters above; compiled templates are kept in the user's cache folder if it can be
    written."""
    import jinja2

    kept = paths.cache() / "templates"
    with suppress(OSError):
        kept.mkdir(parents=True, exist_ok=True)
    compiled = jinja2.FileSystemBytecodeCache(str(kept)) if os.access(kept, os.W_OK) else None
    options = {"loader": jinja2.PackageLoader("eai.advise"), "bytecode_cache": compiled, "undefined": jinja2.StrictUndefined}
    made = jinja2.Environment(trim_blocks=True, lstrip_blocks=True, **options)
    filters = (count, quantity, bare, percent, name, plain, sentence, assumption, change, grouped)
    made.filters |= {f.__name__: f for f in filters} | {"cell": lambda text: str(text).replace("|", "/")}
    made.globals["not_there"] = catalog.NOT_THERE
    return made


def markdown(answer: dict[str, Any], explain: bool = True) -> str:
    """Any answer as Markdown: at most ten lines, tables, what to type; with `explain` what stands behind."""
    kind = next((kind for key, kind in KINDS.items() if key in answer), "diagnose")
    text = environment().get_template(f"{kind}.md.j2").render(a=answer, explain=explain)
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def head(answer: dict[str, Any]) -> list[str]:
    """The answer itself, at most ten lines: what stands before the first table or section."""
    lines = markdown(answer, explain=False).splitlines()[1:]
    end = next((i for i, line in enumerate(lines) if line.startswith(("|", "## "))), len(lines))
    return [line.removeprefix("- ").replace("**", "") for line in lines[:end] if line]


def as_html(answer: dict[str, Any]) -> str:
    """The answer with all that stands behind it as one HTML document that loads nothing."""
    from markdown_it import MarkdownIt

    text = markdown(answer)
    body = MarkdownIt("commonmark", {"html": False}).enable("table").render(text)
    title = text.partition("\n")[0].lstrip("# ")
    return f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title><style>{STYLE}</style>{body}</html>\n'


def terminal(answer: dict[str, Any], width: int, explain: bool = False, color: bool = False) -> str:
    """The answer for a terminal of `width` columns: no line is wider, no column is left out; a wide table is turned on its side."""
    import io

    from rich import box
    from rich.console import Console
    from rich.markdown import CodeBlock, Heading, Markdown, TableElement
    from rich.table import Table
    from rich.text import Text

    def code(self, console, options):
        yield Text("\n".join(wrapped(line, options.max_width) for line in str(self.text).rstrip().splitlines()), style="cyan")

    def table(self, console, options):
        rows = [[cell.content for cell in row.cells] for row in (self.header.row, *self.body.rows)]
        wide = sum(min(22, max(len(cell) for cell in column)) + 2 for column in zip(*rows, strict=True))
        if wide > options.max_width and len(rows) <= 6:
            rows = [list(row) for row in zip(*rows, strict=True)]
        most = max(4, options.max_width // len(rows[0]) - 2)
        made = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1), header_style="bold")
        for i, head in enumerate(rows[0]):
            longest = max((len(word) for row in rows for word in str(row[i]).split()), default=1)
            made.add_column(head, overflow="fold", min_width=min(longest, 16, most))
        for row in rows[1:]:
            made.add_row(*row)
        yield made

    heading = lambda self, console, options: [Text(str(self.text), style="bold")]  # noqa: E731
    drawn = (("heading_open", Heading, heading), ("fence", CodeBlock, code), ("table_open", TableElement, table))
    own = {name: type(base.__name__, (base,), {"__rich_console__": draw}) for name, base, draw in drawn}
    page = type("Page", (Markdown,), {"elements": Markdown.elements | own})(markdown(answer, explain), hyperlinks=False)
    out = io.StringIO()
    Console(file=out, width=width, force_terminal=color, no_color=not color, highlight=False, legacy_windows=False).print(page)
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()).strip("\n") + "\n"


def wrapped(line: str, width: int) -> str:
    """A line of code in `width` columns that can still be pasted: a command goes on after a backslash, Python inside its brackets."""
    if len(line) <= width:
        return line
    if re.match(r"\w+ = |from |import |#", line):
        return "\n".join(textwrap.wrap(line, width, subsequent_indent="    ", break_long_words=False, break_on_hyphens=False))
    made = [""]
    for part in re.split(r" (?=--?[a-z])", line):
        if made[-1] and len(made[-1]) + len(part) + 3 > width:
            made.append("    " + part)
        else:
            made[-1] += f" {part}" if made[-1] else part
    return " \\\n".join(made)


def draw(answer: dict[str, Any], path: Path) -> Path:
    """Draw the answer's chart into an .svg or .png file; its path. Raises UserError for another file type and for nothing to draw."""
    if path.suffix not in (".svg", ".png"):
        raise UserError(f"--plot {path}", "a file that ends in .svg or .png", "name one")
    from eai import plots
    from eai.plots.style import plain_ticks

    fig, ax = plots.figure(height_in=3.2)
    if "ranking" in answer:
        roles = {str(e["configuration"]): role for role, e in reversed(answer["short_list"].items())}
        for e in (e for e in answer["ranking"] if e["latency_s"]["value"] is not None):
            at, fine = (e["latency_s"]["value"], e["kwh_a_month"]), e["accuracy"]["acceptable"]
            ax.plot(*at, "o", color="C0", markerfacecolor="C0" if fine else "white", markersize=4)
            if role := roles.get(str(e["configuration"])):
                words = f"{role}: {name(e['configuration'])}"
                ax.annotate(words, at, textcoords="offset points", xytext=(4, 3), fontsize="x-small")
        ax.set_xscale("log")
        ax.set_yscale("log")
        ax.margins(x=0.25)
        ax.set_xlabel("p95 of a request [s]" if answer["capacity"] else "time of a request [s]")
        ax.set_ylabel("energy per month [kWh] (hollow: accuracy not known)")
    elif "current" in answer:
        sides = [("now", answer["current"]), ("better", answer["optimized"])]
        _intervals([(when, side["energy_kwh"], True) for when, side in sides if side], ax)
        levers = ", ".join(f"{x['lever']} {percent(x['energy_fraction'])}" for x in answer["levers"])
        ax.set_xlabel("energy in use a month [kWh]" + (f": {levers}" if levers else ""))
    elif "rows" in answer and "recommended" in answer:
        _intervals([(e["quantization"], e["energy_j_per_1k_tok"], e["accuracy"]["acceptable"]) for e in answer["rows"]], ax)
        ax.set_xlabel("energy per 1000 output tokens [J] (hollow: accuracy not known)")
    elif found := answer.get("expected"):
        over = [{end: d["expected"][end] / d["expected"]["value"] for end in ("value", "low", "high")} for d in found]
        _intervals([(d["figure"], q, True) for d, q in zip(found, over, strict=True)], ax)
        ax.plot([d["reported"] / d["expected"]["value"] for d in found], range(len(found)), "D", color="black", markersize=5)
        ax.set_xlabel("over what is expected as stated (diamond: reported)")
    else:
        drawn = "a ranking, a comparison, a bill or a diagnosis with expected figures"
        raise UserError("this answer has nothing to draw", drawn, "leave --plot out")
    for axis, scale in ((ax.xaxis, ax.get_xscale()), (ax.yaxis, ax.get_yscale())):
        if scale == "log":
            plain_ticks(axis)
    path.parent.mkdir(parents=True, exist_ok=True)
    return Path(plots.save(fig, path))


def _intervals(entries: list[tuple[str, dict, bool]], ax) -> None:
    """One line an entry: its value with interval on a log scale; hollow where the accuracy bars a recommendation."""
    for y, (_, q, fine) in enumerate(entries):
        ends = [[0.0], [0.0]] if q["low"] is None else [[q["value"] - q["low"]], [q["high"] - q["value"]]]
        ax.errorbar(q["value"], y, xerr=ends, fmt="o", color="C0", markerfacecolor="C0" if fine else "white", capsize=2)
    ax.set_yticks(range(len(entries)), [name for name, _, _ in entries])
    ax.invert_yaxis()
    ax.set_xscale("log")
