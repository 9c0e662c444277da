"""Published figures, recomputed: general checks on any table, and a verdict on every claim. Read in this order::

    tabular      one table ready to be checked (names, units, how finely figures are printed), and what a check says of its rows
    relations    figures that define one another, in logarithms with the width that rounding leaves; what no device gives
    chance       what chance does not give, and what stands twice
    checks       all of them on a table, a source or a stranger's file; the false-alarm rate is shared out here
    evaluate     a claim against its own source: the rows it is about, and one function a kind of claim
    evidence     the same claims against an experiment, and against what independent public sources measured
    verdicts     every claim and table, one row a verdict; commands: on a terminal

No check names a GPU, a model or a file: what is specific stands in data/published/claims.csv.
"""


def every_verdict(measured=None):
    """`verdicts.all_verdicts` of the published tables, kept in the cache folder under a digest of what they rest on. The digest covers the
    published tables, the catalog and the code of the checks, so that a stale answer is never read; verdicts against an experiment are
    computed anew."""
    import hashlib
    from contextlib import suppress
    from pathlib import Path

    import pandas as pd

    from eai import importers, paths, tables

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
