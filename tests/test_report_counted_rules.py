"""The sentence that counts rules: the least of probabilities of which one is unknown is unknown."""

from types import SimpleNamespace

import pandas as pd

from eai.plots.style import percent
from eai.report import sections


def test_an_unknown_probability_is_not_passed_over(monkeypatch):
    monkeypatch.setattr(sections, "cost_words", lambda facts, language: "energy")
    rules = pd.DataFrame({"quantization": ["nf4", "nf4", "nf4", "fp16", "fp16"], "confidence": [0.99, None, 0.97, 0.98, 0.96]})
    first, second = sections._counted_rules(SimpleNamespace(rules=rules), "en")
    assert first.startswith("**nf4**") and "3 of 5" in first and first.endswith(f": {percent(float('nan'))}.")
    assert "97" not in first and second.endswith(f": {percent(0.96)}.")
