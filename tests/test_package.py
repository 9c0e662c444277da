"""The wheel outside its checkout: data and notebooks inside, results in the current folder, a missing extra named in one line."""

import os
import subprocess
import sys
import tomllib

import pytest

from eai import paths

EXTRAS = tomllib.loads((paths.ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
LACKING = ["torch", "transformers", "bitsandbytes", "lm_eval", "datasets", "accelerate", "papermill", "nbconvert", "nbformat", "ipykernel",
           "snakemake", "sklearn", "jupyterlab"]  # fmt: skip
BLOCK = """
from importlib.machinery import PathFinder
find = PathFinder.find_spec
PathFinder.find_spec = classmethod(lambda cls, name, *how: None if name.split(".")[0] in {lacking!r} else find(name, *how))
"""
LOG = "timestamp, power.draw [W]\n" + "".join(f"2026/01/01 10:00:{s:02d}.000, 100.00 W\n" for s in range(30))
TABLE = "model,gpu,energy_j,tokens_out,energy_j_per_token\nm,a100,1000,100,10\nm,a100,1000,100,20\n"


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A folder with the wheel's files and, beside them, an environment in which only the core's dependencies can be imported."""
    root = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(root), str(paths.ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = root.glob("*.whl")
    install = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(root / "site"), str(wheel)]
    subprocess.run(install, check=True, capture_output=True)
    (root / "site" / "sitecustomize.py").write_text(BLOCK.format(lacking=LACKING))
    (root / "empty").mkdir()
    (root / "empty" / "power.csv").write_text(LOG)
    (root / "empty" / "table.csv").write_text(TABLE)
    return root


def call(root, *arguments):
    environment = {k: v for k, v in os.environ.items() if not k.startswith("EAI_")}
    environment |= {"PYTHONPATH": str(root / "site"), "HOME": str(root), "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, "-c", "from eai.cli import main; main()", *arguments]
    return subprocess.run(command, cwd=root / "empty", env=environment, capture_output=True, text=True)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--help"], 0, "trace"),
        (["trace", "power.csv", "--json"], 0, "energy_j"),
        (["check", "table.csv", "--json"], 1, "inconsistent"),
        (["claims", "--json"], 0, "verdict"),
        (["replay", "sample", "--json"], 0, '"mismatches": []'),
        (["doctor", "--json"], 0, "meters"),
        (["audit", "none.py"], 2, "none.py"),
        (["trace", "none.csv"], 2, "none.csv"),
    ],
)
def test_commands_of_the_core_work_outside_a_checkout(installed, arguments, code, words):
    done = call(installed, *arguments)
    assert done.returncode == code and words in done.stdout + done.stderr, done.stderr[-2000:]
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(("arguments", "extra"), [(["notebook", "compare"], "notebooks"), (["run"], "measure,notebooks")])
def test_a_missing_extra_is_one_line_with_the_command(installed, arguments, extra):
    done = call(installed, *arguments)
    assert done.returncode == 2 and f"pip install 'eai[{extra}]'" in done.stderr and done.stderr.count("\n") == 1, done.stderr


def test_results_go_to_the_current_folder(installed):
    program = "from eai import paths; print(paths.IS_CHECKOUT, paths.runs(), paths.figures(), len(list(paths.NOTEBOOKS.glob('*.ipynb'))))"
    environment = {"PYTHONPATH": str(installed / "site"), "PATH": os.environ["PATH"]}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=installed / "empty", env=environment, capture_output=True, text=True, check=True
    )
    is_checkout, runs, figures, notebooks = done.stdout.split()
    assert is_checkout == "False" and int(notebooks) >= 8
    assert runs == str(installed / "empty" / "data" / "runs") and figures == str(installed / "empty" / "figures")


def test_the_core_names_no_dependency_of_an_extra():
    """What an extra brings is no core dependency, and `all` names every extra but dev and mlflow."""
    assert EXTRAS["all"] == [f"eai[{','.join(name for name in EXTRAS if name not in ('all', 'dev', 'mlflow'))}]"]
