"""Billing a server: which processes it is, which cards they use, and windows in which the work never stops, against known truths."""

import os
import socket
import subprocess
import sys
import time
from types import SimpleNamespace

import known_power
import psutil
import pytest
from faulty_nvml import CounterSpec, FakeCard, FakeNvml

from eai.errors import UserError
from eai.power import cpu, derive, nvml
from eai.power.cpu import EstimateMeter, families, trees_cpu_s
from eai.power.meter import AbsentMeter
from eai.power.nvml import NvmlMeter
from eai.power.simulated import SensorSpec, VirtualClock
from eai.power.window import window

BURN = "while True: pass"
LISTEN = "import socket, sys; s = socket.create_server(('127.0.0.1', 0)); print(s.getsockname()[1], flush=True); "


@pytest.fixture
def started():
    """Start Python programs that are ended with the test; yields a function of a program that returns its process."""
    running = []

    def start(program: str) -> subprocess.Popen:
        running.append(subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True))
        return running[-1]

    yield start
    for process in running:
        process.kill()
        process.wait()
        process.stdout.close()


# Which processes


def test_the_process_that_listens_is_found_with_what_it_started(started):
    """A listener that does nothing and a child of it that burns one thread: the tree takes a second of CPU time a second."""
    server = started(
        LISTEN + f"import subprocess; c = subprocess.Popen([sys.executable, '-c', '{BURN}']); print(c.pid, flush=True); c.wait()"
    )
    port, child = int(server.stdout.readline()), int(server.stdout.readline())
    try:
        found = cpu.server_processes("127.0.0.1", port)
        assert found == cpu.ServerProcesses(frozenset([server.pid]))
        assert set(families(found.processes)) == {server.pid, child}
        before_s, begin_s = trees_cpu_s(found.processes), time.monotonic()
        time.sleep(1.0)
        share = (trees_cpu_s(found.processes) - before_s) / (time.monotonic() - begin_s)
        assert 0.05 < share <= 1.05  # less than 1 where others want the processor too
    finally:
        os.kill(child, 9)


def test_our_own_work_is_not_billed_to_a_server(started):
    """The server sleeps, we burn half a second: the meter of the server sees next to nothing, our own meter sees it."""
    server = started("import time; print(1, flush=True); time.sleep(60)")
    server.stdout.readline()
    found = {}
    for name, meter in (("server", EstimateMeter(processes=frozenset([server.pid]))), ("own", EstimateMeter())):
        with window(meter) as w:
            until_s = time.process_time() + 0.5
            while time.process_time() < until_s:
                pass
        found[name] = w.cpu_energy_j.value
    assert found["own"] >= 0.5 * 4.0
    assert found["server"] <= 0.05 * 4.0
    assert "server's processes" in EstimateMeter(processes=frozenset([1])).limitations()[0]


def test_a_server_that_is_gone_has_no_energy(started):
    """Ended inside the window, or started anew under another id before it: lost, not zero."""
    server = started("import time; print(1, flush=True); time.sleep(60)")
    server.stdout.readline()
    meter = EstimateMeter(processes=frozenset([server.pid]))
    for _ in range(2):
        with window(meter) as w:
            server.kill()
            server.wait()
        assert w.status == "lost" and w.cpu_energy_j is None and [e.energy_j for e in w.energies] == [None]


@pytest.mark.parametrize(
    ("program", "words"),
    [
        (
            LISTEN + "open('/proc/self/comm', 'w').write('docker-proxy'); print(1, flush=True); sys.stdin.read()",
            "docker-proxy listens on port",
        ),
        (
            "import socket, sys; s = socket.socket(); s.bind(('127.0.0.1', 0)); print(s.getsockname()[1]); print(1, flush=True); input()",
            "no process",
        ),
    ],
)
def test_a_process_that_is_not_the_server_is_not_taken_for_it(started, program, words):
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True)
    try:
        port = int(process.stdout.readline())
        process.stdout.readline()
        found = cpu.server_processes("127.0.0.1", port)
        assert not found.processes and words in found.reason and "server_pid" in found.reason
        assert cpu.server_processes("127.0.0.1", port, pid=process.pid).processes == {process.pid}
    finally:
        process.communicate("")


def test_a_server_in_this_process_or_elsewhere_is_not_billed():
    with socket.create_server(("127.0.0.1", 0)) as own:
        assert "the process that measures" in cpu.server_processes("127.0.0.1", own.getsockname()[1]).reason
    assert "another machine" in cpu.server_processes("192.0.2.1", 80).reason  # TEST-NET-1, RFC 5737: nobody's
    assert "another machine" in cpu.server_processes("no.such.host.invalid", 80).reason
    assert "no process" in cpu.server_processes("127.0.0.1", 1, pid=2**22 + 1).reason
    assert cpu.is_this_machine("localhost") and cpu.is_this_machine("127.0.0.1")


def test_a_listener_of_another_user_is_said_and_other_sockets_do_not_count(monkeypatch):
    """What the kernel tells of others' sockets has no process; a socket that is connected, or of another port, is no listener."""

    def sockets(kind):
        rows = [(8000, "LISTEN", None), (8000, "ESTABLISHED", 1), (8001, "LISTEN", os.getppid())]
        return [SimpleNamespace(laddr=SimpleNamespace(port=port), status=status, pid=pid) for port, status, pid in rows]

    monkeypatch.setattr(psutil, "net_connections", sockets)
    assert "another user" in cpu.server_processes("127.0.0.1", 8000).reason
    assert "no process" in cpu.server_processes("127.0.0.1", 8002).reason


# Which cards


def card(load, **changes):
    sensors = {"power_instant_w": SensorSpec(0.1, 0.025, 0.0)}
    return FakeCard(load, **({"sensors": sensors, "counter": CounterSpec(0.02, 0.0)} | changes))


@pytest.fixture
def host():
    """A clock and two cards, the second of which runs processes 41 and 42."""
    clock = VirtualClock()
    load = known_power.constant(0.0, 5000.0, 200.0, 80.0)
    return clock, FakeNvml([card(load, uuid="GPU-a"), card(load, uuid="GPU-b", processes=(41, 42))], clock)


def test_the_servers_card_is_found_by_its_processes(host, monkeypatch):
    """Where ids are the host's own they decide; in a container, where they are not, the choice of cards has to."""
    _, fake = host
    assert nvml.cards_of(frozenset([42, 99]), fake, {}) == [("GPU-b", "NVIDIA A100-SXM4-40GB")]
    monkeypatch.setattr(nvml, "_initial_namespace", lambda: True)
    assert nvml.cards_of(frozenset([7]), fake, {}) == []
    monkeypatch.setattr(nvml, "_initial_namespace", lambda: False)
    assert nvml.cards_of(frozenset([7]), fake, {}, guess=False) == []
    with pytest.raises(UserError, match="which of 2 cards"):
        nvml.cards_of(frozenset([7]), fake, {})
    assert [uuid for uuid, _ in nvml.cards_of(frozenset([7]), fake, {"CUDA_VISIBLE_DEVICES": "0"})] == ["GPU-a"]


def test_the_servers_processes_are_no_strangers_on_its_card(host, monkeypatch):
    clock, fake = host
    monkeypatch.setattr(nvml, "_initial_namespace", lambda: True)
    with pytest.raises(UserError, match="2 other process"):
        NvmlMeter(fake, "GPU-b", clock, environ={}).open()
    with NvmlMeter(fake, "GPU-b", clock, environ={}, ours=frozenset([41, 42])) as meter:
        assert [d.device_id for d in meter.devices()] == ["GPU-b"]
    with pytest.raises(UserError, match="1 other process"):
        NvmlMeter(fake, "GPU-b", clock, environ={}, ours=frozenset([41])).open()
    assert len(NvmlMeter(fake, "GPU-a,GPU-b", clock, environ={}).devices()) == 2


# Windows in which the work never stops


def served_window(loaded: bool, sensors=None, counter=CounterSpec(0.02, 0.0), duration_s=5.0, load=None):  # noqa: B008
    """A window in the middle of a load of 200 W over a card that idles at 80 W, whose idle power was measured before."""
    clock = VirtualClock()
    load = load or known_power.constant(clock.now_s() + 100.0, 5000.0, 200.0, 80.0)
    one = card(load, uuid="GPU-0", counter=counter, **({"sensors": sensors} if sensors else {}))
    with NvmlMeter(FakeNvml([one], clock), clock=clock, environ={}) as meter:
        baseline = meter.idle(5.0)
        clock.sleep(200.0)
        with window(meter, baseline, pads_loaded=loaded) as w:
            clock.sleep(duration_s)
    return w


@pytest.mark.parametrize("sensor", [SensorSpec(0.1, 0.025, 0.0), SensorSpec(0.1, 1.0, 0.0), SensorSpec(0.02, 0.02, 0.0)])
def test_a_load_that_goes_on_is_measured_at_its_power(sensor):
    """200 W x 5 s by the counter and by the integral, and 120 W x 5 s net, whatever the sensor averages over."""
    w = served_window(True, {"power_instant_w": sensor})
    assert w.status in ("ok", "short_window")
    assert [e.energy_j for e in w.energies] == pytest.approx([1000.0, 1000.0], rel=0.003)
    assert [e.net_energy_j for e in w.energies] == pytest.approx([600.0, 600.0], rel=0.005)


def test_pads_taken_for_idle_would_be_wrong():
    """Foil: the same window read as if the work had stopped at its edges bills the load of the pads, 120 W above idle, to the window."""
    w = served_window(False)
    outside_s = w.stream.loc[w.stream["field"] == "energy_counter_j", "t_s"].agg(lambda t: t.max() - t.min()) - 5.0
    (counter,) = [e for e in w.energies if e.method == "counter"]
    assert counter.energy_j == pytest.approx(1000.0 + 120.0 * outside_s, rel=0.003) and counter.energy_j > 1015.0


def test_the_counter_alone_does_as_well():
    w = served_window(True, {"power_instant_w": SensorSpec(0.1, 0.025, 0.0)})
    alone = [e for e in w.energies if e.method == "counter"]
    assert alone[0].energy_j == pytest.approx(1000.0, rel=0.003) and alone[0].u_reading_j < 20.0


def test_a_load_that_swings_stays_within_its_uncertainty():
    """Bursts of 0.4 s at 250 W and 0.3 s at 100 W without end: the mean power times the duration, within three standard uncertainties."""
    clock = VirtualClock()
    load = known_power.decode(clock.now_s() + 100.0, 2000.0, 0.7, 4 / 7, 250.0, 100.0, 80.0)
    w = served_window(True, {"power_instant_w": SensorSpec(0.1, 0.1, 0.0)}, duration_s=10.0, load=load)
    true_j = float(load.cumulative_j(w.stop_s) - load.cumulative_j(w.start_s))
    for energy in w.energies:
        assert abs(energy.energy_j - true_j) <= 3 * energy.u_reading_j + 1e-9, energy.method


def test_such_a_window_derives_again_from_its_record():
    w = served_window(True)
    again = derive(w.stream, w.start_s, w.stop_s, type(w.spec).from_json(w.spec.to_json()))
    assert again.energies == tuple(w.energies)


# What is out of sight


def test_what_cannot_be_seen_has_no_energy():
    with AbsentMeter("5fcef741", "the server is on another machine", VirtualClock()) as meter:
        with window(meter) as w:
            meter.clock.sleep(1.0)
        assert not meter.idle(1.0).power_w
    assert w.status == "invalid" and [e.energy_j for e in w.energies] == [None] and w.cpu_energy_j is None and w.gpu_energy_j is None
    assert meter.limitations() == ["energy is not measured: the server is on another machine"]
