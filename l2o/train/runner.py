"""Runner: trains the periods that a strategy plans, validates and writes each of them."""

from __future__ import annotations

import json
import os
import platform
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from l2o import seeds
from l2o.disk.packing import pack, unpack
from l2o.errors import UserError
from l2o.options import Seed, check_value, expect
from l2o.progress import Progress, Silent
from l2o.train.outer.iteration import UnrollRecord
from l2o.train.outer.signal_to_noise import Signal
from l2o.train.outer.training import VALIDATION_OPTIMIZEES, Training
from l2o.train.runs import account
from l2o.train.runs.directory import RunDirectory
from l2o.train.runs.summary import Row, describe, period_name
from l2o.train.strategies.base import BaseStrategy, Period
from l2o.version import __version__


class Runner:
    """Runs one period after another until the strategy's plan ends.

    A period trains, validates, and is then written completely or not at all. The chief process
    writes; the others receive what it has read.

    Args:
        training: What a period trains.
        strategy: What the periods are.
        run: Where periods are written; None: they stay in memory [None].
        seed: Determines every random draw of the run [0].

    Raises:
        UserError: If an argument does not fit.
    """

    def __init__(
        self,
        training: Training,
        strategy: BaseStrategy,
        run: RunDirectory | None = None,
        seed: int = 0,
    ) -> None:
        expect(Training, training, "training")
        expect(BaseStrategy, strategy, "strategy")
        if run is not None:
            expect(RunDirectory, run, "run")
        check_value(Seed, seed, "seed")
        self.training = training
        self.strategy = strategy
        self.run = run
        self.seed = seed
        # Without a directory: the checkpoints of the current stage, by (stage, period).
        self._checkpoints: dict[tuple[int, int], dict[str, np.ndarray]] = {}

    def train(
        self,
        progress: Progress | None = None,
        on_period: Callable[[dict[str, Any]], object] | None = None,
    ) -> list[Row]:
        """Trains until the plan ends, starting after the last complete period on disk.

        Args:
            progress: Receives a line for each unroll and each period [None].
            on_period: Called after each period with a dict: `directory`, that of the run or None;
                `number`, how many periods are done, over all stages; and the period's row of
                summary.csv by column, where None stands for an empty field. Only the chief calls
                it. The period is on disk by then: if it raises, training stops, and the same
                program goes on after that period [None].

        Returns:
            All rows of the run.

        Raises:
            UserError: If the run directory cannot be read or written, if its periods were
                trained with another training, strategy or seed, if a period dropped too many
                unrolls, or if `on_period` cannot be called.
        """
        if not (on_period is None or callable(on_period)):
            raise UserError(f"expected a callable; got {on_period!r}", "on_period")
        with ExitStack() as stack:
            self._on_chief(lambda run: stack.enter_context(run.locked()))
            self._on_chief(self._check_account)
            rows = self.restore()
            self._on_chief(lambda run: run.prune(self.strategy.keep_checkpoints))
            self._log("start" if not rows else "resume", rows[-1] if rows else None, about=_here())
            try:
                reason = self._train(rows, progress or Silent(), on_period)
            except BaseException as error:
                # The other processes may be gone, so the chief does not wait for them.
                if self.run and self.training.replicas.is_chief:
                    with suppress(UserError):
                        self.run.write_log("stop", about=str(error) or type(error).__name__)
                raise
            self._log("finish", about=reason)
        return rows

    def restore(self) -> list[Row]:
        """Loads the last complete period on disk that has a checkpoint.

        Returns:
            The rows up to that period.

        Raises:
            UserError: If the run directory cannot be read, or a checkpoint does not fit the
                training.
        """

        def read() -> bytes:
            return json.dumps(self.run.last_kept() if self.run else []).encode()

        rows = [Row(*row) for row in json.loads(self.training.replicas.from_chief(read))]
        if rows:
            self._load(rows[-1].stage, rows[-1].period)
        return rows

    def _train(
        self,
        rows: list[Row],
        progress: Progress,
        on_period: Callable[[dict[str, Any]], object] | None,
    ) -> str:
        """Appends each new period to `rows`; returns why the run ended."""
        self._check_dropped(rows)
        while isinstance(period := self.strategy.plan(rows), Period):
            start = time.monotonic()
            if period.start:
                self._load(*period.start)
            row = self._save(self._run_period(period, rows, progress))
            rows.append(row)
            self._log("period", row, time.monotonic() - start)
            progress.line(describe(row))
            if on_period and self.training.replicas.is_chief:
                directory = str(self.run.path) if self.run else None
                on_period({"directory": directory, "number": len(rows), **row._asdict()})
            self._check_dropped(rows)
        progress.end(f"finished: {period.reason}")
        return period.reason

    def _run_period(self, period: Period, rows: list[Row], progress: Progress) -> Row:
        training = self.training
        opens_stage = not rows or rows[-1].stage != period.stage
        report = self._reporter(period, rows, opens_stage, progress)
        start = training.optimizer.network.get_weights() if opens_stage else None
        p_teacher = training.p_teacher * period.annealing
        done: list[UnrollRecord] = []
        signal = Signal()
        for turn in range(self.strategy.epochs_per_period):
            for index in range(len(training.problems)):
                rng = seeds.generator(
                    self.seed, seeds.TRAINING, period.stage, period.period, turn, index
                )
                steps = sum(unroll.steps for unroll in done)
                place = self._place(index)
                # The first unroll of a problem takes long: it is compiled.
                report(f"{place}step {steps}", 0)
                for unroll in training.train(
                    index, rng, period.draw_length, p_teacher, self.strategy.horizon
                ):
                    signal.add(unroll)
                    # The gradients of a period would take too much memory.
                    done.append(unroll._replace(gradient=None))
                    steps += unroll.steps
                    report(f"{place}step {steps}, {_loss_text(unroll, signal)}", 0)
                report(f"{place}step {steps}", 1)
        # The weights that the stage starts from are validated now, not first: with much data a
        # validation takes longer than anything else before the first meta-step.
        start_loss = self._validate_start(start, period, report) if start is not None else None
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
            replaced=sum(u.replaced for u in done),
            gradient_norm=signal.norm,
            signal_to_noise=signal.to_noise,
        )

    def _place(self, index: int) -> str:
        count = len(self.training.problems)
        return f"problem {index + 1} of {count}, " if count > 1 else ""

    def _validate_start(
        self, weights: list[np.ndarray], period: Period, report: Callable[[str, int], None]
    ) -> float:
        network = self.training.optimizer.network
        trained = network.get_weights()
        network.set_weights(weights)
        try:
            return self._validate(period, report)
        finally:
            network.set_weights(trained)

    def _validate(self, period: Period, report: Callable[[str, int], None]) -> float:
        losses: list[float] = []
        for index in range(len(self.training.validation_problems)):
            # Each period validates on the same optimizees, so losses can be compared.
            rngs = [
                seeds.generator(self.seed, seeds.VALIDATION, k, index)
                for k in range(VALIDATION_OPTIMIZEES)
            ]
            for unroll in self.training.validate(index, rngs, period.validation_unroll):
                losses.append(unroll.loss)
                report(f"validation, loss {unroll.loss:.3f}", 0)
            report("validation", 1)
        return float(np.mean(losses)) if np.isfinite(losses).all() else np.inf

    def _reporter(
        self, period: Period, rows: Sequence[Row], opens_stage: bool, progress: Progress
    ) -> Callable[[str, int], None]:
        """Returns a function that reports a text and a number of new iterations."""
        validation = len(self.training.validation_problems)
        total = self.strategy.epochs_per_period * len(self.training.problems) + validation
        total += validation if opens_stage else 0
        after = _UNTRAINED._replace(stage=period.stage, period=period.period)
        begin, end = self.strategy.share_done(rows), self.strategy.share_done([*rows, after])
        span = None if begin is None or end is None else (begin, end - begin)
        name = period_name(period.stage, period.period)
        count = 0

        def report(text: str, iterations: int) -> None:
            nonlocal count
            count += iterations
            share = span and span[0] + span[1] * count / total
            progress.update(f"{name}, {text}", share)

        return report

    def _check_dropped(self, rows: Sequence[Row]) -> None:
        if not rows or not self.strategy.dropped_too_much(rows[-1]):
            return
        row = rows[-1]
        raise UserError(
            f"the run stops after {period_name(row.stage, row.period)}: {row.dropped} of its "
            f"{row.unrolls} unrolls were dropped, because a loss or gradient was not finite; "
            "expected at most "
            f"{self.strategy.max_dropped:g} of them. What helps: a smaller "
            "optimizer/config/learning_rate, training/unroll_weights=mean, shorter unrolls; where "
            "an objective can be negative, loss_args/use_log_objective=false. To go on anyway: "
            "strategy/max_dropped=1",
            "strategy/max_dropped",
        )

    # Disk and processes.

    def _check_account(self, run: RunDirectory) -> None:
        # A claim has compared the configs already.
        if not run.claimed:
            account.check(run, self.training, self.strategy, self.seed)

    def _load(self, stage: int, period: int) -> None:
        def read() -> bytes:
            if self.run:
                return pack(self.run.read_checkpoint(stage, period))
            if (stage, period) not in self._checkpoints:
                raise UserError(
                    f"no checkpoint of stage {stage}, period {period} in memory, which holds those "
                    "of the stage before; expected a RunDirectory"
                )
            return pack(self._checkpoints[stage, period])

        state = unpack(self.training.replicas.from_chief(read))
        source = str(self.run.checkpoint_path(stage, period)) if self.run else "memory"
        self.training.load_state(state, source)

    def _save(self, row: Row) -> Row:
        """Writes a period; returns its row as the chief has it."""
        state, replicas = self.training.save_state(), self.training.replicas

        def write() -> bytes:
            if self.run:
                self.run.write_period(row, state, self.strategy.keep_checkpoints)
            else:
                same_stage = {k: v for k, v in self._checkpoints.items() if k[0] == row.stage}
                self._checkpoints = {**same_stage, (row.stage, row.period): state}
            return json.dumps(row).encode()

        row = Row(*json.loads(replicas.from_chief(write)))
        if replicas.processes > 1:
            # Different machines differ in the last bits: all load the chief's, or they drift apart.
            self._load(row.stage, row.period)
        return row

    def _on_chief(self, act: Callable[[RunDirectory], Any]) -> None:
        def act_on_run() -> None:
            if self.run:
                act(self.run)

        self.training.replicas.from_chief(act_on_run)

    def _log(
        self, event: str, row: Row | None = None, seconds: float | None = None, about: str = ""
    ) -> None:
        self._on_chief(lambda run: run.write_log(event, row, seconds, about))


# Stands for a planned period where only its number counts.
_UNTRAINED = Row(0, 0, None, None, None, np.inf, 0, 0, 0, 0)


def _here() -> str:
    """Returns what a run's last bits, and its times, may depend on."""
    return (
        f"process {os.getpid()} on {socket.gethostname()}, l2o {__version__}, "
        f"tensorflow {tf.__version__}, keras {keras.__version__}, numpy {np.__version__}, "
        f"python {platform.python_version()}"
    )


def _loss_text(unroll: UnrollRecord, signal: Signal) -> str:
    """Returns an unroll's loss as text; a meta-loss with the mean norm of the meta-gradients."""
    if unroll.imitation:
        return f"imitation loss {unroll.loss:.3f}"
    norm = "" if signal.norm is None else f", gradient {signal.norm:.2g}"
    return f"meta-loss {unroll.loss:.3f}{norm}"


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None
