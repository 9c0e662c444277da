"""AUDIT: wasteful and contradictory inference code found by reading it, never by importing or running it.

subjects     files found and decoded; anything with options: one vocabulary
values       names followed through a Python file
code         a parsed Python file
deployments  shell, Dockerfile, compose, Kubernetes
rules/       the rules as data, with their examples
checks       what no option shows: how code generates, energy and time measured wrongly
evidence     expected waste of this model and card
run          every rule on every file; commands: the report for people

Severity follows from the expected waste: critical above 30 % of the energy (or of the measured figure), warning from 10 %, else
info, as is a finding without a number.
"""


def audit(paths) -> dict:
    """The report on files and folders (`eai.audit.run.audit`), imported on first use: the command line lists its commands without it."""
    from eai.audit import run

    return run.audit(paths)
