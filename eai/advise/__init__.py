"""Advice on deployments: every number leads to a row, a prediction with its interval, or a stated default."""
