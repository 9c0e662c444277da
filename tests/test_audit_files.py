"""The audit reads anything without crashing, runs nothing, and says what it could not read."""

import json
import os

import nbformat
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eai.audit import audit, report
from eai.errors import UserError

BAD = 'from transformers import AutoModelForCausalLM\nm = AutoModelForCausalLM.from_pretrained("org/Foo-7B", load_in_8bit=True)\n'


def write(folder, name, content):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("binary.py", BAD.encode() + b"\0\1", "null bytes"),
        ("huge.py", BAD + "x = 1\n" * 400_000, "larger than"),
        ("latin.py", BAD.encode() + b"# caf\xe9\n", "not readable as text"),
        ("python2.py", BAD + "print 'hello'\n", "does not parse as Python"),
        ("broken.py", BAD + "def f(:\n", "does not parse as Python"),
        ("parens.py", BAD + "(" * 5000 + ")" * 5000, "does not parse"),
        ("broken.ipynb", BAD, "not a notebook"),
        ("broken.json", '{"use_cache": false, ', "does not parse as JSON"),
        ("broken.yaml", "use_cache: [false", "does not parse as YAML"),
        ("dashes.yaml", "use_cache: false\nx:\n" + "- " * 100_000 + "y", "nested deeper"),
        ("deep.json", '{"use_cache": ' + "[" * 100_000 + "]" * 100_000 + "}", "nested deeper"),
    ],
)
def test_what_cannot_be_read_is_reported_and_the_rest_goes_on(tmp_path, name, content, reason):
    write(tmp_path, name, content)
    write(tmp_path, "good.py", BAD)
    result = audit([tmp_path])
    assert [(s["path"], reason in s["reason"]) for s in result["skipped"]] == [(str(tmp_path / name), True)]
    assert [(f["path"], f["rule"]) for f in result["findings"]] == [(str(tmp_path / "good.py"), "int8-default-threshold")]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("declared.py", b"# -*- coding: latin-1 -*-\n# caf\xe9\n" + BAD.encode()),
        ("bom.py", b"\xef\xbb\xbf" + BAD.encode()),
        ("windows.py", BAD.replace("\n", "\r\n").encode()),
        ("escapes.py", BAD + "s = '\\d'\n"),
        ("long.py", BAD + "y = " + " + ".join(["1"] * 500) + "\n"),
    ],
)
def test_unusual_but_valid_files_are_audited(tmp_path, name, content):
    result = audit([write(tmp_path, name, content)])
    assert [f["rule"] for f in result["findings"]] == ["int8-default-threshold"] and not result["skipped"]


def test_no_audited_code_is_executed(tmp_path):
    marker = tmp_path / "ran"
    code = f"import os\nos.mkdir({str(marker)!r})\nraise SystemExit(3)\n" + BAD
    write(tmp_path, "evil.py", code)
    write(tmp_path, "conftest.py", code)
    write(tmp_path, "evil.yaml", f"use_cache: false\nx: !!python/object/apply:os.mkdir [{str(marker)!r}]\n")
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code), nbformat.v4.new_code_cell(f"!mkdir {marker}")])
    write(tmp_path, "evil.ipynb", nbformat.writes(notebook))
    result = audit([tmp_path])
    assert not marker.exists()
    assert len(result["findings"]) == 3 and result["files"] == 4


def test_notebooks_with_magics_give_cell_and_line(tmp_path):
    cells = [
        nbformat.v4.new_markdown_cell("# load_in_8bit=True"),
        nbformat.v4.new_code_cell("%matplotlib inline\n!pip install bitsandbytes\n!vllm serve x/y --dtype float32"),
        nbformat.v4.new_code_cell("%%bash\nthis is not python ("),
        nbformat.v4.new_code_cell("import torch\n" + BAD),
    ]
    path = write(tmp_path, "n.ipynb", nbformat.writes(nbformat.v4.new_notebook(cells=cells)))
    places = [(f["rule"], f["cell"], f["line"]) for f in audit([path])["findings"]]
    assert sorted(places) == [("int8-default-threshold", 4, 3), ("server-fp32", 2, 3)]


def test_yaml_aliases_do_not_multiply(tmp_path):
    lines = ["use_cache: true", "a: &a [1, 2, 3, 4, 5, 6, 7, 8, 9]"]
    for before, name in zip("abcdefghijklm", "bcdefghijklmn", strict=True):
        lines.append(f"{name}: &{name} [{', '.join(['*' + before] * 9)}]")
    result = audit([write(tmp_path, "laughs.yaml", "\n".join(lines))])
    assert result["findings"] == [] and result["skipped"] == []


def test_folders_links_and_missing_paths(tmp_path):
    inner = tmp_path / "pkg"
    inner.mkdir()
    write(inner, "a.py", BAD)
    os.symlink(tmp_path, inner / "loop")
    hidden = tmp_path / ".git"
    hidden.mkdir()
    write(hidden, "b.py", BAD)
    write(tmp_path, "notes.txt", BAD)
    result = audit([tmp_path])
    assert result["files"] == 1 and len(result["findings"]) == 1
    assert audit([tmp_path / "notes.txt"])["counts"]["critical"] == 1
    with pytest.raises(UserError, match="does not exist"):
        audit([tmp_path / "nowhere"])


def test_the_report_is_json_and_text_with_the_contract_s_keys(tmp_path):
    good = "import torch\nwith torch.inference_mode():\n    pass\n"
    write(tmp_path, "a.py", BAD + good)
    write(tmp_path, "b.py", BAD + "print 'x'\n")
    result = json.loads(json.dumps(audit([tmp_path])))
    finding = result["findings"][0]
    assert {"path", "line", "rule", "severity", "message", "expected_waste", "fix"} <= set(finding)
    assert finding["line"] == 2 and finding["severity"] == "critical"
    assert finding["expected_waste"]["unit"] == "% of the energy" and finding["expected_waste"]["rows"]
    assert [p["practice"] for p in result["good_practices"]] == ["no gradients are recorded"]
    text = report.text(result, 80)
    assert "Critical: above 30 %" in text and "Good practices" in text and "Not read" in text
    assert "a.py:2" in text and max(map(len, text.splitlines())) <= 80


def test_the_worst_comes_first(tmp_path):
    write(tmp_path, "a.py", "from transformers import *\nq = BitsAndBytesConfig(load_in_4bit=True)\n" + BAD)
    assert [f["severity"] for f in audit([tmp_path])["findings"]] == ["critical", "info"]


PIECES = st.lists(
    st.sampled_from([*BAD.split(" "), *BAD.splitlines(keepends=True), "for x in y:\n", "    ", "\n", "(", "**k", "=", "lambda:", "{", "\t"])
)


@given(PIECES, st.sampled_from(["py", "ipynb", "json", "yaml", "sh"]))
def test_no_text_makes_the_audit_fail(tmp_path_factory, pieces, suffix):
    path = tmp_path_factory.mktemp("fuzz") / f"f.{suffix}"
    path.write_text("use_cache: vllm serve BitsAndBytesConfig\n" * (suffix != "py") + "m = BitsAndBytesConfig\n" + "".join(pieces))
    result = audit([path])
    assert result["files"] == 1
