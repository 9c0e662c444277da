"""Every published claim has a computed verdict: the known contradictions are found with the right numbers, and verdicts follow the cells.

Expected numbers are worked out by hand from the printed figures, beside each test.
"""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import simulated_studies
from scipy import stats

from eai import schema, tables
from eai.claims import checks, evaluate, tabular, verdicts
from eai.errors import UserError


@pytest.fixture(scope="module")
def published():
    return {name: tables.read_published(name) for name in tables.published_names()}


@pytest.fixture(scope="module")
def result(published):
    return verdicts.all_verdicts(published)


def of(result, identity):
    """The one verdict row with this id."""
    (row,) = result[result["id"] == identity].to_dict("records")
    return row


def reasons(result, check, table=""):
    """The reasons of a check's inconsistent findings, joined."""
    use = result[(result["check"] == check) & (result["verdict"] == "inconsistent") & result["rows"].str.contains(table)]
    return " | ".join(use["reason"])


# --- the registry and the tables


def test_every_published_column_is_registered(published):
    for name, frame in published.items():
        known = {c.name for c in schema.TABLES["claims" if name == "claims" else "published"]}
        assert set(frame.columns) <= known, (name, set(frame.columns) - known)


def test_every_figure_has_a_source_with_a_title_and_a_licence(published):
    titles = set(published["sources"]["source"])
    for name, frame in published.items():
        assert set(frame["source"]) <= titles and frame["source"].notna().all(), name
        if name not in ("claims", "sources", "ecocompute_sessions"):
            assert frame["location"].notna().all() and frame["licence"].notna().all(), name


def test_the_registry_is_well_formed(published):
    claims = published["claims"]
    assert claims["id"].is_unique and claims["claim"].is_unique and len(claims) >= 100
    assert set(claims["kind"]) <= {*verdicts.KINDS, "checks"}
    assert (claims["low"] <= claims["high"])[claims["low"].notna()].all()


def test_no_claim_of_the_registry_carries_a_verdict(published):
    cells = {str(cell) for column in published["claims"] for cell in published["claims"][column]}
    assert not cells & set(tabular.VERDICTS)


def test_no_check_names_a_gpu_or_a_model(published):
    names = {n for f in published.values() for c in ("gpu", "model") if c in f for n in f[c].dropna().astype(str)}
    modules = [p for p in Path(evaluate.__file__).parent.glob("*.py") if p.stem not in ("__init__", "commands")]
    assert len(modules) > 5
    for module in modules:
        code = re.sub(r'""".*?"""', "", module.read_text(), flags=re.S)
        assert not [n for n in names if re.search(rf"{re.escape(n)}", code)], module


# --- the study's contradictions


def test_the_early_tables_eor_is_power_over_throughput(result):
    assert "eor is power_w / throughput_tok_s in 6 of 6 rows" in reasons(result, "mislabelled", "study_platforms_measured")


def test_turning_points_are_said_to_lie_apart_only_where_they_do(result, published):
    # of gross pairs at 3 B: 11111.78 / 11267.69 saves on the T4, 3779.60 / 3382.64 costs on the RTX 5090; the RTX 4090 D's 3 to 3.8 is net
    found = of(result, "A-nf4-crossover")
    assert found["verdict"] == "consistent" and "lie apart on t4 and rtx5090 (" in found["reason"]
    rows = published["ecocompute_measurements"]
    net = rows.assign(energy_j_per_1k_tok=rows["energy_j_per_1k_tok"].where(rows["session"] != "T4-csv", rows["energy_j_per_1k_tok"] * 0.8))
    only = verdicts.all_verdicts({"ecocompute_measurements": net, "claims": published["claims"].query("id == 'A-nf4-crossover'")})
    assert of(only, "A-nf4-crossover")["verdict"] == "untested" and "accounted differently" in of(only, "A-nf4-crossover")["reason"]


def test_a_tweor_implies_an_impossible_time(result):
    # 0.0104 / 0.0358 = 0.2905 s for 68.74 Wh; 0.0076 / 0.0242 = 0.314; 0.0072 / 0.0221 = 0.326
    text = reasons(result, "physical", "study_mmlu_by_gpu")
    assert "0.291 to 0.326 s" in text and "8.5" not in text.split("0.291")[0]
    # 68.74 Wh and 81.86 Wh at the RTX 3090 Ti's 450 W
    assert "at the board limit the energy takes at least 550 to 655 s" in text


def test_a_reduction_is_the_same_across_models(result):
    # 31.72 / 42.29 and 29.74 / 39.65 are 0.7501 both
    assert "-25.0, -25.0 %" in reasons(result, "structure", "study_quantization_strategies")


def test_one_energy_stands_for_two_configurations(result):
    assert "262.25 is printed for 2 configurations that differ in quantization" in reasons(
        result, "one_value", "study_energy_by_task:15; study_gsm8k_distillation:3"
    )


def test_the_task_table_compares_hardware_too(result):
    assert "42.29 is rtx4090's, 326.95 is a100_pcie's" in reasons(result, "restated")


def test_headlines_without_data_are_untested(result):
    for identity in ("S-a100-int8", "S-4090-fp16", "S-synergy", "S-training", "S-roi", "S-dynamic-speed"):
        assert of(result, identity)["verdict"] == "untested", identity


def test_the_ranking_is_refuted_by_the_sources_own_table(result):
    # 165 / 98.4 = 1.677 J against 280 / 156.8 = 1.786 J per token
    row = of(result, "S-a100-best")
    assert row["verdict"] == "inconsistent" and "1677" in row["reason"] and "1786" in row["reason"]


def test_two_sections_exclude_each_other(result):
    for identity in ("S-fp16-accuracy-slide", "S-fp16-accuracy-text"):
        row = of(result, identity)
        assert row["verdict"] == "inconsistent" and "the source also states" in row["reason"]
    assert of(result, "S-maths-340")["verdict"] == "inconsistent"  # 326.95 / 42.29 is 7.7-fold, not 4.4-fold


def test_power_above_the_claimed_limit(result):
    assert "280 W" in reasons(result, "physical", "study_platforms_measured")  # where 250 W is stated for the card


def test_scores_apart_beyond_chance(result):
    assert "0.715 on" in reasons(result, "scores", "study_mmlu_by_gpu") and "0.526 on" in reasons(result, "scores", "study_mmlu_by_gpu")


def test_two_of_nine_codes_do_not_follow_the_rule(result):
    rows = result[(result["check"] == "affine") & (result["verdict"] == "inconsistent")]
    # 16.93 x -5.26 + 110 = 20.95; 16.93 x -3.67 + 110 = 47.87
    assert sorted(rows["computed"]) == ["21", "48"] and sorted(rows["stated"]) == ["20", "47"]


def test_worked_examples(result):
    assert of(result, "S-eor-example")["verdict"] == "consistent"  # 71.8 / 42.29 = 1.6978
    assert of(result, "S-eor-int8-example")["computed"] == "2.235"  # 70.9 / 31.72 = 2.2352, printed 2.236
    assert of(result, "S-example-gpu")["computed"] == "33.37 Wh"


# --- the advisor's contradictions


def test_accounting_flips_three_signs(result):
    text = reasons(result, "accounting", "ecocompute_measurements")
    # gross: 87.96 / 15.47 over 180.74 / 34.72; 91.29 / 14.15 over 181.91 / 29.06; 72.90 / 20.12 over 105.17 / 29.19
    for pair in ("-3.1 % energy", "+9.2 % gross", "-7.9 % energy", "+3.1 % gross", "-8.1 % energy", "+0.6 % gross"):
        assert pair in text
    assert text.count("the sign rests on the accounting") == 3


def test_the_range_mixes_accountings(result):
    row = of(result, "A-int8-17-147")
    # 6127 / 5217 = 1.174 net of idle; 2718 / 1100 = 2.471 gross
    assert (
        row["verdict"] == "inconsistent"
        and "17.4 %" in row["reason"]
        and "147 %" in row["reason"]
        and "mixes two accountings" in row["reason"]
    )


def test_the_grid_follows_a_formula_on_power_below_idle(result):
    text = reasons(result, "structure", "ecocompute_grid")
    assert "47 figures of throughput_tok_s are a product" in text
    assert "7.39 to" in reasons(result, "physical", "ecocompute_grid")
    assert "differ in gpu" in reasons(result, "one_value", "ecocompute_grid")
    assert of(result, "A-grid")["verdict"] == "inconsistent"


def test_one_configuration_has_several_figures(result):
    text = reasons(result, "two_values", "ecocompute_measurements")
    assert re.search(r"19\.23 and 36\.42", text)
    assert "14.16 and 1768" in text
    assert "-8.1 % in one place and +10.8 % in another" in reasons(result, "two_changes", "ecocompute_measurements")


def test_a_cost_is_a_thousandfold_its_own_arithmetic(result):
    # 500,000 x 0.98 J = 0.136 kWh, printed 490
    assert "3,600" in reasons(result, "derived", "ecocompute_cost_examples")


def test_the_stated_repeatability_is_not_the_energys(result):
    row = of(result, "A-energy-cv")
    assert row["verdict"] == "inconsistent" and "6.803" in row["computed"]  # 152.30 / 2238.87
    assert of(result, "A-independent")["verdict"] == "inconsistent"


def test_the_count_is_of_runs_not_configurations(result):
    assert of(result, "A-93")["computed"] == "29 configurations"  # 8 + 14 + 7


def test_advice_against_advice(result):
    for identity in ("A-threshold-always", "A-threshold-never"):
        assert of(result, identity)["verdict"] == "inconsistent"


def test_retained_scores(result):
    # 70.8 / 71.5 is 99.02 %, where 99.3 is stated; 70.9 / 71.8 is 98.75 %, where 98.7 is
    assert of(result, "S-distill-retained")["computed"] == "99.02 %" and of(result, "S-distill-retained")["verdict"] == "inconsistent"
    assert of(result, "S-qwen-retained")["verdict"] == "consistent"


def test_true_claims_are_found_true(result):
    for identity in ("A-batch-64", "A-nf4-small", "A-power-not-energy", "S-deepseek-int8-eor", "S-five-tasks", "A-utilisation"):
        assert of(result, identity)["published_verdict"] == "consistent", identity


# --- verdicts follow the cells


def _changed(before, after):
    """Ids whose verdict or numbers differ."""
    a, b = (f.drop_duplicates("id").set_index("id") for f in (before, after))
    both = a.index.intersection(b.index)
    keep = ["verdict", "computed"]
    same = (a.loc[both, keep] == b.loc[both, keep]).all(axis=1)
    return set(both[~same]) | set(a.index.symmetric_difference(b.index)), a, b


def _part(published, names):
    """The named tables, the limits they are judged by, and the claims that need no other table."""
    claims = published["claims"]
    keep = claims["tables"].map(lambda t: isinstance(t, str) and set(t.split(";")) <= set(names))
    return {n: published[n] for n in names} | {"claims": claims[keep].reset_index(drop=True)}


STUDY = [
    "study_gsm8k_distillation",
    "study_mmlu_by_gpu",
    "study_energy_by_task",
    "study_quantization_strategies",
    "study_platforms_measured",
]
STUDY += ["study_platforms_spec", "study_affine_example"]


@pytest.mark.parametrize(
    ("table", "line", "column", "value"),
    [
        ("study_gsm8k_distillation", 3, "energy_wh", 301.17),
        ("study_platforms_measured", 5, "power_w", 295),
        ("study_affine_example", 7, "q", 21),
        ("ecocompute_cost_examples", 2, "energy_kwh", 0.1361),
        ("ecocompute_measurements", 37, "energy_j_per_1k_tok", 7943.0),
    ],
)
def test_a_mutated_cell_changes_the_verdicts_that_rest_on_it_and_no_other(published, table, line, column, value):
    world = _part(published, STUDY if table in STUDY else [table, "ecocompute_batch_guide"])
    result = verdicts.all_verdicts(world)
    mutated = world | {table: published[table].copy()}
    mutated[table][column] = mutated[table][column].astype(float)
    mutated[table].loc[line - 2, column] = value
    changed, a, b = _changed(result, verdicts.all_verdicts(mutated))
    assert changed
    for identity in changed:
        rows = set().union(*(tabular.parse_rows(f.loc[identity, "rows"]) for f in (a, b) if identity in f.index))
        assert (table, line) in rows, (identity, rows)


def test_the_order_of_tables_does_not_matter(published):
    world = _part(published, STUDY)
    a, b = (verdicts.all_verdicts(w).set_index("id")["verdict"] for w in (world, dict(reversed(world.items()))))
    pd.testing.assert_series_equal(a.sort_index(), b.sort_index())


# --- measured against published


def test_an_experiment_takes_over_where_it_covers_a_claim(published):
    base = {
        "gpu": "a800_sxm_80gb",
        "model": "m",
        "weights": "published",
        "batch_size": 1,
        "input_tokens": 512,
        "output_tokens": 256,
        "task": "generate",
        "basis": "measured",
        "gate": "ok",
        "baseline": "fp16",
    }
    rows = [
        base
        | {
            "quantization": q,
            "energy_j_per_token": e,
            "ratio_to_baseline": r,
            "ratio_to_baseline_low": r - 0.01,
            "ratio_to_baseline_high": r + 0.01,
        }
        for q, e, r in (("fp16", 4.4, 1.0), ("int8_pure", 6.5, 1.48))
    ]
    world = _part(published, ["ecocompute_measurements", "ecocompute_quantization_runs"])
    world["claims"] = world["claims"][world["claims"]["kind"] != "checks"]
    claims = verdicts.claim_verdicts(world, tabular.to_frame([]), pd.DataFrame(rows))
    row = of(claims, "A-pure-saves-5")
    assert row["verdict"] == "contradicted" and "+48.0 [+47.0, +49.0] %" in row["reason"] and row["published_verdict"] == "inconsistent"
    others = claims[claims["verdict"].isin(("reproduced", "contradicted"))]["id"].tolist()
    assert others == ["A-pure-saves-5"]


# --- a clean study of the same shape


def test_a_clean_study_has_no_inconsistent_claim():
    frame = simulated_studies.study(np.random.default_rng(5)).assign(source="clean", location="table 1")
    frame["quantization"] = frame["quantization"].replace({"fp32": "unspecified_baseline", "int8": "unspecified_int8"})
    level = frame[frame["quantization"] == "unspecified_int8"]
    base = frame[frame["quantization"] == "unspecified_baseline"]
    change = 100 * (level["energy_wh"].to_numpy() / base["energy_wh"].to_numpy() - 1)
    columns = tables.read_published("claims").columns
    row = {
        "id": "C-1",
        "source": "clean",
        "kind": "change",
        "claim": "c",
        "quantity": "energy_wh",
        "tables": "t",
        "factor": "quantization",
        "unit": "%",
    }
    row |= {
        "level": "unspecified_int8",
        "reference": "unspecified_baseline",
        "statistic": "each",
        "low": np.floor(change.min()),
        "high": np.ceil(change.max()),
        "tolerance": 0.0,
    }
    result = verdicts.all_verdicts({"t": frame, "claims": pd.DataFrame([row], columns=columns)})
    assert not (result["verdict"] == "inconsistent").any() and of(result, "C-1")["verdict"] == "consistent"


# --- parts


@pytest.mark.parametrize(("text", "value"), [("71.8 / 42.29", 71.8 / 42.29), ("-(2 + 3) * 4", -20.0), ("100 * (3 / 4 - 1)", -25.0)])
def test_reckon(text, value):
    assert evaluate.reckon(text) == pytest.approx(value)


@pytest.mark.parametrize("text", ["__import__('os')", "x + 1", "1 / 0", "(", "'a'"])
def test_reckon_refuses_anything_but_arithmetic(text):
    with pytest.raises(UserError):
        evaluate.reckon(text)


def test_conditions():
    frame = pd.DataFrame({"gpu": ["a", "b", "c"], "n": [1.0, 2.0, np.nan]})
    tables_ = {"t": evaluate.prepared(frame.assign(energy_wh=[1.0, 2.0, 3.0]), "t")}
    assert evaluate.select(tables_, "t", "gpu=a|c")["gpu"].tolist() == ["a", "c"]
    assert evaluate.select(tables_, "t", "n>=2")["gpu"].tolist() == ["b"]
    assert evaluate.select(tables_, "t", "n>=2|")["gpu"].tolist() == ["b", "c"]
    with pytest.raises(UserError, match="cannot be read"):
        evaluate.select(tables_, "t", "gpu is a")


def test_a_crossing_shows_its_interaction():
    cells = {("a", "x"): 10.0, ("a", "y"): 8.0, ("b", "x"): 20.0, ("b", "y"): 12.0}
    frame = evaluate.prepared(pd.DataFrame([{"gpu": g, "quantization": q, "energy_wh": e} for (g, q), e in cells.items()]), "t")
    claim = pd.Series({"factor": "gpu", "level": "quantization", "quantity": "energy_wh"})
    outcome = evaluate.synergy(claim, frame)
    assert outcome.verdict == "untested" and outcome.computed == "-25 %"  # 0.6 / 0.8


@pytest.mark.parametrize(
    ("y", "verdict"), [([3, 5, 9, 12, 14, 19], "consistent"), ([19, 14, 12, 9, 5, 3], "inconsistent"), ([5, 1, 6, 2, 7, 3], "untested")]
)
def test_a_correlation_has_fishers_interval(y, verdict):
    """A positive one is claimed."""
    rows = pd.DataFrame({"model": list("abcdef"), "energy_wh": np.array(y) + 0.01, "power_w": np.arange(101.0, 107.0)})
    claim = pd.Series({"factor": "model", "level": "power_w", "quantity": "energy_wh", "low": 0.0, "high": 1.0, "tolerance": 0.0})
    outcome, found = evaluate.correlation(claim, evaluate.prepared(rows, "t")), stats.pearsonr(np.arange(6), y)
    low, high = found.confidence_interval()
    assert outcome.verdict == verdict and outcome.reason.startswith(f"r = {found.statistic:+.2f} [{low:+.2f}, {high:+.2f}], n = 6")


def test_a_scaling_exponent_is_recovered():
    frame = evaluate.prepared(
        pd.DataFrame({"gpu": "a", "output_tokens": [64, 128, 256, 512], "energy_j_per_request": [8.0, 16.0, 32.0, 64.0]}), "t"
    )
    claim = pd.Series({"factor": "output_tokens", "quantity": "energy_j_per_request", "low": 1.0, "high": 1.0, "tolerance": 0.1})
    assert evaluate.scaling(claim, frame).computed == "1"


def test_every_verdict_has_an_id_of_its_own_and_rows_that_exist(published, result):
    assert result["id"].is_unique
    for _, row in result.iterrows():
        for table, line in tabular.parse_rows(row["rows"]):
            assert table in published and 2 <= line <= len(published[table]) + 1, row["id"]
        assert row["rows"] and row["reason"] and row["verdict"] in tabular.VERDICTS


def test_the_checks_named_by_claims_exist(published):
    named = {c for q in published["claims"].query("kind == 'checks'")["quantity"] for c in q.split(";")}
    assert named <= {c.__name__ for c in checks.CHECKS}
