"""Report and talk of a server: each load with its cost, its waiting, its failures, and whose processes are counted."""

import json

import numpy as np
import pandas as pd
import pytest

from eai.report import facts, pages, sections, talk
from eai.report.pages import Words

EN = Words("en")
PROVENANCE = [{"server": {"name": "s-1"}, "meter": {"meter": "rapl"}, "versions": {"torch": "2.0"}, "machine": {"cpu": "X"}}]


def spread(name: str, value: float) -> dict:
    return {name: value, f"{name}_low": value * 0.98, f"{name}_high": value * 1.02}


def served(basis="measured", boundary="cpu_package", provenance=PROVENANCE, failed=0, flags=(), blocks=4, quantities=spread) -> facts.Facts:
    """Two loads: closed:1 at 2 J a token and 0.2 s to the first one, closed:4 at 1 J and 0.5 s, 16 tokens a request."""
    rows = []
    for load, per_token, ttft, rate in (("closed:1", 2.0, 0.2, 1.0), ("closed:4", 1.0, 0.5, 4.0)):
        key = {"gpu": "cpu", "model": "m", "weights": "published", "quantization": "bf16", "batch_size": 1,
            "input_tokens": 64, "output_tokens": 16,
               "task": "generate", "options": json.dumps({"load": load, "server": "s-1"}), "configuration_id": load}  # fmt: skip
        numbers = quantities("energy_j_per_token", per_token) | quantities("energy_j_per_request", 16 * per_token)
        numbers |= quantities("throughput_tok_s", 16 * rate) | quantities("ttft_s", ttft) | quantities("ttft_p95_s", 2 * ttft)
        numbers |= quantities("itl_s", 0.05) | quantities("latency_s", 1.0)
        more = {"requests_per_s": rate, "requests": int(20 * rate), "requests_failed": failed, "flags": str(list(flags)),
            "n_blocks": blocks,
                "traffic": load, "server": "s-1", "basis": basis, "boundary": boundary}  # fmt: skip
        rows.append(key | numbers | more)
    loads = pd.DataFrame(rows)
    summary = loads.assign(
        gate="ok", energy_kind="gross", score=np.nan, score_low=np.nan, model_gb=1.0, memory_peak_gb=1.0, baseline="fp32"
    )
    return facts.from_tables("served", summary, pd.DataFrame(), loads, provenance)


def text_of(found: facts.Facts) -> str:
    return pages.page("report.md", EN, doc=sections.report(found, EN))


def test_each_load_stands_with_its_cost_and_its_waiting():
    text = text_of(served())
    costs = "| `bf16, closed:1` | 2.00 [1.96 to 2.04] | 32.0 [31.4 to 32.6] | 16.0 [15.7 to 16.3] | 1.00 | 4 |"
    waits = "| `bf16, closed:4` | 0.500 [0.490 to 0.510] | 1.00 [0.98 to 1.02] | 0.0500 [0.0490 to 0.0510] | 1.00 [0.98 to 1.02] | 0 / 80 |"
    ends = "from 1.00 [0.98 to 1.02] J (`bf16, closed:4`) to 2.00 [1.96 to 2.04] J (`bf16, closed:1`)."
    assert costs in text and waits in text and f"Over 2 loads the energy per output token runs {ends}" in text


def test_nothing_is_said_that_holds_only_for_a_model_in_this_process():
    spoken = talk.talk(served(), EN)
    text = text_of(served()) + " ".join(slide.script for slide in spoken.slides)
    assert not [
        word
        for word in ("freshly loaded", "batch 1", "baseline", "nan ", "stay with")
        if word in text.replace("comparison with a baseline", "")
    ]
    assert "as stated" in text and "Software of the client, not of the server" in text and "No strategy is recommended" in text


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"basis": "estimated"}, "CPU time of the server's own processes"), ({"boundary": "gpu"}, "cards that the server's processes are "
            "on"),
        ({}, "the client on the same machine is in it"), ({"provenance": []}, "is not recorded with the data"),
    ],
)  # fmt: skip
def test_whose_processes_are_counted_is_said(given, said):
    assert said in text_of(served(**given))


def test_failures_and_remarks_are_named_with_their_loads():
    text = text_of(served(failed=2, flags=["overloaded", "unverified"]))
    assert "4 of 104 requests failed; their energy is counted, their tokens are not." in text
    assert "More requests came than the server could complete at `bf16, closed:1`, `bf16, closed:4`" in text and "unverified" not in text
    assert "All 100 requests succeeded." in text_of(served())


def test_without_an_interval_the_estimate_stands_alone():
    alone = served(blocks=1, quantities=lambda name, value: {name: value, f"{name}_low": np.nan, f"{name}_high": np.nan})
    text = text_of(alone)
    assert "| `bf16, closed:1` | 2.00 | 32.0 |" in text and "every number is a single observation" in text


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_talk_of_a_server_fits_its_seconds(language):
    for slide in talk.talk(served(failed=1, flags=["overloaded"]), Words(language)).slides:
        assert 0.5 * slide.seconds <= talk.spoken_s(slide.script) <= slide.seconds, slide.title
