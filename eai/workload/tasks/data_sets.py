"""Where the items of the hub's benchmarks are: in the local cache of data sets, on the hub, or out of reach.

Asked before a sweep begins: without its items a task is a row of failures, after the model was loaded for nothing.
"""

import os
from pathlib import Path

from eai.errors import UserError

HUB_TIMEOUT_S = 5.0
DATA_SETS = {
    "mmlu": ("cais/mmlu", ""),
    "arc_challenge": ("allenai/ai2_arc", "ARC-Challenge"),
    "hellaswag": ("Rowan/hellaswag", ""),
    "truthfulqa_mc1": ("truthfulqa/truthful_qa", "multiple_choice"),
    "gsm8k": ("openai/gsm8k", "main"),
}
"""By lm-eval's name: the data set that lm-eval 0.4.13 loads, and its part where it takes only one."""

OURS = "or run a task that needs no hub: arithmetic, facts, continuations, perplexity"


def is_cached(harness: str) -> bool:
    """Whether the items of a benchmark lie in the local cache, ready to be read without the hub."""
    from huggingface_hub import constants

    name, part = DATA_SETS[harness]
    cache = Path(os.environ.get("HF_DATASETS_CACHE") or Path(constants.HF_HOME) / "datasets")
    return any((cache / name.replace("/", "___")).glob(f"{part or '*'}/*/*/*.arrow"))


def require(task: str, harness: str, may_be_elsewhere: bool = False) -> None:
    """Nothing if the items of benchmark `task` are at hand; one small request to the hub at most.

    `may_be_elsewhere`: a hub that cannot be reached from here may be reachable where the sweep runs. Raises UserError otherwise.
    """
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError

    if harness not in DATA_SETS or is_cached(harness):
        return
    found, expected = f"the items of {task} (data set {DATA_SETS[harness][0]}) are not in the local cache", "a data set that can be had"
    try:
        if not constants.HF_HUB_OFFLINE:
            get_hf_file_metadata(hf_hub_url(DATA_SETS[harness][0], "README.md", repo_type="dataset"), timeout=HUB_TIMEOUT_S)
            return
        why, do = "the hub is switched off", "switch HF_HUB_OFFLINE off"
    except GatedRepoError:
        why, do = "the hub gives them only to users who are logged in", "log in with `hf auth login`"
    except HfHubHTTPError as error:
        code = error.response.status_code if error.response is not None else "an error"
        why, do = f"the hub answers {code}", "try again later"
    except Exception:  # the hub's clients raise a dozen unrelated classes for "not reachable"
        why, do = "the hub cannot be reached", "connect this machine"
    if not may_be_elsewhere:
        raise UserError(f"{found}, and {why}", expected, f"{do}, {OURS}")
