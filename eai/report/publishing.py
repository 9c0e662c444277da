"""Writes the report, the talk, its script and its cheat sheet of an experiment or a published study, each from a template."""

import time
from collections.abc import Callable
from pathlib import Path

from eai import paths, tables
from eai.errors import UserError
from eai.report import sections, study, talk
from eai.report.facts import gather
from eai.report.pages import Document, Words, asset, page, write_pictures

Say = Callable[[str], None]


def export(
    experiment: str | Path, out: str | Path | None = None, language: str = "en", baseline: str | None = None, say: Say | None = None
) -> dict:
    """Write the report and the talk; returns `{experiment, language, files, seconds}`.

    `files` has the paths of html, markdown, latex, bibliography, slides, script and cheat_sheet, all in `out` (see `default_folder`) with
    the language in their names, so that both languages lie side by side. `experiment` may be the name of a published study. Raises
    UserError for an unknown language, an experiment without a usable window, a baseline that was not measured, an `out` that cannot be
    written.
    """
    t = Words(language)
    if out is not None and not str(out).strip():
        raise UserError("--out is empty", "a folder", "name one, or leave --out away")
    began_s = time.monotonic()
    if study.is_study(experiment):
        folder, name = Path(out).resolve() if out else paths.figures() / str(experiment) / "report", str(experiment)
        if baseline:
            raise UserError("a baseline for a published study", "none: its figures stand as printed", "leave --baseline away")
        found = study.gather(t)
        document, (spoken, sheet) = study.report(found, t), study.talk(found, t)
    else:
        facts = gather(experiment, baseline, say)
        folder, name = Path(out).resolve() if out else default_folder(experiment), str(tables.experiment_dir(experiment))
        said = sections.Said(facts, t)
        document, (spoken, sheet) = sections.report(facts, t, said), talk.talk(facts, t, said)
    files = write(document, spoken, sheet, folder, t)
    return {"experiment": name, "language": language, "files": files, "seconds": round(time.monotonic() - began_s, 1)}


def write(document: Document, spoken: Document, sheet: Document, folder: Path, t: Words) -> dict[str, str]:
    """Write every page of a report, its talk and cheat sheet into a folder; returns their paths by kind.

    Raises UserError where it cannot.
    """
    made = {
        "html": (f"report-{t.language}.html", page("report.html", t, doc=document)),
        "markdown": (f"report-{t.language}.md", page("report.md", t, doc=document)),
        "latex": (f"report-{t.language}.tex", page("report.tex", t, doc=document)),
        "bibliography": ("references.bib", str(asset("references.bib"))),
        "slides": (f"talk-{t.language}.html", page("talk.html", t, talk=spoken)),
        "script": (f"script-{t.language}.md", page("script.md", t, talk=spoken, timed=talk.timed(spoken.sections))),
        "cheat_sheet": (f"cheat-sheet-{t.language}.html", page("report.html", t, doc=sheet)),
    }
    try:
        for kind in ("svg", "pdf"):
            write_pictures(document.pictures(), folder / f"figures-{t.language}", kind)
        for name, text in made.values():
            (folder / name).write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(f"folder {folder}: {error.strerror}", "a folder that can be written") from None
    return {kind: str(folder / name) for kind, (name, _) in made.items()}


def default_folder(experiment: str | Path) -> Path:
    """Where the pages of an experiment go by default: figures/<experiment>/report for one of the repository's own, `report` inside its
    folder for one that lies elsewhere, so that two folders of one name never share a report.
    """
    folder = tables.experiment_dir(experiment)
    own = folder == paths.SAMPLE or folder.parent in (paths.runs().resolve(), paths.MEASURED)
    return (paths.figures() / folder.name if own else folder) / "report"
