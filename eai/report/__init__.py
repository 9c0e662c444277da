"""Report, talk and page to explore, in English or Chinese: every sentence and number comes from a written table.

pages        what a document is made of, translations, numbers, and the templates' engines that escape every value
facts        the written tables of an experiment, gathered once; what to choose by its paired comparisons
sections     facts -> report        talk      facts -> seven slides, what is said on them, cheat sheet
study        the published study as report and talk, with the verdicts on its claims
figures      the figures in the language of the page
publishing   writes all pages       explore   one self-contained page of rows to filter, plot and download
"""

from eai.report.facts import Facts, gather
from eai.report.publishing import export

__all__ = ["Facts", "export", "gather"]
