"""Prose, lists, tables and pictures that know how to stand in a Markdown and in a LaTeX document.

Text is Markdown with two marks only, `**bold**` and code between backquotes. A notebook shows an element as Markdown; the exporters
find it by its metadata, so nothing else that a notebook prints gets into a report.
"""

import base64
import re
from dataclasses import dataclass

import pandas as pd
from matplotlib.figure import Figure

from eai.plots.style import rendered

LATEX = {"\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
         "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}"}  # fmt: skip
MARKS = re.compile(r"`([^`]+)`|\*\*(.+?)\*\*")
COLUMN_CHARACTERS = 68
MOST_ROWS = 24


def escaped(text: str) -> str:
    """The text with every character that LaTeX gives a meaning made plain."""
    return "".join(LATEX.get(character, character) for character in text)


def latex(text: str) -> str:
    """Markdown of the two marks as LaTeX."""
    parts, end = [], 0
    for mark in MARKS.finditer(text):
        code, bold = mark.groups()
        styled = rf"\texttt{{{escaped(code)}}}" if code else rf"\textbf{{{latex(bold)}}}"
        parts += [escaped(text[end : mark.start()]), styled.replace(r"\_", r"\_\allowbreak ") if code else styled]
        end = mark.end()
    return "".join([*parts, escaped(text[end:])])


class Element:
    """What a document is made of: shown as Markdown in a notebook, exported as Markdown or LaTeX.

    Every element but a picture, which shows itself, has `markdown()` and `tex()`.
    """

    kind = "prose"

    def _repr_mimebundle_(self, include=None, exclude=None):
        return {"text/markdown": self.markdown(), "text/x-tex": self.tex(), "text/plain": self.markdown()}, {"eai": {"kind": self.kind}}


@dataclass(frozen=True)
class Heading(Element):
    """A heading: level 1 is the title of the document."""

    text: str
    level: int = 2

    def markdown(self) -> str:
        return f"{'#' * self.level} {self.text}"

    def tex(self) -> str:
        command = {1: r"\title{%s}\author{}\date{}\maketitle", 2: r"\section{%s}", 3: r"\subsection{%s}"}[self.level]
        return command % latex(self.text)


@dataclass(frozen=True)
class Prose(Element):
    """Paragraphs."""

    paragraphs: tuple[str, ...]

    def markdown(self) -> str:
        return "\n\n".join(self.paragraphs)

    def tex(self) -> str:
        return "\n\n".join(latex(p) for p in self.paragraphs)


@dataclass(frozen=True)
class Points(Element):
    """A list of points."""

    points: tuple[str, ...]

    def markdown(self) -> str:
        return "\n".join(f"- {p}" for p in self.points)

    def tex(self) -> str:
        items = "\n".join(rf"\item {{}}{latex(p)}" for p in self.points)
        return f"\\begin{{itemize}}\n{items}\n\\end{{itemize}}" if self.points else ""


def characters(rows: pd.DataFrame) -> int:
    """How wide a table of texts is, in characters: the widest cell of each column and two between columns; a Chinese one counts double."""
    columns = [[name, *rows[name]] for name in rows]
    return sum(2 + max(sum(1 + (character >= "\u2e80") for character in str(cell)) for cell in cells) for cells in columns)


@dataclass(frozen=True)
class Table(Element):
    """A table of texts with its caption; more than `MOST_ROWS` rows are cut, and the caption says so.

    In LaTeX it spans one column of the page where its text fits there nearly unscaled, both otherwise; what would stick out is scaled.
    """

    rows: pd.DataFrame
    caption: str
    cut: str = "first {shown} of {all} rows"

    def _shown(self) -> tuple[pd.DataFrame, str]:
        rows = self.rows.head(MOST_ROWS).fillna("").astype(str)
        cut = f" ({self.cut.format(shown=MOST_ROWS, all=len(self.rows))})" if len(self.rows) > MOST_ROWS else ""
        return rows, self.caption + cut

    def markdown(self) -> str:
        rows, caption = self._shown()
        lines = [list(rows.columns), ["---"] * rows.shape[1], *rows.to_numpy().tolist()]
        body = "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)
        return f"{body}\n\n*{caption}*"

    def tex(self) -> str:
        rows, caption = self._shown()
        lines = [" & ".join(latex(str(cell)) for cell in line) + r" \\" for line in [list(rows.columns), *rows.to_numpy().tolist()]]
        body = "\n".join([r"\toprule", lines[0], r"\midrule", *lines[1:], r"\bottomrule"])
        tabular = f"\\begin{{tabular}}{{{'l' * rows.shape[1]}}}\n{body}\n\\end{{tabular}}"
        float_name = "table" if characters(rows) <= COLUMN_CHARACTERS else "table*"
        return (
            f"\\begin{{{float_name}}}[tb]\\centering\\footnotesize\n\\caption{{{latex(caption)}}}\n"
            f"\\fitted{{{tabular}}}\n\\end{{{float_name}}}"
        )


@dataclass(frozen=True)
class Picture(Element):
    """A figure with its caption: SVG for a screen, PDF for LaTeX."""

    figure: Figure
    caption: str
    kind = "picture"

    def _repr_mimebundle_(self, include=None, exclude=None):
        data = {
            "image/svg+xml": rendered(self.figure, "svg").decode(),
            "application/pdf": base64.b64encode(rendered(self.figure, "pdf")).decode(),
            "text/plain": self.caption,
        }
        return data, {"eai": {"kind": self.kind, "caption": self.caption, "caption_tex": latex(self.caption)}}


class Section(tuple):
    """Elements that a notebook shows one after the other when a section is the last line of a cell."""

    def _ipython_display_(self):
        from IPython.display import display

        for element in self:
            display(element)
