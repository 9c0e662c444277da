"""Where the hub's benchmarks are, told before a model is loaded: the cache, one request, or one line without class names."""

import importlib.util
import re
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import pytest
from huggingface_hub import constants

from eai import catalog, runs, settings, tables
from eai.errors import UserError
from eai.workload import tasks
from eai.workload.tasks import _words


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache, and a hub that may be asked."""
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    return tmp_path


def put(cache, name, part):
    folder = cache / name.replace("/", "___") / part / "0.0.0" / "abc"
    folder.mkdir(parents=True)
    (folder / "test.arrow").write_bytes(b"")


def test_the_table_is_lm_evals():
    """Every benchmark of the catalog, with the data set and part that lm-eval's own configurations name."""
    library = Path(importlib.util.find_spec("lm_eval").origin).parent / "tasks"
    known = {name for name in tables.read_catalog("tasks")["lm_eval"] if name in tasks.DATA_SETS}
    assert known == set(tasks.DATA_SETS) and catalog.task("mmlu").lm_eval == "mmlu"
    for name, part in tasks.DATA_SETS.values():
        texts = [path.read_text() for path in library.glob("*/**/*") if path.suffix in (".yaml", "") and path.is_file()
                 and path.parts[len(library.parts)] in ("mmlu", "arc", "hellaswag", "truthfulqa", "gsm8k")]  # fmt: skip
        assert any(re.search(rf"dataset_path: {name}\b", text) for text in texts), name
        assert not part or any(re.search(rf"dataset_name: {part}\b", text) for text in texts), part


def test_what_is_cached_needs_no_hub(cache, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(
        UserError, match=r"items of gsm8k \(data set openai/gsm8k\) are not in the local cache, and the hub is switched off"
    ):
        tasks.require("gsm8k", "gsm8k")
    put(cache, "openai/gsm8k", "socratic")
    assert not tasks.is_cached("gsm8k")
    put(cache, "openai/gsm8k", "main")
    tasks.require("gsm8k", "gsm8k")
    put(cache, "cais/mmlu", "anatomy")
    tasks.require("mmlu", "mmlu")


def gone(*arguments, **named):
    raise ConnectionError("HTTPSConnectionPool(host='x'): Max retries exceeded (Caused by NameResolutionError)")


def test_a_hub_out_of_reach_is_one_line_without_class_names(cache, monkeypatch):
    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", gone)
    with pytest.raises(UserError, match="the hub cannot be reached") as caught:
        tasks.require("mmlu", "mmlu")
    assert not re.search(r"Error|Exception|\n", str(caught.value))
    tasks.require("mmlu", "mmlu", may_be_elsewhere=True)


def test_a_hub_that_has_it_is_asked_once(cache, monkeypatch):
    asked = []
    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", lambda url, **named: asked.append(url) or SimpleNamespace())
    tasks.require("mmlu", "mmlu")
    assert asked == ["https://huggingface.co/datasets/cais/mmlu/resolve/main/README.md"]


def test_a_sweep_is_refused_before_anything_is_loaded(cache, scratch, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    sweep = settings.sweep(gpus=["cpu"], tasks=["generate", "mmlu"], limit=2)
    for ask in (runs.describe, runs.run):
        with pytest.raises(UserError, match="items of mmlu"):
            ask(sweep)
    put(cache, "cais/mmlu", "anatomy")
    assert runs.describe(sweep)["jobs"]


def test_a_loaders_error_keeps_its_words_and_loses_its_classes():
    assert (
        _words(ConnectionError("Couldn't reach 'cais/mmlu' on the Hub (LocalEntryNotFoundError)"))
        == "Couldn't reach 'cais/mmlu' on the Hub"
    )
    assert _words(ValueError("")) == "no reason given"
