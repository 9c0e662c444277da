"""Runs the notebooks report and talk on an experiment and exports them with nbconvert; nothing they write fetches anything."""

import base64
import time
from pathlib import Path

import nbformat

from eai import notebooks, paths, tables
from eai.errors import UserError
from eai.report import pages, script
from eai.report.facts import gather
from eai.report.wording import place

EXTRACTED = {"markdown": ["image/svg+xml"], "latex": ["application/pdf"]}


def export(experiment: str | Path, out: str | Path | None = None, language: str = "en") -> dict:
    """Write the report and the talk of an experiment; returns `{experiment, language, files, seconds}`.

    `files` has the paths of html, markdown, latex, slides and script, all in `out` (see `default_folder`) with the language in their
    names, so that both languages can lie side by side; the executed notebooks lie beside them. Raises UserError for an unknown
    language, an experiment without a usable window, or an `out` that cannot be written.
    """
    place(language)
    if out is not None and not str(out).strip():
        raise UserError("--out is empty", "a folder", "name one, or leave --out away")
    began_s = time.monotonic()
    facts = gather(experiment)
    folder = Path(out).resolve() if out else default_folder(experiment)
    executed = {name: _executed(name, experiment, folder, language) for name in ("report", "talk")}
    files = {
        "html": _write(folder, f"report-{language}.html", _html(executed["report"], pages.HTML, language)),
        "markdown": _document("markdown", executed["report"], folder, language),
        "latex": _document("latex", executed["report"], folder, language),
        "slides": _write(folder, f"talk-{language}.html", _html(executed["talk"], pages.SLIDES, language)),
        "script": _write(folder, f"script-{language}.md", script.script(facts, language)),
    }
    return {
        "experiment": str(tables.experiment_dir(experiment)),
        "language": language,
        "files": {kind: str(path) for kind, path in files.items()},
        "seconds": round(time.monotonic() - began_s, 1),
    }


def default_folder(experiment: str | Path) -> Path:
    """Where the pages of an experiment go unless told otherwise: figures/<experiment>/report for one of the repository's own, `report`
    inside its folder for one that lies elsewhere, so that two folders of one name never share a report.
    """
    folder = tables.experiment_dir(experiment)
    own = folder == paths.SAMPLE or folder.parent in (paths.runs().resolve(), paths.MEASURED)
    return (paths.figures() / folder.name if own else folder) / "report"


def _executed(name: str, experiment: str | Path, folder: Path, language: str) -> nbformat.NotebookNode:
    """The notebook run on the experiment."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"folder {folder}: {error.strerror}", "a folder that can be written") from None
    path = notebooks.execute(name, {"experiment": str(tables.experiment_dir(experiment)), "language": language}, folder / language)
    return nbformat.read(path, as_version=4)


def _html(notebook: nbformat.NotebookNode, template: str, language: str) -> str:
    """The notebook as one self-contained page."""
    from nbconvert.exporters import HTMLExporter

    exporter = HTMLExporter(raw_template=template, filters={"base64": _base64, "scrolling": _scrolling})
    return exporter.from_notebook_node(notebook, {"language": language, "title": _title(notebook)})[0]


def _base64(text: str) -> str:
    """A picture's text for a data address."""
    return base64.b64encode(text.encode()).decode()


def _scrolling(html: str) -> str:
    """The page's text with each table in a frame that scrolls sideways: on a phone the table moves, not the page."""
    return html.replace("<table>", '<div class="scroll"><table>').replace("</table>", "</table></div>")


def _title(notebook: nbformat.NotebookNode) -> str:
    """The first heading that the notebook shows."""
    shown = (o["data"].get("text/markdown", "") for cell in notebook.cells for o in cell.get("outputs", []) if "data" in o)
    return next((text.splitlines()[0].lstrip("# ") for text in shown if text.startswith("#")), "eai")


def _document(kind: str, notebook: nbformat.NotebookNode, folder: Path, language: str) -> Path:
    """The report as Markdown or LaTeX with its figures beside it; returns the path."""
    from nbconvert.exporters import LatexExporter, MarkdownExporter
    from traitlets.config import Config

    exporter_class, template, suffix = {"markdown": (MarkdownExporter, pages.MARKDOWN, "md"), "latex": (LatexExporter, pages.LATEX, "tex")}[
        kind
    ]
    config = Config({"ExtractOutputPreprocessor": {"enabled": True, "extract_output_types": set(EXTRACTED[kind])}})
    figures = f"figures-{language}"
    resources = {"language": language, "output_files_dir": figures, "unique_key": "figure"}
    text, resources = exporter_class(raw_template=template, config=config).from_notebook_node(notebook, resources)
    for name, content in resources["outputs"].items():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    return _write(folder, f"report-{language}.{suffix}", text)


def _write(folder: Path, name: str, text: str) -> Path:
    """Write a text file; returns its path."""
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path
