"""A claim against the tables of its own source: the rows it is about, and one function a kind of claim.

The tables are stacked, filtered by the claim's condition and matched into pairs. A condition reads `gpu=a800|a800_sxm_80gb &
params_b<=3`; `=` takes alternatives, an empty one meaning "not stated". Numbers are compared as ranges: [low - tolerance, high + tolerance]
against each figure's printed range. A function answers None where the tables hold no figure for its claim.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from eai import cells
from eai.cells import floats
from eai.claims import relations
from eai.claims.chance import CELL_SD, z_of
from eai.claims.relations import Relation, follow, known
from eai.claims.tabular import FACTORS, NOISY, QUANTITIES, SPREADS, build, number, say, span, together, where
from eai.errors import UserError

_CONDITION = re.compile(r"\s*([a-z_0-9]+)\s*(<=|>=|<|>|=)\s*(.*?)\s*")
LENGTHS = ("input_tokens", "output_tokens")
BASELINES = ("unspecified_baseline", "fp16", "bf16", "fp32")
PLACES = ("session", "location", "architecture")
OF_POWER = (  # gross energy per token where a table prints power and throughput but no energy at all
    Relation("energy_j_per_token", {"power_w": 1, "throughput_tok_s": -1}),
    Relation("energy_j_per_1k_tok", {"power_w": 1, "throughput_tok_s": -1}, 1e3),
    Relation("tokens_per_j", {"power_w": -1, "throughput_tok_s": 1}),
)
NOISE = 1.96 * np.sqrt(2) * CELL_SD  # log scale: two figures of one cell each, 95 %
CONFIDENT = 2.576  # two-sided 1 %


@np.errstate(all="ignore")
def prepared(frame: pd.DataFrame, name: str) -> pd.DataFrame:
    """A published table with its printed columns, every quantity that follows from them, and half-steps as `<quantity>~`. Also `_table`,
    `_lines` (a tuple), `_accounting` (gross or net as computed), CVs in percent, and scores relative to the baseline's. Repeated runs are
    averaged, their scatter becoming the CV."""
    out = frame.assign(_table=name, _lines=[(i + 2,) for i in range(len(frame))], _accounting="")
    try:
        table = build(frame, name)
    except UserError:
        table = None
    if table is not None:
        computed = {n: known(table, n) for n in QUANTITIES if n not in FACTORS or n == "params_b"}
        if computed["energy_j_per_token"] is None and table.has("power_w", "throughput_tok_s"):
            computed |= {r.target: follow(table, r) for r in OF_POWER}
        for n, logs in computed.items():
            if logs is not None or table.has(n):
                value, half = (np.nan, np.nan) if logs is None else (np.exp(logs[0]), np.exp(logs[0]) * np.sinh(logs[1]))
                shown = np.isfinite(table.column(n))
                out[n], out[f"{n}~"] = np.where(shown, table.column(n), value), np.where(shown, table.step(n), half)
        if table.has("power_w", "throughput_tok_s"):
            out["_accounting"] = relations.kinds(table)[0]
    keys = [*FACTORS, *PLACES, "_table", "_accounting"]
    out = out.assign(**{f: _text(out[f]) if f in out else "" for f in (*FACTORS, *PLACES)})
    cvs = {quantity: f"{quantity.split('_')[0]}_cv_pct" for quantity in SPREADS}
    for quantity, spread in SPREADS.items():
        if spread in out:
            out[cvs[quantity]] = 100 * out[spread] / out[quantity]
    if "run" in out:
        numeric = [c for c in out.select_dtypes("number") if c not in keys and c != "run"]
        grouped = out.groupby(keys, sort=False, dropna=False)
        out = grouped[numeric].mean().reset_index()
        out["_lines"] = grouped["_lines"].agg(lambda s: tuple(line for part in s for line in part)).to_numpy()
        for quantity in (q for q in SPREADS if q in numeric):
            out[cvs[quantity]] = (100 * grouped[quantity].std() / grouped[quantity].mean()).to_numpy()
    is_base = out["quantization"].isin(BASELINES)
    if "accuracy" in out and is_base.any():
        who = ["gpu", "model", "task"]
        base = out[is_base & out["accuracy"].notna()].drop_duplicates(who).set_index(who)
        base = base[["accuracy", "accuracy~", "_lines"]].reindex(pd.MultiIndex.from_frame(out[who])).set_axis(out.index)
        ratio = 100 * out["accuracy"] / base["accuracy"]
        out["accuracy_retained_pct"] = ratio.mask(is_base)
        out["accuracy_retained_pct~"] = ratio * (out["accuracy~"].fillna(0) / out["accuracy"] + base["accuracy~"] / base["accuracy"])
        out["_reference_lines"] = base["_lines"]
    return out


def _text(column: pd.Series) -> pd.Series:
    """A key as text, numbers without a trailing .0, missing as empty."""
    return column.map(lambda v: "" if pd.isna(v) else f"{v:g}" if isinstance(v, float) else str(v))


def meets(frame: pd.DataFrame, condition: str) -> np.ndarray:
    """Which rows meet one comparison of a condition. Raises UserError if it cannot be read."""
    if not (match := _CONDITION.fullmatch(condition)):
        do = "correct the claim's `where`"
        raise UserError(f"the condition '{condition}' cannot be read", "column=value|value or column<=number", do)
    name, sign, text = match.groups()
    column = frame[name] if name in frame else pd.Series(np.nan, index=frame.index)
    if sign == "=":
        return _text(column).isin([t.strip() for t in text.split("|")]).to_numpy()
    values = pd.to_numeric(column, errors="coerce")
    compared = {"<=": values.le, ">=": values.ge, "<": values.lt, ">": values.gt}[sign](float(text.split("|")[0]))
    return (compared | (values.isna() & ("|" in text))).to_numpy()


def select(tables: dict[str, pd.DataFrame], names: str, where: str) -> pd.DataFrame:
    """The rows of the named tables (prepared; separated by `;`) that meet every part of `where`, in printed order."""
    parts = [tables[n] for n in filter(None, names.split(";")) if n in tables]
    if not parts:
        return pd.DataFrame(columns=["_table", "_lines", *FACTORS])
    frame = pd.concat(parts, ignore_index=True)
    for condition in filter(None, (c.strip() for c in where.split("&"))):
        frame = frame[meets(frame, condition)]
    return frame.reset_index(drop=True)


def pairs(frame: pd.DataFrame, claim: pd.Series, quantity: str, level: str | None = None) -> list[tuple[int, int]]:
    """(row, reference row) positions that differ in the claim's factor alone, of one `level` or each, and both state `quantity`. The
    reference is sought in the same session and place, then in the same session (where the lengths of the output may differ, since greedy
    decoding stops by itself), then in the same table, then anywhere; the first rank with a candidate is taken."""
    factor, reference = claim["factor"], str(claim["reference"])
    if quantity not in frame or factor not in frame:
        return []
    if level is None:
        levels = sorted(set(frame[factor]) - {reference, ""})
        return [pair for each in levels for pair in pairs(frame, claim, quantity, each)]
    text = {c: pd.factorize(frame[c])[0] for c in (*FACTORS, "_table", "session", "location") if c != factor}
    same = together([text[f] for f in FACTORS if f not in (factor, "params_b", *LENGTHS)], len(frame))
    exact = together([text[f] for f in LENGTHS if f != factor], len(frame))
    no_session, level_of, stated = (frame["session"] == "").to_numpy(), frame[factor].to_numpy(object), frame[quantity].notna().to_numpy()
    pool, found = np.flatnonzero((level_of == reference) & stated), []
    for i in np.flatnonzero((level_of == level) & stated):
        near = pool[same[pool] == same[i]]
        alike, table = exact[near] == exact[i], text["_table"][near] == text["_table"][i]
        session = table & (text["session"][near] == text["session"][i])
        place = session & (text["location"][near] == text["location"][i])
        for rank in (place & alike, session & (not no_session[i]), table & alike, alike):
            if rank.any():
                found.append((int(frame.index[i]), int(frame.index[near[rank][0]])))
                break
    return found


def strata(frame: pd.DataFrame, *varied: str, ranked: bool = False) -> list[pd.DataFrame]:
    """The rows that may differ in the factors `varied` alone, group by group of one table. Strategies that are ranked stop at lengths of
    their own."""
    also = LENGTHS if ranked and varied == ("quantization",) else ()
    keys = [f for f in (*FACTORS, "_table") if f not in (*varied, *also, "params_b")]
    return [group for _, group in frame.groupby(keys, sort=False, dropna=False)] if len(frame) else []


@dataclass(frozen=True)
class Outcome:
    """A verdict with its numbers and the rows it rests on, as text."""

    verdict: str
    reason: str
    computed: str = ""
    rows: str = ""


def rows_of(*frames: pd.DataFrame) -> str:
    """The rows of prepared frames as `table:2,5; other:3`, reference rows of retained scores included."""
    known = (pair for f in frames for c in ("_lines", "_reference_lines") if c in f for pair in zip(f["_table"], f[c], strict=True))
    return where((table, n) for table, numbers in known if isinstance(numbers, tuple) for n in numbers)


def bounds(claim: pd.Series) -> tuple[float, float, float]:
    """The claim's low, high and tolerance as numbers; no tolerance is 0."""
    return float(claim["low"]), float(claim["high"]), float(word(claim, "tolerance") or 0)


def word(claim: pd.Series, name: str) -> str:
    """A field of the claim as text, empty where it is not stated."""
    return "" if pd.isna(claim[name]) else str(claim[name])


def stated(claim: pd.Series) -> str:
    """The claim's figure or range with its unit."""
    if not word(claim, "low"):
        return word(claim, "level")
    (low, high, _), unit = bounds(claim), say(word(claim, "unit"))
    if np.isinf(high):
        return say("at least {figure}", figure=f"{number(low)} {unit}".strip())
    at_most = low in (0, -100) and high > low
    return say("at most {figure}", figure=f"{number(high)} {unit}".strip()) if at_most else span([low, high], unit)


def _decided(holds: bool) -> str:
    return "consistent" if holds else "inconsistent"


def _judge(claim: pd.Series, ends: list[np.ndarray], rows: str, what: str, noisy: bool = False) -> Outcome:
    """Whether every figure's range (low, middle, high) meets the claim's; the reason counts those that do. Changes of noisy figures that
    miss it by less than the noise of one figure a cell (95 %, log scale) are not decided."""
    low, mid, high = ends
    a, b, tolerance = bounds(claim)
    a, b = a - tolerance, b + tolerance
    inside = (high >= a - 1e-12) & (low <= b + 1e-12)
    n, computed = len(mid), span(mid, say(word(claim, "unit")))
    if inside.all():
        sentence = "{what}: {computed} in 1 case, as stated" if n == 1 else "{what}: {computed} in {n} cases, as stated"
        return Outcome("consistent", say(sentence, what=what, computed=computed, n=n), computed, rows)
    with np.errstate(all="ignore"):
        near, far = low[~inside] / 100, high[~inside] / 100
        gap = np.where(near > b / 100, np.log1p(near) - np.log1p(b / 100), np.log1p(a / 100) - np.log1p(far))
    close = noisy and (np.abs(gap) <= NOISE).all()
    how = say("the one case does not agree" if n == 1 else "{k} of {n} cases agree", k=inside.sum(), n=n)
    how = say("figures good to {share} at best cannot tell them apart", share=f"{100 * CELL_SD:.1f} %") if close else how
    sentence = say("{what}: {computed}, where {stated} is stated; {how}", what=what, computed=computed, stated=stated(claim), how=how)
    return Outcome("not decided" if close else "inconsistent", sentence, computed, rows)


def nothing(claim: pd.Series) -> Outcome:
    """The verdict where the claim's own source holds no figure for it."""
    quantity, tables = claim["quantity"], word(claim, "tables").replace(";", ", ")
    if not tables:
        alone = "no table of the source gives {quantity}: the figure stands alone"
        return Outcome("untested", say(alone, quantity=str(quantity).replace("_", " ")))
    scope = say(" with {condition}", condition=claim["where"]) if word(claim, "where") else ""
    given = {k: claim[k] for k in ("factor", "level", "reference")}
    levels = say(" for {factor} {level} against {reference}", **given) if word(claim, "reference") else ""
    sentence = "no row of {tables} gives {quantity}{scope}{levels}"
    return Outcome("untested", say(sentence, tables=tables, quantity=quantity, scope=scope, levels=levels))


def value(claim: pd.Series, frame: pd.DataFrame) -> Outcome | None:
    """Every stated figure of a quantity against the claim."""
    x = floats(frame[name]) if (name := claim["quantity"]) in frame else np.array([])
    if not (known := np.isfinite(x)).any():
        return None
    x, h = x[known], _half(frame, name)[known]
    return _judge(claim, [x - h, x, x + h], rows_of(frame[known]), name)


def _half(frame: pd.DataFrame, quantity: str) -> np.ndarray:
    """The printed half-steps of a quantity, 0 where they are not known."""
    return frame[f"{quantity}~"].fillna(0).to_numpy(float) if f"{quantity}~" in frame else np.zeros(len(frame))


def paired(kind: Callable) -> Callable[[pd.Series, pd.DataFrame], Outcome | None]:
    """A kind of claim about rows of level and reference that differ in the factor alone, from a function of their values and half-steps
    (two columns each) and of the rows themselves."""

    def judged(claim: pd.Series, frame: pd.DataFrame) -> Outcome | None:
        quantity = "accuracy" if claim["quantity"] == "accuracy_pct" else claim["quantity"]
        if not (found := pairs(frame, claim, quantity, str(claim["level"]))):
            return None
        sides = [frame.loc[list(rows)] for rows in zip(*found, strict=True)]
        return kind(
            claim, *(np.column_stack([of(f, quantity) for f in sides]) for of in (lambda f, q: f[q].to_numpy(float), _half)), *sides
        )

    return judged


@paired
def change(claim: pd.Series, x, h, level: pd.DataFrame, reference: pd.DataFrame) -> Outcome:
    """Changes [%] of level against reference, pair by pair; a claim about all of N levels needs all N (column `coverage`)."""
    ends = [100 * ((x[:, 0] + s * h[:, 0]) / (x[:, 1] - s * h[:, 1]) - 1) for s in (-1, 0, 1)]
    what, noisy = say("change of {quantity}", quantity=claim["quantity"]), claim["quantity"] in NOISY
    outcome, (wanted, _, factor) = _judge(claim, ends, rows_of(level, reference), what, noisy), word(claim, "coverage").partition(" ")
    if outcome.verdict == "consistent" and wanted and (covered := level[factor].nunique()) < int(wanted):
        short = "{reason}, but on {k} of the {n} levels of {factor} that the claim covers"
        return replace(outcome, verdict="untested", reason=say(short, reason=outcome.reason, k=covered, n=wanted, factor=factor))
    return outcome


@paired
def difference(claim: pd.Series, x, h, level: pd.DataFrame, reference: pd.DataFrame) -> Outcome:
    """Differences of level minus reference in the quantity's own unit; scores in points."""
    quantity, scale = ("accuracy", 100.0) if claim["quantity"] == "accuracy_pct" else (claim["quantity"], 1.0)
    ends = [scale * (x[:, 0] - x[:, 1] + s * h.sum(axis=1)) for s in (-1, 0, 1)]
    return _judge(claim, ends, rows_of(level, reference), say("difference of {quantity}", quantity=quantity))


@paired
def range_of_changes(claim: pd.Series, x, h, level: pd.DataFrame, reference: pd.DataFrame) -> Outcome:
    """A printed range of changes: its ends must be the least and the greatest change, and both accounted alike."""
    d, (low, high, tolerance) = 100 * (x[:, 0] / x[:, 1] - 1), bounds(claim)
    ends = level.iloc[[int(np.argmin(d)), int(np.argmax(d))]]
    kinds = list(ends["_accounting"])
    where = [f"{r['gpu']}, {r['model']}, batch {r['batch_size']}" for _, r in ends.iterrows()]
    computed, rows = span(d, "%"), rows_of(level, reference)
    if "energy" in claim["quantity"] and all(kinds) and kinds[0] != kinds[1]:
        a, b = (floats(f["power_w"]) / floats(f["throughput_tok_s"]) for f in (level, reference))
        gross = 100 * (a / b - 1)
        also = f"; counted gross throughout it is {span(gross, '%')}" if np.isfinite(gross).any() else ""
        both = zip((d.min(), d.max()), where, kinds, strict=True)
        words = [f"{number(x, 3)} % ({w}) is {k}{' of idle power' * (k == 'net')}" for x, w, k in both]
        return Outcome("inconsistent", f"{' and '.join(words)}: one range mixes two accountings{also}", computed, rows)
    if abs(d.min() - low) <= tolerance and abs(d.max() - high) <= tolerance:
        return Outcome("consistent", f"the {len(d)} changes span {computed}, as stated", computed, rows)
    reason = f"the {len(d)} changes span {computed} ({'; '.join(where)}), where {stated(claim)} is stated"
    return Outcome("inconsistent", reason, computed, rows)


def count(claim: pd.Series, frame: pd.DataFrame) -> Outcome:
    """How many distinct configurations (or stated figures, for a numeric quantity) the tables hold."""
    names = [n for n in claim["quantity"].split(",") if n in frame]
    figures = len(names) == 1 and pd.api.types.is_numeric_dtype(frame[names[0]])
    use = frame[:0] if not names else frame[frame[names[0]].notna()] if figures else frame[(frame[names].astype(str) != "").all(axis=1)]
    found = len(use) if figures or use.empty else len(use[names].astype(str).drop_duplicates())
    low, high, _ = bounds(claim)
    few = len(names) == 1 and found <= 8 and not use.empty and not figures
    shown, computed = f" ({', '.join(sorted(use[names[0]].astype(str).unique()))})" if few else "", say(f"{{n}} {claim['unit']}", n=found)
    runs, one, many = sum(map(len, use["_lines"])), "{found} in the tables{shown}, where {stated} is stated", "where {stated} are stated"
    shown += say(" in {n} rows", n=runs) if runs > found else ""
    sentence = one if low == 1 else f"{{found}} in the tables{{shown}}, {many}"
    return Outcome(_decided(low <= found <= high), say(sentence, found=computed, shown=shown, stated=stated(claim)), computed, rows_of(use))


def label(claim: pd.Series, frame: pd.DataFrame) -> Outcome | None:
    """A name in words against the names that the tables give."""
    names = sorted(set(frame[claim["quantity"]].dropna().astype(str)) - {""}) if claim["quantity"] in frame else []
    given = {"quantity": claim["quantity"], "names": " and ".join(names), "stated": claim["level"]}
    reason = say("{quantity} is {names} in the tables, where {stated} is stated", **given)
    return Outcome(_decided(names == [claim["level"]]), reason, ", ".join(names), rows_of(frame)) if names else None


def reckon(text: str) -> float:
    """The value of an arithmetic expression of numbers, 71.8 / 42.29. Raises UserError for anything else."""
    found = floats(cells.evaluate(text, pd.DataFrame(index=[0])))[0]
    if not np.isfinite(found):
        raise UserError(f"'{text}' cannot be computed", "numbers with + - * / and parentheses", "correct the claim's `quantity`")
    return float(found)


def arithmetic(claim: pd.Series, frame: pd.DataFrame) -> Outcome:
    """A worked example recomputed from the numbers it prints."""
    x, (low, high, tolerance) = reckon(claim["quantity"]), bounds(claim)
    holds = low - tolerance * (1 + 1e-9) <= x <= high + tolerance * (1 + 1e-9)
    sentence = "{formula} = {computed}, where {stated} is stated"
    return Outcome(_decided(holds), say(sentence, formula=claim["quantity"], computed=number(x), stated=stated(claim)), number(x))


def rule(claim: pd.Series, frame: pd.DataFrame) -> Outcome:
    """A recommendation: no figure of the source decides it; it can only contradict another."""
    return Outcome("untested", say("no table of the source tests the statement ({statement})", statement=say(claim["quantity"])))


def ranking(claim: pd.Series, frame: pd.DataFrame) -> Outcome:
    """Whether the level is best in every group of rows that differ in the factor alone; several levels may share the place. Several
    quantities, separated by `;`, are ranked each for itself. Printed ties count for the claim."""
    levels, factor = str(claim["level"]).split("|"), claim["factor"]
    won, close, seen, lost = 0, 0, [], []
    for quantity in (q for q in claim["quantity"].split(";") if q in frame):
        sign = 1 if QUANTITIES[quantity] else -1
        for group in strata(frame[frame[quantity].notna()], factor, ranked=True):
            names, mine = group[factor], group[factor].isin(levels).to_numpy()
            if names.nunique() < 2 or not mine.any():
                continue
            x, h = sign * group[quantity].to_numpy(dtype=float), _half(group, quantity)
            best, own = int(np.argmax(x)), int(np.argmax(np.where(mine, x, -np.inf)))
            seen.append(group)
            if x[own] + h[own] >= x[best] - h[best]:
                won += 1
            elif quantity in NOISY and abs(np.log(x[own] / x[best])) <= NOISE:
                close += 1
            else:
                lost.append(say(
                    "{best} has {x} {quantity} against {y} of {own} ({table})", best=names.iloc[best], x=number(sign * x[best]),
                    own=names.iloc[own], y=number(sign * x[own]), quantity=quantity, table=group["_table"].iloc[best],
                ))  # fmt: skip
    if not seen:
        quantity, sentence = claim["quantity"].replace(";", " or "), "no group of rows compares {level} with another {factor} on {quantity}"
        return Outcome("untested", say(sentence, level=claim["level"], factor=factor, quantity=quantity))
    n, rows = {"k": won, "n": len(seen)}, rows_of(*seen)
    shown = say("first in {k} of {n}", **n)
    if lost:
        return Outcome("inconsistent", say("{example}; first in {k} of {n} comparisons", example=lost[0], **n), shown, rows)
    sentence = "first in the only comparison that the tables allow" if won == 1 else "first in all {n} comparisons that the tables allow"
    near = "first in {k} of {n} comparisons; in the others the best is nearer than the noise of one figure a cell"
    return Outcome("not decided" if close else "consistent", say(near if close else sentence, **n), shown, rows)


@paired
def equal(claim: pd.Series, x, h, level: pd.DataFrame, reference: pd.DataFrame) -> Outcome | None:
    """Two scores said to be nearly the same: consistent while binomial error covers the difference (1 %, two-sided); the reason states the
    smallest difference that so many items could have shown."""
    if "n_items" not in level:
        return None
    n = level["n_items"].to_numpy(dtype=float)
    z = np.abs(z_of(x[:, 0], x[:, 1], n, n))
    least = 100 * CONFIDENT * np.sqrt(2 * x.mean(axis=1) * (1 - x.mean(axis=1)) / n)
    points = span(100 * (x[:, 0] - x[:, 1]), say("points"))
    reason = say(
        "the scores differ by {points}, at most {z} standard errors; {n} items could show a difference of {least} points",
        points=points, z=f"{z.max():.1f}", n=f"{n.min():.0f}", least=f"{least.max():.1f}",
    )  # fmt: skip
    return Outcome(_decided((z < CONFIDENT).all()), reason, points, rows_of(level, reference))


def correlation(claim: pd.Series, frame: pd.DataFrame) -> Outcome | None:
    """Correlation of two quantities over the levels of a factor, with Fisher's interval; at least four levels are needed."""
    a, b, factor = claim["quantity"], str(claim["level"]), claim["factor"]
    if a not in frame or b not in frame:
        return None
    means = frame.groupby(factor)[[a, b]].mean().dropna()
    rows, n = rows_of(frame[frame[factor].isin(means.index)]), len(means)
    if n < 3:
        return Outcome("untested", say("{n} levels of {factor} state both {a} and {b}", n=n, factor=factor, a=a, b=b), "", rows)
    r, (least, most, _) = float(np.corrcoef(means[a], means[b])[0, 1]), bounds(claim)
    shown = f"r = {r:+.2f}"
    if n == 3:
        return Outcome("untested", say("{r} over the {n} levels that state both: too few for an interval", r=shown, n=n), shown, rows)
    low, high = np.tanh(np.arctanh(r) + np.array([-1, 1]) * 1.96 / np.sqrt(n - 3))
    verdict = "consistent" if least < low <= most else "inconsistent" if high < least else "untested"
    how = {"inconsistent": ": the sign is the other", "untested": ": the interval holds both signs"}.get(verdict, "")
    return Outcome(verdict, f"{shown} [{low:+.2f}, {high:+.2f}], n = {n}{how}", shown, rows)


def synergy(claim: pd.Series, frame: pd.DataFrame) -> Outcome:
    """An interaction of two factors on the log scale (multiplicative on energy), over the 2 x 2 cells of tables that cross them in one
    model and task; without repetitions it has no interval and stays untested, said so with the number."""
    a, b, quantity = claim["factor"], str(claim["level"]), claim["quantity"]
    use = frame[frame[quantity].notna() & (frame[a] != "") & (frame[b] != "")] if quantity in frame else frame[:0]
    contrasts, crossed = [], []
    for group in strata(use, a, b, "_table"):
        logs = np.log(group.pivot_table(index=a, columns=b, values=quantity).dropna()).to_numpy()
        if min(logs.shape) > 1:
            contrasts += list(np.ravel(logs[1:, 1:] - logs[1:, :1] - (logs[:1, 1:] - logs[:1, :1])))
            crossed.append(group)
    if not contrasts:
        held = "; ".join(f"{t}: {g[a].nunique()} x {g[b].nunique()}" for t, g in use.groupby("_table", sort=False)) or say("none")
        sentence = "no table crosses {a} with {b} (levels of each in one table: {held}), so an interaction cannot be seen"
        return Outcome("untested", say(sentence, a=a, b=b, held=held), "", rows_of(use))
    effect = span(100 * np.expm1(np.array(contrasts)), "%")
    reason = f"interaction of {a} and {b}: {effect} from {len(contrasts)} contrasts of single figures, without repetition to judge it by"
    return Outcome("untested", reason, effect, rows_of(*crossed))


def excess(claim: pd.Series, frame: pd.DataFrame) -> Outcome | None:
    """What share [%] of the excess of `statistic` over `reference` the level removes, pair by pair."""
    quantity = claim["quantity"]
    better, bad = (dict(pairs(frame, claim, quantity, str(claim[c]))) for c in ("level", "statistic"))
    share, rows = [], []
    for i, j, base in ((i, j, base) for i, base in better.items() for j, other in bad.items() if base == other):
        x, y, z = (float(frame.loc[k, quantity]) for k in (base, i, j))
        if z > x:
            share.append(100 * (z - y) / (z - x))
            rows += [i, j, base]
    if not share:
        return None
    low, high, _ = bounds(claim)
    inside = [low <= s <= high for s in share]
    reason = f"{span(share, '%')} of the excess is removed, more than {number(low)} % in {sum(inside)} of {len(share)} cases"
    return Outcome(_decided(all(inside)), reason, span(share, "%"), rows_of(frame.loc[rows]))


@paired
def crossover(claim: pd.Series, x, h, level: pd.DataFrame, reference: pd.DataFrame) -> Outcome:
    """Where the change turns from cost to saving along `statistic`, by GPU: consistent if the brackets of two GPUs do not overlap. A
    bracket runs from the largest size that still costs more to the smallest that saves, and exists where those are in order. Two that are
    accounted differently, as far as that is known, are not held against each other."""
    size, d, gpu = pd.to_numeric(level[str(claim["statistic"])]).to_numpy(), x[:, 0] / x[:, 1] - 1, level["gpu"].to_numpy()
    brackets = {}
    for g in dict.fromkeys(gpu):
        cost, save = size[(gpu == g) & (d > 0)], size[(gpu == g) & (d <= 0)]
        if len(cost) and len(save) and cost.max() < save.min():
            brackets[g] = (cost.max(), save.min())
    rows, text = rows_of(level, reference), ", ".join(f"{g}: {a:g} to {b:g}" for g, (a, b) in brackets.items())
    apart = [(g, h) for g in brackets for h in brackets if brackets[g][1] <= brackets[h][0]]
    kinds = {g: set(level["_accounting"][gpu == g]) for g in brackets}
    alike = [(g, h) for g, h in apart if kinds[g] == kinds[h] and len(kinds[g]) == 1]
    if not alike:
        why = f"the brackets that lie apart are accounted differently ({text})"
        why = why if apart else f"no two brackets of a turning point lie apart ({text or 'none on any GPU'})"
        return Outcome("untested", why, text, rows)
    sizes = f"the sizes [{claim['statistic']}] between which the change turns lie apart on {alike[0][0]} and {alike[0][1]}"
    return Outcome("consistent", f"{sizes} ({text})", text, rows)


def scaling(claim: pd.Series, frame: pd.DataFrame) -> Outcome:
    """The exponent of a quantity along a factor (log-log slope), where three levels or more are given with all else equal."""
    factor, quantity = claim["factor"], claim["quantity"]
    use = frame[(frame[factor] != "") & frame[quantity].notna()] if quantity in frame else frame[:0]
    series = [g for g in strata(use, factor) if g[factor].nunique() >= 3]
    if not series:
        return Outcome("untested", f"no configuration gives {quantity} at three values of {factor} or more")
    slopes = [float(np.polyfit(np.log(pd.to_numeric(g[factor])), np.log(g[quantity].astype(float)), 1)[0]) for g in series]
    low, high, tolerance = bounds(claim)
    holds = all(low - tolerance <= s <= high + tolerance for s in slopes)
    return Outcome(_decided(holds), f"exponent {span(slopes)} over {len(slopes)} series", span(slopes), rows_of(*series))


def exists(claim: pd.Series, frame: pd.DataFrame) -> Outcome | None:
    """Whether some pair has less of the first quantity and more of the second than its reference: one case proves it."""
    first, second = claim["quantity"].split(";")
    found = pairs(frame[frame[first].notna()], claim, second) if first in frame else []
    if not found:
        return None
    hits = sum(frame.loc[i, first] < frame.loc[j, first] and frame.loc[i, second] > frame.loc[j, second] for i, j in found)
    reason = f"{hits} of {len(found)} comparisons have less {first} and more {second} than {claim['reference']}"
    return Outcome(_decided(hits > 0), reason, f"{hits} of {len(found)}", rows_of(frame.loc[[i for pair in found for i in pair]]))


KINDS = {
    "value": value, "change": change, "difference": difference, "range": range_of_changes, "count": count, "label": label,
    "arithmetic": arithmetic, "rule": rule, "ranking": ranking, "equal": equal, "correlation": correlation, "synergy": synergy,
    "excess": excess, "crossover": crossover, "scaling": scaling, "exists": exists,
}  # fmt: skip
