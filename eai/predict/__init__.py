"""Energy and speed of configurations that nobody measured, each with an interval from its own leave-one-out errors.

rows         the clean rows that may be learned from, one accounting at a time, and what was left out and why
features     what a configuration must do: layers, linear modules, bytes and flops of a decode step
models       the two models: physics (energy and time of one decode step) and a log-linear baseline
support      where a prediction may be asked for: strategies, sizes, batches and cards that the rows have seen
folds        leave one GPU, model or session out: the errors that intervals are made of
prediction   a configuration -> energy per token, throughput and power with intervals, or a refusal that says what to measure
"""

from eai.predict.folds import fold_errors, fold_table
from eai.predict.prediction import Prediction, predict
from eai.predict.rows import clean_rows, left_out

__all__ = ["Prediction", "clean_rows", "fold_errors", "fold_table", "left_out", "predict"]
