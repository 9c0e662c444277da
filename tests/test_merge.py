"""Merging experiments: nothing lost, nothing doubled, nothing written over, and no contradiction let through."""

import fcntl
import json
import shutil
import sys
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eai import paths, schema, store, tables
from eai.analyze import summary
from eai.cli import main
from eai.cluster.merge import merge
from eai.errors import UserError
from eai.store import JobStore

SETTINGS = {"window_s": 2.0, "warmup_cap_s": 1.0, "idle_s": 0.0, "threads": 1, "seed": 0, "meter": "auto"}
START = datetime(2026, 1, 1, tzinfo=UTC)


def window(job: str, block: int, attempt: str, **changes) -> dict:
    row = dict.fromkeys(c.name for c in schema.WINDOWS)
    row |= {"job": job, "block": block, "configuration_id": "c" * 12, "repeat": 1, "attempt": attempt, "status": "ok", "basis": "measured"}
    row |= {"weights": "published", "flags": [], "started_at": (START + timedelta(minutes=block)).isoformat(), "start_s": 60.0 * block}
    return row | {"duration_s": 10.0, "tokens_out": 640} | changes


def energy(energy_j: float, **changes) -> dict:
    row = dict.fromkeys(c.name for c in schema.ENERGIES[5:])
    row |= {"device_id": "GPU-1", "boundary": "gpu", "method": "counter", "primary": True, "basis": "measured", "status": "ok"}
    return row | {"energy_j": energy_j} | changes


def samples(power_w: float) -> pd.DataFrame:
    frame = pd.DataFrame({"t_s": np.arange(3.0), "device_id": "GPU-1", "boundary": "gpu", "field": "power_instant_w", "value": power_w})
    return frame.assign(driver_t_us=np.nan, latency_us=np.nan)


def provenance(uuid: str = "GPU-1", settings: dict | None = None, **changes) -> dict:
    line = {"at": START.isoformat(), "schema": schema.VERSION, "versions": {"eai": "0.1.0"}, "machine": {"cpu": "x", "cores": 2}}
    return line | {"settings": SETTINGS | (settings or {}), "meter": {"cards": [{"uuid": uuid}]}} | changes


def write(folder, job: str, windows: dict[int, tuple[str, float]], line: dict | None = None, **changes):
    """An experiment with one job: `windows` is block -> (attempt, energy [J])."""
    with JobStore(folder / job) as store:
        store.append_provenance(line or provenance())
        for block, (attempt, energy_j) in windows.items():
            store.append_window(window(job, block, attempt, **changes), [energy(energy_j)], samples(energy_j / 10))
            store.compact(block)
    return folder


def test_jobs_of_two_machines_stand_side_by_side_byte_for_byte(tmp_path):
    one = write(tmp_path / "one", "gpu-a--m--1", {1: ("a1", 100.0)})
    two = write(tmp_path / "two", "gpu-b--m--2", {1: ("b1", 50.0), 2: ("b2", 51.0)}, provenance("GPU-2"))
    answer = merge([one, two], tmp_path / "all")
    assert [(j["job"], j["windows"]) for j in answer["jobs"]] == [("gpu-a--m--1", 1), ("gpu-b--m--2", 2)]
    assert answer["windows"] == 3 and answer["found_twice"] == 0 and answer["warnings"] == []
    for source, job in ((one, "gpu-a--m--1"), (two, "gpu-b--m--2")):
        for path in (p for p in (source / job).rglob("*") if p.is_file() and p.name != "writer.lock"):
            assert (tmp_path / "all" / path.relative_to(source)).read_bytes() == path.read_bytes()
    assert sorted(tables.read_energies(tmp_path / "all")["energy_j"]) == [50.0, 51.0, 100.0]


def test_an_older_copy_and_its_original_make_one(tmp_path):
    """A folder copied to another machine half way and finished here: the copy adds nothing and takes nothing."""
    write(tmp_path / "original", "j", {1: ("a1", 100.0), 2: ("a2", 101.0)})
    shutil.copytree(tmp_path / "original", tmp_path / "copy")
    write(tmp_path / "original", "j", {3: ("a3", 102.0)}, provenance(at=(START + timedelta(hours=1)).isoformat()))
    for number, order in enumerate((("original", "copy"), ("copy", "original"))):
        out = tmp_path / f"out{number}"
        answer = merge([tmp_path / name for name in order], out)
        assert answer["windows"] == 3 and answer["found_twice"] == 2
        for read in (tables.read_windows, tables.read_energies, tables.read_samples):
            expected, found = read(tmp_path / "original"), read(out)
            pd.testing.assert_frame_equal(found.sort_values(list(found)[:2], kind="stable", ignore_index=True), expected)
        assert len(tables.read_provenance(out)) == 2


@settings(max_examples=15)
@given(st.sets(st.integers(1, 6)), st.sets(st.integers(1, 6)))
def test_the_union_is_the_union(tmp_path_factory, mine, theirs):
    """Any two parts of one job: the merged windows are the set union, whichever was measured where."""
    if not mine or not theirs:
        return
    folder = tmp_path_factory.mktemp("union")
    for name, blocks in (("one", mine), ("two", theirs)):
        write(folder / name, "j", {block: (f"a{block}", 10.0 * block) for block in sorted(blocks)})
    answer = merge([folder / "one", folder / "two"], folder / "all")
    windows, energies, raw = (read(folder / "all") for read in (tables.read_windows, tables.read_energies, tables.read_samples))
    assert set(windows["block"]) == mine | theirs and len(windows) == len(mine | theirs)
    assert energies["energy_j"].sum() == sum(10.0 * block for block in mine | theirs)
    assert len(raw) == 3 * len(mine | theirs)
    assert answer["found_twice"] == len(mine & theirs)


def test_the_same_values_measured_again_count_once(tmp_path):
    """Another attempt at another time with identical values: a simulated card on two machines."""
    write(tmp_path / "one", "j", {1: ("a1", 100.0)})
    write(tmp_path / "two", "j", {1: ("b1", 100.0)}, started_at=(START + timedelta(days=1)).isoformat())
    merge([tmp_path / "one", tmp_path / "two"], tmp_path / "all")
    assert tables.read_energies(tmp_path / "all")["attempt"].tolist() == ["a1"]
    assert set(pd.read_parquet(tmp_path / "all" / "j" / "samples" / "0001.parquet")["attempt"]) == {"a1"}


@pytest.mark.parametrize("change", ["energy", "window", "energy_of_one_attempt"])
def test_two_answers_to_one_question_are_refused_and_both_are_named(tmp_path, change):
    write(tmp_path / "one", "j", {1: ("a1", 100.0), 2: ("a2", 90.0)})
    other = {"energy": ("b2", 90.0001), "window": ("b2", 90.0), "energy_of_one_attempt": ("a2", 91.0)}[change]
    write(tmp_path / "two", "j", {2: other}, **({"tokens_out": 641} if change == "window" else {}))
    with pytest.raises(UserError, match=r"block 2, .*one/j.*two/j differ"):
        merge([tmp_path / "one", tmp_path / "two"], tmp_path / "all")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["one", "two"], "nothing half made is left"


def test_one_folder_name_of_two_cards_is_refused(tmp_path):
    write(tmp_path / "one", "j", {1: ("a1", 100.0)}, provenance("GPU-5100aaaa"))
    write(tmp_path / "two", "j", {2: ("b2", 100.0)}, provenance("GPU-5100bbbb"))
    with pytest.raises(UserError, match="GPU-5100aaaa and GPU-5100bbbb"):
        merge([tmp_path / "one", tmp_path / "two"], tmp_path / "all")


def test_one_job_under_two_protocols_is_refused_and_two_jobs_are_told_apart(tmp_path):
    write(tmp_path / "one", "j", {1: ("a1", 100.0)})
    write(tmp_path / "two", "j", {2: ("b2", 100.0)}, provenance(settings={"window_s": 5.0}))
    with pytest.raises(UserError, match="another window_s"):
        merge([tmp_path / "one", tmp_path / "two"], tmp_path / "all")
    (tmp_path / "two" / "j").rename(tmp_path / "two" / "k")
    assert merge([tmp_path / "one", tmp_path / "two"], tmp_path / "all")["warnings"] == [
        "jobs were measured with another window_s: 2.0, 5.0"
    ]


def unsealed(folder):
    """The experiment as a writer left it before there were digests."""
    for path in folder.glob("*/digests.json"):
        path.unlink()
    return folder


def test_another_schema_and_unknown_columns_are_refused(tmp_path):
    write(tmp_path / "new", "j", {1: ("a1", 100.0)}, provenance(schema=schema.VERSION + 1))
    with pytest.raises(UserError, match=f"schema version {schema.VERSION + 1}"):
        merge([tmp_path / "new"], tmp_path / "all")
    folder = unsealed(write(tmp_path / "odd", "j", {1: ("a1", 100.0)}))
    path = folder / "j" / "windows.jsonl"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"joules": 1.0}) + "\n")
    with pytest.raises(UserError, match="column 'joules' is not registered"):
        merge([folder], tmp_path / "all")


def test_a_link_out_of_a_received_folder_is_not_followed(tmp_path):
    (tmp_path / "secret").write_text("of this machine")
    folder = write(tmp_path / "one", "j", {1: ("a1", 100.0)})
    (folder / "j" / "notes.txt").symlink_to(tmp_path / "secret")
    with pytest.raises(UserError, match=r"notes.txt is a symbolic link"):
        merge([folder], tmp_path / "all")
    linked = tmp_path / "two"
    linked.mkdir()
    (linked / "j").symlink_to(folder / "j")
    with pytest.raises(UserError, match="is a symbolic link"):
        merge([linked], tmp_path / "all")
    assert not (tmp_path / "all").exists()


def test_what_was_changed_by_hand_is_not_merged_and_the_result_is_sealed(tmp_path):
    folder = write(tmp_path / "one", "j", {1: ("a1", 100.0)})
    merge([folder], tmp_path / "all")
    assert store.broken_seals(tmp_path / "all" / "j") == {} and (tmp_path / "all" / "j" / "digests.json").exists()
    path = folder / "j" / "energies.jsonl"
    path.write_text(path.read_text().replace("100.0", "900.0"))
    with pytest.raises(UserError, match=r"energies.jsonl was changed after its writer had ended"):
        merge([folder], tmp_path / "again")


@pytest.mark.parametrize(
    ("table", "changes", "why"),
    [
        ("windows", {"attempt": ...}, "no 'attempt'"),
        ("windows", {"started_at": "yesterday"}, "isoformat"),
        ("windows", {"start_s": "x"}, "could not convert"),
        ("energies", {"attempt": ...}, "no 'attempt'"),
        ("provenance", {"at": ...}, "no 'at'"),
        ("provenance", {"meter": "nvml"}, "no attribute"),
        ("provenance", {"versions": ["1.0"]}, "sequence"),
    ],
)
def test_a_damaged_row_is_one_line(tmp_path, table, changes, why):
    folder = unsealed(write(tmp_path / "odd", "j", {1: ("a1", 100.0)}))
    path = folder / "j" / f"{table}.jsonl"
    row = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({k: v for k, v in row.items() if v is not ...}) + "\n")
    with pytest.raises(UserError, match=f"odd/j holds a damaged row .*{why}"):
        merge([folder], tmp_path / "all")
    assert not (tmp_path / "all").exists()


def test_a_column_that_came_later_is_no_reason_to_refuse(tmp_path):
    folder = unsealed(write(tmp_path / "old", "j", {1: ("a1", 100.0)}))
    path = folder / "j" / "windows.jsonl"
    row = json.loads(path.read_text())
    path.write_text(json.dumps({k: v for k, v in row.items() if k != "itl_s"}) + "\n")
    merge([folder], tmp_path / "all")
    assert tables.read_windows(tmp_path / "all")["itl_s"].isna().all()


def test_a_wall_clock_that_errs_is_told(tmp_path):
    later = (datetime.now(UTC) + timedelta(days=2)).isoformat()
    write(tmp_path / "future", "a", {1: ("a1", 100.0)}, started_at=later)
    write(tmp_path / "back", "b", {1: ("b1", 100.0)}, provenance(at=(START + timedelta(days=1)).isoformat()))
    write(tmp_path / "back", "b", {2: ("b2", 100.0)})
    write(tmp_path / "within", "c", {1: ("c1", 100.0)}, started_at=(START + timedelta(days=1)).isoformat())
    write(tmp_path / "within", "c", {2: ("c2", 100.0)})
    told = merge([tmp_path / name for name in ("future", "back", "within")], tmp_path / "all")["warnings"]
    assert sorted(line.partition(":")[0] for line in told) == ["back/b", "future/a", "within/c"]
    assert sum("lies in the future" in line for line in told) == 1
    assert sum("backwards between two runs" in line for line in told) == 1
    assert sum("backwards between two windows" in line for line in told) == 1


def test_differing_software_is_told(tmp_path):
    write(tmp_path / "one", "j", {1: ("a1", 100.0)})
    write(tmp_path / "two", "k", {1: ("b1", 100.0)}, provenance(versions={"eai": "0.2.0"}))
    assert merge([tmp_path / "one", tmp_path / "two"], tmp_path / "all")["warnings"] == [
        "runs with different versions of eai: 0.1.0, 0.2.0"
    ]


def test_a_card_under_two_names_is_told(tmp_path):
    one = write(tmp_path / "one", "rtx4090--m--1", {1: ("a1", 1.0)})
    two = write(tmp_path / "two", "nvidia-geforce-rtx-4090--m--1", {1: ("a2", 1.0)})
    three = write(tmp_path / "three", "rtx4090--n--1", {1: ("a3", 1.0)})
    assert merge([one, three], tmp_path / "same")["warnings"] == []
    told = merge([one, two, three], tmp_path / "out")["warnings"]
    assert told == ["card GPU-1 stands under 2 names: nvidia-geforce-rtx-4090, rtx4090"]


def test_a_torn_last_line_is_left_behind(tmp_path):
    folder = write(tmp_path / "one", "j", {1: ("a1", 100.0)})
    for name in ("windows", "energies", "provenance"):
        with open(folder / "j" / f"{name}.jsonl", "a") as file:
            file.write('{"job": "j", "blo')
    assert merge([folder], tmp_path / "all")["warnings"] == [
        f"1 torn line left out of one/j/{name}.jsonl" for name in ("windows", "energies", "provenance")
    ]
    assert len(tables.read_windows(tmp_path / "all")) == 1
    assert all(p.read_bytes().endswith(b"\n") for p in (tmp_path / "all").rglob("*.jsonl"))


def test_what_is_being_written_is_not_read(tmp_path):
    folder = write(tmp_path / "one", "j", {1: ("a1", 100.0)})
    with open(folder / "j" / "writer.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(UserError, match="is being written"):
            merge([folder], tmp_path / "all")
    merge([folder], tmp_path / "all")


def test_other_files_of_a_job_come_along_and_must_agree(tmp_path):
    for name in ("one", "two"):
        write(tmp_path / name, "j", {1: ("a1", 100.0)})
        (tmp_path / name / "j" / "notes.txt").write_bytes(b"same")
    merge([tmp_path / "one", tmp_path / "two"], tmp_path / "all")
    assert (tmp_path / "all" / "j" / "notes.txt").read_bytes() == b"same"
    (tmp_path / "two" / "j" / "notes.txt").write_bytes(b"other")
    with pytest.raises(UserError, match=r"notes.txt differs"):
        merge([tmp_path / "one", tmp_path / "two"], tmp_path / "again")


def scored(folder, attempts: dict[int, str], compact: bool):
    """An experiment with one scored item a window."""
    with JobStore(folder / "j") as store:
        for block, attempt in attempts.items():
            item = dict.fromkeys(c.name for c in schema.SCORES[5:]) | {
                "task": "facts",
                "item": "1",
                "metric": "acc",
                "score": 1.0 * (block % 2),
            }
            store.append_window(window("j", block, attempt), [energy(100.0)], samples(10.0), [item])
            if compact:
                store.compact(block)
    return folder


def test_item_scores_come_along_joined_or_not(tmp_path):
    """One part has joined its files and the other was killed before it could; alone and together nothing is lost or doubled."""
    one = scored(tmp_path / "one", {1: "a1", 2: "a2"}, compact=True)
    two = scored(tmp_path / "two", {2: "a2", 3: "a3"}, compact=False)
    for sources, blocks in (([one], [1, 2]), ([two], [2, 3]), ([one, two], [1, 2, 3])):
        out = tmp_path / f"out-{len(sources)}-{blocks[0]}"
        merge(sources, out)
        found = tables.read_scores(out).sort_values("block")
        assert found["block"].tolist() == blocks and found["score"].tolist() == [1.0 * (b % 2) for b in blocks]


def test_raw_readings_that_differ_are_refused(tmp_path):
    for name, energy_j in (("one", 100.0), ("two", 110.0)):
        unsealed(write(tmp_path / name, "j", {1: ("a1", energy_j)}))
    for name in ("windows", "energies"):
        shutil.copyfile(tmp_path / "one" / "j" / f"{name}.jsonl", tmp_path / "two" / "j" / f"{name}.jsonl")
    with pytest.raises(UserError, match=r"attempt a1 in j/samples/0001.parquet differ"):
        merge([tmp_path / "one", tmp_path / "two"], tmp_path / "all")


@pytest.mark.parametrize(
    ("sources", "out", "message"),
    [
        (["one", "one"], "all", "named twice"),
        (["nowhere"], "all", "no windows under"),
        (["one"], "one/j/deep", "lies in the source"),
        (["one"], "full", "exists already"),
        (["one"], "file", "exists already"),
        (["one"], "file/below", "cannot write beside"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(tmp_path, sources, out, message):
    write(tmp_path / "one", "j", {1: ("a1", 100.0)})
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    before = sorted(p for p in tmp_path.rglob("*"))
    with pytest.raises(UserError, match=message):
        merge([tmp_path / name for name in sources], tmp_path / out)
    assert sorted(p for p in tmp_path.rglob("*")) == before


def test_the_command_and_the_analysis_of_its_result(tmp_path, monkeypatch, capsys):
    """The recorded sample, split by blocks onto two machines and merged, is summarized as the whole is."""
    job = next(paths.SAMPLE.glob("*/windows.jsonl")).parent
    for name, even in (("one", True), ("two", False)):
        (tmp_path / name / job.name).mkdir(parents=True)
        for path in (p for p in job.iterdir() if p.is_file() and p.name not in ("windows.jsonl", "digests.json")):
            shutil.copyfile(path, tmp_path / name / job.name / path.name)
        lines = [line for line in (job / "windows.jsonl").read_text().splitlines() if (json.loads(line)["block"] % 2 == 0) == even]
        (tmp_path / name / job.name / "windows.jsonl").write_text("\n".join(lines) + "\n")
    monkeypatch.setattr(
        sys, "argv", ["eai", "merge", *(str(tmp_path / n) for n in ("one", "two")), "--out", str(tmp_path / "all"), "--json"]
    )
    with pytest.raises(SystemExit) as stopped:
        main()
    answer = json.loads(capsys.readouterr().out)
    assert not stopped.value.code and answer["windows"] == len(tables.read_windows("sample"))
    record = json.loads((tmp_path / "all" / "merge.json").read_text())
    assert [s["source"] for s in record["sources"]] == ["one", "two"] and str(tmp_path) not in json.dumps(record)
    whole, merged = (summary.summarize(tables.read_windows(e), tables.read_energies(e)) for e in ("sample", tmp_path / "all"))
    by = ["quantization", "batch_size"]
    pd.testing.assert_frame_equal(merged.sort_values(by, ignore_index=True), whole.sort_values(by, ignore_index=True))
