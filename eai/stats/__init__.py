"""Statistics that know no watts and no paths: arrays in, numbers with intervals out.

intervals     t intervals on the log scale, the CV with its chi-square interval, Wilson
comparisons   paired and Welch tests of log ratios, equivalence, sign flips, Holm and Benjamini-Hochberg, outcomes
planning      blocks and items a question needs, Stein's two-stage stopping
scores        paired items: McNemar, bootstrap, ratio; score over energy with its interval
totals        a quotient of totals over items, such as nats over words
pareto        non-dominated points and the probability of being one
interactions  differences of differences, crossovers with Fieller's interval
diagnostics   drift, order and temperature effects, autocorrelation, outliers
"""
