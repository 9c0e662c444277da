"""One self-contained page to explore rows of energy: filters, limits, a plot with intervals on hover, a sortable table, CSV.

Plotly draws it: the package carries its script, so the page fetches nothing, and its WebGL scatter takes 20,000 points; Vega-Altair
draws on a canvas, slower at that number, and needs a second package to inline its scripts. Values are data and text, never markup.
"""

import json
import os
import re
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import markupsafe
import numpy as np
import pandas as pd

from eai import __version__, tables
from eai.analyze.selection import ENDS
from eai.errors import UserError
from eai.report.facts import columns
from eai.report.pages import Words, asset, page, policy

TEXTS = ("source", "basis", "card", "model", "engine", "strategy", "batch", "task", "unit", "lengths", "accounting", "gate", "doubt",
         "link", "where")  # fmt: skip
NUMBERS = ("energy_j", "energy_j_low", "energy_j_high", "throughput_per_s", "token_s", "latency_s", "score", "score_low", "score_high",
           "memory_gb", "gpus", "n")  # fmt: skip
LINK = re.compile(r"(?:https?://)?((?:github\.com|doi\.org)/[\w./~-]+)|DOI (10\.\S+)")
GRID = {
    "model": ("qwen2.5-7b-instruct", "mistral-7b-instruct-v0.2"),
    "quantization": ("fp16", "int8_default", "nf4"),
    "batch_size": (1, 8),
}
SAID = re.compile(r'\btr\("([^"]+)"')
KNOWN = ("basis", "source", "card", "model", "engine", "strategy", "batch", "task", "accounting", "lengths", "measured", "published",
         "predicted", "estimated", "simulated", "token", "item", "not stated", "ok", "noisy", "rejected")  # fmt: skip
"""Words of the table itself that have a translation: heads, bases, units."""
BUNDLE = re.compile(
    r"(/\*.*?\*/)\s*\(\s*function\(root, factory\) .*?(\"use strict\";)"
    r"(var Plotly=.*)window\.Plotly = Plotly;\s*return Plotly;\s*}\)\);?\s*$",
    re.S,
)
"""Plotly inside the wrapper for module loaders, which makes a browser parse all of it once more: a quarter of the time to open."""
ENERGIES = (("energy_j_per_token", "energy_std_j_per_token", 1, "token"),
            ("energy_j_per_1k_tok", "energy_std_j_per_1k_tok", 1e-3, "token"), ("energy_wh", "", 3600, "task"))  # fmt: skip
"""Columns of a published energy and of its standard deviation, what makes them joules, and what it is per."""
STATED = ("batch_size", "throughput_tok_s", "n_runs", "input_tokens", "output_tokens", "num_gpus", "latency_s", "accuracy_pct", "memory_gb")
PLACE = re.compile(r"(?:(?P<repository>[\w.-]+): )?(?P<path>[^\s:]+) at (?P<commit>[0-9a-f]{7,40})")


def explore(
    experiments: Iterable[str | Path], evidence: bool = False, predicted: bool = False, out: str | Path = "explore.html",
    say: Callable[[str], None] | None = None, language: str = "en",
) -> dict:  # fmt: skip
    """Write the page of these experiments, of the published evidence and of predictions; returns `{file, rows, sources, bases, left_out}`.

    `left_out`: rows without an energy, and experiments' rows without a usable window. Raises UserError where there is no row, an
    experiment has no summary, or the file cannot be written.
    """
    target, say, t = Path(out), say or (lambda line: None), Words(language)
    wanted = {f"experiment {e}": partial(of_experiment, e, target) for e in experiments}
    wanted |= ({"published evidence": of_evidence} if evidence else {}) | ({"predictions": of_predictions} if predicted else {})
    parts = [pd.DataFrame(columns=[*TEXTS, *NUMBERS])]
    for name, rows in wanted.items():
        say(name)
        parts.append(rows())
    table = pd.concat([part for part in parts if len(part)] or parts, ignore_index=True)
    usable = table[table["energy_j"].notna() & (table["energy_j"] > 0)].reset_index(drop=True)
    if usable.empty:
        wants = "an experiment with a summary, --evidence or --predicted"
        raise UserError("no row with an energy", wants, "run the analyze notebook first")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(html(usable, t), encoding="utf-8")
    except OSError as error:
        raise UserError(f"{target}: {error.strerror}", "a file that can be written") from None
    return {
        "file": str(target), "rows": len(usable), "sources": list(dict.fromkeys(usable["source"])),
        "bases": {str(k): int(v) for k, v in usable["basis"].value_counts().items()}, "left_out": len(table) - len(usable),
    }  # fmt: skip


def html(table: pd.DataFrame, t: Words | None = None) -> str:
    """The page of a table with the columns TEXTS and NUMBERS, in a language."""
    from plotly.offline import get_plotlyjs

    t = t or Words("en")
    bundle = BUNDLE.sub(r"\1\2Error.stackTraceLimit = 0;\3", scatter_alone(get_plotlyjs()))
    scripts = (markupsafe.Markup(bundle), asset("explore.js"), asset("drawn.js"))
    words = {} if t.language == "en" else {word: t(word) for word in (*KNOWN, *SAID.findall(scripts[1]))}
    return page("explore.html", t, scripts=scripts, csp=policy(*scripts, more=" 'unsafe-eval'"), lexicon=inert(words),
                data=inert(coded(table)), version=__version__, rows=len(table))  # fmt: skip


def scatter_alone(plotly: str) -> str:
    """Plotly that registers one more kind of trace, WebGL's scatter, instead of fifty: setting up maps and 3D takes a third of the time to
    open. The kind is found by its name among the modules; Plotly stays as it is where none is found.
    """
    listed = max(re.findall(r"\.register\(\[((?:[\w$]+\(\),?)+)\]\)", plotly), key=len, default="")
    called, begins = re.compile(r"([\w$]+)\(\)"), dict(re.findall(r"var ([\w$]+)=(?=([\w$]+\(\(.{0,150}))", plotly))

    def is_wanted(module: str, depth: int = 3) -> bool:
        text = begins.get(module, "")
        return 'name:"scattergl"' in text or (depth > 1 and any(is_wanted(m, depth - 1) for m in called.findall(text)))

    wanted = [module for module in called.findall(listed) if is_wanted(module)]
    return plotly.replace(f"[{listed}]", f"[{','.join(f'{m}()' for m in wanted)}]", 1) if wanted else plotly


def coded(table: pd.DataFrame) -> dict[str, object]:
    """The table by column, texts by their place in a list of levels."""
    data: dict[str, object] = {}
    for name in TEXTS:
        codes, levels = pd.factorize(table[name].fillna("").astype(str))
        data[name] = {"levels": list(levels), "codes": codes.tolist()}
    for name in NUMBERS:
        data[name] = [None if pd.isna(v) else float(f"{v:.6g}") for v in pd.to_numeric(table[name], errors="coerce")]
    return data


def inert(value: dict) -> markupsafe.Markup:
    """JSON with nothing in it that could end a script element."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return markupsafe.Markup(re.sub("[<>&\u2028\u2029]", lambda m: f"\\u{ord(m[0]):04x}", text))


def framed(table: pd.DataFrame, **given: object) -> pd.DataFrame:
    """The columns of the page, those that are not given empty."""
    empty = dict.fromkeys(TEXTS, "") | dict.fromkeys(NUMBERS, np.nan)
    return pd.DataFrame(empty | given, index=table.index)[[*TEXTS, *NUMBERS]]


def of_experiment(experiment: str | Path, target: Path) -> pd.DataFrame:
    """The rows of an experiment's summary and of its server's loads. Raises UserError where there is no summary."""
    root, parts = tables.experiment_dir(experiment), []
    has_loads = (root / "loads.csv").exists()
    for name in ("summary", "loads") if has_loads else ("summary",):
        table = columns(tables.read_result(root, name))
        table = table.assign(line=range(2, len(table) + 2))[table["n_blocks"] > 0]
        if name == "summary" and has_loads:
            table = table[table["load"] == ""]  # its loads stand in the other table, with their waits
        item, speed, own = table["unit"] == "item", table["units_per_s"], table["load"] == ""
        parts.append(framed(
            table, **{f"energy_j{end}": table[f"unit_energy_j{end}"] for end in ENDS}, source=root.name, card=table["gpu"],
            **{c: table[c] for c in ("basis", "engine", "task", "unit")}, model=table["model"].str.rsplit("/", n=1).str[-1],
            strategy=table["quantization"], batch=table["load"].where(~own, table["batch_size"].astype(str)), lengths=lengths(table),
            gate=table.get("gate", ""), accounting=table.get("energy_kind", "") + " " + table["boundary"],
            link=os.path.relpath(root / f"{name}.csv", target.resolve().parent).replace(os.sep, "/"),
            where=name + ".csv:" + table["line"].astype(str), throughput_per_s=speed,
            token_s=table["itl_s"] if "itl_s" in table else (table["batch_size"] / speed).where(~item),
            latency_s=table["latency_s"] if "latency_s" in table else table["batch_size"] * table["output_tokens"].where(~item, 1) / speed,
            **{c: table.get(c) for c in ("score", "score_low", "score_high")}, memory_gb=table.get("memory_peak_gb"), n=table["n_blocks"],
        ))  # fmt: skip
    return pd.concat(parts, ignore_index=True)


def lengths(table: pd.DataFrame) -> pd.Series:
    """`64 in, 16 out`; empty where they are not known or a task's own."""
    into, out = table["input_tokens"], table["output_tokens"]
    texts = [f"{i:g} in, {o:g} out" if pd.notna(i) else f"{o:g} out" for i, o in zip(into, out, strict=True)]
    return pd.Series(texts, index=table.index).where(into.fillna(0).gt(0) | out.fillna(0).gt(0), "")


def of_evidence() -> pd.DataFrame:
    """The rows of every published table that gives an energy for a card and a model; worked examples and single runs are left out."""
    parts = []
    for name in tables.published_names():
        table = tables.read_published(name)
        column, spread, factor, unit = next((found for found in ENERGIES if found[0] in table), [""] * 4)
        if not column or not {"gpu", "model"} <= set(table) or name.endswith(("_runs", "_examples")):
            continue
        known = table.reindex(columns=[*table, *(c for c in STATED if c not in table)])
        energy, speed = factor * known[column], known["throughput_tok_s"]
        half = 1.96 * (factor * known[spread] if spread in known else np.nan) / np.sqrt(known["n_runs"])
        options = table["options"].map(json.loads) if "options" in table else pd.Series([{}] * len(table), index=table.index)
        parts.append(framed(
            table, source=table["source"], basis="published", card=table["gpu"], model=table["model"].str.rsplit("/", n=1).str[-1],
            engine=table.get("engine", "not stated"), strategy=table.get("quantization", "not stated"), unit=unit,
            batch=known["batch_size"].map(lambda b: f"{b:.4g}" if pd.notna(b) else "not stated"), lengths=lengths(known),
            task=table["task"] if "task" in table else options.map(lambda o: str(o.get("load", "generate"))),
            accounting=table.get("accounting", "unknown") + " " + table.get("boundary", pd.Series("", index=table.index)),
            link=links(table), where=[f"{name}.csv:{line}" for line in range(2, len(table) + 2)], doubt=table.get("doubt", ""),
            energy_j=energy, energy_j_low=energy - half, energy_j_high=energy + half, throughput_per_s=speed, gpus=known["num_gpus"],
            token_s=table["itl_s"] if "itl_s" in table else known["batch_size"] / speed, latency_s=known["latency_s"], n=known["n_runs"],
            score=table["accuracy"] if "accuracy" in table else known["accuracy_pct"] / 100, memory_gb=known["memory_gb"],
        ))  # fmt: skip
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=[*TEXTS, *NUMBERS])


def links(table: pd.DataFrame) -> list[str]:
    """Where each row was published: its file at its commit where the location says so, else the address of its source."""
    known, several = {}, set()
    for row in tables.read_published("sources").to_dict("records"):
        found = LINK.search(str(row["locator"]))
        known[row["source"]] = "" if not found else f"https://{found[1]}" if found[1] else f"https://doi.org/{found[2]}"
        several |= {row["source"]} if " and " in str(row["locator"]).partition(",")[0] else set()
    out = []
    for row in table.to_dict("records"):
        root, at = known.get(row.get("source"), ""), PLACE.match(str(row.get("location", "")))
        if at and root.startswith("https://github.com/") and (at["repository"] or row["source"] not in several):
            repository = f"{root.rpartition('/')[0]}/{at['repository']}" if at["repository"] else root
            root = f"{repository}/blob/{at['commit']}/{at['path']}"
        out.append(root)
    return out


def of_predictions() -> pd.DataFrame:
    """Predictions for the cards of the catalog, two models, three strategies and two batch sizes; no energy where one is refused."""
    from eai.predict import predict

    grid = pd.MultiIndex.from_product([tables.read_catalog("gpus")["slug"], *GRID.values()], names=["gpu", *GRID]).to_frame(index=False)
    table = predict(grid.assign(input_tokens=256, output_tokens=256))
    return framed(
        table, **{f"energy_j{end}": table[f"energy_j_per_token{end}"] for end in ENDS}, source="prediction", basis="predicted",
        card=table["gpu"], model=table["model"], engine="transformers", strategy=table["quantization"], gpus=1,
        batch=table["batch_size"].astype(str), task="generate", unit="token", lengths="256 in, 256 out", accounting="gross gpu",
        where="eai.predict", doubt=table["kind"].str.replace("_", " "), throughput_per_s=table["throughput_tok_s"],
        token_s=table["itl_s"], latency_s=256 * table["itl_s"],
    )  # fmt: skip
