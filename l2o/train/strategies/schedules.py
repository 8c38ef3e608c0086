"""Schedules: numbers, lists and functions that say what happens in period or stage i."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Annotated, Any

import numpy as np
from annotated_types import Ge

from l2o.errors import UserError
from l2o.options import LONGEST_UNROLL, Count


def number(value: Any, path: str, least: float = -math.inf) -> float:
    """Returns the result of a user's function as a float.

    Args:
        value: The result: a real number of Python, of NumPy or in a tensor.
        path: The option that holds the function.
        least: Smallest value that is allowed [any].

    Raises:
        UserError: If the result is not a finite number, or is below `least`.
    """
    try:
        found = math.nan if isinstance(value, (bool, np.bool_, str, bytes)) else float(value)
    except (TypeError, ValueError, OverflowError):
        found = math.nan
    if not (math.isfinite(found) and found >= least):
        limit = f" of at least {least:g}" if math.isfinite(least) else ""
        raise UserError(f"expected a function that returns a number{limit}; got {value!r}", path)
    return found


@dataclass(frozen=True)
class Fixed:
    """Always draws the same length."""

    length: int

    def __call__(self, rng: np.random.Generator) -> int:
        """Returns the length."""
        return self.length


@dataclass(frozen=True)
class Geometric:
    """Draws lengths with mean 1/p."""

    p: float

    def __call__(self, rng: np.random.Generator) -> int:
        """Returns a length."""
        return min(int(rng.geometric(self.p)), LONGEST_UNROLL)


@dataclass(frozen=True)
class Called:
    """Draws what a function returns, rounded."""

    function: Callable[[], float]

    def __call__(self, rng: np.random.Generator) -> int:
        """Returns a length."""
        return _length(max(1, round(number(self.function(), UNROLL))), UNROLL)


UNROLL = "strategy/unroll_distribution"


def unroll_length(
    distribution: float | int | Callable[[], float],
) -> Fixed | Geometric | Called:
    """Returns an object that draws the length of an unroll, at least 1.

    Equal distributions give equal objects, so that plans can be compared.

    Args:
        distribution: A float p: geometric with mean 1/p; an int: that length; a callable:
            its result, rounded.

    Raises:
        UserError: If a float is outside (0, 1] or an int is below 1.
    """
    if callable(distribution):
        return Called(distribution)
    if isinstance(distribution, Integral):
        return Fixed(_length(int(distribution), UNROLL))
    if not 0 < distribution <= 1:
        raise UserError(f"expected a probability in (0, 1] or a length; got {distribution}", UNROLL)
    return Geometric(distribution)


def annealing(
    schedule: float | Sequence[float] | Callable[[int], float], periods: int
) -> Callable[[int], float]:
    """Returns a function: period -> factor of the probability to imitate.

    Args:
        schedule: A float a: exp(-a i); a list: its i-th entry; a callable: its value.
        periods: The number of periods, which a list must cover.

    Raises:
        UserError: If a list is too short or a value is not a probability.
    """
    path = "strategy/annealing_schedule"
    if callable(schedule):
        factor = schedule
        return lambda period: number(factor(period), path, least=0)
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


@dataclass(frozen=True)
class Exponential:
    """Lengths base power^i.

    Args:
        base: Length in stage 0 [50].
        power: Factor from each stage to the next [2].
    """

    base: Count = 50
    power: Annotated[float, Ge(1)] = 2


DOUBLING = Exponential()


def stage_length(
    schedule: Exponential | Mapping[str, Any] | Sequence[int] | Callable[[int], int], stages: int
) -> Callable[[int], int]:
    """Returns a function: stage -> unroll length.

    Args:
        schedule: An `Exponential` or its arguments, a list whose i-th entry is the length
            in stage i, or a callable.
        stages: The number of stages; a list must cover them and the one after; 0: unknown.

    Raises:
        UserError: If a list is too short or a length is below 1.
    """
    path = "strategy/schedule"
    if isinstance(schedule, Mapping):
        schedule = Exponential(**schedule)
    if isinstance(schedule, Exponential):
        base, power = schedule.base, schedule.power
        return lambda stage: _length(_power(base, power, stage), path)
    if callable(schedule):
        length = schedule
        return lambda stage: _length(round(number(length(stage), path)), path)
    lengths = [_length(int(n), path) for n in schedule]
    if len(lengths) < max(stages, 1) + 1:
        raise UserError(
            f"expected at least {max(stages, 1) + 1} lengths, one for each stage and one more to "
            f"validate the last; got {len(lengths)}",
            path,
        )
    return lambda stage: lengths[stage]


def _power(base: int, power: float, stage: int) -> int:
    try:
        return round(base * power**stage)
    except OverflowError:
        return LONGEST_UNROLL + 1


def _length(n: int, path: str) -> int:
    if not 1 <= n <= LONGEST_UNROLL:
        raise UserError(f"expected a length from 1 to {LONGEST_UNROLL}; got {n}", path)
    return n
