"""What a learned optimizer has to beat: Keras' own, each at its best learning rate."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np

from l2o.evaluate.runs import sweep
from l2o.problems import Problem


class Baseline(NamedTuple):
    """A Keras optimizer: how tables call it, its class, its options but the learning rate."""

    label: str
    kind: str
    options: dict[str, Any]

    def create(self, learning_rate: float) -> keras.optimizers.Optimizer:
        """Returns a fresh one."""
        return getattr(keras.optimizers, self.kind)(learning_rate=learning_rate, **self.options)


BASELINES = (
    Baseline("SGD", "SGD", {}),
    Baseline("Momentum", "SGD", {"momentum": 0.9}),
    Baseline("RMSprop", "RMSprop", {}),
    Baseline("Adam", "Adam", {}),
    Baseline("AdamW", "AdamW", {}),
)

# The grid's rates are 1 and 3 times powers of 10, here by number: 0.003 to 0.3.
FIRST, LAST = -5, -1
# It is not extended beyond 1e-8 and 1e4.
LEAST, MOST = -16, 8

# Seeds below are for scores; as many from here on are for tuning.
TUNING_SEEDS = 1_000_000


def rate(number: int) -> float:
    """Returns the learning rate of the grid with a number; 0 is 1, -1 is 0.3, -2 is 0.1."""
    return float(f"{(1, 3)[number % 2]}e{number // 2}")


def tune(
    problem: Problem,
    baseline: Baseline,
    steps: int,
    seeds: Sequence[int],
    on_steps: Callable[[int, float], None] | None = None,
) -> dict[float, float]:
    """Runs a baseline at each rate of the grid, which grows until the best is not at its edge.

    Args:
        problem: As for `run`.
        baseline: What is tuned.
        steps: As for `run`.
        seeds: Not those it is scored on.
        on_steps: As for `run` [None].

    Returns:
        The mean final training loss by learning rate, ascending; not finite where a model
        diverged. `best_rate` picks.
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
    """Returns the rate with the smallest mean, see `tune`; if none is finite, the smallest."""
    return min(means, key=lambda r: (means[r] if math.isfinite(means[r]) else math.inf, r))


def _missing(found: dict[int, float]) -> list[int]:
    """Returns what the grid lacks: a neighbour of the best where that is at its edge."""
    finite = [k for k in found if math.isfinite(found[k])]
    best = min(finite, key=lambda k: found[k]) if finite else min(found)
    return [k for k in (best - 1, best + 1) if k not in found and LEAST <= k <= MOST][:1]
