"""The loads table and its figure, against numbers worked out by hand."""

import json
import math

import pandas as pd
import pytest
from scipy import stats

from eai import plots, schema, tables
from eai.analyze.selection import requests_of
from eai.analyze.summary import by_load, loads
from eai.errors import UserError


def window(load, block, tokens_out, requests, flags=(), status="ok", **changes):
    """A window of 10 s of a server with 16 output tokens per request."""
    empty = {c.name: None for c in schema.WINDOWS}
    options = json.dumps({"load": load, "server": "s-1"}) if load else "{}"
    given = {
        "job": "j", "block": block, "configuration_id": load or "own", "repeat": 1, "attempt": f"{load}{block}", "gpu": "cpu", "model": "m",
        "weights": "published", "quantization": "bf16", "batch_size": 1, "input_tokens": 64, "output_tokens": 16, "task": "generate",
        "options": options, "duration_s": 10.0, "tokens_out": tokens_out, "requests": requests, "requests_failed": 0, "status": status,
        "flags": list(flags), "reason": "", "ttft_s": 0.1 * block, "latency_s": 1.0, "in_flight_mean": 2.0, "basis": "estimated",
    }  # fmt: skip
    return empty | given | changes


def energy(row, energy_j):
    keys = {name: row[name] for name in ("job", "block", "configuration_id", "repeat", "attempt")}
    fixed = {"device_id": "d", "boundary": "cpu_package", "method": "estimate", "primary": True, "basis": "estimated", "status": "ok"}
    return {c.name: None for c in schema.ENERGIES} | keys | fixed | {"energy_j": energy_j}


@pytest.fixture(scope="module")
def served():
    """Two blocks of three loads; the second load's replies vary in length. Energies chosen so that block 2 costs 1.21 times block 1."""
    rows = [window("closed:1", b, 160, 9) for b in (1, 2)] + [window("closed:10", b, 800, 50, ["unverified"]) for b in (1, 2)]
    rows += [window("open:2", b, 300, 20, ["length_varies"], requests_failed=1) for b in (1, 2)]
    per_token = {"closed:1": 2.0, "closed:10": 0.5, "open:2": 1.0}
    energies = [energy(r, per_token[r["configuration_id"]] * r["tokens_out"] * (1.21 if r["block"] == 2 else 1.0)) for r in rows]
    return pd.DataFrame(rows), pd.DataFrame(energies)


def test_each_load_has_its_costs(served):
    """Geometric mean over blocks 1 and 1.21 is 1.1; a request is 16 tokens where the length is fixed, 300 / 20 where it is not."""
    table = by_load(*served).set_index("traffic")
    assert list(table.index) == ["closed:1", "closed:10", "open:2"]
    assert table["energy_j_per_token"].tolist() == pytest.approx([2.2, 0.55, 1.1])
    assert table["energy_j_per_request"].tolist() == pytest.approx([2.2 * 16, 0.55 * 16, 1.1 * 15])
    assert table["throughput_tok_s"].tolist() == pytest.approx([16, 80, 30])
    assert table["requests_per_s"].tolist() == pytest.approx([1, 5, 2])
    assert table["ttft_s"].tolist() == pytest.approx([math.sqrt(0.1 * 0.2)] * 3)
    assert table["requests"].tolist() == [18, 100, 40] and table["requests_failed"].tolist() == [0, 0, 2]
    assert table["flags"].tolist() == [[], ["unverified"], ["length_varies"]]
    assert table["traffic_level"].tolist() == [1, 10, 2]


def test_intervals_are_students_on_the_log_scale(served):
    """Two blocks: half width t(0.975, 1) sd / sqrt 2 of the logarithms."""
    row = by_load(*served).set_index("traffic").loc["closed:1"]
    half = stats.t.ppf(0.975, 1) * (math.log(1.21) / math.sqrt(2)) / math.sqrt(2)
    assert row["energy_j_per_token_low"] == pytest.approx(2.2 * math.exp(-half))
    assert row["energy_j_per_request_high"] == pytest.approx(16 * 2.2 * math.exp(half))
    half = stats.t.ppf(0.975, 1) * (math.log(2) / math.sqrt(2)) / math.sqrt(2)
    assert row["ttft_s_low"] == pytest.approx(math.sqrt(0.02) * math.exp(-half))
    assert row["latency_s_low"] == row["latency_s_high"] == 1.0


def test_a_time_that_a_block_lacks_has_no_part_in_the_estimate(served):
    """Unknown in block 1 of two: the other block's value with no interval, not a geometric mean of zero."""
    windows, energies = served
    lacking = windows.assign(ttft_s=windows["ttft_s"].where(windows["block"] == 2), itl_s=0.0)
    row = by_load(lacking, energies).set_index("traffic").loc["closed:1"]
    assert row["ttft_s"] == pytest.approx(0.2) and pd.isna(row["ttft_s_low"]) and pd.isna(row["itl_s"])
    assert row["n_blocks"] == 2


def test_the_table_is_registered(served):
    assert schema.problems("loads", by_load(*served).to_dict("records")) == []


def test_windows_of_a_model_in_this_process_are_no_loads(served):
    own = pd.DataFrame([window(None, 1, 160, 10)])
    both = by_load(pd.concat([served[0], own], ignore_index=True), served[1])
    assert len(both) == 3
    with pytest.raises(UserError, match="no window of a server"):
        by_load(own, served[1])
    assert loads(own, served[1]).empty and list(loads(own, served[1])) == list(both)


def test_the_curve_shows_every_load_at_its_rate(served):
    table = by_load(*served)
    _, ax = plots.figure()
    plots.load_curve(table, ax)
    drawn = sorted((x, y) for c in ax.containers for x, y in zip(*c.lines[0].get_data(), strict=True))
    assert drawn == [pytest.approx(pair) for pair in sorted(zip(table["requests_per_s"], table["energy_j_per_token"], strict=True))]
    assert [t.get_text() for t in ax.texts] == ["1", "10", "2", "estimated"]
    assert [t.get_text() for t in ax.figure.legends[0].get_texts()] == ["closed: requests in flight", "open: requests sent per second"]
    assert "[J" in ax.get_ylabel() and ax.get_ylim()[0] == 0
    _, ax = plots.figure()
    plots.load_curve(table, ax, "ttft_s")
    assert [t.get_text() for t in ax.texts] == ["1", "10", "2"], "a time is measured: it has no watermark of the energy's basis"


def test_nothing_to_draw_is_said(served):
    _, ax = plots.figure()
    plots.load_curve(by_load(*served).assign(latency_p95_s=float("nan")), ax, "latency_p95_s")
    assert [t.get_text() for t in ax.texts] == ["no usable window"]


def test_a_request_costs_the_same_in_every_table():
    """Three servers, recorded with 16 tokens a reply: requests that ended inside a short window are not what its energy is divided by."""
    summary, by_load = (tables.read_result("serving-cpu", name).set_index("configuration_id") for name in ("summary", "loads"))
    assert len(summary) == len(by_load) == 12
    for table in (summary, by_load):
        assert (table["energy_j_per_request"] / table["energy_j_per_token"]).tolist() == pytest.approx([16.0] * 12)
    windows = tables.read_windows("serving-cpu")
    counted = windows["tokens_out"] / windows["requests"]
    assert (counted.max() > 20) and counted.min() < 15, "no window was cut: the test shows nothing"


def test_a_reply_of_its_own_length_is_counted_where_it_ends():
    rows = pd.DataFrame({"options": ['{"load":"closed:1"}'] * 2, "flags": [[], ["length_varies"]], "requests": [9, 9]})
    assert requests_of(rows.assign(tokens_out=160.0, output_tokens=16)).tolist() == [10.0, 9.0]


def test_the_finding_says_what_is_known(served):
    """A server that sends no tokens one by one has no time to the first one."""
    table = by_load(*served)
    both, cost = (plots.findings.load_curve(t) for t in (table, table.assign(ttft_s=float("nan"))))
    assert (
        cost.startswith("A token is cheapest at closed:") and both.startswith(cost[:-1]) and "first token" in both and "first" not in cost
    )
    assert "neither" not in both and plots.findings.load_curve(
        table.assign(ttft_s=float("nan"), energy_j_per_token=float("nan"))
    ).startswith("Neither")
