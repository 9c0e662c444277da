"""How wrong predictions are for groups that the fit has not seen, for the predictor and four baselines; prints one JSON line.

    python benchmarks/prediction.py [--quick] [--write] [--figure docs/prediction.png]

`--write` stores the constants and the errors that every answer states in data/predictor.json: do it after a change of the evidence, the
catalog or the physics. `--quick` (two minutes) keeps the form that each fold chose the last time and leaves the other forms and the
baselines out; without it the choice is made anew inside every fold's training rows (ten minutes). The predictions in
benchmarks/predictions/ were written down before anybody measured the card: once a campaign in data/measured holds it, the line says how far
off they were.
"""

import argparse
import json
import os
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # small systems: threads only wait for each other

import numpy as np
import pandas as pd

from eai import catalog
from eai.predict import accuracy, predictor, sources

FOLDER = Path(__file__).parent / "predictions"


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
    """Draw predicted against measured energy of rows left out (`accuracy.fold_errors`), a colour a kind, on `ax`; returns the artists.

    `measured` is the log of the measured energy per token [J]; the line is equality.
    """
    known = errors[errors["energy"].notna()]
    kinds = [(k, known[known["kind"] == k]) for k in accuracy.KINDS]
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
    kinds = [k for k in accuracy.KINDS if (known["kind"] == k).any()]
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
    form = shipped["form"] if arguments.quick else accuracy.choice(rows)
    errors = accuracy.fold_errors(rows, shipped["chosen"] if arguments.quick else None)
    chosen = dict(sorted(errors.drop_duplicates("fold").set_index("fold")["form"].items()))
    result |= {"form": form, "chosen": errors.drop_duplicates("fold")["form"].value_counts().to_dict(), "stated": accuracy.stated(errors)}
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
        result["forms"] = {name: accuracy.stated(accuracy.fold_errors(rows, name)) for name in accuracy.FORMS}
        result["baselines"] = {form.__name__: accuracy.stated(accuracy.fold_errors(rows, form)) for form in BASELINES}
    result["written_beforehand"] = {path.stem: against(path.stem) for path in sorted(FOLDER.glob("*.json"))}
    print(json.dumps(result))


if __name__ == "__main__":
    main()
