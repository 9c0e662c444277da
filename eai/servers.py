"""What a sweep asks of a server: the loads that it is driven with, and which parameters go together.

A load is closed (so many requests always in flight: what a server can do at a given concurrency) or open (so many arrive a second, as
users do). The two give different latencies at the same throughput (Schroeder, Wierman and Harchol-Balter, Open versus closed, NSDI 2006).
"""

import re
from typing import Any, NamedTuple
from urllib.parse import SplitResult, urlsplit

from eai import strategies
from eai.errors import UserError

PRIVATE = ("server", "server_model", "server_pid")
"""Parameters that say where a server is and not what it does: addresses, folders and process ids are not written down."""

KEY_VARIABLE = "EAI_API_KEY"
SCHEMES = {"http": 80, "https": 443}


class Load(NamedTuple):
    """A load: `concurrency` requests in flight, or `rate_per_s` requests per second that arrive as a Poisson process; the other is None."""

    concurrency: int | None = None
    rate_per_s: float | None = None

    def __str__(self) -> str:
        return f"closed:{self.concurrency}" if self.concurrency else f"open:{self.rate_per_s:g}"


def load(text: str) -> Load:
    """The load written as `closed:4` or `open:2.5`. Raises UserError for anything else."""
    match = re.fullmatch(r"closed:([1-9]\d*)|open:(\d+(?:\.\d+)?)", text.strip())
    if match and (match[1] or float(match[2]) > 0):
        return Load(int(match[1])) if match[1] else Load(rate_per_s=float(match[2]))
    expected = "closed:N with N requests in flight, or open:R with R requests per second"
    raise UserError(f"load '{text}'", expected, "for example closed:4 or open:2.5")


def address(server: str) -> SplitResult:
    """The parts of a server's address. Raises UserError for what is none, and for one with a name or password in it."""
    wanted = "an address such as http://127.0.0.1:8000/v1"
    if "@" in server:
        found = "the server's address holds a name or a password"
        raise UserError(found, wanted, f"put a key into the environment variable {KEY_VARIABLE}")
    try:
        parts = urlsplit(server.strip())
        port = parts.port
    except ValueError as error:
        raise UserError(f"server '{server}' ({error})", wanted) from None
    if parts.scheme not in SCHEMES or not parts.hostname or port == 0 or parts.query or parts.fragment:
        raise UserError(f"server '{server}'", wanted)
    return parts


def problem(sweep: Any, option_defaults: dict[str, Any]) -> str:
    """What is wrong with a sweep of a server in a few words, "" if nothing is; raises UserError for its address. What the server runs was
    decided by whoever started it and cannot be seen through its protocol: model and quantization are as stated, one of each, and options of
    a model in this process are not its."""
    if not sweep.server:
        alone, fields = ("server_name", "server_model", "server_pid", "server_timeout_s", "loads"), type(sweep).model_fields
        stated = [name for name in alone if getattr(sweep, name) != fields[name].default]
        if stated:
            return f"{stated[0]} is of a server; set server to its address, or take {stated[0]} out"
        files = [name for name in sweep.quantizations if name.startswith(strategies.GGUF)]
        return f"{files[0]} is run by a server such as llama.cpp's; set server to its address" if files else ""
    address(sweep.server)
    if not sweep.server_name:
        return "server needs server_name, what runs there, such as vllm-0.11: it is part of the configuration"
    if sweep.batch_sizes not in ([1], type(sweep).model_fields["batch_sizes"].default):
        return "a server forms its batches itself; take batch_sizes out and set loads, such as closed:4"
    for name in ("models", "quantizations", "gpus"):
        if len(getattr(sweep, name)) != 1:
            return f"{name} of a server is the one it was started with; found {len(getattr(sweep, name))}"
    if sweep.gpus[0].startswith("simulated_"):
        return "a server runs on hardware that exists; set gpus to auto"
    if sweep.tasks != ["generate"] or sweep.weights != "published":
        return "a server is measured by plain generation with published weights"
    changed = [name for name, default in option_defaults.items() if getattr(sweep, name) != default]
    return f"{changed[0]} is an option of a model in this process; a server has its own" if changed else ""


def told_quantization(listed: dict[str, Any]) -> str:
    """The strategy that a server's list says its model is in, "" where it says nothing that is known. llama.cpp's server tells the type of
    its file as `meta.ftype`: "Q4_1", "Q4_K - Medium", "IQ4_XS - 4.25 bpw", "all F32"; what everyone calls Q2_K is "Q2_K - Medium" there."""
    told = str((listed.get("meta") or {}).get("ftype", "")).lower().removeprefix("all ")
    kind, _, mixture = told.partition(" - ")
    suffix = {"small": "_s", "medium": "_m", "large": "_l"}.get(mixture, "") if told != "q2_k - medium" else ""
    slug = {"f32": "fp32", "f16": "fp16", "bf16": "bf16"}.get(kind, f"{strategies.GGUF}{kind}{suffix}")
    try:
        return strategies.get(slug).slug
    except UserError:
        return ""
