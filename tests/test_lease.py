"""Leases: one measurement at a time on a card, on whichever matching card is free, and a lock that dies with its process."""

import os
import signal
import subprocess
import sys
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eai import machine
from eai.errors import UserError
from eai.machine import Card

TWO_A800 = [Card("GPU-aaaa1111-0", "a800_sxm_80gb"), Card("GPU-bbbb2222-0", "a800_sxm_80gb")]
MIXED = [Card("GPU-cccc3333-0", "rtx4090"), *TWO_A800]
HOLD = "import sys; from eai import machine; l = machine.take({asked!r}); l.__enter__(); print('held', flush=True); sys.stdin.read()"


@pytest.fixture
def locks(tmp_path, monkeypatch):
    monkeypatch.setenv("EAI_LOCKS", str(tmp_path / "locks"))
    return tmp_path / "locks"


def another_process(asked: str = "cpu") -> subprocess.Popen:
    """A process of its own that holds the lease until its standard input closes."""
    child = subprocess.Popen([sys.executable, "-c", HOLD.format(asked=asked)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert child.stdout.readline() == "held\n"
    return child


def end(child: subprocess.Popen, how: int = signal.SIGKILL) -> None:
    child.send_signal(how)
    child.communicate()


def test_a_second_process_waits_and_is_told_who_holds_the_device(locks):
    child = another_process()
    said = []
    try:
        with pytest.raises(UserError, match=f"process {child.pid}"), machine.take("cpu", say=said.append, wait_s=0.5):
            pass
    finally:
        end(child)
    assert said == [f"waiting for cpu: another measurement (process {child.pid}) runs there"]


def test_the_lease_of_a_killed_process_is_free_at_once(locks):
    end(another_process())
    began_s = time.monotonic()
    with machine.take("cpu", wait_s=5):
        assert time.monotonic() - began_s < 1


def test_a_lock_file_that_was_left_behind_holds_nobody_up(locks):
    locks.mkdir()
    (locks / "cpu.lock").write_text("1\n")
    with machine.take("cpu", wait_s=0) as card:
        assert card.holder() == str(os.getpid())


def test_a_child_process_does_not_inherit_the_lease(locks):
    with machine.take("cpu"):
        child = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
    try:
        with machine.take("cpu", wait_s=0):
            pass
    finally:
        end(child)


def test_two_leases_of_one_kind_of_card_are_two_cards_and_a_third_waits(locks):
    with machine.take("a800_sxm_80gb", cards=MIXED) as first, machine.take("a800_sxm_80gb", cards=MIXED) as second:
        assert {first, second} == set(TWO_A800)
        with pytest.raises(UserError, match="GPU-aaaa1111-0, GPU-bbbb2222-0"), machine.take("a800_sxm_80gb", cards=MIXED, wait_s=0):
            pass
        with machine.take("rtx4090", cards=MIXED, wait_s=0) as other:
            assert other == MIXED[0]


def test_a_job_that_has_begun_takes_its_card_again_and_waits_for_it(locks):
    mark = TWO_A800[1].mark
    assert mark == "bbbb2222"
    with machine.take("a800_sxm_80gb", bound=lambda gpu: [mark], cards=TWO_A800) as card:
        assert card == TWO_A800[1]
        with pytest.raises(UserError), machine.take("a800_sxm_80gb", bound=lambda gpu: [mark], cards=TWO_A800, wait_s=0):
            pass
    with machine.take("a800_sxm_80gb", bound=lambda gpu: ["00000000"], cards=TWO_A800, wait_s=0) as card:
        assert card in TWO_A800, "its card is not here: any other of the kind"


def test_cuda_is_shown_the_leased_card_alone_and_then_what_it_saw_before(locks, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    with machine.take("a800_sxm_80gb", bound=lambda gpu: ["bbbb2222"], cards=TWO_A800):
        assert os.environ["CUDA_VISIBLE_DEVICES"] == "GPU-bbbb2222-0"
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "0,1"
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    with machine.take("auto", cards=MIXED) as card:
        assert os.environ["CUDA_VISIBLE_DEVICES"] == card.uuid
    assert "CUDA_VISIBLE_DEVICES" not in os.environ


def test_a_card_chosen_by_a_scheduler_is_kept(locks, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    with machine.take("auto", cards=TWO_A800[:1]) as card:
        assert card == TWO_A800[0] and os.environ["CUDA_VISIBLE_DEVICES"] == "3"


@pytest.mark.parametrize(
    ("asked", "cards", "expected"),
    [
        ("auto", [], "cpu"),
        ("auto", MIXED, "rtx4090"),
        ("cpu", MIXED, "cpu"),
        ("RTX 4090", MIXED, "rtx4090"),
        ("simulated_a100_pcie_40gb", [], "simulated_a100_pcie_40gb"),
    ],
)
def test_what_is_asked_for_is_resolved_by_what_is_here(asked, cards, expected):
    assert machine.resolve(asked, cards) == expected


def test_a_card_that_is_not_here_is_refused_with_what_is():
    with pytest.raises(UserError, match="here is a800_sxm_80gb, rtx4090"):
        machine.resolve("h100_sxm", MIXED)
    with pytest.raises(UserError, match="no CUDA device"):
        machine.resolve("h100_sxm", [])


@given(bound=st.sets(st.sampled_from(["aaaa1111", "bbbb2222", "cccc3333", "dddd4444"])))
def test_candidates_are_always_of_the_kind_and_never_none(bound):
    found = machine.candidates("a800_sxm_80gb", MIXED, bound)
    assert found and all(c.gpu == "a800_sxm_80gb" for c in found)
    if bound & {c.mark for c in TWO_A800}:
        assert all(c.mark in bound for c in found)


def test_cards_of_the_driver_get_their_catalog_slug(monkeypatch):
    import known_power
    from faulty_nvml import FakeCard, FakeNvml

    from eai.power import nvml as meter
    from eai.power.simulated import VirtualClock

    flat = known_power.constant(0.0, 1e6, 100.0, 50.0)
    names = ("NVIDIA A800-SXM4-80GB", "NVIDIA Something 9000")
    nvml = FakeNvml([FakeCard(flat, {}, uuid=f"GPU-{i}", name=n) for i, n in enumerate(names)], VirtualClock())
    monkeypatch.setattr(meter, "load_nvml", lambda: nvml)
    monkeypatch.setattr(machine, "_torch_has_cuda", lambda: True)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert machine.present() == [Card("GPU-0", "a800_sxm_80gb"), Card("GPU-1", "nvidia-something-9000")]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-1")
    assert [c.uuid for c in machine.present()] == ["GPU-1"]
    for hidden in ("", "-1", "-1,0"):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
        assert machine.present() == [] and machine.resolve("auto", machine.present()) == "cpu"
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    nvml.cards.clear()
    assert machine.present() == []


def test_a_lock_that_points_elsewhere_is_refused(locks, tmp_path):
    locks.mkdir()
    (tmp_path / "precious").write_text("content")
    (locks / "cpu.lock").symlink_to(tmp_path / "precious")
    with pytest.raises(UserError, match="cannot open a lock"), machine.take("cpu", wait_s=0):
        pass
    assert (tmp_path / "precious").read_text() == "content"
