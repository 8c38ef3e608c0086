"""How long a step takes, beside one of another optimizer."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import keras
import numpy as np

from l2o.evaluate.loops import loop_for
from l2o.problems import Problem

# How many steps are timed at once, and how often.
TIMED_STEPS = 50
TIMED_ROUNDS = 5


def relative_times(
    problem: Problem, optimizers: Mapping[str, keras.optimizers.Optimizer], unit: str
) -> dict[str, float]:
    """Measures the wall-clock time of a step of one model, in a compiled loop.

    Args:
        problem: What is trained on.
        optimizers: By label.
        unit: The label of that whose steps take 1.

    Returns:
        By label; NaN where a model diverged, after which nothing is computed.
    """
    stretches = {label: _stretch(problem, optimizer) for label, optimizer in optimizers.items()}
    seconds: dict[str, list[float]] = {label: [] for label in stretches}
    # In turn, so that a noisy moment is everybody's.
    for _ in range(TIMED_ROUNDS):
        for label, stretch in stretches.items():
            seconds[label].append(stretch())
    return {
        label: float(np.median(np.divide(own, seconds[unit]))) for label, own in seconds.items()
    }


def _stretch(problem: Problem, optimizer: keras.optimizers.Optimizer) -> Callable[[], float]:
    """Returns what takes `TIMED_STEPS` steps, compiled already, and returns their seconds."""
    loop = loop_for(problem, optimizer, models=1, rated=False)
    model, batches = problem.init(0), problem.stream(0, 0, TIMED_STEPS + 1)

    def stretch() -> float:
        loop.start([model], None)
        start = time.perf_counter()
        losses = loop.advance(batches, TIMED_STEPS)
        seconds = time.perf_counter() - start
        return seconds if np.isfinite(losses).all() else np.nan

    stretch()
    return stretch
