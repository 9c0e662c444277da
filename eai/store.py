"""Append-only store of one job's windows: what was measured survives a kill at any moment, and nothing is measured twice.

Order of writing, each synced to disk before the next: raw samples, item scores, energies, then the line in windows.jsonl. That
line commits the window: a kill before it leaves orphans that no reader joins, a kill after it loses nothing. An flock that dies with
its process keeps a second writer out.
"""

import fcntl
import json
import math
import os
import secrets
import time
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from eai import schema
from eai.errors import UserError
from eai.tables import read_jsonl


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


def _write_parquet(frame: pd.DataFrame, path: Path) -> None:
    """Write under another name, sync, then rename: no reader ever meets half a file."""
    temporary = path.with_suffix(".tmp")
    frame.to_parquet(temporary, index=False)
    with open(temporary, "rb") as file:
        os.fsync(file.fileno())
    temporary.replace(path)


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
        for name in ("windows", "energies", "idle", "provenance"):
            _drop_torn_line(self.directory / f"{name}.jsonl")
        return self

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
        _write_parquet(joined, target)
        for part in parts:
            part.unlink()
