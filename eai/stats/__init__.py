"""Statistics that know no watts and no paths: arrays in, numbers with intervals out.

intervals     t intervals on the log scale, the CV with its chi-square interval, Wilson, a quotient of totals over items;
              what would break their assumptions: drift, order and temperature effects, autocorrelation, outliers
comparisons   paired and Welch tests of log ratios, equivalence, sign flips, Holm and Benjamini-Hochberg, outcomes;
              interactions and crossovers; the Pareto front and the probability of being on it
planning      blocks and items a question needs, Stein's two-stage stopping
scores        paired items: McNemar, bootstrap, ratio; score over energy with its interval
"""
