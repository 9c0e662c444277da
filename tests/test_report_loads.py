"""Report and talk of a server: each load with its cost, its waiting, its failures, and whose processes are billed."""

import contextlib
import json
import subprocess
import sys
from pathlib import Path

import fake_server
import pandas as pd
import pytest

from eai import measure, report, schema, settings, tables
from eai.analyze.summary import by_load
from eai.report import loads, script, sections, setting, slides
from eai.report.facts import from_tables
from eai.report.format import interval

SWEEP = {
    "experiment": "served", "server_name": "fake-1", "models": ["fake"], "quantizations": ["bf16"], "gpus": ["cpu"], "blocks": 2,
    "window_s": 1.0, "warmup_cap_s": 0.0, "idle_s": 0.0, "input_tokens": [40], "output_tokens": [16], "meter": "estimate",
    "server_timeout_s": 30.0, "loads": ["closed:1", "closed:3"],
}  # fmt: skip
PROVENANCE = [{"server": {"name": "s-1"}, "meter": {"meter": "rapl"}, "versions": {"torch": "2.0"}, "machine": {"cpu": "X"}}]


@contextlib.contextmanager
def fake_process(**behaviour):
    """The address of a fake server in a process of its own."""
    command = [sys.executable, fake_server.__file__, json.dumps(behaviour)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        yield process.stdout.readline().strip()
    finally:
        process.kill()
        process.communicate()


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """The folder of an experiment of two loads, two blocks, on a server that burns 8 ms of CPU time a token."""
    root = tmp_path_factory.mktemp("served")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EAI_DATA", str(root / "data"))
        patch.setenv("EAI_FIGURES", str(root / "figures"))
        patch.setenv("EAI_LOCKS", str(root / "locks"))
        with fake_process(ttft_s=0.02, itl_s=0.01, burn_s=0.008) as url:
            folder = measure.run(settings.sweep(server=url, **SWEEP), lambda line: None)
    return folder


@pytest.fixture(scope="module")
def exported(measured, tmp_path_factory):
    """Every page of the report of the measured experiment, by kind."""
    out = tmp_path_factory.mktemp("pages")
    return {kind: Path(path).read_text(encoding="utf-8") for kind, path in report.export(str(measured), out)["files"].items()}


def window(load, block, tokens_out, **changes):
    """A window of 10 s with 16 output tokens a request; of a model in this process where `load` is empty."""
    options = json.dumps({"load": load, "server": "s-1"}) if load else "{}"
    given = {
        "job": "j", "block": block, "configuration_id": load, "repeat": 1, "attempt": f"{load}{block}", "gpu": "cpu", "model": "m",
        "weights": "published", "quantization": "bf16", "batch_size": 1, "input_tokens": 64, "output_tokens": 16, "task": "generate",
        "options": options, "duration_s": 10.0, "tokens_out": tokens_out, "requests": tokens_out // 16, "requests_failed": 0,
        "status": "ok", "flags": [], "reason": "", "ttft_s": 0.2, "itl_s": 0.05, "latency_s": 1.0, "basis": "estimated",
    }  # fmt: skip
    return {c.name: None for c in schema.WINDOWS} | given | changes


def energy(row, energy_j):
    keys = {name: row[name] for name in ("job", "block", "configuration_id", "repeat", "attempt")}
    fixed = {"device_id": "d", "boundary": "cpu_package", "method": "estimate", "primary": True, "basis": "estimated", "status": "ok"}
    return {c.name: None for c in schema.ENERGIES} | keys | fixed | {"energy_j": energy_j}


def tabled(changes=None, provenance=PROVENANCE, basis="measured", boundary="cpu_package", blocks=(1, 2)):
    """The facts of two loads whose figures are stated here: closed:1 at 2 J a token, closed:4 at 1 J."""
    given = changes or {}
    rows = [window(load, b, tokens, **given) for load, tokens in (("closed:1", 160), ("closed:4", 640)) for b in blocks]
    per_token = {"closed:1": 2.0, "closed:4": 1.0}
    energies = [energy(r, per_token[r["configuration_id"]] * r["tokens_out"]) | {"basis": basis, "boundary": boundary} for r in rows]
    windows = pd.DataFrame(rows).assign(basis=basis)
    return from_tables("tabled", windows, pd.DataFrame(energies), provenance)


def words(section) -> str:
    return "\n".join(e.markdown() for e in section if e.kind == "prose")


def test_every_page_has_each_load_with_its_cost_and_its_waiting(measured, exported):
    """Figures of the loads table itself, in HTML, Markdown and LaTeX; a picture under them; the talk has a slide of each."""
    table = by_load(tables.read_windows(measured), tables.read_energies(measured))
    assert table["traffic"].tolist() == ["closed:1", "closed:3"] and (table["n_blocks"] == 2).all()
    for row in table.to_dict("records"):
        cells = [interval(row, name) for name in ("energy_j_per_token", "energy_j_per_request", "throughput_tok_s")]
        assert f"| {row['traffic']} | {' | '.join(cells)} |" in exported["markdown"]
        waits = [interval(row, name) for name in ("ttft_s", "ttft_p95_s", "itl_s", "latency_s")]
        assert f"| {row['traffic']} | {' | '.join(waits)} | 0 / {row['requests']} | 2 |" in exported["markdown"]
        assert all(text in exported["html"] and text in exported["latex"] for text in (*cells, *waits))
    assert "CPU time of the server's own processes; that of the client" in exported["markdown"]
    assert "What each load costs" in exported["slides"] and "How long a request waits" in exported["slides"]
    assert exported["slides"].count("<section>") == 7


def test_a_servers_report_says_nothing_that_holds_only_for_a_model_in_this_process(exported):
    text = exported["markdown"] + exported["script"]
    for foreign in ("fresh load", "freshly loaded", "verified to be what ran", "batch size", "nan %", "baseline (fp32), 0", "roof"):
        assert foreign not in text, foreign
    for kind in ("markdown", "script"):
        assert "stated" in exported[kind]
    assert "Software of the client, not of the server" in exported["markdown"]
    assert "The baseline (fp32) was not measured, so strategies are not compared." in exported["markdown"]


def test_costs_of_the_loads_are_those_of_their_tokens():
    """2 J a token at closed:1 and 1 J at closed:4, 16 tokens a request; the same in both blocks, so the intervals have no width."""
    facts = tabled()
    assert "runs from 1.00 [1.00, 1.00] J (`closed:4`) to 2.00 [2.00, 2.00] J (`closed:1`)" in loads.cost_range(facts, "en")
    table = loads.cost_table(facts, "en")
    assert table["J per request"].tolist() == ["32.0 [32.0, 32.0]", "16.0 [16.0, 16.0]"] and table["requests/s"].tolist() == [
        "1.00",
        "4.00",
    ]
    assert loads.wait_table(facts, "zh")["失败 / 全部"].tolist() == ["0 / 20", "0 / 80"]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"basis": "estimated"}, "CPU time of the server's own processes"),
        ({"boundary": "gpu"}, "cards that the server's processes are on"),
        ({}, "the client that drove the server, on the same machine, is in it"),
        ({"provenance": []}, "is not recorded with the data"),
    ],
)
def test_whose_processes_are_billed_is_said(given, said):
    facts = tabled(**given)
    for language in ("en", "zh"):
        assert loads.billed(facts, language) in words(loads.loads(facts, language))
    assert said in loads.billed(facts, "en")


def test_failures_and_remarks_are_named_with_their_loads():
    """One failure in each window of 10 and 40 requests; what makes a figure mean less is a sentence, the rest by name."""
    text = words(loads.loads(tabled({"requests_failed": 1, "flags": ["overloaded", "prefix_cached", "unverified"]}), "en"))
    assert "4 of 104 requests in these windows failed (`closed:1`, `closed:4`)" in text
    assert "More requests came than the server could end at `closed:1`, `closed:4`" in text
    assert "Other remarks on windows: `prefix_cached`." in text and "`unverified`" not in text
    quiet = words(loads.loads(tabled(), "en"))
    assert "None of 100 requests" in quiet and "remarks" not in quiet


def test_one_block_has_no_interval_and_says_so():
    facts = tabled(blocks=(1,))
    assert "no interval can be given" in words(loads.loads(facts, "en"))
    assert loads.cost_table(facts, "en")["J per output token"].tolist() == ["2.00", "1.00"]


def test_loads_beside_a_model_in_this_process_leave_its_rules_alone():
    """Own rows keep cost table, rules and batch size; loads stand apart and take no part in the rules."""
    rows = [window("closed:4", b, 640, quantization="fp16") for b in (1, 2)]
    rows += [window("", b, 160, configuration_id=f"own-{q}", quantization=q, attempt=f"{q}{b}", step_time_s=0.1)
             for q in ("fp32", "bf16") for b in (1, 2)]  # fmt: skip
    per_token = {"closed:4": 1.0, "own-fp32": 4.0, "own-bf16": 3.0}
    energies = [energy(r, per_token[r["configuration_id"]] * r["tokens_out"]) for r in rows]
    facts = from_tables("mixed", pd.DataFrame(rows), pd.DataFrame(energies), PROVENANCE)
    assert not facts.only_served and facts.levels("batch_size") == [1] and len(facts.loads) == 1
    assert facts.rules["quantization"].tolist() == ["bf16"] and facts.strategies_of(facts.rules.iloc[0]) == (2, 2)
    assert "every load once" in words(setting.method(facts, "en")) and "on a fresh load" in words(setting.method(facts, "en"))
    assert "J per output token" in words(sections.cost(facts, "en")) and script.variant("where", facts) == "where"


def test_without_a_server_there_is_no_section():
    facts = report.gather("sample")
    assert not loads.loads(facts, "en") and facts.loads.empty


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("blocks", [(1,), (1, 2)])
def test_the_talk_of_a_server_fits_its_seconds(language, blocks):
    facts = tabled({"flags": ["overloaded"], "requests_failed": 1}, blocks=blocks)
    for section in slides.talk(facts, language):
        notes = section[-1]
        assert 0.5 * notes.seconds <= script.spoken_s(notes.script) <= notes.seconds, notes
