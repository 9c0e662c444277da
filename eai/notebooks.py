"""Run a notebook with parameters, guarded: an unknown parameter is an error, not silence, and a failure names its notebook.

papermill itself runs on with a misspelt parameter and exits 0 (papermill#245), and a kernel that dies has no cause (papermill#478).
"""

import ast
import errno
import itertools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from eai import paths, settings, tables
from eai.errors import UserError


class NotebookFailed(Exception):
    """A notebook that stopped with an error that is not the user's; its executed copy holds the traceback."""


class KernelDied(NotebookFailed):
    """A notebook whose kernel was killed or crashed: nothing was raised, and what ran until then is on disk."""


def check_parameters(name: str, parameters: Mapping[str, Any]) -> None:
    """Raise UserError if there is no such notebook, if it has no parameter of one of these names, or a value would stop it at once."""
    if name not in (names := sorted(path.stem for path in paths.NOTEBOOKS.glob("*.ipynb"))):
        raise UserError(f"no notebook '{name}'", f"one of {', '.join(names)}")
    import papermill

    known = list(papermill.inspect_notebook(str(paths.NOTEBOOKS / f"{name}.ipynb")))
    if wrong := [key for key in parameters if key not in known]:
        raise settings.unknown_parameter(f"notebook {name} has no parameter", wrong[0], known)
    if name == "measure":
        settings.sweep(**parameters)
    elif name in ("analyze", "compare", "plot") and "experiment" in parameters:
        tables.job_dirs(parameters["experiment"])


def require_known(cells: list[str]) -> None:
    """Raise UserError for a parameter that papermill by itself was given and the notebook does not have: it would run on with the default.
    `cells`: IPython's `In`, the cells as they ran. papermill writes its values below the cell of parameters, under a comment of its own."""

    def assigned(source: str) -> list[str]:
        targets = [t for node in ast.parse(source).body for t in (getattr(node, "targets", None) or [getattr(node, "target", None)])]
        return [t.id for t in targets if isinstance(t, ast.Name)]

    for known, given in itertools.pairwise(cells):
        if given.startswith("# Parameters\n") and (wrong := [key for key in assigned(given) if key not in assigned(known)]):
            raise settings.unknown_parameter("this notebook has no parameter", wrong[0], assigned(known))


def execute(name: str, parameters: Mapping[str, Any], out_dir: Path, say: Callable[[str], None] | None = None) -> Path:
    """Run notebook `name` with `parameters` and return the executed copy, `out_dir/<name>.ipynb`. `say` gets each line that the notebook
    prints while it runs. Raises UserError for an unknown notebook or parameter, for a full disk and for whatever the notebook itself raised
    as UserError, NotebookFailed for any other error; the executed copy is kept in both cases."""
    check_parameters(name, parameters)
    import papermill

    target = Path(out_dir) / f"{name}.ipynb"
    tables.require_writable(target.parent.absolute())
    target.parent.mkdir(parents=True, exist_ok=True)
    how = {"progress_bar": False, "stdout_file": _Lines(say) if say else None, "extra_arguments": ["--log-level=CRITICAL"]}
    try:
        papermill.execute_notebook(str(paths.NOTEBOOKS / f"{name}.ipynb"), str(target), dict(parameters), **how)
    except papermill.PapermillExecutionError as error:
        if error.ename == "UserError":
            raise UserError(error.evalue) from None
        raise NotebookFailed(f"notebook {name} stopped with {error.ename}: {error.evalue}; the executed copy is {target}") from None
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise UserError(f"no room left at {target.parent}", "room for what is measured", "make room and run again: it goes on") from None
    except RuntimeError:  # nbclient's DeadKernelError, and jupyter_client's plain one while the kernel starts
        raise KernelDied(f"the kernel of notebook {name} died (out of memory?); what ran until then is in {target}") from None
    return target


class _Lines:
    """A file for papermill that hands on what a notebook prints, line by line."""

    def __init__(self, say: Callable[[str], None]):
        self._say, self._rest = say, ""

    def write(self, text: str) -> None:
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            self._say(line)

    def flush(self) -> None:
        return
