"""The baselines: Keras' own optimizers, each at its best learning rate."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np

from l2o.evaluate.runs import sweep
from l2o.problems import Problem


class Baseline(NamedTuple):
    """A Keras optimizer: its label in tables, its class, and all options but the learning rate."""

    label: str
    kind: str
    options: dict[str, Any]

    def create(self, learning_rate: float) -> keras.optimizers.Optimizer:
        """Returns a fresh optimizer."""
        return getattr(keras.optimizers, self.kind)(learning_rate=learning_rate, **self.options)


BASELINES = (
    Baseline("SGD", "SGD", {}),
    Baseline("Momentum", "SGD", {"momentum": 0.9}),
    Baseline("RMSprop", "RMSprop", {}),
    Baseline("Adam", "Adam", {}),
    Baseline("AdamW", "AdamW", {}),
)

# The grid has 1 and 3 times powers of 10. These are the numbers of its ends, 0.003 and 0.3.
FIRST, LAST = -5, -1
# The grid is not extended beyond 1e-8 and 1e4.
LEAST, MOST = -16, 8

# Smaller seeds are for scores. Tuning takes as many seeds from here on.
TUNING_SEEDS = 1_000_000


def rate(number: int) -> float:
    """Returns the learning rate of the grid by its number; 0 is 1, -1 is 0.3, -2 is 0.1."""
    return float(f"{(1, 3)[number % 2]}e{number // 2}")


def tune(
    problem: Problem,
    baseline: Baseline,
    steps: int,
    seeds: Sequence[int],
    on_steps: Callable[[int, float], None] | None = None,
) -> dict[float, float]:
    """Runs a baseline at each rate of a grid that grows until the best rate is inside it.

    Args:
        problem: As for `run`.
        baseline: The baseline to tune.
        steps: As for `run`.
        seeds: Seeds that the scores do not use.
        on_steps: As for `run` [None].

    Returns:
        The mean final training loss by learning rate, ascending; not finite if a model
        diverged. See `best_rate`.
    """
    found: dict[int, float] = {}
    due = list(range(FIRST, LAST + 1))
    while due:
        runs = sweep(
            problem, lambda: baseline.create(1.0), [rate(k) for k in due], steps, seeds, on_steps
        )
        found.update({k: float(np.mean(runs[rate(k)].train_loss)) for k in due})
        due = _missing(found)
    return {rate(k): found[k] for k in sorted(found)}


def best_rate(means: dict[float, float]) -> float:
    """Returns the rate with the smallest mean, see `tune`; the smallest rate if none is finite."""
    return min(means, key=lambda r: (means[r] if math.isfinite(means[r]) else math.inf, r))


def _missing(found: dict[int, float]) -> list[int]:
    """Returns the neighbour that the grid lacks if its best rate is at an end."""
    finite = [k for k in found if math.isfinite(found[k])]
    best = min(finite, key=lambda k: found[k]) if finite else min(found)
    return [k for k in (best - 1, best + 1) if k not in found and LEAST <= k <= MOST][:1]
