"""Writes the report, the talk, its script and its cheat sheet of an experiment or a published study, each from a template."""

import re
import time
from collections.abc import Callable
from html import unescape
from pathlib import Path

import nbformat
import pandas as pd

from eai import paths, tables
from eai.errors import UserError
from eai.report import sections, study
from eai.report.facts import gather
from eai.report.pages import Document, Words, asset, page

Say = Callable[[str], None]


def export(
    experiment: str | Path, out: str | Path | None = None, language: str = "en", baseline: str | None = None, say: Say | None = None
) -> dict:
    """Write the report and the talk; returns `{experiment, language, files, seconds}`.

    `files`: the paths of html, markdown, latex, bibliography, slides, script and cheat_sheet, in `out` with the language in their names.
    `experiment` may be the name of a published study. Raises UserError for an unknown language, an experiment without a usable window, a
    baseline that was not measured, an `out` that cannot be written.
    """
    t = Words(language)
    if out is not None and not str(out).strip():
        raise UserError("--out is empty", "a folder", "name one, or leave --out away")
    began_s = time.monotonic()
    if study.is_study(experiment):
        name, folder = str(experiment), paths.figures() / str(experiment) / "report"
        if baseline:
            raise UserError("a baseline for a published study", "none: its figures stand as printed", "leave --baseline away")
        found = study.gather(t)
        document, (spoken, sheet) = study.report(found, t), study.talk(found, t)
    else:
        facts = gather(experiment, baseline, say)
        name, folder, said = str(tables.experiment_dir(experiment)), default_folder(experiment), sections.Said(facts, t)
        document, (spoken, sheet) = sections.report(facts, t, said), sections.talk(facts, t, said)
    files = write(document, spoken, sheet, Path(out).resolve() if out else folder, t)
    return {"experiment": name, "language": language, "files": files, "seconds": round(time.monotonic() - began_s, 1)}


def write(document: Document, spoken: Document, sheet: Document, folder: Path, t: Words) -> dict[str, str]:
    """Write every page of a report, its talk and cheat sheet into a folder; returns their paths by kind, or raises UserError."""
    made = {
        "html": (f"report-{t.language}.html", page("report.html", t, doc=document)),
        "markdown": (f"report-{t.language}.md", page("report.md", t, doc=document)),
        "latex": (f"report-{t.language}.tex", page("report.tex", t, doc=document)),
        "bibliography": ("references.bib", str(asset("references.bib"))),
        "slides": (f"talk-{t.language}.html", page("talk.html", t, talk=spoken)),
        "script": (f"script-{t.language}.md", page("script.md", t, talk=spoken, timed=sections.timed(spoken.sections))),
        "cheat_sheet": (f"cheat-sheet-{t.language}.html", page("report.html", t, doc=sheet)),
    }
    pictures = folder / f"figures-{t.language}"
    try:
        pictures.mkdir(parents=True, exist_ok=True)
        for picture in document.pictures():
            for kind in ("svg", "pdf"):
                (pictures / f"{picture.name}.{kind}").write_bytes(getattr(picture, kind))
        for name, text in made.values():
            (folder / name).write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(f"folder {folder}: {error.strerror}", "a folder that can be written") from None
    return {kind: str(folder / name) for kind, (name, _) in made.items()}


def default_folder(experiment: str | Path) -> Path:
    """figures/<experiment>/report for one of the repository's own, `report` inside its folder for one that lies elsewhere: two folders of
    one name never share a report.
    """
    folder = tables.experiment_dir(experiment)
    own = folder == paths.SAMPLE or folder.parent in (paths.runs().resolve(), paths.MEASURED)
    return (paths.figures() / folder.name if own else folder) / "report"


CAPTION = re.compile(r"<dc:description>(.*?)</dc:description>", re.S)
SAVES = re.compile(r"""plots\.(?:save|show)\(\s*\w+,\s*folder / f"(\w+)\.""")
DRAWS = re.compile(r"((?:plots|sns)\.(?!save|show|figure|sensed|caption|crowded|best|matrix_table|watermark|DRAWN)\w+)\((\w+)")
HEAD = """# Figures

Generated from the notebooks by `eai.report.publishing`: do not edit. Figures of the committed sample lie in `sample/`; every run has
a folder of its own with the same names. A figure that the sample does not support is named and not drawn.

"""


def figures() -> pd.DataFrame:
    """One row a figure that a notebook saves: figure, notebook, drawn_by (a function of eai.plots or seaborn), table, title, text.

    `table` is the name of what is drawn in the notebook; `title` and `text` are the heading and prose before the figure.
    """
    rows = []
    for path in sorted(paths.NOTEBOOKS.glob("*.ipynb")):
        heading, prose, drawn = "", "", ("", "")
        for cell in nbformat.read(path, as_version=4).cells:
            if cell.cell_type == "markdown":
                title, _, text = cell.source.partition("\n")
                heading, prose = (title.lstrip("# "), " ".join(text.split())) if title.startswith("#") else (heading, prose)
                continue
            drawn = next(iter(DRAWS.findall(cell.source)), drawn)
            by = drawn[0].replace("plots.", "eai.plots.").replace("sns.", "seaborn.")
            rows += [(name, path.stem, by, drawn[1], heading, prose) for name in SAVES.findall(cell.source)]
    return pd.DataFrame(rows, columns=["figure", "notebook", "drawn_by", "table", "title", "text"])


def gallery() -> str:
    """The gallery of figures as Markdown: which notebook draws each, from what, and what it shows; the pictures of the sample included."""
    lines, entries = ["| figure | notebook | drawn by | table |", "|---|---|---|---|"], []
    for row in figures().itertuples():
        lines.append(f"| `{row.figure}` | `{row.notebook}` | `{row.drawn_by}` | `{row.table}` |")
        picture, file = "Not drawn for the sample.", paths.ROOT / "figures" / "sample" / f"{row.figure}.svg"
        if file.exists():
            found = CAPTION.search(file.read_text(encoding="utf-8"))  # the picture's own description: blocks, interval, basis
            picture = f"![{row.title}](sample/{file.name})" + (f"\n\n*{unescape(' '.join(found[1].split()))}*" if found else "")
        entries.append(f"\n## {row.title}\n\n{row.text}\n\n{picture}\n")
    return HEAD + "\n".join(lines) + "\n" + "".join(entries)


def write_gallery() -> None:
    """Write figures/README.md."""
    (paths.ROOT / "figures" / "README.md").write_text(gallery(), encoding="utf-8")
