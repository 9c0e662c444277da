"""The verdicts on the published tables that come with the project, computed once and kept."""

import hashlib
from contextlib import suppress
from pathlib import Path

import pandas as pd

from eai import importers, paths, tables


def verdicts(measured: pd.DataFrame | None = None) -> pd.DataFrame:
    """`verdicts.all_verdicts` of the published tables, kept in the cache folder under a digest of what they rest on.

    The digest covers the published tables, the catalog and the code of the checks, so that a stale answer is never read; verdicts against
    an experiment are computed anew.
    """
    here, digest = Path(__file__).parent, hashlib.sha256()
    code = (*here.glob("*.*"), *Path(importers.__file__).parent.glob("*"), *here.parent.glob("*.py"))
    for path in sorted(p for p in (*paths.PUBLISHED.glob("*.csv"), *paths.CATALOG.glob("*.csv"), *code) if p.is_file()):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    kept = paths.cache() / f"verdicts-{digest.hexdigest()[:32]}.parquet"
    if measured is None:
        with suppress(OSError, ValueError):
            return pd.read_parquet(kept)
    from eai.claims.verdicts import all_verdicts

    found = all_verdicts({name: tables.read_published(name) for name in tables.published_names()}, measured)
    if measured is None:
        with suppress(OSError):
            kept.parent.mkdir(parents=True, exist_ok=True)
            part = kept.with_suffix(f".{id(found)}.part")
            found.astype(str).to_parquet(part, index=False)
            part.replace(kept)
    return found
