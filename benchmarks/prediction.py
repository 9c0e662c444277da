"""How wrong predictions are for groups that the fit has not seen, for the predictor and two baselines; prints one JSON line.

    python benchmarks/prediction.py [--quick] [--write] [--figure predicted.svg]

`--write` stores the constants and the errors that every answer states in data/predictor.json: do it after a change of the evidence, the
catalog or the physics. `--quick` (two minutes) keeps the form that each fold chose the last time and leaves the other forms out; without it
the choice is made anew inside every fold's training rows (half an hour). The predictions in benchmarks/predictions/ were written down
before anybody measured the card: once a campaign in data/measured holds it, the line says how far off they were.
"""

import argparse
import json
import os
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # small systems: threads only wait for each other

import numpy as np

from eai import catalog
from eai.predict import accuracy, predictor, sources

FOLDER = Path(__file__).parent / "predictions"


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

        figure, axes = plt.subplots(1, 2, figsize=(10, 4.5))
        predictor.draw(errors, axes[0])
        predictor.draw_residuals(errors, axes[1])
        figure.tight_layout()
        figure.savefig(arguments.figure, metadata={"Date": None})
    if not arguments.quick:
        result["forms"] = {name: accuracy.stated(accuracy.fold_errors(rows, name)) for name in accuracy.FORMS}
    result["written_beforehand"] = {path.stem: against(path.stem) for path in sorted(FOLDER.glob("*.json"))}
    print(json.dumps(result))


if __name__ == "__main__":
    main()
