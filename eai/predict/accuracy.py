"""How wrong predictions are for what nobody measured: whole groups of rows left out, the model fitted without them, and the errors kept.

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

from collections.abc import Callable
from functools import partial

import numpy as np
import pandas as pd

from eai.predict.physics import Fit

KINDS = ("known", "new_model", "new_card", "new_engine", "new_both")
UNSEEN = ("new_engine", "new_both")
"""Kinds without a row of the engine: few engines were measured, so their intervals come from the errors of both."""
TARGETS = ("energy", "throughput", "power")
FIFTHS, FLOOR_SD = 5, 0.25
CONFIDENCE = {"energy": 0.96, "throughput": 0.95, "power": 0.96}
INNER = {"known": 1, "new_model": 2, "new_card": 2, "new_engine": 3}
"""Folds of each kind inside the training rows that choose the form: groups are joined until there are so many."""

FORMS = {
    "physics": Fit.to,
    "physics, narrow priors": partial(Fit.to, widths=0.5),
    "physics, wide priors": partial(Fit.to, widths=2.0),
}
"""Form -> its fit to rows. benchmarks/prediction.py has the baselines."""


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


def scale(kind: pd.Series, sd: pd.Series) -> np.ndarray:
    """What errors are divided by: the prediction's standard deviation [log] with a floor, 1 for an engine that no row measures."""
    return np.where(kind.isin(UNSEEN), 1.0, np.hypot(sd, FLOOR_SD))


def half_width(errors: dict[str, dict], kind: pd.Series, target: str, sd: pd.Series) -> np.ndarray:
    """Half the width [log] of each row's interval by the `stated` errors of its kind; a new engine's is never below that of a new model,
    with a new card never below that of a new card."""
    by = lambda kinds: kinds.map({k: v[target]["factor"] for k, v in errors.items()}).to_numpy(float) * scale(kinds, sd)  # noqa: E731
    return np.maximum(by(kind), by(kind.replace({"new_engine": "new_model", "new_both": "new_card"})))


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
