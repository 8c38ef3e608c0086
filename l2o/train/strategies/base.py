"""BaseStrategy: periods of training, each followed by validation and a checkpoint."""

from __future__ import annotations

import json
import os
import platform
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from l2o import seeds
from l2o.disk.packing import pack, unpack
from l2o.errors import UserError
from l2o.options import Count, Probability, Seed, check_given, check_value, expect
from l2o.progress import Progress, Silent
from l2o.train.outer.training import VALIDATION_INSTANCES, Training, Unroll
from l2o.train.runs import account
from l2o.train.runs.directory import RunDirectory
from l2o.train.runs.summary import Row
from l2o.version import __version__


class Period(NamedTuple):
    """What a strategy wants next.

    stage, period: Its number.
    draw_length: Draws the length of an unroll.
    p_teacher: Probability that an unroll imitates.
    validation_unroll: Length of the unrolls of the validation.
    start: The (stage, period) whose weights it starts from; None: those of the period
        before.
    """

    stage: int
    period: int
    draw_length: Callable[[np.random.Generator], int]
    p_teacher: float
    validation_unroll: int
    start: tuple[int, int] | None = None


class Finished(NamedTuple):
    """What a strategy answers when nothing comes next: why the run ends."""

    reason: str


class BaseStrategy:
    """Runs one period after another until `plan` says that the run is finished.

    Args:
        training: What is done within a period.
        run: Where periods are written; None: nowhere.
        seed: The run's seed.
        epochs_per_period: How often a period goes through all problems [10].
        max_dropped: The run stops after a period of which more than this share of the unrolls
            taught nothing, since their loss or gradient was not finite [0.5].
        keep_checkpoints: How many of the last checkpoints are kept, beside that of the best
            period; None: all of them [None].
    """

    def __init__(
        self,
        training: Training,
        run: RunDirectory | None,
        seed: int,
        *,
        epochs_per_period: Count = 10,
        max_dropped: Probability = 0.5,
        keep_checkpoints: Count | None = None,
    ) -> None:
        check_given(BaseStrategy, locals(), "strategy")
        if run is not None:
            expect(RunDirectory, run, "run")
        check_value(Seed, seed, "seed")
        self.training = training
        self.run = run
        self.seed = seed
        self.epochs_per_period = epochs_per_period
        self.max_dropped = max_dropped
        self.keep_checkpoints = keep_checkpoints
        # By (stage, period), of the current stage, where there is no disk to keep them.
        self._states: dict[tuple[int, int], dict[str, np.ndarray]] = {}

    def plan(self, rows: Sequence[Row]) -> Period | Finished:
        """Decides from the finished periods alone what comes next."""
        raise NotImplementedError

    def share_done(self, rows: Sequence[Row]) -> float | None:
        """Returns how much of the run `rows` are, 0 to 1; None where nobody can know."""
        raise NotImplementedError

    def would_have_run(self, other: BaseStrategy, rows: Sequence[Row]) -> bool:
        """Returns whether this strategy would have run the periods of `rows` as `other` did."""
        if self.epochs_per_period != other.epochs_per_period or any(map(self._stops, rows[:-1])):
            return False
        for i in range(len(rows)):
            plan = self.plan(rows[:i])
            if not isinstance(plan, Period) or plan != other.plan(rows[:i]):
                return False
        return True

    def restore(self) -> list[Row]:
        """Goes back to the last complete period on disk that has a checkpoint.

        Returns:
            The rows of the periods up to it.

        Raises:
            UserError: If the run directory cannot be read or does not fit.
        """

        def read() -> bytes:
            return json.dumps(self.run.last_kept() if self.run else []).encode()

        rows = [Row(*row) for row in json.loads(self.training.replicas.from_chief(read))]
        if rows:
            self._load(rows[-1].stage, rows[-1].period)
        return rows

    def _load(self, stage: int, period: int) -> None:
        def read() -> bytes:
            if self.run:
                return pack(self.run.read_checkpoint(stage, period))
            return pack(self._states[stage, period])

        state = unpack(self.training.replicas.from_chief(read))
        source = str(self.run.checkpoint_path(stage, period)) if self.run else "memory"
        self.training.load_state(state, source)

    def _save(self, row: Row) -> Row:
        """Writes a period; returns its row as the chief has it."""
        state, replicas = self.training.save_state(), self.training.replicas

        def write() -> bytes:
            if self.run:
                self.run.write_period(row, state, self.keep_checkpoints)
            else:
                same_stage = {k: v for k, v in self._states.items() if k[0] == row.stage}
                self._states = {**same_stage, (row.stage, row.period): state}
            return json.dumps(row).encode()

        row = Row(*json.loads(replicas.from_chief(write)))
        if replicas.processes > 1:
            # Machines of different make differ in last bits, which must not add up.
            self._load(row.stage, row.period)
        return row

    def train(
        self,
        progress: Progress | None = None,
        on_period: Callable[[Sequence[Row]], None] | None = None,
    ) -> list[Row]:
        """Trains until the plan ends, going on after the last complete period on disk.

        Args:
            progress: Told about each unroll and each period [None].
            on_period: Given all rows after each period [None].

        Returns:
            All rows of the run.

        Raises:
            UserError: If the run directory cannot be read or written, or its periods were
                trained by something else than this.
        """
        with ExitStack() as stack:
            self._on_chief(lambda run: stack.enter_context(run.locked()))
            self._on_chief(lambda run: None if run.claimed else account.check(self, run))
            rows = self.restore()
            self._on_chief(lambda run: run.prune(self.keep_checkpoints))
            self._log("start" if not rows else "resume", rows[-1] if rows else None, about=_here())
            try:
                reason = self._train(rows, progress or Silent(), on_period)
            except BaseException as error:
                # The other processes may have gone.
                if self.run and self.training.replicas.is_chief:
                    with suppress(UserError):
                        self.run.write_log("stop", about=str(error) or type(error).__name__)
                raise
            self._log("finish", about=reason)
        return rows

    def _train(
        self,
        rows: list[Row],
        progress: Progress,
        on_period: Callable[[Sequence[Row]], None] | None,
    ) -> str:
        """Adds to `rows`; returns why it ended."""
        self._check_dropped(rows)
        while isinstance(period := self.plan(rows), Period):
            start = time.monotonic()
            if period.start:
                self._load(*period.start)
            row = self._save(self._period(period, rows, progress))
            rows.append(row)
            self._log("period", row, time.monotonic() - start)
            progress.line(_describe(row))
            if on_period:
                on_period(rows)
            self._check_dropped(rows)
        progress.end(f"finished: {period.reason}")
        return period.reason

    def _on_chief(self, write: Callable[[RunDirectory], Any]) -> None:
        def make() -> None:
            if self.run:
                write(self.run)

        self.training.replicas.from_chief(make)

    def _log(
        self, event: str, row: Row | None = None, seconds: float | None = None, about: str = ""
    ) -> None:
        self._on_chief(lambda run: run.write_log(event, row, seconds, about))

    def _stops(self, row: Row) -> bool:
        return row.dropped > self.max_dropped * row.unrolls

    def _check_dropped(self, rows: Sequence[Row]) -> None:
        if not rows or not self._stops(rows[-1]):
            return
        row = rows[-1]
        raise UserError(
            f"the run stops after {_name(row)}: {row.dropped} of its {row.unrolls} unrolls taught "
            "nothing, since their loss or gradient was not finite; expected at most "
            f"{self.max_dropped:g} of them. What helps: a smaller optimizer/config/learning_rate, "
            "training/unroll_weights=mean, shorter unrolls; where an objective can be negative, "
            "loss_args/use_log_objective=false. To go on all the same: strategy/max_dropped=1",
            "strategy/max_dropped",
        )

    def _period(self, period: Period, rows: list[Row], progress: Progress) -> Row:
        problems = range(len(self.training.problems))
        opens_stage = not rows or rows[-1].stage != period.stage
        report = self._reporter(period, rows, opens_stage, progress)
        start_loss = self._validate(period, report) if opens_stage else None
        done: list[Unroll] = []
        for epoch in range(self.epochs_per_period):
            for index in problems:
                rng = seeds.generator(
                    self.seed, seeds.TRAINING, period.stage, period.period, epoch, index
                )
                steps = sum(unroll.steps for unroll in done)
                for unroll in self.training.train(index, rng, period.draw_length, period.p_teacher):
                    done.append(unroll)
                    steps += unroll.steps
                    report(f"step {steps}, loss {unroll.loss:.3f}", 0)
                report(f"step {steps}", 1)
        return Row(
            stage=period.stage,
            period=period.period,
            meta_loss=_mean([u.loss for u in done if u.finite and not u.imitation]),
            imitation_loss=_mean([u.loss for u in done if u.finite and u.imitation]),
            start_loss=start_loss,
            validation_loss=self._validate(period, report),
            unrolls=len(done),
            imitation_unrolls=sum(u.imitation for u in done),
            inner_steps=sum(u.steps for u in done),
            dropped=sum(not u.finite for u in done),
        )

    def _validate(self, period: Period, report: Callable[[str, int], None]) -> float:
        losses: list[float] = []
        for index in range(len(self.training.validation_problems)):
            # The same optimizees after every period, so that losses compare.
            rngs = [
                seeds.generator(self.seed, seeds.VALIDATION, instance, index)
                for instance in range(VALIDATION_INSTANCES)
            ]
            for unroll in self.training.validate(index, rngs, period.validation_unroll):
                losses.append(unroll.loss)
                report(f"validation, loss {unroll.loss:.3f}", 0)
            report("validation", 1)
        return float(np.mean(losses)) if np.isfinite(losses).all() else np.inf

    def _reporter(
        self, period: Period, rows: Sequence[Row], opens_stage: bool, progress: Progress
    ) -> Callable[[str, int], None]:
        """Returns a function that tells `progress` a text and how many iterations are done."""
        validation = len(self.training.validation_problems)
        total = self.epochs_per_period * len(self.training.problems) + validation
        total += validation if opens_stage else 0
        before = self.share_done(rows)
        after = self.share_done([*rows, _EMPTY._replace(stage=period.stage, period=period.period)])
        name = _name(period)
        count = 0

        def report(text: str, iterations: int) -> None:
            nonlocal count
            count += iterations
            if before is None or after is None:
                share = None
            else:
                share = before + (after - before) * count / total
            progress.update(f"{name}, {text}", share)

        return report


_EMPTY = Row(0, 0, None, None, None, np.inf, 0, 0, 0, 0)


def _here() -> str:
    """Returns what a run's last bits, and its times, may depend on."""
    return (
        f"process {os.getpid()} on {socket.gethostname()}, l2o {__version__}, "
        f"tensorflow {tf.__version__}, keras {keras.__version__}, numpy {np.__version__}, "
        f"python {platform.python_version()}"
    )


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None


def _name(period: Period | Row) -> str:
    # A strategy without stages has only the first.
    stage = f"stage {period.stage}, " if period.stage else ""
    return f"{stage}period {period.period}"


def _describe(row: Row) -> str:
    words = [_name(row)]
    for name, value in (
        ("start loss", row.start_loss),
        ("meta-loss", row.meta_loss),
        ("imitation loss", row.imitation_loss),
        ("validation loss", row.validation_loss),
    ):
        if value is not None:
            words.append(f"{name} {value:.4f}")
    if row.dropped:
        words.append(f"{row.dropped} of {row.unrolls} unrolls dropped: loss not finite")
    return ", ".join(words)
