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

import contextlib
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterable, Sequence
from functools import lru_cache, partial
from pathlib import Path

import pandas as pd
import pyarrow as pa
from pyarrow import compute

from eai import paths, schema
from eai.errors import UserError
from eai.inputs import too_long

DICTIONARY_MARK = "<!-- generated from data/schema.csv by `make dictionary` -->"
COPIED_FROM_BYTES = 8_000_000
"""JSON lines of an experiment from which on a copy in Parquet is kept beside them."""
BLOCK_BYTES = 1 << 24
NUMBER = ((int, float), pa.float64())  # counts may be fractions in results of others
KINDS = {"str": (str, pa.string()), "int": NUMBER, "float": NUMBER, "bool": (bool, pa.bool_()), "list": (list, pa.list_(pa.string()))}
"""A column's kind as Python's types and as Arrow's."""


def experiment_dir(experiment: str | Path) -> Path:
    """The folder of an experiment: `sample`, a published campaign, a run, or a folder; in this order where a name fits several. The folder
    need not exist: a new name is a new run. Raises UserError for a name that is none."""
    name = str(experiment)
    if name in ("", ".", ".."):
        raise UserError(f"experiment name '{name}'", "the name of a run or a folder")
    if too_long(name):
        raise UserError(f"experiment name '{name[:20]}...' is too long", "255 bytes at most", "choose a shorter one")
    if name == "sample":
        return paths.SAMPLE
    if "/" in name:
        return Path(name).resolve()
    places = (paths.MEASURED / name, paths.runs() / name, Path(name))
    return next((place.resolve() for place in places if place.is_dir()), paths.runs() / name)


def job_dirs(experiment: str | Path) -> list[Path]:
    """The job folders of an experiment, sorted by name. Raises UserError if there is none, or one of a later version."""
    root = experiment_dir(experiment)
    found = sorted(p.parent for p in root.glob("*/windows.jsonl"))
    if not found:
        expected, do = "an experiment that has measured at least one window", "run `eai run` first or check the name"
        raise UserError(f"no windows under {root}", expected, do)
    for path in (job / "provenance.jsonl" for job in found):
        if path.exists():
            _require_known_schema(path, *_state(path))
    return found


def _state(path: Path) -> tuple[int, int, int]:
    """What differs once a file has changed."""
    stat = path.stat()
    return stat.st_size, stat.st_ctime_ns, stat.st_ino


@lru_cache(maxsize=4096)
def _require_known_schema(path: Path, *state: int) -> None:
    """Raise UserError for a job that a later version of the columns was written by: a meaning may have changed."""
    for version in (line.get("schema", 1) for line in read_jsonl(path)):
        if version not in range(1, schema.VERSION + 1):
            known = f"version {schema.VERSION}" + (" or earlier" if schema.VERSION > 1 else "")
            found = f"{path.parent} was written with schema version {version}"
            raise UserError(found, known, "read it with the version of eai that wrote it")


def read_jsonl(path: Path) -> list[dict]:
    """The objects of a JSON-lines file; a torn last line (no newline) is left out, as its writer was killed there. Raises UserError for a
    broken line anywhere else: that is damage, not a crash."""
    rows = []
    whole = path.read_bytes().rpartition(b"\n")[0] if path.exists() else b""
    for number, line in enumerate(whole.splitlines(), start=1):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            row = None
        if not isinstance(row, dict):
            what = "is not JSON" if row is None else f"holds {type(row).__name__}"
            raise UserError(f"{path}, line {number} {what}", "one object a line", "restore the file from a copy, or delete that line")
        rows.append(row)
    return rows


def digest(paths_read: Iterable[Path]) -> str:
    """SHA-256 over names and contents of files, in the order given; one that is not there counts as such."""
    found = hashlib.sha256()
    for path in paths_read:
        content = _content(path, *_state(path)) if path.exists() else "-"
        found.update(f"{path.parent.name}/{path.name} {content}\n".encode())
    return found.hexdigest()


@lru_cache(maxsize=4096)
def _content(path: Path, *state: int) -> str:
    """The digest of a file's content, worked out once in this process unless it has changed."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _parse(path: Path, table: str) -> pa.Table:
    """The rows of one JSON-lines file, a torn last line left out, by Arrow; by Python what Arrow does not take, so that it names the line.
    Raises UserError for a broken line, for one that is no object, and for a value of another type than its column's."""
    from pyarrow import json as arrow_json

    columns = schema.TABLES[table]
    expected = pa.schema([(c.name, KINDS[c.kind][1]) for c in columns])
    read = arrow_json.ReadOptions(use_threads=False, block_size=BLOCK_BYTES)
    how = arrow_json.ParseOptions(explicit_schema=expected, unexpected_field_behavior="ignore")
    with open(path, "rb") as file:
        file.seek(max(path.stat().st_size - 1, 0))
        is_whole = file.read() == b"\n"
    with contextlib.suppress(pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowKeyError):
        source = pa.OSFile(str(path)) if is_whole else pa.BufferReader(path.read_bytes().rpartition(b"\n")[0] + b"\n")
        with arrow_json.open_json(source, read, how) as batches:
            found = pa.Table.from_batches(batches, batches.schema).select(expected.names)
        if not any(found[name].null_count for name in ("job", "attempt") if name in expected.names):  # `null` is a line of its own to Arrow
            return found
    rows = read_jsonl(path)
    for number, row in enumerate(rows, start=1):
        for c in columns:
            if (value := row.get(c.name)) is not None and not isinstance(value, KINDS[c.kind][0]):
                raise UserError(f"{path}, line {number}: {c.name} is {str(value)[:60]!r}", f"a value of kind {c.kind}")
    return pa.Table.from_pylist([{c.name: row.get(c.name) for c in columns} for row in rows], expected)


def _rows(experiment: str | Path, table: str, columns: Sequence[str] | None = None) -> pa.Table:
    """The rows of a table of all jobs of an experiment, job by job in the order of writing; `columns`: these only. Of a large experiment a
    copy is kept in its folder `.eai/`, keyed on the content of all files: reading anew costs their digest."""
    from pyarrow import parquet

    files = [path for job in job_dirs(experiment) if (path := job / f"{table}.jsonl").exists()]
    copy, key = None, b""
    if sum(path.stat().st_size for path in files) >= COPIED_FROM_BYTES:
        copy = experiment_dir(experiment) / ".eai" / f"{table}.parquet"
        key = f"{schema.VERSION} {[(c.name, c.kind) for c in schema.TABLES[table]]} {digest(files)}".encode()
        with contextlib.suppress(OSError, pa.ArrowException):
            if (parquet.read_schema(copy).metadata or {}).get(b"eai") == key:
                return parquet.read_table(copy, columns=None if columns is None else list(columns), use_threads=False)
    empty = pa.schema([(c.name, KINDS[c.kind][1]) for c in schema.TABLES[table]]).empty_table()
    found = pa.concat_tables([_parse(path, table) for path in files] or [empty])
    if copy is not None:
        temporary = copy.with_suffix(f".{os.getpid()}.tmp")
        with contextlib.suppress(OSError):  # a folder that cannot be written is read all the same
            copy.parent.mkdir(exist_ok=True)
            parquet.write_table(found.replace_schema_metadata({b"eai": key}), temporary)
            temporary.replace(copy)
    return found if columns is None else found.select(list(columns))


def _frame(rows: pa.Table, table: str) -> pd.DataFrame:
    """Rows as a data frame: counts as whole numbers where all are, missing as NaN. `rows` is used up: a large table is not there twice."""
    columns = [c for c in schema.TABLES[table] if c.name in rows.column_names]
    lists = {c.name: rows[c.name].to_pylist() for c in columns if c.kind == "list"}
    frame = rows.to_pandas(use_threads=False, self_destruct=True)
    for c in columns:
        if c.kind == "list":
            frame[c.name] = pd.Series(lists[c.name], dtype=object, index=frame.index)
        elif c.kind == "int" and len(frame) and frame[c.name].notna().all() and (frame[c.name] % 1 == 0).all():
            frame[c.name] = frame[c.name].astype("int64")
    return frame


def read_windows(experiment: str | Path, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """The windows of an experiment, one row each, in the order of schema.WINDOWS. One that was measured again keeps its last attempt."""
    rows = _frame(_rows(experiment, "windows", columns), "windows")
    return rows[~rows.duplicated(list(schema.WINDOW_KEY), keep="last")].reset_index(drop=True)


def _committed(experiment: str | Path) -> pd.Series:
    """The attempts that count."""
    return read_windows(experiment, [*schema.WINDOW_KEY, "attempt"])["attempt"]


def read_energies(experiment: str | Path) -> pd.DataFrame:
    """The energies of the experiment's windows; rows of attempts that never became a window are left out."""
    rows = _rows(experiment, "energies")
    return _frame(rows.filter(compute.is_in(rows["attempt"], pa.array(_committed(experiment)))), "energies")


def read_parquet(path: Path) -> pd.DataFrame:
    """A Parquet file of a job. Raises UserError, one line, for one that is damaged, with what can still be read beside it."""
    try:
        frame = pd.read_parquet(path)
        why = "" if "attempt" in frame else "no column attempt"
    except (LookupError, OSError, TypeError, ValueError, pa.ArrowException) as error:
        why = (str(error).splitlines() or [type(error).__name__])[0][:120]
    if why:
        do = "restore it from a copy; windows.jsonl and energies.jsonl beside it can be read, and only replay and scores need more"
        raise UserError(f"{path} is damaged ({why})", "the file as it was written", do)
    return frame


def _read_parts(table: str, whole: str, experiment: str | Path) -> pd.DataFrame:
    """The committed rows of the files matching `whole` in each job, and of the part files that are not joined into them yet."""
    frames = []
    for job in job_dirs(experiment):
        joined = [read_parquet(p) for p in sorted(job.glob(whole)) if not p.name.endswith(".part.parquet")]
        seen = set().union(*(set(f["attempt"].unique()) for f in joined))
        frames += joined + [read_parquet(p) for p in sorted(job.glob(f"{table}/*.part.parquet")) if p.name.split(".")[1] not in seen]
    frame = pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=[c.name for c in schema.TABLES[table]])
    return frame[frame["attempt"].isin(_committed(experiment))].reset_index(drop=True)


read_samples = partial(_read_parts, "samples", "samples/[0-9]*.parquet")
"""The raw readings of the experiment's windows, long and tidy (schema.SAMPLES)."""
read_scores = partial(_read_parts, "scores", "scores.parquet")
"""The item scores of the experiment's windows, one row an item (schema.SCORES); empty where no task was scored."""


def read_idle(experiment: str | Path) -> pd.DataFrame:
    """The idle powers of an experiment's devices (schema.IDLE); empty where none was measured."""
    return _frame(_rows(experiment, "idle"), "idle")


def read_provenance(experiment: str | Path) -> list[dict]:
    """The provenance lines of all jobs, oldest first within a job."""
    return [line for job in job_dirs(experiment) for line in read_jsonl(job / "provenance.jsonl")]


def require_writable(folder: Path) -> None:
    """Raises UserError if `folder` cannot be written or made; nothing is made."""
    if too_long(str(folder)):
        raise UserError(f"cannot write to {str(folder)[:60]}...: the name is too long", "at most 255 characters a folder", "choose another")
    place = next(p for p in (folder, *folder.parents) if p.exists())
    why = "" if place.is_dir() else "is not a folder"
    if not why:
        disk = os.statvfs(place)
        why = "lies on a read-only file system" if disk.f_flag & os.ST_RDONLY else "" if disk.f_blocks else "is no place for files"
    if not why and not os.access(place, os.W_OK | os.X_OK):
        why = "is read-only"
    if why:
        raise UserError(f"cannot write to {folder}: {place} {why}", "a writable folder", "choose another with --out")


def require_new(folder: Path) -> None:
    """Raises UserError for a folder that is a link, cannot be written, or holds anything but a sweep.yaml: an import mixes with nothing."""
    if folder.is_symlink():
        raise UserError(f"{folder} is a symbolic link", "a new folder", "name the folder itself")
    require_writable(folder)
    if others := other_files(folder):
        raise UserError(f"{folder} holds {others[0]} already", "a new name, or an empty folder", "choose another --out")


def other_files(folder: Path) -> list[str]:
    """The names in a folder besides a sweep.yaml, which may lie in the folder of its results."""
    return sorted(p.name for p in folder.iterdir() if p.suffix not in (".yaml", ".yml")) if folder.is_dir() else []


def write_experiment(
    experiment: str | Path,
    windows: pd.DataFrame,
    energies: pd.DataFrame,
    scores: pd.DataFrame | None = None,
    provenance: dict | None = None,
) -> Path:
    """Write windows and energies that were imported or simulated, the items' scores if there are any and where all of it comes from, as an
    experiment that every notebook reads; returns its folder. All or nothing: it is written beside its place and moved there, so that one
    that is killed leaves nothing in the way. Raises UserError where the folder holds windows already, or where a window has no job."""
    root = experiment_dir(experiment)
    if list(root.glob("*/windows.jsonl")):
        raise UserError(f"{root} holds windows already", "a new name", "choose another name or move that folder away")
    if windows["job"].isna().any() or windows["job"].eq("").any():
        raise UserError("windows without a job", "the card and model of each window", "set the column job")
    part = root.with_name(f".{root.name[:100]}.part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        for job, rows in windows.groupby("job"):
            folder = part / re.sub(r"[^A-Za-z0-9._-]+", "-", str(job))[:200]
            folder.mkdir(parents=True)
            if scores is not None and len(scores):
                scores[scores["attempt"].isin(rows["attempt"])].to_parquet(folder / "scores.parquet", index=False)
            if provenance is not None:
                (folder / "provenance.jsonl").write_text(json.dumps(provenance) + "\n", encoding="utf-8")
            for name, frame in (("energies", energies[energies["attempt"].isin(rows["attempt"])]), ("windows", rows)):
                stated = frame.dropna(axis=1, how="all")  # a column that is left out is read as missing
                stated.to_json(folder / f"{name}.jsonl", orient="records", lines=True, double_precision=15)
        root.mkdir(parents=True, exist_ok=True)
        for folder in sorted(part.iterdir()):
            folder.rename(root / folder.name)
    except OSError as error:
        raise UserError(f"cannot write {root} ({error.strerror})", "a writable folder with room", "choose another --out") from None
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return root


_FORMULA = re.compile(r"^'?[=+\-@\t\r]")


def without_formulas(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with an apostrophe before texts that a spreadsheet would run as a formula (CWE-1236)."""
    texts = frame.select_dtypes(exclude="number")
    return frame.assign(**{c: frame[c].map(lambda v: f"'{v}" if isinstance(v, str) and _FORMULA.match(v) else v) for c in texts})


def results_dir(experiment: str | Path, results: str | Path = "") -> Path:
    """Where the tables made from an experiment go: `results` if named, else its own folder. The recorded sample and the published campaigns
    are committed: looking at them changes nothing, so theirs go to the user's `runs()/<name>`."""
    if results:
        return Path(results).resolve()
    root = experiment_dir(experiment)
    return paths.runs() / root.name if any(map(root.is_relative_to, (paths.SAMPLE, paths.MEASURED))) else root


def write_result(experiment: str | Path, name: str, frame: pd.DataFrame, results: str | Path = "") -> Path:
    """Write `summary`, `comparisons`, ... of an experiment as CSV into `results_dir`, replacing the old one at once; returns its path.
    Where the committed table says the same, that one stands and no copy is kept: a copy would outlive the next release of the data."""
    path, beside = results_dir(experiment, results) / f"{name}.csv", experiment_dir(experiment) / f"{name}.csv"
    text = without_formulas(frame).to_csv(index=False, float_format="%.10g")
    if path != beside and not results and beside.exists() and beside.read_text(encoding="utf-8") == text:
        path.unlink(missing_ok=True)
        return beside
    return paths.write_whole(path, text)


def read_result(experiment: str | Path, name: str, results: str | Path = "", optional: bool = False) -> pd.DataFrame:
    """The `summary`, `comparisons`, ... of an experiment: the user's own where there is one, else the one beside its windows. Raises
    UserError if it was not written yet; an `optional` one is then an empty table."""
    places = [folder / f"{name}.csv" for folder in (results_dir(experiment, results), experiment_dir(experiment))]
    if (path := next((path for path in places if path.exists()), None)) is None:
        if optional:
            return pd.DataFrame()
        expected, do = f"the {name} table of an experiment", "run the notebook `analyze`, then `compare`, first"
        raise UserError(f"{places[0]} does not exist", expected, do)
    try:
        frame = pd.read_csv(path)
    except (ValueError, OSError) as error:  # pandas' errors of parsing are ValueErrors
        why, do = (str(error).splitlines() or ["unreadable"])[0][:120], "run the notebook `analyze`, then `compare`, again"
        raise UserError(f"{path} is damaged ({why})", "the table as it was written", do) from None
    for c in frame.select_dtypes(exclude="number").columns:
        frame[c] = frame[c].map(lambda v: v[1:] if isinstance(v, str) and v[:1] == "'" and _FORMULA.match(v) else v)
    return frame


def read_catalog(name: str) -> pd.DataFrame:
    """A sourced table of data/catalog; lines that start with # are remarks."""
    return pd.read_csv(paths.CATALOG / f"{name}.csv", comment="#")


def published_names() -> list[str]:
    """The names of the published tables."""
    return sorted(p.stem for p in paths.PUBLISHED.glob("*.csv"))


def read_published(name: str, as_text: bool = False) -> pd.DataFrame:
    """A published table of data/published, as printed in its source; `as_text` keeps the digits: 0.0170 stays 0.0170. Raises UserError for
    an unknown name."""
    if name not in published_names():
        raise UserError(f"no published table '{name}'", f"one of {', '.join(published_names())}")
    return pd.read_csv(paths.PUBLISHED / f"{name}.csv", dtype=str if as_text else None)


def write_dictionary() -> Path:
    """Write the data dictionary into data/README.md, below its mark; returns the path."""
    path = paths.PACKAGED_DATA / "README.md"
    head, mark, _ = path.read_text().partition(DICTIONARY_MARK)
    path.write_text(f"{head}{mark}\n\n{schema.dictionary()}")
    return path
