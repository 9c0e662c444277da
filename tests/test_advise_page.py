"""Answers as people read them: plain numbers, at most ten lines first, tables that fit 80 and 140 columns, one data for all three forms."""

import json
import os
import re
import subprocess
import sys

import pytest
from planted_costs import planted  # noqa: F401

from eai.advise import commands as ask
from eai.advise.page import as_html, head, markdown, percent, plain, quantity, terminal, wrapped
from eai.quantity import Quantity

LLAMA = {"model": "meta-llama/Meta-Llama-3-8B-Instruct"}
FIGURES = {"throughput": 30.0, "energy_j_per_1k": 6000.0}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (6260.4, "6,260"),
        (12_345_678, "12,300,000"),
        (0.01234, "0.0123"),
        (1.2, "1.20"),
        (0.5, "0.5"),
        (99.96, "100"),
        (0, "0"),
        (None, "-"),
        (float("nan"), "-"),
        (-41.23, "-41.2"),
    ],
)
def test_numbers_are_plain(value, text):
    assert plain(value) == text


def test_a_quantity_has_one_unit_and_its_interval():
    assert quantity(Quantity(6260, 4520, 8670, "J").to_json()) == "6,260 J [4,520 to 8,670]"
    assert (
        quantity(Quantity(3, unit="h").to_json()) == "3.00 h"
        and quantity(None) == "-"
        and quantity(Quantity(0.02, unit="s").to_json(), "ms", 1e3) == "20.0 ms"
    )
    assert percent(0.957) == "96 %" and percent(0.001) == "< 1 %" and percent(1.0) == "100 %" and percent(0.999) == "> 99 %"


def answers() -> dict[str, dict]:
    """One answer of every protocol."""
    return {
        "plan": ask.optimize(**LLAMA, gpu="h100,l40s,rtx4090", requests_per_hour=5000, latency_p95=20),
        "ranking": ask.optimize(**LLAMA, gpu="l40s"),
        "compare": ask.compare(**LLAMA, gpu="l40s", batch_size=8),
        "estimate": ask.estimate(**LLAMA, gpu="l40s", quantization="int8_default"),
        "diagnose": ask.diagnose(**LLAMA, gpu="l40s", quantization="int8_default", **FIGURES),
        "own": ask.estimate(energy_j_per_1k=393.8, throughput=800),
    }


def test_every_answer_in_every_form(planted):  # noqa: F811
    for name, answer in answers().items():
        assert 1 <= len(head(answer)) <= 10, name
        for width in (80, 140):
            text = terminal(answer, width)
            assert max(map(len, text.splitlines())) <= width, (name, width)
            assert not re.search(r"\d[eE][+-]?\d\d", text) and "nan" not in text.lower().split(), name
        text, html = markdown(answer), as_html(answer)
        assert text.startswith("# ") and "Assumptions" in text and "{{" not in text and "Undefined" not in text
        assert "<h1>" in html and "<table>" in html and "<script" not in html and "http-equiv" not in html


def test_reasons_come_on_request(planted):  # noqa: F811
    answer = ask.optimize(**LLAMA, gpu="l40s")
    short, whole = terminal(answer, 100), terminal(answer, 100, explain=True)
    assert "--explain" in short and "Assumptions" not in short and "Assumptions" in whole and "What it rests on" in whole


def test_the_sections_of_the_protocol_stand_in_the_answer(planted):  # noqa: F811
    text = markdown(ask.optimize(**LLAMA, gpu="l40s"))
    titles = ["Configuration", "Performance", "Energy", "Why", "Insights", "Pitfalls", "Evidence"]
    for title in (*titles, "A month", "To explore", "What it rests on", "Start it", "Verify it"):
        assert f"## {title}" in text, title


def test_a_narrow_terminal_loses_no_column(planted):  # noqa: F811
    """Twelve columns do not fit in 80: the table is turned on its side, and every head and strategy stands in it."""
    answer = ask.compare(**LLAMA, gpu="l40s", batch_size=8)
    text = terminal(answer, 80)
    for word in ("rank", "tok/s", "memory GB", "accuracy", "request s", "watts", "tok/J", "lowest", "basis"):
        assert any(line.strip().startswith(word) for line in text.splitlines()), word
    assert all(e["quantization"] in text for e in answer["rows"])


def test_a_command_can_be_pasted_from_a_narrow_terminal():
    """Lines end in a backslash before an option; put together again they are the command."""
    line = "vllm serve meta-llama/Llama-3.1-70B-Instruct --tensor-parallel-size 2 --dtype bfloat16 --max-model-len 2048 --max-num-seqs 64"
    made = wrapped(line, 60)
    assert max(map(len, made.splitlines())) <= 60 and made.replace(" \\\n    ", " ") == line
    assert all(part.strip().startswith(("vllm", "--")) for part in made.splitlines())


def test_a_pipe_gets_the_short_answer_too(eai, planted):  # noqa: F811
    where = ("optimize", "--model", LLAMA["model"], "--gpu", "l40s")
    assert "## Assumptions" not in eai(*where)[1] and "## Assumptions" in eai(*where, "--explain")[1]


@pytest.mark.parametrize("form", ["svg", "png"])
def test_each_answer_has_a_chart(form, planted, tmp_path):  # noqa: F811
    from eai.advise.page import draw

    made = answers()
    for name in ("plan", "compare", "estimate", "diagnose"):
        path = draw(made[name], tmp_path / f"{name}.{form}")
        assert path.stat().st_size > 1000
        assert form == "png" or "mathdefault" not in path.read_text(), "ticks are numbers"


def test_the_commands(eai, planted, tmp_path):  # noqa: F811
    where = ["--model", LLAMA["model"], "--gpu", "l40s,h100"]
    code, out, err = eai(
        "optimize", *where, "--use", "api", "--requests-per-hour", 2000, "--latency-p95", 20, "--plot", tmp_path / "p.svg", "--json"
    )
    answer = json.loads(out)
    assert code == 0 and err == "" and (tmp_path / "p.svg").exists()
    assert set(answer["ranking"][0]) >= {
        "configuration",
        "energy_j_per_1k_tok",
        "throughput_tok_s",
        "accuracy",
        "basis",
        "evidence",
        "warnings",
    }
    assert eai("optimize", *where, "--format", "html")[1].startswith("<!doctype html>")
    assert "What to run" in eai("optimize", *where, "--format", "terminal")[1]
    code, out, err = eai("optimize", *where, "--format", "pdf")
    assert code == 2 and "terminal, markdown or html" in err
    code, out, err = eai("compare", "sample", "sample", "--requests", 5)
    assert code == 2 and "--requests" in err


def test_a_cache_folder_that_cannot_be_written_costs_time_alone(tmp_path):
    """A container with a read-only home: templates, rows and fits are made anew."""
    (tmp_path / "file").write_text("")
    asked = [sys.executable, "-c", "from eai import cli; cli.main()", "optimize", "--model", "mistral-7b", "--gpu", "a800"]
    ran = subprocess.run(asked, env=os.environ | {"EAI_CACHE": str(tmp_path / "file")}, capture_output=True, text=True)
    assert ran.returncode == 0 and "# What to run" in ran.stdout, ran.stderr
