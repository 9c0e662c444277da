"""What a file already does well, so that advice does not only scold."""

import re

from eai.audit.files import Unit

_PRACTICES = (
    ("torch.", r"torch\.(inference_mode|no_grad)\(", "no gradients are recorded"),
    ("torch.compile", r"torch\.compile\(", "the model is compiled"),
    ("llm_int8_threshold", r"llm_int8_threshold\s*[=:]", "the LLM.int8() threshold is a decision"),
    ("bnb_4bit_compute_dtype", r"bnb_4bit_compute_dtype\s*[=:]\s*[\"']?(torch\.)?(bfloat16|float16)", "4-bit products run in 16 bit"),
    ("dtype", r"\b(torch_)?dtype\s*=\s*[\"']?(torch\.)?(bfloat16|float16|auto)\b", "weights are loaded in 16 bit or as stored"),
    ("synchronize", r"cuda\.synchronize\(", "the clock waits for the GPU"),
    ("TotalEnergyConsumption", r"TotalEnergyConsumption", "the hardware energy counter is read"),
    ("warm", r"\bwarm_?up", "a warm-up runs before measuring"),
    ("padding_side", r"padding_side\s*=\s*[\"']left[\"']", "prompts are padded on the left, so they can share a batch"),
    ("attn_implementation", r"attn_implementation\s*=\s*[\"'](sdpa|flash_attention_[23])[\"']", "attention is fused"),
    ("cache_implementation", r"cache_implementation\s*=\s*[\"']static[\"']", "the KV cache has a fixed shape"),
)
_PATTERNS = tuple((word, re.compile(pattern), text) for word, pattern, text in _PRACTICES)


def good_practices(unit: Unit) -> list[dict]:
    """One `{path, line, cell, practice}` for each practice found in the code of a unit, at its first line; comments do not count."""
    found = []
    for word, pattern, practice in _PATTERNS:
        if word not in unit.text:
            continue
        starts = (m.start() for m in pattern.finditer(unit.text))
        start = next((s for s in starts if "#" not in unit.text[unit.text.rfind("\n", 0, s) + 1 : s]), None)
        if start is not None:
            line, cell = unit.where(unit.text.count("\n", 0, start) + 1)
            found.append({"path": unit.path, "line": line, "cell": cell, "practice": practice})
    return found
