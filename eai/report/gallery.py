"""The gallery of figures: which notebook draws each one, from what, and what it shows; read from the notebooks themselves."""

import re
from html import unescape
from pathlib import Path

import nbformat
import pandas as pd

from eai import paths

CAPTION = re.compile(r"<dc:description>(.*?)</dc:description>", re.S)
SAVES = re.compile(r"""plots\.(?:save|show)\(\s*\w+,\s*folder / f"(\w+)\.""")
DRAWS = re.compile(r"((?:plots|sns)\.(?!save|show|figure|sensed|caption|crowded|best|matrix_table|watermark|DRAWN)\w+)\((\w+)")
HEAD = """# Figures

Generated from the notebooks by `eai.report.gallery`: do not edit. Figures of the committed sample lie in `sample/`; every run has
a folder of its own with the same names. A figure that the sample does not support is named and not drawn.

"""


def figures() -> pd.DataFrame:
    """One row a figure that a notebook saves: figure, notebook, drawn_by (a function of eai.plots or seaborn), table, title, text.

    `table` is the name of what is drawn in the notebook; `title` and `text` are the heading and prose before the figure.
    """
    found = [row for path in sorted(paths.NOTEBOOKS.glob("*.ipynb")) for row in _of_notebook(path)]
    return pd.DataFrame(found, columns=["figure", "notebook", "drawn_by", "table", "title", "text"])


def _of_notebook(path: Path) -> list[dict]:
    """The figures of one notebook in its order."""
    notebook = nbformat.read(path, as_version=4)
    rows, heading, prose, drawn = [], "", "", ("", "")
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            title, _, text = cell.source.partition("\n")
            heading, prose = (title.lstrip("# "), " ".join(text.split())) if title.startswith("#") else (heading, prose)
            continue
        drawn = next(iter(DRAWS.findall(cell.source)), drawn)
        rows += [
            {
                "figure": name,
                "notebook": path.stem,
                "drawn_by": drawn[0].replace("plots.", "eai.plots.").replace("sns.", "seaborn."),
                "table": drawn[1],
                "title": heading,
                "text": prose,
            }
            for name in SAVES.findall(cell.source)
        ]
    return rows


def markdown() -> str:
    """The gallery as Markdown, the pictures of the sample included."""
    table = figures()
    lines = ["| figure | notebook | drawn by | table |", "|---|---|---|---|"]
    lines += [f"| `{r.figure}` | `{r.notebook}` | `{r.drawn_by}` | `{r.table}` |" for r in table.itertuples()]
    entries = []
    for row in table.itertuples():
        picture, file = "Not drawn for the sample.", paths.ROOT / "figures" / "sample" / f"{row.figure}.svg"
        if file.exists():
            found = CAPTION.search(file.read_text(encoding="utf-8"))  # the picture's own description: blocks, interval, basis
            picture = f"![{row.title}](sample/{file.name})" + (f"\n\n*{unescape(' '.join(found[1].split()))}*" if found else "")
        entries.append(f"\n## {row.title}\n\n{row.text}\n\n{picture}\n")
    return HEAD + "\n".join(lines) + "\n" + "".join(entries)


def write() -> Path:
    """Write figures/README.md; returns its path."""
    path = paths.ROOT / "figures" / "README.md"
    path.write_text(markdown(), encoding="utf-8")
    return path
