"""BaseStrategy: plans the periods of a run from the finished ones alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from l2o.options import Count, LengthInterval, Probability, check_given
from l2o.train.runs.summary import Row

VALIDATION_UNROLL = 50


class Period(NamedTuple):
    """What to train next. A strategy states what it decides; the rest has its default.

    stage, period: The number of its stage, and its own number in that stage.
    draw_length: Draws the length of an unroll.
    annealing: Multiplies `training/p_teacher`, the probability that an unroll imitates [1.0].
    validation_unroll: Length of the unrolls of the validation [50].
    start: (stage, period) of the checkpoint that it starts from; None: the period before
        [None].
    """

    stage: int
    period: int
    draw_length: Callable[[np.random.Generator], int]
    annealing: float = 1.0
    validation_unroll: int = VALIDATION_UNROLL
    start: tuple[int, int] | None = None


class Finished(NamedTuple):
    """The end of a run, and the reason for it."""

    reason: str


class BaseStrategy:
    """Plans one period after another; holds options only, no training and no directory.

    With `horizon`, each optimizee gets a length that is drawn log-uniformly, and is replaced after
    the first unroll that reaches it. The first optimizees of an iteration start as if a random part
    of their training were over, so they are out of step with each other. An iteration lasts at
    least as long as the longest training. A validation does not use the horizon. `FullES` uses it
    in another way.

    A subclass holds each constructor argument in an attribute of the same name: a run that goes
    on compares them with those it began with.

    Args:
        epochs_per_period: Rounds of a period; each trains one iteration on each problem [10].
        max_dropped: The run stops after a period in which more than this share of the unrolls
            was dropped, because a loss or gradient was not finite [0.5].
        keep_checkpoints: How many of the last checkpoints are kept, beside that of the best
            period; None: all of them [None].
        horizon: The shortest and the longest training of an optimizee, in inner steps; None:
            `training/depth` alone says when an optimizee is replaced [None].
    """

    def __init__(
        self,
        *,
        epochs_per_period: Count = 10,
        max_dropped: Probability = 0.5,
        keep_checkpoints: Count | None = None,
        horizon: LengthInterval | None = None,
    ) -> None:
        check_given(BaseStrategy, locals(), "strategy")
        self.epochs_per_period = epochs_per_period
        self.max_dropped = max_dropped
        self.keep_checkpoints = keep_checkpoints
        # A config has a list, and a run that goes on compares.
        self.horizon = None if horizon is None else (int(horizon[0]), int(horizon[1]))

    def plan(self, rows: Sequence[Row]) -> Period | Finished:
        """Returns the next period, or the end of the run.

        Args:
            rows: The finished periods, in order. A plan depends on nothing else, so a resumed
                run goes on as the interrupted one would have.
        """
        raise NotImplementedError

    def share_done(self, rows: Sequence[Row]) -> float | None:
        """Returns which share of the run is done, 0 to 1; None: it cannot be known.

        Args:
            rows: The finished periods, in order.
        """
        raise NotImplementedError

    def dropped_too_much(self, row: Row) -> bool:
        """Returns whether a run stops after this period, see `max_dropped`."""
        return row.dropped > self.max_dropped * row.unrolls

    def would_have_run(self, other: BaseStrategy, rows: Sequence[Row], p_teacher: float) -> bool:
        """Returns whether this strategy plans the periods of `rows` exactly as `other` does.

        Args:
            other: The strategy that a run had until now.
            rows: The run's finished periods, in order.
            p_teacher: The training's. Where it is 0, a different annealing changes nothing.
        """
        if self.epochs_per_period != other.epochs_per_period or self.horizon != other.horizon:
            return False
        if any(self.dropped_too_much(row) for row in rows[:-1]):
            return False
        for i in range(len(rows)):
            mine, theirs = self.plan(rows[:i]), other.plan(rows[:i])
            if not isinstance(mine, Period) or not isinstance(theirs, Period):
                return False
            if _annealed(mine, p_teacher) != _annealed(theirs, p_teacher):
                return False
        return True


def _annealed(period: Period, p_teacher: float) -> Period:
    return period._replace(annealing=p_teacher * period.annealing)
