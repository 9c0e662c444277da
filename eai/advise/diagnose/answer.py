"""Reported figures -> patterns with their confidence, evidence, fixes and verification; or that nothing is wrong; or that nothing fits."""

from typing import Any

from eai import strategies
from eai.advise.diagnose import evidence, remedies
from eai.advise.diagnose.choices import Choice, strategy_choice
from eai.advise.diagnose.confidence import NAMED, SHOWN, Confidences, confidences
from eai.advise.diagnose.figures import Figures
from eai.advise.diagnose.hypotheses import AS_STATED, NONE, PRIORS
from eai.advise.diagnose.posterior import Weighed, deciding_figure
from eai.advise.diagnose.snippets import CAUSES
from eai.advise.diagnose.states import Known, State, state
from eai.advise.evidence import measure_command
from eai.advise.parameters import Request, fits
from eai.footprint import Fit, fit

OPEN = 0.1


def diagnose(r: Request, f: Figures, k: Known | None = None) -> dict[str, Any]:
    """What the figures say of the stated configuration.

    Keys: verdict (healthy | fault | costly_choice | undecided | unknown), summary, patterns (by confidence, those from 0.5 on are named),
    probabilities (of every cause, summing to 1), expected (deviations from the stated configuration), evidence (its rows),
    contradiction, undecided (pairs that the figures cannot tell apart, and the figure that would), measure, assumptions, warnings.
    """
    sure, here = confidences(r, f, k), state(r, k)
    weighed, total = sure.weighed, sure.total
    faults = _faults(weighed, total, here, f, k)
    costly = [_costly(name, p, c, sure, here, f, k) for name, (p, c) in sure.costly.items()]
    found = sorted([*faults, *costly], key=lambda p: -p["confidence"])
    expected = evidence.deviations(f, here)
    outside = [evidence.outlier(d) for d in expected if d["outside"]]
    verdict, open_ = _verdict(found, total, outside), _undecided(weighed, total, costly, f)
    return {
        "configuration": r.configuration,
        "figures": f.to_json(),
        "verdict": verdict,
        "summary": _summary(verdict, found, total, f, open_, outside),
        "patterns": found,
        "probabilities": total,
        "expected": expected,
        "evidence": list(here.sources),
        "contradiction": f.contradiction,
        "undecided": open_,
        "measure": measure_command(r),
        "assumptions": [*r.assumptions, *_priors()],
        "warnings": [*r.warnings, *_weak(here), *_untold(r, k), *([] if fits(r) else [_fit(r).explained])],
    }


def _faults(weighed: list[Weighed], total: dict[str, float], here: State, f: Figures, k: Known | None) -> list[dict[str, Any]]:
    """The causes that make figures deviate, each by its most probable variant."""
    found = []
    for name, p in total.items():
        if name == NONE and f.contradiction and p >= SHOWN:
            found.append(entry("contradicting_figures", "fault", p, here.request, [f.contradiction], []))
        if name in (AS_STATED, NONE) or p < SHOWN:
            continue
        best = next(w for w in weighed if w.hypothesis.pattern == name)
        fixes = remedies.of_fault(best, here, f, k)
        made = entry(name, "fault", p, here.request, evidence.of_hypothesis(best, here, f), fixes)
        variants = {w.hypothesis.variant: w.probability / p for w in weighed if w.hypothesis.pattern == name and w.hypothesis.variant}
        found.append(made | {"variant": best.hypothesis.variant, "variants": {v: x for v, x in variants.items() if x >= SHOWN}})
    return found


def entry(name: str, kind: str, p: float, r: Request | None, cited: list[str], fixes: list[dict]) -> dict[str, Any]:
    """One pattern as it stands in answers; the first fix's impact is the expected improvement."""
    return {
        "name": name,
        "kind": kind,
        "confidence": float(p),
        "named": p >= NAMED,
        "variant": "",
        "variants": {},
        "root_cause": CAUSES[name],
        "evidence": cited,
        "fixes": fixes,
        "expected_improvement": next((x["expected_impact"] for x in fixes if x["expected_impact"]), None),
        "verification": remedies.verification(name, r),
    }


def _costly(name: str, p: float, c: Choice, sure: Confidences, here: State, f: Figures, k: Known | None) -> dict[str, Any]:
    """A costly choice as a pattern: the ratio of the rows, and, if the figures can be trusted, their deviation from both configurations."""
    q = c.excess
    cost = f"{c.ran.quantization} at batch {c.ran.batch_size} costs {q.value:+.0%} [{q.low:+.0%}, {q.high:+.0%}] energy a token against "
    cost += f"{c.instead.quantization} at batch {c.instead.batch_size} ({'; '.join(c.rows)})"
    states = (state(c.instead, k), here) if sure.total[AS_STATED] >= NAMED else ()
    against = [evidence.line(d) for s in states for d in evidence.deviations(f, s)]
    busy = [] if f.utilization_pct is None else [f"utilisation {f.utilization_pct:.0f} %"]
    made = entry(name, "costly_choice", p, here.request, [cost, *against, *busy], remedies.of_choice(c, k))
    return made | {"variant": c.undecided and f"give {c.undecided}: below 50 % the card has room for more sequences"}


def _verdict(found: list[dict], total: dict[str, float], outside: list[str]) -> str:
    """The word for the whole: the first named pattern's kind, healthy, unknown, or undecided.

    A figure outside its 95 % interval is never called healthy, however improbable every known pattern is.
    """
    named = [p for p in found if p["named"]]
    if named:
        return "fault" if any(p["kind"] == "fault" for p in named) else "costly_choice"
    if total[AS_STATED] >= NAMED:
        return "undecided" if outside else "healthy"
    return "unknown" if total[NONE] >= NAMED else "undecided"


def _fit(r: Request) -> Fit:
    """Whether the configuration fits in the card's memory."""
    return fit(r.model, r.quantization, r.gpu, r.batch_size, r.input_tokens, r.output_tokens)


def _summary(verdict: str, found: list[dict], total: dict[str, float], f: Figures, undecided: list[dict], outside: list[str]) -> str:
    """One or two sentences; what the figures leave open beside a healthy run is named, and every figure outside its interval."""
    named = ", ".join(f"{p['name']} ({p['confidence']:.0%})" for p in found if p["named"])
    texts = {
        "fault": f"the figures do not fit the configuration as stated: {named}",
        "costly_choice": f"the figures fit the configuration as stated, and it costs more than it must: {named}",
        "healthy": f"no known pattern: the figures fit the configuration as stated ({total[AS_STATED]:.0%})",
        "unknown": f"no known pattern explains the figures ({total[NONE]:.0%} for none of these): measure, with the command below",
        "undecided": "no pattern is named" if total[AS_STATED] >= NAMED else "the figures fit several causes",
    }
    left = [f"{u['patterns'][1]} ({total[u['patterns'][1]]:.0%})" for u in undecided if u["patterns"][0] == AS_STATED]
    beside = f"; not excluded: {', '.join(left)}" if verdict == "healthy" and left else ""
    likely = ": " + ", ".join(f"{n} {p:.0%}" for n, p in list(total.items())[:3]) if verdict == "undecided" else ""
    but = f"; but {', '.join(outside)}" if outside and verdict in ("undecided", "costly_choice") else ""
    return texts[verdict] + likely + beside + but + (f"; {f.contradiction}" if f.contradiction else "")


def _undecided(weighed: list[Weighed], total: dict[str, float], costly: list[dict], f: Figures) -> list[dict[str, Any]]:
    """Pairs that these figures cannot tell apart, with the figure that would decide and in what share of cases."""
    best = {name: next(w for w in weighed if w.hypothesis.pattern == name) for name in total}
    first, *others = total
    found = []
    for other in others:
        if total[other] >= OPEN * total[first]:
            figure = deciding_figure(best[first], best[other], f)
            found.append({"patterns": [first, other], "would_decide": figure and figure[0], "decides": figure and figure[1]})
    if f.utilization_pct is None and any(p["name"] == "batch_1_waste" for p in costly):
        found.append({"patterns": ["batch_1_waste", AS_STATED], "would_decide": "--utilization-pct", "decides": None})
    return found


def _priors() -> list[dict[str, Any]]:
    """The priors as assumptions."""
    return [{"name": f"prior of {name}", "value": p, "reason": why} for name, (p, why) in PRIORS.items()]


def _weak(here: State) -> list[str]:
    """What limits the expectation."""
    return [] if here.basis in ("measured", "published") else [f"no row of this configuration: {'; '.join(here.sources)}"]


def _untold(r: Request, k: Known | None) -> list[str]:
    """What a quantized strategy costs against fp16, where no row or prediction can say."""
    if not strategies.get(r.quantization).is_quantized or strategy_choice(r, k):
        return []
    return [f"whether {r.quantization} costs more than fp16 here cannot be told from the rows: measure both"]
