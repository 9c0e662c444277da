"""Advice on deployments: what to run on which card, what it costs, what goes wrong.

commands    every option once; the questions as Python asks them and as the command line does
request     what is asked, validated: model, workload, limits, site, and a set of cards
evidence    what a configuration is expected to cost: a row, else a prediction; its accuracy; what to type to run and to verify it
month       a month of a service: queueing and cards needed, electricity, rent or ownership, carbon of the whole life
optimize    a workload -> ranked plans over card, number, engine, precision and concurrency
compare     strategies side by side, with paradoxes and crossing sizes; the bill now and optimized, by lever
diagnose    reported figures -> causes with level and fixes (causes.toml: the patterns)
experiment  every configuration of an experiment diagnosed; two experiments: shown worse, shown not worse, or undecided
page        an answer as Markdown, for a terminal or as HTML (folder templates: one an answer), and its chart
"""
