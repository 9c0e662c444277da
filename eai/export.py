"""An experiment handed over: tidy tables in a script, or a folder that other tools and archives read.

`load("sample")` gives the tables as data frames. `export` writes them as Parquet or CSV, as a data set for the Hugging Face hub (a card
that names each table), as Croissant metadata beside CSV files (MLCommons Croissant 1.0, http://mlcommons.org/croissant/1.0), or into a
local MLflow store (an SQLite file), one run a configuration.
"""

import hashlib
import json
import re
from collections.abc import Callable
from datetime import date
from pathlib import Path

import pandas as pd

from eai import __version__, schema, tables
from eai.errors import UserError

CROISSANT_TYPES = {"str": "sc:Text", "int": "sc:Integer", "float": "sc:Float", "bool": "sc:Boolean", "list": "sc:Text"}
_TERMS = ("citeAs", "column", "equivalentProperty", "extract", "field", "fileProperty", "fileObject", "fileSet", "format", "includes",
          "isLiveDataset", "jsonPath", "key", "md5", "parentField", "path", "recordSet", "references", "regex", "repeated", "replace",
          "samplingRate", "separator", "source", "subField", "transform")  # fmt: skip
_CROISSANT = "http://mlcommons.org/croissant/"
_CONTEXT = {"@language": "en", "@vocab": "https://schema.org/", "sc": "https://schema.org/", "cr": _CROISSANT, "rai": f"{_CROISSANT}RAI/"}
_CONTEXT |= {"dct": "http://purl.org/dc/terms/", "conformsTo": "dct:conformsTo"}
_CONTEXT |= {key: {"@id": f"cr:{key}", "@type": kind} for key, kind in (("data", "@json"), ("examples", "@json"), ("dataType", "@vocab"))}
_CONTEXT |= {term: f"cr:{term}" for term in _TERMS}
"""The terms of Croissant 1.0 as its specification maps them."""


def load(experiment: str | Path) -> dict[str, pd.DataFrame]:
    """The tables of an experiment by name: windows, energies, idle, scores, and summary and comparisons where they were written.

    Columns and units are those of data/README.md. Raises UserError for an experiment without windows.
    """
    found = {name: getattr(tables, f"read_{name}")(experiment) for name in ("windows", "energies", "idle", "scores")}
    found |= {name: tables.read_result(experiment, name, optional=True) for name in ("summary", "comparisons")}
    return {name: frame for name, frame in found.items() if len(frame)}


def export(experiment: str, to: str, out: Path, licence: str = "") -> dict:
    """Write `experiment` as `to` (one of FORMATS) into the new folder `out`; returns `{experiment, format, files, tables}`.

    `licence`: an SPDX name for the card and the metadata; without one they say that none was stated. Raises UserError for an unknown
    format and for a folder that holds something already.
    """
    if to not in FORMATS:
        raise UserError(f"format '{to}'", f"one of {', '.join(FORMATS)}", "correct --to")
    if out.exists() and any(out.iterdir() if out.is_dir() else [out]):
        raise UserError(f"{out} holds something already", "a new or empty folder", "choose another --out")
    found = load(experiment)
    name = tables.experiment_dir(experiment).name
    out.mkdir(parents=True, exist_ok=True)
    FORMATS[to](found, out, name, licence)
    files = sorted(str(path.relative_to(out)) for path in out.rglob("*") if path.is_file())
    return {"experiment": name, "format": to, "out": str(out), "files": files, "tables": {k: len(v) for k, v in found.items()}}


def _flat(frame: pd.DataFrame) -> pd.DataFrame:
    """Lists as JSON text: a CSV cell or a typed column holds no list."""
    lists = [c for c in frame if frame[c].map(lambda cell: isinstance(cell, list)).any()]
    return frame.assign(**{c: frame[c].map(lambda cell: json.dumps(cell) if isinstance(cell, list) else cell) for c in lists})


def _parquet(found: dict[str, pd.DataFrame], out: Path, name: str, licence: str) -> None:
    for table, frame in found.items():
        _flat(frame).to_parquet(out / f"{table}.parquet", index=False)


def _csv(found: dict[str, pd.DataFrame], out: Path, name: str, licence: str) -> None:
    for table, frame in found.items():
        tables.without_formulas(_flat(frame)).to_csv(out / f"{table}.csv", index=False, float_format="%.10g")


def _about(found: dict[str, pd.DataFrame], name: str) -> str:
    """What the data are, in three sentences, from the tables themselves."""
    windows = found["windows"]
    basis = ", ".join(sorted(windows["basis"].dropna().unique()))
    what = f"{len(windows)} windows of {windows['configuration_id'].nunique()} configurations"
    where = f"{', '.join(sorted(windows['model'].unique()))} on {', '.join(sorted(windows['gpu'].unique()))}"
    return f"Energy of LLM inference, experiment {name}: {what}, {where}. Basis of the energies: {basis}. Written by eai {__version__}."


def _hf(found: dict[str, pd.DataFrame], out: Path, name: str, licence: str) -> None:
    """A folder ready for the hub: Parquet files under data/, and a card whose header names each table as a configuration."""
    (out / "data").mkdir()
    _parquet(found, out / "data", name, licence)
    configs = [f"- config_name: {table}\n  data_files: data/{table}.parquet" for table in found]
    head = ["---", f"license: {licence or 'unknown'}", "tags:\n- energy\n- llm\n- benchmark", "configs:", *configs, "---"]
    parts = [*head, f"\n# {name}\n", _about(found, name), "" if licence else "\nNo licence was stated.", "\n## Columns\n"]
    for table, frame in found.items():
        parts += [f"### {table}\n", "| column | unit | meaning |", "|---|---|---|"]
        known = {c.name: c for c in schema.TABLES[table]}
        parts += [f"| `{c}` | {known[c].unit} | {known[c].meaning} |" for c in frame if c in known] + [""]
    (out / "README.md").write_text("\n".join(parts) + "\n")


def _croissant(found: dict[str, pd.DataFrame], out: Path, name: str, licence: str) -> None:
    """CSV files and croissant.json: a file object with its digest and a record set a table."""
    _csv(found, out, name, licence)
    distribution, records = [], []
    for table, frame in found.items():
        file = out / f"{table}.csv"
        place = {"@id": file.name, "name": file.name, "contentUrl": file.name, "encodingFormat": "text/csv"}
        distribution.append({"@type": "cr:FileObject", **place, "sha256": hashlib.sha256(file.read_bytes()).hexdigest()})
        known, fields = {c.name: c for c in schema.TABLES[table]}, []
        for c in (known[name] for name in frame if name in known):
            kind = CROISSANT_TYPES["float" if c.kind == "int" and frame[c.name].isna().any() else c.kind]
            said = f"{c.meaning} [{c.unit}]" if c.unit else c.meaning
            own = {"@type": "cr:Field", "@id": f"{table}/{c.name}", "name": c.name, "description": said, "dataType": kind}
            fields.append(own | {"source": {"fileObject": {"@id": file.name}, "extract": {"column": c.name}}})
        records.append({"@type": "cr:RecordSet", "@id": table, "name": table, "field": fields})
    document = {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": f"{_CROISSANT}1.0",
        "name": re.sub(r"[^A-Za-z0-9_-]+", "-", name),
        "description": _about(found, name) + ("" if licence else " No licence was stated."),
        "citeAs": f"eai {__version__}, experiment {name}",
        "datePublished": date.today().isoformat(),
        "version": "1.0.0",
        **({"license": f"https://spdx.org/licenses/{licence}.html"} if licence else {}),
        "distribution": distribution,
        "recordSet": records,
    }
    (out / "croissant.json").write_text(json.dumps(document, indent=1) + "\n")


def _mlflow(found: dict[str, pd.DataFrame], out: Path, name: str, licence: str) -> None:
    """A local MLflow store: one run a configuration of the summary, its key as parameters and its numbers as metrics.

    Read it with `mlflow ui --backend-store-uri sqlite:///mlflow.db`.
    """
    import mlflow

    if "summary" not in found:
        raise UserError(f"{name} has no summary", "an analyzed experiment", f"run `eai notebook analyze -p experiment={name}` first")
    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{(out / 'mlflow.db').resolve()}")
    experiment_id = client.create_experiment(name, tags={"about": _about(found, name)})
    numbers = {c.name for c in schema.TABLES["summary"] if c.kind in ("int", "float")}
    keys = ("configuration_id", *schema.CONFIGURATION)
    for row in found["summary"].to_dict("records"):
        title = f"{row['quantization']} batch {row['batch_size']} {row['task']}"
        run = client.create_run(experiment_id, run_name=title, tags={"basis": str(row["basis"]), "gate": str(row["gate"])})
        for key in keys:
            client.log_param(run.info.run_id, key, row[key])
        for column in numbers - set(keys):
            if column in row and pd.notna(row[column]):
                client.log_metric(run.info.run_id, column, float(row[column]))
        client.set_terminated(run.info.run_id)


FORMATS: dict[str, Callable[[dict[str, pd.DataFrame], Path, str, str], None]]
FORMATS = {"parquet": _parquet, "csv": _csv, "hf": _hf, "mlflow": _mlflow, "croissant": _croissant}
