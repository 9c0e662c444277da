"""The documents are true: trees match the files, commands exist, the headline is in the tables, the dictionary is generated."""

import re
import subprocess
import sys

import pandas as pd
import pytest
import yaml

from eai import catalog, paths, schema, settings, tables

ROOT = paths.ROOT
README = (ROOT / "README.md").read_text()
TRACKED = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True).stdout.split()


def tree(text: str) -> list[str]:
    """The paths named in the first column of the tree block."""
    block = re.search(r"```text\n(.*?)```", text, re.S)[1]
    folder, found = "", []
    for line in block.splitlines():
        names = re.match(r"\s*(\S+/? )+", line + " ")[0].split() if line.startswith("  ") else line.split()[:1]
        if not line.startswith(" "):
            folder = names[0] if names[0].endswith("/") else ""
            found += names
        else:
            found += [folder + name for name in names if name.endswith("/")]
    return found


def test_the_tree_names_what_is_there():
    missing = [name for name in tree(README) if not (ROOT / name).exists()]
    assert not missing, missing


def test_everything_there_is_in_the_tree():
    """Of the package its rooms; its single files stand in the map, the docstring of eai/__init__.py."""
    top = {path.split("/")[0] + ("/" if "/" in path else "") for path in TRACKED if not path.startswith(".")}
    rooms = {f"eai/{p.name}/" for p in (ROOT / "eai").iterdir() if (p / "__init__.py").exists()}
    assert not (top | rooms) - set(tree(README)), (top | rooms) - set(tree(README))


def test_the_data_dictionary_is_generated():
    path = ROOT / "data" / "README.md"
    assert schema.dictionary() in path.read_text(), "run `make dictionary`"


def test_every_notebook_stands_in_the_readmes():
    text = (ROOT / "notebooks" / "README.md").read_text()
    for path in paths.NOTEBOOKS.glob("*.ipynb"):
        assert f"`{path.stem}`" in README and f"`{path.stem}`" in text


def test_parameters_of_the_notebooks_readme_are_the_sweeps():
    text = (ROOT / "notebooks" / "README.md").read_text()
    assert not [name for name in settings.Sweep.model_fields if f"`{name}`" not in text]


def test_make_targets_named_in_the_documents_exist():
    makefile = (ROOT / "Makefile").read_text()
    named = set(re.findall(r"[`\n]make ([a-z]+)\b", README + (ROOT / "CONTRIBUTING.md").read_text()))
    assert named and all(re.search(rf"^{target}:", makefile, re.M) for target in named), named


def test_eai_commands_named_in_the_readme_exist():
    from typer.main import get_command

    from eai.cli import app

    known = set(get_command(app).commands)
    named = set(re.findall(r"^(?:\.venv/bin/)?eai ([a-z]+)", README, re.M))
    assert named and named <= known, named - known


def test_the_python_block_runs():
    (block,) = re.findall(r"```python\n(.*?)```", README, re.S)
    done = subprocess.run([sys.executable, "-c", block], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0 and re.match(r"[\d.e+-]+ \[.*\] J", done.stdout), done.stderr


def test_the_yaml_block_is_a_sweep():
    (block,) = re.findall(r"```yaml\n(.*?)```", README, re.S)
    assert settings.sweep(**yaml.safe_load(block)).blocks == 5


def test_the_papermill_command_has_known_parameters():
    command = re.search(r"papermill notebooks/measure.ipynb .*?```", README, re.S)[0]
    names = set(re.findall(r"-p (\w+)", command))
    assert names and names <= set(settings.Sweep.model_fields)


def test_the_headline_stands_in_the_sample():
    """Each `strategy at batch b: x R [low to high]` of the README is a row of the committed comparisons of plain generation."""
    rows = tables.read_result("sample", "comparisons").query("task == 'generate'")
    found = re.findall(r"`(\w+)` at batch (\d+): x (\d\.\d+) \[(\d\.\d+) to (\d\.\d+)\]", README)
    assert found
    for strategy, batch, *numbers in found:
        row = rows[(rows["quantization"] == strategy) & (rows["batch_size"] == int(batch))].iloc[0]
        names = ["ratio_to_baseline", "ratio_to_baseline_low", "ratio_to_baseline_high"]
        assert [f"{row[name]:.2f}" for name in names] == numbers
    assert set(rows["basis"]) == {"estimated"} and "estimated" in README.split("```")[0]
    summary = tables.read_result("sample", "summary").query("task == 'arithmetic' and batch_size == 4").set_index("quantization")
    scored = re.findall(r"\| `(\w+)` \| (\S+ \[.*?\]) \| (\S+ \[.*?\]) \| (\S+ \[.*?\]) \|", README)
    assert [name for name, *_ in scored] == summary.index.tolist() and set(summary["n_items"]) == {40}
    for name, *cells in scored:
        for metric, digits, cell in zip(("score", "eor", "tweor"), (3, 1, 2), cells, strict=True):
            value, low, high = (f"{summary.loc[name, metric + end]:.{digits}f}" for end in ("", "_low", "_high"))
            assert cell == f"{value} [{low} to {high}]"
    assert f"{rows['n_pairs'].max()} blocks" in README


def test_environment_and_workflow_hold_no_second_list_of_versions():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    (pip,) = [d["pip"] for d in environment["dependencies"] if isinstance(d, dict)]
    assert pip == ["-c constraints.txt", "-e .[dev]"]
    assert [d.split("=")[0] for d in environment["dependencies"] if isinstance(d, str)] == ["python", "pip"]
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())
    assert [step["run"] for step in workflow["jobs"]["test"]["steps"] if "run" in step] == ["bash .ci/run"]


def test_constraints_pin_torch_and_every_direct_dependency():
    import tomllib

    pins = {
        re.split(r"[=;\s]", line)[0].lower()
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if "==" in line and line[0] != "#"
    }
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = project["dependencies"] + [name for extra in project["optional-dependencies"].values() for name in extra]
    names = {re.split(r"[<>=\[]", requirement)[0].lower() for requirement in wanted}
    assert names - {"eai"} <= pins and "torch" in pins


@pytest.mark.parametrize("table", sorted(schema.TABLES))
def test_columns_have_a_meaning_and_no_twin(table):
    names = [c.name for c in schema.TABLES[table]]
    assert len(names) == len(set(names)) and all(c.meaning for c in schema.TABLES[table])


def test_a_column_has_one_unit_everywhere():
    units = pd.DataFrame(
        [(c.name, c.unit, c.kind) for columns in schema.TABLES.values() for c in columns], columns=["name", "unit", "kind"]
    )
    assert units.drop_duplicates().groupby("name").size().eq(1).all()


@pytest.mark.parametrize("suffix", ["_j", "_w", "_s", "_gb", "_c", "_mhz", "_wh", "_tok_s"])
def test_units_in_names_agree_with_units_of_columns(suffix):
    expected = {"_j": "J", "_w": "W", "_s": "s", "_gb": "GB", "_c": "C", "_mhz": "MHz", "_wh": "Wh", "_tok_s": "tok/s"}[suffix]
    own = ("windows", "energies", "summary")
    names = [
        c for table in own for c in schema.TABLES[table] if c.name.endswith(suffix) and not (suffix == "_s" and c.name.endswith("_tok_s"))
    ]
    assert all(c.unit in (expected, f"tok/{expected}") for c in names), [(c.name, c.unit) for c in names]


def test_the_embedded_model_is_in_the_catalog():
    assert catalog.model(settings.EMBEDDED_MODEL).params_total == 134_515_008


def test_the_project_names_no_path_of_one_machine():
    for name in TRACKED:
        path = ROOT / name
        if path.suffix in (".py", ".md", ".yml", ".toml", ".ipynb", ".jsonl", ".svg") and path.name != "test_docs.py":
            text = path.read_text(errors="replace")
            assert not re.search(r"/(root|home)/[a-z]", text), name


def test_the_version_is_one():
    import tomllib

    from eai import __version__

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert __version__ == project == citation["version"] and citation["date-released"] and citation["title"]


def test_the_image_is_made_by_the_steps_of_the_readme():
    steps = (ROOT / "Dockerfile").read_text()
    assert "make install" in steps and "make install" in (ROOT / "README.md").read_text()
    assert re.search(r"^HEALTHCHECK .*eai.*doctor", steps, re.M) and re.search(r"^FROM nvidia/cuda:\d+\.\d+", steps, re.M)
