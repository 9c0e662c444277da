"""Fixes in order, as code with their expected impact from the same rows, and how to verify a cause before acting on it."""

from typing import Any

import numpy as np
from scipy import stats

from eai.advise.accuracy import accuracy
from eai.advise.diagnose.choices import DF, Choice
from eai.advise.diagnose.figures import Figures
from eai.advise.diagnose.posterior import Weighed
from eai.advise.diagnose.ratios import ratio
from eai.advise.diagnose.snippets import BATCH, LOAD, SNIPPETS, VERIFY
from eai.advise.diagnose.states import Known, State
from eai.advise.evidence import measure_command
from eai.advise.parameters import Request, cannot_run, fits
from eai.errors import UserError
from eai.quantity import Quantity

STRATEGIES = ("fp16", "int8_pure", "nf4")
ALIKE = 0.05
SLOWER_IS_CHEAPER = "the figures show less energy a token than expected as stated: the fix brings back speed, and need not save energy"
SAVED = "fraction of the energy saved"


def saving(log_ratio: float, sd: float) -> Quantity:
    """The fraction of the energy that a change saves whose energy ratio, before over after, has this logarithm and spread; 95 %."""
    half = stats.t.ppf(0.975, DF) * sd
    return Quantity(*(float(-np.expm1(-log_ratio - d)) for d in (0.0, -half, half)), unit=SAVED)


def fix(text: str, code: str, impact: Quantity | None, rests_on: tuple[str, ...] = (), warnings: tuple[str, ...] = ()) -> dict[str, Any]:
    """One fix as it stands in answers."""
    known = impact.to_json() if impact else None
    return {"fix": text, "code": code, "expected_impact": known, "evidence": list(rests_on), "warnings": list(warnings), "accuracy": None}


def of_choice(c: Choice, k: Known | None = None) -> list[dict[str, Any]]:
    """The fixes of a costly choice: another strategy, those of known accuracy first, or a larger batch; by expected saving."""
    if c.pattern == "batch_1_waste":
        text = f"batch concurrent requests: {c.instead.batch_size} at once"
        waits = "a request waits for its batch to fill: for concurrent users or offline work, not for a single chat"
        return [fix(text, BATCH.replace("{batch_size}", str(c.instead.batch_size)), saving(c.log_ratio, c.sd), c.rows, (waits,))]
    return strategy_fixes(c.ran, k)


def strategy_fixes(ran: Request, k: Known | None = None) -> list[dict[str, Any]]:
    """Other strategies that are expected to cost less than the one that ran: of known accuracy first, then by saving; the unquantized
    one goes before what saves up to 5 % more."""
    found = []
    for name in STRATEGIES:
        instead = ran.with_(quantization=name)
        if name == ran.quantization or not fits(instead) or cannot_run(ran.gpu, name):
            continue
        try:
            log_ratio, sd, rows = ratio(ran, instead, k)
        except UserError:
            continue
        if log_ratio > 0:
            quality = accuracy(instead, ran.min_accuracy)
            warnings = () if quality.acceptable else (f"accuracy {quality.status}: {quality.note}",)
            saved = saving(log_ratio, sd)
            made = fix(f"{name} instead of {ran.quantization}", LOAD[name], saved, rows, warnings) | {"accuracy": quality.to_json()}
            bonus = ALIKE if quality.status == "reference" else 0.0
            found.append((not quality.acceptable, -saved.value - bonus, made))
    return [made for *_, made in sorted(found, key=lambda x: x[:2])]


def of_fault(w: Weighed, here: State, f: Figures, k: Known | None = None) -> list[dict[str, Any]]:
    """The fixes of a cause that makes the figures deviate from the stated configuration `here`."""
    h, stated = w.hypothesis, here.request
    if h.pattern == "int8_decomposition":
        return strategy_fixes(h.state.request, k)
    if h.pattern in ("unit_error", "wrong_boundary"):
        text, code = SNIPPETS[h.pattern]
        return [fix(f"{text}: {corrected(w, f)}", code, None)]
    impact = _recovered(here, f)
    if h.pattern == "quantization_not_applied" and impact is not None and impact.value < 0:
        text = f"leave it unquantized: applying {stated.quantization} would cost more energy here"
        applied = fix(f"apply {stated.quantization}, only to save memory", LOAD.get(stated.quantization, ""), impact, here.sources)
        return [fix(text, LOAD["fp16"], None, here.sources), applied]
    key = f"{h.pattern}: {h.variant}" if f"{h.pattern}: {h.variant}" in SNIPPETS else h.pattern
    text, code = SNIPPETS[key]
    code = (code or LOAD.get(stated.quantization, "")).replace("{batch_size}", str(stated.batch_size))
    warnings = (SLOWER_IS_CHEAPER,) if impact is not None and impact.value < 0 else ()
    return [*(_smaller(stated) if h.pattern == "vram_spill" else []), fix(text, code, impact, here.sources, warnings)]


def _recovered(here: State, f: Figures) -> Quantity | None:
    """The energy saved if the stated configuration ran as expected, of the reported energy, with the expectation's interval."""
    if f.energy_j_per_token is None:
        return None
    value, most, least = (1 - x / f.energy_j_per_token for x in here.interval(0))
    return Quantity(value, least, most, SAVED)


def corrected(w: Weighed, f: Figures) -> str:
    """The reported figures with the cause taken out, at its posterior mean, and the 95 % range over its sizes."""
    parts = []
    for axis, (name, scale, unit) in enumerate((("energy", 1e3, "J per 1000 tokens"), ("throughput", 1.0, "tok/s"), ("power", 1.0, "W"))):
        shift = w.hypothesis.shifts[:, axis]
        if np.isnan(f.logs[axis]) or not shift.any():
            continue
        values = scale * np.exp(f.logs[axis] - shift)
        order = np.argsort(values)
        low, high = values[order][np.searchsorted(np.cumsum(w.weights[order]), (0.025, 0.975)).clip(max=len(values) - 1)]
        ends = f" [{low:.4g}, {high:.4g}]" if len(values) > 1 else ""
        parts.append(f"{name} {float(w.weights @ values):.4g}{ends} {unit}")
    return "it would be " + " and ".join(parts)


def _smaller(here: Request) -> list[dict[str, Any]]:
    """What would fit instead, where the stated configuration does not."""
    if fits(here):
        return []
    options = [here.with_(quantization=q) for q in ("int8_pure", "nf4") if not cannot_run(here.gpu, q)]
    options += [here.with_(batch_size=b) for b in (32, 16, 8, 4, 2, 1) if b < here.batch_size]
    found = next((o for o in options if fits(o)), None)
    return [fix(f"{found.quantization} at batch {found.batch_size} fits", LOAD.get(found.quantization, ""), None)] if found else []


def verification(pattern: str, r: Request | None) -> list[str]:
    """How to see whether a cause is the right one and, for a request on a GPU, what to run after the fix; without one, no NVIDIA tool."""
    if r is None:
        return [step for step in VERIFY[pattern] if "nvidia-smi" not in step]
    return [*VERIFY[pattern], f"afterwards, {measure_command(r)}"]
