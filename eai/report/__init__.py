"""A written report and a talk from any experiment, in English or Chinese: every sentence is computed from its tables.

facts        what the tables of an experiment carry, gathered once
elements     prose, lists, tables and pictures that know Markdown and LaTeX
format       numbers as text
wording      the sentences of the report, in both languages     labels  its headings, captions and columns
guidance_wording, load_wording   its sentences on what to deploy, and on the loads of a server
speech       the sentences of the talk, in both languages
phrases      what the sections share
sections     facts -> sections of the report
setting      its sections on what was measured, on what, and how
loads        its section on the loads of a server
causes       its sections on factors, interaction, roofs and disturbances
quality      its sections on scores, what is kept for the energy saved, choices and the Pareto front
slides       facts -> seven slides: what each shows
script       what is said on each of them, and in how many seconds
pages        the page templates: one self-contained HTML page, Markdown, LaTeX, slides
gallery      which notebook draws each figure, from what
publishing   runs the notebooks and exports them with nbconvert
"""

from eai.report.facts import Facts, gather
from eai.report.publishing import export

__all__ = ["Facts", "export", "gather"]
