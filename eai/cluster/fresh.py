"""Which notebooks of the analysis need no second run: what went into each is remembered as one digest.

Into it go the notebook, its parameters, the package's source and the size and time of every table of the experiment: change any, and it
is run again.
"""

import hashlib
import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from eai import paths
from eai.cluster.notes import write_json

TABLES = ("windows.jsonl", "energies.jsonl", "idle.jsonl", "provenance.jsonl", "scores.parquet")


@cache
def source_digest() -> str:
    """A digest of every source file of the package."""
    digest = hashlib.sha256()
    for path in sorted(paths.PACKAGE.rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def tables_digest(experiment: Path) -> str:
    """A digest of the names, sizes and times of the experiment's tables: they are only ever appended to."""
    digest = hashlib.sha256()
    for folder in sorted(experiment.iterdir()):
        for name in TABLES:
            if (path := folder / name).exists():
                stat = path.stat()
                digest.update(f"{folder.name}/{name} {stat.st_size} {stat.st_mtime_ns}\n".encode())
    return digest.hexdigest()


class Freshness:
    """What is remembered of the last analysis of an experiment, in the coordinator's folder."""

    def __init__(self, experiment: Path, state: Path):
        self.experiment, self.path = experiment, state / "analysis.json"
        self._inputs = f"{source_digest()} {tables_digest(experiment)}"
        try:
            self._known: dict[str, str] = json.loads(self.path.read_text())
        except (OSError, ValueError):
            self._known = {}

    def _digest(self, name: str, parameters: Mapping[str, Any]) -> str:
        """The digest of one step."""
        notebook = paths.NOTEBOOKS / f"{name}.ipynb"
        text = notebook.read_text() + json.dumps(dict(parameters), sort_keys=True, default=str)
        return hashlib.sha256(f"{self._inputs} {text}".encode()).hexdigest()

    def is_fresh(self, name: str, parameters: Mapping[str, Any], result: Path) -> bool:
        """Whether the step's `result` is there and nothing that goes into it has changed."""
        return result.exists() and self._known.get(name) == self._digest(name, parameters)

    def remember(self, name: str, parameters: Mapping[str, Any]) -> None:
        """Note that the step has been run on what is there now."""
        self._known[name] = self._digest(name, parameters)
        write_json(self.path, self._known)
