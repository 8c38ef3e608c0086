"""The Simple strategy: every period draws unroll lengths from the same distribution."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from l2o.options import Count, Length, check_given
from l2o.train.runs.summary import Row
from l2o.train.strategies import schedules
from l2o.train.strategies.base import VALIDATION_UNROLL, BaseStrategy, Finished, Period


class SimpleStrategy(BaseStrategy):
    """Trains for a fixed number of periods (Wichrowska et al. 2017, section 4.4).

    Args:
        num_periods: Number of periods [100].
        unroll_distribution: Length of each unroll: a float p draws it from the geometric
            distribution (mean 1/p), an int fixes it, a callable returns it [0.05].
        annealing_schedule: What the probability to imitate is multiplied by in period i:
            a float a for exp(-a i), a list for its i-th value, or a callable [0.5].
        validation_unroll: Length of the unrolls of the validation [50].
        **options: See `BaseStrategy`.

    Raises:
        UserError: If an option does not fit, or a list is too short.
    """

    def __init__(
        self,
        *,
        num_periods: Count = 100,
        unroll_distribution: int | float | Callable[[], float] = 0.05,
        annealing_schedule: float | Sequence[float] | Callable[[int], float] = 0.5,
        validation_unroll: Length = VALIDATION_UNROLL,
        **options: Any,
    ) -> None:
        check_given(SimpleStrategy, locals(), "strategy")
        super().__init__(**options)
        self.num_periods = num_periods
        self.unroll_distribution = unroll_distribution
        self.annealing_schedule = annealing_schedule
        self.validation_unroll = validation_unroll
        self._draw_length = schedules.unroll_length(unroll_distribution)
        self._annealing = schedules.annealing(annealing_schedule, num_periods)

    def plan(self, rows: Sequence[Row]) -> Period | Finished:
        """See `BaseStrategy.plan`."""
        period = len(rows)
        if period >= self.num_periods:
            return Finished(f"all {self.num_periods} periods are done")
        return Period(
            stage=0,
            period=period,
            draw_length=self._draw_length,
            annealing=self._annealing(period),
            validation_unroll=self.validation_unroll,
        )

    def share_done(self, rows: Sequence[Row]) -> float:
        """See `BaseStrategy.share_done`."""
        return len(rows) / self.num_periods
