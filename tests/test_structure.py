"""The house: no circle, imports point down, importing eai is instant, no file without a docstring."""

import ast
import subprocess
import sys

import pytest

from eai import paths

PACKAGE = paths.ROOT / "eai"
FILES = sorted(PACKAGE.rglob("*.py"))
NEVER = {
    "power": {"workload", "measure", "analyze", "claims", "advise", "cli"},
    "workload": {"power", "measure", "analyze", "claims", "advise", "cli"},
    "stats": {"power", "workload", "tables", "store", "paths", "measure", "analyze", "claims", "advise", "cli"},
    "analyze": {"power", "workload", "measure", "advise", "cli"},
    "claims": {"power", "workload", "measure", "advise", "cli"},
    "advise": {"power", "workload", "measure", "cli"},
    "predict": {"power", "workload", "measure", "advise", "cli"},
    "report": {"power", "workload", "measure", "advise", "cli"},
    "plots": {"power", "workload", "measure", "advise", "cli"},
}
HEAVY = {"torch", "transformers", "lm_eval", "pynvml", "bitsandbytes", "datasets"}


def name_of(path) -> str:
    return ".".join(path.relative_to(paths.ROOT).with_suffix("").parts).removesuffix(".__init__")


NAMES = {name_of(path): path for path in FILES}


def imported(path) -> set[str]:
    """The modules of eai that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    own = name_of(path)
    return {name for name in found if name in NAMES and name not in ("eai", own) and not own.startswith(name + ".")}


GRAPH = {name: imported(path) for name, path in NAMES.items()}


def room(name: str) -> str:
    return name.split(".")[1] if "." in name else name


def test_the_graph_is_not_empty():
    assert len(GRAPH) > 20 and sum(map(len, GRAPH.values())) > 30


def test_imports_form_no_circle():
    done: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]):
        assert name not in trail, " -> ".join([*trail, name])
        if name not in done:
            for other in sorted(GRAPH[name]):
                visit(other, (*trail, name))
            done.add(name)

    for name in GRAPH:
        visit(name, ())


def test_rooms_do_not_know_what_lies_above_them():
    wrong = [f"{name} imports {other}" for name in GRAPH for other in GRAPH[name] if room(other) in NEVER.get(room(name), ())]
    assert not wrong, wrong


PLUG_INS = {"serving", "cluster", "importers", "claims", "predict", "advise", "audit", "report"}


def test_the_core_imports_no_plug_in():
    core = [name for name in GRAPH if room(name) not in PLUG_INS]
    wrong = [f"{name} imports {other}" for name in core for other in GRAPH[name] if room(other) in PLUG_INS]
    assert len(core) > 30 and not wrong, wrong


def test_only_the_command_line_knows_the_command_line():
    assert not [name for name in GRAPH if "eai.cli" in GRAPH[name]]


def test_heavy_libraries_are_imported_inside_functions():
    for path in FILES:
        tree = ast.parse(path.read_text())
        top = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
        names = {alias.name.split(".")[0] for node in top if isinstance(node, ast.Import) for alias in node.names}
        names |= {node.module.split(".")[0] for node in top if isinstance(node, ast.ImportFrom) and node.module}
        assert not names & HEAVY, f"{path.name} imports {names & HEAVY} at the top"


def test_only_power_nvml_talks_to_nvml():
    users = [
        name
        for name, path in NAMES.items()
        if "pynvml" in {a.name for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Import) for a in n.names}
    ]
    assert set(users) == {"eai.power.nvml", "eai.power.simulated"}, users  # the simulated driver stands in for it and needs its constants


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_every_module_and_public_definition_says_what_it_is(path):
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree), f"{path.name} has no docstring"
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            assert ast.get_docstring(node), f"{path.name}: {node.name} has no docstring"


def test_importing_eai_is_instant_and_loads_no_torch():
    program = "import sys, time; t = time.perf_counter(); import eai; "
    program += "print(time.perf_counter() - t, 'torch' in sys.modules, 'pandas' in sys.modules)"
    runs = [subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split() for _ in range(3)]
    assert min(float(seconds) for seconds, _, _ in runs) <= 0.3
    assert all(torch == "False" and pandas == "False" for _, torch, pandas in runs)


def test_the_list_of_commands_loads_nothing_heavy():
    """`eai --help` and completion answer at once: plug-ins import what they need when a command runs."""
    program = "import sys, eai.cli; print(sorted({'pandas', 'scipy', 'matplotlib', 'torch', 'sklearn', 'jinja2'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.strip() == "[]"


def test_the_map_names_every_room():
    text = (PACKAGE / "__init__.py").read_text()
    rooms = sorted({room(name) for name in NAMES} - {"eai"})
    assert not [r for r in rooms if r not in text]
