"""Schedules: what a strategy does in period i, given as a number, a list or a function."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from l2o.errors import UserError


def unroll_length(
    distribution: float | int | Callable[[], float],
) -> Callable[[np.random.Generator], int]:
    """Returns a function that draws the length of an unroll, at least 1.

    Args:
        distribution: A float p: geometric with mean 1/p; an int: that length; a
            callable: whatever it returns, rounded.

    Raises:
        UserError: If a float is outside (0, 1] or an int is below 1.
    """
    path = "strategy/unroll_distribution"
    if callable(distribution):
        return lambda rng: max(1, round(distribution()))
    if isinstance(distribution, int):
        if distribution < 1:
            raise UserError(f"expected a length of at least 1; got {distribution}", path)
        return lambda rng: distribution
    if not 0 < distribution <= 1:
        raise UserError(f"expected a probability in (0, 1] or a length; got {distribution}", path)
    return lambda rng: int(rng.geometric(distribution))


def annealing(
    schedule: float | Sequence[float] | Callable[[int], float], periods: int
) -> Callable[[int], float]:
    """Returns period -> factor of the probability to imitate.

    Args:
        schedule: A float a: exp(-a i); a list: its i-th entry; a callable: its value.
        periods: How many periods a list must cover.

    Raises:
        UserError: If a list is too short or a value is not a probability.
    """
    path = "strategy/annealing_schedule"
    if callable(schedule):
        return schedule
    if isinstance(schedule, (int, float)):
        if schedule < 0:
            raise UserError(f"expected a number of at least 0; got {schedule}", path)
        rate = schedule
        return lambda period: math.exp(-rate * period)
    values = list(schedule)
    if len(values) < periods:
        raise UserError(
            f"expected a value for each of the {periods} periods; got {len(values)}", path
        )
    if any(not 0 <= value <= 1 for value in values):
        raise UserError(f"expected probabilities between 0 and 1; got {values}", path)
    return lambda period: values[period]
