"""How often the diagnosis is right, on rows whose session it has never seen: healthy rows, paradoxes, and planted faults.

Every row is diagnosed from the rows of all other sessions, because a reader's figures come from a session of their own. The truth about a
costly strategy is the ratio to fp16 in the row's own session, which the diagnosis does not see. Planted faults are made with sizes that
the hypotheses do not know: other idle powers, hosts and slowdowns.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import pandas as pd

from eai import strategies
from eai.advise.diagnose.choices import STRATEGY_CHOICES, WORTH, pattern_of, strategy_choice
from eai.advise.diagnose.confidence import NAMED, confidences
from eai.advise.diagnose.figures import Figures
from eai.advise.diagnose.hypotheses import AS_STATED, PRIORS, hypotheses
from eai.advise.diagnose.posterior import by_pattern, weigh
from eai.advise.diagnose.states import known, state
from eai.advise.parameters import Request, request
from eai.footprint import available_gb, footprint
from eai.predict.features import UNQUANTIZED
from eai.predict.rows import clean_rows, published_rows
from eai.stats.intervals import wilson_interval

KEYS = ["session", "gpu", "shape", "batch_size"]
PLANTED_IDLE_W = {"rtx4090d": 20.0, "rtx5090": 40.0, "a800_sxm_80gb": 55.0}
PLANTED_HOST_W = 180.0


@dataclass(frozen=True)
class Case:
    """One case: the stated configuration, the reported figures, and the pattern that is true (empty: none)."""

    request: Request
    figures: Figures
    truth: str
    session: str
    label: str


def of_row(row: dict) -> Request:
    """The request of a row."""
    lengths = {"input_tokens": int(row["input_tokens"]), "output_tokens": int(row["output_tokens"])}
    names = {"model": row["model"], "gpu": row["gpu"], "quantization": row["quantization"], "batch_size": int(row["batch_size"])}
    return request(**names, **lengths)


def clean_cases(with_power: bool = True) -> list[Case]:
    """The clean published rows as figures: gross energy and throughput, and power if wanted.

    The truth is the paradox that the row's own session shows (over 5 % above its fp16), empty if it shows none, and `unknown` for a
    quantized row whose session has no fp16.
    """
    table = clean_rows("gross", [])
    base = table[table["quantization"] == UNQUANTIZED].set_index(KEYS)["energy_j_per_token"]
    return [_clean(row, base, with_power) for row in table.to_dict("records")]


def _clean(row: dict, base: pd.Series, with_power: bool) -> Case:
    asked, own = of_row(row), base.get(tuple(row[k] for k in KEYS))
    power = row["energy_j_per_token"] * row["throughput_tok_s"] if with_power else None
    if row["quantization"] == UNQUANTIZED:
        truth = ""
    elif own is None:
        truth = "unknown"
    else:
        truth = pattern_of(asked) if row["energy_j_per_token"] > (1 + WORTH) * own else ""
    return Case(asked, Figures(row["throughput_tok_s"], row["energy_j_per_token"], power), truth, row["session"], row["rows"])


def net_cases() -> list[Case]:
    """The published rows whose printed energy is net while their printed power is gross, as printed: a wrong boundary that happened."""
    table = published_rows()
    table = table[table["net_j_per_token"].notna() & (table["why"] == "")]
    return [
        Case(
            of_row(row),
            Figures(row["throughput_tok_s"], row["net_j_per_token"], row["power_w"]),
            "wrong_boundary",
            row["session"],
            row["source_row"],
        )
        for row in table.to_dict("records")
    ]


def judge(cases: list[Case]) -> pd.DataFrame:
    """One row a case: truth, the named fault and strategy pattern (empty: none) from the rows of other sessions, and what they rest on.

    `told`: whether those rows can say at all what the strategy costs against fp16.
    """
    return pd.DataFrame([_judged(case) for case in cases])


def _judged(case: Case) -> dict:
    r, k = case.request, known((case.session,))
    sure, there = confidences(r, case.figures, k), state(r, k)
    return {
        "row": case.label,
        "session": case.session,
        "configuration": f"{r.model.slug} {r.quantization} b{r.batch_size} {r.gpu.slug}",
        "truth": case.truth,
        "fault": next(iter(sure.faults), ""),
        "choice": next((name for name in sure.choices if name in STRATEGY_CHOICES), ""),
        "p_as_stated": sure.total[AS_STATED],
        "basis": there.basis,
        "told": not strategies.get(r.quantization).is_quantized or strategy_choice(r, k) is not None,
    }


def confusion(judged: pd.DataFrame) -> pd.DataFrame:
    """Rows by truth (index) and what was named (columns): a fault before a strategy, `nothing` if neither."""
    named = judged["fault"].where(judged["fault"] != "", judged["choice"]).replace("", "nothing")
    return pd.crosstab(judged["truth"].replace("", "healthy"), named)


def rate(hits: int, n: int) -> dict:
    """`{hits, n, share, low, high}`: a share with Wilson's 95 % interval."""
    interval = wilson_interval(hits, n)
    return {"hits": int(hits), "n": int(n), "share": float(hits / n), "low": float(interval.low), "high": float(interval.high)}


def rates(judged: pd.DataFrame) -> dict[str, dict]:
    """False alarms on healthy rows (any fault or strategy named), faults named on any clean row, and hits on the paradoxes."""
    healthy, paradox = judged[judged["truth"] == ""], judged[judged["truth"].isin(STRATEGY_CHOICES)]
    alarmed = (healthy["fault"] != "") | (healthy["choice"] != "")
    return {
        "false_alarms": rate(alarmed.sum(), len(healthy)),
        "false_faults": rate((judged["fault"] != "").sum(), len(judged)),
        "paradox_hits": rate((paradox["choice"] == paradox["truth"]).sum(), len(paradox)),
    }


def planted(case: Case) -> Iterator[Case]:
    """A healthy case with every fault that can be planted into it alone."""
    f, r = case.figures, case.request
    energy, pace, power = f.energy_j_per_token, f.throughput_tok_s, f.power_w
    idle = PLANTED_IDLE_W[r.gpu.slug]
    net, machine = (power - idle) / power, (power + PLANTED_HOST_W) / power
    made = {
        "unit_error: per token": replace(f, energy_j_per_token=energy / 1e3),
        "unit_error: x 1000": replace(f, energy_j_per_token=energy * 1e3),
        "unit_error: Wh for J": replace(f, energy_j_per_token=energy / 3600),
        "unit_error: x 3.6": replace(f, energy_j_per_token=energy * 3.6),
        "unit_error: / 3.6": replace(f, energy_j_per_token=energy / 3.6),
        "unit_error: requests a second": replace(f, throughput_tok_s=pace / r.output_tokens),
        "wrong_boundary: net energy, gross power": replace(f, energy_j_per_token=energy * net),
        "wrong_boundary: machine": replace(f, energy_j_per_token=energy * machine, power_w=power * machine),
        "wrong_boundary: four cards, three idle": replace(f, energy_j_per_token=energy * (power + 3 * idle) / power),
        "wrong_boundary: peak for mean": replace(f, power_w=1.7 * power),
        "power_cap_or_throttle: half the clocks": replace(
            f, throughput_tok_s=0.5 * pace, power_w=0.38 * power, energy_j_per_token=0.76 * energy
        ),
        "cpu_bound: a third of the pace": replace(
            f, throughput_tok_s=pace / 3, power_w=0.6 * power, energy_j_per_token=1.8 * energy, utilization_pct=30.0
        ),
        "vram_spill: a fifteenth of the pace": replace(
            f,
            throughput_tok_s=pace / 15,
            power_w=0.5 * power,
            energy_j_per_token=7.5 * energy,
            memory_gb=available_gb(r.gpu),
        ),
    }
    for label, figures in made.items():
        yield Case(r, figures, label.split(":")[0], case.session, label)


def swapped(cases: list[Case]) -> Iterator[Case]:
    """Pairs of one session in which the figures of one configuration are reported under the name of another."""
    table = clean_rows("gross", [])
    at = {(c.session, c.request.gpu.slug, c.label): c for c in cases}
    by_key = {
        tuple(row[k] for k in (*KEYS, "quantization")): at[row["session"], row["gpu"], row["rows"]] for row in table.to_dict("records")
    }
    for (session, gpu, shape, batch, quantization), case in by_key.items():
        for stated, truth in _names(quantization):
            other = by_key.get((session, gpu, shape, batch, stated))
            if other is not None:
                yield Case(other.request, _with_memory(case), truth, session, f"{truth}: {quantization} as {stated}")
        larger = by_key.get((session, gpu, shape, 8, quantization)) if batch == 1 else None
        if larger is not None:
            yield Case(larger.request, case.figures, "batch_not_applied", session, f"batch_not_applied: {quantization} at 1 as 8")


def _names(ran: str) -> list[tuple[str, str]]:
    """(stated strategy, true pattern) under which the figures of `ran` are misreported."""
    if ran == UNQUANTIZED:
        return [(q, "quantization_not_applied") for q in ("nf4", "int8_pure", "int8_default")]
    return [("int8_pure", "int8_decomposition")] if ran == "int8_default" else []


def _with_memory(case: Case) -> Figures:
    """The figures with the memory that the configuration takes by its bytes."""
    r = case.request
    return replace(case.figures, memory_gb=footprint(r.model, r.quantization, r.batch_size, r.input_tokens, r.output_tokens).memory_gb)


def recovered(cases: list[Case]) -> pd.DataFrame:
    """One row a planted case: label, truth, the most probable pattern, and its probability."""
    found, made = [], {}
    for case in cases:
        key = (*case.request.configuration.values(), case.session)
        if key not in made:
            made[key] = hypotheses(case.request, known((case.session,)))
        name, p = next(iter(by_pattern(weigh(made[key], case.figures)).items()))
        found.append({"label": case.label, "truth": case.truth, "found": name, "p": p, "named": p >= NAMED})
    return pd.DataFrame(found)


def recovery_table(found: pd.DataFrame) -> pd.DataFrame:
    """One row a planted fault: n, how many were found (most probable) with Wilson's interval, and what they were taken for otherwise."""
    rows = []
    for label, group in found.groupby("label", sort=True):
        hit = group["found"] == group["truth"]
        others = group.loc[~hit, "found"].value_counts().to_dict()
        rows.append({"label": label, **rate(hit.sum(), len(group)), "taken_for": ", ".join(f"{n} {name}" for name, n in others.items())})
    return pd.DataFrame(rows)


def two_figures(case: Case) -> Case:
    """The case with throughput and energy alone: what most reports state."""
    return replace(case, figures=Figures(case.figures.throughput_tok_s, case.figures.energy_j_per_token))


def calibration(found: pd.DataFrame) -> pd.DataFrame:
    """By bins of stated probability: n, its mean, and the share that was right. Calibrated: the two agree."""
    right = found["found"] == found["truth"].where(found["truth"].isin(set(PRIORS)), AS_STATED)
    bins = pd.cut(found["p"], [0, 0.5, 0.7, 0.9, 0.97, 1.001])
    return found.assign(right=right).groupby(bins, observed=True).agg(n=("p", "size"), stated=("p", "mean"), right=("right", "mean"))


def healthy(cases: list[Case]) -> list[Case]:
    """The cases without a costly strategy, into which faults are planted."""
    return [case for case in cases if case.truth in ("", "unknown")]
