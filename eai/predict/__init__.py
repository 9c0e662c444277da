"""Energy, power and speed of configurations that nobody measured, each with an interval from errors on groups never seen.

predictor    predict(table): energy, power, throughput, latency with intervals; the user's own rows; the errors by kind of question
sources      all rows that are learned from, published and measured, in one tidy table
work         what a configuration must move, compute and launch, from shapes and datasheets
physics      time and power of a step: constants of engines and formats, shrunken effects of chips and sessions
accuracy     folds that leave out models, cards and engines; baselines; conformal intervals by kind
rows         EcoCompute's sessions and measured experiments, checked row by row     features   what their rows must do
"""

import importlib

_HOME = {"predict": "predictor", "stated_errors": "predictor", "evidence": "sources", "clean_rows": "rows", "left_out": "rows"}
"""Public name -> its module, imported when asked for: start-up stays short."""

__all__ = ["clean_rows", "evidence", "left_out", "predict", "stated_errors"]


def __getattr__(name: str):
    if name not in _HOME:
        raise AttributeError(f"module {__name__} has no attribute {name}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
