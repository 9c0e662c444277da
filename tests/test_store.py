"""The store: a kill at any moment loses at most the window in flight, and two writers never mix."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from eai import schema, settings, tables
from eai.errors import UserError
from eai.store import JobStore, broken_seals, check, new_attempt, write_json

WRITER = """
import sys
from tests_store_rows import window, energy, samples
from eai.store import JobStore
with JobStore(sys.argv[1]) as store:
    start = 1 + max([key[0] for key in store.done()], default=0)
    for block in range(start, start + 500):
        w = window(block)
        store.append_window(w, [energy()], samples())
        store.compact(block)
        print(block, flush=True)
"""


def window(block: int = 1, **changes) -> dict:
    row = {c.name: None for c in schema.WINDOWS}
    row |= {
        "job": "j",
        "block": block,
        "configuration_id": "c" * 12,
        "repeat": 1,
        "attempt": new_attempt(),
        "status": "ok",
        "basis": "measured",
    }
    return row | {"weights": "published", "flags": [], "duration_s": 2.0, "tokens_out": 64} | changes


def energy(**changes) -> dict:
    row = {c.name: None for c in schema.ENERGIES[5:]}
    return (
        row
        | {"device_id": "d", "boundary": "gpu", "method": "counter", "primary": True, "energy_j": 10.0, "basis": "measured", "status": "ok"}
        | changes
    )


def samples(n: int = 3) -> pd.DataFrame:
    frame = pd.DataFrame({"t_s": np.arange(n, dtype=float), "device_id": "d", "boundary": "gpu", "field": "power_instant_w", "value": 5.0})
    return frame.assign(driver_t_us=np.nan, latency_us=np.nan)


def scores(right: list[int]) -> list[dict]:
    fixed = dict.fromkeys(c.name for c in schema.SCORES[5:]) | {"task": "sums", "metric": "acc", "tokens_in": 9, "tokens_out": 0}
    return [fixed | {"item": str(i), "score": float(r)} for i, r in enumerate(right)]


@pytest.fixture
def job(tmp_path):
    return tmp_path / "experiment" / "job"


def test_what_goes_in_comes_out(job):
    with JobStore(job) as store:
        w = window()
        store.append_window(w, [energy(), energy(method="power", primary=False, energy_j=9.5)], samples())
        assert store.done() == {(1, "c" * 12, 1)}
    read = tables.read_windows(job.parent)
    assert read.loc[0, ["attempt", "tokens_out", "duration_s"]].tolist() == [w["attempt"], 64, 2.0]
    assert tables.read_energies(job.parent)["energy_j"].tolist() == [10.0, 9.5]
    assert tables.read_samples(job.parent)["value"].tolist() == [5.0, 5.0, 5.0]


@pytest.mark.parametrize("bad", [{"status": "fine"}, {"watts": 3}, {"basis": "guessed"}])
def test_a_row_that_does_not_fit_the_registry_is_refused(job, bad):
    with JobStore(job) as store, pytest.raises(UserError, match="registry"):
        store.append_window(window() | bad, [energy()])
    with pytest.raises(UserError, match="no windows"):
        tables.read_windows(job.parent)


def test_a_torn_last_line_is_ignored_and_cut_before_the_next_is_written(job):
    with JobStore(job) as store:
        store.append_window(window(1), [energy()])
    path = job / "windows.jsonl"
    with open(path, "ab") as file:
        file.write(path.read_bytes()[:40])
    assert len(tables.read_windows(job.parent)) == 1
    with JobStore(job) as store:
        store.append_window(window(2), [energy()])
    assert tables.read_windows(job.parent)["block"].tolist() == [1, 2]


def test_damage_in_the_middle_is_an_error_not_a_shorter_table(job):
    with JobStore(job) as store:
        store.append_window(window(1), [energy()])
        store.append_window(window(2), [energy()])
    lines = (job / "windows.jsonl").read_text().splitlines()
    (job / "windows.jsonl").write_text("\n".join([lines[0][:30], lines[1], ""]))
    with pytest.raises(UserError, match="line 1 is not JSON"):
        tables.read_windows(job.parent)


def test_energies_and_samples_without_their_window_are_not_read(job):
    """What a kill between the energies and the window leaves behind."""
    with JobStore(job) as store:
        store.append_window(window(1), [energy()], samples())
    orphan = {"job": "j", "block": 2, "configuration_id": "c" * 12, "repeat": 1, "attempt": "deadbeef"} | energy()
    with open(job / "energies.jsonl", "a") as file:
        file.write(json.dumps(orphan) + "\n")
    assert len(tables.read_energies(job.parent)) == 1


def test_a_second_attempt_replaces_the_first(job):
    with JobStore(job) as store:
        store.append_window(window(1, status="lost"), [energy(energy_j=1.0)])
        store.append_window(window(1), [energy(energy_j=2.0)])
    assert tables.read_windows(job.parent)["status"].tolist() == ["ok"]
    assert tables.read_energies(job.parent)["energy_j"].tolist() == [2.0]


def test_compacting_keeps_every_sample_once(job):
    with JobStore(job) as store:
        for repeat in (1, 2):
            store.append_window(window(1, repeat=repeat), [energy()], samples())
        before = tables.read_samples(job.parent)
        store.compact(1)
        after = tables.read_samples(job.parent)
    assert len(before) == len(after) == 6
    assert [p.name for p in (job / "samples").iterdir()] == ["0001.parquet"]


def test_scores_are_read_once_before_and_after_compacting_and_only_of_committed_windows(job):
    with JobStore(job) as store:
        store.append_window(window(1), [], None, scores([1, 0, 1]))
        store.append_window(window(2), [], None, scores([0, 1]))
        orphan = pd.DataFrame(scores([1])).assign(**{c.name: "x" for c in schema.SCORES[:5]})
        orphan.assign(block=1, repeat=1).to_parquet(job / "scores" / "0001.deadbeef.part.parquet")
        before = tables.read_scores(job.parent)
        store.compact(1)
        between = tables.read_scores(job.parent)
        store.compact(2)
    for found in (before, between, tables.read_scores(job.parent)):
        assert found.sort_values(["block", "item"])["score"].tolist() == [1.0, 0.0, 1.0, 0.0, 1.0]
    assert not list(job.glob("scores/*.part.parquet"))


def test_a_score_that_does_not_fit_the_registry_is_refused(job):
    with JobStore(job) as store, pytest.raises(UserError, match="colour"):
        store.append_window(window(), [], None, [scores([1])[0] | {"colour": 1}])


def test_half_a_sample_file_of_a_killed_writer_is_never_read(job):
    with JobStore(job) as store:
        store.append_window(window(1), [energy()], samples())
        (job / "samples" / "0001.cafecafe.part.tmp").write_bytes(b"PAR1 torn")
    assert len(tables.read_samples(job.parent)) == 3
    with JobStore(job) as store:
        store.compact(1)
    assert [p.name for p in (job / "samples").iterdir()] == ["0001.parquet"]


def test_a_second_writer_is_refused(job):
    with JobStore(job), pytest.raises(UserError, match="another process"), JobStore(job, wait_s=0.0):
        pass


def test_a_read_only_folder_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write"), JobStore(tmp_path / "file" / "job"):
        pass


CONFIGURATION = settings.Configuration(gpu="g", model="m", quantization="fp16", batch_size=2, input_tokens=8, output_tokens=16)
WHOLE = CONFIGURATION.columns() | {
    "configuration_id": CONFIGURATION.configuration_id, "start_s": 10.0, "stop_s": 12.0, "calls": 2, "requests": 4, "tokens_in": 32,
}  # fmt: skip


def measured(job, blocks=(1, 2)) -> None:
    with JobStore(job) as writer:
        writer.append_provenance({"schema": schema.VERSION, "settings": {}})
        for block in blocks:
            writer.append_window(window(block, **WHOLE), [energy()], samples())
            writer.compact(block)


def rewritten(path, change) -> None:
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps(change(row)) + "\n" for row in rows))


@pytest.mark.parametrize(
    ("name", "change", "what"),
    [
        ("windows", lambda r: r | {"tokens_out": 640}, "tokens_out"),
        ("windows", lambda r: r | {"requests": 5}, "requests"),
        ("windows", lambda r: r | {"duration_s": 1.0}, "duration_s"),
        ("windows", lambda r: r | {"stop_s": 9.0}, "duration_s"),
        ("windows", lambda r: r | {"quantization": "nf4"}, "configuration_id"),
        ("windows", lambda r: r | {"batch_size": 4}, "configuration_id"),
        ("windows", lambda r: r | {"options": "nonsense"}, "configuration_id"),
        ("energies", lambda r: r | {"energy_j": 1.0}, "job/energies.jsonl"),
        ("windows", lambda r: r | {"ttft_s": 1.0}, "job/windows.jsonl"),
    ],
)
def test_an_edit_by_hand_is_found(job, name, change, what):
    """With the digests each edit is; without them those that contradict another column are."""
    measured(job)
    assert check(job.parent) == ([], [])
    rewritten(job / f"{name}.jsonl", change)
    found = {f["what"] for f in check(job.parent)[0]}
    assert {what, f"job/{name}.jsonl"} <= found
    (job / "digests.json").unlink()
    found, notes = check(job.parent)
    assert {f["what"] for f in found} >= ({what} if "/" not in what else set()) and "no digests in job" in notes[0]


def test_a_change_stays_reported_through_the_next_writer_and_a_kill_breaks_no_seal(job):
    measured(job, [1])
    with open(job / "windows.jsonl", "ab") as file:  # a killed writer's last window, and a torn one
        file.write(json.dumps(window(2, **WHOLE), sort_keys=True).encode() + b"\n" + b'{"torn')
    assert broken_seals(job) == {}
    measured(job, [3])
    assert broken_seals(job) == {} and len(tables.read_windows(job.parent)) == 3
    rewritten(job / "windows.jsonl", lambda r: r | {"reason": "x"})
    measured(job, [4])
    assert list(broken_seals(job)) == ["windows.jsonl"]
    (job / "samples" / "0001.parquet").unlink()
    assert {f["what"]: f["stored"] for f in check(job.parent)[0]} == {"job/windows.jsonl": "changed", "job/samples/0001.parquet": "missing"}


def test_a_line_that_a_full_disk_tore_breaks_no_seal(job):
    with JobStore(job) as writer:
        writer.append_window(window(1, **WHOLE), [energy()], samples())
        with open(job / "energies.jsonl", "ab") as file:  # as a write that a full disk cut
            file.write(b'{"attempt": "tor')
    assert broken_seals(job) == {}
    measured(job, [2])
    assert broken_seals(job) == {} and len(tables.read_energies(job.parent)) == 2


def test_samples_joined_by_a_writer_that_is_killed_break_no_seal(job):
    measured(job, [1])
    writer = JobStore(job).__enter__()
    writer.append_window(window(1, repeat=2, **WHOLE), [energy()], samples())
    writer.compact(1)
    writer._lock.close()  # as the kernel does when it dies: nothing is sealed
    assert broken_seals(job) == {} and len(tables.read_samples(job.parent)) == 6


def test_part_files_of_no_window_are_removed_and_others_joined(job):
    with JobStore(job) as writer:
        writer.append_window(window(1), [energy()], samples())
        samples().assign(attempt="deadbeef").to_parquet(job / "samples" / "0002.deadbeef.part.parquet")
    with JobStore(job):
        pass
    assert [p.name for p in (job / "samples").iterdir()] == ["0001.parquet"] and len(tables.read_samples(job.parent)) == 3


@pytest.mark.parametrize("content", [b"", b"PAR1 torn", b"\x00" * 5000])
def test_damaged_readings_are_one_line_and_the_rest_is_read(job, content):
    measured(job)
    (job / "samples" / "0001.parquet").write_bytes(content)
    with pytest.raises(UserError, match=r"0001.parquet is damaged .* beside it can be read") as caught:
        tables.read_samples(job.parent)
    assert "\n" not in str(caught.value) and len(tables.read_windows(job.parent)) == len(tables.read_energies(job.parent)) == 2


@pytest.mark.parametrize("line", ["[]", "3", '"text"', "null", "[" * 5000])
def test_a_line_that_is_no_object_is_named(job, line):
    measured(job)
    with open(job / "windows.jsonl", "a") as file:
        file.write(line + "\n")
    with pytest.raises(UserError, match=r"windows.jsonl, line 3 (is not JSON|holds)"):
        tables.read_windows(job.parent)


def test_a_value_of_another_kind_is_named(job):
    measured(job)
    rewritten(job / "windows.jsonl", lambda r: r | {"duration_s": "2 s"})
    with pytest.raises(UserError, match=r"line 1: duration_s is '2 s'; expected a value of kind float"):
        tables.read_windows(job.parent)


@pytest.mark.parametrize("version", [schema.VERSION + 1, "1", None, 0])
def test_columns_of_a_version_that_is_not_known_are_not_read(job, version):
    measured(job)
    rewritten(job / "provenance.jsonl", lambda r: r | {"schema": version})
    for read in (tables.read_windows, tables.read_energies, tables.read_provenance, tables.read_samples):
        with pytest.raises(UserError, match="schema version"):
            read(job.parent)


def test_a_large_experiment_is_read_from_a_copy_that_follows_its_files(job, monkeypatch):
    monkeypatch.setattr(tables, "COPIED_FROM_BYTES", 0)
    measured(job)
    first = tables.read_windows(job.parent)
    copy = job.parent / ".eai" / "windows.parquet"
    written = copy.stat().st_mtime_ns
    pd.testing.assert_frame_equal(tables.read_windows(job.parent), first)
    assert copy.stat().st_mtime_ns == written, "the copy was made again"
    rewritten(job / "windows.jsonl", lambda r: r | {"calls": 7})
    assert tables.read_windows(job.parent)["calls"].tolist() == [7, 7]
    copy.write_bytes(b"damaged")
    assert tables.read_windows(job.parent)["calls"].tolist() == [7, 7]


def test_what_was_read_can_be_changed(job):
    """A table that lies over the reader's own memory would refuse the first cell that a notebook corrects."""
    measured(job)
    for frame, name in ((tables.read_windows(job.parent), "duration_s"), (tables.read_energies(job.parent), "energy_j")):
        frame.loc[0, name] = 7.0
        frame.loc[1, "status"] = "lost"
        assert frame.loc[0, name] == 7.0 and frame.loc[1, "status"] == "lost"


def test_counts_that_are_fractions_stay_fractions(job):
    """Averages of others are no whole numbers, and are not made ones on the way in."""
    measured(job)
    rewritten(job / "windows.jsonl", lambda r: r | {"tokens_out": 64.5 if r["block"] == 1 else 64})
    read = tables.read_windows(job.parent)
    assert read["tokens_out"].tolist() == [64.5, 64.0] and read["calls"].dtype == "int64"


def test_kill_minus_nine_in_a_loop(job, tmp_path):
    """Six writers killed at random moments: every window they announced is there, once, with its energy and samples."""
    (tmp_path / "tests_store_rows.py").write_text(_rows_module())
    rng = np.random.default_rng(7)
    announced: set[int] = set()
    for _ in range(6):
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(job)],
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": str(tmp_path)},
        )
        announced.add(int(process.stdout.readline()))
        time.sleep(rng.uniform(0, 0.15))
        process.send_signal(signal.SIGKILL)
        announced |= {int(line) for line in process.stdout.read().splitlines() if line.strip()}
        process.wait()
        process.stdout.close()
    windows = tables.read_windows(job.parent)
    assert announced <= set(windows["block"])
    assert windows["block"].is_unique
    assert sorted(windows["block"]) == list(range(1, len(windows) + 1))
    assert tables.read_energies(job.parent).groupby("attempt").size().eq(1).all()
    assert len(tables.read_energies(job.parent)) == len(windows)
    assert tables.read_samples(job.parent).groupby("attempt").size().eq(3).all()
    assert len(tables.read_samples(job.parent)) == 3 * len(windows)


def _rows_module() -> str:
    """The row builders above as a module that the killed process can import."""
    import inspect

    head = "import numpy as np\nimport pandas as pd\nfrom eai import schema\nfrom eai.store import new_attempt\n"
    return head + "\n\n".join(inspect.getsource(f) for f in (window, energy, samples))


def test_what_another_process_is_writing_is_left_to_it(tmp_path, monkeypatch):
    """Two nodes may write one claim at the same moment: neither moves the other's half-written file into place."""
    path, replaced = tmp_path / "claim.json", Path.replace

    def slow(self, target):
        monkeypatch.setattr(Path, "replace", replaced)
        monkeypatch.setattr(os, "getpid", lambda: 1)
        write_json(path, {"by": "the other"})
        return replaced(self, target)

    monkeypatch.setattr(Path, "replace", slow)
    write_json(path, {"by": "this one"})
    assert json.loads(path.read_text()) == {"by": "this one"} and [p.name for p in tmp_path.iterdir()] == ["claim.json"]
