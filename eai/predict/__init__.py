"""Energy, power and speed of configurations that nobody measured, each with an interval from errors on groups never seen.

predictor    predict(table): energy, power, throughput, latency with intervals; the user's own rows; the errors by kind of question
sources      all rows that are learned from, published and measured, in one tidy table
work         what a configuration must move, compute and launch, from shapes and datasheets
physics      time and power of a step: constants of engines and formats, shrunken effects of chips and sessions
accuracy     folds that leave out models, cards and engines; baselines; conformal intervals by kind
rows, features, models, support, folds, prediction    the rows of pairs that the advisor compares, with their two models
"""

import pandas as pd

from eai.predict.folds import fold_errors, fold_table
from eai.predict.prediction import Prediction
from eai.predict.prediction import predict as predict_one
from eai.predict.predictor import stated_errors
from eai.predict.rows import clean_rows, left_out
from eai.predict.sources import evidence

__all__ = ["Prediction", "clean_rows", "evidence", "fold_errors", "fold_table", "left_out", "predict", "predict_one", "stated_errors"]


def predict(table, *arguments, **options):
    """`predictor.predict` of a table (DataFrame); of a card and a model, `prediction.predict`."""
    from eai.predict import predictor

    return predictor.predict(table, *arguments, **options) if isinstance(table, pd.DataFrame) else predict_one(table, *arguments, **options)
