"""From windows and their energies to tables: data frames in, data frames out.

selection    the formulas (energy per token, EOR, ...), the only place of each; which windows may be used; the means of blocks
comparison   ratios to a baseline, of levels of a factor, of two experiments; synergy and crossover; power of the blocks at hand
summary      one row a configuration with intervals and gate; scores item by item; loads of a server; budget, order, drift, outliers
deployment   Pareto front, deployment matrix and decision rules with their probability; hardware x strategy
roofline     share of the card's roof; prefill and decode apart; what a task's energy is made of
"""
