"""A small form of benchmarks/chaos.py: kills at random over a simulated sweep, and nothing of it shows in the data."""

import sys

import pytest

from eai import paths, tables


@pytest.fixture
def chaos():
    sys.path.insert(0, str(paths.ROOT / "benchmarks"))
    try:
        import chaos

        yield chaos
    finally:
        sys.path.remove(str(paths.ROOT / "benchmarks"))


def test_kills_at_random_lose_double_and_orphan_nothing(chaos, scratch, monkeypatch):
    monkeypatch.setenv("EAI_SIMULATED_PACE", "0")
    monkeypatch.setenv("EAI_LOCKS", str(scratch / "locks"))
    campaign = chaos.Chaos(scratch, kills=3, minutes=3.0, seed=1, blocks=1, models=1, options=None)
    campaign.mean_s = 1.5
    found = campaign.run().document(0.0)
    assert found["wrong"] == [] and found["passed"], found
    assert found["kills"] == 3 and found["starts"] >= 2 and found["windows"] >= 9, found
    assert not chaos.family(campaign.mark)
    whole, out = scratch / "whole-0", scratch / "sweep-0"
    assert chaos.differences(chaos.energies(out), chaos.energies(whole)) == []
    attempts = tables.read_windows(out)["attempt"]
    assert set(tables.read_energies(out)["attempt"]) == set(tables.read_samples(out)["attempt"]) == set(attempts)


def test_what_would_be_wrong_is_found(chaos):
    """The judge itself: a window lost, one too many, another energy, two at once on one card."""
    expected = {("j", 1, "a", 1): [("counter", 10.0, 5.0)], ("j", 1, "b", 1): [("counter", 11.0, 5.0)]}
    assert chaos.differences(expected, expected) == []
    assert chaos.differences({}, expected) == ["2 windows are missing"]
    assert chaos.differences(expected | {("j", 2, "a", 1): []}, expected) == ["1 windows too many"]
    assert chaos.differences(expected | {("j", 1, "b", 1): [("counter", 11.0001, 5.0)]}, expected) == ["1 windows with other energies"]
    one = {"job": "j--51000000", "started_at": "2026-01-01T00:00:00+00:00", "duration_s": 10.0}
    later = one | {"started_at": "2026-01-01T00:00:00.100+00:00"}
    assert chaos.overlapping([one, later]) and not chaos.overlapping([one, later | {"job": "j--51000001"}])
    assert not chaos.overlapping([one, one | {"started_at": "2026-01-01T00:00:00.250+00:00"}])
