"""The only reader and writer of data/: experiments, their windows, and the sourced tables.

An experiment is a folder; each of its jobs is a folder inside it::

    <experiment>/summary.csv, comparisons.csv
    <experiment>/<job>/windows.jsonl      one line a window: the commit record
                       energies.jsonl     its energies, written and synced before that line
                       idle.jsonl         idle power: bare, and around each load
                       samples/<block>.parquet
                       scores.parquet         one row an item of a task
                       provenance.jsonl

`store.JobStore` appends to a job; this module finds experiments and reads them back as data frames.
"""

import json
import re
from pathlib import Path

import pandas as pd

from eai import paths, schema
from eai.errors import UserError

DICTIONARY_MARK = "<!-- generated from data/schema.csv by `make dictionary` -->"


def experiment_dir(experiment: str | Path) -> Path:
    """The folder of an experiment: `sample`, a published campaign, a run, or a folder; in this order where a name fits several.

    The folder need not exist: a new name is a new run. Raises UserError for a name that is none.
    """
    name = str(experiment)
    if name in ("", ".", ".."):
        raise UserError(f"experiment name '{name}'", "the name of a run or a folder")
    if name == "sample":
        return paths.SAMPLE
    if "/" in name:
        return Path(name).resolve()
    for folder in (paths.MEASURED / name, paths.runs() / name, Path(name)):
        if folder.is_dir():
            return folder.resolve()
    return paths.runs() / name


def job_dirs(experiment: str | Path) -> list[Path]:
    """The job folders of an experiment, sorted by name. Raises UserError if there is none."""
    root = experiment_dir(experiment)
    found = sorted(p.parent for p in root.glob("*/windows.jsonl"))
    if not found:
        raise UserError(
            f"no windows under {root}", "an experiment that has measured at least one window", "run `eai run` first or check the name"
        )
    return found


def read_jsonl(path: Path) -> list[dict]:
    """The objects of a JSON-lines file; a torn last line (no newline) is left out, as its writer was killed there.

    Raises UserError for a broken line anywhere else: that is damage, not a crash.
    """
    if not path.exists():
        return []
    whole, _, _ = path.read_bytes().rpartition(b"\n")
    rows = []
    for number, line in enumerate(whole.splitlines(), start=1):
        try:
            rows.append(json.loads(line))
        except ValueError:
            raise UserError(
                f"{path}, line {number} is not JSON", "one object a line", "restore the file from a copy, or delete that line"
            ) from None
    return rows


def _frame(rows: list[dict], table: str) -> pd.DataFrame:
    """Rows as a data frame with every registered column of `table`, numbers as numbers and missing as NaN."""
    columns = schema.TABLES[table]
    frame = pd.DataFrame(rows, columns=[c.name for c in columns])
    for c in columns:
        if c.kind == "int" and frame[c.name].notna().all():
            frame[c.name] = frame[c.name].astype("int64")
        elif c.kind in ("int", "float"):
            frame[c.name] = pd.to_numeric(frame[c.name], errors="coerce").astype(float)
    return frame


def read_windows(experiment: str | Path) -> pd.DataFrame:
    """The windows of an experiment, one row each, in the order of schema.WINDOWS.

    A window that was measured again keeps its last attempt only.
    """
    rows = [row for job in job_dirs(experiment) for row in read_jsonl(job / "windows.jsonl")]
    frame = _frame(rows, "windows")
    return frame.drop_duplicates(list(schema.WINDOW_KEY), keep="last").reset_index(drop=True)


def read_energies(experiment: str | Path) -> pd.DataFrame:
    """The energies of the experiment's windows; rows of attempts that never became a window are left out."""
    rows = [row for job in job_dirs(experiment) for row in read_jsonl(job / "energies.jsonl")]
    frame = _frame(rows, "energies")
    committed = read_windows(experiment)["attempt"]
    return frame[frame["attempt"].isin(committed)].reset_index(drop=True)


def _read_parts(experiment: str | Path, whole: str, parts: str, table: str) -> pd.DataFrame:
    """The committed rows of files matching `whole` in each job, and of the part files that are not joined into them yet."""
    frames = []
    for job in job_dirs(experiment):
        joined = [pd.read_parquet(p) for p in sorted(job.glob(whole)) if not p.name.endswith(".part.parquet")]
        seen = set().union(*(set(f["attempt"].unique()) for f in joined))
        frames += joined + [pd.read_parquet(p) for p in sorted(job.glob(parts)) if p.name.split(".")[1] not in seen]
    frame = pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=[c.name for c in schema.TABLES[table]])
    return frame[frame["attempt"].isin(read_windows(experiment)["attempt"])].reset_index(drop=True)


def read_samples(experiment: str | Path) -> pd.DataFrame:
    """The raw readings of the experiment's windows, long and tidy (schema.SAMPLES)."""
    return _read_parts(experiment, "samples/[0-9]*.parquet", "samples/*.part.parquet", "samples")


def read_scores(experiment: str | Path) -> pd.DataFrame:
    """The item scores of the experiment's windows, one row an item (schema.SCORES); empty where no task was scored."""
    return _read_parts(experiment, "scores.parquet", "scores/*.part.parquet", "scores")


def read_idle(experiment: str | Path) -> pd.DataFrame:
    """The idle powers of an experiment's devices (schema.IDLE); empty where none was measured."""
    return _frame([row for job in job_dirs(experiment) for row in read_jsonl(job / "idle.jsonl")], "idle")


def read_provenance(experiment: str | Path) -> list[dict]:
    """The provenance lines of all jobs, oldest first within a job."""
    return [line for job in job_dirs(experiment) for line in read_jsonl(job / "provenance.jsonl")]


def write_experiment(experiment: str | Path, windows: pd.DataFrame, energies: pd.DataFrame, scores: pd.DataFrame | None = None) -> Path:
    """Write windows and energies that were imported or simulated, and the items' scores if there are any, as an experiment that every
    notebook reads; returns its folder.

    Nothing is appended: raises UserError where the folder holds windows already, or where a window has no job.
    """
    root = experiment_dir(experiment)
    if list(root.glob("*/windows.jsonl")):
        raise UserError(f"{root} holds windows already", "a new name", "choose another name or move that folder away")
    if windows["job"].isna().any() or windows["job"].eq("").any():
        raise UserError("windows without a job", "the card and model of each window", "set the column job")
    for job, rows in windows.groupby("job"):
        folder = root / re.sub(r"[^A-Za-z0-9._-]+", "-", str(job))
        folder.mkdir(parents=True, exist_ok=True)
        own = energies[energies["attempt"].isin(rows["attempt"])]
        own.to_json(folder / "energies.jsonl", orient="records", lines=True, double_precision=15)
        if scores is not None and len(scores):
            scores[scores["attempt"].isin(rows["attempt"])].to_parquet(folder / "scores.parquet", index=False)
        rows.to_json(folder / "windows.jsonl", orient="records", lines=True, double_precision=15)
    return root


def write_result(experiment: str | Path, name: str, frame: pd.DataFrame) -> Path:
    """Write `summary` or `comparisons` of an experiment as CSV, replacing the old one at once; returns its path."""
    path = experiment_dir(experiment) / f"{name}.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".csv.tmp")
    frame.to_csv(temporary, index=False, float_format="%.10g")
    temporary.replace(path)
    return path


def read_result(experiment: str | Path, name: str) -> pd.DataFrame:
    """The `summary` or `comparisons` table of an experiment. Raises UserError if it was not written yet."""
    path = experiment_dir(experiment) / f"{name}.csv"
    if not path.exists():
        raise UserError(f"{path} does not exist", f"the {name} table of an experiment", "run the analyze notebook on it first")
    return pd.read_csv(path)


def read_catalog(name: str) -> pd.DataFrame:
    """A sourced table of data/catalog; lines that start with # are remarks."""
    return pd.read_csv(paths.CATALOG / f"{name}.csv", comment="#")


def published_names() -> list[str]:
    """The names of the published tables."""
    return sorted(p.stem for p in paths.PUBLISHED.glob("*.csv"))


def read_published(name: str) -> pd.DataFrame:
    """A published table of data/published, as printed in its source. Raises UserError for an unknown name."""
    path = paths.PUBLISHED / f"{name}.csv"
    if not path.exists():
        raise UserError(f"no published table '{name}'", f"one of {', '.join(published_names())}")
    return pd.read_csv(path)


def write_dictionary() -> Path:
    """Write the data dictionary into data/README.md, below its mark; returns the path."""
    path = paths.PACKAGED_DATA / "README.md"
    head, mark, _ = path.read_text().partition(DICTIONARY_MARK)
    path.write_text(f"{head}{mark}\n\n{schema.dictionary()}")
    return path
