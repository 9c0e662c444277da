"""The notes of a sweep, small files in the coordinator's folder that all its processes see: written whole, and who works on which job.

Slurm may start a job again while its first start lives on: on a node whose daemon has died, or that the controller no longer reaches,
processes go on computing although their job counts as cancelled or waits in the queue again. So each start writes a claim, a new
coordinator revokes them all, and whoever reads that the claim is no longer its own ends itself. The claim also remembers in
which node each card is, so that a job can be sent back to the card that it began on.
"""

import json
import os
import platform
import secrets
from dataclasses import dataclass
from pathlib import Path

from eai import lease, provenance


def write_json(path: Path, document: dict) -> None:
    """Write a document under another name and rename it: whoever sees the file sees all of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(document))
    temporary.replace(path)


@dataclass(frozen=True)
class Claim:
    """What a process has written to `path`: that the job is its own."""

    path: Path
    token: str

    def is_held(self) -> bool:
        """Whether nobody has claimed the job after this process; a file that cannot be read is no news."""
        try:
            return json.loads(self.path.read_text())["token"] == self.token
        except (OSError, ValueError, KeyError):
            return True


def claim(state: Path, job: str, gpu: str) -> Claim:
    """Claim a job for this process, and note the cards that it may measure on with the node they are in."""
    node = os.environ.get("SLURMD_NODENAME") or platform.node()
    here = [provenance.machine_mark()] if gpu == "cpu" else [card.mark for card in lease.present(gpu)]
    return _write(_claim_path(state, job), nodes(state, job) | dict.fromkeys(here, node))


def revoke(state: Path) -> None:
    """End whatever still works on jobs of this sweep, before they are started anew."""
    for path in (state / "claims").glob("*.json"):
        _write(path, nodes(state, path.stem))


def _write(path: Path, known: dict[str, str]) -> Claim:
    found = Claim(path, secrets.token_hex(8))
    write_json(path, {"token": found.token, "nodes": known})
    return found


def nodes(state: Path, job: str) -> dict[str, str]:
    """The node of each card, by its mark, that was ever within the job's reach; empty for a job that nobody claimed."""
    try:
        return json.loads(_claim_path(state, job).read_text())["nodes"]
    except (OSError, ValueError, KeyError):
        return {}


def _claim_path(state: Path, job: str) -> Path:
    return state / "claims" / f"{job}.json"
