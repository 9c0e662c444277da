"""Published figures, recomputed: general checks on any table, and a verdict on every claim. Read in this order::

    tabular      one table ready to be checked: names and units, coded keys, how finely figures are printed
    findings     what a check says, with its rows
    relations    figures that define one another, held in logarithms with the width that rounding leaves
    physical, repeated, chance    what no device gives, what stands twice, what chance does not give
    checks       all of them on a table; the family-wise false-alarm rate is shared out here
    foreign      a stranger's CSV, read defensively
    evaluate     a claim against its own source: the rows it is about, and one function a kind of claim
    measured     the same claims against our own measurements
    evidence     and against what independent public sources measured
    verdicts     every claim and table, one row a verdict; cached: kept; commands: on a terminal

No check names a GPU, a model or a file: what is specific stands in data/published/claims.csv.
"""
