"""Results of several machines as one experiment: every line kept as it was written, every contradiction refused.

    A/job-1   A/job-2          B/job-2   B/job-3
       |         +--- one union ---+        |
    out/job-1          out/job-2        out/job-3      out/merge.json: from where, and what is odd about it

A window found twice is the same measurement copied, or the same values measured again (a simulated card does that): it is taken
once. Anything else is two answers to one question, and refused. The result is built beside its place and renamed into it, so that it is
there whole or not at all; nothing that exists is written over.
"""

import fcntl
import hashlib
import itertools
import json
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd

from eai import schema, store, tables
from eai.errors import UserError
from eai.jobs import SAME_THROUGHOUT, whole_rows

CLOCK_SLACK = timedelta(minutes=5)
LINES = ("windows", "energies", "idle", "provenance")
PARQUET = ("samples/*.parquet", "scores.parquet", "scores/*.parquet")
NOT_COPIED = ("writer.lock", "scores.parquet", store.SEALS)
PER_ATTEMPT = ("attempt", "started_at")
_APART, _VERSION = "leave one of the folders out", "merge with the version of eai that wrote it"


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


class Part:
    """One job folder of one source, read once. `lines`: the bytes of each table as written, without a torn last one (`torn`: which have
    such); `attempts`: every row of each window, the last one counts; `devices`: UUIDs of the cards, without a card the machine. Raises
    UserError for a folder that is being written, holds links or was changed, and for rows that this version does not understand."""

    def __init__(self, source: Path, directory: Path):
        self.source, self.directory = source, directory
        self.label = f"{source.name}/{directory.name}"  # without the machine's path, for what is published
        if link := next((p for p in (directory, *sorted(directory.rglob("*"))) if p.is_symlink()), None):
            raise UserError(f"{link} is a symbolic link", "files and folders alone", "put what it points to in its place")
        if (lock := directory / "writer.lock").exists():
            with open(lock) as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                except OSError:
                    raise UserError(f"{directory} is being written", "an experiment at rest", "wait for the run, or stop it") from None
        if broken := store.broken_seals(directory):
            changed = f"{directory}/{min(broken)} was changed after its writer had ended"
            raise UserError(changed, "the files as they were written", f"restore it, or remove {store.SEALS} beside it to accept it")
        paths = {name: directory / f"{name}.jsonl" for name in LINES}
        split = {name: path.read_bytes().rpartition(b"\n") if path.exists() else (b"", b"", b"") for name, path in paths.items()}
        self.lines = {name: whole.splitlines() for name, (whole, _, _) in split.items()}
        self.torn = [name for name, (_, _, rest) in split.items() if rest]
        self.windows, energies, _, self.provenance = (tables.read_jsonl(path) for path in paths.values())
        if found := {line.get("schema", 1) for line in self.provenance} - {schema.VERSION}:
            raise UserError(f"{directory} was written with schema version {found.pop()}", f"version {schema.VERSION}", _VERSION)
        for table, rows in (("windows", self.windows), ("energies", energies)):
            if wrong := [p for p in schema.problems(table, rows) if not p.endswith("is missing")]:
                raise UserError(f"{directory}/{table}.jsonl, {wrong[0]}", "the columns of eai/schema.py", _VERSION)
        self.energies: dict[str, list[dict]] = {}
        self.attempts: dict[tuple[int, str, int], list[dict]] = {}
        with whole_rows(directory):
            for row in energies:
                self.energies.setdefault(row["attempt"], []).append(row)
            for row in self.windows:
                self.attempts.setdefault((row["block"], row["configuration_id"], row["repeat"]), []).append(row)
            self.taken = {row["attempt"] for row in self.windows}
            self.told = [_moment(line["at"]) for line in self.provenance]
            self.started = [(_moment(w["started_at"]), float(w["start_s"])) for w in self.windows if w.get("started_at")]
            self.settings = [dict(line["settings"]) for line in self.provenance if "settings" in line]
            self.versions = [dict(line.get("versions", {})) for line in self.provenance]
            self.cards = {card["uuid"] for line in self.provenance for card in line.get("meter", {}).get("cards", [])}
            machines = {f"{m.get('cpu')} x {m.get('cores')}" for line in self.provenance if (m := line.get("machine"))}
        self.devices = self.cards or machines

    def values(self, key: tuple[int, str, int]) -> list[dict]:
        last = self.attempts[key][-1]
        rows = [last, *self.energies.get(last["attempt"], [])]
        return [{k: v for k, v in row.items() if k not in PER_ATTEMPT} for row in rows]

    def oddities(self) -> Iterator[str]:
        """What the wall clock did that clocks should not do (monotonic times of several machines may overlap), and torn lines."""
        latest = max([*self.told, *(at for at, _ in self.started)], default=None)
        if latest and latest > datetime.now(UTC) + CLOCK_SLACK:
            yield f"{self.label}: a time stamp lies in the future ({latest.isoformat(timespec='seconds')})"
        if any(later < earlier for earlier, later in itertools.pairwise(self.told)):
            yield f"{self.label}: the wall clock went backwards between two runs"
        if any(later[0] < earlier[0] and later[1] > earlier[1] for earlier, later in itertools.pairwise(self.started)):
            yield f"{self.label}: the wall clock went backwards between two windows of one run"
        yield from (f"1 torn line left out of {self.label}/{name}.jsonl" for name in self.torn)


def kept_attempts(parts: list[Part]) -> list[set[str]]:
    """For each part the attempts that are taken from it: all but those of windows that an earlier part holds with the same values, as a
    copy (then the attempts of one are the first ones of the other) or measured again. Raises UserError for a window with two different
    contents."""
    kept = [set(part.taken) for part in parts]
    for (one, _), (other, taken) in itertools.combinations(zip(parts, kept, strict=True), 2):
        for key in one.attempts.keys() & other.attempts.keys():
            shorter, longer = sorted((one.attempts[key], other.attempts[key]), key=len)
            names = [row["attempt"] for row in shorter]
            if all(a == b for a, b in zip(shorter, longer, strict=False)):
                same = all(one.energies.get(name, []) == other.energies.get(name, []) for name in names)
            elif same := one.values(key) == other.values(key):
                taken -= {row["attempt"] for row in other.attempts[key]}
            if not same:
                found = "block {}, configuration {}, repeat {} of ".format(*key) + f"{one.directory} and of {other.directory} differ"
                raise UserError(found, "the same window once, or with identical content", _APART)
    return kept


def write_files(target: Path, parts: list[Part], kept: list[set[str]]) -> None:
    """Write raw readings and item scores, and what else lies in a job's folder: files as they are from a single part, else joined with
    every attempt once. Raises UserError where two parts hold one attempt, or a file of one name, with different content."""
    joined: dict[str, list[pd.DataFrame]] = {}
    for part, attempts in zip(parts, kept, strict=True):
        for path in sorted(p for pattern in PARQUET for p in part.directory.glob(pattern)):
            name = str(path.relative_to(part.directory))
            if len(parts) == 1:
                (target / name).parent.mkdir(exist_ok=True)
                shutil.copyfile(path, target / name)
            else:
                frame = pd.read_parquet(path)
                whole = f"samples/{path.name.split('.')[0]}.parquet" if path.parent.name == "samples" else "scores.parquet"
                joined.setdefault(whole, []).append(frame[frame["attempt"].isin(attempts)])
    for name, frames in joined.items():
        table = pd.concat(frames, ignore_index=True).drop_duplicates(ignore_index=True)
        fullest, found = pd.concat([f["attempt"].value_counts() for f in frames]).groupby(level=0).max(), table["attempt"].value_counts()
        if wrong := sorted(found.index[found > fullest.reindex(found.index)]):  # more rows than in any part: two parts disagree about it
            where = f"the rows of attempt {wrong[0]} in {target.name}/{name} differ"
            raise UserError(where, "one content an attempt", _APART)
        if len(table):
            (target / name).parent.mkdir(exist_ok=True)
            table.to_parquet(target / name, index=False)
    known = {f"{name}.jsonl" for name in LINES} | set(NOT_COPIED)
    for part in parts:
        for path in sorted(p for p in part.directory.iterdir() if p.is_file() and p.name not in known and p.suffix != ".tmp"):
            if not (there := target / path.name).exists():
                shutil.copyfile(path, there)
            elif there.read_bytes() != path.read_bytes():
                raise UserError(f"{path} differs from that of {parts[0].source}", "one content a file", _APART)


def merge(sources: Sequence[str | Path], out: Path) -> dict:
    """Merge experiments into the new folder `out`; returns `{experiment, jobs, windows, found_twice, warnings}`. Raises UserError for a
    source that is none or at work, an `out` that exists, one job of two cards or two protocols, and a window with two different
    contents."""
    out, folders = Path(out).resolve(), [tables.experiment_dir(source) for source in sources]
    if len(set(folders)) < len(folders):
        raise UserError("a folder is named twice", "different experiments", "name each once")
    if out.is_file() or (out.is_dir() and any(out.iterdir())):
        raise UserError(f"{out} exists already", "a new folder", "choose another --out; nothing is written over")
    if inside := [f for f in folders if f == out or f in out.parents]:
        raise UserError(f"{out} lies in the source {inside[0]}", "a folder beside the sources", "choose another --out")
    groups: dict[str, list[Part]] = {}
    for folder in folders:
        for directory in tables.job_dirs(folder):
            groups.setdefault(directory.name, []).append(Part(folder, directory))
    try:  # beside its place, on the same file system, so that a rename is all that is left in the end
        out.parent.mkdir(parents=True, exist_ok=True)
        building = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    except OSError as error:
        raise UserError(f"cannot write beside {out} ({error.strerror})", "a writable place", "choose another --out") from None
    try:
        jobs = [_write_job(building / name, parts) for name, parts in groups.items()]
        merged = [part for parts in groups.values() for part in parts]
        warnings = [*(odd for part in merged for odd in part.oddities()), *_remarks(groups)]
        windows = sum(job["windows"] for job in jobs)
        answer = {"jobs": jobs, "windows": windows, "found_twice": sum(len(p.attempts) for p in merged) - windows, "warnings": warnings}
        origins = []  # no path of the machine
        for part in merged:
            digest = hashlib.sha256((part.directory / "windows.jsonl").read_bytes()).hexdigest()
            origins.append({"source": part.source.name, "job": part.directory.name, "windows": len(part.attempts), "sha256": digest})
        record = {"at": datetime.now(UTC).isoformat(timespec="seconds"), "sources": origins} | answer
        (building / "merge.json").write_text(json.dumps(record, indent=1) + "\n")
        building.chmod(0o755)
        building.rename(out)
    except OSError as error:
        found = f"cannot merge into {out} ({error.strerror or type(error).__name__})"
        raise UserError(found, "sources to read and room to write", "check them, or choose another --out") from None
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return {"experiment": str(out)} | answer


def _write_job(target: Path, parts: list[Part]) -> dict:
    for one, other in itertools.combinations(parts, 2):
        both = f"{one.directory} and {other.directory}"
        if one.devices and other.devices and not one.devices & other.devices:
            cards = " and ".join(", ".join(sorted(part.devices)) for part in (one, other))
            found = f"{both} have one name but were measured on {cards}"
            raise UserError(found, "one card a job", "rename one of the folders and its rows, or merge them apart")
        if differing := _protocols([one, other]):
            raise UserError(f"{both} were measured with another {', '.join(differing)}", "one protocol a job", "merge them apart")
    target.mkdir(parents=True)
    kept = kept_attempts(parts)
    for name in LINES:  # the lines of all parts, each once; of windows and energies only those of attempts that are kept
        lines: dict[bytes, None] = {}
        for part, attempts in zip(parts, kept, strict=True):
            is_free = name not in ("windows", "energies")
            lines |= dict.fromkeys(line for line in part.lines[name] if is_free or json.loads(line)["attempt"] in attempts)
        ordered = sorted(lines, key=lambda line: json.loads(line)["at"]) if name == "provenance" and len(parts) > 1 else lines
        if lines:
            (target / f"{name}.jsonl").write_bytes(b"".join(line + b"\n" for line in ordered))
    write_files(target, parts, kept)
    store.seal(target)
    return {"job": target.name, "windows": len({key for p in parts for key in p.attempts}), "sources": [p.source.name for p in parts]}


def _protocols(parts: list[Part]) -> dict[str, set[str]]:
    """The settings of the protocol that took several values, with these."""
    settings = [given for part in parts for given in part.settings]
    took = {name: {json.dumps(given.get(name)) for given in settings} for name in SAME_THROUGHOUT}
    return {name: values for name, values in took.items() if len(values) > 1}


def _remarks(groups: dict[str, list[Part]]) -> Iterator[str]:
    """What a reader must know of jobs that differ: settings (within a job they are refused), versions, and cards under two names. A card
    has two names where a catalog learned of one between two runs: such jobs are not compared with each other."""
    for name, values in _protocols([part for parts in groups.values() for part in parts]).items():
        yield f"jobs were measured with another {name}: {', '.join(sorted(values))}"
    versions = [each for parts in groups.values() for part in parts for each in part.versions]
    for name in sorted({name for each in versions for name in each}):
        if len(found := sorted({str(each.get(name)) for each in versions})) > 1:
            yield f"runs with different versions of {name}: {', '.join(found)}"
    names: dict[str, set[str]] = {}
    for job, parts in groups.items():
        for card in {card for part in parts for card in part.cards} if "--" in job else ():
            names.setdefault(card, set()).add(job.partition("--")[0])
    for card, under in names.items():
        if len(under) > 1:
            yield f"card {card} stands under {len(under)} names: {', '.join(sorted(under))}"
