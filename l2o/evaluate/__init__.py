"""How an optimizer is judged."""

from l2o.evaluate import plot, report
from l2o.evaluate.runs import Run, best, run, sweep

__all__ = ["Run", "best", "plot", "report", "run", "sweep"]
