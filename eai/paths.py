"""Directories of the repository, found from this file and never from the working directory.

papermill runs a notebook in the caller's directory, nbval in the notebook's: relative paths would differ.
`EAI_DATA` and `EAI_FIGURES` move the written parts elsewhere (tests, a scratch disk); `EAI_CACHE` moves converted models.
"""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = ROOT / "notebooks"
PACKAGED_DATA = ROOT / "data"
SAMPLE = PACKAGED_DATA / "sample"
MEASURED = PACKAGED_DATA / "measured"
CATALOG = PACKAGED_DATA / "catalog"
PUBLISHED = PACKAGED_DATA / "published"
SCHEMA = PACKAGED_DATA / "schema.csv"


def runs() -> Path:
    """The directory that holds one folder an experiment."""
    return Path(os.environ.get("EAI_DATA", PACKAGED_DATA)) / "runs"


def figures() -> Path:
    """The directory that holds the executed notebooks and figures, one folder an experiment."""
    return Path(os.environ.get("EAI_FIGURES", ROOT / "figures"))


def cache() -> Path:
    """The user's cache folder for converted models and probed sensors; created by whoever writes there."""
    default = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "eai"
    return Path(os.environ.get("EAI_CACHE", default))
