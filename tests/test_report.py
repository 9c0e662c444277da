"""The report and the talk say what the tables say, in both languages, in pages that fetch nothing."""

import dataclasses
import re
import string
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from planted import Truth, experiment, items

from eai import paths, plots, report, schema, tables
from eai.errors import UserError
from eai.plots.style import percent
from eai.report import causes, elements, gallery, publishing, quality, script, sections, slides, speech, wording
from eai.report.facts import from_tables
from eai.report.format import interval, number

PLANTED = Truth(
    gpus={"a100": 0.7, "v100": 1.5},
    quantizations={"fp16": 1.0, "int8_pure": 0.6, "dynamic": 1.0},
    batches={1: 1.0, 8: 0.2},
    synergy={("v100", "int8_pure"): 1.3},
)
DICTIONARIES = [(module.__name__, name, words) for module in (wording, speech) for name, words in vars(module).items()
                if name.isupper() and isinstance(words, dict) and all(isinstance(v, tuple) for v in words.values())]  # fmt: skip


def facts_of(truth: Truth, blocks: int = 5, seed: int = 0, **more):
    return from_tables("planted", *experiment(truth, blocks, np.random.default_rng(seed)), **more)


@pytest.fixture(scope="module")
def planted():
    return facts_of(PLANTED)


@pytest.fixture(scope="module")
def sample():
    return report.gather("sample")


WORDS = (sections.abstract, sections.setup, sections.method, sections.guidance, sections.limits)


def words_of(facts, language: str, parts=WORDS) -> str:
    """The prose of the sections that draw nothing, or of those named."""
    return "\n".join(e.markdown() for part in parts for e in part(facts, language) if e.kind == "prose")


@pytest.fixture(scope="module")
def planted_text(planted):
    return "\n".join(e.markdown() for section in sections.report(planted, "en") for e in section if e.kind == "prose")


@pytest.mark.parametrize(("module", "name", "words"), DICTIONARIES, ids=[name for _, name, _ in DICTIONARIES])
def test_both_languages_fill_in_the_same_numbers(module, name, words):
    for key, (english, chinese) in words.items():
        fields = [{field for _, field, _, _ in string.Formatter().parse(text) if field} for text in (english, chinese)]
        assert not (english and chinese) or fields[0] == fields[1], (name, key)
        if english and name not in ("COLUMNS",):
            assert re.search("[\u4e00-\u9fff]", chinese), (name, key)


def test_the_outcomes_of_the_abstract_are_the_tables(planted, planted_text):
    text = planted_text
    for outcome, words in (("lower", "show a lower"), ("equivalent", "equivalence")):
        assert re.search(rf"{(planted.comparisons['outcome'] == outcome).sum()} {words}", text)
    assert f"Of {len(planted.comparisons)} comparisons" in text and len(planted.comparisons) == 8


def test_the_largest_saving_is_the_planted_one(planted_text):
    """int8_pure saves 40 % on the a100 and 22 % on the v100."""
    found = re.search(r"largest shown saving: `int8_pure, a100.*?× (\d\.\d+) \[(\d\.\d+), (\d\.\d+)\]", planted_text)
    ratio, low, high = map(float, found.groups())
    assert abs(ratio - 0.6) < 0.02 and low <= ratio <= high


def test_the_planted_interaction_is_counted_and_nothing_else():
    facts = facts_of(PLANTED, blocks=8)
    assert "1 of 2 are shown to differ from 1" in causes.synergy_sentence(facts.synergies["gpu"], "gpu", "en")


def test_no_saving_is_claimed_where_none_was_planted():
    nothing = Truth(quantizations={"fp16": 1.0, "int8_pure": 1.0}, block_sd=0.01)
    text = words_of(facts_of(nothing, blocks=3), "en")
    assert "No saving was shown" in text and "largest shown saving" not in text.lower()


@pytest.mark.parametrize("basis", schema.BASES)
def test_only_measured_energy_is_called_measured(basis):
    facts = facts_of(Truth(basis=basis), provenance=[{"job": "a"}])
    for language, none in (("en", "measured** by a sensor"), ("zh", "由传感器**实测**")):
        first, last = ("\n".join(e.markdown() for e in part(facts, language)) for part in (sections.abstract, sections.limits))
        assert (none in first) == (basis == "measured") and wording.say(wording.BASIS, basis, language) in first
        assert (wording.say(wording.BASIS, basis, language) in last) == (basis != "measured")


def test_the_sample_is_called_estimated_on_every_page_and_slide_that_shows_energy(sample):
    assert set(sample.summary["basis"]) == {"estimated"}
    assert "No energy was measured here" in words_of(sample, "en") and "此处未实测能量" in words_of(sample, "zh")
    first, last = slides.slide("opening", sample, "en"), slides.slide("closing", sample, "en")
    assert all(any("No energy was measured" in e.markdown() for e in s if e.kind == "prose") for s in (first, last))
    for name in ("strategies", "where", "synergy", "guidance"):
        shown = slides.slide(name, sample, "en")
        figures, prose = [e.figure for e in shown if e.kind == "picture"], " ".join(e.markdown() for e in shown if e.kind == "prose")
        assert figures or "estimated" in prose, name
        assert all("estimated" in [t.get_text() for ax in figure.axes for t in ax.texts] for figure in figures), name


def test_protocol_and_replay_are_claimed_only_where_provenance_was_recorded(sample, planted, planted_text):
    for facts, text, known in ((sample, words_of(sample, "en"), True), (planted, planted_text, False)):
        text += script.script(facts, "en")
        assert ("random order" in text) == known and ("eai replay" in text) == known and ("verified to be what ran" in text) == known


def test_without_scores_nothing_is_said_of_quality_and_with_them_eor_follows(planted, planted_text):
    assert "No task score was measured" in planted_text
    ids = planted.summary["configuration_id"]
    scored = facts_of(PLANTED, scored=pd.DataFrame({"configuration_id": ids, "score": 0.5, "n_items": 400}))
    text = words_of(scored, "en", (quality.scores, sections.limits))
    row = scored.usable.iloc[0]
    assert "No task score" not in text and f"| {number(0.5 / row['energy_wh'])} [" in text
    assert "at most 400 items" in text and "not compared item by item" in text


def test_scores_of_items_are_compared_with_the_baseline_in_words_table_and_picture():
    windows, energies = experiment(PLANTED, 4, np.random.default_rng(0))
    right = {"fp16": 0.8, "int8_pure": 0.8, "dynamic": 0.5}
    facts = from_tables("scored", windows, energies, items=items(windows, right, 300, np.random.default_rng(1)))
    told = facts.pairs.groupby("quantization")["outcome"].agg(set).to_dict()
    assert told == {"int8_pure": {"inconclusive"}, "dynamic": {"lower"}}
    elements = list(quality.scores(facts, "en"))
    text = "\n".join(e.markdown() for e in elements if e.kind == "prose")
    assert "4 of 8 scores are shown to be lower and 0 higher; 4 are not decided. 300 items" in text
    row = facts.pairs.iloc[0]
    assert interval(row, "eor_ratio") in text and len([e for e in elements if e.kind == "picture"]) == 1
    p_front = facts.front["p_front"]
    assert p_front.between(0.01, 0.94).any()
    told = f"energy, time and score with a probability above 95 %: {(p_front > 0.95).sum()} of the {len(p_front)} configurations"
    assert told in words_of(facts, "en", (sections.guidance,))
    for language in ("en", "zh"):
        assert len([e for e in sections.guidance(facts, language) if e.kind == "picture"]) == 2
        assert 0 < script.spoken_s(script.notes("guidance", facts, language).script) <= 60


@pytest.mark.parametrize("with_tokens", [True, False], ids=["answers generated", "continuations scored: no token"])
def test_tasks_that_run_as_their_items_come_are_costed_by_the_item(with_tokens):
    truth = Truth(quantizations={"fp16": 1.0, "nf4": 0.7}, tasks={"facts": 1.0})
    windows, energies = experiment(truth, 4, np.random.default_rng(0))
    as_run = {"input_tokens": 0, "output_tokens": 0, "requests": 40, "calls": 2}
    windows = windows.assign(**as_run, tokens_out=windows["tokens_out"] if with_tokens else 0)
    facts = from_tables("tasks", windows, energies, items=items(windows, {"fp16": 0.9, "nf4": 0.4}, 40, np.random.default_rng(1)))
    joules = (
        windows.merge(energies, on="attempt", suffixes=("", "_e"))
        .groupby("quantization")["energy_j"]
        .agg(lambda e: np.exp(np.log(e / 40).mean()))
    )
    text = words_of(facts, "en", (sections.cost, sections.guidance))
    assert f"runs from {number(joules['nf4'])} [" in text and "J per item of a task" in text and "output token" not in text
    assert "每题的模拟能量" in words_of(facts, "zh", (sections.cost,))
    assert len(slides.talk(facts, "en")) == 7 and facts.kept["energy_saved"].iloc[0] == pytest.approx(0.3, abs=0.03)
    _, axes = plots.figure(1, 2)
    plots.cost(facts.usable, axes[0])
    plots.forest(facts.comparisons, axes[1])
    assert axes[0].get_ylabel() == "energy per item of the task [J]" and axes[1].get_xlabel() == "energy per item, ratio to fp16"


def test_the_matrix_of_the_guidance_is_the_computed_one(planted):
    words = words_of(planted, "en", (sections.guidance,))
    for row in planted.choices.to_dict("records"):
        assert row["scenario"] in words
    sure = (planted.front["p_front"] > 0.95).sum()
    assert 0 < sure < len(planted.front)
    assert f"Pareto front of energy and time with a probability above 95 %: {sure} of the 12 configurations" in words
    best = planted.choices.set_index("scenario").loc["lowest energy"]
    assert (best["gpu"], best["quantization"], best["batch_size"]) == ("a100", "int8_pure", 8)
    assert f"| lowest energy | a100, int8_pure, 8 | {100 * best['energy_saved']:.0f} % | not measured |" in words
    assert "在 v100 上" in words_of(planted, "zh", (sections.guidance,)) and "`int8_pure, a100, batch 8`" in words
    assert "keeps 95 % of the score | no score measured |" in words
    assert "| 保留 95 % 的得分 | 未测得分 |" in words_of(planted, "zh", (sections.guidance,))


@pytest.mark.parametrize("blocks", [1, 3])
def test_unknown_probabilities_of_the_front_are_counted_not_hidden(blocks):
    """One block gives no error, so no probability; after three, two configurations that lost theirs are named as unknown."""
    facts = facts_of(PLANTED, blocks)
    if blocks == 1:
        assert facts.front["p_front"].isna().all()
        assert "is unknown for all 12: one block gives no error" in quality.front_sentence(facts, "en")
        assert "12 个配置中哪些位于帕累托前沿" in quality.front_sentence(facts, "zh")
        return
    lost = dataclasses.replace(facts, front=facts.front.assign(p_front=facts.front["p_front"].mask(facts.front.index < 2)))
    told = quality.front_sentence(lost, "en")
    assert "of the 10 configurations whose probability is known" in told
    assert "For 2 of 12 configurations the probability is unknown" in told
    assert "unknown" not in quality.front_sentence(facts, "en")


def test_one_block_shows_nothing_and_claims_nothing():
    """No interval, no test, no probability: neither a saving nor its absence, and no bare question mark."""
    facts = facts_of(PLANTED, blocks=1)
    for language, said in (("en", "neither a saving nor its absence"), ("zh", "既没有证实节省，也没有证实没有节省")):
        text = words_of(facts, language)
        assert said in text and "?" not in text
    text = words_of(facts, "en")
    assert "No saving was shown" not in text and "every figure is a single observation" in text
    assert "cannot be said" in text and "| unknown |" in text and "intervals are wide" not in text


def test_a_lone_steady_strategy_is_no_lowest():
    """int8_pure fails the gate: fp16 alone is left, which the comparison shows to cost more."""
    windows, energies = experiment(Truth(quantizations={"fp16": 1.0, "int8_pure": 0.5}, block_sd=0.001), 4, np.random.default_rng(0))
    wild = windows["quantization"] == "int8_pure"
    energies["energy_j"] *= np.where(energies["attempt"].isin(windows.loc[wild & (windows["block"] == 1), "attempt"]), 1.3, 1.0)
    facts = from_tables("lone", windows, energies)
    assert facts.summary.set_index("quantization")["gate"].to_dict() == {"fp16": "ok", "int8_pure": "rejected"}
    (told,) = sections.rules(facts, "en")
    assert "only **fp16** of 2 strategies was steady enough" in told and "no lowest" in told and "%" not in told


def test_a_share_of_the_roof_is_stated_where_one_is_known(sample):
    known = facts_of(Truth(gpus={"a100_pcie": 1.0}, models={"qwen2.5-7b-instruct": 1.0}))
    shares = 100 * known.roof["share_of_roof"]
    text = words_of(known, "en", (causes.roof,))
    assert f"A whole call reaches {number(shares.min(), 2)} to {number(shares.max(), 2)} % of its roof; for 2 of 2" in text
    without = dataclasses.replace(sample, roof=sample.roof.assign(share_of_roof=np.nan, roof_flop_s=np.nan, peak_flop_s=np.nan))
    assert "no peak of this hardware is known" in words_of(without, "en", (causes.roof,))
    nobody = facts_of(Truth())
    assert "No configuration whose flops can be counted: unknown model 'model-7b'" in words_of(nobody, "en", (causes.roof,))


def test_what_was_left_out_and_what_was_not_varied_is_named():
    windows, energies = experiment(PLANTED, 5, np.random.default_rng(3))
    windows.loc[windows.index[:7], ["status", "reason"]] = ["throttled", "hot"]
    text = words_of(from_tables("left", windows, energies), "en")
    assert "Left out: 7 × throttled (hot)" in text
    assert "Model: only model-7b." in text and "Hardware: only" not in text


def test_only_the_baseline_gives_a_report_without_comparisons():
    facts = facts_of(Truth(quantizations={"fp16": 1.0}))
    assert "nothing to compare" in words_of(facts, "en") and len(slides.talk(facts, "zh")) == 7


@pytest.mark.parametrize("language", wording.LANGUAGES)
def test_seven_slides_last_seven_minutes_and_their_scripts_fit(sample, planted, language):
    assert list(script.SECONDS.values()) == [60, 90, 60, 60, 60, 60, 30] and sum(script.SECONDS.values()) == 420
    for facts in (sample, planted):
        for section in slides.talk(facts, language):
            notes = section[-1]
            assert 0.5 * notes.seconds <= script.spoken_s(notes.script) <= notes.seconds, notes
        assert "**" not in script.script(facts, language)


def test_the_pace_of_speaking():
    assert script.spoken_s("one two three four " * 33) == pytest.approx(132 / script.WORDS_PER_S)
    assert script.spoken_s("能量" * 18) == pytest.approx(36 / script.CHARACTERS_PER_S)


def test_many_rules_are_counted_not_listed():
    many = Truth(
        gpus=dict.fromkeys("abcd", 1.0), models=dict.fromkeys("wxyz", 1.0), quantizations={"fp16": 1.0, "int8_pure": 0.5}, block_sd=0.01
    )
    found = sections.rules(facts_of(many), "en")
    assert len(found) == 1 and "**int8_pure** has the lowest" in found[0] and "in 16 of 16 settings" in found[0]


@pytest.mark.parametrize(
    ("value", "text"), [(0.0621, "0.0621"), (1534, "1534"), (0.5, "0.500"), (float("nan"), "-"), (0, "0"), (-2.345, "-2.35")]
)
def test_numbers_have_three_digits(value, text):
    assert number(value) == text


@given(st.floats(1e-4, 1e6))
def test_a_printed_number_is_within_half_a_digit(value):
    assert float(number(value)) == pytest.approx(value, rel=5.01e-3)


def test_intervals_and_probabilities_as_text():
    assert interval({"x": 0.62149, "x_low": 0.6034, "x_high": 0.6393}, "x", 2) == "0.62 [0.60, 0.64]"
    assert interval({"x": 0.5, "x_low": float("nan"), "x_high": float("nan")}, "x") == "0.500"
    assert [percent(p) for p in (1.0, 0.953, 0.0, float("nan"))] == ["> 99 %", "95 %", "< 1 %", "?"]


def test_latex_makes_every_special_character_plain():
    assert elements.latex("5 % of `int8_pure` & **$x_1$**") == r"5 \% of \texttt{int8\_\allowbreak pure} \& \textbf{\$x\_1\$}"
    assert elements.escaped("a\\b{c}~^#") == r"a\textbackslash{}b\{c\}\textasciitilde{}\textasciicircum{}\#"


def test_a_table_escapes_cells_and_says_that_it_was_cut():
    table = elements.Table(pd.DataFrame({"a_b": ["x|y"] * 30, "p %": ["<1"] * 30}), "All of it.")
    assert table.markdown().count("\n| x\\|y | <1 |") == elements.MOST_ROWS and "first 24 of 30 rows" in table.markdown()
    assert r"a\_b & p \%" in table.tex() and table.tex().count(r"x|y") == elements.MOST_ROWS
    narrow, wide = (elements.Table(pd.DataFrame([[text] * 7], columns=list("abcdefg")), "Seven.") for text in ("x", "0.62 [0.60, 0.64]"))
    assert wide.tex().startswith(r"\begin{table*}") and table.tex().startswith(r"\begin{table}") and "table*" not in narrow.tex()
    assert elements.characters(pd.DataFrame({"a": ["xy"], "策略": ["z"]})) == (2 + 2) + (2 + 4)


def test_another_language_or_slide_is_refused(sample):
    with pytest.raises(UserError, match="language 'fr'"):
        sections.abstract(sample, "fr")
    with pytest.raises(UserError, match="slide 'thanks'"):
        slides.slide("thanks", sample, "en")
    with pytest.raises(UserError, match="language 'de'"):
        report.export("sample", language="de")


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    return folder, report.export("sample", folder, "zh")


def test_the_pages_hold_everything_and_fetch_nothing(exported):
    _, answer = exported
    for kind in ("html", "slides"):
        text = Path(answer["files"][kind]).read_text(encoding="utf-8")
        assert not re.search(r"""(?:src|href|url|import)\s*[=(]\s*["']?(?:https?:)?//""", text)
        assert 'lang="zh"' in text and 'name="viewport"' in text and "data:image/svg+xml;base64," in text
    html, deck = (Path(answer["files"][kind]).read_text(encoding="utf-8") for kind in ("html", "slides"))
    assert "<strong>此处未实测能量</strong>" in html and "stream" not in html and "output_type" not in html
    assert deck.count("<section>") == deck.count("<aside>") == 7 and html.count("<table>") == html.count('<div class="scroll">')


def test_markdown_and_latex_stand_on_their_own(exported):
    folder, answer = exported
    markdown, latex = (Path(answer["files"][kind]).read_text(encoding="utf-8") for kind in ("markdown", "latex"))
    pictures = re.findall(r"!\[.*?\]\((.+?)\)", markdown), re.findall(r"\\includegraphics\[.*?\]\{(.+?)\}", latex)
    assert len(pictures[0]) == len(pictures[1]) >= 4
    assert all((folder / name).stat().st_size > 1000 for name in (*pictures[0], *pictures[1]))
    plain = latex.replace(r"\{", "").replace(r"\}", "")
    assert plain.count("{") == plain.count("}") and plain.count(r"\begin{") == plain.count(r"\end{") > 8
    assert "ctexart" in latex and markdown.startswith("# 大语言模型推理的能耗")
    assert answer["files"]["script"] == str(folder / "script-zh.md")


def test_the_pages_go_where_the_help_says(scratch):
    """One of the repository's own: figures/<name>/report; a folder elsewhere: inside it, whatever else has its name."""
    mine = scratch / "data" / "runs" / "mine"
    mine.mkdir(parents=True)
    assert publishing.default_folder("mine") == publishing.default_folder(mine) == scratch / "figures" / "mine" / "report"
    assert publishing.default_folder("sample") == scratch / "figures" / "sample" / "report"
    assert publishing.default_folder("offline-tasks-cpu") == scratch / "figures" / "offline-tasks-cpu" / "report"
    assert publishing.default_folder(scratch / "elsewhere" / "mine") == scratch / "elsewhere" / "mine" / "report"
    with pytest.raises(UserError, match="--out is empty"):
        report.export("sample", " ")


def test_the_repository_is_not_written_to(exported):
    assert not (paths.SAMPLE / "report").exists() and not (paths.figures() / "report").exists()


def test_the_gallery_is_current_and_shows_every_committed_figure():
    """Generated: write it again with `python -c "from eai.report import gallery; gallery.write()"`."""
    committed = {path.stem for path in (paths.ROOT / "figures" / "sample").glob("*.svg")}
    assert (paths.ROOT / "figures" / "README.md").read_text(encoding="utf-8") == gallery.markdown()
    assert committed and committed <= set(gallery.figures()["figure"])


def test_every_figure_of_the_gallery_has_a_function_and_a_text():
    table = gallery.figures()
    assert len(table) >= 7 and table["figure"].is_unique
    assert all(hasattr(plots, name) for name in table["drawn_by"]) and (table["text"].str.len() > 40).all()


def test_an_imported_table_becomes_an_experiment_whose_report_claims_no_measurement_of_ours(scratch):
    windows, energies = experiment(Truth(basis="measured"), 4, np.random.default_rng(0))
    folder = tables.write_experiment("foreign", windows, energies)
    facts = report.gather("foreign")
    assert facts.comparisons["ratio_to_baseline"].iloc[0] == pytest.approx(0.8, rel=0.05) and len(facts.windows) == len(windows)
    assert "as its source states" in words_of(facts, "en") and "random order" not in words_of(facts, "en")
    with pytest.raises(UserError, match="holds windows already"):
        tables.write_experiment(folder, windows, energies)
    with pytest.raises(UserError, match="windows without a job"):
        tables.write_experiment("other", windows.assign(job=""), energies)


def test_a_study_of_many_series_is_shown_as_tables_and_a_heatmap_not_as_a_legend():
    many = Truth(gpus=dict.fromkeys(("a100", "v100"), 1.0), models={f"m{i}": 1.0 for i in range(9)})
    facts = facts_of(many, blocks=3)
    assert not [e for e in sections.cost(facts, "en") if e.kind == "picture"]
    assert [e for e in causes.factors(facts, "en") if e.kind == "picture"]
    _, ax = plots.figure()
    plots.cost(facts.usable, ax)
    assert len(ax.get_legend().get_texts()) == 2 and ax.get_title(loc="left").startswith("18 series, named in the table")
