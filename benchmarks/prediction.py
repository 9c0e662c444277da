"""How wrong the predictions are, fold by fold, and what they say of a card that nobody measured yet; prints one JSON line.

    python benchmarks/prediction.py [--gpu h200_sxm] [--write]

`--write` stores the predictions for that card, dated, in benchmarks/predictions/<gpu>.json, before anybody measures it. Once a campaign in
data/measured holds the card, the line says how far off they were, and how many measurements their intervals hold.
"""

import argparse
import datetime
import json
from pathlib import Path

import numpy as np

from eai import catalog
from eai.errors import UserError
from eai.predict import clean_rows, fold_errors, predict
from eai.predict.features import shape
from eai.predict.folds import LEFT_OUT, TARGETS, Judged, coverage, overall
from eai.predict.models import FITS
from eai.predict.rows import all_rows

MODELS = (
    "mistral-7b-instruct-v0.2",
    "qwen2.5-7b-instruct",
    "qwen2.5-1.5b-instruct",
    "qwen2.5-3b-instruct",
    "yi-1.5-9b",
    "qwen2.5-14b-instruct",
)
STRATEGIES = ("fp16", "bf16", "int8_default", "int8_pure", "nf4", "nf4_dq")
BATCHES = (1, 4, 8, 16, 32, 64)
LENGTHS = (256, 256)
FOLDER = Path(__file__).parent / "predictions"


def accuracy(rows) -> list[dict]:
    """The leave-one-out errors of both models for energy and time, with the coverage of their intervals."""
    found = []
    for target in TARGETS:
        for left_out in LEFT_OUT:
            for model in FITS:
                errors = fold_errors(rows, left_out, model, target)
                found.append({"target": target, "left_out": left_out, "model": model, **overall(errors), "coverage": coverage(errors)})
    return found


def forecast(gpu: str, known: Judged) -> list[dict]:
    """The predictions of every configuration of the grid that the rows support."""
    made = []
    for model in MODELS:
        for quantization in STRATEGIES:
            for batch in BATCHES:
                try:
                    p = predict(gpu, model, quantization, batch, *LENGTHS, known=known)
                except UserError:
                    continue
                figures = {"energy_j_per_token": p.energy_j_per_token.to_json(), "throughput_tok_s": p.throughput_tok_s.to_json()}
                made.append({"model": model, "quantization": quantization, "batch_size": batch, **figures})
    return made


def against(gpu: str, predictions: list[dict]) -> dict:
    """How the stored predictions fare against rows measured on the card: n, median relative error, intervals that hold."""
    rows = all_rows("gross")
    rows = rows[(rows["gpu"] == gpu) & (rows["basis"] == "measured") & (rows["why"] == "")]
    ratios, inside = [], 0
    for p in predictions:
        same = rows[(rows["shape"] == shape(catalog.model(p["model"]))) & (rows["batch_size"] == p["batch_size"])]
        same = same[same["quantization_as_named"] == p["quantization"]]
        for measured in same["energy_j_per_token"]:
            e = p["energy_j_per_token"]
            ratios.append(abs(np.log(e["value"] / measured)))
            inside += e["low"] <= measured <= e["high"]
    median = float(np.expm1(np.median(ratios))) if ratios else None
    return {"measured": len(ratios), "median_error": median, "inside_interval": inside}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gpu", default="h200_sxm")
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    gpu, published = catalog.gpu(arguments.gpu).slug, clean_rows("gross", [])
    path = FOLDER / f"{gpu}.json"
    if arguments.write:
        document = {"gpu": gpu, "written": datetime.date.today().isoformat(), "learned_from": len(published), "input_tokens": LENGTHS[0],
                    "output_tokens": LENGTHS[1], "accounting": "gross", "predictions": forecast(gpu, Judged(published))}  # fmt: skip
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(document, indent=1) + "\n")
    stored = json.loads(path.read_text()) if path.exists() else {"predictions": [], "written": None}
    result = {"benchmark": "prediction", "rows": len(published), "cards": sorted(set(published["gpu"])), "accuracy": accuracy(published)}
    shown = against(gpu, stored["predictions"])
    print(json.dumps(result | {"gpu": gpu, "written": stored["written"], "predictions": len(stored["predictions"]), "against": shown}))


if __name__ == "__main__":
    main()
