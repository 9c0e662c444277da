"""A disk that fills while a notebook runs, which papermill meets outside every cell."""

import errno

import pytest

from eai import notebooks
from eai.errors import UserError


@pytest.mark.parametrize(
    ("number", "kind", "message"),
    [(errno.ENOSPC, UserError, "no room left at .*run again"), (errno.EDQUOT, UserError, "no room left"), (errno.EIO, OSError, "Errno 5")],
)
def test_a_full_disk_is_one_line_and_another_error_is_not_hidden(monkeypatch, tmp_path, number, kind, message):
    def full(*_, **__):
        raise OSError(number, "what the system says")

    monkeypatch.setattr("papermill.execute_notebook", full)
    with pytest.raises(kind, match=message):
        notebooks.execute("analyze", {}, tmp_path)
