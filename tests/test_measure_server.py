"""Servers in the protocol: joules of known work a token, loads apart, faults as rows, and a real server with a real model."""

import asyncio
import contextlib
import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from types import SimpleNamespace

import fake_server
import known_power
import numpy as np
import pytest
import yaml
from fake_server import Behaviour, FakeServer
from faulty_nvml import CounterSpec, FakeCard, FakeNvml

from eai import measure, paths, settings, tables
from eai.analyze.summary import summarize
from eai.errors import UserError
from eai.power.derive import replay
from eai.power.meter import Clock
from eai.power.nvml import NvmlMeter
from eai.power.simulated import SensorSpec
from eai.power.window import MAKERS
from eai.serving import served
from eai.serving.client import Reply, endpoint
from eai.serving.served import UNVERIFIED, ServedWork, least_cpu_s, require, token_counter, told_quantization
from eai.serving.session import DIALECTS, Prompts, Session
from eai.serving.traffic import Tally
from eai.settings import EMBEDDED_MODEL, load
from eai.workload import sources

WATTS = 4.0
OUT = 16


@pytest.fixture(autouse=True)
def apart(scratch, monkeypatch, tmp_path):
    """A scratch folder, a lock of our own, and no key of the user's."""
    monkeypatch.setenv("EAI_LOCKS", str(tmp_path / "locks"))
    monkeypatch.delenv("EAI_API_KEY", raising=False)


@contextlib.contextmanager
def fake_process(**behaviour):
    """The address of a fake server in a process of its own, and the process."""
    command = [sys.executable, fake_server.__file__, json.dumps(behaviour)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        yield process.stdout.readline().strip(), process
    finally:
        process.kill()
        process.communicate()


def sweep(url: str, **changes) -> settings.Sweep:
    given = {"experiment": "served", "server": url, "server_name": "fake-1", "models": ["fake"], "quantizations": ["bf16"], "gpus": ["cpu"]}
    quick = {
        "blocks": 1,
        "window_s": 0.5,
        "warmup_cap_s": 0.0,
        "idle_s": 0.0,
        "input_tokens": [40],
        "output_tokens": [OUT],
        "meter": "estimate",
    }
    return settings.sweep(**(given | quick | {"server_timeout_s": 5.0} | changes))


def measured(parameters: settings.Sweep):
    """(windows, energies, lines) of a run."""
    lines: list[str] = []
    folder = measure.run(parameters, lines.append)
    return tables.read_windows(folder), tables.read_energies(folder), lines


def test_the_servers_work_is_billed_and_ours_is_not():
    """20 ms of CPU time a token at 4 W are 0.08 J per token, and what HTTP costs on top, while this process burns a thread of its own."""
    over = threading.Event()

    def burn():
        while not over.is_set():
            sum(range(1000))

    thread = threading.Thread(target=burn)
    with fake_process(ttft_s=0.02, itl_s=0.02, burn_s=0.02) as (url, _):
        thread.start()
        try:
            windows, energies, _ = measured(sweep(url, window_s=1.2))
        finally:
            over.set()
            thread.join()
    row = windows.iloc[0]
    assert row["status"] == "ok", row["reason"]
    energy_j = float(energies["energy_j"].iloc[0])
    assert WATTS * 0.02 <= energy_j / row["tokens_out"] * 1.05 <= WATTS * 0.02 * 1.4
    assert row["cpu_time_s"] == pytest.approx(energy_j / WATTS, rel=0.1)
    assert row["client_cpu_s"] > 0.5 * row["cpu_time_s"], "this process burned nothing: the test shows nothing"
    assert "unverified" in row["flags"] and json.loads(row["ran"])["verified"] is False


def test_loads_are_configurations_apart_all_the_way_to_the_summary():
    """Each window obeys Little's law, requests in flight = completed a second x latency, and a closed load keeps its number there."""
    with fake_process(ttft_s=0.05, itl_s=0.01, burn_s=0.005) as (url, _):
        windows, energies, lines = measured(sweep(url, loads=["closed:3", "open:6"], window_s=1.0))
    assert set(windows["status"]) == {"ok"}, windows["reason"].tolist()
    assert windows["configuration_id"].nunique() == 2 and set(windows["batch_size"]) == {1}
    loads = windows["options"].map(lambda text: json.loads(text)["load"])
    closed = windows[loads == "closed:3"]
    assert closed["in_flight_mean"].tolist() == pytest.approx([3.0], abs=0.05)
    in_flight = closed["tokens_out"] / OUT / closed["duration_s"] * closed["latency_s"]
    assert in_flight.tolist() == pytest.approx([3.0], rel=0.15)
    summary = summarize(windows, energies)
    assert sorted(summary["options"]) == ['{"load":"closed:3","server":"fake-1"}', '{"load":"open:6","server":"fake-1"}']
    assert (summary["n_blocks"] == 1).all() and (summary["energy_j_per_token"] > 0).all()
    assert any("closed:3" in line for line in lines)


def test_nothing_private_is_written_down(monkeypatch, scratch):
    monkeypatch.setenv("EAI_API_KEY", "key-of-the-user")
    with fake_process(ttft_s=0.0, itl_s=0.001, burn_s=0.005, model="/somewhere/private/fake") as (url, _):
        measured(sweep(url, server_model="/somewhere/private/fake"))
    port = url.rpartition(":")[2]
    written = "".join(p.read_text() for p in (scratch / "data").rglob("*.jsonl"))
    assert "fake" in written
    assert not [word for word in ("key-of-the-user", "/somewhere", "127.0.0.1", port) if word in written.replace("fake-1", "")]


def test_no_prompt_is_sent_twice():
    """Else a server that keeps the beginnings of earlier prompts would be measured reading its cache."""
    with FakeServer(Behaviour(ttft_s=0.0, itl_s=0.002)) as server:
        measured(sweep(server.url, loads=["closed:1", "closed:2"], blocks=2, window_s=0.2))
    asked = [body["messages"][0]["content"] for body in server.bodies if body["stream"] and body["max_tokens"] == OUT]
    assert len(asked) > 40 and len(set(asked)) == len(asked) and len({text.split()[0] for text in asked}) > 0.99 * len(asked)


def test_the_key_is_sent():
    with FakeServer() as server:
        os.environ["EAI_API_KEY"] = "abc"
        try:
            with pytest.raises(UserError, match="no model"):
                measured(sweep(server.url, models=["other"]))
            measured(sweep(server.url))
        finally:
            del os.environ["EAI_API_KEY"]
    assert {h.get("authorization") for h in server.headers} == {"Bearer abc"}


def test_a_server_out_of_sight_has_latencies_and_no_energy():
    """It runs in this very process, so that its CPU time cannot be told from ours."""
    with FakeServer(Behaviour(ttft_s=0.02, itl_s=0.005)) as server:
        windows, energies, lines = measured(sweep(server.url))
    row = windows.iloc[0]
    assert row["status"] == "invalid" and "energy is not measured: the server runs in the process that measures" in row["reason"]
    assert energies["energy_j"].isna().all() and row["tokens_out"] > 0 and 0.02 <= row["ttft_s"] < 0.1
    assert "energy is not measured" in lines[0]
    with pytest.raises(UserError, match="no usable window"):
        summarize(windows, energies)


def test_a_process_that_does_not_do_the_work_is_not_believed():
    """The pid of a process that sleeps, in place of the server's."""
    sleeper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        with fake_process(ttft_s=0.01, itl_s=0.005) as (url, _):
            time.sleep(0.5)
            windows, _, _ = measured(sweep(url, server_pid=sleeper.pid, window_s=1.0))
    finally:
        sleeper.kill()
        sleeper.wait()
    assert windows["status"].tolist() == ["invalid"] and "something else computes" in windows["reason"].iloc[0]


def test_a_light_server_is_believed():
    """It only sends: well under one hundredth of a thread at one request in flight, and yet more than the sending itself must cost."""
    with fake_process(ttft_s=0.05, itl_s=0.02) as (url, _):
        windows, _, lines = measured(sweep(url, window_s=1.5))
    assert windows["status"].isin(["ok", "short_window"]).all(), windows["reason"].tolist()
    assert "Each window ends within" in lines[0]


def test_a_model_cannot_run_in_less_than_its_operations():
    """7.6e9 parameters, two operations each and token: 100 tokens take 0.4 s of the fastest thread there is."""
    tally = Tally([Reply(0.0, 0.0, 2.0, tuple(0.01 * k for k in range(1, 101)), 10, 100, True)], 0.0, 2.0, load("closed:1"))
    assert 0.3 < least_cpu_s("Qwen/Qwen2.5-7B-Instruct", tally) < 0.5
    assert least_cpu_s("nobody/knows-this", tally) == pytest.approx(100 * 5e-6)


def test_a_window_measured_inside_a_running_event_loop():
    """As in a notebook, whose cells run inside one."""

    async def cell():
        with fake_process(ttft_s=0.0, itl_s=0.002, burn_s=0.01) as (url, _):
            return measured(sweep(url))

    assert asyncio.run(cell())[0]["status"].tolist() == ["ok"]


def test_a_window_holds_whole_cycles_of_a_closed_load():
    """Latencies of 0.5 s: 2 s are four cycles, 2.1 s become five, 0.1 s two; an open load has no cycles to hold."""
    replies = [Reply(t, t, t + 0.5, (t + 0.1,), 1, 1, True) for t in range(5)]
    given = [("closed:4", 2.0, 2.0), ("closed:4", 2.1, 2.5), ("closed:4", 0.1, 1.0), ("open:3", 2.1, 2.1), ("open:3", 0.1, 1.0)]
    for text, asked_s, expected_s in given:
        traffic = SimpleNamespace(replies=replies, load=load(text))
        assert ServedWork(None, traffic, None, "", None, 1.0).whole_cycles_s(asked_s) == pytest.approx(expected_s), (text, asked_s)


def test_the_hardware_is_the_one_the_server_is_on(monkeypatch):
    """The driver's list is a stand-in: processes on an H100, on nothing, or with no driver to ask."""
    given = sweep("http://127.0.0.1:1")
    on_h100 = {"gpus": ["auto"]}, {"gpus": ["cpu"]}, {"gpus": ["h100"]}, {"gpus": ["a100"]}
    auto, on_cpu, right, wrong = (given.model_copy(update=changes) for changes in on_h100)
    monkeypatch.setattr(served, "located", lambda _: served.cpu.ServerProcesses(frozenset([7])))
    monkeypatch.setattr(served.nvml, "cards_of", lambda processes, guess: [("GPU-1", "NVIDIA H100 80GB HBM3")])
    found = served.resolve_gpu(auto)
    assert found.startswith("h100") and served.resolve_gpu(right.model_copy(update={"gpus": [found]})) == found
    for stated in (on_cpu, wrong):
        with pytest.raises(UserError, match=f"was stated but the server is on {found}"):
            served.resolve_gpu(stated)
    monkeypatch.setattr(served.nvml, "cards_of", lambda processes, guess: [])
    assert served.resolve_gpu(auto) == served.resolve_gpu(on_cpu) == "cpu"
    with pytest.raises(UserError, match="on no visible card"):
        served.meter(right, "h100")


def test_a_servers_card_is_measured_under_a_load_that_never_stops(monkeypatch):
    """The whole path of a GPU meter on a simulated card of 200 W that runs the server's process: measured, net of idle, replayed."""
    clock = Clock()
    truth_w = known_power.constant(clock.now_s() - 10.0, 10_000.0, 200.0, 80.0)
    sensors = {"power_instant_w": SensorSpec(0.02, 0.02, 0.0)}
    with fake_process(ttft_s=0.02, itl_s=0.005) as (url, process):
        card = FakeCard(truth_w, sensors, CounterSpec(0.02, 0.0), uuid="GPU-0", processes=(process.pid,))
        nvml = FakeNvml([card], clock)
        monkeypatch.setattr(served.nvml, "load_nvml", lambda: nvml)
        monkeypatch.setitem(MAKERS, "nvml", lambda gpu, shared, processes: NvmlMeter(nvml, gpu, clock, shared, {}, processes))
        folder = measure.run(sweep(url, gpus=["auto"], meter="nvml", idle_s=1.0, window_s=3.0), lambda line: None)
    windows, energies = tables.read_windows(folder), tables.read_energies(folder)
    assert windows["status"].tolist() == ["ok"], windows["reason"].iloc[0]
    assert windows["gpu"].iloc[0].startswith("a100") and windows["basis"].tolist() == ["measured"]
    assert "other_processes" not in windows["flags"].iloc[0] and '"pads_loaded": true' in windows["meter_spec"].iloc[0]
    assert (energies["energy_j"] / windows["duration_s"].iloc[0]).tolist() == pytest.approx([200.0] * 2, rel=0.02)
    # A rectangle's ends lie 1.7 standard uncertainties from its middle, so four hold for any number of such terms that are small.
    u_j = np.sqrt((energies[["u_statistical_j", "u_granularity_j", "u_idle_j", "u_net_j"]].astype(float) ** 2).sum(axis=1))
    assert (energies["net_energy_j"].abs() <= 4 * u_j).all() and (u_j < 0.05 * energies["energy_j"]).all()
    assert replay(windows, energies, tables.read_samples(folder)) == (1, [])


# What goes wrong


def test_a_dead_server_is_one_line_and_nothing_is_written(scratch):
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    with pytest.raises(UserError, match="no answer from"):
        measured(sweep(f"http://127.0.0.1:{port}"))
    assert not (scratch / "data").exists()


@pytest.mark.parametrize(
    ("behaviour", "status", "words"),
    [
        ({"status": 500}, "failed", "HTTP 500: broken inside"),
        ({"fault": "garbage"}, "failed", "not JSON"),
        ({"fault": "silent"}, "failed", "no text for 0.5 s"),
        ({"busy": 999, "retry_after": "0"}, "failed", "HTTP 429: busy"),
        ({"template_tokens": 90}, "failed", "template"),
        ({"told": 136}, "invalid", "136 output tokens where max_tokens is 16"),
    ],
)
def test_a_server_that_cannot_be_measured_is_a_row_with_its_reason(behaviour, status, words):
    with fake_process(ttft_s=0.0, itl_s=0.0, **behaviour) as (url, _):
        windows, _, _ = measured(sweep(url, server_timeout_s=0.5, loads=["closed:1", "closed:2"]))
    assert windows["status"].tolist() == [status] * 2
    assert windows["reason"].str.contains(words).all() and not windows["reason"].str.contains("\n").any()


def test_a_server_that_dies_costs_its_windows_and_nothing_before_them():
    """Killed in the second window: that one and the third are rows; against a new server only they are measured again."""
    loads = ["closed:1", "closed:2", "closed:3"]
    given = {"ttft_s": 0.0, "itl_s": 0.01, "burn_s": 0.006}
    with fake_process(**given) as (url, process):

        def kill_in_the_second(line):
            if line.startswith("[1/"):
                threading.Timer(0.3, process.kill).start()

        folder = measure.run(sweep(url, loads=loads, window_s=1.0), kill_in_the_second)
        rows = tables.read_windows(folder)
        assert sorted(rows["status"]) == ["failed", "failed", "ok"]
        assert rows.loc[rows["status"] == "failed", "reason"].str.contains("gone|no request succeeded|no answer|no connection").all()
        first = rows.loc[rows["status"] == "ok", "attempt"].tolist()
    with fake_process(**given) as (url, _):
        measure.run(sweep(url, loads=loads, window_s=1.0), lambda line: None)
    again = tables.read_windows(folder)
    assert set(again["status"]) == {"ok"} and set(first) <= set(again["attempt"])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"server_name": ""}, "server needs server_name"),
        ({"quantizations": ["bf16", "nf4"]}, "quantizations of a server"),
        ({"tasks": ["mmlu"]}, "plain generation"),
        ({"kv_cache": False}, "kv_cache is an option of a model in this process"),
        ({"loads": ["closed:0"]}, "closed:N"),
        ({"loads": ["closed:2", "closed:2"]}, "twice"),
        ({"server": ""}, "server_name is of a server"),
        ({"server_timeout_s": 0}, "server_timeout_s"),
    ],
)
def test_parameters_that_do_not_go_together_are_one_line(changes, words):
    with pytest.raises(UserError, match=words) as caught:
        sweep("http://127.0.0.1:1", **changes)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("address", ["localhost:8000", "http://me:secret@host/v1", "http://"])
def test_an_address_that_is_none_is_one_line(address):
    with pytest.raises(UserError) as caught:
        sweep(address)
    assert "\n" not in str(caught.value) and "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("ftype", "slug"),
    [
        ("Q4_1", "gguf_q4_1"),
        ("Q4_K - Medium", "gguf_q4_k_m"),
        ("Q3_K - Small", "gguf_q3_k_s"),
        ("Q2_K - Medium", "gguf_q2_k"),
        ("IQ4_XS - 4.25 bpw", "gguf_iq4_xs"),
        ("BF16", "bf16"),
        ("all F32", "fp32"),
        ("unknown, may not work", ""),
        ("", ""),
    ],
)
def test_the_format_that_llama_cpp_tells_is_a_strategy(ftype, slug):
    """Its names of formats are those of llama_ftype_name in llama-model-loader.cpp."""
    assert told_quantization({"meta": {"ftype": ftype}}) == slug
    assert told_quantization({}) == told_quantization({"meta": None}) == told_quantization({"meta": "Q4_1"}) == ""


def test_a_server_whose_model_is_in_another_format_than_stated_is_one_line():
    with FakeServer(Behaviour(ftype="Q4_1")) as server:
        with pytest.raises(UserError, match="'bf16' was stated but the server says its model is gguf_q4_1") as caught:
            require(sweep(server.url), "fake")
        require(sweep(server.url, quantizations=["gguf_q4_1"]), "fake")
    assert "\n" not in str(caught.value)


def test_a_format_that_only_servers_run_is_not_loaded_here():
    with pytest.raises(UserError, match="gguf_q4_1 is run by a server"):
        settings.sweep(quantizations=["gguf_q4_1"])


# A real server


@pytest.fixture(scope="module")
def transformers_serve(tmp_path_factory):
    """The address of `transformers serve` with the embedded model on one thread, once it answers."""
    model = str(sources.embedded_folder())
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    log = tmp_path_factory.mktemp("serve") / "log"
    command = [
        sys.executable,
        "-m",
        "transformers.cli.transformers",
        "serve",
        model,
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--device",
        "cpu",
    ]
    environ = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "HF_HOME": str(log.parent)}
    with open(log, "w") as written:
        process = subprocess.Popen(command, stdout=written, stderr=written, env=environ)
    try:
        for _ in range(600):
            with contextlib.suppress(urllib.error.URLError, OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2):
                break
            assert process.poll() is None, log.read_text()[-2000:]
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}", model
    finally:
        process.kill()
        process.wait()


def test_the_tokenizer_at_hand_counts(tiny_model):
    assert token_counter(str(tiny_model))("w1 w2 w3") == 3
    assert token_counter("nobody/knows-this") is None and token_counter("/no/such/folder") is None


def test_transformers_serve_on_the_embedded_model(transformers_serve):
    """Tokens as its own tokenizer counts them, energy from its CPU time, one request of 8 tokens after the other."""
    from transformers import AutoTokenizer

    url, model = transformers_serve
    given = {"models": [EMBEDDED_MODEL], "server_model": model, "server_name": "transformers-serve", "quantizations": ["fp32"]}
    windows, energies, _ = measured(sweep(url, **given, input_tokens=[48], output_tokens=[8], window_s=2.0, server_timeout_s=60.0))
    row = windows.iloc[0]
    assert row["status"] == "ok", row["reason"]
    assert row["requests"] >= 1 and row["requests_failed"] == 0
    assert "length_varies" not in row["flags"] and "tokens_from_pieces" not in row["flags"] and "unverified" in row["flags"]
    assert 0.2 * row["duration_s"] < row["cpu_time_s"] <= 1.5 * row["duration_s"]
    assert float(energies["energy_j"].iloc[0]) == pytest.approx(WATTS * row["cpu_time_s"], rel=0.1)
    assert row["ttft_s"] < row["latency_s"] and row["step_time_s"] == pytest.approx(row["itl_s"], rel=0.5)
    assert row["latency_s"] == pytest.approx(row["ttft_s"] + 7 * row["step_time_s"], rel=0.3)
    assert json.loads(row["ran"])["dialect"] == "generation_config"
    session = Session(endpoint(url), model, 60.0)
    session.dialect = DIALECTS[1]
    text = Prompts(20).text(3)
    chat = AutoTokenizer.from_pretrained(model).apply_chat_template([{"role": "user", "content": text}], add_generation_prompt=True)
    session.count = token_counter(EMBEDDED_MODEL)
    assert 20 < session.count(text) < session._count(text) == len(chat["input_ids"] if hasattr(chat, "keys") else chat)


def test_a_model_that_transformers_serve_does_not_have_is_in_its_words(transformers_serve):
    url, _ = transformers_serve
    windows, _, _ = measured(sweep(url, models=["org/other"], server_name="transformers-serve"))
    assert windows["status"].tolist() == ["failed"] and "pinned to" in windows["reason"].iloc[0]


# The recipe


def test_the_recipe_is_a_sweep_and_names_what_exists():
    """The YAML block is valid, the Python block imports what is there, and every flag it explains is one that a window can have."""
    text = (paths.ROOT / "docs" / "servers.md").read_text()
    (recipe,) = re.findall(r"```yaml\n(.*?)```", text, re.S)
    (code,) = re.findall(r"```python\n(.*?)```", text, re.S)
    given = settings.sweep(**yaml.safe_load(recipe))
    assert len(given.configurations("cpu", given.models[0])) == len(given.loads) == 4
    exec("\n".join(line for line in code.splitlines() if "import" in line), {})
    remarks = {UNVERIFIED, *Tally([], 0.0, 1.0, load("closed:1")).remarks(1, 1)}
    assert len(remarks) > 5 and not [remark for remark in remarks if f"`{remark}`" not in text]
    assert not [name for name in settings.Sweep.model_fields if name.startswith("server") and name not in text]
