"""The cost of one configuration: a measured or published row, else a prediction with its interval, else what to measure.

Every number names its source. The interval of a row is for another session of the same configuration, the reader's: the spread of runs
within a session is far smaller than that between sessions of one card and model.
"""

from dataclasses import dataclass, field
from functools import cache

import numpy as np
import pandas as pd
from scipy import stats

from eai import tables
from eai.advise.parameters import Request
from eai.errors import UserError
from eai.predict import predict
from eai.predict.features import canonical, feature_table, shape
from eai.predict.prediction import judged, prefill_cost
from eai.predict.rows import CONFIGURATION, LAWLESS, all_rows
from eai.quantity import Quantity

LENGTH_EFFECT = 0.10
ROW_GROUP = [c for c in CONFIGURATION if c != "session"]


@dataclass(frozen=True)
class Cost:
    """What a configuration costs, gross at the GPU's board, and how that is known.

    `runs_only`: energy with the interval of the repeated runs alone, where a row gives their spread. `sd_own`: the relative error that
    configurations on one card do not share, for ranking them. `basis`: measured | published | predicted | given.
    """

    energy_j_per_token: Quantity
    throughput_tok_s: Quantity
    power_w: Quantity
    basis: str
    evidence: tuple[str, ...]
    warnings: tuple[str, ...] = ()
    sd_own: float = 0.0
    runs_only: Quantity | None = None
    folds: dict = field(default_factory=dict)

    @property
    def energy_j_per_1k_tok(self) -> Quantity:
        """Energy of a thousand output tokens [J]."""
        return scaled(self.energy_j_per_token, 1e3, "J")

    def latency_s(self, batch_size: int, output_tokens: int) -> Quantity:
        """Time of one request [s]: all its tokens at the batch's pace."""
        rate = self.throughput_tok_s
        tokens = batch_size * output_tokens
        low, high = (None, None) if rate.low is None else (tokens / rate.high, tokens / rate.low)
        return Quantity(tokens / rate.value, low, high, "s")


def scaled(q: Quantity, factor: float, unit: str) -> Quantity:
    """A quantity times an exact positive number, in another unit."""
    return Quantity(q.value * factor, None if q.low is None else q.low * factor, None if q.high is None else q.high * factor, unit)


@cache
def rows() -> pd.DataFrame:
    """The gross rows that may be cited: those learned from, and those of sessions that obey no law, with that warning."""
    table = all_rows("gross")
    return table[table["why"].isin(("", LAWLESS)) & table["energy_j_per_token"].notna()].reset_index(drop=True)


@cache
def session_spread() -> tuple[float, int]:
    """`spread_between_sessions` of the repository's clean gross rows."""
    return spread_between_sessions(judged().rows)


def spread_between_sessions(table: pd.DataFrame) -> tuple[float, int]:
    """(standard deviation of the log energy of one configuration between sessions, its degrees of freedom), from all that were repeated."""
    groups = np.log(table.set_index(ROW_GROUP)["energy_j_per_token"]).groupby(level=ROW_GROUP)
    df = groups.size() - 1
    return float(np.sqrt((groups.var().fillna(0.0) * df).sum() / df.sum())), int(df.sum())


def cost(r: Request) -> Cost:
    """The cost of the requested configuration. Raises UserError, with the command to run, where no row and no prediction can tell."""
    row = best_row(r)
    if row is not None:
        return _of_row(r, row)
    p = predict(r.gpu, r.model, r.quantization, r.batch_size, r.input_tokens, r.output_tokens)
    sources = (
        p.explained,
        f"{len(p.rows)} rows of {canonical(r.quantization)}: {', '.join(p.rows[:3])}" + (" ..." if len(p.rows) > 3 else ""),
    )
    return Cost(p.energy_j_per_token, p.throughput_tok_s, p.power_w, p.basis, sources, p.remarks, own_sd(p.kind), None, p.folds)


def matching(r: Request) -> pd.DataFrame:
    """All rows of this card, model shape, strategy and batch size, the preferred one first.

    Measured before published, then the same output length, the same model, and the most runs.
    """
    table = rows()
    same = (table["gpu"] == r.gpu.slug) & (table["shape"] == shape(r.model)) & (table["batch_size"] == r.batch_size)
    found = table[same & (table["quantization"] == canonical(r.quantization))]
    order = found.assign(
        not_measured=found["basis"] != "measured",
        other_length=found["output_tokens"] != r.output_tokens,
        other_model=found["model"] != r.model.slug,
        fewer=-found["n_runs"].fillna(0),
    ).sort_values(["not_measured", "other_length", "other_model", "fewer"], kind="stable")
    return found.loc[order.index]


def best_row(r: Request) -> pd.Series | None:
    """The preferred row if its token lengths cost what the requested ones do, within 10 % as computed; else None."""
    found = matching(r)
    if found.empty or abs(length_effect(r, found.iloc[0])) > LENGTH_EFFECT:
        return None
    return found.iloc[0]


def length_effect(r: Request, row: pd.Series) -> float:
    """The computed relative change of the energy a token from the row's token lengths to the requested ones."""
    lengths = pd.DataFrame(
        [(r.input_tokens, r.output_tokens), (row["input_tokens"], row["output_tokens"])], columns=["input_tokens", "output_tokens"]
    )
    table = lengths.assign(gpu=r.gpu.slug, model=r.model.slug, quantization=canonical(r.quantization), batch_size=r.batch_size)
    wanted, had = judged().fitted("physics", "energy").step(feature_table(table)) / r.batch_size
    wanted += prefill_cost(r.gpu, r.model, r.input_tokens, r.output_tokens)[0]
    return float(wanted / had - 1)


def _of_row(r: Request, row: pd.Series) -> Cost:
    """The cost as a row gives it, with the interval for another session."""
    sd, df = session_spread()
    u = 0.0 if pd.isna(row["u_log"]) else float(row["u_log"])
    effect = length_effect(r, row)
    half = float(stats.t.ppf(0.975, df) * np.hypot(np.sqrt(2) * sd, u)) + abs(np.log1p(effect))
    energy = _around(row["energy_j_per_token"], half, "J")
    rate = _around(row["throughput_tok_s"], half, "tok/s")
    watts = row["energy_j_per_token"] * row["throughput_tok_s"]
    power = Quantity(watts, watts * np.exp(-half), max(watts, min(watts * np.exp(half), r.gpu.tdp_w or np.inf)), "W")
    runs = _around(row["energy_j_per_token"], float(stats.t.ppf(0.975, max(row["n_runs"] - 1, 1))) * u, "J") if u else None
    return Cost(energy, rate, power, row["basis"], _cited(r, row), tuple(_row_warnings(r, row, effect)), float(np.hypot(sd, u)), runs)


def _around(value: float, half: float, unit: str) -> Quantity:
    """A positive value with an interval symmetric on the log scale."""
    return Quantity(float(value), float(value * np.exp(-half)), float(value * np.exp(half)), unit)


def _cited(r: Request, row: pd.Series) -> tuple[str, ...]:
    """The row, and what other sessions gave for the same configuration."""
    runs = f", {row['n_runs']:.0f} runs" if pd.notna(row["n_runs"]) else ""
    first = (
        f"{row['source_row']}: {row['model']} on {row['gpu']}, {row['quantization_as_named']}, batch {row['batch_size']:.0f}, "
        f"{row['output_tokens']:.0f} tokens out{runs}, session {row['session']}: {1e3 * row['energy_j_per_token']:.0f} J per 1000 tokens"
    )
    others = matching(r)
    others = others[others["source_row"] != row["source_row"]]
    rest = [_session(row["session"])] if row["basis"] == "published" else []
    rest += [f"also {o.source_row}: {1e3 * o.energy_j_per_token:.0f} J per 1000 tokens in session {o.session}" for o in others.itertuples()]
    return (first, *rest)


def _session(name: str) -> str:
    """What is known of a published session: software, how its energy is accounted, and what is odd about it."""
    table = tables.read_published("ecocompute_sessions").set_index("session")
    notes = [str(table.loc[name, c]) for c in ("software", "accounting_evidence", "remark") if pd.notna(table.loc[name, c])]
    return f"session {name}: {'; '.join(notes)}"


def _row_warnings(r: Request, row: pd.Series, effect: float) -> list[str]:
    """What differs between the row and the request, and what is odd about its session."""
    sd, df = session_spread()
    found = [f"interval for another session: sessions of one configuration differ by {sd:.0%} (sd, {df} degrees of freedom)"]
    if effect:
        lengths = f"{row['input_tokens']:.0f} tokens in and {row['output_tokens']:.0f} out"
        found.append(f"the row has {lengths}: computed effect {effect:+.1%}, in the interval")
    if row["why"]:
        found.append(f"session {row['session']}: {row['why']}")
    return found


@cache
def own_sd(kind: str) -> float:
    """The relative error that rows of one fold do not share: the spread of a prediction's errors around their fold's mean."""
    errors = judged().errors(kind, judged().best(kind, "energy"), "energy").dropna(subset=["log_error"])
    within = errors["log_error"] - errors.groupby("fold")["log_error"].transform("mean")
    return float(np.sqrt((within**2).sum() / max(len(errors) - errors["fold"].nunique(), 1)))


def measure_command(r: Request) -> str:
    """What to run to know: a sweep of this configuration beside its baseline, as YAML for `eai run`."""
    names = ", ".join(sorted({"fp16", r.quantization}))
    lengths = f"input_tokens: [{r.input_tokens}], output_tokens: [{r.output_tokens}]"
    sweep = f"{{models: [{r.model.hf_id}], quantizations: [{names}], batch_sizes: [{r.batch_size}], {lengths}, blocks: 5}}"
    return f"measure: eai run sweep.yaml with {sweep} on the {r.gpu.name}"


def cost_or_reason(r: Request) -> tuple[Cost | None, str]:
    """(cost, "") or (None, why it is not known)."""
    try:
        return cost(r), ""
    except UserError as error:
        return None, str(error)
