"""Published figures, recomputed: general checks on any table, and a verdict on every claim.

Read in this order::

    quantities   the names and units a table's columns are brought to       foreign    a stranger's CSV, read defensively
    printed      how finely a figure is printed, hence what it may hide     tabular    one table, ready to be checked
    relations    products and quotients that define one quantity by others  findings   what a check says, with the rows it rests on
    derived, physical, repeated, structure, accounting, scores, serial, ordering, affine    the checks, one idea a file
    checks       runs all of them on a table; the family-wise error rate is shared out here
    evaluate     one function a kind of claim      measured   the same claims against our own measurements
    verdicts     every claim and every table, one row a verdict

No check names a GPU, a model or a file: what is specific stands in data/published/claims.csv.
"""
