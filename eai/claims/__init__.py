"""Published figures, recomputed: general checks on any table, and a verdict on every claim.

Read in this order::

    quantities   names and units that columns are brought to, cells a person typed
    tabular      one table ready to be checked, how finely it is printed, when two rows mean the same
    findings     what a check says, with its rows
    relations    products that define one quantity by others, and the columns recomputed from them
    physical, disguised, repeated, chance    what no device gives, what is another thing, what stands twice, what chance does not give
    checks       all of them on a table; the family-wise false-alarm rate is shared out here
    foreign      a stranger's CSV, read defensively
    evaluate     the rows a claim speaks of, and one function a kind of claim
    measured     the same claims against our own measurements
    verdicts     every claim and table, one row a verdict           screen    the same on a terminal

No check names a GPU, a model or a file: what is specific stands in data/published/claims.csv.
"""
