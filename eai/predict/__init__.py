"""Energy, power and speed of configurations that nobody measured, each with an interval from errors on groups never seen.

predictor    predict(table): energy, power, throughput, latency with intervals; the user's own rows; the errors by kind of question
sources      all rows that are learned from, published and measured, in one tidy table
work         what a configuration must move, compute and launch, from shapes and datasheets
physics      time and power of a step: constants of engines and formats, shrunken effects of chips and sessions
accuracy     folds that leave out models, cards and engines; baselines; conformal intervals by kind
rows, features, models, support, folds, prediction    the rows of pairs that the advisor compares, with their two models
"""

import importlib

_HOME = {
    "Prediction": ("prediction", "Prediction"),
    "clean_rows": ("rows", "clean_rows"),
    "evidence": ("sources", "evidence"),
    "fold_errors": ("folds", "fold_errors"),
    "fold_table": ("folds", "fold_table"),
    "left_out": ("rows", "left_out"),
    "predict_one": ("prediction", "predict"),
    "stated_errors": ("predictor", "stated_errors"),
}
"""Public name -> (module, its name there), imported when asked for: the folds need scipy.stats, a second of start-up."""

__all__ = ["Prediction", "clean_rows", "evidence", "fold_errors", "fold_table", "left_out", "predict", "predict_one", "stated_errors"]


def __getattr__(name: str):
    if name not in _HOME:
        raise AttributeError(f"module {__name__} has no attribute {name}")
    module, own = _HOME[name]
    return getattr(importlib.import_module(f"{__name__}.{module}"), own)


def predict(table, *arguments, **options):
    """`predictor.predict` of a table (DataFrame); of a card and a model, `prediction.predict`."""
    import pandas as pd

    if isinstance(table, pd.DataFrame):
        from eai.predict import predictor

        return predictor.predict(table, *arguments, **options)
    from eai.predict import prediction

    return prediction.predict(table, *arguments, **options)
