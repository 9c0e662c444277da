"""AUDIT: wasteful and contradictory inference code found by reading it, never by importing or running it.

    files        find, decode, take notebooks apart        rules/    the rules as data, with their examples
    values       names followed through a Python file      checks    how code generates: what no option shows
    code         a parsed Python file                       measuring energy, time and tokens measured wrongly
    deployments  shell, Dockerfile, compose, Kubernetes     evidence  expected waste of this model and card
    subjects     anything with options: one vocabulary      run       every rule on every file; report: for people

Severity follows from the expected waste: critical above 30 % of the energy (or of the measured figure), warning from 10 %, else
info, as is a finding without a number.
"""


def audit(paths, published=None) -> dict:
    """The report on files and folders (`eai.audit.run.audit`), imported on first use: the command line lists its commands without it."""
    from eai.audit import run

    return run.audit(paths, published)
