"""Evaluates optimizers."""

from l2o.evaluate.report import pictures, tables
from l2o.evaluate.runs import Run, best, run, sweep

__all__ = ["Run", "best", "pictures", "run", "sweep", "tables"]
