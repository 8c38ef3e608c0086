"""The CurriculumLearning strategy: unrolls lengthen from stage to stage."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any

from annotated_types import Ge

from l2o.errors import UserError
from l2o.options import Count, check_given
from l2o.train.runs.summary import Row, best_row
from l2o.train.strategies import schedules
from l2o.train.strategies.base import BaseStrategy, Finished, Period
from l2o.train.strategies.schedules import Exponential


class CurriculumLearningStrategy(BaseStrategy):
    """Trains on longer and longer unrolls (Chen et al. 2020, section 3.1).

    Stage i trains on unrolls of length n_i and validates on length n_(i+1). A stage lasts at
    least `min_periods` periods, and goes on while each period validates better than all before
    it. The next stage starts from its best weights. The run ends when no period of a stage
    validates better than the weights that the stage started from (at the same length), after
    `max_stages`, or where a list of lengths ends.

    Args:
        schedule: The lengths n_i: an object of `base` and `power` for base power^i, a list,
            or a callable i -> n_i [base 50, power 2].
        min_periods: Least number of periods of a stage [10].
        max_stages: Largest number of stages; 0: no limit [0].
        **options: See `BaseStrategy`.

    Raises:
        UserError: If an option does not fit, or a list is too short for `max_stages`.
    """

    def __init__(
        self,
        *,
        schedule: Exponential | Sequence[Count] | Callable[[int], int] = schedules.DOUBLING,
        min_periods: Count = 10,
        max_stages: Annotated[int, Ge(0)] = 0,
        **options: Any,
    ) -> None:
        check_given(CurriculumLearningStrategy, locals(), "strategy")
        super().__init__(**options)
        self.schedule = schedule
        self.min_periods = min_periods
        self.max_stages = max_stages
        self._length = schedules.stage_length(schedule, max_stages)
        self._grows = isinstance(schedule, (Exponential, Mapping))
        # A stage validates on the next one's length, so the last length has no stage.
        listed = not callable(schedule) and not self._grows
        self._listed_stages = len(schedule) - 1 if listed else None  # type: ignore[arg-type]

    def plan(self, rows: Sequence[Row]) -> Period | Finished:
        """See `BaseStrategy.plan`."""
        if not rows:
            return self._make(0, 0)
        stage = rows[-1].stage
        own = [row for row in rows if row.stage == stage]
        if self._listed_stages is not None and stage >= self._listed_stages:
            return Finished(f"the schedule ends after stage {self._listed_stages - 1}")
        if self._goes_on(own):
            return self._make(stage, len(own))
        best = best_row(own)
        start = own[0].start_loss
        if start is not None and not best.validation_loss < start:
            return Finished(
                f"no period of stage {stage} validates better than the weights it started from"
            )
        if self.max_stages and stage + 1 >= self.max_stages:
            return Finished(f"all {self.max_stages} stages (max_stages) are done")
        if stage + 1 == self._listed_stages:
            return Finished(f"the schedule ends after stage {stage}")
        try:
            return self._make(stage + 1, 0, (best.stage, best.period))
        except UserError:
            if not self._grows:
                raise
            return Finished(f"the lengths of stage {stage + 1} are longer than any unroll may be")

    def _goes_on(self, own: Sequence[Row]) -> bool:
        earlier = [row.validation_loss for row in own[:-1]]
        if own[0].start_loss is not None:
            earlier.append(own[0].start_loss)
        return len(own) < self.min_periods or own[-1].validation_loss < min(earlier)

    def _make(self, stage: int, period: int, start: tuple[int, int] | None = None) -> Period:
        return Period(
            stage=stage,
            period=period,
            draw_length=schedules.Fixed(self._length(stage)),
            validation_unroll=self._length(stage + 1),
            start=start,
        )

    def share_done(self, rows: Sequence[Row]) -> float | None:
        """See `BaseStrategy.share_done`; assumes that a stage lasts `min_periods`."""
        stages = self.max_stages or self._listed_stages
        if not stages:
            return None
        stage = rows[-1].stage if rows else 0
        own = sum(row.stage == stage for row in rows)
        return (stage + min(1.0, own / self.min_periods)) / stages
