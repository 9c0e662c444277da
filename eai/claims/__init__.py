"""Published figures, recomputed: general checks on any table, and a verdict on every claim.

Read in this order::

    quantities   the names and units that columns are brought to     printed        how finely a figure is printed
    tabular      one table, ready to be checked                      configuration  when two rows mean the same thing
    relations    products that define one quantity by others         findings       what a check says, with its rows
    derived, physical, repeated, restated, structure, accounting, scores, serial, ordering, affine    the checks
    checks       all of them on a table; the family-wise false-alarm rate is shared out here
    cells, foreign          a stranger's CSV, read defensively       simulate       clean tables, to count false alarms on
    scope, evaluate, relational    the rows a claim speaks of, and one function a kind of claim
    experiment   the rows of an experiment that may speak             measured       the same claims against our own measurements
    verdicts     every claim and table, one row a verdict

No check names a GPU, a model or a file: what is specific stands in data/published/claims.csv.
"""
