"""YAML that people write: what it says in one way only, and one line for everything else."""

import pytest

from eai import inputs, runs, settings
from eai.cluster.engine import Options
from eai.errors import UserError


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2026-11-30", "2026-11-30"),
        ("no", "no"),
        ("on", "on"),
        ("true", True),
        ("12", 12),
        ("-3", -3),
        ("1e3", 1000.0),
        ("0.5", 0.5),
        ("closed:4", "closed:4"),
        ("[1, 8]", [1, 8]),
        ("{a: 1}", {"a": 1}),
        ("~", None),
        ("", None),
        ("'010'", "010"),
        ("vllm-0.11", "vllm-0.11"),
        ("12:", {12: None}),
    ],
)
def test_a_value_is_read_as_it_looks(text, value):
    found = inputs.yaml_value(text)
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("010", "more than one reading"),
        ("1:30", "more than one reading"),
        ("0x1F", "more than one reading"),
        ("1_000", "more than one reading"),
        ("[1, 010]", "line 1: 010"),
        ("a: 1\na: 2", "line 2: 'a' is given twice"),
        ("x: {a: 1, a: 2}", "given twice"),
        ("a: &x [1]\nb: *x", "alias"),
        ("!!python/object:os.system {}", "not YAML"),
        ("[" * 3000, "nests too deep"),
        ("9" * 5000, "no value"),
        ("a: [", "not YAML"),
        ("\x00", "not YAML"),
        ("{[1]: 2}", "not YAML"),
        ("a" * 2_000_000, "at most"),
    ],
    ids=range(15),
)
def test_what_can_be_read_twice_or_not_at_all_is_one_line(text, words):
    with pytest.raises(UserError, match=words) as caught:
        inputs.yaml_value(text)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"blocks": True}, "truth value"),
        ({"batch_sizes": [1, True]}, "truth value"),
        ({"seed": -1}, "0 or more"),
        ({"window_s": float("inf")}, "a number"),
        ({"server_timeout_s": float("nan")}, "a number"),
        ({"experiment": "x" * 256}, "too long"),
        ({"models": ["org/" + "x" * 256]}, "too long"),
        ({"batch_sizes": "1, 010"}, "more than one reading"),
    ],
)
def test_values_that_cannot_be_are_refused_before_anything_is_measured(given, words):
    with pytest.raises(UserError, match=words):
        settings.sweep(**given)


def test_files_that_are_none_are_one_line(tmp_path):
    (tmp_path / "bytes").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "list").write_text("- 1")
    for path in (tmp_path, tmp_path / "gone", tmp_path / "bytes", tmp_path / "list", tmp_path / ("x" * 300)):
        with pytest.raises(UserError) as caught:
            settings.read_sweep(path)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", ["- 1", "text", "", "a: [", "executor: *x"])
def test_a_profile_that_is_no_mapping_is_one_line(tmp_path, content):
    (tmp_path / "config.yaml").write_text(content)
    with pytest.raises(UserError):
        _ = Options(str(tmp_path)).is_slurm


def test_what_the_command_line_would_take_silently_is_refused(tmp_path):
    with pytest.raises(UserError, match="--profile is empty"):
        runs.options("", None, None, False)
    with pytest.raises(UserError, match="no profile"):
        _ = Options("p" * 300).folder
    sweep = settings.sweep(gpus=["simulated_h100_sxm"], models=["Qwen/Qwen2.5-7B-Instruct"], quantizations=["fp16"])
    for timeout_s in (float("nan"), float("inf"), 0.0, -1.0):
        with pytest.raises(UserError, match="--timeout"):
            runs.describe(sweep, tmp_path / "out", Options(timeout_s=timeout_s))
    with pytest.raises(UserError, match="too long"):
        runs.describe(sweep, tmp_path / ("x" * 300))


LOG = "timestamp, power.draw [W]\n" + "".join(f"2025/03/01 10:00:{i:02d}.000, {100 + i % 7}.50 W\n" for i in range(60))


@pytest.mark.parametrize(
    ("content", "arguments", "words"),
    [
        (LOG.encode().replace(b"2025/03/01 10:00:07", b"2025/0\xd0/01 10:00:07"), [], "is damaged"),
        (LOG.encode().replace(b"101.50 W", b"10\x96.50 W"), [], "is damaged"),
        (b"[" * 3000, [], "is nested too deeply"),
        (b"PAR1xxxxPAR1", [], "is damaged"),
        (LOG.encode(), ["--window", "-1e999", "1e999"], "two finite numbers"),
        (LOG.encode(), ["--window", "nan", "3"], "two finite numbers"),
        (LOG.encode(), ["--window", "7", "3"], "two finite numbers"),
    ],
)
def test_a_damaged_log_and_an_endless_window_are_one_line(eai, tmp_path, content, arguments, words):
    (tmp_path / "log").write_bytes(content)
    code, out, err = eai("trace", tmp_path / "log", *arguments)
    assert code == 2 and not out and words in err and err.strip().count("\n") == 0


@pytest.mark.parametrize("arguments", [("claims", "--against", ""), ("import", "t.csv", "--out", "x" * 300), ("replay", "x" * 300)])
def test_an_empty_or_endless_name_is_one_line(eai, arguments):
    code, out, err = eai(*arguments)
    assert code == 2 and not out and err.strip().count("\n") == 0


def test_a_notebook_that_cannot_be_written_starts_no_kernel(eai):
    for out in ("/proc/x", "x" * 300):
        code, stdout, err = eai("notebook", "analyze", "-p", "experiment=sample", "--out", out)
        assert code == 2 and not stdout and "cannot write to" in err and err.strip().count("\n") == 0
