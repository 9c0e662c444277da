"""Results of several machines as one experiment: every line kept as it was written, every contradiction refused.

    A/job-1   A/job-2          B/job-2   B/job-3
       |         +--- one union ---+        |
    out/job-1          out/job-2        out/job-3      out/merge.json: from where, and what is odd about it

A window found twice is the same measurement copied, or the same values measured again (a simulated card does that): it is taken
once. Anything else is two answers to one question, and refused. The result is built beside its place and renamed into it, so that it is
there whole or not at all; nothing that exists is written over.
"""

import hashlib
import itertools
import json
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from eai import tables
from eai.cluster.merge_part import Part, check_rows, odd_clocks, require_quiet
from eai.cluster.merge_union import LINES, copy_rest, kept_attempts, union, write_tables
from eai.errors import UserError
from eai.jobs import SAME_THROUGHOUT


@dataclass
class Merged:
    """What became of a merge: windows a job, how many were found twice, and what a reader should know."""

    jobs: list[dict] = field(default_factory=list)
    found_twice: int = 0
    warnings: list[str] = field(default_factory=list)


def merge(sources: Sequence[str | Path], out: Path) -> dict:
    """Merge experiments into the new folder `out`; returns `{experiment, jobs, windows, found_twice, warnings}`.

    Raises UserError for a source that is none or is being written, an `out` that exists, rows that do not fit this version's registry,
    one job of two cards or two protocols, and a window with two different contents.
    """
    folders, out = _folders(sources), Path(out).resolve()
    _require_free(out, folders)
    merged, groups = Merged(), _groups(folders)
    building = _beside(out)
    try:
        for job, parts in groups.items():
            _write_job(building / job, parts, merged)
        merged.warnings += _differing_protocols(groups) + _differing_versions(groups) + _renamed_cards(groups)
        answer = {"jobs": merged.jobs, "windows": sum(j["windows"] for j in merged.jobs), "found_twice": merged.found_twice}
        answer |= {"warnings": merged.warnings}
        record = {"at": datetime.now(UTC).isoformat(timespec="seconds"), "sources": _origins(groups)} | answer
        (building / "merge.json").write_text(json.dumps(record, indent=1) + "\n")
        building.chmod(0o755)
        building.rename(out)
    except OSError as error:
        what = error.strerror or type(error).__name__
        raise UserError(
            f"cannot merge into {out} ({what})", "sources to read and room to write", "check them, or choose another --out"
        ) from None
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return {"experiment": str(out)} | answer


def _folders(sources: Sequence[str | Path]) -> list[Path]:
    folders = [tables.experiment_dir(source) for source in sources]
    if not folders:
        raise UserError("no folder to merge", "at least one experiment", "name their folders")
    if len(set(folders)) < len(folders):
        raise UserError("a folder is named twice", "different experiments", "name each once")
    return folders


def _require_free(out: Path, folders: list[Path]) -> None:
    if out.is_file() or (out.is_dir() and any(out.iterdir())):
        raise UserError(f"{out} exists already", "a new folder", "choose another --out; nothing is written over")
    if inside := [f for f in folders if f == out or f in out.parents]:
        raise UserError(f"{out} lies in the source {inside[0]}", "a folder beside the sources", "choose another --out")


def _beside(out: Path) -> Path:
    """A new folder beside `out`, on the same file system, so that a rename is all that is left in the end."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    except OSError as error:
        raise UserError(f"cannot write beside {out} ({error.strerror})", "a writable place", "choose another --out") from None


def _groups(folders: list[Path]) -> dict[str, list[Part]]:
    """The parts of each job by its folder's name. Raises UserError for a source without windows, or one that is being written."""
    groups: dict[str, list[Part]] = {}
    for folder in folders:
        for directory in tables.job_dirs(folder):
            require_quiet(directory)
            groups.setdefault(directory.name, []).append(Part(folder, directory))
    return groups


def _write_job(target: Path, parts: list[Part], merged: Merged) -> None:
    """Write one job from its parts after every check on it."""
    for part in parts:
        check_rows(part)
        merged.warnings += list(odd_clocks(part))
        merged.warnings += [f"1 torn line left out of {part.label}/{name}.jsonl" for name in LINES if part.is_torn(name)]
    for one, other in itertools.combinations(parts, 2):
        _require_same_card(one, other)
        _require_same_protocol(one, other)
    target.mkdir(parents=True)
    kept = kept_attempts(parts)
    written = {name: union(parts, name, kept) for name in LINES}
    for name, lines in written.items():
        if lines:
            (target / f"{name}.jsonl").write_bytes(b"".join(line + b"\n" for line in lines))
    write_tables(target, parts, kept)
    copy_rest(target, parts)
    keys = [key for part in parts for key in part.attempts]
    merged.found_twice += len(keys) - len(set(keys))
    merged.jobs.append({"job": target.name, "windows": len(set(keys)), "sources": [p.source.name for p in parts]})


def _require_same_card(one: Part, other: Part) -> None:
    if one.devices and other.devices and not one.devices & other.devices:
        raise UserError(
            f"{one.directory} and {other.directory} have one name but were measured on {', '.join(sorted(one.devices))} and "
            f"{', '.join(sorted(other.devices))}",
            "one card a job",
            "rename one of the folders and its rows, or merge them apart",
        )


def _protocols(parts: list[Part]) -> dict[str, set[str]]:
    """The values that each setting of the protocol took."""
    return {
        name: {json.dumps(line["settings"].get(name)) for part in parts for line in part.provenance if "settings" in line}
        for name in SAME_THROUGHOUT
    }


def _require_same_protocol(one: Part, other: Part) -> None:
    differing = [name for name, values in _protocols([one, other]).items() if len(values) > 1]
    if differing:
        raise UserError(
            f"{one.directory} and {other.directory} were measured with another {', '.join(differing)}",
            "one protocol a job",
            "merge them apart",
        )


def _differing_protocols(groups: dict[str, list[Part]]) -> list[str]:
    """Settings of the protocol that differ between jobs: within a job they are refused, between jobs a reader must know."""
    values = _protocols([part for parts in groups.values() for part in parts])
    return [f"jobs were measured with another {name}: {', '.join(sorted(v))}" for name, v in values.items() if len(v) > 1]


def _differing_versions(groups: dict[str, list[Part]]) -> list[str]:
    """Versions of the software that differ between the runs merged."""
    lines = [line for parts in groups.values() for part in parts for line in part.provenance]
    names = sorted({name for line in lines for name in line.get("versions", {})})
    found = {name: sorted({str(line.get("versions", {}).get(name)) for line in lines}) for name in names}
    return [f"runs with different versions of {name}: {', '.join(v)}" for name, v in found.items() if len(v) > 1]


def _renamed_cards(groups: dict[str, list[Part]]) -> list[str]:
    """Cards that stand under two names, as when a catalog learned of one between two runs: their jobs are not compared with each other."""
    names: dict[str, set[str]] = {}
    for job, parts in ((j, p) for j, p in groups.items() if "--" in j):
        for card in {card["uuid"] for part in parts for line in part.provenance for card in line.get("meter", {}).get("cards", [])}:
            names.setdefault(card, set()).add(job.partition("--")[0])
    return [f"card {card} stands under {len(n)} names: {', '.join(sorted(n))}" for card, n in names.items() if len(n) > 1]


def _origins(groups: dict[str, list[Part]]) -> list[dict]:
    """Where each job came from: the source's name, its windows, and a digest of the file as it was read; no path of the machine."""
    return [
        {
            "source": part.source.name,
            "job": job,
            "windows": len(part.attempts),
            "sha256": hashlib.sha256((part.directory / "windows.jsonl").read_bytes()).hexdigest(),
        }
        for job, parts in groups.items()
        for part in parts
    ]
