"""Advice on deployments from measured rows: what to run, what it costs, what goes wrong; and audits of code and configurations.

parameters   a request, validated: explained defaults, cross-checks, aliases
evidence     the cost of one configuration: a row, a prediction with interval, or what to measure
observed     power and utilisation as read: mean, lowest, highest
accuracy     what is known of a strategy's accuracy on a model
optimize     a scenario -> ranked configurations with the probability of being best
compare      strategies side by side, with rank and paradoxes
diagnose     reported figures -> likely causes, with confidence, evidence and fixes
estimate     monthly energy, cost and carbon, now and optimized (bill: one month; site: PUE, price, intensity)
crossover    from which model size on a strategy saves energy on a card
ownership    total cost of ownership and the break-even of two GPUs
regression   two experiments: shown worse, shown not worse, or undecided
markdown     every answer as text (frames: as data frames)
ask          the questions with plain options, as the command line asks them
audit        findings in code, notebooks and configs
"""
