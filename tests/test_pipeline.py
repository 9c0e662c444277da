"""The four notebooks from end to end, against tables recomputed here with plain pandas and textbook formulas."""

import base64
import io
import json
import math
import shutil
import subprocess
import sys

import nbformat
import numpy as np
import pandas as pd
import pytest
from scipy import stats

from eai import notebooks, paths, runs, schema, settings, tables
from eai.analyze.comparison import compare
from eai.errors import UserError

CELL = ["task", "quantization", "batch_size"]
WATTS_PER_THREAD = 4.0
NAMING = {
    *schema.CONFIGURATION,
    "server",
    "traffic",
    "scenario",
    "block",
    "load",
    "phase",
    "tasks",
    "device_id",
    "kind",
    "status",
    "reason",
}
NAMING |= {"configuration_id", "factor"}
"""Columns that name a row."""


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    """The sample copied to a folder of its own and analyzed, compared and plotted there."""
    root = tmp_path_factory.mktemp("pipeline")
    experiment = root / "sample"
    shutil.copytree(paths.SAMPLE, experiment)
    for result in experiment.glob("*.csv"):
        if result.stem != "depth_errors":  # made of loaded models, not of windows
            result.unlink()
    for name in ("analyze", "compare"):
        notebooks.execute(name, {"experiment": str(experiment)}, root / "figures")
    notebooks.execute("plot", {"experiment": str(experiment), "figures_dir": str(root / "figures")}, root / "figures")
    notebooks.execute("claims", {"figures_dir": str(root / "figures")}, root / "figures")
    return root


@pytest.fixture(scope="module")
def by_hand() -> pd.DataFrame:
    """Joules per output token of each window from the raw readings: CPU seconds x 4 W over tokens, read with json and pandas alone."""
    (job,) = [path for path in paths.SAMPLE.iterdir() if path.is_dir()]
    windows = pd.DataFrame([json.loads(line) for line in (job / "windows.jsonl").read_text().splitlines()])
    samples = pd.concat([pd.read_parquet(path) for path in sorted((job / "samples").glob("*.parquet"))])
    cpu = samples[samples["field"].isin(["cpu_time_s", "child_cpu_time_s"])]
    spent_s = cpu.groupby(["attempt", "field"])["value"].agg(lambda v: v.max() - v.min()).groupby("attempt").sum()
    windows["j_per_token"] = windows["attempt"].map(spent_s) * WATTS_PER_THREAD / windows["tokens_out"]
    windows["j_per_request"] = windows["j_per_token"] * windows["tokens_out"] / windows["requests"]
    windows["tok_s"] = windows["tokens_out"] / windows["duration_s"]
    items = pd.read_parquet(job / "scores.parquet")
    windows["score"] = windows["attempt"].map(items.groupby("attempt")["score"].mean())
    windows["items"] = windows["attempt"].map(items.groupby("attempt")["item"].nunique())
    windows["s_per_request"] = windows["duration_s"] / windows["requests"]
    return windows[[*CELL, "block", "j_per_token", "j_per_request", "s_per_request", "tok_s", "score", "items"]]


def log_t(values: pd.Series) -> tuple[float, float, float]:
    """Geometric mean and 95 % t interval on the log scale, textbook formula."""
    logs = np.log(values)
    half = stats.t.ppf(0.975, len(logs) - 1) * logs.std(ddof=1) / math.sqrt(len(logs))
    return tuple(np.exp([logs.mean(), logs.mean() - half, logs.mean() + half]))


def test_summary_is_what_a_reader_would_compute(executed, by_hand):
    summary = tables.read_result(executed / "sample", "summary").set_index(CELL)
    assert len(summary) == 20
    for cell, rows in by_hand.groupby(CELL):
        found = summary.loc[cell]
        value, low, high = log_t(rows["j_per_token"])
        names = ["energy_j_per_token", "energy_j_per_token_low", "energy_j_per_token_high"]
        assert found[names].tolist() == pytest.approx([value, low, high], rel=1e-6)
        assert found["throughput_tok_s"] == pytest.approx(log_t(rows["tok_s"])[0], rel=1e-6)
        assert found["tokens_per_j"] == pytest.approx(1 / value, rel=1e-6)
        assert found["n_blocks"] == len(rows)
        paid = rows["j_per_token" if cell[0] == "generate" else "j_per_request"]
        cv = paid.std(ddof=1) / paid.mean()
        assert found["gate"] == ("ok" if cv <= 0.02 else "noisy" if cv <= 0.05 else "rejected")
    assert set(summary["basis"]) == {"estimated"}


def test_scores_over_energy_are_what_a_reader_would_compute(executed, by_hand):
    """EOR = score / Wh and TWEOR = score / (Wh s) of one pass over the items, from the raw readings and the item scores."""
    summary = tables.read_result(executed / "sample", "summary").set_index(CELL)
    for cell, rows in by_hand[by_hand["task"] != "generate"].groupby(CELL):
        found = summary.loc[cell]
        wh = log_t(rows["j_per_request"] * rows["items"])[0] / 3600
        pass_s = log_t(rows["s_per_request"] * rows["items"])[0]
        assert rows["score"].nunique() == 1 and found["score"] == pytest.approx(rows["score"].iloc[0])
        assert found["eor"] == pytest.approx(found["score"] / wh, rel=1e-3)
        assert found["tweor"] == pytest.approx(found["score"] / (wh * pass_s), rel=1e-3)
        assert found["energy_j_per_correct"] == pytest.approx(3600 / (found["eor"] * found["n_items"]), rel=1e-3)
    assert (summary["eor"].isna() == (summary.index.get_level_values("task") == "generate")).all()


def test_comparisons_are_paired_t_tests_with_holm(executed, by_hand):
    comparisons = tables.read_result(executed / "sample", "comparisons").set_index(CELL)
    p = {}
    for task, quantization, batch in comparisons.index:
        paid = "j_per_token" if task == "generate" else "j_per_request"
        wide = np.log(by_hand[by_hand["task"] == task].pivot_table(index="block", columns=["quantization", "batch_size"], values=paid))
        difference = wide[quantization, batch] - wide["fp32", batch]
        test = stats.ttest_rel(wide[quantization, batch], wide["fp32", batch])
        interval = test.confidence_interval(0.95)
        found = comparisons.loc[(task, quantization, batch)]
        names = ["ratio_to_baseline", "ratio_to_baseline_low", "ratio_to_baseline_high"]
        assert found[names].tolist() == pytest.approx(np.exp([difference.mean(), interval.low, interval.high]), rel=1e-6)
        assert found["p"] == pytest.approx(test.pvalue, rel=1e-6)
        p[task, quantization, batch] = test.pvalue
    ranked = sorted(p, key=p.get)
    adjusted = np.minimum(1, np.maximum.accumulate([p[cell] * (len(p) - i) for i, cell in enumerate(ranked)]))
    assert [comparisons.loc[cell, "p_holm"] for cell in ranked] == pytest.approx(adjusted.tolist(), rel=1e-6)


def cells_of(executed, name: str) -> list:
    """The code cells of an executed notebook."""
    return [c for c in nbformat.read(executed / "figures" / f"{name}.ipynb", as_version=4).cells if c.cell_type == "code"]


def without_image(cells) -> list[str]:
    """The figure cells that show no picture and do not say why."""
    figures = [c for c in cells if "plots.show(" in c.source]
    assert figures, "no figure cell found"
    shown = [any("image/png" in o.get("data", {}) for o in c.outputs) for c in figures]
    why = ["Not drawn: " in "".join(o.get("text", "") for o in c.outputs) for c in figures]
    return [c.source for c, image, said in zip(figures, shown, why, strict=True) if not image and not said]


def test_every_figure_cell_shows_its_figure_and_says_what_it_shows(executed):
    cells = cells_of(executed, "plot")
    assert without_image(cells) == []
    images = [o["data"]["image/png"] for c in cells for o in c.outputs if "image/png" in o.get("data", {})]
    assert len(images) >= 11 and all(base64.b64decode(image).startswith(b"\x89PNG") for image in images)
    figures = [c for c in cells if "plots.show(" in c.source]
    assert all("".join(o.get("text", "") for o in c.outputs).strip().endswith(".") for c in figures)


def alike(table: pd.DataFrame) -> bool:
    """Whether two rows of a table cannot be told from one another by what names a configuration, load, scenario or place."""
    keys = [c for c in table if c in NAMING]
    return bool(keys) and bool(table.duplicated(keys).any())


def test_every_row_of_every_table_can_be_told_from_the_others(executed):
    shown = [(name, o["data"]["text/html"]) for name in ("analyze", "compare", "plot") for c in cells_of(executed, name)
             for o in c.outputs if "text/html" in o.get("data", {})]  # fmt: skip
    tables_shown = [(name, pd.read_html(io.StringIO(html))[0]) for name, html in shown]
    assert len(tables_shown) >= 10
    assert not [(name, list(table)) for name, table in tables_shown if alike(table)]


@pytest.mark.parametrize("name", ["analyze", "compare", "plot"])
def test_every_check_prints_a_table_of_rows_that_differ(executed, name):
    (check,) = [c for c in cells_of(executed, name) if "nbval-check-output" in c.metadata.get("tags", [])]
    text = "".join(o.text for o in check.outputs)
    rows = [line.split() for line in text.splitlines()]
    assert len(rows) > 2 and "Empty DataFrame" not in text
    if name != "plot":
        table = pd.DataFrame([row for row in rows[1:] if len(row) == len(rows[0])], columns=rows[0])
        assert len(table) == (20 if name == "analyze" else 16) and not alike(table)
        assert rows[-1] == text.splitlines()[-1].split() and text.splitlines()[-1].endswith(".")


def test_the_checks_above_can_fail(executed):
    """A bare figure, as it was once, shows no picture; a table without its task has rows that contradict each other."""
    bare = nbformat.v4.new_code_cell("plots.show(fig)", outputs=[nbformat.v4.new_output("display_data", {"text/plain": "<Figure size 1>"})])
    assert without_image([bare]) == ["plots.show(fig)"]
    summary = tables.read_result(executed / "sample", "summary")
    assert alike(summary[["quantization", "batch_size", "energy_j_per_token"]]) and not alike(
        summary[["quantization", "batch_size", "task"]]
    )


def test_the_notebook_and_the_package_give_the_same_comparisons(executed):
    """The cells of `compare` and `analyze.comparison.compare` are two ways to one table."""
    found = tables.read_result(executed / "sample", "comparisons").set_index("configuration_id")
    package = compare(tables.read_windows("sample"), tables.read_energies("sample")).set_index("configuration_id")
    committed = pd.read_csv(paths.SAMPLE / "comparisons.csv").set_index("configuration_id")
    for other in (package, committed):
        numbers = [c for c in other if other[c].dtype.kind == "f"]
        assert found.loc[other.index, numbers].to_numpy(float) == pytest.approx(other[numbers].to_numpy(float), rel=1e-9, nan_ok=True)
        assert (found.loc[other.index, ["outcome", "method", "family"]] == other[["outcome", "method", "family"]]).all().all()


def test_looking_at_the_sample_changes_nothing_committed(scratch, monkeypatch):
    """Another baseline in `compare` goes to the user's own folder, is read from there on, and leaves data/sample as it was."""
    before = {path: path.read_bytes() for path in paths.SAMPLE.glob("*.csv")}
    notebooks.execute("compare", {"experiment": "sample", "baseline": "nf4_dq"}, scratch / "out")
    assert {path: path.read_bytes() for path in paths.SAMPLE.glob("*.csv")} == before
    own = tables.read_result("sample", "comparisons")
    assert set(own["baseline"]) == {"nf4_dq"} and (scratch / "data" / "runs" / "sample" / "comparisons.csv").exists()


def test_one_strategy_alone_is_nothing_to_compare(scratch):
    """An hour of FP32 (data/measured/drift-hour-cpu): a comparison without a row, and not an error of types."""
    executed = notebooks.execute("compare", {"experiment": "drift-hour-cpu", "results": str(scratch)}, scratch / "out")
    check = nbformat.read(executed, 4).cells[-2]
    assert check.outputs[0].text == "Nothing to compare: only the baseline was measured.\n"
    assert tables.read_result("drift-hour-cpu", "comparisons", str(scratch)).empty


def test_figures_are_drawn_and_say_that_energy_is_estimated(executed):
    drawn = {path.name for path in (executed / "figures").glob("*.svg")}
    assert {"cost_per_token.svg", "throughput.svg", "ratios.svg", "verdicts.svg"} <= drawn
    assert all("estimated" in (executed / "figures" / name).read_text() for name in ("cost_per_token.svg", "ratios.svg"))
    assert not (executed / "figures" / "power_traces.svg").exists()
    formulas = [path.name for path in (executed / "figures").glob("*.svg") if "mathdefault" in path.read_text()]
    assert not formulas, "the ticks of a log axis are numbers, never the source of a formula"


def test_committed_figures_and_tables_come_from_the_sample(executed):
    """Drawn on another day, and byte for byte what is committed."""
    for path in (paths.ROOT / "figures" / "sample").glob("*.svg"):
        assert path.read_bytes() == (executed / "figures" / path.name).read_bytes(), f"run `make figures`: {path.name} is stale"
    for name in ("summary", "comparisons"):
        assert (paths.SAMPLE / f"{name}.csv").read_text() == (executed / "sample" / f"{name}.csv").read_text(), "run `make figures`"


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_the_main_job_on_a_tiny_model(tiny_model, scratch):
    quick = {"window_s": 0.05, "warmup_cap_s": 0.0, "input_tokens": [8], "output_tokens": [4], "meter": "estimate"}
    sweep = settings.sweep(experiment="tiny", models=[str(tiny_model)], quantizations=["fp32", "nf4", "tf32"], blocks=3, **quick)
    lines: list[str] = []
    result = runs.run(sweep, scratch / "out", lines.append)
    assert result["status_counts"] == {"ok": 12, "unsupported": 6}
    assert result["rows"] == 6
    assert {path.name for path in (scratch / "out" / "figures").glob("*.ipynb")} == {
        "measure.ipynb",
        "analyze.ipynb",
        "compare.ipynb",
        "plot.ipynb",
    }
    assert sum(line.startswith("[") for line in lines) == 18
    (check,) = [c for c in cells_of(scratch / "out", "measure") if "nbval-check-output" in c.metadata.get("tags", [])]
    text = "".join(o.text for o in check.outputs)
    assert "Empty DataFrame" not in text and text.endswith("12 of 18 windows are ok; 0 of 6 configurations have none.\n")
    table = runs.human_table(result["experiment"])
    assert "estimated" in table and "nf4" in table


def test_papermill_alone_runs_measure(tiny_model, scratch):
    """The documented command, with lists as the strings papermill passes."""
    command = [
        sys.executable,
        "-W",
        "ignore",
        "-m",
        "papermill",
        str(paths.NOTEBOOKS / "measure.ipynb"),
        str(scratch / "out.ipynb"),
        "--no-progress-bar",
    ]
    given = {
        "models": f'["{tiny_model}"]',
        "quantizations": '["nf4"]',
        "batch_sizes": "[1,8]",
        "input_tokens": "[8]",
        "output_tokens": "[4]",
    }
    given |= {"window_s": "0.05", "warmup_cap_s": "0.0", "meter": "estimate", "experiment": "by_papermill"}
    subprocess.run(command + [part for pair in given.items() for part in ("-p", *pair)], check=True, capture_output=True)
    windows = tables.read_windows(scratch / "data" / "runs" / "by_papermill")
    assert sorted(windows["batch_size"].unique()) == [1, 8] and len(windows) == 6


def test_a_misspelt_parameter_is_refused_and_named(tmp_path):
    with pytest.raises(UserError, match="did you mean 'batch_sizes'"):
        notebooks.execute("measure", {"batch_size": [1]}, tmp_path)
    with pytest.raises(UserError, match="no notebook"):
        notebooks.execute("mesure", {}, tmp_path)


def test_a_users_error_inside_a_notebook_stays_one_line(tmp_path):
    with pytest.raises(UserError, match="no usable window with boundary moon") as caught:
        notebooks.execute("analyze", {"experiment": "sample", "boundary": "moon"}, tmp_path)
    assert "\n" not in str(caught.value)
    assert (tmp_path / "analyze.ipynb").exists()


@pytest.mark.parametrize(("name", "parameters"), [("analyze", {"experiment": "no-such-run"}), ("measure", {"blocks": 0})])
def test_what_would_stop_at_once_starts_no_kernel(tmp_path, name, parameters):
    with pytest.raises(UserError, match=r"no windows|blocks = 0"):
        notebooks.execute(name, parameters, tmp_path)
    assert not list(tmp_path.iterdir())


def test_another_error_names_the_executed_notebook(tmp_path):
    with pytest.raises(notebooks.NotebookFailed, match=r"plot\.ipynb"):
        notebooks.execute("plot", {"experiment": "sample", "figures_dir": 3}, tmp_path)
