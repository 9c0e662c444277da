"""AUDIT: wasteful and contradictory inference code found by reading it, never by importing or running it.

    files     find, decode, take notebooks apart      bindings  what the names of a file are bound to
    values    constants followed through a file
    code      a parsed Python file                    configs   a parsed JSON or YAML file
    rules/    the checks, one idea a file             evidence  expected waste from published rows and rooflines
    finding   findings, severity, the registry        practices what is done well
    report    findings and rules as text

Severity follows from the expected waste: critical above 30 % of the energy (or of the measured figure), warning from 10 %, else
info, as is a finding without a number.
"""

from eai.audit.run import audit

__all__ = ["audit"]
