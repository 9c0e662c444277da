"""A chart an answer: plans by energy and time, strategies with intervals, the bill now and then, figures against what is expected."""

from pathlib import Path
from typing import Any

from eai.advise.page import name, percent
from eai.errors import UserError


def draw(answer: dict[str, Any], path: Path) -> Path:
    """Draw the answer's chart into an .svg or .png file; its path. Raises UserError for another file type and for nothing to draw."""
    if path.suffix not in (".svg", ".png"):
        raise UserError(f"--plot {path}", "a file that ends in .svg or .png", "name one")
    from eai import plots
    from eai.plots.style import plain_ticks

    fig, ax = plots.figure(height_in=3.2)
    if "ranking" in answer:
        _plans(answer, ax)
    elif "current" in answer:
        sides = [("now", answer["current"]), ("better", answer["optimized"])]
        _intervals([(name, side["energy_kwh"], True) for name, side in sides if side], ax)
        levers = ", ".join(f"{x['lever']} {percent(x['energy_fraction'])}" for x in answer["levers"])
        ax.set_xlabel("energy in use a month [kWh]" + (f": {levers}" if levers else ""))
    elif "rows" in answer and "recommended" in answer:
        _intervals([(e["quantization"], e["energy_j_per_1k_tok"], e["accuracy"]["acceptable"]) for e in answer["rows"]], ax)
        ax.set_xlabel("energy per 1000 output tokens [J] (hollow: accuracy not known)")
    elif found := answer.get("expected"):
        over = [{end: d["expected"][end] / d["expected"]["value"] for end in ("value", "low", "high")} for d in found]
        _intervals([(d["figure"], q, True) for d, q in zip(found, over, strict=True)], ax)
        ax.plot([d["reported"] / d["expected"]["value"] for d in found], range(len(found)), "D", color="black", markersize=5)
        ax.set_xlabel("over what is expected as stated (diamond: reported)")
    else:
        drawn = "a ranking, a comparison, a bill or a diagnosis with expected figures"
        raise UserError("this answer has nothing to draw", drawn, "leave --plot out")
    for axis, scale in ((ax.xaxis, ax.get_xscale()), (ax.yaxis, ax.get_yscale())):
        if scale == "log":
            plain_ticks(axis)
    path.parent.mkdir(parents=True, exist_ok=True)
    return Path(plots.save(fig, path))


def _intervals(entries: list[tuple[str, dict, bool]], ax) -> None:
    """One line an entry: its value with interval on a log scale; hollow where the accuracy bars a recommendation."""
    for y, (_, q, fine) in enumerate(entries):
        ends = [[0.0], [0.0]] if q["low"] is None else [[q["value"] - q["low"]], [q["high"] - q["value"]]]
        ax.errorbar(q["value"], y, xerr=ends, fmt="o", color="C0", markerfacecolor="C0" if fine else "white", capsize=2)
    ax.set_yticks(range(len(entries)), [name for name, _, _ in entries])
    ax.invert_yaxis()
    ax.set_xscale("log")


def _plans(answer: dict, ax) -> None:
    """Energy per month against the time of a request, named where a plan is on the short list."""
    roles = {str(e["configuration"]): role for role, e in reversed(answer["short_list"].items())}
    for e in answer["ranking"]:
        if e["latency_s"]["value"] is None:
            continue
        fine = e["accuracy"]["acceptable"]
        ax.plot(e["latency_s"]["value"], e["kwh_a_month"], "o", color="C0", markerfacecolor="C0" if fine else "white", markersize=4)
        if role := roles.get(str(e["configuration"])):
            words = f"{role}: {name(e['configuration'])}"
            ax.annotate(words, (e["latency_s"]["value"], e["kwh_a_month"]), textcoords="offset points", xytext=(4, 3), fontsize="x-small")
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.margins(x=0.25)
    ax.set_xlabel("p95 of a request [s]" if answer["capacity"] else "time of a request [s]")
    ax.set_ylabel("energy per month [kWh] (hollow: accuracy not known)")
