"""Printed ratios to a baseline against the energies beside them: by division, within the printed rounding."""

import pandas as pd
import pytest

from eai import paths
from eai.claims.checks import check_table

ROWS = pd.DataFrame({
    "model": "m", "gpu": "a100", "quantization": ["fp16", "nf4", "int8_pure"] * 2, "batch_size": [1, 1, 1, 8, 8, 8],
    "energy_j_per_token": [2.013, 1.117, 3.411, 0.507, 0.303, 0.911],
})  # fmt: skip


def ratios(frame, name="t.csv"):
    found = check_table(frame, name=name)
    return found[found["check"] == "ratios"]


@pytest.fixture
def right():
    first = ROWS.groupby("batch_size")["energy_j_per_token"].transform("first")
    return ROWS.assign(ratio_to_baseline=(ROWS["energy_j_per_token"] / first).round(3))


def test_ratios_that_were_divided_and_rounded_follow(right):
    (row,) = ratios(right).to_dict("records")
    assert row["verdict"] == "consistent" and "4 printed ratios follow from energy_j_per_token" in row["reason"]
    per_request = right.assign(energy_j_per_request=right["energy_j_per_token"] * 256, energy_j_per_token=right["energy_j_per_token"] ** 2)
    assert set(ratios(per_request)["verdict"]) == {"consistent"}, "a ratio may be of a request"


def test_a_ratio_of_something_else_is_named_with_its_figures(right):
    right.loc[4, "ratio_to_baseline"] = 0.720
    (row,) = ratios(right).to_dict("records")
    assert row["verdict"] == "inconsistent" and (row["stated"], float(row["computed"])) == ("0.72", pytest.approx(0.303 / 0.507, abs=1e-3))
    assert "t.csv:5-6" in row["rows"] or ("5" in row["rows"] and "6" in row["rows"])


def test_a_baseline_without_a_ratio_serves_and_unequal_blocks_are_not_paired(right):
    empty = right.assign(ratio_to_baseline=right["ratio_to_baseline"].where(right["quantization"] != "fp16"))
    assert set(ratios(empty)["verdict"]) == {"consistent"}
    wrong = right.assign(ratio_to_baseline=[1, 0.9, 0.9, 1, 0.9, 0.9], n_blocks=[5, 4, 4, 5, 4, 4])
    assert set(ratios(wrong)["verdict"]) == {"untested"}
    assert set(ratios(wrong.assign(n_blocks=5))["verdict"]) == {"inconsistent"}


def test_our_own_summaries_pass():
    files = [paths.SAMPLE / "summary.csv", *paths.MEASURED.glob("*/summary.csv")]
    assert len(files) > 1
    for file in files:
        assert not (ratios(pd.read_csv(file), file.parent.name)["verdict"] == "inconsistent").any(), file
