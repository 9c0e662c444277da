"""A symptom -> its causes: reported figures against what rows and predictions say under each known pattern, as probabilities.

figures      what was reported: checked, in our units, and whether the figures agree with each other
states       where energy and throughput of a configuration are expected, with the errors of rows and predictions
spread       how far figures of one configuration lie apart: sessions, predictions, extrapolations
ratios       how much more energy one configuration costs than another, in one session
units        the confusions of units, each an exact factor
hypotheses   what may have happened: the shift each cause makes, with its prior
posterior    likelihoods, normalized; which two causes cannot be told apart and which figure would decide
choices      configurations that run as stated and cost more than another one
confidence   how sure every pattern is
evidence     the reported figures against the rows, as deviations in per cent
remedies     fixes as code with their expected impact, and how to verify the cause
answer       all of it as one answer
experiment   the same for every configuration of an experiment, with its sensors' context
page         the documentation of the patterns
trial        how often it is right: rows left out by session, and faults planted into healthy rows
"""
