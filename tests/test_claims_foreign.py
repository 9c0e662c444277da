"""`eai check` on what strangers send: findings or one clear line, whatever the file."""

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eai.cells import numeric, plain_number
from eai.claims import checks
from eai.errors import UserError
from eai.importers import reading


@pytest.fixture
def check(tmp_path):
    """Write a text or bytes as a CSV file and check it."""

    def run(text, **options):
        path = tmp_path / "table.csv"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return checks.check_file(path, **options)

    return run


def verdicts(result, check):
    return result[result["check"] == check]["verdict"].tolist()


GOOD = "gpu,energy_wh,accuracy,eor\na,42.29,0.718,0.0170\nb,33.37,0.718,0.0215\n"


def test_a_sound_table_is_consistent(check):
    result = check(GOOD)
    assert verdicts(result, "derived") == ["consistent"] and not (result["verdict"] == "inconsistent").any()


def test_an_unquoted_comma_is_found_with_its_line_and_its_row_left_out(check):
    result = check(GOOD + "c,1,042.29,0.718,0.0007\nd,33.37,0.718,0.0315\n")
    bad = result[result["verdict"] == "inconsistent"].set_index("check")
    assert bad.loc["layout", "rows"] == "table.csv:4"
    assert bad.loc["derived", "rows"] == "table.csv:5"


def test_a_file_gets_the_checks_that_weigh_chance_too(check):
    """0.715 against 0.526 of 14,042 items is 33 standard errors, and 0.201 of them lies below guessing one of four."""
    result = check("gpu,model,task,accuracy,n_items\na,m,mmlu,0.715,14042\nb,m,mmlu,0.526,14042\na,n,mmlu,0.201,14042\n")
    assert verdicts(result, "scores") == ["inconsistent"] and verdicts(result, "chance") == ["inconsistent"]
    assert {"serial", "structure"} <= set(result["check"])


def test_blank_lines_do_not_shift_line_numbers(check):
    result = check("gpu,energy_wh,accuracy,eor\na,42.29,0.718,0.0170\n\n\nd,33.37,0.718,0.0315\n")
    assert verdicts(result, "layout") == []
    assert result.loc[result["verdict"] == "inconsistent", "rows"].tolist() == ["table.csv:5"]


@pytest.mark.parametrize(
    "text",
    [
        "\ufeffGPU,Energy (Wh),Accuracy (%),EOR\na,42.29,71.8,0.0170\nb,33.37,71.8,0.0215\n",
        'gpu,energy_wh,accuracy,eor\na,"1,042.29",71.8 %,0.000689\nb,33.37,71.8%,0.0215\n',
        "gpu;Energy (Wh);Score;EOR\na;42,29;0,718;0,0170\nb;33,37;0,718;0,0215\n",
        "gpu\tenergy\tscore\teor\na\t42.29 Wh\t0.718\t0.0170\nb\t33.37 Wh\t0.718\t0.0215\n",
        "gpu,energy_wh,accuracy,eor\r\na,42.29,0.718,0.0170\r\nb,n/a,0.718,\r\n",
    ],
    ids=["BOM and headers with units", "thousands and percent", "decimal commas", "units in cells", "CRLF and missing cells"],
)
def test_the_same_table_in_other_clothes_is_consistent(check, text):
    result = check(text)
    assert verdicts(result, "derived") == ["consistent"]
    assert not (result["verdict"] == "inconsistent").any()


def test_mixed_units_are_found_and_converted(check):
    result = check("gpu,energy,accuracy,eor\na,42.29 Wh,0.718,0.0170\nb,33.37 Wh,0.718,0.0215\nc,120.132 kJ,0.718,0.0215\n")
    assert verdicts(result, "units") == ["inconsistent"]
    assert verdicts(result, "derived") == ["consistent"]  # 120.132 kJ is 33.37 Wh


def test_cells_that_are_no_number_are_found_with_their_line(check):
    reason = check(GOOD + 'c,"12,5",0.5,0.04\n').query("check == 'cells'")["reason"].item()
    assert "'12,5' in line 4" in reason


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "is empty"),
        ("\n \n", "is empty"),
        ("gpu,energy_wh\n", "no row below the header"),
        ("one column\n1\n", "one column"),
        (b"\x00\x01\x02,\x00", "not text"),
        ("gpu,energy_wh,energy_wh\na,1,2\n", "two columns 'energy_wh'"),
        ("gpu,foo\na,b\n", "no column"),
        ("gpu,energy_wh\na,1,2\nb,3,4\n", "2 rows have not the header's 2 fields"),
    ],
)
def test_a_file_that_is_no_table_gives_one_clear_line(check, text, says):
    with pytest.raises(UserError, match=says) as error:
        check(text)
    assert "\n" not in str(error.value)


def test_a_missing_file_and_a_wrong_mapping_say_what_to_do(tmp_path, check):
    with pytest.raises(UserError, match="no file"):
        checks.check_file(tmp_path / "nothing.csv")
    (tmp_path / "a.yaml").write_text("energy_j: joules\n")
    with pytest.raises(UserError, match=r"no column .?joules"):
        check(GOOD, mapping=checks.read_mapping(tmp_path / "a.yaml"))
    (tmp_path / "m.json").write_text(json.dumps({"energy_w": "E"}))
    with pytest.raises(UserError, match="energy_wh"):
        checks.read_mapping(tmp_path / "m.json")
    (tmp_path / "r.json").write_text(json.dumps({"E": "energy_wh"}))
    with pytest.raises(UserError, match="our name stands left"):
        checks.read_mapping(tmp_path / "r.json")
    (tmp_path / "l.yaml").write_text("- a\n- b\n")
    (tmp_path / "n.yaml").write_text("columns: {energy_wh: E}\nunits: {energywh: kWh}\n")
    with pytest.raises(UserError, match=r"names 'energywh'.*energy_wh"):  # unread, it would leave figures a thousand times too small
        checks.read_mapping(tmp_path / "n.yaml")
    (tmp_path / "u.yaml").write_text("columns: {energy_wh: E}\nunits: Wh\n")
    for name, words in (("l", "holds list"), ("u", "pairs of our name")):
        with pytest.raises(UserError, match=words):
            checks.read_mapping(tmp_path / f"{name}.yaml")


def test_a_mapping_names_unknown_columns(tmp_path, check):
    (tmp_path / "m.yaml").write_text("energy_wh: E\naccuracy: S\neor: ratio\n")
    result = check("gpu,E,S,ratio\na,42.29,0.718,0.0370\n", mapping=checks.read_mapping(tmp_path / "m.yaml"))
    assert verdicts(result, "derived") == ["inconsistent"]


@pytest.mark.parametrize("name", ["t.jsonl", "t.json", "t.parquet"])
def test_a_record_is_named_by_its_number(tmp_path, name):
    rows = pd.DataFrame({"gpu": list("abc"), "energy_wh": [42.29, 33.37, 21.13], "accuracy": 0.718, "eor": [0.0170, 0.0215, 0.0440]})
    if name.endswith("parquet"):
        rows.to_parquet(tmp_path / name)
    else:
        rows.to_json(tmp_path / name, orient="records", lines=name.endswith("l"))
    found = checks.check_file(tmp_path / name)  # 0.718 / 21.13 = 0.0340
    assert found.loc[found["verdict"] == "inconsistent", "rows"].tolist() == [f"{name}:3"]


def test_latin_1_is_read(check):
    assert verdicts(check(GOOD.replace("gpu", "gpu").encode("latin-1") + "caf\xe9,33.37,0.718,0.0215\n".encode("latin-1")), "derived") == [
        "consistent"
    ]


def test_later_blocks_are_checked_row_by_row(check, monkeypatch):
    monkeypatch.setattr(checks, "WHOLE_ROWS", 100)
    monkeypatch.setattr(reading, "BLOCK_BYTES", 4096)
    rows = [f"a,42.29,0.718,{'0.0170' if i != 900 else '0.0270'}" for i in range(1000)]
    result = check("gpu,energy_wh,accuracy,eor\n" + "\n".join(rows) + "\n")
    assert result.loc[result["verdict"] == "inconsistent", "rows"].tolist() == ["table.csv:902"]
    assert "1,000 rows" in result.loc[result["check"] == "size", "reason"].iloc[0]


def test_a_hundred_thousand_rows_take_seconds(check):
    rng = np.random.default_rng(0)
    n = 100_000
    frame = pd.DataFrame(
        {
            "gpu": rng.choice(["a", "b"], n),
            "model": rng.integers(0, 500, n),
            "energy_wh": rng.uniform(10, 12, n).round(2),
            "accuracy": rng.uniform(0.4, 0.9, n).round(3),
        }
    )
    frame["eor"] = (frame["accuracy"] / frame["energy_wh"]).round(5)
    frame.loc[77_777, "eor"] += 0.01
    result = check(frame.to_csv(index=False))
    assert result.query("check == 'derived' and verdict == 'inconsistent'")["rows"].tolist() == ["table.csv:77779"]


@given(st.floats(0.001, 1e9), st.sampled_from(["", " Wh", "%", " kJ"]))
def test_grouped_numbers_are_read_back(value, unit):
    read, said = plain_number(f"{value:,.3f}{unit}")
    assert read == pytest.approx(value, abs=5.1e-4) and said == unit.strip()


def test_a_comma_that_groups_anything_but_three_digits_is_not_guessed():
    assert np.isnan(plain_number("12,5")[0])


def test_units_without_anything_in_common_are_unreadable():
    values, _, _ = numeric(pd.Series(["1 Wh", "2 Wh", "3 s"], dtype="str"))
    assert np.isnan(values[2]) and values[:2].tolist() == [1.0, 2.0]


_NAMES = [*checks.QUANTITIES, *checks.KEYS, "Energy (J)", "latency_ms", "something else"]
_CELLS = [
    "",
    "0",
    "-1",
    "1e308",
    "nan",
    "inf",
    "abc",
    "12",
    "3.5",
    "71.8",
    "0.7",
    "1e-320",
    '"1,234"',
    "50%",
    "7 Wh",
    "yes",
    "fp16",
    "nf4",
    "net",
    "gross",
    '"a""b"',
]


@pytest.mark.parametrize("seed", range(25))
def test_any_table_gives_findings_or_one_line(check, seed):
    rng = np.random.default_rng(seed)
    names = rng.choice(_NAMES, rng.integers(2, 15), replace=False)
    cells = _CELLS if seed % 2 else ["1", "2", "3.5", "10.25", "200", "0.5", "fp16", "nf4"]
    rows = rng.choice(cells, (rng.integers(1, 40), len(names)))
    try:
        result = check("\n".join([",".join(names), *(",".join(r) for r in rows)]) + "\n")
    except UserError as error:
        assert "\n" not in str(error)
    else:
        assert len(result) and set(result["verdict"]) <= {"consistent", "inconsistent", "untested"}
