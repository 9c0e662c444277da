"""How wrong predictions are for groups that the fit has not seen, for the predictor and four baselines; prints one JSON line.

    python benchmarks/prediction.py [--quick] [--write] [--figure docs/prediction.png]

`--write` stores the constants and the errors that every answer states in data/predictor.json: do it after a change of the evidence, the
catalog or the physics. `--quick` (two minutes) keeps the form that each fold chose the last time and leaves the other forms and the
baselines out; without it the choice is made anew inside every fold's training rows (ten minutes). The predictions in
benchmarks/predictions/ were written down before anybody measured the card: once a campaign in data/measured holds it, the line says how far
off they were.

A kind of question has its own folds: `known` (a fifth of the configurations left out), `new_model` (a model family; or a source whose card
another source measures), `new_card` (a card, its engine still measured on others), `new_engine` and `new_both` (an engine; whether its
card is still measured on another). The choice is nested (Varma, Simon 2006, doi:10.1186/1471-2105-7-91): in every outer fold the form of
the model and the width of its priors are chosen by folds inside the training rows, so that the errors stated come from rows that chose
nothing.

Intervals are conformal over groups that the fit has not seen, every group counted alike (Dunn, Wasserman, Ramdas 2023,
doi:10.1080/01621459.2022.2060112), of errors over the prediction's own standard deviation (Lei et al. 2018,
doi:10.1080/01621459.2017.1307116, section 5.2): a question far from all rows gets a wide interval. For an engine that no row measures that
deviation says too little, as another engine's constants stand in: its intervals are of one width.
"""

import argparse
import json
import os
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # small systems: threads only wait for each other

import numpy as np
import pandas as pd

from eai import catalog
from eai.predict import predictor, sources
from eai.predict.predictor import FORMS, KINDS, UNSEEN, scale

FOLDER = Path(__file__).parent / "predictions"
TARGETS = ("energy", "throughput", "power")
FIFTHS = 5
CONFIDENCE = {"energy": 0.96, "throughput": 0.95, "power": 0.96}
INNER = {"known": 1, "new_model": 2, "new_card": 2, "new_engine": 3}
"""Folds of each kind inside the training rows that choose the form: groups are joined until there are so many."""


def folds(rows: pd.DataFrame, most: dict[str, int] | None = None) -> list[tuple[str, str, np.ndarray]]:
    """(kind, group, rows left out) of every fold, at most `most` of a kind; a fold's rows may be of other kinds (`kinds_of`)."""
    card = rows["gpu"].replace({"a800_sxm_80gb": "a100_sxm_80gb"})
    configuration = rows["shape"] + rows["gpu"] + rows["quantization"] + rows["batch"].round().astype(str)
    order = np.random.default_rng(20261130).permutation(np.unique(configuration))
    fifth = configuration.map({v: f"fifth {i % FIFTHS}" for i, v in enumerate(order)})
    shared = rows.groupby(["gpu", "engine"])["source"].transform("nunique") > 1
    labels = {"known": fifth, "session": rows["source"].where(shared)}
    labels |= {"new_model": rows["family"], "new_card": card, "new_engine": rows["engine"]}
    made = []
    for kind, label in labels.items():
        groups = [(name, (label == name).to_numpy()) for name in sorted(label.dropna().unique())]
        if most and len(groups) > most.get(kind, 0):
            joined = [groups[i :: most[kind]] for i in range(most.get(kind, 0))]
            groups = [(" and ".join(n for n, _ in some), np.any([out for _, out in some], axis=0)) for some in joined]
        made += [(kind, name, out) for name, out in groups]
    return made


def kinds_of(test: pd.DataFrame, train: pd.DataFrame, kind: str) -> np.ndarray:
    """The kind of question that each row left out is, "" where it is none of its fold's (a card that went with its engine)."""
    known = lambda *columns: test[list(columns)].apply(tuple, axis=1).isin(set(train[list(columns)].itertuples(index=False, name=None)))  # noqa: E731
    seen = known("chip", "engine").to_numpy()
    if kind == "new_engine":
        return np.where(test["chip"].isin(train["chip"]), "new_engine", "new_both")
    if kind == "new_card":
        return np.where(test["engine"].isin(train["engine"]), kind, "")
    same = known("gpu", "engine", "shape")
    named = {"known": np.where(same, kind, ""), "session": np.where(same, "known", "new_model")}.get(kind, kind)
    return np.where(seen, named, "")


def errors_of(rows: pd.DataFrame, fold: tuple[str, str, np.ndarray], form: str | Callable) -> pd.DataFrame:
    """Errors of one fold by one form (of FORMS, or a fit), one row a row left out: kind, group, engine, gpu, log of predicted over measured
    `energy`, `throughput` and `power` with the predicted `sd_...`, and the measured log energy."""
    kind, group, out = fold
    train, test = rows[~out], rows[out]
    named = kinds_of(test, train, kind)
    if not (named != "").any() or len(train) < 50:
        return pd.DataFrame()
    said = (form if callable(form) else FORMS[form])(train).log_predictions(test)
    measured = pd.DataFrame({"throughput": np.log(test["throughput_tok_s"]).where(test["vague"] == 1), "power": np.log(test["power_w"])})
    measured["energy"] = measured["power"] - measured["throughput"]
    errors = (said[list(TARGETS)] - measured[list(TARGETS)]).assign(kind=named, group=group, engine=test["engine"], gpu=test["gpu"])
    sd = {f"sd_{t}": said.get(f"sd_{t}", 0.0) for t in TARGETS}
    return errors.assign(measured=measured["energy"], form=getattr(form, "__name__", form), **sd)[named != ""]


def choice(rows: pd.DataFrame, kind: str = "") -> str:
    """The form with the least mean error of the energy in folds inside `rows` (of one kind if named), every group and then every kind
    counted alike."""
    scores, inner = {}, [fold for fold in folds(rows, INNER) if kind in ("", fold[0])]
    for form in FORMS:
        errors = pd.concat([errors_of(rows, fold, form) for fold in inner])
        if "energy" not in errors:  # too few rows are left for a fold of this kind
            return next(iter(FORMS))
        scores[form] = errors["energy"].abs().groupby([errors["kind"], errors["group"]]).mean().groupby("kind").mean().mean()
    return min(scores, key=scores.get)


def fold_errors(rows: pd.DataFrame, form: str | Callable | dict[str, str] | None = None) -> pd.DataFrame:
    """`errors_of` every fold by `form`: one for all, one a fold by "kind group", or None: chosen inside each fold's training rows."""
    parts = []
    for fold in folds(rows):
        name = form.get(" ".join(fold[:2]), "physics") if isinstance(form, dict) else form
        name = name or choice(rows[~fold[2]], "known" if fold[0] == "session" else fold[0])
        parts.append(errors_of(rows, fold, name).assign(fold=" ".join(fold[:2])))
    return pd.concat([p for p in parts if "energy" in p], ignore_index=True)


def quantile(errors: pd.DataFrame, target: str, share: float) -> float:
    """The `share` quantile of absolute errors [log] with every group counted alike, however many rows it has."""
    known = errors[errors[target].notna()]
    weight = 1 / known.groupby("group")[target].transform("size").to_numpy(float)
    size = known[target].abs().to_numpy()
    order = np.argsort(size)
    reached = np.cumsum(weight[order]) / weight.sum()
    return float(size[order][min(np.searchsorted(reached, share), len(size) - 1)])


def stated(errors: pd.DataFrame) -> dict[str, dict]:
    """kind -> target -> n, groups, median and p90 (fractions), `factor` (half width over `scale`), median `width` (high / low), `coverage`.

    Coverage of a group is by the factor that the other groups give.
    """
    out: dict[str, dict] = {kind: {} for kind in KINDS}
    for kind in KINDS:
        for target in TARGETS:
            pool = errors[errors["kind"].isin(UNSEEN if kind in UNSEEN else (kind,)) & errors[target].notna()]
            by = scale(pool["kind"], pool[f"sd_{target}"])
            pool = pool.assign(by=by, z=pool[target].abs() / by)
            part = pool[pool["kind"] == kind]
            if part.empty:
                continue
            factor, inside = quantile(pool, "z", CONFIDENCE[target]), []
            for group, own in part.groupby("group"):
                others = pool[pool["group"] != group]
                inside += list(own["z"] <= quantile(others, "z", CONFIDENCE[target])) if len(others) else []
            size = np.expm1(part[target].abs())
            out[kind][target] = {
                "n": len(part), "groups": int(part["group"].nunique()), "median": float(size.median()), "p90": float(size.quantile(0.9)),
                "factor": factor, "width": float(np.median(np.exp(2 * factor * part["by"]))),
                "coverage": float(np.mean(inside)) if inside else None,
            }  # fmt: skip
    return out


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
        moved = lambda r: (r["dense_gb"] + r["expert_gb"] + r["cache_gb"]).to_numpy(float)  # noqa: E731
        other = lambda c: rows[c].to_numpy()[:, None] != self.rows[c].to_numpy()  # noqa: E731
        apart = lambda x, y: np.abs(np.log(np.asarray(x, float)[:, None] / np.asarray(y, float)))  # noqa: E731
        far = 5.0 * other("engine") + 2.0 * other("quantization") + other("chip") + apart(moved(rows), moved(self.rows))
        best = self.rows.iloc[(far + apart(rows["batch"], self.rows["batch"]) + apart(rows["n"], self.rows["n"])).argmin(axis=1)]
        roof = lambda r: moved(r) / (r["n"] * r["bandwidth_gb_s"]).to_numpy(float)  # noqa: E731
        rate = np.log(rows["batch"].to_numpy(float) / (best["step_s"].to_numpy(float) * roof(rows) / roof(best)))
        power = np.log(best["power_share"].to_numpy(float) * (rows["n"] * rows["tdp_w"]).to_numpy(float))
        return pd.DataFrame({"energy": power - rate, "throughput": rate, "power": power}, index=rows.index)


class Ratio(Nearest):
    """Baseline that knows the answers: the nearest measured row, and for each card the one factor that suits its left-out rows best."""

    def log_predictions(self, rows: pd.DataFrame) -> pd.DataFrame:
        """As `Fit.log_predictions`."""
        said = super().log_predictions(rows)
        off = (
            pd.DataFrame({"power": np.log(rows["power_w"]), "throughput": np.log(rows["throughput_tok_s"])}) - said[["power", "throughput"]]
        )
        for name in off:
            said[name] += off[name].groupby(rows["gpu"]).transform("median").fillna(0.0)
        return said.assign(energy=said["power"] - said["throughput"])


class Trees(LogLinear):
    """Baseline: 100 extremely randomized trees on the ridge regression's features (Geurts, Ernst, Wehenkel 2006)."""

    def __init__(self, rows: pd.DataFrame):
        from sklearn.ensemble import ExtraTreesRegressor

        super().__init__(rows)
        x, self.forests = self._design(rows), {}
        for name, y in (("step", np.log(rows["step_s"])), ("share", np.log(rows["power_share"]))):
            use = y.notna().to_numpy()
            self.forests[name] = ExtraTreesRegressor(100, min_samples_leaf=2, random_state=0).fit(x[use], y[use])

    def log_predictions(self, rows: pd.DataFrame) -> pd.DataFrame:
        """As `Fit.log_predictions`."""
        step, share = (self.forests[name].predict(self._design(rows)) for name in ("step", "share"))
        rate, power = np.log(rows["batch"].to_numpy(float)) - step, share + np.log((rows["n"] * rows["tdp_w"]).to_numpy(float))
        return pd.DataFrame({"energy": power - rate, "throughput": rate, "power": power}, index=rows.index)


BASELINES = (LogLinear, Nearest, Ratio, Trees)


def draw(errors: pd.DataFrame, ax) -> list:
    """Draw predicted against measured energy of rows left out (`fold_errors`), a colour a kind, on `ax`; returns the artists.

    `measured` is the log of the measured energy per token [J]; the line is equality.
    """
    known = errors[errors["energy"].notna()]
    kinds = [(k, known[known["kind"] == k]) for k in KINDS]
    artists = [
        ax.scatter(np.exp(r["measured"]), np.exp(r["measured"] + r["energy"]), s=6, alpha=0.5, label=k.replace("_", " "))
        for k, r in kinds
        if len(r)
    ]
    ends = np.exp([known["measured"].min(), known["measured"].max()])
    artists += ax.plot(ends, ends, color="0.4", linewidth=1)
    ax.set(xscale="log", yscale="log", xlabel="measured energy per output token [J]", ylabel="predicted [J]")
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_formatter("{x:g}")
    ax.legend()
    return artists


def draw_residuals(errors: pd.DataFrame, ax) -> list:
    """Draw predicted over measured energy of rows left out, every kind's in order of size, on `ax`; returns the artists.

    A thin bar is the typical 95 % interval of its kind (`stated_errors`).
    """
    known, artists = errors[errors["energy"].notna()], [ax.axhline(1, color="0.4", linewidth=1)]
    kinds = [k for k in KINDS if (known["kind"] == k).any()]
    for at, kind in enumerate(kinds):
        ratio = np.exp(np.sort(known.loc[known["kind"] == kind, "energy"]))
        artists.append(ax.scatter(at + np.linspace(-0.4, 0.4, len(ratio)), ratio, s=6, alpha=0.5))
        half = np.sqrt(predictor.stated_errors()[kind]["energy"]["width"])
        artists += ax.plot([at, at], [1 / half, half], color="0.2", linewidth=1, marker="_")
    ax.set(yscale="log", ylabel="predicted / measured energy", yticks=[0.5, 0.7, 1, 1.4, 2], yticklabels=["0.5", "0.7", "1", "1.4", "2"])
    ax.minorticks_off()
    ax.set_xticks(range(len(kinds)), [k.replace("_", chr(10)) for k in kinds])
    return artists


def against(name: str) -> dict:
    """How stored predictions fare against rows measured on their card: n, median relative error, intervals that hold."""
    stored = json.loads((FOLDER / f"{name}.json").read_text())
    rows = sources.evidence()
    rows = rows[(rows["gpu"] == name) & (rows["basis"] == "measured")]
    ratios, inside = [], 0
    for p in stored["predictions"]:
        shape, e = catalog.shape(p["model"]).key, p["energy_j_per_token"]
        same = rows[(rows["batch_size"] == p["batch_size"]) & (rows["quantization"] == p["quantization"])]
        for measured in same.loc[[catalog.shape(m).key == shape for m in same["model"]], "energy_j_per_token"]:
            ratios.append(abs(np.log(e["value"] / measured)))
            inside += e["low"] <= measured <= e["high"]
    median = float(np.expm1(np.median(ratios))) if ratios else None
    found = {"written": stored["written"], "predictions": len(stored["predictions"])}
    return found | {"measured": len(ratios), "median_error": median, "inside_interval": inside}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--figure")
    arguments = parser.parse_args()
    rows, shipped = sources.learned(), json.loads(predictor.SHIPPED.read_text())
    result = {"benchmark": "prediction", "rows": len(sources.evidence()), "learned_from": len(rows), "cards": sorted(rows["gpu"].unique())}
    form = shipped["form"] if arguments.quick else choice(rows)
    errors = fold_errors(rows, shipped["chosen"] if arguments.quick else None)
    chosen = dict(sorted(errors.drop_duplicates("fold").set_index("fold")["form"].items()))
    result |= {"form": form, "chosen": errors.drop_duplicates("fold")["form"].value_counts().to_dict(), "stated": stated(errors)}
    if arguments.write:
        document = predictor.fitted(rows, form) | {"chosen": chosen, "stated": result["stated"]}
        predictor.SHIPPED.write_text(json.dumps(document, indent=0) + "\n")
    if arguments.figure:
        import matplotlib.pyplot as plt

        from eai.plots import style

        with plt.rc_context(style.LOOK):
            figure, axes = plt.subplots(1, 2, figsize=(style.WIDTHS_IN["page"], 3.2), layout="constrained")
            draw(errors, axes[0])
            draw_residuals(errors, axes[1])
            figure.savefig(arguments.figure, dpi=150, metadata=style.NOT_GIVEN["png"])
    if not arguments.quick:
        result["forms"] = {name: stated(fold_errors(rows, name)) for name in FORMS}
        result["baselines"] = {form.__name__: stated(fold_errors(rows, form)) for form in BASELINES}
    result["written_beforehand"] = {path.stem: against(path.stem) for path in sorted(FOLDER.glob("*.json"))}
    print(json.dumps(result))


if __name__ == "__main__":
    main()
