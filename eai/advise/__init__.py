"""Advice on deployments: what to run on which card, what it costs, what goes wrong.

options     every option once: kind, help, flags, range, default (commands: the command line made of them)
ask         the questions as the command line asks them: plain options in, one JSON-able answer out
request     what is asked, validated: model, workload, limits, site, and a set of cards
evidence    what a configuration is expected to cost: a row, else a prediction; what is known of its accuracy
capacity    queueing: waiting, percentiles of latency, cards needed, energy in use and idle
bill        the month: electricity, rent or ownership, carbon of the whole life; break-even of two cards
optimize    a workload -> ranked plans over card, number, engine, precision and concurrency
compare     strategies side by side, against each alternative, with paradoxes and the sizes where they cross
estimate    the bill now and optimized, by lever
diagnose    reported figures -> causes with level and fixes (causes.toml: the patterns)
experiment  every configuration of an experiment diagnosed; two experiments: shown worse, shown not worse, or undecided
launch      what to type to run and to verify it
page        an answer as Markdown, for a terminal or as HTML (folder templates: one an answer); chart: its picture
"""
