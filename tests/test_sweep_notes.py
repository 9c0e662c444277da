"""Notes of a sweep: files written whole, and of two processes on one job the earlier one ends."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil

from eai.cluster import single

GPU = "simulated_h100_sxm"


def test_a_later_claim_ends_an_earlier_one(tmp_path):
    first = single.claim(tmp_path, "a.b", "cpu")
    other = single.claim(tmp_path, "a", "cpu")
    assert first.is_held() and other.is_held()
    second = single.claim(tmp_path, "a.b", "cpu")
    assert not first.is_held() and second.is_held() and other.is_held()


def test_a_revoked_claim_is_nobodys(tmp_path):
    single.revoke(tmp_path)
    claims = [single.claim(tmp_path, job, "cpu") for job in ("a", "b")]
    single.revoke(tmp_path)
    assert not any(claim.is_held() for claim in claims)


def test_a_claim_that_cannot_be_read_is_no_news(tmp_path):
    claim = single.claim(tmp_path, "a", "cpu")
    for content in ("", "{}", "nonsense"):
        claim.path.write_text(content)
        assert claim.is_held()
    claim.path.unlink()
    assert claim.is_held()


def test_cards_are_remembered_with_their_nodes_through_claims_and_revocations(tmp_path, monkeypatch):
    assert single.nodes(tmp_path, "a") == {}
    monkeypatch.setenv("EAI_SIMULATED_GPUS", "3")
    for node, cards in (("one", "0,1"), ("two", "2")):
        monkeypatch.setenv("SLURMD_NODENAME", node)
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", cards)
        single.claim(tmp_path, "a", GPU)
    single.revoke(tmp_path)
    known = single.nodes(tmp_path, "a")
    assert {mark[-2:]: node for mark, node in known.items()} == {"00": "one", "01": "one", "02": "two"}


def test_a_job_without_its_claim_ends_and_takes_its_kernel_along(tmp_path):
    """The kernel has a session of its own, and nobody but the job can find it."""
    pids = tmp_path / "pids"
    job = (
        "import subprocess, time; from pathlib import Path; from eai.cluster import single;"
        f"single.end_unless(single.claim(Path({str(tmp_path)!r}), 'a', 'cpu').is_held, 0.1);"
        f"k = subprocess.Popen(['sleep', '600'], start_new_session=True); open({str(pids)!r}, 'w').write(f'kernel {{k.pid}}');"
        "time.sleep(600)"
    )
    process = subprocess.Popen([sys.executable, "-c", job])
    below = None
    try:
        wait_until(lambda: len(read(pids).split()) == 2)
        kernel = int(pids.read_text().split()[1])
        below = psutil.Process(kernel)
        assert process.poll() is None and single.is_alive(below)
        single.revoke(tmp_path)
        assert process.wait(60) == 3
        wait_until(lambda: not single.is_alive(below))
    finally:
        process.kill()
        if below and single.is_alive(below):
            os.kill(below.pid, signal.SIGKILL)


def wait_until(happened) -> None:
    end_s = time.monotonic() + 60
    while not happened():
        assert time.monotonic() < end_s
        time.sleep(0.05)


def read(path: Path) -> str:
    return path.read_text() if path.exists() else ""
