"""Results of other tools as experiments: one mapping a tool."""
