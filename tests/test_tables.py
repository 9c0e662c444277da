"""Finding experiments and reading tables: names, missing files, empty results."""

import pandas as pd
import pytest

from eai import paths, schema, tables
from eai.errors import UserError


def test_names_lead_to_folders(scratch):
    assert tables.experiment_dir("sample") == paths.SAMPLE
    assert tables.experiment_dir("mine") == scratch / "data" / "runs" / "mine"
    assert tables.experiment_dir(scratch) == scratch
    assert tables.experiment_dir(str(scratch / "new")) == scratch / "new"


@pytest.mark.parametrize("bad", ["", ".", ".."])
def test_a_name_that_is_none_is_refused(bad):
    with pytest.raises(UserError):
        tables.experiment_dir(bad)


def test_a_run_wins_over_a_folder_of_the_same_name(scratch, monkeypatch):
    (scratch / "mine").mkdir()
    monkeypatch.chdir(scratch)
    assert tables.experiment_dir("mine") == scratch / "mine"
    (scratch / "data" / "runs" / "mine").mkdir(parents=True)
    assert tables.experiment_dir("mine") == scratch / "data" / "runs" / "mine"


def test_results_are_written_and_read_back(scratch):
    frame = pd.DataFrame({"a": [1.5, None], "b": ["x", "y"]})
    path = tables.write_result("mine", "summary", frame)
    assert path == scratch / "data" / "runs" / "mine" / "summary.csv"
    pd.testing.assert_frame_equal(tables.read_result("mine", "summary"), frame)
    assert not list(path.parent.glob("*.tmp"))


def test_missing_tables_say_what_to_run(scratch):
    with pytest.raises(UserError, match="analyze"):
        tables.read_result("mine", "summary")
    with pytest.raises(UserError, match="eai run"):
        tables.read_windows("mine")
    with pytest.raises(UserError, match="no published table"):
        tables.read_published("nothing")


def test_published_and_catalog_tables_read():
    assert {"gpus", "models", "tasks", "electricity", "aliases"} <= {p.stem for p in paths.CATALOG.glob("*.csv")}
    assert all(len(tables.read_published(name)) for name in tables.published_names())
    assert len(tables.read_catalog("gpus")) > 10


def test_the_sample_fits_the_registry():
    """A column that was registered after the recording is empty in it; nothing else may differ."""

    def wrong(table, rows):
        return [problem for problem in schema.problems(table, rows) if not problem.endswith("is missing")]

    windows = tables.read_windows("sample")
    assert list(windows) == [c.name for c in schema.WINDOWS]
    for job in tables.job_dirs("sample"):
        assert wrong("windows", tables.read_jsonl(job / "windows.jsonl")) == []
        assert wrong("energies", tables.read_jsonl(job / "energies.jsonl")) == []
    assert windows["status"].eq("ok").all()


def test_an_unregistered_column_has_no_unit():
    with pytest.raises(KeyError):
        schema.column("watts_or_so")
    assert schema.column("energy_j_per_token").label == "energy per output token [J]"


def test_results_of_committed_data_go_to_the_users_folder(scratch):
    """A table like the committed one is not kept: it would outlive the next release of the data."""
    own = tables.results_dir("sample")
    assert own == scratch / "data" / "runs" / "sample" and tables.results_dir("mine") == tables.experiment_dir("mine")
    committed = tables.read_result("sample", "comparisons")
    path = tables.write_result("sample", "comparisons", committed.assign(baseline="bf16"))
    assert path.parent == own and set(tables.read_result("sample", "comparisons")["baseline"]) == {"bf16"}
    tables.write_result("sample", "comparisons", pd.read_csv(paths.SAMPLE / "comparisons.csv"))
    named = tables.write_result("sample", "comparisons", committed, scratch / "there")
    assert named == scratch / "there" / "comparisons.csv" and len(tables.read_result("sample", "comparisons", scratch / "there")) == 16


@pytest.mark.parametrize("content", [b"", b"a,b\n1,2\n3,4,5,6\n", b"\xff\xfe\x00"])
def test_a_damaged_table_is_one_line(content, scratch):
    path = tables.write_result("mine", "summary", pd.DataFrame({"a": [1]}))
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"summary.csv is damaged .*analyze"):
        tables.read_result("mine", "summary")
