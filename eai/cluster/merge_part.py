"""One job folder of one source: its lines as written, and what they say about cards, clocks and columns."""

import fcntl
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path

from eai import schema, tables
from eai.errors import UserError

CLOCK_SLACK = timedelta(minutes=5)

Key = tuple[int, str, int]


@dataclass(frozen=True)
class Part:
    """One job folder of one source, read once; `lines` are the bytes as written, without a torn last one."""

    source: Path
    directory: Path

    @property
    def label(self) -> str:
        """The part without the machine's path, for what is published."""
        return f"{self.source.name}/{self.directory.name}"

    def lines(self, name: str) -> list[bytes]:
        """The whole lines of `<name>.jsonl`; none if there is no such file."""
        path = self.directory / f"{name}.jsonl"
        return path.read_bytes().rpartition(b"\n")[0].splitlines() if path.exists() else []

    def is_torn(self, name: str) -> bool:
        """Whether `<name>.jsonl` ends in a line without its end, as its writer was killed there."""
        path = self.directory / f"{name}.jsonl"
        return path.exists() and bool(path.read_bytes().rpartition(b"\n")[2])

    @cached_property
    def windows(self) -> list[dict]:
        """The window rows in the order of writing."""
        return tables.read_jsonl(self.directory / "windows.jsonl")

    @cached_property
    def energies(self) -> dict[str, list[dict]]:
        """The energy rows of each attempt."""
        found: dict[str, list[dict]] = {}
        for row in tables.read_jsonl(self.directory / "energies.jsonl"):
            found.setdefault(row["attempt"], []).append(row)
        return found

    @cached_property
    def provenance(self) -> list[dict]:
        """The provenance lines, oldest first."""
        return tables.read_jsonl(self.directory / "provenance.jsonl")

    @cached_property
    def attempts(self) -> dict[Key, list[dict]]:
        """Every row of each window, the last one being the one that counts."""
        found: dict[Key, list[dict]] = {}
        for row in self.windows:
            found.setdefault((row["block"], row["configuration_id"], row["repeat"]), []).append(row)
        return found

    @property
    def devices(self) -> set[str]:
        """What the energies were read from: UUIDs of cards; without a card the machine."""
        cards = {card["uuid"] for line in self.provenance for card in line.get("meter", {}).get("cards", [])}
        machines = {f"{m.get('cpu')} x {m.get('cores')}" for line in self.provenance if (m := line.get("machine"))}
        return cards or machines


def check_rows(part: Part) -> None:
    """Raise UserError for rows that this version does not understand: another schema, an unknown column, a value out of its vocabulary."""
    found = {line.get("schema", 1) for line in part.provenance} - {schema.VERSION}
    if found:
        raise UserError(
            f"{part.directory} was written with schema version {found.pop()}",
            f"version {schema.VERSION}",
            "merge with the version of eai that wrote it",
        )
    energies = [row for rows in part.energies.values() for row in rows]
    for table, rows in (("windows", part.windows), ("energies", energies)):
        wrong = [p for p in schema.problems(table, rows) if not p.endswith("is missing")]
        if wrong:
            raise UserError(
                f"{part.directory}/{table}.jsonl, {wrong[0]}", "the columns of eai/schema.py", "merge with the version of eai that wrote it"
            )


def require_quiet(directory: Path) -> None:
    """Raise UserError while another process holds the writer's lock of a job."""
    lock = directory / "writer.lock"
    if not lock.exists():
        return
    with open(lock) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            raise UserError(f"{directory} is being written", "an experiment at rest", "wait for the run, or stop it") from None


def odd_clocks(part: Part) -> Iterator[str]:
    """What the wall clock of a part did that clocks should not do; monotonic times of several machines may overlap."""
    told = [datetime.fromisoformat(line["at"]) for line in part.provenance]
    started = [(datetime.fromisoformat(w["started_at"]), w["start_s"]) for w in part.windows if w.get("started_at")]
    latest = max([*told, *(at for at, _ in started)], default=None)
    if latest and latest > datetime.now(UTC) + CLOCK_SLACK:
        yield f"{part.label}: a time stamp lies in the future ({latest.isoformat(timespec='seconds')})"
    if any(later < earlier for earlier, later in itertools.pairwise(told)):
        yield f"{part.label}: the wall clock went backwards between two runs"
    moves = itertools.pairwise(started)
    if any(later[0] < earlier[0] and later[1] > earlier[1] for earlier, later in moves):
        yield f"{part.label}: the wall clock went backwards between two windows of one run"
