"""Recorded power logs in the forms that exist in the field; expected joules are power x time, worked out by hand."""

import re
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eai.errors import UserError
from eai.power.logs import read_log
from eai.power.trace import sensor_period_s, summarize_trace


def stamp(i, step_ms=100):
    seconds, ms = divmod(i * step_ms, 1000)
    return f"2024/05/01 12:{seconds // 60:02d}:{seconds % 60:02d}.{ms:03d}"


def write(path, lines, end="\n"):
    path.write_text("\n".join(lines) + end)
    return path


def smi(power=lambda i, g: 250.0 + g, cards=1, n=101, header="timestamp, index, power.draw [W]", unit=" W", columns="tip"):
    lines = [header] if header else []
    for i in range(n):
        for g in range(cards):
            value = power(i, g)
            cells = {"t": stamp(i), "i": str(g), "p": value if isinstance(value, str) else f"{value:.2f}{unit}", "u": f"GPU-{g}{'0' * 30}"}
            lines.append(", ".join(cells[c] for c in columns))
    return lines


VARIANTS = {
    "units and header": smi(),
    "no units": smi(unit=""),
    "no header": smi(header=None),
    "uuid": smi(header="timestamp, uuid, power.draw [W]", columns="tup"),
    "no index": smi(header="timestamp, power.draw [W]", columns="tp"),
    "no header, no index": smi(header=None, columns="tp"),
    "power first": smi(header="power.draw [W], timestamp", columns="pt"),
    "time of day": [line.replace("2024/05/01 ", "") for line in smi()],
    "iso with zone": [line.replace("2024/05/01 ", "2024-05-01T").replace(", 0,", "Z, 0,") for line in smi()],
    "milliwatts": ["t_s,power_mw"] + [f"{i / 10},250000" for i in range(101)],
    "two columns": ["time,power"] + [f"{i / 10},250.0" for i in range(101)],
    "two columns, no header": [f"{i / 10},250.0" for i in range(101)],
    "epoch in ms": ["timestamp,power_w"] + [f"{1714564800000 + 100 * i},250.0" for i in range(101)],
    "time_ms": ["time_ms;power_w"] + [f"{100 * i};250.0" for i in range(101)],
    "header repeated": [*smi()[:50], "timestamp, index, power.draw [W]", *smi()[50:]],
}


@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_gives_250_w_times_10_s(name, tmp_path):
    result = summarize_trace(read_log(write(tmp_path / "log.csv", VARIANTS[name])))
    assert result["energy_j"].value == pytest.approx(2500.0, rel=1e-6)
    assert result["energy_wh"].value == pytest.approx(2500.0 / 3600, rel=1e-6)
    assert result["duration_s"] == pytest.approx(10.0, rel=1e-6)
    [gpu] = result["gpus"]
    assert (gpu["power_min_w"], gpu["power_max_w"], gpu["samples"], result["status"]) == (250.0, 250.0, 101, "ok")
    assert gpu["power_mean_w"] == pytest.approx(250.0)
    assert result["energy_j"].low < 2500.0 < result["energy_j"].high


def test_utf16_of_a_redirected_log(tmp_path):
    path = tmp_path / "log.csv"
    path.write_bytes(("\n".join(smi()) + "\n").encode("utf-16"))
    assert summarize_trace(read_log(path))["energy_j"].value == pytest.approx(2500.0)


def test_cards_are_told_apart_by_index_and_summed_apart(tmp_path):
    result = summarize_trace(read_log(write(tmp_path / "log.csv", smi(cards=3))))
    assert [g["index"] for g in result["gpus"]] == [0, 1, 2]
    assert [g["energy_j"] for g in result["gpus"]] == pytest.approx([2500, 2510, 2520])
    assert result["energy_j"].value == pytest.approx(7530) and result["duration_s"] == pytest.approx(10.0)


def test_several_cards_without_index_are_refused_unless_their_number_is_given(tmp_path):
    path = write(tmp_path / "log.csv", smi(cards=2, header="timestamp, power.draw [W]", columns="tp"))
    with pytest.raises(UserError, match="--gpus 2"):
        read_log(path)
    result = summarize_trace(read_log(path, gpus=2))
    assert [g["energy_j"] for g in result["gpus"]] == pytest.approx([2500, 2510])
    with pytest.raises(UserError, match="names 1 cards"):
        read_log(write(tmp_path / "one.csv", smi()), gpus=2)


def test_two_cards_read_a_few_milliseconds_apart_are_still_seen_as_bursts(tmp_path):
    lines = ["timestamp,power_w"] + [f"{i + g * 0.004:.3f},{100 + 200 * g}" for i in range(50) for g in range(2)]
    with pytest.raises(UserError, match="bursts"):
        read_log(write(tmp_path / "log.csv", lines))


def test_a_cut_last_line_is_left_out_even_if_it_would_parse(tmp_path):
    lines = smi(unit="")
    cut = [*lines, f"{stamp(101)}, 0, 2"]
    result = summarize_trace(read_log(write(tmp_path / "log.csv", cut, end="")))
    assert result["energy_j"].value == pytest.approx(2500.0) and result["gpus"][0]["power_min_w"] == 250.0


def test_not_available_readings_are_counted_and_bridged(tmp_path):
    path = write(tmp_path / "log.csv", smi(lambda i, g: "[N/A]" if i == 50 else 250.0))
    result = summarize_trace(read_log(path))
    assert result["energy_j"].value == pytest.approx(2500.0)
    assert any("1 of 101 readings are [N/A]" in w for w in result["warnings"])


def test_a_log_with_a_long_gap_is_invalid(tmp_path):
    result = summarize_trace(read_log(write(tmp_path / "log.csv", [line for i, line in enumerate(smi()) if not 40 < i < 60])))
    assert result["status"] == "invalid" and result["gpus"][0]["gaps"] == 1
    assert any("gap" in w for w in result["warnings"])


def test_time_going_backwards_is_said_and_invalid(tmp_path):
    lines = smi()
    result = summarize_trace(read_log(write(tmp_path / "log.csv", [lines[0], *lines[50:], *lines[1:50]])))
    assert result["status"] == "invalid" and any("backwards 1 time" in w for w in result["warnings"])


def test_midnight_in_a_log_without_dates(tmp_path):
    lines = ["timestamp, power.draw [W]"] + [
        f"{(86390 + i) // 3600 % 24:02d}:{(86390 + i) // 60 % 60:02d}:{(86390 + i) % 60:02d}, 250 W" for i in range(21)
    ]
    result = summarize_trace(read_log(write(tmp_path / "log.csv", lines)))
    assert result["duration_s"] == pytest.approx(20.0) and result["energy_j"].value == pytest.approx(5000.0)


def test_our_own_samples(tmp_path):
    t = np.arange(101) / 10
    frame = pd.DataFrame(
        {
            "t_s": np.tile(t, 2),
            "device_id": np.repeat(["GPU-a", "GPU-b"], 101),
            "field": "power_instant_w",
            "value": np.repeat([250.0, 100.0], 101),
        }
    )
    frame.to_parquet(tmp_path / "s.parquet")
    result = summarize_trace(read_log(tmp_path / "s.parquet"))
    assert [g["energy_j"] for g in result["gpus"]] == pytest.approx([2500.0, 1000.0])


REFUSED = {
    "empty": ([], "is empty"),
    "header alone": (["timestamp, power.draw [W]"], "no readings"),
    "no power": (["timestamp, utilization.gpu [%]", f"{stamp(0)}, 5 %", f"{stamp(1)}, 5 %"], "no power column"),
    "only the limit": (["timestamp, power.limit [W]", f"{stamp(0)}, 250 W", f"{stamp(1)}, 250 W"], "no power column"),
    "no time": (["index, power.draw [W]", "0, 250 W", "0, 250 W"], "no time column"),
    "all N/A": (smi(lambda i, g: "[N/A]"), "N/A"),
    "one reading": (smi(n=1), "at least two"),
    "same time": (["time,power", "1.0,250", "1.0,251", "1.0,252"], "same time"),
    "a time beyond counting": (["t_s,power_w", "0,250", "1,250", "1e308,250"], "years"),
    "negative": (["t_s,power_w", *(f"{i},-250" for i in range(20))], "below 0 W"),
    "ambiguous": (["0.0,250.1,40.5", "0.1,250.2,40.5"], "may be power"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_integrated_is_refused_in_one_line(name, tmp_path):
    lines, words = REFUSED[name]
    path = write(tmp_path / "log.csv", lines) if lines else tmp_path / "log.csv"
    path.touch()
    with pytest.raises(UserError, match=re.escape(words)) as error:
        summarize_trace(read_log(path))
    assert "\n" not in str(error.value)


def test_a_parquet_file_with_an_empty_footer_is_one_line(tmp_path):
    (tmp_path / "log.parquet").write_bytes(b"PAR1" + bytes(40) + b"PAR1")
    with pytest.raises(UserError, match="damaged"):
        read_log(tmp_path / "log.parquet")


def test_a_missing_file_is_one_line(tmp_path):
    with pytest.raises(UserError, match="no file"):
        read_log(tmp_path / "none.csv")


@pytest.mark.parametrize(
    ("power", "extra", "idle"), [(60.0, None, True), (250.0, None, False), (250.0, "0 %", True), (60.0, "99 %", False)]
)
def test_an_idle_log_is_called_idle(power, extra, idle, tmp_path):
    lines = ["timestamp, power.draw [W]" + (", utilization.gpu [%]" if extra else "")]
    lines += [f"{stamp(i)}, {power:.2f} W" + (f", {extra}" if extra else "") for i in range(50)]
    warnings = summarize_trace(read_log(write(tmp_path / "log.csv", lines)))["warnings"]
    assert any("idle" in w for w in warnings) is idle


def test_window_by_offset_and_by_epoch_integrates_a_part(tmp_path):
    ramp = ["timestamp,power_w"] + [f"{1714564800 + i / 10},{10 * i}" for i in range(101)]
    log = read_log(write(tmp_path / "log.csv", ramp))
    by_hand = (200 + 500) / 2 * 3.0
    for window in ((2.0, 5.0), (1714564802.0, 1714564805.0)):
        assert summarize_trace(log, window)["energy_j"].value == pytest.approx(by_hand, rel=1e-6)
    between_samples = summarize_trace(log, (2.05, 2.15))["energy_j"].value
    assert between_samples == pytest.approx((205 + 215) / 2 * 0.1, rel=1e-4), "edges between readings are interpolated"


def test_window_outside_the_log_names_the_time_zone(tmp_path):
    log = read_log(write(tmp_path / "log.csv", ["timestamp,power_w"] + [f"{1714564800 + i},250" for i in range(100)]))
    with pytest.raises(UserError, match="about 8 h apart: check the time zone"):
        summarize_trace(log, (1714564800.0 + 8 * 3600, 1714564860.0 + 8 * 3600))
    with pytest.raises(UserError, match="end after the start"):
        summarize_trace(log, (5.0, 5.0))
    beyond = summarize_trace(log, (90.0, 120.0))
    assert beyond["duration_s"] == pytest.approx(9.0) and any("beyond the log" in w for w in beyond["warnings"])


def test_sensor_period_is_told_from_a_fast_log():
    t = np.arange(0, 20, 0.02)
    held = np.random.default_rng(1).normal(300, 10, 200)[np.floor(t / 0.1 + 1e-9).astype(int)]
    assert sensor_period_s(t, held) == pytest.approx(0.1, rel=0.01)
    assert sensor_period_s(t, np.random.default_rng(2).normal(300, 10, len(t))) is None


@given(st.lists(st.floats(1, 700), min_size=4, max_size=60), st.floats(0.2, 0.8))
def test_energy_of_two_parts_is_the_energy_of_the_whole(powers, share):
    from eai.power.logs import LoggedGpu, PowerLog

    t = np.arange(len(powers), dtype=float)
    log = PowerLog((LoggedGpu(0, t, np.array(powers)),), "power", "seconds")
    cut = share * t[-1]
    whole = summarize_trace(log)["energy_j"].value
    parts = [summarize_trace(log, w)["energy_j"].value for w in ((0.0, cut), (cut, t[-1]))]
    assert sum(parts) == pytest.approx(whole, rel=1e-9)


def test_a_last_line_without_an_end_is_left_out_and_said(tmp_path):
    """`25` may be a `250.00 W` that was cut off: 10 s of readings of 250 W remain, and a warning."""
    whole = write(tmp_path / "whole.csv", smi(n=101))
    torn = write(tmp_path / "torn.csv", smi(n=101), end=f"\n{stamp(101)}, 0, 25")
    assert read_log(whole).warnings == [] and np.ptp(read_log(torn).gpus[0].t_s) == pytest.approx(10.0)
    assert read_log(torn).warnings == ["1 line(s) were broken or cut off at the end and left out"]
    assert summarize_trace(read_log(torn))["energy_j"].value == pytest.approx(2500.0)


def test_a_log_is_read_without_pandas(tmp_path):
    """Loading it takes longer than a log of a million lines."""
    path = write(tmp_path / "log.csv", smi())
    program = "import sys; from eai.power.logs import read_log; from eai.power.trace import summarize_trace; "
    program += f"summarize_trace(read_log({str(path)!r})); print('pandas' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.strip() == "False"
