"""What the sections share: sentences by key, headings, captions and tables of texts in the language of the report."""

import pandas as pd

from eai import plots
from eai.plots.ratios import names
from eai.report import wording as w
from eai.report.elements import Heading
from eai.report.facts import Facts
from eai.report.format import interval, p_value, short


def cost_words(facts: Facts, language: str, unit: str | None = None) -> str:
    """What is compared, in words that say where the energy comes from and per what: a token, an item of a task."""
    return w.say(w.COST, facts.selection.basis, language).format(unit=unit_word(facts, language, unit))


def unit_word(facts: Facts, language: str, unit: str | None = None) -> str:
    """The unit of work that costs are per; both are named where an experiment has both."""
    units = set(facts.usable["unit"])
    return w.say(w.UNIT, unit or (units.pop() if len(units) == 1 else "both"), language)


def basis_sentence(facts: Facts, language: str) -> str:
    """Where the energy comes from; measured by others where no provenance of ours says so."""
    basis = facts.selection.basis
    return w.say(w.BASIS, "stated" if basis == "measured" and not facts.provenance else basis, language)


def say(key: str, language: str, **values: object) -> str:
    """A sentence of the report, filled in."""
    return w.say(w.SENTENCES, key, language, **values)


def caption(key: str, language: str, **values: object) -> str:
    """The caption of a table, filled in."""
    return w.say(w.CAPTIONS, key, language, **values)


def column(key: str, language: str) -> str:
    """The name of a column."""
    return w.say(w.COLUMNS, key, language)


def head(key: str, language: str, level: int = 2, **values: object) -> Heading:
    """A heading, filled in."""
    return Heading(w.say(w.HEADS, key, language, **values), level)


def cut(table: str, language: str) -> str:
    """What a caption adds where the table is cut; `table` is the file that holds it whole."""
    return say("cut", language, table=table)


def named(columns: dict[str, list], language: str, **values: object) -> pd.DataFrame:
    """A data frame of texts under the language's column names."""
    return pd.DataFrame({column(name, language).format(**values): texts for name, texts in columns.items()})


def first_up(text: str) -> str:
    """The text with its first letter as a capital."""
    return text[:1].upper() + text[1:]


def plain(level: object) -> str:
    """A level as text, a model by its name alone."""
    return short(level) if isinstance(level, str) else str(level)


def picture_caption(table: pd.DataFrame, language: str, drawn: str = "", scores: bool = False) -> str:
    """The sentence under a figure: number of blocks, what the bars are, where the energy comes from; `scores` adds the items."""
    if not w.place(language):
        return plots.caption(table, drawn, scores)
    n = table["n_blocks" if "n_blocks" in table else "n_pairs"]
    blocks = f"{int(n.min())}" if n.min() == n.max() else f"{int(n.min())}-{int(n.max())}"
    basis = w.joined([w.say(w.BASIS_WORD, each, language) for each in sorted(set(table["basis"].dropna()))], language)
    items = table["n_items"].dropna() if scores else pd.Series(dtype=float)
    over = say("over_items", language, items="-".join(dict.fromkeys(f"{n:.0f}" for n in (items.min(), items.max())))) if len(items) else ""
    return w.both(language, over, say("figure_drawn" if drawn else "figure", language, blocks=blocks, basis=basis))


def ratio_table(table: pd.DataFrame, language: str, ratio: str = "ratio_to_baseline", n: str = "n_pairs") -> pd.DataFrame:
    """The texts of a table of ratios."""
    rows = table.to_dict("records")
    columns = {
        "configuration": names(table),
        "ratio": [interval(r, ratio) for r in rows],
        "n": [int(r[n]) for r in rows],
        "p": [p_value(r["p_holm"]) for r in rows],
        "outcome": [w.say(w.OUTCOME, r["outcome"], language) for r in rows],
    }
    return named(columns, language)
