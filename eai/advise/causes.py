"""What can be wrong with a deployment or with its figures: causes (causes.toml), their priors, and the confusions of units and counts."""

import tomllib
from dataclasses import dataclass
from functools import cache
from math import log
from pathlib import Path

from eai.advise.launch import BATCH, LOAD
from eai.advise.page import environment
from eai.advise.request import Configuration

AS_STATED, NONE = "as_stated", "none_of_these"
PRIOR_WHY = {
    AS_STATED: "most deployments run as stated; a tenth of it where the configuration does not fit",
    NONE: "anything else, within a factor of 50",
}


@dataclass(frozen=True)
class Cause:
    """One pattern: its words for a person, root cause, the fix with code, steps to verify it, prior and why. `kind`: fault |
    costly_choice; `served_fix`: the fix where a serving engine runs."""

    title: str
    root_cause: str
    fix: str
    verify: tuple[str, ...]
    code: str = ""
    prior: float = 0.0
    why: str = ""
    kind: str = "fault"
    served_fix: str = ""


@cache
def causes() -> dict[str, Cause]:
    """Name -> cause; `code` may name a strategy's loader or `batch`."""
    codes, found = LOAD | {"batch": BATCH}, tomllib.loads((Path(__file__).parent / "causes.toml").read_text())
    return {name: Cause(**c | {"code": codes.get(c.get("code"), c.get("code", ""))}) for name, c in found.items()}


@cache
def priors() -> dict[str, float]:
    """Cause -> prior probability; 0.5 for figures as stated."""
    return {AS_STATED: 0.50} | {name: c.prior for name, c in causes().items() if c.prior} | {NONE: 0.03}


@cache
def titles() -> dict[str, str]:
    """Cause -> its words for a person."""
    return {AS_STATED: "as stated", NONE: "none of these"} | {name: c.title for name, c in causes().items()}


def confusions(c: Configuration) -> list[tuple[str, float, float, float]]:
    """The confusions of units and counts that are possible for these token counts and this batch: what was confused, and the logarithm of
    the exact factor that it puts on energy per token, throughput and power."""
    out, total = log(c.output_tokens), log((c.input_tokens + c.output_tokens) / c.output_tokens)
    batch, request = log(c.batch_size), log(c.output_tokens / 1e3)
    energy = {
        "energy given per token, not per 1000 tokens": -log(1e3),
        "energy multiplied by 1000 twice": log(1e3),
        "watt hours given as joules": -log(3600),
        "joules multiplied by 3600": log(3600),
        "energy too large by 3.6 (kilojoules and watt hours confused)": log(3.6),
        "energy too small by 3.6 (kilojoules and watt hours confused)": -log(3.6),
        "energy per request given as energy per 1000 tokens": request,
        "power samples at 10 Hz summed without their interval": log(10),
        "prompt tokens counted in the energy's tokens": -total,
    }
    found = [(name, shift, 0.0, 0.0) for name, shift in energy.items()] + [
        ("requests per second given as tokens per second", 0.0, -out, 0.0),
        ("prompt tokens counted as output tokens in both figures", -total, total, 0.0),
        ("prompt tokens counted in the throughput", 0.0, total, 0.0),
        ("milliwatts given as watts", 0.0, 0.0, log(1e3)),
        ("kilowatts given as watts", 0.0, 0.0, -log(1e3)),
    ]
    several = [
        ("throughput of one sequence given for the whole batch", 0.0, -batch, 0.0),
        ("throughput multiplied by the batch size twice", 0.0, batch, 0.0),
        ("energy of the whole batch given for one sequence's tokens", batch, 0.0, 0.0),
        ("energy divided by the batch size twice", -batch, 0.0, 0.0),
        ("tokens of one sequence counted for the whole batch", batch, -batch, 0.0),
    ]
    return found + (several if c.batch_size > 1 else [])


def patterns_page() -> str:
    """docs/diagnosis-patterns.md: causes, priors and steps to verify, generated from this table."""
    why = {name: c.why for name, c in causes().items()} | PRIOR_WHY
    return environment().get_template("patterns.md.j2").render(causes=causes(), priors=priors(), why=why).strip() + "\n"


if __name__ == "__main__":
    print(patterns_page(), end="")
