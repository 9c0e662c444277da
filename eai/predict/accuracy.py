"""How wrong predictions are for what nobody measured: whole groups of rows left out, the model fitted without them, and the errors kept.

A kind of question has its own folds: `known` (a fifth of the configurations left out), `new_model` (a model family), `new_card` (a card,
its engine still measured on others), `new_engine` and `new_both` (an engine; whether its card is still measured on another). The half
width of an interval [log] is the quantile of those errors with every group counted alike: conformal over groups that the fit has not seen
(Dunn, Wasserman, Ramdas 2023, doi:10.1080/01621459.2022.2060112, where groups are the exchangeable units).
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from eai.predict import physics

KINDS = ("known", "new_model", "new_card", "new_engine", "new_both")
TARGETS = ("energy", "throughput", "power")
FIFTHS, CONFIDENCE = 5, 0.965


@dataclass(frozen=True)
class Fit:
    """The fitted time and power of a step."""

    time: physics.Fitted
    power: physics.Fitted

    def log_predictions(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Natural logs of energy a token [J], throughput [tok/s] and power [W] of rows of work."""
        parts = physics.times(self.time, rows)
        power = np.log(physics.powers(self.power, rows, parts["step"], parts["gpu"]))
        rate = np.log(rows["batch"].to_numpy(float) / parts["step"])
        return pd.DataFrame({"energy": power - rate, "throughput": rate, "power": power}, index=rows.index)


def fit(rows: pd.DataFrame) -> Fit:
    """The two fits of `sources.learned` rows: time from all, power from those whose boards were metered."""
    time = physics.fit(rows, "time")
    return Fit(time, physics.fit(rows[rows["power_share"].notna()], "power", time))


class LogLinear:
    """Baseline: ridge regression of the log of step time and power on log work, size, batch, card figures, engine and format."""

    def __init__(self, rows: pd.DataFrame, ridge: float = 3.0):
        self.levels = {c: sorted(rows[c].unique()) for c in ("engine", "quantization")}
        x = self._design(rows)
        self.mean, self.sd = x.mean(0), np.where(x.std(0) > 0, x.std(0), 1.0)
        self.coefficients = {}
        for name, y in (("step", np.log(rows["step_s"])), ("share", np.log(rows["power_share"]))):
            use = y.notna().to_numpy()
            z = (x[use] - self.mean) / self.sd
            middle = float(y[use].mean())
            slope = np.linalg.solve(z.T @ z + ridge * np.eye(z.shape[1]), z.T @ (y[use].to_numpy() - middle))
            self.coefficients[name] = middle, slope

    def _design(self, rows: pd.DataFrame) -> np.ndarray:
        """Logs of the work a GPU and bandwidth or peak, and indicators."""
        moved = rows["dense_gb"] + rows["expert_gb"] + rows["cache_gb"]
        logs = [moved / rows["n"] / rows["bandwidth_gb_s"], rows["gflop"] / rows["n"] / rows["peak_gflop_s"], rows["batch"], rows["n"]]
        logs += [rows["layers"], rows["params_b"], rows["bandwidth_gb_s"] / rows["tdp_w"], rows["peak_gflop_s"] / rows["bandwidth_gb_s"]]
        flags = [(rows[c] == v).astype(float) for c, levels in self.levels.items() for v in levels]
        return np.column_stack([*(np.log(v) for v in logs), *flags])

    def log_predictions(self, rows: pd.DataFrame) -> pd.DataFrame:
        """As `Fit.log_predictions`."""
        z = (self._design(rows) - self.mean) / self.sd
        step, share = (m + z @ s for m, s in (self.coefficients["step"], self.coefficients["share"]))
        rate, power = np.log(rows["batch"].to_numpy(float)) - step, share + np.log((rows["n"] * rows["tdp_w"]).to_numpy(float))
        return pd.DataFrame({"energy": power - rate, "throughput": rate, "power": power}, index=rows.index)


class Nearest:
    """Baseline: the nearest measured row (same engine and format first), scaled by the ratio of bytes over bandwidth and of limits."""

    def __init__(self, rows: pd.DataFrame):
        self.rows = rows[rows["power_share"].notna()].reset_index(drop=True)

    def log_predictions(self, rows: pd.DataFrame) -> pd.DataFrame:
        """As `Fit.log_predictions`."""
        moved = lambda r: r["dense_gb"] + r["expert_gb"] + r["cache_gb"]  # noqa: E731
        had, out = self.rows, []
        for row in rows.to_dict("records"):
            far = 5.0 * (had["engine"] != row["engine"]) + 2.0 * (had["quantization"] != row["quantization"]) + (had["chip"] != row["chip"])
            far = (
                far
                + np.abs(np.log(had["batch"] / row["batch"]))
                + np.abs(np.log(moved(had) / moved(row)))
                + np.abs(np.log(had["n"] / row["n"]))
            )
            best = had.loc[far.idxmin()]
            step = best["step_s"] * moved(row) / row["n"] / row["bandwidth_gb_s"] / (moved(best) / best["n"] / best["bandwidth_gb_s"])
            out.append((np.log(row["batch"] / step), np.log(best["power_share"] * row["n"] * row["tdp_w"])))
        rate, power = np.array(out).T
        return pd.DataFrame({"energy": power - rate, "throughput": rate, "power": power}, index=rows.index)


FORMS = {"physics": fit, "log_linear": LogLinear, "nearest": Nearest}


def folds(rows: pd.DataFrame) -> list[tuple[str, str, np.ndarray]]:
    """(kind, group, rows left out) of every fold; `new_engine` stands for both engine kinds, which `fold_errors` tells apart."""
    served = rows["engine"]
    card = rows["gpu"].replace({"a800_sxm_80gb": "a100_sxm_80gb"})
    generator = np.random.default_rng(20261130)
    configuration = rows["shape"] + rows["gpu"] + rows["quantization"] + rows["batch"].round().astype(str)
    place = {v: i % FIFTHS for i, v in enumerate(generator.permutation(np.unique(configuration)))}
    fifth = configuration.map(place)
    made = [("known", f"fifth {i}", (fifth == i).to_numpy()) for i in range(FIFTHS)]
    made += [("new_model", f, (rows["family"] == f).to_numpy()) for f in sorted(rows["family"].unique())]
    for name in sorted(card.unique()):
        out = (card == name).to_numpy()
        if set(served[out]) & set(served[~out]):
            made.append(("new_card", name, out))
    return made + [("new_engine", e, (served == e).to_numpy()) for e in sorted(served.unique())]


def fold_errors(rows: pd.DataFrame, form: str = "physics") -> pd.DataFrame:
    """Errors of every fold: kind, group, engine, log of predicted over measured `energy`, `throughput` and `power`, one row a row left out.

    A row that is not of its fold's kind (a model family whose card and engine went with it) is left out.
    """
    parts = []
    for kind, group, out in folds(rows):
        train, test = rows[~out], rows[out]
        pairs = set(zip(train["chip"], train["engine"], strict=True))
        seen = np.array([p in pairs for p in zip(test["chip"], test["engine"], strict=True)])
        has_engine = test["engine"].isin(train["engine"]).to_numpy()
        keep = has_engine if kind == "new_card" else np.ones(len(test), bool) if kind == "new_engine" else seen
        if not keep.any() or len(train) < 50:
            continue
        said = FORMS[form](train).log_predictions(test)
        measured = pd.DataFrame({"throughput": np.log(test["throughput_tok_s"]), "power": np.log(test["power_w"])})
        measured["energy"] = measured["power"] - measured["throughput"]
        named = np.where(test["chip"].isin(train["chip"]), "new_engine", "new_both") if kind == "new_engine" else kind
        errors = (said - measured)[list(TARGETS)].assign(
            kind=named, group=group, engine=test["engine"], gpu=test["gpu"], measured=measured["energy"]
        )
        parts.append(errors[keep])
    return pd.concat(parts, ignore_index=True)


def quantile(errors: pd.DataFrame, target: str, share: float) -> float:
    """The `share` quantile of absolute errors [log] with every group counted alike, however many rows it has."""
    known = errors[errors[target].notna()]
    weight = 1 / known.groupby("group")[target].transform("size").to_numpy(float)
    size = known[target].abs().to_numpy()
    order = np.argsort(size)
    reached = np.cumsum(weight[order]) / weight.sum()
    return float(size[order][min(np.searchsorted(reached, share), len(size) - 1)])


def stated(errors: pd.DataFrame) -> dict[str, dict]:
    """kind -> target -> n, groups, median and p90 (fractions), `half_width` [log], `width` (high / low), `coverage`.

    Coverage of a group is by the half width that the other groups give.
    """
    out: dict[str, dict] = {}
    for kind in KINDS:
        own = errors[errors["kind"] == kind]
        out[kind] = {}
        for target in TARGETS:
            part = own[own[target].notna()]
            if part.empty:
                continue
            half, inside = quantile(part, target, CONFIDENCE), []
            for group, rows in part.groupby("group"):
                others = part[part["group"] != group]
                limit = quantile(others, target, CONFIDENCE) if len(others) else np.nan
                inside += list(rows[target].abs() <= limit) if np.isfinite(limit) else []
            size = np.expm1(part[target].abs())
            out[kind][target] = {
                "n": len(part), "groups": int(part["group"].nunique()), "median": float(size.median()), "p90": float(size.quantile(0.9)),
                "half_width": half, "width": float(np.exp(2 * half)), "coverage": float(np.mean(inside)) if inside else None,
            }  # fmt: skip
    return out
