"""BaseStrategy: periods of training, each followed by validation and a checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from l2o import seeds
from l2o.train.progress import Progress, Silent
from l2o.train.run_directory import Row, RunDirectory
from l2o.train.training import Training, Unroll

# Optimizees of each problem that a validation takes the mean of.
VALIDATION_INSTANCES = 4


class Period(NamedTuple):
    """What a strategy wants next.

    stage, period: Its number.
    draw_length: Draws the length of an unroll.
    p_teacher: Probability that an unroll imitates.
    validation_unroll: Length of the unrolls of the validation.
    """

    stage: int
    period: int
    draw_length: Callable[[np.random.Generator], int]
    p_teacher: float
    validation_unroll: int


class BaseStrategy:
    """Runs one period after another until `plan` says there is none.

    Args:
        training: What is done within a period.
        run: Where periods are written; None: nowhere.
        seed: The run's seed.
        epochs_per_period: How often a period goes through all problems.
    """

    def __init__(
        self, training: Training, run: RunDirectory | None, seed: int, epochs_per_period: int
    ) -> None:
        self.training = training
        self.run = run
        self.seed = seed
        self.epochs_per_period = epochs_per_period

    def plan(self, rows: Sequence[Row]) -> Period | None:
        """Decides from the finished periods alone what comes next; None ends the run."""
        raise NotImplementedError

    def share_done(self, rows: Sequence[Row]) -> float:
        """Returns how much of the run `rows` are, 0 to 1."""
        raise NotImplementedError

    def restore(self) -> list[Row]:
        """Goes back to the last complete period on disk.

        Returns:
            The rows of the periods that are complete.

        Raises:
            UserError: If the run directory cannot be read or does not fit.
        """
        rows = self.run.rows() if self.run else []
        if self.run and rows:
            last = rows[-1]
            self.training.load_state(
                self.run.read_checkpoint(last.stage, last.period),
                str(self.run.checkpoint_path(last.stage, last.period)),
            )
        return rows

    def train(self, progress: Progress | None = None) -> list[Row]:
        """Trains until the plan ends, going on after the last complete period on disk.

        Args:
            progress: Told about each unroll and each period.

        Returns:
            All rows of the run.

        Raises:
            UserError: If the run directory cannot be read or written.
        """
        progress = progress or Silent()
        rows = self.restore()
        while (period := self.plan(rows)) is not None:
            row = self._period(period, rows, progress)
            if self.run:
                self.run.write_period(row, self.training.save_state())
            rows.append(row)
            progress.line(_describe(row))
        return rows

    def _period(self, period: Period, rows: list[Row], progress: Progress) -> Row:
        problems = range(len(self.training.problems))
        start, share = self.share_done(rows), 0.0
        total = self.epochs_per_period * len(problems) + VALIDATION_INSTANCES * len(problems)
        length = self.share_done([*rows, _EMPTY]) - start
        label = f"period {period.period}"
        done: list[Unroll] = []
        steps = 0
        for epoch in range(self.epochs_per_period):
            for index in problems:
                rng = seeds.generator(
                    self.seed, seeds.TRAINING, period.stage, period.period, epoch, index
                )
                for unroll in self.training.train(index, rng, period.draw_length, period.p_teacher):
                    done.append(unroll)
                    steps += unroll.steps
                    progress.update(
                        f"{label}, step {steps}, loss {unroll.loss:.3f}", start + share * length
                    )
                share += 1 / total
        validation: list[Unroll] = []
        for instance in range(VALIDATION_INSTANCES):
            for index in problems:
                # The same optimizees after every period, so that losses compare.
                rng = seeds.generator(self.seed, seeds.VALIDATION, instance, index)
                for unroll in self.training.validate(index, rng, period.validation_unroll):
                    validation.append(unroll)
                    progress.update(
                        f"{label}, validation, loss {unroll.loss:.3f}", start + share * length
                    )
                share += 1 / total
        losses = [u.loss for u in validation]
        return Row(
            stage=period.stage,
            period=period.period,
            meta_loss=_mean([u.loss for u in done if u.finite and not u.imitation]),
            imitation_loss=_mean([u.loss for u in done if u.finite and u.imitation]),
            validation_loss=float(np.mean(losses)) if np.isfinite(losses).all() else np.inf,
            unrolls=len(done),
            imitation_unrolls=sum(u.imitation for u in done),
            inner_steps=steps,
            dropped=sum(not u.finite for u in done),
        )


_EMPTY = Row(0, 0, None, None, np.inf, 0, 0, 0, 0)


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None


def _describe(row: Row) -> str:
    words = [f"period {row.period}"]
    for name, value in (
        ("meta-loss", row.meta_loss),
        ("imitation loss", row.imitation_loss),
        ("validation loss", row.validation_loss),
    ):
        if value is not None:
            words.append(f"{name} {value:.4f}")
    if row.dropped:
        words.append(f"{row.dropped} of {row.unrolls} unrolls dropped: loss not finite")
    return ", ".join(words)
