"""Text answers say the same as the JSON."""

import pandas as pd

from eai import terminal
from eai.quantity import Quantity


def test_a_trace_in_words():
    gpu = {
        "index": 0,
        "energy_j": 6260.0,
        "duration_s": 20.0,
        "power_mean_w": 313.0,
        "power_min_w": 90.0,
        "power_max_w": 410.0,
        "samples": 3,
    }
    gpu |= {"boundary": "gpu"}
    cpu = gpu | {"index": "cpu_power_w", "boundary": "cpu_package", "energy_j": 1.997}
    answer = {"gpus": [gpu], "others": [cpu], "energy_j": Quantity(6260.0, 4520.0, 8670.0, "J"), "duration_s": 20.0}
    answer |= {"energy_within_card_j": Quantity(6260.0, 6100.0, 6424.0, "J"), "status": "ok", "power_field": "power.draw [W]"}
    text = terminal.trace_text(answer | {"time": "seconds", "warnings": ["a gap"]})
    assert "6,260 J [4,520 to 8,670] = 1.739 Wh in 20.000 s" in text and "GPU 0: 6,260.0 J" in text and "warning: a gap" in text
    assert "cpu_power_w (cpu package): 1.997 J" in text and "not in the sum" in text and "6,260 J [6,100 to 6,424]" in text


def test_a_measured_command_in_words():
    answer = {"energies_j": {"gpu": Quantity(6260.0, 4520.0, 8670.0, "J")}, "energies_per_token_j": {"gpu": Quantity(0.5, 0.4, 0.6, "J")}}
    answer |= {
        "basis": "measured",
        "reason": "",
        "flags": ["power_capped"],
        "duration_s": 2.0,
        "status": "ok",
        "meter": "nvml",
        "exit_code": 3,
    }
    text = terminal.measured_text(answer)
    assert "GPU: 6,260 J [4,520 to 8,670]" in text and "0.5 J [0.4 to 0.6] per token" in text
    assert text.endswith("2.00 s, status ok, power_capped, by nvml, exit code 3")
    assert "not measured: lost" in terminal.measured_text(answer | {"energies_j": {}, "reason": "lost"})


def test_findings_show_only_the_verdicts_asked_for_and_count_all():
    rows = [("A", "inconsistent", "t:3"), ("B", "consistent", "")]
    frame = pd.DataFrame([{"id": i, "verdict": v, "claim": f"claim {i}", "reason": "because", "rows": r} for i, v, r in rows])
    text = terminal.findings_text(frame, ["inconsistent"])
    assert "claim A" in text and "rows: t:3" in text and "claim B" not in text
    assert text.endswith("1 inconsistent, 1 consistent")


def test_mismatches():
    answer = {"windows": 2, "mismatches": [{"attempt": "ab", "what": "energy_j", "stored": 1.0, "derived": 2.0}]}
    assert "2 windows" in terminal.mismatches_text(answer) and "stored 1.0, derived 2.0" in terminal.mismatches_text(answer)


def test_long_lines_fold_where_a_person_looks_and_nowhere_else(eai, monkeypatch):
    """At 80 columns every line of doctor fits and no word is lost; in a file lines stay whole."""
    monkeypatch.delenv("COLUMNS", raising=False)
    _, piped, _ = eai("doctor")
    monkeypatch.setenv("COLUMNS", "80")
    _, narrow, _ = eai("doctor")
    assert max(map(len, narrow.splitlines())) <= 80 < max(map(len, piped.splitlines()))
    assert [w for w in narrow.split() if w.isalpha()] == [w for w in piped.split() if w.isalpha()]
