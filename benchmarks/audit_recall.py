"""Recall of `eai audit` on small programs with one planted defect each; prints one JSON line.

    python benchmarks/audit_recall.py [--cases FILE] [--missed]

`audit_cases.txt` was written from the list of what the audit promises, before its rules were read, and split into halves by a seeded
shuffle inside each topic: the development half was used to mend the rules. The held-out half was audited once before anything was mended
for it (that number stands in LOG.md); since then it is a regression check, no estimate. A case counts as found if a rule of its topic
hits, at any severity. The cases from `compose-1` on imitate the shapes of public deployments, endpoints and power monitors; their author
knew the rules, and they too were audited once before anything was mended for them. Cases of the topic `clean` hold nothing to find. A
case opens with a line `=== name file topic half`; `# %%` separates the cells of a notebook.
"""

import argparse
import json
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import nbformat

from eai.audit import audit
from eai.stats.intervals import wilson_interval

CASES = Path(__file__).with_name("audit_cases.txt")
CLEAN = "clean"  # deployments with nothing to find: a finding above info is a false alarm
TOPICS = {
    "int8_default": {"int8-default-threshold", "config-int8-default", "server-int8-default"},
    "threshold_zero": {"int8-pure-unchecked", "config-int8-pure"},
    "four_bit_small": {"4bit-small-model", "config-4bit-small-model", "server-4bit-small-model", "engine-4bit-small-model"},
    "batch_one_loop": {"batch-1-loop", "requests-in-sequence", "server-one-sequence", "config-one-sequence", "engine-one-sequence"},
    "batch_size_one_string": {"batch-size-of-one-text"},
    "no_kv_cache": {"kv-cache-off", "config-kv-cache-off"},
    "fp32_on_gpu": {"fp32-on-gpu", "server-fp32", "engine-fp32", "config-fp32"},
    "no_inference_mode": {"no-inference-mode"},
    "reload_in_loop": {"model-reloaded-in-loop", "server-reloads-model", "request-unloads-model"},
    "max_new_tokens": {"more-tokens-than-used"},
    "cpu_spill": {"offloaded-by-accelerate", "cpu-offload", "server-cpu-offload", "engine-cpu-offload"},
    "pad_max_length": {"pad-to-max-length"},
    "eager_attention": {"eager-attention", "server-eager", "engine-eager", "config-eager"},
    "no_compile": {"no-compile"},
    "no_sync": {"timed-without-sync"},
    "slow_sampling": {"power-sampled-slowly", "power-log-slow"},
    "sample_after_work": {"power-read-after-work"},
    "idle_before_load": {"idle-before-load"},
    "all_gpus_billed": {"all-gpus-billed"},
    "per_token_by_words": {"tokens-counted-as-words"},
    "endpoint_one_prompt": {"endpoint-one-prompt"},
    "fp32_default": {"fp32-by-default", "fp32-on-gpu"},
    "prefix_cache": {"server-no-prefix-cache", "engine-no-prefix-cache", "config-no-prefix-cache"},
    "unfused": {"server-unfused-quantization", "engine-unfused-quantization", "config-unfused-quantization"},
    "many_cards": {"server-many-cards", "engine-many-cards", "config-many-cards"},
    "parameters_batch_1": {"config-batch-1"},
    "padding": {"padding-counted-as-tokens"},
    "seconds_from_samples": {"seconds-from-samples"},
    "model_too_big": {"model-exceeds-gpu", "server-model-exceeds-gpu", "engine-model-exceeds-gpu", "load-model-exceeds-gpu"},
}


@dataclass(frozen=True)
class Case:
    """One program: its name, file name, topic of the planted defect, half of the split, and text."""

    name: str
    file: str
    topic: str
    half: str
    text: str

    def write(self, folder: Path) -> Path:
        """The files as a user would have them: a notebook's cells taken apart, what follows a line `+++ name` in a file of that name."""
        text, *others = self.text.split("+++ ")
        for name, content in [(self.file, text), *(other.split("\n", 1) for other in others)]:
            path = folder / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(content)
        path = folder / self.file
        if path.suffix == ".ipynb":
            cells = [nbformat.v4.new_code_cell(source) for source in text.split("# %%\n") if source.strip()]
            nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
        return path


def read(path: Path) -> list[Case]:
    """The cases of a file."""
    blocks = [block.split("\n", 1) for block in path.read_text().split("=== ")[1:]]
    return [Case(*head.split(), text) for head, text in blocks]


def is_found(case: Case) -> bool:
    """Whether a rule of the case's topic hits it; for a clean case, whether anything but an info is said of it."""
    with tempfile.TemporaryDirectory() as folder:
        findings = audit([case.write(Path(folder))])["findings"]
    if case.topic == CLEAN:
        return any(f["severity"] != "info" for f in findings)
    return bool({f["rule"] for f in findings} & TOPICS[case.topic])


def recall(found: list[bool]) -> dict:
    """Cases, found ones, and their share with Wilson's 95 % interval."""
    share = [round(float(x), 3) for x in wilson_interval(sum(found), len(found))]
    return {"cases": len(found), "found": sum(found)} | dict(zip(("recall", "low", "high"), share, strict=True))


def main():
    """Audit every case and print the recall by half and by topic."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=Path, default=CASES)
    parser.add_argument("--missed", action="store_true", help="name the cases that no rule finds")
    args = parser.parse_args()
    started = time.perf_counter()
    every = [(case, is_found(case)) for case in read(args.cases)]
    results = [(case, hit) for case, hit in every if case.topic != CLEAN]
    alarms = [case.name for case, hit in every if case.topic == CLEAN and hit]
    halves = {half: recall([hit for case, hit in results if case.half == half]) for half in sorted({c.half for c, _ in results})}
    topics = {topic: f"{sum(h for c, h in results if c.topic == topic)}/{sum(c.topic == topic for c, _ in results)}" for topic in TOPICS}
    line = {"benchmark": "audit_recall", "all": recall([hit for _, hit in results]), **halves, "topics": topics}
    line["clean"] = {"cases": len(every) - len(results), "false_alarms": alarms}
    if args.missed:
        line["missed"] = [case.name for case, hit in results if not hit]
    print(json.dumps(line | {"seconds": round(time.perf_counter() - started, 2)}))


if __name__ == "__main__":
    main()
