"""From windows and their energies to tables: data frames in, data frames out.

metrics      the formulas: energy per token, throughput, EOR, TWEOR, energy per correct answer; the only place of each
selection    which windows an analysis may use, what was left out and why; the means of blocks, which are the replicates
summary      one row a configuration with intervals and gate; one row a load of a server; uncertainty budget; order, drift, outliers
comparison   ratios to a baseline, of levels of a factor, of two experiments; synergy and crossover; power of the blocks at hand
scores       item-level scores, perplexities and retention against the baseline on the same items; all tasks together
deployment   Pareto front, deployment matrix and decision rules with their probability; hardware x strategy
roofline     share of the card's roof; prefill and decode apart; what a task's energy is made of
"""
