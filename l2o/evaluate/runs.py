"""Trains models with an optimizer as `fit` would, many of them in one compiled loop."""

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

# Examples in a batch of an evaluation; a convolutional network needs a few GiB for them.
EVALUATION_BATCH = 2048
# Larger numbers are hardly faster; each model takes memory and, with most optimizers, tracing time.
MODELS_AT_ONCE = 16
SMALL_MODELS_AT_ONCE = 64
SMALL_MODEL = 10_000
# Muon's steps are so many operations that tracing them for each model takes most of the time.
MUONS_AT_ONCE = 5
# Bytes that the models of a group may take, without activations. Larger models are trained in turn.
MEMORY = 2**31
# How often a model's parameters, and its optimizer's state, are in memory. Measured, of learned
# optimizers with a million parameters: about as much is needed on the way as is kept.
COPIES_OF_PARAMETERS, COPIES_OF_STATE = 8, 6
# Steps between two calls of `on_steps`.
CHUNK = 50


class Run(NamedTuple):
    """The results of an optimizer on a problem, with one model for each seed.

    losses: [seeds, steps], the loss of each mini-batch before its step.
    train_loss, train_accuracy, test_loss, test_accuracy: [seeds], after the last step, over the
        whole split. NaN if it is not defined: the accuracy of a model that is not a classifier,
        and both measures of a missing test split. The training loss of a problem without data
        is its objective.
    seconds: Wall-clock time of the whole run.
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
    """Trains a fresh model for each seed as `model.fit` would, many of them side by side.

    For the same seed, every optimizer gets the same initial weights and the same mini-batches.
    Options that a configuration does not have (`exclude_from_weight_decay`) have no effect.

    Args:
        problem: A Keras model and its data, or a problem without data.
        optimizer: An optimizer that is not built; it is not changed.
        steps: Number of mini-batches.
        seeds: A non-negative seed for each model.
        learning_rate: Learning rate of this run, or the factor of the optimizer's schedule if it
            has one; None: the optimizer's own [None].
        on_steps: Called after some steps with their number, summed over models, and with the
            last mean loss [None].

    Returns:
        The results; a model that diverges has losses that are not finite.

    Raises:
        UserError: If there is no seed, the optimizer keeps a copy of the parameters, or the
            problem has data but no Keras model.
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
        optimizer: Name of a Keras optimizer, whose other options have their defaults, or a
            function that returns a fresh optimizer.
        learning_rates: The rates. If the optimizer has a schedule, they multiply it.
        steps: As for `run`.
        seeds: As for `run`.
        on_steps: As for `run` [None].

    Returns:
        Runs by learning rate, in the given order; each has an equal share of the time.

    Raises:
        UserError: If there is no Keras optimizer of that name, no seed, or the optimizer
            keeps a copy of the parameters.
    """
    make = KERAS_OPTIMIZERS.find(optimizer) if isinstance(optimizer, str) else optimizer
    models = [(seed, rate) for rate in learning_rates for seed in seeds]
    all_ = _Trainer(problem, steps, on_steps).run(
        make(), [seed for seed, _ in models], [rate for _, rate in models]
    )
    columns = [np.split(column, len(learning_rates)) for column in all_.measured()]
    share = all_.seconds / len(learning_rates)
    parts = zip(*columns, strict=True)
    return {rate: Run._make([*own, share]) for rate, own in zip(learning_rates, parts, strict=True)}


def best(runs: dict[float, Run]) -> float:
    """Returns the learning rate with the smallest mean final training loss.

    Args:
        runs: Runs by learning rate; one with a model that diverged is never the best.

    Raises:
        UserError: If a model diverged at every rate.
    """
    means = {rate: float(np.mean(run.train_loss)) for rate, run in runs.items()}
    finite = {rate: mean for rate, mean in means.items() if np.isfinite(mean)}
    if not finite:
        raise UserError(f"no learning rate of {', '.join(f'{r:g}' for r in runs)} converges")
    return min(finite, key=lambda rate: finite[rate])


class _Trainer:
    """The problem, the data and the measures that runs share."""

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
        """Trains a model for each seed, at its learning rate if there are learning rates."""
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
                # Such models are trained one after the other, and one is traced sooner than many.
                return 1
        size = sum(p.shape.num_elements() for p in params)
        at_once = MODELS_AT_ONCE
        if type(optimizer).__name__ == "Muon":
            at_once = MUONS_AT_ONCE
        elif size <= SMALL_MODEL and is_elementwise(optimizer):
            at_once = SMALL_MODELS_AT_ONCE
        return max(1, min(at_once, MEMORY // self._bytes_of_model(optimizer, params)))

    def _bytes_of_model(
        self, optimizer: keras.optimizers.Optimizer, params: Sequence[tf.Tensor]
    ) -> int:
        """Returns about how much memory a model takes, with its optimizer's state."""
        own = sum(_bytes(p) for p in params)
        if not isinstance(optimizer, TrainableOptimizer):
            # Two moments, as in Adam.
            return (COPIES_OF_PARAMETERS + 2) * own
        specs = self.problem.specs(params)
        # Traced, not computed: it may be large.
        start = tf.function(lambda: optimizer.initial_state(specs), autograph=False)
        state = tf.nest.flatten(start.get_concrete_function().structured_outputs)
        return COPIES_OF_PARAMETERS * own + COPIES_OF_STATE * sum(map(_bytes, state))

    def _run(
        self, loop: Loop, group: Sequence[int], learning_rates: Sequence[float] | None
    ) -> tuple[np.ndarray, ...]:
        # By seed, because the models of a sweep share seeds.
        starts, names = {}, {}
        for seed in group:
            rng = seeding.generator(seed, seeding.EVALUATION)
            starts[seed], names[seed] = self.problem.init(seeding.draw(rng)), seeding.draw(rng)
        loop.start([starts[seed] for seed in group], learning_rates)
        losses: list[np.ndarray] = []
        for first in range(0, self.steps, CHUNK):
            count = min(CHUNK, self.steps - first)
            # The unroll evaluates its last update on one mini-batch more.
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


def _bytes(tensor: Any) -> int:
    return int(tensor.shape.num_elements() * tensor.dtype.size)
