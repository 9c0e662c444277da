"""What every test shares: no network, no drawing window, reproducible property tests, and data written to a scratch folder."""

import atexit
import os
import shutil
import sys
import tempfile

import pytest
from hypothesis import settings

os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
_WORKER = "PYTEST_XDIST_WORKER" in os.environ  # beside others that inherited their parent's folders
if _WORKER or "EAI_DATA" not in os.environ:  # what a person keeps in data/runs changes no test, and no test changes it
    os.environ["EAI_DATA"] = tempfile.mkdtemp(prefix="eai-data-")
    atexit.register(shutil.rmtree, os.environ["EAI_DATA"], ignore_errors=True)
# Tests look at no joules: they need not wait for a measurement that runs on this machine, and must not hold one up.
if _WORKER or "EAI_LOCKS" not in os.environ:
    os.environ["EAI_LOCKS"] = tempfile.mkdtemp(prefix="eai-locks-")
    atexit.register(shutil.rmtree, os.environ["EAI_LOCKS"], ignore_errors=True)

settings.register_profile("ci", derandomize=True, deadline=None, max_examples=60, print_blob=True)
settings.load_profile("ci")


@pytest.fixture
def scratch(tmp_path, monkeypatch):
    """A folder that stands for data/ and figures/ while a test writes."""
    monkeypatch.setenv("EAI_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("EAI_FIGURES", str(tmp_path / "figures"))
    return tmp_path


@pytest.fixture
def eai(monkeypatch, capsys):
    """Call the command line in this process; returns (exit code, stdout, stderr)."""
    from eai.cli import main

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["eai", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            main()
        out, err = capsys.readouterr()
        return stopped.value.code or 0, out, err

    return call


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory):
    """A folder with a two-layer Llama of random weights and a word tokenizer: loads in milliseconds, means nothing."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("models") / "tiny"
    words = ["<unk>", "<s>", "</s>", *(f"w{i}" for i in range(125))]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", bos_token="<s>", eos_token="</s>").save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=128, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        max_position_embeddings=256, bos_token_id=1, eos_token_id=2, tie_word_embeddings=True,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder
