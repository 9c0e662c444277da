"""Hand-over: the same numbers in every format, cards and metadata that name each table, no formula in a CSV."""

import json

import pandas as pd
import pytest

import eai as package
from eai import export, schema, tables
from eai.errors import UserError


def test_load_gives_the_tables_with_registered_columns():
    found = package.load("sample")
    assert set(found) == {"windows", "energies", "scores", "summary", "comparisons"}  # an estimate has no idle power
    for name, frame in found.items():
        assert len(frame) and set(frame.columns) <= {c.name for c in schema.TABLES[name]}


@pytest.mark.parametrize(("to", "suffix"), [("parquet", "parquet"), ("csv", "csv"), ("hf", "parquet")])
def test_the_numbers_come_back(eai, tmp_path, to, suffix):
    code, out, _ = eai("export", "sample", "--to", to, "--out", tmp_path / "x", "--json")
    answer = json.loads(out)
    folder = tmp_path / "x" / ("data" if to == "hf" else "")
    read = pd.read_parquet if suffix == "parquet" else pd.read_csv
    back, summary = read(folder / f"summary.{suffix}"), tables.read_result("sample", "summary")
    assert code == 0 and answer["tables"]["summary"] == len(summary)
    pd.testing.assert_series_equal(back["energy_j_per_token"], summary["energy_j_per_token"], rtol=1e-9)
    assert len(read(folder / f"windows.{suffix}")) == len(tables.read_windows("sample"))


def test_the_card_names_each_table_and_says_what_it_does_not_know(eai, tmp_path):
    import yaml

    eai("export", "sample", "--to", "hf", "--out", tmp_path / "x")
    _, head, text = (tmp_path / "x" / "README.md").read_text().split("---\n", 2)
    card = yaml.safe_load(head)
    assert all((tmp_path / "x" / c["data_files"]).exists() for c in card["configs"]) and len(card["configs"]) == 5
    assert card["license"] == "unknown" and "No licence was stated" in text and "estimated" in text


def test_croissant_describes_every_file_by_its_digest(eai, tmp_path):
    import hashlib

    eai("export", "sample", "--to", "croissant", "--out", tmp_path / "x", "--licence", "Apache-2.0")
    document = json.loads((tmp_path / "x" / "croissant.json").read_text())
    for file in document["distribution"]:
        assert file["sha256"] == hashlib.sha256((tmp_path / "x" / file["contentUrl"]).read_bytes()).hexdigest()
    columns = {r["name"]: {f["source"]["extract"]["column"] for f in r["field"]} for r in document["recordSet"]}
    for name, named in columns.items():
        assert named == set(pd.read_csv(tmp_path / "x" / f"{name}.csv", nrows=0).columns)
    mlcroissant = pytest.importorskip("mlcroissant", reason="the validator is not part of the tested set")
    assert mlcroissant.Dataset(jsonld=document).metadata.name == "sample"


def test_mlflow_holds_one_run_a_configuration(eai, tmp_path):
    mlflow = pytest.importorskip("mlflow", reason="needs the extra 'mlflow'")
    code, _, _ = eai("export", "sample", "--to", "mlflow", "--out", tmp_path / "x")
    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{tmp_path / 'x' / 'mlflow.db'}")
    summary = tables.read_result("sample", "summary")
    runs = client.search_runs([client.get_experiment_by_name("sample").experiment_id])
    assert code == 0 and len(runs) == len(summary)
    by_id = summary.set_index("configuration_id")["eor"].dropna()
    found = {r.data.params["configuration_id"]: r.data.metrics["eor"] for r in runs if "eor" in r.data.metrics}
    assert found == pytest.approx(by_id.to_dict())


def test_no_cell_of_a_csv_is_a_formula():
    frame = pd.DataFrame({"gpu": ["=1+1", "a100", "@x", None], "x": [-1.0, 2.0, 3.0, 4.0]})
    found = tables.without_formulas(frame)
    assert found["gpu"].tolist()[:3] == ["'=1+1", "a100", "'@x"] and found["x"].tolist() == [-1.0, 2.0, 3.0, 4.0]


@pytest.mark.parametrize(("to", "words"), [("excel", "one of parquet"), ("csv", "holds something already")])
def test_what_cannot_be_written_is_one_line(tmp_path, to, words):
    (tmp_path / "kept").write_text("x")
    with pytest.raises(UserError, match=words):
        export.export("sample", to, tmp_path)
    assert (tmp_path / "kept").read_text() == "x"
