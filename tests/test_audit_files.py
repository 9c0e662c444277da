"""The audit reads anything without crashing, runs nothing, and says what it could not read."""

import json
import os
import time

import nbformat
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eai.audit import audit
from eai.audit import commands as report
from eai.audit.run import FAILED
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
    assert result["files"] == 1 and not any(FAILED in s["reason"] for s in result["skipped"])


def test_nothing_to_audit_is_no_clean_result(tmp_path, eai):
    (tmp_path / "empty").mkdir()
    write(tmp_path, "notes.txt", "hello")
    write(tmp_path, "old.py", BAD + "print 'x'\n")
    for path in (tmp_path / "empty", "", tmp_path / "nowhere"):
        code, out, err = eai("audit", path)
        assert code == 2 and out == "" and err.count("\n") == 1
    assert "nothing to audit" in eai("audit", tmp_path / "empty")[2]
    code, out, _ = eai("audit", "--json", tmp_path / "old.py")
    assert code == 2 and json.loads(out)["skipped"][0]["path"].endswith("old.py")
    for name, content in (
        ("notes.txt", "hello"),
        ("power.csv", "time,power_w\n0.0,61.5\n"),
        ("README.md", "# Server\n\nStart it with `vllm serve x`.\n"),
    ):
        code, out, _ = eai("audit", write(tmp_path, name, content))
        assert code == 2 and "Nothing was checked" in out and "not something the audit reads" in " ".join(out.split())


def test_exit_codes_and_an_answer_that_fits_the_terminal(tmp_path, eai):
    folder = tmp_path / ("a" * 60)
    folder.mkdir()
    write(folder, "serve.sh", "vllm serve m --dtype float32 --enforce-eager\n")
    write(folder, "same.sh", "vllm serve m --dtype float32\n")
    code, out, _ = eai("audit", folder)
    assert code == 1
    assert out.startswith("2 critical, 1 info in 2 files, 2 about inference. Worst: 50 % of the energy")
    for width in (80, 140):
        text = report.text(audit([folder]), width)
        assert max(map(len, text.splitlines())) <= width
        assert text.count("dtype bfloat16 (float16 before Ampere)") == 1, "findings that are alike share their fix"
    assert eai("audit", write(tmp_path, "ok.sh", "vllm serve m\n"))[0] == 0


def test_a_cell_that_does_not_parse_does_not_hide_the_others(tmp_path):
    cells = [
        nbformat.v4.new_code_cell("print 'python 2'"),
        nbformat.v4.new_code_cell("%%time\n" + BAD),
        nbformat.v4.new_code_cell("%time out = await f()\nif x:\n    !ls\nmodel?"),
        nbformat.v4.new_code_cell("%%bash\nexport OLLAMA_NUM_PARALLEL=1\nollama serve &"),
        nbformat.v4.new_code_cell("%env OLLAMA_KEEP_ALIVE=0"),
    ]
    result = audit([write(tmp_path, "n.ipynb", nbformat.writes(nbformat.v4.new_notebook(cells=cells)))])
    assert [(s["path"][-6:], "line 1" in s["reason"]) for s in result["skipped"]] == [("cell 1", True)]
    assert {(f["rule"], f["cell"], f["line"]) for f in result["findings"]} == {
        ("int8-default-threshold", 2, 3),
        ("server-one-sequence", 4, 2),
        ("server-reloads-model", 5, 1),
    }


GROWING = {
    "lists.py": ("import subprocess, vllm\na0=['x']\n", "a{1}=[a{0},a{0}]\nsubprocess.run(a{1})\n"),
    "texts.py": ("import os, vllm\na0='vllm serve'\n", "a{1}=f'{{a{0}}}{{a{0}}}'\nos.system(a{1})\n"),
    "dicts.py": ("from transformers import pipeline\na0={'x':1}\n", "a{1}={{'a':a{0},'b':a{0}}}\npipeline(x, model_kwargs=a{1})\n"),
    "variables.sh": ("A0=vllm\n", "A{1}=$A{0}$A{0}\n$A{1} serve\n"),
    "aliases.yaml": ("image: vllm/x\na0: &a0 {x: 1}\n", "a{1}: &a{1} {{a: *a{0}, b: *a{0}, c: *a{0}, d: *a{0}}}\n"),
}
LONG = {
    "Dockerfile": "FROM vllm/x\nRUN " + " && \\\n  apt-get install ".join(["vllm"] * 16000) + "\n",
    "options.sh": "vllm serve m " + "--max-num-seqs 1 " * 20000,
    "lines.sh": "vllm serve m \\\n" + "  --max-num-seqs 1 \\\n" * 16000,
    "braces.yaml": "vllm: 1\n" + "a: " + "{{" * 70 + "x {{ y }}" * 20000,
    "flow.json": '{"use_cache": false, "a": ' + "[" * 900 + "]" * 900 + "}",
    "dashes.yaml": "use_cache: false\na:\n  " + "- " * 890 + "x",
    "quotes.sh": "vllm serve '" + "x \"y ' " * 40000,
}


@pytest.mark.parametrize("name", [*GROWING, *LONG])
def test_nested_and_long_files_take_seconds_at_most(tmp_path, name):
    text = LONG.get(name) or GROWING[name][0] + "".join(GROWING[name][1].format(i, i + 1) for i in range(45))
    started = time.process_time()
    audit([write(tmp_path, name, text)])
    assert time.process_time() - started < 3


def test_float32_by_default_is_known_only_with_the_version(tmp_path):
    code = "from transformers import pipeline\np = pipeline('text-generation', model='org/Foo-7B', device=0)\nprint(p(['a', 'b']))\n"
    path = write(tmp_path, "app.py", code)
    severities = {f["rule"]: f["severity"] for f in audit([path])["findings"]}
    assert severities == {"fp32-by-default": "info"}
    pinned = tmp_path / "old"
    pinned.mkdir()
    write(pinned, "requirements.txt", "torch\ntransformers==4.44.2\n")
    assert {f["severity"] for f in audit([write(pinned, "app.py", code)])["findings"]} == {"critical"}
