"""The baselines, which are Keras' own optimizers, and the tuning of learning rates."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np

from l2o.evaluate.runs import sweep
from l2o.evaluate.schedules import Rate
from l2o.problems import Problem
from l2o.registry import Registry


class Baseline(NamedTuple):
    """A Keras optimizer.

    label: Its name in tables.
    kind: Its class.
    options: All options but those that are tuned.
    weight_decays: The weight decays that are tuned with the learning rate; empty: only the
        learning rate is tuned.
    """

    label: str
    kind: str
    options: dict[str, Any]
    weight_decays: tuple[float, ...] = ()

    def create(
        self, learning_rate: Rate, weight_decay: float | None = None
    ) -> keras.optimizers.Optimizer:
        """Returns a fresh optimizer.

        Args:
            learning_rate: A number or a schedule.
            weight_decay: One of `weight_decays` [None: Keras' default].
        """
        if self.kind == "AdamW" and weight_decay == 0:
            # They are the same, and the results of Adam may be there already.
            return keras.optimizers.Adam(learning_rate, **self.options)
        decay = {} if weight_decay is None else {"weight_decay": weight_decay}
        kind = getattr(keras.optimizers, self.kind)
        return kind(learning_rate=learning_rate, **self.options, **decay)


# Of the baselines whose grid has two dimensions.
DECAYS = (0.0, 0.001, 0.01, 0.1, 1.0)

BASELINES: Registry[Baseline] = Registry(
    "baseline",
    {
        one.label: one
        for one in (
            Baseline("SGD", "SGD", {}),
            Baseline("Momentum", "SGD", {"momentum": 0.9}),
            Baseline("RMSprop", "RMSprop", {}),
            Baseline("Adam", "Adam", {}),
            Baseline("AdamW", "AdamW", {}),
            # With a weight decay of 0 it is Adam.
            Baseline("AdamW2D", "AdamW", {}, weight_decays=DECAYS),
            Baseline("Lion", "Lion", {}),
            Baseline("Muon", "Muon", {}),
            Baseline("Muon2D", "Muon", {}, weight_decays=DECAYS),
            Baseline("Nadam", "Nadam", {}),
        )
    },
)

# The grids have 1 and 3 times powers of 10, by number: see `rate`. Baselines start with 0.003 to
# 0.3, and learned optimizers, whose own rate is 1, with 0.03 to 3.
RATES = range(-5, 0)
LEARNED_RATES = range(-3, 2)
# The grid is not extended beyond 1e-8 and 1e4.
LEAST, MOST = -16, 8

# Smaller seeds are for scores. Tuning takes as many seeds from here on.
TUNING_SEEDS = 1_000_000


def rate(number: int) -> float:
    """Returns the learning rate of the grid by its number; 0 is 1, -1 is 0.3, -2 is 0.1."""
    return float(f"{(1, 3)[number % 2]}e{number // 2}")


def tune(
    problem: Problem,
    create: Callable[[], keras.optimizers.Optimizer],
    steps: int,
    seeds: Sequence[int],
    numbers: Sequence[int] = RATES,
    on_steps: Callable[[int, float], None] | None = None,
    measure: str = "train_loss",
) -> dict[float, float]:
    """Runs an optimizer at each rate of a grid that grows until the best rate is inside it.

    Args:
        problem: As for `run`.
        create: Returns a fresh optimizer. The rate multiplies its schedule, if it has one.
        steps: As for `run`.
        seeds: Seeds that the scores do not use.
        numbers: The rates that the grid starts with, see `rate` [those of a baseline].
        on_steps: As for `run` [None].
        measure: The loss that chooses the rate: "train_loss", or "test_loss" of a problem that
            `with_validation_split` has made ["train_loss"].

    Returns:
        The mean final loss by learning rate, ascending; not finite if a model diverged. See
        `best_rate`.
    """
    found: dict[int, float] = {}
    due = list(numbers)
    while due:
        runs = sweep(problem, create, [rate(k) for k in due], steps, seeds, on_steps)
        found.update({k: float(np.mean(getattr(runs[rate(k)], measure))) for k in due})
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
