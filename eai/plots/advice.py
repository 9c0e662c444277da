"""Figures of advice: the errors of predictions fold by fold, a ranking with intervals, energy against latency, what widens a bill."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from eai.plots.style import MARKERS, PALETTE, colorbar, plain_ticks, tidy, title, watermark


def fold_errors(errors: pd.DataFrame, ax: Axes) -> list:
    """Draw predicted over measured of every row (eai.predict.fold_errors), a column a fold, a colour a model; a line marks its median.

    A row of refused predictions has no point: the folds' labels say how many were refused.
    """
    tidy(ax, "y")
    folds, models = list(dict.fromkeys(errors["fold"])), sorted(errors["model"].unique())
    artists = [ax.axhline(1.0, color="0.3", linewidth=0.8)]
    for i, model in enumerate(models):
        rows = errors[(errors["model"] == model) & errors["log_error"].notna()]
        place = rows["fold"].map(folds.index) + (i - (len(models) - 1) / 2) * 0.3
        spread = 0.04 * (rows.groupby("fold").cumcount() % 5 - 2)
        style = {"color": PALETTE[i], "marker": MARKERS[i], "s": 12, "alpha": 0.7, "label": model.replace("_", "-")}
        artists.append(ax.scatter(place + spread, np.exp(rows["log_error"]), **style))
        for fold, middle in rows.groupby("fold")["log_error"].median().items():
            x = folds.index(fold) + (i - (len(models) - 1) / 2) * 0.3
            artists.append(ax.plot([x - 0.12, x + 0.12], [np.exp(middle)] * 2, color=PALETTE[i], linewidth=1.6)[0])
    refused = (errors["refused"] != "").groupby(errors["fold"]).sum() // len(models)
    labels = [f"{fold}\n({refused[fold]} refused)" if refused[fold] else fold for fold in folds]
    ax.set_xticks(range(len(folds)), labels, rotation=20 if len(folds) > 4 else 0, ha="right" if len(folds) > 4 else "center")
    ax.set_yscale("log")
    plain_ticks(ax.yaxis)
    ax.set_ylabel("predicted / measured")
    ax.legend(frameon=False, fontsize="small")
    return artists


def ranking(table: pd.DataFrame, ax: Axes, metric: str = "energy_j_per_1k_tok", most: int = 12) -> list:
    """Draw the first `most` entries of a ranking (advise.frames.frame) with intervals; hollow where the accuracy bars a recommendation."""
    tidy(ax, grid="x")
    rows = table.head(most)
    artists = []
    for y, row in enumerate(rows.to_dict("records")):
        color = PALETTE[0] if row["basis"] != "predicted" else PALETTE[1]
        error = [[row[metric] - row[f"{metric}_low"]], [row[f"{metric}_high"] - row[metric]]]
        face = color if row["acceptable"] else "white"
        artists.append(ax.errorbar(row[metric], y, xerr=error, fmt="o", color=color, markerfacecolor=face, markersize=4, capsize=2))
    names = [f"{r['quantization']}, batch {r['batch_size']}  P(best) {r['p_best']:.2f}" for r in rows.to_dict("records")]
    ax.set_yticks(range(len(rows)), names)
    ax.invert_yaxis()
    ax.set_xscale("log")
    plain_ticks(ax.xaxis)
    ax.set_xlabel("energy per 1000 output tokens [J]")
    title(ax, "filled: accuracy known; orange: predicted")
    return artists + watermark(ax, rows)


def choices(table: pd.DataFrame, ax: Axes) -> list:
    """Draw energy against the time of a request, a point as dark as its probability of being on the front; squares: unknown accuracy."""
    tidy(ax, grid="both")
    artists = []
    for acceptable, marker in ((True, "o"), (False, "s")):
        rows = table[table["acceptable"] == acceptable]
        style = {
            "c": rows["p_front"],
            "cmap": "cividis_r",
            "vmin": 0,
            "vmax": 1,
            "s": 28,
            "marker": marker,
            "edgecolors": "black",
            "zorder": 3,
        }
        artists.append(ax.scatter(rows["latency_s"], rows["energy_j_per_1k_tok"], **style))
    for row in table[table["p_front"] >= 0.3].to_dict("records"):
        text = f"{row['quantization']}, {row['batch_size']}"
        artists.append(
            ax.annotate(text, (row["latency_s"], row["energy_j_per_1k_tok"]), textcoords="offset points", xytext=(5, 3), fontsize="small")
        )
    for axis, name in ((ax.xaxis, "x"), (ax.yaxis, "y")):
        getattr(ax, f"set_{name}scale")("log")
        plain_ticks(axis)
    ax.set_xlabel("time of a request [s]")
    ax.set_ylabel("energy per 1000 output tokens [J]")
    colorbar(ax, artists[0], "probability of being on the front")
    return artists + watermark(ax, table)


def shares(parts: dict[str, dict[str, float]], ax: Axes) -> list:
    """Draw, for cost and carbon, each input's share of the variance: what to pin down first."""
    tidy(ax, grid="x")
    artists, inputs = [], list(dict.fromkeys(name for part in parts.values() for name in part))
    for y, part in enumerate(parts.values()):
        left = 0.0
        for name, share in part.items():
            artists.append(ax.barh(y, share, left=left, color=PALETTE[inputs.index(name)], label=name, height=0.5))
            left += share
    ax.set_yticks(range(len(parts)), [name.partition("_")[0] for name in parts])
    ax.set_xlabel("share of the variance")
    handles = dict(zip(*reversed(ax.get_legend_handles_labels()), strict=True))
    ax.legend(
        handles.values(),
        handles.keys(),
        frameon=False,
        fontsize="small",
        ncols=len(handles),
        loc="lower right",
        bbox_to_anchor=(1.05, 1.0),
        columnspacing=1.0,
        handlelength=1.2,
    )
    return artists
