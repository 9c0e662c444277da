"""The union of a job's parts: each window once, each line as it was written, and an error where two parts contradict each other."""

import itertools
import json
import shutil
from pathlib import Path

import pandas as pd

from eai.cluster.merge_part import Key, Part
from eai.errors import UserError

LINES = ("windows", "energies", "idle", "provenance")
PARQUET = ("samples/*.parquet", "scores.parquet", "scores/*.parquet")
NOT_COPIED = ("writer.lock", "scores.parquet")
PER_ATTEMPT = ("attempt", "started_at")


def kept_attempts(parts: list[Part]) -> list[set[str]]:
    """For each part the attempts that are taken from it: all but those of windows that an earlier part holds with the same values.

    Raises UserError for a window that two parts hold with different contents.
    """
    kept = [{row["attempt"] for row in part.windows} for part in parts]
    for (one, _), (other, taken) in itertools.combinations(zip(parts, kept, strict=True), 2):
        for key in one.attempts.keys() & other.attempts.keys():
            if _measured_again(one, other, key):
                taken -= {row["attempt"] for row in other.attempts[key]}
    return kept


def _measured_again(one: Part, other: Part, key: Key) -> bool:
    """Whether two parts hold a window as two measurements of the same values; False if it is the same measurement, copied.

    A copy may be older than its original: then its attempts are the first ones of the other. Raises UserError for anything else.
    """
    shorter, longer = sorted((one.attempts[key], other.attempts[key]), key=len)
    if all(a == b for a, b in zip(shorter, longer, strict=False)):
        for row in shorter:
            if one.energies.get(row["attempt"], []) != other.energies.get(row["attempt"], []):
                raise _conflict(one, other, key)
        return False
    if _values(one, key) != _values(other, key):
        raise _conflict(one, other, key)
    return True


def _values(part: Part, key: Key) -> list[dict]:
    """The row that counts of a window and its energies, without the marks of the attempt."""
    last = part.attempts[key][-1]
    rows = [last, *part.energies.get(last["attempt"], [])]
    return [{k: v for k, v in row.items() if k not in PER_ATTEMPT} for row in rows]


def _conflict(one: Part, other: Part, key: Key) -> UserError:
    block, configuration_id, repeat = key
    return UserError(
        f"block {block}, configuration {configuration_id}, repeat {repeat} of {one.directory} and of {other.directory} differ",
        "the same window once, or with identical content",
        "leave one of the folders out",
    )


def union(parts: list[Part], name: str, kept: list[set[str]]) -> list[bytes]:
    """The lines of all parts, each once; of windows and energies only those of attempts that are kept."""
    lines: dict[bytes, None] = {}
    for part, attempts in zip(parts, kept, strict=True):
        for line in part.lines(name):
            if name not in ("windows", "energies") or json.loads(line)["attempt"] in attempts:
                lines.setdefault(line)
    return sorted(lines, key=lambda line: json.loads(line)["at"]) if name == "provenance" and len(parts) > 1 else list(lines)


def write_tables(target: Path, parts: list[Part], kept: list[set[str]]) -> None:
    """Write raw readings and item scores: files as they are from a single part, else joined with every attempt once.

    Raises UserError where two parts hold one attempt with different content.
    """
    joined: dict[str, list[pd.DataFrame]] = {}
    for part, attempts in zip(parts, kept, strict=True):
        for path in sorted(p for pattern in PARQUET for p in part.directory.glob(pattern)):
            name = str(path.relative_to(part.directory))
            if len(parts) == 1:
                (target / name).parent.mkdir(exist_ok=True)
                shutil.copyfile(path, target / name)
            else:
                frame = pd.read_parquet(path)
                joined.setdefault(_whole(path), []).append(frame[frame["attempt"].isin(attempts)])
    for name, frames in joined.items():
        table = pd.concat(frames, ignore_index=True).drop_duplicates(ignore_index=True)
        _require_same_content(f"{target.name}/{name}", frames, table)
        if len(table):
            (target / name).parent.mkdir(exist_ok=True)
            table.to_parquet(target / name, index=False)


def _whole(path: Path) -> str:
    """The file that a file of samples or scores belongs into: one a block of samples, one of scores."""
    if path.name == "scores.parquet" or path.parent.name == "scores":
        return "scores.parquet"
    return f"samples/{path.name.split('.')[0]}.parquet"


def _require_same_content(name: str, frames: list[pd.DataFrame], joined: pd.DataFrame) -> None:
    """Raise UserError if an attempt has more rows in the union than in the fullest part: then two parts disagree about it."""
    fullest = pd.concat([frame["attempt"].value_counts() for frame in frames]).groupby(level=0).max()
    found = joined["attempt"].value_counts()
    if wrong := sorted(found.index[found > fullest.reindex(found.index)]):
        raise UserError(f"the rows of attempt {wrong[0]} in {name} differ", "one content an attempt", "leave one of the folders out")


def copy_rest(target: Path, parts: list[Part]) -> None:
    """Copy what else lies in a job's folder. Raises UserError where two parts hold different files of one name."""
    known = {f"{name}.jsonl" for name in LINES} | set(NOT_COPIED)
    for part in parts:
        for path in sorted(p for p in part.directory.iterdir() if p.is_file() and p.name not in known and p.suffix != ".tmp"):
            there = target / path.name
            if not there.exists():
                shutil.copyfile(path, there)
            elif there.read_bytes() != path.read_bytes():
                raise UserError(f"{path} differs from that of {parts[0].source}", "one content a file", "leave one of the folders out")
