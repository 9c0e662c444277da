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
from functools import lru_cache
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
KINDS = {"str": str, "int": (int, float), "float": (int, float), "bool": bool, "list": list}
"""Python's types of a column's kind."""


def experiment_dir(experiment: str | Path) -> Path:
    """The folder of an experiment: `sample`, a published campaign, a run, or a folder; in this order where a name fits several.

    The folder need not exist: a new name is a new run. Raises UserError for a name that is none.
    """
    name = str(experiment)
    if name in ("", ".", ".."):
        raise UserError(f"experiment name '{name}'", "the name of a run or a folder")
    if too_long(name):
        raise UserError(f"experiment name '{name[:20]}...' is too long", "255 bytes at most", "choose a shorter one")
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
    for job in found:
        stat = (job / "provenance.jsonl").stat() if (job / "provenance.jsonl").exists() else None
        if stat:
            _require_known_schema(job / "provenance.jsonl", stat.st_size, stat.st_ctime_ns)
    return found


@lru_cache(maxsize=4096)
def _require_known_schema(path: Path, *stat: int) -> None:
    """Raise UserError for a job that a later version of the columns was written by: a meaning may have changed."""
    for line in read_jsonl(path):
        version = line.get("schema", 1)
        if version not in range(1, schema.VERSION + 1):
            known = f"version {schema.VERSION}" + (" or earlier" if schema.VERSION > 1 else "")
            raise UserError(
                f"{path.parent} was written with schema version {version}", known, "read it with the version of eai that wrote it"
            )


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
        try:
            stat = path.stat()
            content = _content(path, stat.st_size, stat.st_ctime_ns, stat.st_ino)
        except FileNotFoundError:
            content = "-"
        found.update(f"{path.parent.name}/{path.name} {content}\n".encode())
    return found.hexdigest()


@lru_cache(maxsize=4096)
def _content(path: Path, *stat: int) -> str:
    """The digest of a file's content, worked out once in this process unless its size, inode or the time of its last change differ."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _arrow_schema(table: str) -> pa.Schema:
    """The columns of a table as Arrow reads them from JSON; counts may be fractions in results of others."""
    kinds = {"str": pa.string(), "int": pa.float64(), "float": pa.float64(), "bool": pa.bool_(), "list": pa.list_(pa.string())}
    return pa.schema([(c.name, kinds[c.kind]) for c in schema.TABLES[table]])


def _parse(path: Path, table: str) -> pa.Table:
    """The rows of one JSON-lines file, a torn last line left out, by Arrow; by Python what Arrow does not take, so that it names the line.

    Raises UserError for a broken line, for one that is no object, and for a value of another type than its column's.
    """
    from pyarrow import json as arrow_json

    expected = _arrow_schema(table)
    read = arrow_json.ReadOptions(use_threads=False, block_size=BLOCK_BYTES)
    how = arrow_json.ParseOptions(explicit_schema=expected, unexpected_field_behavior="ignore")
    size = path.stat().st_size
    with open(path, "rb") as file:
        file.seek(max(size - 1, 0))
        is_whole = file.read() == b"\n"
    try:
        source = pa.OSFile(str(path)) if is_whole else pa.BufferReader(path.read_bytes().rpartition(b"\n")[0] + b"\n")
        with arrow_json.open_json(source, read, how) as batches:
            found = pa.Table.from_batches(batches, batches.schema).select(expected.names)
        if not any(found[name].null_count for name in ("job", "attempt") if name in expected.names):  # `null` is a line of its own to Arrow
            return found
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowKeyError):
        pass
    rows = read_jsonl(path)
    kinds = {c.name: KINDS[c.kind] for c in schema.TABLES[table]}
    for number, row in enumerate(rows, start=1):
        for name, kind in kinds.items():
            value = row.get(name)
            if value is not None and not isinstance(value, kind):
                wanted = schema.column(name, table).kind
                raise UserError(f"{path}, line {number}: {name} is {str(value)[:60]!r}", f"a value of kind {wanted}")
    return pa.Table.from_pylist([{name: row.get(name) for name in kinds} for row in rows], expected)


def _rows(experiment: str | Path, table: str, columns: Sequence[str] | None = None) -> pa.Table:
    """The rows of a table of all jobs of an experiment, job by job in the order of writing; `columns`: these only.

    Of a large experiment a copy is kept in its folder `.eai/`, keyed on the content of all files: reading anew costs their digest.
    """
    from pyarrow import parquet

    files = [path for job in job_dirs(experiment) if (path := job / f"{table}.jsonl").exists()]
    copy, key = None, b""
    if sum(path.stat().st_size for path in files) >= COPIED_FROM_BYTES:
        copy = experiment_dir(experiment) / ".eai" / f"{table}.parquet"
        key = f"{schema.VERSION} {[(c.name, c.kind) for c in schema.TABLES[table]]} {digest(files)}".encode()
        with contextlib.suppress(OSError, pa.ArrowException):
            if (parquet.read_schema(copy).metadata or {}).get(b"eai") == key:
                return parquet.read_table(copy, columns=None if columns is None else list(columns), use_threads=False)
    found = pa.concat_tables([_parse(path, table) for path in files] or [_arrow_schema(table).empty_table()])
    if copy is not None:
        temporary = copy.with_suffix(f".{os.getpid()}.tmp")
        with contextlib.suppress(OSError):  # a folder that cannot be written is read all the same
            copy.parent.mkdir(exist_ok=True)
            parquet.write_table(found.replace_schema_metadata({b"eai": key}), temporary)
            temporary.replace(copy)
    return found if columns is None else found.select(list(columns))


def _frame(rows: pa.Table, table: str) -> pd.DataFrame:
    """Rows as a data frame with every registered column of `table`: counts as whole numbers where all are, missing as NaN.

    `rows` is used up, so that a large table is not in memory twice.
    """
    lists = {c.name: rows[c.name].to_pylist() for c in schema.TABLES[table] if c.kind == "list" and c.name in rows.column_names}
    frame = rows.to_pandas(use_threads=False, self_destruct=True)
    for c in schema.TABLES[table]:
        if c.name not in frame:
            continue
        if c.kind == "list":
            frame[c.name] = pd.Series(lists[c.name], dtype=object, index=frame.index)
        elif c.kind == "int" and len(frame) and frame[c.name].notna().all() and (frame[c.name] % 1 == 0).all():
            frame[c.name] = frame[c.name].astype("int64")
    return frame


def _last(rows: pd.DataFrame) -> pd.DataFrame:
    """Windows with their last attempt only."""
    return rows[~rows.duplicated(list(schema.WINDOW_KEY), keep="last")].reset_index(drop=True)


def _committed(experiment: str | Path) -> pd.Series:
    """The attempts that count."""
    return _last(_frame(_rows(experiment, "windows", [*schema.WINDOW_KEY, "attempt"]), "windows"))["attempt"]


def read_windows(experiment: str | Path) -> pd.DataFrame:
    """The windows of an experiment, one row each, in the order of schema.WINDOWS.

    A window that was measured again keeps its last attempt only.
    """
    return _last(_frame(_rows(experiment, "windows"), "windows"))


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
        beside = "windows.jsonl and energies.jsonl beside it can be read, and only replay and scores need more"
        raise UserError(f"{path} is damaged ({why})", "the file as it was written", f"restore it from a copy; {beside}")
    return frame


def _read_parts(experiment: str | Path, whole: str, parts: str, table: str) -> pd.DataFrame:
    """The committed rows of files matching `whole` in each job, and of the part files that are not joined into them yet."""
    frames = []
    for job in job_dirs(experiment):
        joined = [read_parquet(p) for p in sorted(job.glob(whole)) if not p.name.endswith(".part.parquet")]
        seen = set().union(*(set(f["attempt"].unique()) for f in joined))
        frames += joined + [read_parquet(p) for p in sorted(job.glob(parts)) if p.name.split(".")[1] not in seen]
    frame = pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=[c.name for c in schema.TABLES[table]])
    return frame[frame["attempt"].isin(_committed(experiment))].reset_index(drop=True)


def read_samples(experiment: str | Path) -> pd.DataFrame:
    """The raw readings of the experiment's windows, long and tidy (schema.SAMPLES)."""
    return _read_parts(experiment, "samples/[0-9]*.parquet", "samples/*.part.parquet", "samples")


def read_scores(experiment: str | Path) -> pd.DataFrame:
    """The item scores of the experiment's windows, one row an item (schema.SCORES); empty where no task was scored."""
    return _read_parts(experiment, "scores.parquet", "scores/*.part.parquet", "scores")


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
    place = folder
    while not place.exists():
        place = place.parent
    why = "is not a folder" if not place.is_dir() else ""
    if not why and os.statvfs(place).f_flag & os.ST_RDONLY:
        why = "lies on a read-only file system"
    if not why and os.statvfs(place).f_blocks == 0:
        why = "is no place for files"
    if not why and not os.access(place, os.W_OK | os.X_OK):
        why = "is read-only"
    if why:
        raise UserError(f"cannot write to {folder}: {place} {why}", "a writable folder", "choose another with --out")


def require_new(folder: Path) -> None:
    """Raises UserError for a folder that is a link, cannot be written, or holds anything but a sweep.yaml: an import mixes with nothing."""
    if folder.is_symlink():
        raise UserError(f"{folder} is a symbolic link", "a new folder", "name the folder itself")
    require_writable(folder)
    if folder.is_dir() and (others := sorted(p.name for p in folder.iterdir() if p.suffix not in (".yaml", ".yml"))):
        raise UserError(f"{folder} holds {others[0]} already", "a new name, or an empty folder", "choose another --out")


def write_experiment(
    experiment: str | Path,
    windows: pd.DataFrame,
    energies: pd.DataFrame,
    scores: pd.DataFrame | None = None,
    provenance: dict | None = None,
) -> Path:
    """Write windows and energies that were imported or simulated, the items' scores if there are any and where all of it comes from, as an
    experiment that every notebook reads; returns its folder.

    All or nothing: it is written beside its place and moved there, so that one that is killed leaves nothing in the way. Raises UserError
    where the folder holds windows already, or where a window has no job.
    """
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
            own = energies[energies["attempt"].isin(rows["attempt"])]
            _write_lines(own, folder / "energies.jsonl")
            if scores is not None and len(scores):
                scores[scores["attempt"].isin(rows["attempt"])].to_parquet(folder / "scores.parquet", index=False)
            if provenance is not None:
                (folder / "provenance.jsonl").write_text(json.dumps(provenance) + "\n", encoding="utf-8")
            _write_lines(rows, folder / "windows.jsonl")
        root.mkdir(parents=True, exist_ok=True)
        for folder in sorted(part.iterdir()):
            folder.rename(root / folder.name)
    except OSError as error:
        raise UserError(f"cannot write {root} ({error.strerror})", "a writable folder with room", "choose another --out") from None
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return root


def _write_lines(frame: pd.DataFrame, path: Path) -> None:
    """Write rows as JSON lines, columns without any value left out: they are read as missing."""
    frame.dropna(axis=1, how="all").to_json(path, orient="records", lines=True, double_precision=15)


_FORMULA = re.compile(r"^'?[=+\-@\t\r]")


def without_formulas(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with an apostrophe before texts that a spreadsheet would run as a formula (CWE-1236)."""

    def neutral(value: object) -> object:
        return f"'{value}" if isinstance(value, str) and _FORMULA.match(value) else value

    return frame.assign(**{c: frame[c].map(neutral) for c in frame.select_dtypes(exclude="number")})


def results_dir(experiment: str | Path, results: str | Path = "") -> Path:
    """Where the tables made from an experiment go: `results` if named, else its own folder.

    The recorded sample and the published campaigns are committed: looking at them changes nothing, so theirs go to the user's
    `runs()/<name>`.
    """
    if results:
        return Path(results).resolve()
    root = experiment_dir(experiment)
    committed = any(root.is_relative_to(folder) for folder in (paths.SAMPLE, paths.MEASURED))
    return paths.runs() / root.name if committed else root


def write_result(experiment: str | Path, name: str, frame: pd.DataFrame, results: str | Path = "") -> Path:
    """Write `summary`, `comparisons`, ... of an experiment as CSV into `results_dir`, replacing the old one at once; returns its path.

    Where the committed table says the same, that one stands and no copy is kept: a copy would outlive the next release of the data.
    """
    path, beside = results_dir(experiment, results) / f"{name}.csv", experiment_dir(experiment) / f"{name}.csv"
    text = without_formulas(frame).to_csv(index=False, float_format="%.10g")
    if path != beside and not results and beside.exists() and beside.read_text(encoding="utf-8") == text:
        path.unlink(missing_ok=True)
        return beside
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".csv.tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)
    return path


def read_result(experiment: str | Path, name: str, results: str | Path = "", optional: bool = False) -> pd.DataFrame:
    """The `summary`, `comparisons`, ... of an experiment: the user's own where there is one, else the one beside its windows.

    Raises UserError if it was not written yet; an `optional` one is then an empty table.
    """
    places = [folder / f"{name}.csv" for folder in (results_dir(experiment, results), experiment_dir(experiment))]
    path = next((path for path in places if path.exists()), None)
    if path is None and optional:
        return pd.DataFrame()
    if path is None:
        raise UserError(
            f"{places[0]} does not exist", f"the {name} table of an experiment", "run the notebook `analyze`, then `compare`, first"
        )
    frame = pd.read_csv(path)
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
    an unknown name.
    """
    path = paths.PUBLISHED / f"{name}.csv"
    if not path.exists():
        raise UserError(f"no published table '{name}'", f"one of {', '.join(published_names())}")
    return pd.read_csv(path, dtype=str if as_text else None)


def write_dictionary() -> Path:
    """Write the data dictionary into data/README.md, below its mark; returns the path."""
    path = paths.PACKAGED_DATA / "README.md"
    head, mark, _ = path.read_text().partition(DICTIONARY_MARK)
    path.write_text(f"{head}{mark}\n\n{schema.dictionary()}")
    return path
