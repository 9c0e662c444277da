"""What runs where, how far, and how long still: read from the jobs' own tables while they grow, drawn on a terminal and nowhere else."""

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from eai.plan import Job

ROWS = 12


@dataclass
class Growing:
    """A table that another process appends to: `new` gives the rows since the last look, whole lines only."""

    path: Path
    offset: int = 0

    def new(self) -> list[dict[str, Any]]:
        """The rows that came since the last look."""
        try:
            if self.path.stat().st_size <= self.offset:
                return []
            with open(self.path, "rb") as file:
                file.seek(self.offset)
                whole, newline, _ = file.read().rpartition(b"\n")
        except OSError:
            return []
        self.offset += len(whole + newline)
        return [json.loads(line) for line in whole.splitlines()]


@dataclass
class Seen:
    """What is known of one job: the windows seen since the start, its energy [J], its last row, and its card's mark."""

    windows: int = 0
    energy_j: float = 0.0
    last: str = ""
    mark: str = ""
    tables: dict[Path, tuple[Growing, Growing]] = field(default_factory=dict)


class Progress:
    """The state of a running sweep. `update` reads what is new; `shown` is what a person wants to know of it.

    `experiment` holds the job folders and `state` the coordinator's notes; what was on disk before is not counted as progress.
    """

    def __init__(self, jobs: Sequence[Job], experiment: Path, state: Path):
        self.jobs, self.experiment, self.state = {j.id: j for j in jobs}, experiment, state
        self.seen = {j.id: Seen() for j in jobs}
        self.began_s = time.monotonic()
        for folder in self._folders():
            for table in self._tables(folder):
                table.offset = table.path.stat().st_size if table.path.exists() else 0

    def _folders(self) -> list[Path]:
        if not self.experiment.is_dir():
            return []
        return [f for f in self.experiment.iterdir() if f.name.rpartition("--")[0] in self.jobs]

    def _tables(self, folder: Path) -> tuple[Growing, Growing]:
        seen = self.seen[folder.name.rpartition("--")[0]]
        return seen.tables.setdefault(folder, (Growing(folder / "windows.jsonl"), Growing(folder / "energies.jsonl")))

    def update(self) -> None:
        """Read what the jobs have written since the last look."""
        for folder in self._folders():
            windows, energies = (table.new() for table in self._tables(folder))
            seen = self.seen[folder.name.rpartition("--")[0]]
            seen.windows += len(windows)
            seen.energy_j += sum(e["energy_j"] or 0.0 for e in energies if e["primary"])
            if windows:
                seen.mark, seen.last = folder.name.rpartition("--")[2], _outcome(windows[-1])

    def status(self, job: str) -> str:
        """done, failed, running or waiting."""
        for name in ("done", "failed"):
            if (self.state / name / f"{job}.json").exists():
                return name
        return "running" if (self.state / "logs" / f"{job}.log").exists() else "waiting"

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
        left = "" if self.remaining_s is None else f", about {_clock(self.remaining_s)} left"
        return f"{done} of {len(self.jobs)} jobs done, {self.windows_left} windows to go{left}, {energy_j:.3g} J so far"

    def shown(self) -> list[tuple[str, str, str, str]]:
        """(job with its card, status, windows, last outcome) of what runs, then of what failed, at most a screenful."""
        order = {"running": 0, "failed": 1, "waiting": 2, "done": 3}
        rows = []
        for job, seen in self.seen.items():
            planned = self.jobs[job]
            status = self.status(job)
            name = f"{planned.gpu}{f' ({seen.mark})' if seen.mark else ''} x {planned.model}"
            rows.append((order[status], (name, status, f"{planned.windows_done + seen.windows}/{planned.windows}", seen.last or job)))
        chosen = [row for _, row in sorted(rows, key=lambda r: r[0])[:ROWS]]
        return [(*row[:3], self._said(row[3]) if row[3] in self.jobs else row[3]) for row in chosen]

    def _said(self, job: str) -> str:
        """The last line that a job without a window has said, such as whom it waits for."""
        try:
            return (self.state / "logs" / f"{job}.log").read_text(errors="replace").strip().rpartition("\n")[2]
        except OSError:
            return ""


def _outcome(window: dict[str, Any]) -> str:
    """The last window in a few words."""
    return f"{window['quantization']} batch {window['batch_size']}: {window['status']}"


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{seconds:02d}" if minutes >= 60 else f"{minutes}:{seconds:02d}"


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
        if not self._live or time.monotonic() - self._last_s < 1:
            return
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
