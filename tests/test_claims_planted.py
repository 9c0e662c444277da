"""Each newer check on a small made-up table: found where it is planted, silent beside it. Expected values are plain arithmetic."""

import numpy as np
import pandas as pd
import pytest

from eai.claims import checks, commands, evaluate

LIMITS = pd.DataFrame({"gpu": ["a40"], "tdp_w": [300.0], "idle_power_w": [30.0]})


def verdicts(frame, check, limits=None):
    found = checks.check_table(pd.DataFrame(frame), limits=limits)
    return found[found["check"] == check]["verdict"].tolist()


PARTS = {"gpu_energy_j": [100.0, 200.0], "cpu_energy_j": [20.0, 30.0], "ram_energy_j": [5.0, 6.0]}
LABELS = {"model": ["m", "n", "o"] * 2, "quantization": ["fp16"] * 3 + ["nf4"] * 3, "energy_wh": [1.01, 2.02, 3.03] * 2}
TIMES = {"model": list("abcde"), "duration_s": [10.123, 25.457, 31.291, 47.713, 52.877]}


@pytest.mark.parametrize(
    ("check", "frame", "planted"),
    [
        ("parts", PARTS | {"energy_j": [125.0, 236.0]}, {"energy_j": [125.0, 300.0]}),
        ("carbon", {"energy_kwh": [1.0, 2.0], "carbon_kg": [0.4, 0.8]}, {"carbon_kg": [400.0, 800.0]}),
        (
            "constant_power",
            TIMES | {"energy_j": [1018.1, 2511.4, 3177.9, 4693.3, 5344.2]},
            {"energy_j": [round(42.5 * t, 4) for t in TIMES["duration_s"]]},
        ),
        (
            "kernels",
            LABELS | {"energy_wh": [1.01, 2.02, 3.03, 0.71, 1.43, 2.2], "throughput_tok_s": [50.0, 25.0, 16.0, 60.0, 30.0, 19.0]},
            {"energy_wh": LABELS["energy_wh"], "throughput_tok_s": [50.0, 25.0, 16.0, 50.1, 25.0, 16.1]},
        ),
        ("chance", {"task": ["mmlu"] * 2, "accuracy": [0.7, 0.6], "n_items": [14042] * 2}, {"accuracy": [0.7, 0.0]}),
        ("chance", {"task": ["mmlu"] * 2, "accuracy": [0.7, 0.6], "n_items": [14042] * 2}, {"accuracy": [0.7, 0.2]}),
    ],
)
def test_a_planted_fault_is_found_and_its_clean_table_is_not(check, frame, planted):
    assert "inconsistent" not in verdicts(frame, check)
    assert "inconsistent" in verdicts(frame | planted, check)


def test_labels_of_one_kernel_in_whole_run_figures_are_one_group():
    frame = {
        "quantization": ["fp16", "nf4", "int8_default", "fp32"],
        "energy_wh": [5.0, 5.02, 5.01, 5.03],
        "duration_s": [100.0, 100.4, 100.1, 100.6],
    }
    assert verdicts(frame, "kernels") == ["inconsistent"]


@pytest.mark.parametrize(("joules", "wrong"), [(8 * 250.0 * 60, False), (3 * 8 * 290.0 * 60, True)])
def test_energy_over_time_is_held_against_every_board_times_its_count(joules, wrong):
    frame = {"gpu": ["8 x A40"], "energy_j": [joules], "duration_s": [60.0]}
    found = checks.check_table(pd.DataFrame(frame).assign(gpu="8 x a40"), limits=LIMITS)
    bad = found[found["verdict"] == "inconsistent"]
    assert bool(len(bad)) == wrong and (not wrong or "of 8 boards" in bad["reason"].iloc[0])


def test_power_over_rate_that_no_idle_explains_is_found():
    frame = {"power_w": [200.0] * 3, "throughput_tok_s": [50.0] * 3, "energy_j_per_token": [4.01, 3.98, 9.7]}
    found = checks.check_table(pd.DataFrame(frame))
    assert "energy per token = power / throughput" in set(found.loc[found["verdict"] == "inconsistent", "claim"])
    good = checks.check_table(pd.DataFrame(frame | {"energy_j_per_token": [4.01, 3.98, 4.0]}))
    assert not (good["verdict"] == "inconsistent").any()


def test_a_column_that_explains_a_contradiction_is_named_instead():
    frame = {
        "gpu": ["a"] * 4,
        "model": ["m"] * 4,
        "quantization": ["fp16"] * 4,
        "task": ["t"] * 4,
        "energy_wh": [10.01, 10.02, 30.01, 30.05],
    }
    assert "inconsistent" in verdicts(frame, "two_values")
    found = checks.check_table(pd.DataFrame(frame | {"driver": ["x", "x", "y", "y"]}))
    (row,) = found[(found["check"] == "two_values") & (found["verdict"] == "untested")].to_dict("records")
    assert "column 'driver'" in row["reason"] and not (found[found["check"] == "two_values"]["verdict"] == "inconsistent").any()
    unrelated = checks.check_table(pd.DataFrame(frame | {"driver": ["x", "y", "x", "y"]}))
    assert set(unrelated[unrelated["check"] == "two_values"]["verdict"]) == {"inconsistent"}, "rows of one driver differ as much"


def test_of_many_contradictions_the_widest_are_named():
    """Thirteen configurations of two values each, the last one ninefold apart, the others threefold; twelve are listed."""
    names = [f"m{i:02}" for i in range(13)]
    frame = pd.DataFrame({"gpu": "a", "model": names * 2, "quantization": "fp16", "task": "t"})
    frame["energy_wh"] = [10.01 + 0.02 * i for i in range(13)] + [30.07 + 0.02 * i for i in range(12)] + [90.01]
    found = checks.check_table(frame)
    bad = found[(found["check"] == "two_values") & (found["verdict"] == "inconsistent")]["reason"]
    assert bad.str.contains("the 12 widest are listed").sum() == 1 and bad.str.contains("m12").any()


def test_a_time_that_was_set_is_no_measurement_and_slack_is_kept():
    frame = {"gpu": ["a", "b", "c"] * 3, "model": ["m"] * 3 + ["n"] * 3 + ["o"] * 3, "duration_s": [629.91, 629.94, 629.96] * 3}
    found = checks.check_table(pd.DataFrame(frame | {"tokens_out": np.arange(9) * 1000.0 + 5e4}))
    assert not (found["verdict"] == "inconsistent").any()
    found = checks.check_table(pd.DataFrame({"energy_j": [183155.2], "duration_s": [629.91], "power_w": [290.74]}))
    assert not (found["verdict"] == "inconsistent").any()


def test_infinite_and_negative_energies_are_refused():
    for value in (np.inf, -5.0, 0.0):
        assert "inconsistent" in verdicts({"energy_wh": [1.0, value], "power_w": [50.0, 51.0]}, "physical")


def test_a_table_that_nothing_was_checked_in_says_so_in_capitals(tmp_path):
    (tmp_path / "t.csv").write_text("gpu,tokens\na,5\nb,6\n")
    text = commands.check_text(checks.check_file(tmp_path / "t.csv"))
    assert "NOTHING WAS CHECKED" in text and "not checked, columns are missing" in text
    (tmp_path / "u.csv").write_text("gpu,energy_mwh,power_w\na,5,100\nb,6,101\n")
    assert "may be mWh or MWh" in commands.check_text(checks.check_file(tmp_path / "u.csv"))


def test_a_terminal_shows_quantities_by_their_labels_and_json_by_their_columns(eai, tmp_path):
    (tmp_path / "energy_wh.csv").write_text("gpu,energy_wh,accuracy,eor\na,42.29,0.718,0.0170\nb,33.37,0.718,0.0315\n")
    for more in ((), ("--all",)):
        code, out, _ = eai("check", tmp_path / "energy_wh.csv", *more)
        assert code == 1 and "energy_wh.csv/derived/eor:accuracy+energy [Wh]" in out and "energy_wh" not in out.replace("energy_wh.csv", "")
    assert "energy_wh.csv/derived/eor:accuracy+energy_wh" in eai("check", tmp_path / "energy_wh.csv", "--json")[1]


def test_a_table_of_a_known_tool_is_read_by_its_mapping(tmp_path):
    header = "timestamp,duration,emissions,cpu_energy,gpu_energy,ram_energy,energy_consumed,gpu_power,gpu_count,gpu_model\n"
    (tmp_path / "e.csv").write_text(header + "2026-05-05T04:04:40,3600,0.4,0.1,0.25,0.01,0.36,250,1,1 x NVIDIA A40\n")
    found = checks.check_file(tmp_path / "e.csv", limits=LIMITS)
    assert not (found["verdict"] == "inconsistent").any() and "parts" in set(found[found["verdict"] == "consistent"]["check"])
    (tmp_path / "e.csv").write_text(header + "2026-05-05T04:04:40,3600,0.4,0.1,0.25,0.01,0.96,250,1,1 x NVIDIA A40\n")
    bad = checks.check_file(tmp_path / "e.csv", limits=LIMITS)
    assert set(bad[bad["verdict"] == "inconsistent"]["check"]) == {"parts"}


@pytest.mark.parametrize(
    ("printed", "verdict"), [([100.13, 75.09], "consistent"), ([100.13, 76.31], "not decided"), ([100.13, 80.17], "inconsistent")]
)
def test_a_change_that_noise_covers_is_not_decided(printed, verdict):
    """-25 % is claimed; one figure a cell is good to 1.4 % at best, a ratio of two to 3.9 % (95 %)."""
    claim = pd.Series(
        dict.fromkeys(["tables", "where", "coverage", "tolerance", "unit"], "")
        | {
            "quantity": "energy_wh",
            "factor": "quantization",
            "level": "int8",
            "reference": "fp16",
            "low": -25,
            "high": -25,
            "tolerance": 0.5,
            "unit": "%",
        }
    )
    frame = evaluate.prepared(pd.DataFrame({"gpu": "a", "quantization": ["fp16", "int8"], "energy_wh": printed}), "t")
    assert evaluate.change(claim, frame).verdict == verdict
