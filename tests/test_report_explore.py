"""The page to explore in a real browser: it filters, sorts, keeps its state, shows intervals, exports, and fetches nothing."""

import csv
import json
import os
import re
import shutil

import numpy as np
import pandas as pd
import pytest

from eai.errors import UserError
from eai.report import explore
from eai.report.pages import Words, asset

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine: apt-get install chromium")


def rows(n: int, **changes) -> pd.DataFrame:
    """Rows of two cards and two strategies under one model, energies that fall with time, with intervals of 10 %."""
    i = np.arange(n)
    energy = 1.0 + (i % 97) / 10
    table = dict.fromkeys(explore.TEXTS, "") | dict.fromkeys(explore.NUMBERS, np.nan)
    table |= {"source": "made", "basis": np.where(i % 3, "measured", "predicted"), "card": np.where(i % 2, "a100", "h100"),
        "model": "m", "engine": "vllm",
              "strategy": np.where(i // 2 % 2, "fp16", "nf4"), "batch": "1", "task": "generate", "unit": "token", "energy_j": energy,
              "energy_j_low": 0.9 * energy, "energy_j_high": 1.1 * energy, "token_s": 0.01 + (i % 89) / 1000, "score": 0.5, "n": 5,
              "where": [f"made.csv:{k}" for k in i], "link": "https://example.org/made.csv"}  # fmt: skip
    return pd.DataFrame(table | changes, index=i)


@pytest.fixture(scope="module")
def browser():
    api = pytest.importorskip("playwright.sync_api", reason="playwright is in the extra dev")
    with api.sync_playwright() as p:
        started = p.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def opened(browser, tmp_path):
    """Open a table as a page; returns (page, its address); a console error or a request to anywhere fails the test at its end."""
    troubles, context = [], browser.new_context(viewport={"width": 1280, "height": 800}, accept_downloads=True)

    def call(table: pd.DataFrame, hash_: str = "", width: int = 1280, language: str = "en"):
        path = tmp_path / "explore.html"
        path.write_text(explore.html(table, Words(language)), encoding="utf-8")
        page = context.new_page()
        page.set_viewport_size({"width": width, "height": 800})
        page.on("console", lambda m: troubles.append(m.text) if m.type in ("error", "warning") and "GPU stall" not in m.text else None)
        page.on("pageerror", lambda e: troubles.append(str(e)))
        page.on("dialog", lambda d: (troubles.append("a dialog"), d.dismiss()))
        page.on("request", lambda r: None if r.url.startswith(("file:", "data:", "blob:")) else troubles.append(r.url))
        page.goto(path.as_uri() + hash_)
        page.wait_for_selector("html[data-ready]", timeout=60_000)
        return page

    yield call
    context.close()
    assert not troubles, troubles


def count(page) -> int:
    return int(re.match(r"([\d,]+) rows", page.text_content("#status"))[1].replace(",", ""))


@needs_browser
def test_filters_limits_and_the_state_in_the_address(opened):
    page = opened(rows(120))
    assert count(page) == 120
    page.locator("summary", has_text="card").click()
    page.get_by_label("a100 (60)").check()
    assert count(page) == 60 and "card=a100" in page.url
    page.locator("#limit").focus()
    for _ in range(10):
        page.keyboard.press("PageDown")
    page.wait_for_timeout(200)
    fewer, address = count(page), page.url
    assert 0 < fewer < 60 and "limit=" in address and page.text_content("#limit-text").endswith(" s")
    again = opened(rows(120), address[address.index("#") :])
    assert count(again) == fewer and again.get_by_label("a100 (60)").is_checked()
    again.click("#reset")
    assert count(again) == 120 and "#" not in again.url


@needs_browser
def test_a_score_that_is_not_known_does_not_meet_a_limit(opened):
    page = opened(rows(40, score=np.where(np.arange(40) < 10, 0.9, np.where(np.arange(40) < 20, 0.3, np.nan))))
    page.evaluate("e = document.getElementById('score'); e.value = 60; e.dispatchEvent(new Event('input'))")
    page.wait_for_timeout(100)
    assert count(page) == 10 and page.text_content("#score-text") == "60 %"


@needs_browser
def test_the_front_and_the_ratio_are_those_of_the_rows(opened):
    """Of four points (time, energy): (1, 4), (2, 2), (3, 3), (4, 1) all but (3, 3) are on the front; nf4 over fp16 is 2 / 4."""
    table = rows(4, token_s=[1.0, 2.0, 3.0, 4.0], energy_j=[4.0, 2.0, 3.0, 1.0], strategy=["fp16", "nf4", "int8", "fp4"], card="a100")
    page = opened(table, "#base=fp16&sort=energy_j")
    text = [r.split("\t") for r in page.locator("tbody").inner_text().splitlines()]
    stars = {r[2]: r[0].strip() == "★" for r in text}
    assert stars == {"fp4": True, "nf4": True, "int8": False, "fp16": True}
    assert {r[2]: r[4] for r in text} == {"fp4": "0.250", "nf4": "0.500", "int8": "0.750", "fp16": "1.00"}
    page.get_by_label("Only the Pareto front").check()
    assert count(page) == 3


@needs_browser
def test_hover_and_keyboard_show_the_interval(opened):
    page = opened(rows(6))
    first = page.locator("tbody tr").first
    first.focus()
    page.keyboard.press("ArrowDown")
    assert page.evaluate("document.activeElement === document.querySelectorAll('tbody tr')[1]")
    marked = page.evaluate(
        "(d => ({x: d.x, up: d.error_y.array, down: d.error_y.arrayminus}))(document.getElementById('plot').data.at(-1))"
    )
    row = int(page.evaluate("document.activeElement.dataset.row"))
    energy = rows(6)["energy_j"][row]
    assert marked["up"] == pytest.approx([0.1 * energy], abs=1e-6) and marked["down"] == pytest.approx([0.1 * energy], abs=1e-6)
    box = page.locator("#plot .points path").first.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.wait_for_selector("#plot .hoverlayer .hovertext")
    assert re.search(r"\d \[[\d.]+ to [\d.]+\] J per token, n = 5", page.text_content("#plot .hoverlayer"))


@needs_browser
def test_a_chinese_page_speaks_chinese_and_leaves_data_alone(opened):
    page = opened(rows(6, card="energy"), language="zh")  # a card called like a word of the page
    head, shown = page.locator("thead").inner_text(), page.locator("main").inner_text() + page.locator("header").inner_text()
    assert (
        page.get_attribute("html", "lang") == "zh" and "依据" in head and "策略" in head and "每词元能量 [J]" in page.text_content("#plot")
    )
    assert not re.search(r"rows|listed|Front|Download|throughput|measured", shown) and "energy" in page.locator("tbody").inner_text()
    page.locator("summary", has_text="卡").click()
    page.get_by_label("energy (6)").check()
    assert "card=energy" in page.url and page.text_content("#status").startswith("6 行")


def test_every_word_of_the_page_has_a_chinese_one():
    catalogue = Words("zh").catalogue
    said = [*explore.SAID.findall(asset("explore.js")), *re.findall(r'\bt\("([^"]+)"', asset("explore.html")), *explore.KNOWN]
    assert len(said) > 60 and not [word for word in said if not catalogue.get(word)]


@needs_browser
def test_sorting_by_a_column_head(opened):
    page = opened(rows(30))
    page.locator('th button[data-sort="energy_j"]').click()
    assert page.get_attribute('th:has(button[data-sort="energy_j"])', "aria-sort") == "descending" and "down=1" in page.url
    values = [float(cell.split()[0]) for cell in page.locator("tbody td:nth-child(4)").all_inner_texts()]
    assert values == sorted(values, reverse=True)


@needs_browser
def test_the_csv_has_every_row_and_no_formula(opened):
    page = opened(rows(300, source="=HYPERLINK(1)", where='@a,"b"', card="-2+3"))
    with page.expect_download() as waiting:
        page.click("#csv")
    read = list(csv.DictReader(waiting.value.path().read_text(encoding="utf-8").splitlines()))
    assert len(read) == 300 and {r["source"] for r in read} == {"'=HYPERLINK(1)"} and {r["where"] for r in read} == {'\'@a,"b"'}
    assert {r["card"] for r in read} == {"'-2+3"} and float(read[0]["energy_j"]) > 0
    assert len(page.locator("tbody tr").all()) == 200 and "of 300 rows are listed" in page.text_content("#shown")


@needs_browser
def test_values_from_data_run_nothing(opened):
    """The fixture fails on any dialog, error or request: a script, an event handler and a javascript: link stay text."""
    evil = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"
    page = opened(rows(8, model=evil, card=evil, strategy=evil, link="javascript:alert(3)", where=evil))
    page.locator("tbody tr").first.focus()
    box = page.locator("#plot .points path").first.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.wait_for_selector("#plot .hoverlayer .hovertext")
    assert page.locator("tbody a").count() == 0 and page.locator("main img").count() == 0 and evil in page.locator("tbody").inner_text()


@needs_browser
def test_bases_differ_in_shape_and_colour(opened):
    page = opened(rows(5, basis=["measured", "published", "predicted", "simulated", "estimated"]))
    looks = page.evaluate(
        "document.getElementById('plot').data.filter(d => d.mode === 'markers' && d.name).map(d => [d.name, "
        "d.marker.symbol, d.marker.color])"
    )
    ticks = page.locator("#plot .ytick text").all_text_contents() + page.locator("#plot .xtick text").all_text_contents()
    assert ticks and all(float(tick) > 0 for tick in ticks) and max(ticks.count(tick) for tick in ticks) == 1, ticks
    assert len(looks) == 5 == len({symbol for _, symbol, _ in looks}) == len({color for *_, color in looks})
    assert page.locator(".badge").count() == 5


@needs_browser
def test_twenty_thousand_rows_open_quickly_and_fit_a_phone(opened):
    page = opened(rows(20_000), width=390)
    assert count(page) == 20_000 and page.evaluate("document.documentElement.scrollWidth") <= 390
    assert not page.locator("#controls").is_visible() and page.locator("tbody tr").count() == 40
    waiting = max(1.0, 2 * os.getloadavg()[0] / os.cpu_count())  # for a core, where others compute too
    assert int(page.get_attribute("html", "data-ready")) < 2_000 * waiting
    assert "moduleName" not in page.content()  # Plotly without its wrapper


@needs_browser
def test_a_tip_among_twenty_thousand_points_is_that_of_its_row(opened):
    """The points are drawn by WebGL and their tips written on hover; the row under the pointer is found by its own coordinates."""
    page = opened(rows(20_000))
    place = """i => { const g = document.getElementById("plot"), l = g._fullLayout, b = g.getBoundingClientRect();
        return [b.x + l._size.l + l.xaxis.d2p(data.token_s[i]), b.y + l._size.t + l.yaxis.d2p(data.energy_j[i])]; }"""
    page.mouse.move(*page.evaluate(place, 4321))
    page.wait_for_selector("#plot .hoverlayer .hovertext")
    alike = rows(20_000)
    energy = alike["energy_j"][4321]
    assert f"{energy:.2f} [{0.9 * energy:.2f} to {1.1 * energy:.2f}] J per token, n = 5" in page.text_content("#plot .hoverlayer")


def test_the_rows_of_the_sample_and_of_the_evidence(tmp_path):
    """Energies, times and scores are those of the tables; every published row links to an address of its source."""
    found = explore.explore(["sample", "serving-cpu"], evidence=True, out=tmp_path / "deep" / "page.html")
    text = (tmp_path / "deep" / "page.html").read_text(encoding="utf-8")
    data = json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.S)[1])
    assert found["rows"] == len(data["energy_j"]) and found["bases"]["estimated"] == 32 and found["bases"]["published"] > 100
    sample = explore.of_experiment("sample", tmp_path / "page.html")
    tokens = sample[sample["unit"] == "token"]
    assert tokens["token_s"].to_numpy() == pytest.approx((tokens["batch"].astype(int) / tokens["throughput_per_s"]).to_numpy())
    assert (
        set(sample["unit"]) == {"token", "item"}
        and sample["link"].str.endswith("summary.csv").all()
        and not sample["link"].str.contains(":").any()
    )
    evidence = explore.of_evidence()
    named = evidence[evidence["source"] == "ecocompute"]
    assert len(named) and named["link"].str.match("https://(github.com|doi.org)/").all()


def test_a_published_row_links_to_its_file_at_its_commit_where_one_repository_is_meant():
    places = ["a/b.json at 841d1a5049e1, sum", "leaderboard-v2: data/x.json at c3af7f31e231", "closed/x.txt at 198fc46799b3", "table 2"]
    table = pd.DataFrame({"source": ["joulebench", "ml_energy", "mlperf_inference", "study"], "location": places})
    assert explore.links(table) == [
        "https://github.com/danielcregg/llm-energy-framework/blob/841d1a5049e1/a/b.json",
        "https://github.com/ml-energy/leaderboard-v2/blob/c3af7f31e231/data/x.json",
        "https://github.com/mlcommons/inference_results_v4.1",
        "",
    ]


def test_predictions_are_called_predicted_and_have_intervals():
    found = explore.of_predictions().dropna(subset=["energy_j"])
    assert set(found["basis"]) == {"predicted"} and len(found) > 50
    assert (found["energy_j_low"] < found["energy_j"]).all() and (found["energy_j"] < found["energy_j_high"]).all()


def test_no_row_is_refused(tmp_path):
    with pytest.raises(UserError, match="no row with an energy"):
        explore.explore([], out=tmp_path / "page.html")
