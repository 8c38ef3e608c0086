"""Training models with an optimizer, as `fit` would, many of them in one compiled loop."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from l2o import seeds as seeding
from l2o.errors import UserError
from l2o.evaluate.loops import Loop, first_batch, is_elementwise, loop_for
from l2o.inner import batched
from l2o.keras_optimizers import KERAS_OPTIMIZERS
from l2o.optimizer import TrainableOptimizer
from l2o.options import expect
from l2o.problems import Gradient, KerasProblem, Problem
from l2o.problems.contract import check_problem

# As many examples as a convolutional network can see at once in a few GiB.
EVALUATION_BATCH = 2048
# More at once are hardly faster, and each takes memory and, of most optimizers, time to trace.
MODELS_AT_ONCE = 16
SMALL_MODELS_AT_ONCE = 64
SMALL_MODEL = 10_000
# Steps between two signs of life.
STRETCH = 50


class Run(NamedTuple):
    """What an optimizer made of a problem, one model per seed.

    losses: [seeds, steps], the loss of each mini-batch before the step it drives.
    train_loss, train_accuracy, test_loss, test_accuracy: [seeds], after the last step,
        over the whole split; NaN where there is none: the accuracy of what is no
        classifier, everything of a test split that was not given. Of a problem without
        data the training loss is the objective.
    seconds: Wall-clock time of all of it.
    """

    losses: np.ndarray
    train_loss: np.ndarray
    train_accuracy: np.ndarray
    test_loss: np.ndarray
    test_accuracy: np.ndarray
    seconds: float

    def measured(self) -> tuple[np.ndarray, ...]:
        """Returns all but the time."""
        return self[:-1]


def run(
    problem: Problem,
    optimizer: keras.optimizers.Optimizer,
    steps: int,
    seeds: Sequence[int],
    learning_rate: float | None = None,
    on_steps: Callable[[int, float], None] | None = None,
) -> Run:
    """Trains a fresh model per seed as `model.fit` would, many of them side by side.

    For one seed every optimizer gets the same initial weights and the same mini-batches. What
    Keras' optimizers make of the names of variables (`exclude_from_weight_decay`, Muon's
    embeddings) has no effect.

    Args:
        problem: A Keras model and its data, or a problem without data.
        optimizer: Not built yet, and not changed.
        steps: Number of mini-batches.
        seeds: One per model, non-negative.
        learning_rate: Used for this run; None: the optimizer's own [None].
        on_steps: Told after each stretch how many steps of all models it had, and their last
            mean loss [None].

    Returns:
        The measurements; a model that diverges has losses that are not finite.

    Raises:
        UserError: If there is no seed, the optimizer keeps a copy of the parameters, or the
            problem is neither.
        TypeError: If a rate is given and the optimizer has a schedule (from Keras).
    """
    rates = None if learning_rate is None else [learning_rate] * len(seeds)
    return _Trainer(problem, steps, on_steps).run(optimizer, seeds, rates)


def sweep(
    problem: Problem,
    optimizer: str | Callable[[], keras.optimizers.Optimizer],
    learning_rates: Sequence[float],
    steps: int,
    seeds: Sequence[int],
    on_steps: Callable[[int, float], None] | None = None,
) -> dict[float, Run]:
    """Runs an optimizer at each learning rate, side by side.

    Args:
        problem: As for `run`.
        optimizer: Name of a Keras optimizer, all else as by default, or a function that
            returns a fresh optimizer whose learning rate is no schedule.
        learning_rates: The rates.
        steps: As for `run`.
        seeds: As for `run`.
        on_steps: As for `run` [None].

    Returns:
        Run by learning rate, in the order given; the time is shared out among them.

    Raises:
        UserError: If there is no Keras optimizer of that name, no seed, or the optimizer
            keeps a copy of the parameters.
    """
    make = KERAS_OPTIMIZERS.find(optimizer) if isinstance(optimizer, str) else optimizer
    lanes = [(seed, rate) for rate in learning_rates for seed in seeds]
    every = _Trainer(problem, steps, on_steps).run(
        make(), [seed for seed, _ in lanes], [rate for _, rate in lanes]
    )
    columns = [np.split(column, len(learning_rates)) for column in every.measured()]
    share = every.seconds / len(learning_rates)
    parts = zip(*columns, strict=True)
    return {rate: Run._make([*own, share]) for rate, own in zip(learning_rates, parts, strict=True)}


def best(runs: dict[float, Run]) -> float:
    """Returns the learning rate with the smallest mean of the final training loss.

    Args:
        runs: By learning rate; one with a model that diverged is never the best.

    Raises:
        UserError: If models diverged at every rate.
    """
    means = {rate: float(np.mean(run.train_loss)) for rate, run in runs.items()}
    finite = {rate: mean for rate, mean in means.items() if np.isfinite(mean)}
    if not finite:
        raise UserError(f"no learning rate of {', '.join(f'{r:g}' for r in runs)} converges")
    return min(finite, key=lambda rate: finite[rate])


class _Trainer:
    """The models of runs: what they start from, see and are measured on."""

    def __init__(
        self, problem: Problem, steps: int, on_steps: Callable[[int, float], None] | None
    ) -> None:
        expect(Problem, problem, "problem")
        check_problem(problem)
        self.problem = problem
        self.steps = steps
        self.on_steps = on_steps
        if isinstance(problem, KerasProblem):
            self._train: Any = problem.dataset.train.all()
            self._test: Any = problem.dataset.test.all() if problem.dataset.test else None
            # The last mini-batch of a split is smaller.
            self._score = tf.function(problem.score, autograph=False, reduce_retracing=True)
        elif problem.steps_per_epoch is not None:
            raise UserError(f"{problem.name} is neither a Keras model nor a problem without data")

    def run(
        self,
        optimizer: keras.optimizers.Optimizer,
        seeds: Sequence[int],
        learning_rates: Sequence[float] | None,
    ) -> Run:
        """Trains a model per seed, each at its learning rate if there are any."""
        if len(seeds) == 0:
            raise UserError("expected at least one seed")
        start = time.perf_counter()
        groups = -(-len(seeds) // self._at_once(optimizer))
        rated = learning_rates is not None
        loops: dict[int, Loop] = {}
        parts = []
        for group in np.array_split(np.arange(len(seeds)), groups):
            size = len(group)
            if size not in loops:
                loops[size] = loop_for(self.problem, optimizer, size, rated)
            own_rates = [learning_rates[k] for k in group] if learning_rates is not None else None
            parts.append(self._run(loops[size], [seeds[k] for k in group], own_rates))
        columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
        losses, train_loss, train_accuracy, test_loss, test_accuracy = columns
        seconds = time.perf_counter() - start
        return Run(losses, train_loss, train_accuracy, test_loss, test_accuracy, seconds)

    def _at_once(self, optimizer: keras.optimizers.Optimizer) -> int:
        params, model_state = self.problem.init(0)
        if not isinstance(optimizer, TrainableOptimizer):
            kinds = self.problem.gradient_kinds(params, model_state, first_batch(self.problem))
            if Gradient.SPARSE in kinds:
                # They come one after the other in any case, and one is traced sooner.
                return 1
        size = sum(p.shape.num_elements() for p in params)
        small = size <= SMALL_MODEL and is_elementwise(optimizer)
        return SMALL_MODELS_AT_ONCE if small else MODELS_AT_ONCE

    def _run(
        self, loop: Loop, group: Sequence[int], learning_rates: Sequence[float] | None
    ) -> tuple[np.ndarray, ...]:
        # By seed: models of a sweep share them.
        starts, names = {}, {}
        for seed in group:
            rng = seeding.generator(seed, seeding.EVALUATION)
            starts[seed], names[seed] = self.problem.init(seeding.draw(rng)), seeding.draw(rng)
        loop.start([starts[seed] for seed in group], learning_rates)
        losses: list[np.ndarray] = []
        for first in range(0, self.steps, STRETCH):
            count = min(STRETCH, self.steps - first)
            # The unroll scores its last update on one mini-batch more.
            streams = {
                seed: self.problem.stream(name, first, count + 1) for seed, name in names.items()
            }
            own = [streams[seed] for seed in group]
            batches = batched.stack(own, axis=1) if len(group) > 1 else own[0]
            losses.append(loop.advance(batches, count))
            if self.on_steps:
                self.on_steps(count * len(group), float(losses[-1][-1].mean()))
        final = [self._measure(*end) for end in loop.end()]
        return (np.concatenate(losses).T, *map(np.array, zip(*final, strict=True)))

    def _measure(self, params: list[Any], model_state: list[Any]) -> tuple[float, ...]:
        if not isinstance(self.problem, KerasProblem):
            value, _ = self.problem.objective(params, model_state, ())
            return float(value), math.nan, math.nan, math.nan
        return (
            *self._measure_on(self._train, params, model_state),
            *self._measure_on(self._test, params, model_state),
        )

    def _measure_on(
        self, split: Any, params: list[Any], model_state: list[Any]
    ) -> tuple[float, float]:
        if split is None:
            return math.nan, math.nan
        size = len(split[1])
        total = np.zeros(2)
        for first in range(0, size, EVALUATION_BATCH):
            batch = tf.nest.map_structure(lambda x, k=first: x[k : k + EVALUATION_BATCH], split)
            count = min(EVALUATION_BATCH, size - first)
            total += count * np.array(self._score(params, model_state, batch), np.float64)
        return float(total[0] / size), float(total[1] / size)
