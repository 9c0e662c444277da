"""Directories: of the checkout, or of the installed package and the current folder; never relative to a notebook.

In a checkout the sourced tables, the sample and the notebooks stand in it, and results go to its `data/runs` and `figures`. Installed
by pip, the same files lie in the package's folder `share`, and results go to `data/runs` and `figures` of the current folder.
`EAI_DATA` and `EAI_FIGURES` move the written parts elsewhere (tests, a scratch disk); `EAI_CACHE` moves converted models and fits.
"""

import os
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent
IS_CHECKOUT = (PACKAGE.parent / "data" / "schema.csv").exists()
ROOT = PACKAGE.parent if IS_CHECKOUT else PACKAGE / "share"
NOTEBOOKS = ROOT / "notebooks"
WORKFLOW = ROOT / "workflow"
PACKAGED_DATA = ROOT / "data"
SAMPLE = PACKAGED_DATA / "sample"
MEASURED = PACKAGED_DATA / "measured"
CATALOG = PACKAGED_DATA / "catalog"
PUBLISHED = PACKAGED_DATA / "published"
SCHEMA = PACKAGED_DATA / "schema.csv"


def results() -> Path:
    """The directory under which results are written: the checkout, else the current folder."""
    return ROOT if IS_CHECKOUT else Path.cwd()


def runs() -> Path:
    """The directory that holds one folder an experiment."""
    return Path(os.environ.get("EAI_DATA", results() / "data")) / "runs"


def figures() -> Path:
    """The directory that holds the executed notebooks and figures, one folder an experiment."""
    return Path(os.environ.get("EAI_FIGURES", results() / "figures"))


def cache() -> Path:
    """The user's cache folder for converted models, probed sensors and fits; created by whoever writes there."""
    default = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "eai"
    return Path(os.environ.get("EAI_CACHE", default))
