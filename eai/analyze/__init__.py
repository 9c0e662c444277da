"""From windows and their energies to tables: data frames in, data frames out.

metrics      the formulas: energy per output token, throughput, EOR, TWEOR; the only place of each
selection    which windows an analysis may use, and the table of what it left out and why
blocks       one row a configuration and block: the replicates
summary      one row a configuration, with intervals and gate
efficiency   EOR and TWEOR with the items' and the blocks' uncertainty together
scores       item-level scores, and each configuration against its baseline on the same items
perplexity   perplexity of texts, and its ratio on the same texts
prefill      prefill and decode apart, from several output lengths
load         what a server's tokens and requests cost at each load
comparison   each configuration against its stratum's baseline, paired on block
combined     EOR and TWEOR over several tasks together
decomposition  a task's energy from the prices of prefill and decode
interaction  synergy of two factors, crossover batch and model size
budget       where each energy's uncertainty comes from
power        how small a ratio the blocks at hand could have shown
quality      order, drift, temperature, outliers: was the experiment as steady as assumed
regression   two experiments: did a configuration get worse
study        tasks, hardware, strategies, distillation, retention
deployment   Pareto front, deployment matrix and decision rules with their probability
cost         cost and speed of a unit of work: an output token, or an item of a task
matrix       the deployment matrix over the strata that every hardware, strategy and batch has
roofline     achieved flop/s and the share of the card's roof
importers    foreign tables and logs to windows and energies
mappings     which of their columns is which of ours
foreign_tables  reading what other tools wrote
evaluations  lm-eval's results and samples, beside a power log
imports      what `eai import` makes of a file, and what became of each row
simulated    an experiment with planted effects: the known truth of the tests
recovery     whether a whole planted study comes back, over many seeds
"""
