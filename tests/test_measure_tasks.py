"""Task windows on a tiny model: whole passes, every item's score beside its window, failures as rows."""

import datasets
import pytest

from eai import measure, settings, tables
from eai.measure.work import TaskPasses
from eai.power.simulated import VirtualClock
from eai.workload import models, tasks

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning", "ignore::DeprecationWarning")
QUICK = {"window_s": 0.3, "warmup_cap_s": 0.0, "idle_s": 0.0, "input_tokens": [8], "output_tokens": [4], "meter": "estimate"}


@pytest.fixture
def sweep(tiny_model, scratch):
    def make(**changes):
        given = {"experiment": "tasks", "models": [str(tiny_model)], "quantizations": ["fp32"], "blocks": 2, "batch_sizes": [4], "limit": 6}
        return settings.sweep(**(given | QUICK | changes))

    return make


def test_a_window_is_whole_passes_and_its_items_are_scored(sweep):
    lines: list[str] = []
    folder = measure.run(sweep(tasks=["generate", "facts", "arithmetic", "perplexity"]), lines.append)
    windows, scores = tables.read_windows(folder), tables.read_scores(folder)
    assert set(windows["status"]) == {"ok"} and len(windows) == 2 * 4
    tasks = windows[windows["task"] != "generate"]
    assert (tasks["duration_s"] >= 0.3).all() and (tasks["requests"] == 6 * tasks["calls"]).all() and tasks["calls"].max() > 1
    assert (tasks[["input_tokens", "output_tokens"]] == 0).all(axis=None)
    assert scores.groupby(["block", "task"]).size().to_dict() == {(b, t): 6 for b in (1, 2) for t in tasks["task"].unique()}
    per_pass = scores.groupby("attempt")[["tokens_in", "tokens_out"]].sum()
    joined = tasks.set_index("attempt").join(per_pass, rsuffix="_pass")
    assert (joined["tokens_in"] == joined["calls"] * joined["tokens_in_pass"]).all() and (joined["tokens_in"] > 0).all()
    assert (joined["tokens_out"] == joined["calls"] * joined["tokens_out_pass"]).all()
    assert (joined["tokens_out"] > 0).tolist() == (joined["task"] == "arithmetic").tolist()
    assert sum("item/s" in line and "J/item" in line for line in lines) == len(tasks)
    assert sum("tok/s" in line for line in lines) == 2
    energies = tables.read_energies(folder)
    assert len(energies) == len(windows) and (energies["energy_j"] > 0).all()


def test_the_same_items_come_in_every_block(sweep):
    scores = tables.read_scores(measure.run(sweep(tasks=["facts"]), lambda line: None))
    items = scores.groupby("block")[["item", "target", "tokens_in"]].apply(lambda block: block.to_numpy().tolist())
    assert items[1] == items[2] and len({name for name, _, _ in items[1]}) == 6


def test_items_that_cannot_be_had_are_rows_and_the_rest_goes_on(sweep, monkeypatch):
    def unreachable(*_, **__):
        raise ConnectionError("no route to host")

    monkeypatch.setattr(datasets, "load_dataset", unreachable)
    tasks._objects.cache_clear()
    windows = tables.read_windows(measure.run(sweep(tasks=["gsm8k", "facts"], blocks=1), lambda line: None))
    with monkeypatch.context() as patched:
        patched.setattr(models, "load", lambda *_: pytest.fail("a model was loaded for items that are not there"))
        alone = tables.read_windows(measure.run(sweep(experiment="alone", tasks=["gsm8k"], blocks=1), lambda line: None))
    tasks._objects.cache_clear()
    assert alone["reason"].str.contains("the items of gsm8k cannot be loaded").all()
    assert dict(windows.groupby("task")["status"].first()) == {"facts": "ok", "gsm8k": "failed"}
    assert "the items of gsm8k cannot be loaded (no route to host)" in windows.set_index("task").loc["gsm8k", "reason"]


def test_a_task_that_is_too_long_for_the_model_is_a_row(sweep, tmp_path):
    """Generation needs room for its answer: lm-eval refuses, and what was measured before stays."""
    path = tmp_path / "long.jsonl"
    path.write_text('{"question": "' + "w1 " * 400 + '", "choices": ["w2", "w3"], "answer": 0}\n')
    folder = measure.run(sweep(tasks=["facts", str(path)], blocks=1), lambda line: None)
    windows = tables.read_windows(folder)
    assert tables.read_provenance(folder)[-1]["settings"]["tasks"] == ["facts", "long"], "no path of the user's goes in"
    assert windows.set_index("task").loc["facts", "status"] == "ok"
    assert windows.set_index("task").loc["long", "tokens_in"] % 256 == 0, "cut from the left to the model's context"


def test_the_warm_up_runs_a_few_items_and_counts_none(tmp_path):
    """On a virtual clock: a pass of 4 s in a window of 10 s is run three times, and nothing of the warm-up is in the window."""
    clock = VirtualClock()
    log: list[str] = []

    class Items:
        def run_few(self):
            log.append("few")
            clock.sleep(0.5)
            return 0.5

        def run(self):
            log.append("pass")
            clock.sleep(4.0)
            return 4.0

        def scored(self):
            return [{"tokens_in": 7, "tokens_out": 2}, {"tokens_in": 5, "tokens_out": 0}]

    class Loaded:
        device, model_bytes, report = "cpu", 1, {"linears": {}}

    work = TaskPasses(Items(), Loaded(), clock)
    warm = work.warm_up(60.0, lambda: None)
    assert warm.steady and set(log) == {"few"} and warm.duration_s == pytest.approx(0.5 * len(log))
    log.clear()
    work.run_for(10.0)
    assert log == ["pass"] * 3
    columns = work.columns()
    assert (columns["calls"], columns["requests"], columns["tokens_in"], columns["tokens_out"]) == (3, 6, 36, 6)
    assert work.scores() == Items().scored()
