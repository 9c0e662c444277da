"""Report, talk and page to explore, in English or Chinese: every sentence and number comes from a written table.

pages        what a document is made of, translations, numbers, and the templates' engines that escape every value
facts        the written tables of an experiment, gathered once; what to choose by its paired comparisons
sections     facts -> report; seven slides, what is said on them, cheat sheet
study        the published study as report and talk, with the verdicts on its claims
publishing   writes all pages, and the gallery of figures
explore      one self-contained page of rows to filter, plot and download
"""
