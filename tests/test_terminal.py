"""Text answers say the same as the JSON."""

import pandas as pd

from eai import terminal
from eai.quantity import Quantity


def test_a_trace_in_words():
    gpu = {"index": 0, "energy_j": 200.0, "duration_s": 2.0, "power_mean_w": 100.0, "power_min_w": 90.0, "power_max_w": 110.0, "samples": 3}
    answer = {"gpus": [gpu], "energy_j": Quantity(200.0, 190.0, 210.0, "J"), "energy_wh": Quantity(0.0556, unit="Wh"), "duration_s": 2.0}
    answer |= {"status": "ok", "power_field": "power.draw [W]", "time": "seconds", "warnings": ["a gap"]}
    text = terminal.trace_text(answer)
    assert "200 [190, 210] J" in text and "GPU 0" in text and "warning: a gap" in text


def test_findings_show_only_the_verdicts_asked_for_and_count_all():
    rows = [("A", "inconsistent", "t:3"), ("B", "consistent", "")]
    frame = pd.DataFrame([{"id": i, "verdict": v, "claim": f"claim {i}", "reason": "because", "rows": r} for i, v, r in rows])
    text = terminal.findings_text(frame, ["inconsistent"])
    assert "claim A" in text and "rows: t:3" in text and "claim B" not in text
    assert text.endswith("1 inconsistent, 1 consistent")


def test_mismatches():
    answer = {"windows": 2, "mismatches": [{"attempt": "ab", "what": "energy_j", "stored": 1.0, "derived": 2.0}]}
    assert "2 windows" in terminal.mismatches_text(answer) and "stored 1.0, derived 2.0" in terminal.mismatches_text(answer)
