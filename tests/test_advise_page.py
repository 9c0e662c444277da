"""Answers as people read them: plain numbers, at most ten lines first, tables that fit 80 and 140 columns, one data for all three forms."""

import json
import re

import pytest
from planted_costs import planted  # noqa: F401

from eai.advise import ask
from eai.advise.page import Page, Table, as_html, markdown, percent, plain, quantity, terminal
from eai.advise.templates import page_of
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
    assert quantity(Quantity(6260, 4520, 8670, "J")) == "6,260 J [4,520 to 8,670]"
    assert (
        quantity(Quantity(3, unit="h")) == "3.00 h" and quantity(None) == "-" and quantity(Quantity(0.02, unit="s"), "ms", 1e3) == "20.0 ms"
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
        page = page_of(answer)
        assert 1 <= len(page.answer) <= 10, name
        for width in (80, 140):
            text = terminal(page, width)
            assert max(map(len, text.splitlines())) <= width, (name, width)
            assert not re.search(r"\\d[eE][+-]?\\d\\d", text) and "nan" not in text.lower().split(), name
        text, html = markdown(page), as_html(page)
        assert text.startswith(f"# {page.title}") and "Assumptions" in text
        assert "<h1>" in html and "<script" not in html and "http-equiv" not in html
        for table in page.tables:
            for row in table.rows[:2]:
                assert all(cell in text for cell in row if "|" not in cell), name


def test_reasons_come_on_request(planted):  # noqa: F811
    page = page_of(ask.optimize(**LLAMA, gpu="l40s"))
    short, whole = terminal(page, 100), terminal(page, 100, explain=True)
    assert "--explain" in short and "Assumptions" not in short and "Assumptions" in whole and "What it rests on" in whole


def test_the_sections_of_the_protocol_stand_in_the_answer(planted):  # noqa: F811
    text = markdown(page_of(ask.optimize(**LLAMA, gpu="l40s")))
    for title in (
        "Configuration",
        "Performance",
        "Energy",
        "A month",
        "Why",
        "Insights",
        "Pitfalls",
        "To explore",
        "What it rests on",
        "Start it",
        "Verify it",
        "Evidence",
    ):
        assert f"## {title}" in text, title


def test_a_narrow_terminal_leaves_side_columns_out():
    page = Page("t", ["a"], [Table("", ("a", "b", "c"), (("1", "2", "3"),), aside=1)])
    assert "3" in terminal(page, 140) and "3" not in terminal(page, 80)


@pytest.mark.parametrize("form", ["svg", "png"])
def test_each_answer_has_a_chart(form, planted, tmp_path):  # noqa: F811
    from eai.advise.chart import draw

    for name in ("plan", "compare", "estimate", "diagnose"):
        path = draw(answers()[name], tmp_path / f"{name}.{form}")
        assert path.stat().st_size > 1000


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
