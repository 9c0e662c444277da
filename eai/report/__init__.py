"""A written report and a talk from any experiment, in English or Chinese: every sentence is computed from its tables.

facts        what the tables of an experiment carry, gathered once
elements     prose, lists, tables and pictures that know Markdown and LaTeX
format       numbers as text
wording      the sentences of the report, in both languages     labels  its headings, captions and columns
speech       the sentences of the talk, in both languages
phrases      what the sections share
sections     facts -> sections of the report
causes       its sections on factors, interaction, roofs and disturbances
quality      its sections on scores, what is kept for the energy saved, choices and the Pareto front
slides       facts -> seven slides with a timed speaker script
pages        the page templates: one self-contained HTML page, Markdown, LaTeX, slides
gallery      which notebook draws each figure, from what
publishing   runs the notebooks and exports them with nbconvert
"""

from eai.report.facts import Facts, gather
from eai.report.publishing import export

__all__ = ["Facts", "export", "gather"]
