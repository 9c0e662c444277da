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
from eai.paths import write_whole
from eai.tables import read_jsonl

TABLES = ("windows", "energies", "idle", "provenance")
SEALS = "digests.json"


def new_attempt() -> str:
    """A random mark, 8 hex digits, for one measurement of one window."""
    return secrets.token_hex(4)


def write_json(path: Path, document: dict) -> None:
    """Write a document, whole or not at all."""
    write_whole(path, json.dumps(document))


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

    def holds(path: Path, digests: list) -> bool:
        sizes = [size if path.suffix == ".jsonl" else None for size, _ in digests]  # tables grow
        return path.is_file() and any(_digest(path, size) == list(digest) for size, digest in zip(sizes, digests, strict=True))

    return {name: digests for name, digests in _seals(directory).items() if not holds(directory / name, digests)}


def seal(directory: Path, broken: Mapping[str, list] = MappingProxyType({})) -> None:
    """Write the digests of a job's files; those of `broken` ones stay as they are. Of tables the whole lines count: a full disk leaves a
    torn one, which the next writer cuts."""
    files = [*(directory / f"{name}.jsonl" for name in TABLES), *directory.glob("samples/[0-9]*.parquet"), directory / "scores.parquet"]
    there = sorted(path for path in files if path.is_file() and not path.name.endswith(".part.parquet"))
    if directory / "windows.jsonl" in there:
        whole = {path: path.read_bytes().rfind(b"\n") + 1 if path.suffix == ".jsonl" else None for path in there}
        write_json(directory / SEALS, {str(p.relative_to(directory)): [_digest(p, size)] for p, size in whole.items()} | dict(broken))


class JobStore:
    """The writer of one job folder; use as a context manager. Raises UserError if another process still writes there after `wait_s` (a
    killed run's kernel needs a moment to notice), or if a row does not fit the registry."""

    def __init__(self, directory: Path, wait_s: float = 10.0):
        self.directory, self._wait_s = Path(directory), wait_s

    def __enter__(self) -> "JobStore":
        try:
            (self.directory / "samples").mkdir(parents=True, exist_ok=True)
            self._lock = open(self.directory / "writer.lock", "w")
        except OSError as error:
            found = f"cannot write to {self.directory} ({error.strerror})"
            raise UserError(found, "a writable folder", "choose another with --out") from None
        end_s = time.monotonic() + self._wait_s
        while True:
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError:
                if time.monotonic() >= end_s:
                    self._lock.close()
                    found = f"another process is writing to {self.directory}"
                    raise UserError(found, "one writer a job", "wait for it, or stop it") from None
                time.sleep(0.2)
        for torn in self.directory.rglob("*.tmp"):
            torn.unlink()
        self._drop_orphans()
        for path in (self.directory / f"{name}.jsonl" for name in TABLES):  # a torn line of a killed writer, else the next one sticks to it
            if path.exists() and not (content := path.read_bytes()).endswith(b"\n"):
                os.truncate(path, content.rfind(b"\n") + 1)
        self._broken = broken_seals(self.directory)
        return self

    def __exit__(self, *exc) -> None:
        try:
            with contextlib.suppress(OSError):  # a full disk: what was committed is there, and the next writer joins and seals it
                self._drop_orphans()
                for block in {int(part.name.split(".")[0]) for part in self.directory.glob("s*/*.part.parquet")}:
                    self.compact(block)
                seal(self.directory, self._broken)
        finally:
            self._lock.close()

    def _attempts(self) -> set[str]:
        """The attempts that became a window."""
        return {row["attempt"] for row in read_jsonl(self.directory / "windows.jsonl")}

    def _drop_orphans(self) -> None:
        """Remove part files of attempts that never became a window: a killed writer left them."""
        committed = self._attempts()
        for part in self.directory.glob("s*/*.part.parquet"):
            if part.name.split(".")[1] not in committed:
                part.unlink()

    def done(self) -> set[tuple]:
        """The keys (block, configuration_id, repeat) of the windows that are on disk."""
        return {(row["block"], row["configuration_id"], row["repeat"]) for row in read_jsonl(self.directory / "windows.jsonl")}

    def append_provenance(self, line: dict) -> None:
        """Append one line of provenance."""
        self._append("provenance", [line])

    def append_idle(self, row: dict) -> None:
        """Append one idle measurement of one device (schema.IDLE)."""
        self._append("idle", [row])

    def _append(self, table: str, rows: list[dict]) -> None:
        """Append rows with one write and wait until they are on disk; what is not finite becomes null, because JSON has no NaN."""
        clean = [{k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()} for row in rows]
        with open(self.directory / f"{table}.jsonl", "ab") as file:
            file.write(b"".join(json.dumps(row, sort_keys=True, allow_nan=False).encode() + b"\n" for row in clean))
            file.flush()
            os.fsync(file.fileno())

    def append_window(self, window: dict, energies: list[dict], samples: pd.DataFrame | None = None, scores: Sequence[dict] = ()) -> None:
        """Commit one window with its energies, raw samples and item scores (schema.SAMPLES, SCORES, without the window key)."""
        key = {name: window[name] for name in (*schema.WINDOW_KEY, "attempt")}
        energies, scores = [key | row for row in energies], [key | row for row in scores]
        if wrong := schema.problems("windows", [window]) + schema.problems("energies", energies) + schema.problems("scores", scores):
            raise UserError(f"a row that does not fit the registry: {wrong[0]}", "the columns of eai/schema.py")
        part = f"{window['block']:04d}.{window['attempt']}.part.parquet"
        if samples is not None and len(samples):
            self._write_parquet(samples.assign(**key)[[c.name for c in schema.SAMPLES]], self.directory / "samples" / part)
        if scores:
            (self.directory / "scores").mkdir(exist_ok=True)
            columns = [c.name for c in schema.SCORES if c.name != "items"]
            self._write_parquet(pd.DataFrame(scores)[columns], self.directory / "scores" / part)
        if energies:
            self._append("energies", energies)
        self._append("windows", [window])

    def _write_parquet(self, frame: pd.DataFrame, path: Path, sealed: bool = False) -> None:
        """Write under another name, sync, then rename: no reader ever meets half a file. `sealed`: the job's seal covers the new content
        before that takes its place, so that a kill in between breaks none."""
        temporary = path.with_suffix(".tmp")
        frame.to_parquet(temporary, index=False)
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        if sealed and (known := _seals(self.directory)):
            known.setdefault(str(path.relative_to(self.directory)), []).append(_digest(temporary))
            write_json(self.directory / SEALS, known)
        temporary.replace(path)

    def compact(self, block: int) -> None:
        """Join the part files of a block's windows: samples into samples/<block>.parquet, scores into scores.parquet. A kill in between
        loses nothing, and readers meet no row twice."""
        for kind, name in (("samples", f"samples/{block:04d}.parquet"), ("scores", "scores.parquet")):
            target, parts = self.directory / name, sorted(self.directory.glob(f"{kind}/{block:04d}.*.part.parquet"))
            if parts:
                joined = pd.concat([pd.read_parquet(p) for p in [target] * target.exists() + parts], ignore_index=True)
                joined = joined[joined["attempt"].isin(self._attempts())].drop_duplicates(ignore_index=True)
                self._write_parquet(joined, target, sealed=True)
                for part in parts:
                    part.unlink()


def check(experiment: str | Path) -> tuple[list[dict], list[str]]:
    """(contradictions, notes) of an experiment's files among themselves; a contradiction says attempt, what, stored and derived. Held
    against each other: the files and their digests; configuration_id and the columns it is the hash of; duration_s and stop_s - start_s;
    the counts of plain generation in this process, of which each call makes the same tokens; each energy, which may stand once. Notes say
    what could not be checked."""
    job_dirs, found = tables.job_dirs(experiment), []
    for job in job_dirs:
        for name in broken_seals(job):
            found.append(("", f"{job.name}/{name}", "changed" if (job / name).exists() else "missing", "as its writer left it"))
    windows, energies = tables.read_windows(experiment), tables.read_energies(experiment)
    found += _wrong_ids(windows)
    spans, wrong = (windows["stop_s"] - windows["start_s"]).astype(float), {}
    off = (spans - windows["duration_s"]).abs() > 1e-9 * np.maximum(windows["stop_s"].abs(), 1.0)
    wrong["duration_s"] = off | (spans <= 0), spans
    plain = (windows["task"] == "generate") & ~windows["options"].str.contains('"load"', na=False) & windows["calls"].notna()
    for name, each in (("tokens_out", "output_tokens"), ("tokens_in", "input_tokens"), ("requests", None)):
        derived = windows["calls"] * windows["batch_size"] * (windows[each] if each else 1)
        wrong[name] = (plain & windows[name].notna() & (derived != windows[name])) | (windows[name] < 0), derived
    for name, (differs, derived) in wrong.items():
        found += [(windows["attempt"].iloc[i], name, windows[name].iloc[i], derived.iloc[i]) for i in np.flatnonzero(differs)]
    twice = energies.duplicated(["attempt", "device_id", "boundary", "method"])
    rows = energies.loc[twice, ["attempt", "boundary", "method"]].to_numpy()
    found += [(attempt, f"energies {boundary}/{method}", "twice", "once") for attempt, boundary, method in rows]
    unsealed = [job.name for job in job_dirs if not (job / SEALS).exists()]
    notes = [f"no digests in {', '.join(unsealed[:3])}: an edit that keeps all numbers in agreement cannot be seen"] if unsealed else []
    return [dict(zip(("attempt", "what", "stored", "derived"), each, strict=True)) for each in found], notes


def _wrong_ids(windows: pd.DataFrame) -> Iterator[tuple]:
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
            yield from ((a, "configuration_id", stored, derived) for a in rows["attempt"])
