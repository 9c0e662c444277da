"""Report, talk and page to explore, in English or Chinese: every sentence and number comes from a written table.

pages        what a document is made of, translations, numbers, and the templates' engines that escape every value
facts        the written tables of an experiment, gathered once; what to choose by its paired comparisons
sections     facts -> report        talk      facts -> seven slides, what is said on them, cheat sheet
study        the published study as report and talk, with the verdicts on its claims
figures      the figures in the language of the page
publishing   writes all pages       explore   one self-contained page of rows to filter, plot and download
"""

from importlib import import_module

_WHERE = {"Facts": "facts", "gather": "facts", "export": "publishing"}
__all__ = ["Facts", "export", "gather"]


def __getattr__(name: str):
    """What the room offers, imported on first use: the command line lists its commands without it."""
    if name in _WHERE:
        return getattr(import_module(f"eai.report.{_WHERE[name]}"), name)
    raise AttributeError(f"module 'eai.report' has no attribute '{name}'")
