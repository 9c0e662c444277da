"""The notebooks are clean, ordered and parameterized, and their checks can fail."""

import ast
import re

import nbformat
import pytest

from eai import notebooks, paths
from eai.errors import UserError

NOTEBOOKS = sorted(paths.NOTEBOOKS.glob("*.ipynb"))
assert NOTEBOOKS, "no notebooks found: the hygiene tests would pass vacuously"


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def nb(request):
    return nbformat.read(request.param, as_version=4)


def tags(cell) -> set[str]:
    return set(cell.metadata.get("tags", []))


def code(nb) -> list:
    return [cell for cell in nb.cells if cell.cell_type == "code"]


def parameters(nb) -> str:
    (cell,) = [cell for cell in code(nb) if "parameters" in tags(cell)]
    return cell.source


def test_it_is_a_valid_notebook(nb):
    nbformat.validate(nb)


def test_opens_with_a_title_in_prose(nb):
    first = nb.cells[0]
    assert first.cell_type == "markdown" and first.source.startswith("# ") and len(first.source.split()) > 40


def test_says_what_it_asks_reads_and_writes(nb):
    for word in ("**Question.**", "**Reads**", "**Writes**"):
        assert word in nb.cells[0].source


def test_parameters_are_typed_commented_defaults_papermill_can_set(nb):
    for line in parameters(nb).splitlines():
        assert re.fullmatch(r"\w+: \w+ = .+  # .+", line), f"parameter without type or comment: {line}"


def test_a_misspelt_parameter_of_papermill_alone_is_refused(nb):
    """papermill writes unknown parameters too, below the cell of parameters, and runs on."""
    assert "notebooks.require_known(In)" in code(nb)[1].source.splitlines()
    named = parameters(nb).split(":")[0]
    notebooks.require_known(["", parameters(nb), f"# Parameters\n{named} = 1\n"])
    with pytest.raises(UserError, match=f"no parameter '{named}s'.*did you mean '{named}'"):
        notebooks.require_known(["", parameters(nb), f"# Parameters\n{named} = 1\n{named}s = 1\n"])


def test_ran_from_top_to_bottom(nb):
    counts = [cell.execution_count for cell in code(nb)]
    assert counts == list(range(1, len(counts) + 1))


def test_only_checked_cells_keep_output(nb):
    kept = [cell.id for cell in code(nb) if cell.outputs and "keep_output" not in tags(cell)]
    assert not kept, f"strip the outputs of cells {kept}"


def test_checks_can_fail(nb):
    """nbval skips any cell without output or execution count, in silence."""
    checks = [cell for cell in code(nb) if "nbval-check-output" in tags(cell)]
    assert checks, "no cell is tagged nbval-check-output: nbval would only smoke-test"
    for cell in checks:
        assert cell.execution_count is not None and cell.outputs, f"cell {cell.id} would be skipped"
        assert all(output.output_type == "stream" and output.text.strip() for output in cell.outputs)


def test_cells_are_short_and_define_no_instruments(nb):
    """A cell is a step of the analysis that a reader sees at once; what two analyses share is defined in eai/."""
    for cell in code(nb):
        if "parameters" not in tags(cell):
            assert len(cell.source.splitlines()) <= 30, f"split cell {cell.id}, or move what is no analysis into eai/"
            assert not any(isinstance(node, ast.FunctionDef | ast.ClassDef | ast.While) for node in ast.walk(ast.parse(cell.source))), (
                cell.id
            )


@pytest.mark.parametrize(("name", "steps"), [
    ("analyze", ("block_means", "stats.t.ppf", "np.select", "write_result")),
    ("compare", ("match_baselines", ".merge(", "stats.t.sf", "tost_p", "multipletests", "np.select", "write_result")),
])  # fmt: skip
def test_the_analysis_stands_in_the_notebook(name, steps):
    """Grouping, pairing, test, equivalence, correction, gate: visible, in 60 to 150 lines, and not behind one call."""
    source = "\n".join(
        c.source for c in code(nbformat.read(paths.NOTEBOOKS / f"{name}.ipynb", as_version=4)) if "parameters" not in tags(c)
    )
    assert not [step for step in steps if step not in source] and 60 <= len(source.splitlines()) <= 160


def test_no_path_of_one_machine(nb):
    for cell in code(nb):
        assert not re.search(r"""["'](/|\.\./|~)""", cell.source), f"cell {cell.id} has an absolute or parent path"


def test_prose_stands_before_the_code(nb):
    kinds = [cell.cell_type for cell in nb.cells]
    words = sum(len(cell.source.split()) for cell in nb.cells if cell.cell_type == "markdown")
    assert kinds.count("markdown") >= 4 and words > 120
