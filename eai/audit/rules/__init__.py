"""The audit's rules, one idea a file; importing this package registers them all in `finding.RULES`.

A rule is a function from a parsed file and the evidence to hits; its docstring is its documentation and its two examples are its test.
"""

from eai.audit.finding import RULES
from eai.audit.rules import (
    batching,
    configs,
    engines,
    generation,
    lengths,
    loading,
    measuring,
    quantization,
    reloading,
    servers,
    timing,
)

__all__ = ["ALL", "batching", "configs", "engines", "generation", "lengths", "loading"]
__all__ += ["measuring", "quantization", "reloading", "servers", "timing"]

ALL = tuple(RULES.values())
