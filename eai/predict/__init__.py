"""Energy, power and speed of configurations that nobody measured, each with an interval from errors on groups never seen.

predictor    predict(table): energy, power, throughput, latency with intervals; the user's own rows; the errors by kind of question
sources      all rows that are learned from, published and measured, in one tidy table
work         what a configuration must move, compute and launch, from shapes and datasheets
physics      time and power of a step: constants of engines and formats, shrunken effects of chips and sessions, their uncertainty

benchmarks/prediction.py leaves models, cards and engines out, chooses the form inside the rest, and states the errors.
"""

from eai.predict.predictor import predict, stated_errors, wall
from eai.predict.sources import evidence

__all__ = ["evidence", "predict", "stated_errors", "wall"]
