"""The time of a step, relative to that of another optimizer."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import keras
import numpy as np

from l2o.evaluate.loops import loop_for
from l2o.problems import Problem

# Number of steps that are timed together, and number of times.
TIMED_STEPS = 50
TIMED_ROUNDS = 5


def relative_times(
    problem: Problem, optimizers: Mapping[str, keras.optimizers.Optimizer], unit: str
) -> dict[str, float]:
    """Measures the wall-clock time of a step of one model, in a compiled loop.

    Args:
        problem: The problem.
        optimizers: The optimizers by label.
        unit: Label of the optimizer whose step is the unit of time.

    Returns:
        The relative times by label; NaN if a model diverged, because nothing is computed then.
    """
    timed = {label: _timed(problem, optimizer) for label, optimizer in optimizers.items()}
    seconds: dict[str, list[float]] = {label: [] for label in timed}
    # In turn, so that noise of the machine affects all optimizers alike.
    for _ in range(TIMED_ROUNDS):
        for label, call in timed.items():
            seconds[label].append(call())
    return {
        label: float(np.median(np.divide(own, seconds[unit]))) for label, own in seconds.items()
    }


def _timed(problem: Problem, optimizer: keras.optimizers.Optimizer) -> Callable[[], float]:
    """Returns a compiled function that takes `TIMED_STEPS` steps and returns their seconds."""
    loop = loop_for(problem, optimizer, models=1, rated=False)
    model, batches = problem.init(0), problem.stream(0, 0, TIMED_STEPS + 1)

    def call() -> float:
        loop.start([model], None)
        start = time.perf_counter()
        losses = loop.advance(batches, TIMED_STEPS)
        seconds = time.perf_counter() - start
        return seconds if np.isfinite(losses).all() else np.nan

    call()
    return call
