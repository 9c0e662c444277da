"""What runs where, how far, and how long still: read from the jobs' own tables while they grow, drawn on a terminal and nowhere else."""

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from eai.plan import Job
from eai.quantity import shortest

ROWS = 12
_ORDER = ("running", "failed", "waiting", "done")


@dataclass
class Seen:
    """What is known of one job: the windows seen since the start, its energy [J], what came of the last one, and its card's mark."""

    windows: int = 0
    energy_j: float = 0.0
    last: str = ""
    mark: str = ""


class Progress:
    """The state of a running sweep. `update` reads what is new; `shown` is what a person wants to know of it.

    `experiment` holds the job folders and `state` the coordinator's notes; what was on disk before is not counted as progress.
    """

    def __init__(self, jobs: Sequence[Job], experiment: Path, state: Path):
        self.jobs, self.experiment, self.state = {j.id: j for j in jobs}, experiment, state
        self.seen = {j.id: Seen() for j in jobs}
        self.began_s = time.monotonic()
        self._offsets = {p: p.stat().st_size for f in self._folders() for p in f.glob("*.jsonl")}

    def _folders(self) -> list[Path]:
        """The folders of the sweep's jobs, one a card."""
        return [f for f in self.experiment.glob("*--*") if f.name.rpartition("--")[0] in self.jobs]

    def _new(self, path: Path) -> list[dict[str, Any]]:
        """The rows that another process appended to a table since the last look, whole lines only."""
        offset = self._offsets.get(path, 0)
        try:
            with open(path, "rb") as file:
                file.seek(offset)
                whole, newline, _ = file.read().rpartition(b"\n")
        except OSError:
            return []
        self._offsets[path] = offset + len(whole + newline)
        return [json.loads(line) for line in whole.splitlines()]

    def update(self) -> None:
        """Read what the jobs have written since the last look."""
        for folder in self._folders():
            job, _, mark = folder.name.rpartition("--")
            windows, seen = self._new(folder / "windows.jsonl"), self.seen[job]
            seen.windows += len(windows)
            seen.energy_j += sum(e["energy_j"] or 0.0 for e in self._new(folder / "energies.jsonl") if e["primary"])
            for w in windows[-1:]:
                seen.mark, seen.last = mark, f"{w['quantization']} batch {w['batch_size']}: {w['status']}"

    def status(self, job: str) -> str:
        """done, failed, running or waiting."""
        ended = next((name for name in ("done", "failed") if (self.state / name / f"{job}.json").exists()), None)
        return ended or ("running" if self._log(job).exists() else "waiting")

    def _log(self, job: str) -> Path:
        """Where a job says what it does."""
        return self.state / "logs" / f"{job}.log"

    @property
    def windows_left(self) -> int:
        """Windows that are still missing."""
        return sum(max(j.windows_left - self.seen[j.id].windows, 0) for j in self.jobs.values())

    @property
    def remaining_s(self) -> float | None:
        """Seconds that the rest takes at the pace so far, None before the first window."""
        ended = sum(seen.windows for seen in self.seen.values())
        return (time.monotonic() - self.began_s) / ended * self.windows_left if ended else None

    def totals(self) -> str:
        """One line: jobs done, windows left, time left, energy so far."""
        done = sum(self.status(job) == "done" for job in self.jobs)
        energy_j = sum(seen.energy_j for seen in self.seen.values())
        clock = str(timedelta(seconds=int(self.remaining_s or 0))).removeprefix("0:").removeprefix("0")
        left = "" if self.remaining_s is None else f", about {clock} left"
        return f"{done} of {len(self.jobs)} jobs done, {self.windows_left} windows to go{left}, {shortest(energy_j)} J so far"

    def shown(self) -> list[tuple[str, str, str, str]]:
        """(job with its card, status, windows, last outcome) of what runs, then of what failed, at most a screenful.

        The last outcome of a job without a window is the last line that it has said, such as whom it waits for.
        """
        rows = []
        for job, seen in self.seen.items():
            planned, status, log = self.jobs[job], self.status(job), self._log(job)
            said = seen.last or (log.read_text(errors="replace").strip().rpartition("\n")[2] if log.exists() else "")
            name = f"{planned.gpu}{f' ({seen.mark})' if seen.mark else ''} x {planned.model}"
            rows.append((name, status, f"{planned.windows_done + seen.windows}/{planned.windows}", said))
        return sorted(rows, key=lambda row: _ORDER.index(row[1]))[:ROWS]


class View:
    """The progress drawn on a terminal; writes nothing where standard error is not one."""

    def __init__(self, progress: Progress):
        self.progress, self._live, self._last_s = progress, None, 0.0

    def __enter__(self) -> "View":
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.live import Live

            self._live = Live(console=Console(stderr=True), transient=True, auto_refresh=False)
            self._live.start()
        return self

    def __exit__(self, *exc) -> None:
        if self._live:
            self._live.stop()

    def update(self) -> None:
        """Look again, at most once a second, and draw."""
        if self._live and time.monotonic() - self._last_s >= 1:
            self._last_s = time.monotonic()
            self.progress.update()
            self._live.update(table(self.progress), refresh=True)


def table(progress: Progress):
    """The progress as a table of the terminal."""
    from rich.table import Table

    drawn = Table("gpu x model", "", "windows", "last", caption=progress.totals(), caption_justify="left", expand=True)
    for row in progress.shown():
        drawn.add_row(*row)
    return drawn
