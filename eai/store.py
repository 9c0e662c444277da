"""Append-only store of one job's windows: what was measured survives a kill at any moment, and nothing is measured twice.

Order of writing, each synced to disk before the next: raw samples, item scores, energies, then the line in windows.jsonl. That
line commits the window: a kill before it leaves orphans that no reader joins, a kill after it loses nothing. An flock that dies with
its process keeps a second writer out.

A writer that ends leaves `digests.json`, the length and SHA-256 of each file as it left them. Tables only grow, so what a killed writer
added later does not break the seal; what a hand changed does, and stays reported: the next writer does not seal it anew.
"""

import contextlib
import fcntl
import hashlib
import json
import math
import os
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pandas as pd

from eai import schema, tables
from eai.errors import UserError
from eai.tables import read_jsonl

TABLES = ("windows", "energies", "idle", "provenance")
SEALS = "digests.json"


def new_attempt() -> str:
    """A random mark, 8 hex digits, for one measurement of one window."""
    return secrets.token_hex(4)


def _json_line(row: dict) -> bytes:
    """One JSON line; what is not finite becomes null, because JSON has no NaN."""
    clean = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()}
    return json.dumps(clean, sort_keys=True, allow_nan=False).encode() + b"\n"


def _append(path: Path, rows: list[dict]) -> None:
    """Append rows with one write and wait until they are on disk."""
    with open(path, "ab") as file:
        file.write(b"".join(_json_line(row) for row in rows))
        file.flush()
        os.fsync(file.fileno())


def write_json(path: Path, document: dict) -> None:
    """Write a document under another name and rename it: whoever sees the file sees all of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(document))
    temporary.replace(path)


def _write_parquet(frame: pd.DataFrame, path: Path, sealed: Path | None = None) -> None:
    """Write under another name, sync, then rename: no reader ever meets half a file.

    `sealed`: the job whose seal covers the new content before that takes its place, so that a kill in between breaks none.
    """
    temporary = path.with_suffix(".tmp")
    frame.to_parquet(temporary, index=False)
    with open(temporary, "rb") as file:
        os.fsync(file.fileno())
    if sealed is not None and (known := _seals(sealed)):
        known.setdefault(str(path.relative_to(sealed)), []).append(_digest(temporary))
        write_json(sealed / SEALS, known)
    temporary.replace(path)


def _digest(path: Path, size: int | None = None) -> list:
    """[length, SHA-256] of a file, or of its first `size` bytes."""
    found, size = hashlib.sha256(), path.stat().st_size if size is None else size
    with open(path, "rb") as file:
        left = size
        while left and (chunk := file.read(min(left, 1 << 20))):
            found.update(chunk)
            left -= len(chunk)
    return [size - left, found.hexdigest()]


def _seals(directory: Path) -> dict[str, list]:
    """The digests that each file of a job may have, by its name; empty where no writer has ended yet, or the file is none."""
    try:
        found = json.loads((directory / SEALS).read_text())
        return {name: [list(each) for each in digests] for name, digests in found.items()}
    except (OSError, ValueError, AttributeError, TypeError):
        return {}


def broken_seals(directory: Path) -> dict[str, list]:
    """The seals of a job that do not hold, by the file's name: it was changed, shortened or removed after its writer had ended."""
    broken = {}
    for name, digests in _seals(directory).items():
        path = directory / name
        grows = path.suffix == ".jsonl"
        if not path.is_file() or not any(_digest(path, size if grows else None) == [size, sha] for size, sha in digests):
            broken[name] = digests
    return broken


def _whole_bytes(path: Path) -> int | None:
    """The bytes of a table's whole lines, None for all of another file: a full disk leaves a torn line, which the next writer cuts."""
    return path.read_bytes().rfind(b"\n") + 1 if path.suffix == ".jsonl" else None


def seal(directory: Path, broken: Mapping[str, list] = MappingProxyType({})) -> None:
    """Write the digests of a job's files, of tables their whole lines; those of `broken` ones stay as they are."""
    files = [*(directory / f"{name}.jsonl" for name in TABLES), *directory.glob("samples/[0-9]*.parquet"), directory / "scores.parquet"]
    whole = sorted(path for path in files if path.is_file() and not path.name.endswith(".part.parquet"))
    if any(path.name == "windows.jsonl" for path in whole):
        digests = {str(path.relative_to(directory)): [_digest(path, _whole_bytes(path))] for path in whole}
        write_json(directory / SEALS, digests | dict(broken))


def _drop_torn_line(path: Path) -> None:
    """Cut a last line without a newline, which a killed writer left; otherwise the next line would be glued to it."""
    if not path.exists():
        return
    content = path.read_bytes()
    if content and not content.endswith(b"\n"):
        with open(path, "r+b") as file:
            file.truncate(content.rfind(b"\n") + 1)


class JobStore:
    """The writer of one job folder; use as a context manager.

    Raises UserError if another process still writes there after `wait_s` (a killed run's kernel needs a moment to notice), or if a
    row does not fit the registry.
    """

    def __init__(self, directory: Path, wait_s: float = 10.0):
        self.directory, self._wait_s = Path(directory), wait_s

    def __enter__(self) -> "JobStore":
        try:
            (self.directory / "samples").mkdir(parents=True, exist_ok=True)
            self._lock = open(self.directory / "writer.lock", "w")
        except OSError as error:
            raise UserError(
                f"cannot write to {self.directory} ({error.strerror})", "a writable folder", "choose another with --out"
            ) from None
        self._take_lock()
        for torn in self.directory.rglob("*.tmp"):
            torn.unlink()
        self._drop_orphans()
        for name in TABLES:
            _drop_torn_line(self.directory / f"{name}.jsonl")
        self._broken = broken_seals(self.directory)
        return self

    def _drop_orphans(self) -> None:
        """Remove part files of attempts that never became a window, or that are joined already: a killed writer left them."""
        committed = {row["attempt"] for row in read_jsonl(self.directory / "windows.jsonl")}
        for part in self.directory.glob("s*/*.part.parquet"):
            if part.name.split(".")[1] not in committed:
                part.unlink()

    def _take_lock(self) -> None:
        end_s = time.monotonic() + self._wait_s
        while True:
            try:
                return fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                if time.monotonic() >= end_s:
                    self._lock.close()
                    raise UserError(
                        f"another process is writing to {self.directory}", "one writer a job", "wait for it, or stop it"
                    ) from None
                time.sleep(0.2)

    def __exit__(self, *exc) -> None:
        try:
            with contextlib.suppress(OSError):  # a full disk: what was committed is there, and the next writer joins and seals it
                self._drop_orphans()
                for block in {int(part.name.split(".")[0]) for part in self.directory.glob("s*/*.part.parquet")}:
                    self.compact(block)
                seal(self.directory, self._broken)
        finally:
            self._lock.close()

    def done(self) -> set[tuple]:
        """The keys (block, configuration_id, repeat) of the windows that are on disk."""
        return {(row["block"], row["configuration_id"], row["repeat"]) for row in read_jsonl(self.directory / "windows.jsonl")}

    def append_provenance(self, line: dict) -> None:
        """Append one line of provenance."""
        _append(self.directory / "provenance.jsonl", [line])

    def append_idle(self, row: dict) -> None:
        """Append one idle measurement of one device (schema.IDLE)."""
        _append(self.directory / "idle.jsonl", [row])

    def append_window(self, window: dict, energies: list[dict], samples: pd.DataFrame | None = None, scores: Sequence[dict] = ()) -> None:
        """Commit one window with its energies, raw samples and item scores (schema.SAMPLES, SCORES, without the window key)."""
        key = {name: window[name] for name in (*schema.WINDOW_KEY, "attempt")}
        energies, scores = [key | row for row in energies], [key | row for row in scores]
        wrong = schema.problems("windows", [window]) + schema.problems("energies", energies) + schema.problems("scores", scores)
        if wrong:
            raise UserError(f"a row that does not fit the registry: {wrong[0]}", "the columns of eai/schema.py")
        part = f"{window['block']:04d}.{window['attempt']}.part.parquet"
        if samples is not None and len(samples):
            _write_parquet(samples.assign(**key)[[c.name for c in schema.SAMPLES]], self.directory / "samples" / part)
        if scores:
            (self.directory / "scores").mkdir(exist_ok=True)
            _write_parquet(pd.DataFrame(scores)[[c.name for c in schema.SCORES if c.name != "items"]], self.directory / "scores" / part)
        if energies:
            _append(self.directory / "energies.jsonl", energies)
        _append(self.directory / "windows.jsonl", [window])

    def compact(self, block: int) -> None:
        """Join the part files of a block's windows: samples into samples/<block>.parquet, scores into scores.parquet.

        A kill in between loses nothing, and readers meet no row twice.
        """
        parts = [sorted(self.directory.glob(f"{kind}/{block:04d}.*.part.parquet")) for kind in ("samples", "scores")]
        self._join(parts[0], self.directory / "samples" / f"{block:04d}.parquet")
        self._join(parts[1], self.directory / "scores.parquet")

    def _join(self, parts: list[Path], target: Path) -> None:
        """Put the committed rows of `parts` into `target`, beside those it has."""
        if not parts:
            return
        committed = {row["attempt"] for row in read_jsonl(self.directory / "windows.jsonl")}
        frames = ([pd.read_parquet(target)] if target.exists() else []) + [pd.read_parquet(p) for p in parts]
        joined = pd.concat(frames, ignore_index=True)
        joined = joined[joined["attempt"].isin(committed)].drop_duplicates(ignore_index=True)
        _write_parquet(joined, target, self.directory)
        for part in parts:
            part.unlink()


def check(experiment: str | Path) -> tuple[list[dict], list[str]]:
    """(contradictions, notes) of an experiment's files among themselves; a contradiction says attempt, what, stored and derived.

    Held against each other: the files and their digests; configuration_id and the columns it is the hash of; duration_s and
    stop_s - start_s; the counts of plain generation; each window's own status and its energies'; each energy and reading, which may stand
    once. Notes say what could not be checked.
    """
    found: list[dict] = []
    unsealed = []
    for job in tables.job_dirs(experiment):
        if not (job / SEALS).exists():
            unsealed.append(job.name)
        for name in broken_seals(job):
            found.append(_differs("", f"{job.name}/{name}", "changed" if (job / name).exists() else "missing", "as its writer left it"))
    windows, energies = tables.read_windows(experiment), tables.read_energies(experiment)
    found += [*_ids(windows), *_durations(windows), *_counts(windows)]
    twice = energies.duplicated(["attempt", "device_id", "boundary", "method"])
    rows = energies.loc[twice, ["attempt", "boundary", "method"]].to_numpy()
    found += [_differs(attempt, f"energies {boundary}/{method}", "twice", "once") for attempt, boundary, method in rows]
    notes = [f"no digests in {', '.join(unsealed[:3])}: an edit that keeps all numbers in agreement cannot be seen"] if unsealed else []
    return found, notes


def _differs(attempt: str, what: str, stored: object, derived: object) -> dict:
    return {"attempt": attempt, "what": what, "stored": stored, "derived": derived}


def _ids(windows: pd.DataFrame) -> Iterator[dict]:
    """Windows whose configuration_id is not the hash of their configuration."""
    from eai.settings import Configuration

    columns = list(schema.CONFIGURATION)
    for (stored, *values), rows in windows.groupby(["configuration_id", *columns], dropna=False, sort=False):
        try:
            given = {k: v.item() if isinstance(v, np.generic) else v for k, v in zip(columns, values, strict=True)}
            derived = Configuration(**given | {"options": json.loads(given["options"])}).configuration_id
        except (ValueError, TypeError, UserError) as error:
            derived = f"none ({str(error).splitlines()[0][:80]})"
        if derived != stored:
            yield from (_differs(a, "configuration_id", stored, derived) for a in rows["attempt"])


def _durations(windows: pd.DataFrame) -> Iterator[dict]:
    """Windows that do not last from their start to their stop."""
    spans = (windows["stop_s"] - windows["start_s"]).astype(float)
    off = (spans - windows["duration_s"]).abs() > 1e-9 * np.maximum(windows["stop_s"].abs(), 1.0)
    for i in np.flatnonzero(off | (spans <= 0)):
        yield _differs(windows["attempt"].iloc[i], "duration_s", windows["duration_s"].iloc[i], spans.iloc[i])


def _counts(windows: pd.DataFrame) -> Iterator[dict]:
    """Windows whose counts cannot be: of plain generation in this process each call makes the same tokens; nothing is negative."""
    plain = (windows["task"] == "generate") & ~windows["options"].str.contains('"load"', na=False) & windows["calls"].notna()
    for name, each in (("tokens_out", "output_tokens"), ("tokens_in", "input_tokens"), ("requests", None)):
        derived = windows["calls"] * windows["batch_size"] * (windows[each] if each else 1)
        off = (plain & windows[name].notna() & (derived != windows[name])) | (windows[name] < 0)
        for i in np.flatnonzero(off):
            yield _differs(windows["attempt"].iloc[i], name, windows[name].iloc[i], derived.iloc[i])
