"""What a document is made of, how its words are translated, and the pages that Jinja templates make of it.

Two kinds of template: what is said (`templates/said/*.txt`: sentences, and where tables and figures stand; `composed` reads it) and how a
page looks (report.html, report.md, report.tex, talk.html, script.md). Text is plain words with two marks, `**bold**` and code between
backquotes. Every value is escaped by the template engine for the format at hand: a name that comes from data can neither run a script nor
break a page.
"""

import base64
import hashlib
import io
import re
import tomllib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cache, cached_property
from importlib.resources import files

import jinja2
import markupsafe
import pandas as pd
from matplotlib.figure import Figure

from eai import plots
from eai.errors import UserError
from eai.plots.style import interval, number

LANGUAGES = ("en", "zh")
CALLED = tomllib.loads((files("eai.report") / "templates" / "words.toml").read_text(encoding="utf-8"))
"""What pages call things: bases, outcomes, factors, the study's cards and strategies."""
STRICT = {"trim_blocks": True, "lstrip_blocks": True, "undefined": jinja2.StrictUndefined}
MOST_ROWS = 300
PAPER_ROWS = 12  # a longer table, or one of sentences, goes to the appendix of the paper
LONG_CELL = 46
PAPER_LINE = 118  # letters of a table across a page in footnotesize
PAPER_COLUMN_IN = 4.2
MARKS = re.compile(r"`([^`]+)`|\*\*(.+?)\*\*")
MARKED = {"html": ("<code>%s</code>", "<strong>%s</strong>"), "md": ("`%s`", "**%s**"), "tex": (r"\texttt{%s}", r"\textbf{%s}")}
LATEX = {"\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
         "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}", "×": r"$\times$",
         "±": r"$\pm$", "≤": r"$\leq$", "≥": r"$\geq$", "→": r"$\rightarrow$", "α": r"$\alpha$"}  # fmt: skip


class Words:
    """The language of a document: translates English sentences and writes numbers.

    `t("{n} windows", n=3)` looks the sentence up in the catalogue `locale/<language>.po` and fills it in; English is the sentence itself.
    Raises UserError for a language without a catalogue.
    """

    def __init__(self, language: str = "en"):
        if language not in LANGUAGES:
            raise UserError(f"language '{language}'", f"one of {', '.join(LANGUAGES)}")
        self.language = language
        self.catalogue = {} if language == "en" else catalogue(language)

    def __call__(self, sentence: str, **values: object) -> str:
        text = self.catalogue.get(sentence) or sentence
        return text.format(**values) if values else text

    def join(self, items: Iterable[object]) -> str:
        """The items in a row, separated as the language does."""
        return ("、" if self.language == "zh" else ", ").join(str(item) for item in items)

    def sentences(self, *texts: str) -> str:
        """Sentences in a row, empty ones left out; Chinese needs no space between them."""
        return ("" if self.language == "zh" else " ").join(filter(None, texts))

    def interval(self, value: float, low: float | None = None, high: float | None = None, digits: int = 3) -> str:
        """`0.621 [0.603 to 0.639]`: the estimate and its interval; the estimate alone where there is none."""
        with plots.language(self, False):
            return interval(value, low, high, digits=digits)

    def of(self, row: dict, name: str, digits: int = 3) -> str:
        """The column `name` of a row with its `_low` and `_high`."""
        return self.interval(row.get(name), row.get(f"{name}_low"), row.get(f"{name}_high"), digits)

    def span(self, low: object, high: object) -> str:
        """`3`, or `3 to 5`."""
        return str(low) if low == high else self("{low} to {high}", low=low, high=high)

    def table(self, frame: pd.DataFrame, columns: dict[str, str | Callable[[dict], str]], caption: str, csv: str = "", **more) -> "Table":
        """A table of a frame's rows: under each heading a column of the frame, with its interval where it has one, or what a function
        makes of the row.
        """
        rows = frame.to_dict("records")
        cells = tuple(tuple(self.cell(row, c) if isinstance(c, str) else c(row) for c in columns.values()) for row in rows)
        return Table(tuple(map(self, columns)), cells, caption, csv, **more)

    def cell(self, row: dict, column: str) -> str:
        """A value of a row as a page writes it: a number with its interval (`score %`: as percent), a known word translated, a text."""
        if column.endswith(" %"):
            return self.percent(row, column[:-2])
        value = row[column]
        if column == "p_holm":
            return "< 0.001" if value is not None and value < 0.001 else "-" if number(value) == "-" else f"{value:.3f}"
        if isinstance(value, str):
            value = CALLED["outcomes"].get(value, value) if column == "outcome" else value
            return self.catalogue.get(value) or value
        return str(int(value)) if isinstance(value, int) or column == "n_items" else self.of(row, column)

    def percent(self, row: dict, name: str) -> str:
        """A fraction with its interval as percent: `60 [45 to 74]`."""
        return self.interval(*(100 * row.get(name + end, float("nan")) for end in ("", "_low", "_high")), digits=2)

    def figure(self, name: str, caption: str, draw: Callable, height_in: float = 3.0, columns: int = 1, wide: bool = False) -> "Picture":
        """A figure in this language: `draw` is given its axes, one or `columns` of them. A `wide` one needs both columns of a paper."""
        with plots.language(self, self.language == "zh"):
            fig, axes = plots.figure(1, columns, "page" if wide or columns > 1 else "text", height_in)
            draw(axes)
        return Picture(name, fig, caption)


@cache
def catalogue(language: str) -> dict[str, str]:
    """The translations of a language by their English sentence."""
    from babel.messages.pofile import read_po

    text = (files("eai.report") / "locale" / f"{language}.po").read_bytes()
    return {message.id: message.string for message in read_po(io.BytesIO(text)) if message.id and message.string}


def unmarked(text: object) -> str:
    """Text from data whose own backquotes and asterisks cannot be taken for our marks."""
    return str(text).replace("`", "'").replace("*", "∗")


def code(name: object) -> str:
    """A name from data, set as code."""
    return f"`{unmarked(name).strip()}`"


class Safe(str):
    """Text that is written for its format already."""


@dataclass(frozen=True)
class Text:
    """Texts of a kind: the paragraphs of prose, the points of a list, or the one big number of a slide."""

    kind: str
    texts: tuple[str, ...]
    in_paper = True


@dataclass(frozen=True)
class Table:
    """A table of texts; `csv` is the file that holds it whole, where a page shows a part; `appendix`: the paper has it there."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    caption: str
    csv: str = ""
    appendix: bool = False
    kind = "table"

    @property
    def shown(self) -> tuple[tuple[str, ...], ...]:
        return self.rows[:MOST_ROWS]

    def said(self, t: Words) -> str:
        """The caption, and where the rest of a table stands of which a page shows a part."""
        known = "The first {shown} of {all} rows; the whole table is {csv}."
        rest = t(known, shown=MOST_ROWS, all=len(self.rows), csv=self.csv) if len(self.rows) > MOST_ROWS else ""
        return " ".join(filter(None, (self.caption, rest)))

    @property
    def in_paper(self) -> bool:
        """Whether the body of a paper has it, or its appendix."""
        return not self.appendix and len(self.rows) <= PAPER_ROWS and not any(len(cell) > LONG_CELL for row in self.rows for cell in row)

    def widths(self) -> list[int]:
        """The width of each column in characters, of the longest cell; a Chinese one counts double."""
        return [max(sum(1 + (c >= "\u2e80") for c in cell) for cell in column) for column in zip(self.head, *self.rows, strict=True)]

    @property
    def is_wide(self) -> bool:
        """Whether the text needs both columns of a paper."""
        return sum(self.widths()) + 2 * len(self.head) > 62

    def columns_tex(self) -> Safe:
        """Columns for LaTeX: as wide as they are where a line has room for all, else sharing the line by what they hold."""
        if self.in_paper and sum(self.widths()) + 3 * len(self.head) < PAPER_LINE:
            return Safe("l" * len(self.head))
        words = [max(head.split(), key=len, default="") for head in self.head]
        shares = [min(width, 60) for width in replace(self, head=tuple(words)).widths()]
        if sum(shares) + 3 * len(shares) > PAPER_LINE:
            shares = [share**0.8 for share in shares]
        room = rf"\dimexpr\linewidth-{2 * len(shares)}\tabcolsep\relax"
        return Safe("".join(rf">{{\raggedright\arraybackslash}}p{{{0.97 * share / sum(shares):.3f}{room}}}" for share in shares))


@dataclass(frozen=True)
class Picture:
    """A figure with its caption: SVG for a screen, PDF for LaTeX. `name` is its file; `appendix`: the paper has it there."""

    name: str
    figure: Figure
    caption: str
    appendix: bool = False
    kind = "picture"

    @property
    def in_paper(self) -> bool:
        return not self.appendix

    @cached_property
    def svg(self) -> bytes:
        return plots.rendered(self.figure, "svg")

    @property
    def pdf(self) -> bytes:
        """The figure for a paper, one of a single column narrower than on a screen: its words stay above 6 points in print."""
        if not self.is_wide:
            self.figure.set_size_inches(PAPER_COLUMN_IN, self.figure.get_size_inches()[1])
        return plots.rendered(self.figure, "pdf")

    @property
    def is_wide(self) -> bool:
        return self.figure.get_size_inches()[0] > 6

    def address(self) -> markupsafe.Markup:
        """The figure as a data address: a page that needs no other file, and a picture in which no script can run."""
        return markupsafe.Markup("data:image/svg+xml;base64," + base64.b64encode(self.svg).decode())


@dataclass(frozen=True)
class Section:
    """A heading and what stands under it. `part`: body, appendix, or paper (related work, which only the paper has); of a slide what is
    said (`script`) and in how many seconds.
    """

    title: str
    blocks: tuple
    part: str = "body"
    script: str = ""
    seconds: int = 0


@dataclass(frozen=True)
class Document:
    """A report or a talk: title, the abstract's paragraphs, the sections or slides, and the line of date, version, commit and machine."""

    title: str
    abstract: tuple[str, ...]
    sections: tuple[Section, ...]
    meta: str

    def pictures(self) -> list[Picture]:
        return [block for section in self.sections for block in section.blocks if block.kind == "picture"]

    def appendix(self) -> list[Section]:
        """The sections of the paper's appendix: what is one, and the tables that the paper's body has no room for."""
        left = [Section(s.title, tuple(b for b in s.blocks if not b.in_paper or s.part == "appendix")) for s in self.sections]
        return [section for section in left if section.blocks]


VALUE, BLOCK = "\x1f", "\x1d"
"""Begins a value in a composed text, so that none can begin a heading or a point; stands for the next table or figure."""


def composed(template: str, t: Words, **content: object) -> tuple[Section, ...]:
    """The sections that a template of `templates/said` makes of values, tables and figures; those without content are left out.

    Line by line: `# title` (`# title | appendix`, `# title | 60` of a slide of a minute) begins a section, `! text` is the one number of a
    slide, `- text` a point, `> text` is said; an empty line ends a paragraph, whose lines are sentences. A table or figure is printed
    like a value, and a list of texts as so many lines.
    """
    blocks: list = []

    def printed(value: object) -> str:
        if isinstance(value, Picture | Table):
            blocks.append(value)
            return f"\n{BLOCK}\n"
        if isinstance(value, list | tuple):
            return "\n".join(map(printed, value))
        return VALUE + " ".join(str("" if value is None else value).replace(VALUE, " ").replace(BLOCK, " ").split())

    finalize = jinja2.pass_context(lambda _, value: printed(value))  # with a context: constants too are printed anew for each text
    engine = jinja2.Environment(loader=jinja2.PackageLoader("eai.report", "templates/said"), finalize=finalize, **STRICT)
    engine.filters["later"] = lambda block: replace(block, appendix=True)  # the paper has it in its appendix
    text = engine.get_template(template).render(t=t, zip=zip, **content)
    found = [_section(part, t, blocks) for part in re.split(r"^# ", text, flags=re.M)[1:]]
    return tuple(section for section in found if section.blocks or section.script)


def _section(text: str, t: Words, blocks: list) -> Section:
    """One section of a composed text; takes its tables and figures from the head of `blocks`."""
    head, *lines = text.split("\n")
    title, _, kind = head.replace(VALUE, "").partition(" | ")
    found, said, paragraph = [], [], []
    for line in [*lines, ""]:
        mark, words = line[:2], line.replace(VALUE, "").strip()
        if mark not in ("> ", "- ", "! ") and line != BLOCK and (words or VALUE in line):
            paragraph.append(words)
            continue
        if any(paragraph):
            found.append(Text("prose", (t.sentences(*paragraph),)))
        paragraph = []
        if mark == "> ":
            said.append(words[2:])
        elif mark == "- " and words[2:]:
            points = found.pop().texts if found and found[-1].kind == "points" else ()
            found.append(Text("points", (*points, words[2:])))
        elif mark == "! " and words[2:]:
            found.append(Text("big", (words[2:],)))
        elif line == BLOCK:
            found.append(blocks.pop(0))
    seconds = int(kind) if kind.isdigit() else 0
    return Section(title, tuple(found), "body" if seconds or not kind else kind, t.sentences(*said), seconds)


def marked(text: str, form: str) -> str:
    """Text of two marks in a format (html, md, tex), everything else in it escaped."""
    text, parts, end = str(text), [], 0
    for mark in MARKS.finditer(text):
        literal, bold = mark.groups()
        inner = literal if literal and form == "md" else escaped(literal or bold, form)
        inner = inner.replace(r"\_", r"\_\allowbreak ") if literal and form == "tex" else inner
        parts += [escaped(text[end : mark.start()], form), MARKED[form][literal is None] % inner]
        end = mark.end()
    joined = "".join([*parts, escaped(text[end:], form)])
    return markupsafe.Markup(joined) if form == "html" else Safe(joined)


def escaped(text: str, form: str) -> str:
    """The text with every character that the format gives a meaning made plain."""
    if form == "html":
        return str(markupsafe.escape(text))
    if form == "tex":
        return "".join(LATEX.get(character, character) for character in text)
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("](", "]\\(").replace("|", "\\|")


@cache
def environment(form: str) -> jinja2.Environment:
    """The template engine of a format: whatever a template prints is escaped unless it was written for the format."""
    marks = ("((*", "*))", "(((", ")))", "((#", "#))") if form == "tex" else ("{%", "%}", "{{", "}}", "{#", "#}")
    safe = lambda v: v if form == "html" or isinstance(v, Safe | int | float) else Safe(escaped(str(v), form))  # noqa: E731
    made = jinja2.Environment(*marks, loader=jinja2.PackageLoader("eai.report"), autoescape=form == "html", finalize=safe, **STRICT)
    made.filters["marked"] = lambda text: marked(text, form)
    made.filters["cited"] = lambda text: Safe(
        re.sub(r"\[([a-z0-9; ]+)\]", lambda m: rf"\cite{{{m[1].replace('; ', ',')}}}", marked(text, form))
    )
    made.globals["form"] = form
    return made


def asset(name: str) -> markupsafe.Markup:
    """A stylesheet or script of the templates, to be written into a page as it is."""
    return markupsafe.Markup((files("eai.report") / "templates" / name).read_text(encoding="utf-8"))


def policy(*scripts: str, more: str = "") -> str:
    """A Content-Security-Policy under which a page runs these scripts only, fetches nothing and shows pictures it carries itself."""
    hashes = " ".join(f"'sha256-{base64.b64encode(hashlib.sha256(s.encode()).digest()).decode()}'" for s in scripts)
    script = f"script-src {hashes}{more}; " if scripts else ""
    return f"default-src 'none'; {script}style-src 'unsafe-inline'; img-src data: blob:; base-uri 'none'; form-action 'none'"


def page(template: str, words: Words, **content: object) -> str:
    """A page from a template, whose name's suffix says the format: report.html, report.md, report.tex, talk.html, script.md."""
    form = template.rpartition(".")[2]
    return environment(form).get_template(template).render(t=words, language=words.language, asset=asset, policy=policy, **content)
