"""Training models with an optimizer, as `fit` would, many of them in one compiled loop."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np

from l2o import seeds as seeding
from l2o.errors import UserError
from l2o.evaluate.loops import Loop, loop_for
from l2o.problems import KerasProblem
from l2o.train import several
from l2o.train.keras_optimizers import KERAS_OPTIMIZERS

# As many examples as a convolutional network can see at once in a few GiB.
EVALUATION_BATCH = 2048
# More at once are hardly faster, and each takes memory and time to trace.
MODELS_AT_ONCE = 16
# Steps between two signs of life.
STRETCH = 50


class Run(NamedTuple):
    """What an optimizer made of a problem, one model per seed.

    losses: [seeds, steps], the loss of each mini-batch before the step it drives.
    train_loss, train_accuracy, test_loss, test_accuracy: [seeds], after the last step,
        over the whole split; NaN where there is none: the accuracy of what is no
        classifier, everything of a test split that was not given.
    seconds: Wall-clock time of all of it.
    """

    losses: np.ndarray
    train_loss: np.ndarray
    train_accuracy: np.ndarray
    test_loss: np.ndarray
    test_accuracy: np.ndarray
    seconds: float


def run(
    problem: KerasProblem,
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
        problem: The model and its data.
        optimizer: Not built yet, and not changed.
        steps: Number of mini-batches.
        seeds: One per model, non-negative.
        learning_rate: Used for this run; None: the optimizer's own [None].
        on_steps: Told after each stretch how many steps of all models it had, and their last
            mean loss [None].

    Returns:
        The measurements; a model that diverges has losses that are not finite.

    Raises:
        UserError: If there is no seed, or the optimizer keeps a copy of the parameters.
        TypeError: If a rate is given and the optimizer has a schedule (from Keras).
    """
    trainer = _Trainer(problem, steps, seeds, on_steps)
    loops = trainer.loops(optimizer, rated=learning_rate is not None)
    return trainer.run(loops, learning_rate)


def sweep(
    problem: KerasProblem,
    optimizer: str | Callable[[], keras.optimizers.Optimizer],
    learning_rates: Sequence[float],
    steps: int,
    seeds: Sequence[int],
    on_steps: Callable[[int, float], None] | None = None,
) -> dict[float, Run]:
    """Runs an optimizer at each learning rate.

    Args:
        problem: As for `run`.
        optimizer: Name of a Keras optimizer, all else as by default, or a function that
            returns a fresh optimizer whose learning rate is no schedule.
        learning_rates: The rates.
        steps: As for `run`.
        seeds: As for `run`.
        on_steps: As for `run` [None].

    Returns:
        Run by learning rate, in the order given.

    Raises:
        UserError: If there is no Keras optimizer of that name, no seed, or the optimizer
            keeps a copy of the parameters.
    """
    make = KERAS_OPTIMIZERS.find(optimizer) if isinstance(optimizer, str) else optimizer
    trainer = _Trainer(problem, steps, seeds, on_steps)
    # The same for all rates: a loop traces once.
    loops = trainer.loops(make(), rated=True)
    return {rate: trainer.run(loops, rate) for rate in learning_rates}


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
    """The models of a run: what they start from, see and are measured on."""

    def __init__(
        self,
        problem: KerasProblem,
        steps: int,
        seeds: Sequence[int],
        on_steps: Callable[[int, float], None] | None,
    ) -> None:
        if len(seeds) == 0:
            raise UserError("expected at least one seed")
        self.problem = problem
        self.steps = steps
        self.on_steps = on_steps
        groups = -(-len(seeds) // MODELS_AT_ONCE)
        self._groups = [list(group) for group in np.array_split(list(seeds), groups)]
        self._model = problem.model(0)
        metrics = ["accuracy"] if problem.classifies else None
        self._model.compile(loss=problem.loss, metrics=metrics)
        self._train = problem.dataset.train.all()
        self._test = problem.dataset.test.all() if problem.dataset.test else None

    def loops(self, optimizer: keras.optimizers.Optimizer, rated: bool) -> dict[int, Loop]:
        """Returns a loop for each size of a group."""
        sizes = {len(group) for group in self._groups}
        return {size: loop_for(self.problem, optimizer, size, rated) for size in sizes}

    def run(self, loops: Mapping[int, Loop], learning_rate: float | None) -> Run:
        """Trains a model per seed, at `learning_rate` if one is given."""
        start = time.perf_counter()
        parts = [self._run(loops[len(group)], group, learning_rate) for group in self._groups]
        columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
        losses, train_loss, train_accuracy, test_loss, test_accuracy = columns
        seconds = time.perf_counter() - start
        return Run(losses, train_loss, train_accuracy, test_loss, test_accuracy, seconds)

    def _run(
        self, loop: Loop, group: Sequence[int], learning_rate: float | None
    ) -> tuple[np.ndarray, ...]:
        rngs = [seeding.generator(seed, seeding.EVALUATION) for seed in group]
        loop.start([self.problem.init(seeding.draw(rng)) for rng in rngs], learning_rate)
        names = [seeding.draw(rng) for rng in rngs]
        losses: list[np.ndarray] = []
        for first in range(0, self.steps, STRETCH):
            count = min(STRETCH, self.steps - first)
            # The unroll scores its last update on one mini-batch more.
            streams = [self.problem.stream(name, first, count + 1) for name in names]
            batches = several.stack(streams, axis=1) if len(group) > 1 else streams[0]
            losses.append(loop.advance(batches, count))
            if self.on_steps:
                self.on_steps(count * len(group), float(losses[-1][-1].mean()))
        final = [self._measure(*end) for end in loop.end()]
        return (np.concatenate(losses).T, *map(np.array, zip(*final, strict=True)))

    def _measure(self, params: Sequence[Any], model_state: Sequence[Any]) -> tuple[float, ...]:
        # Not `set_weights`: a dropout layer's seed is state, but no weight.
        _assign(self._model.trainable_variables, params)
        _assign(self._model.non_trainable_variables, model_state)
        return (*self._measure_on(self._train), *self._measure_on(self._test))

    def _measure_on(self, split: Any) -> tuple[float, float]:
        if split is None:
            return math.nan, math.nan
        batch_size = min(len(split[1]), EVALUATION_BATCH)
        found = self._model.evaluate(*split, batch_size=batch_size, verbose=0, return_dict=True)
        return found["loss"], found.get("accuracy", math.nan)


def _assign(variables: Sequence[Any], values: Sequence[Any]) -> None:
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)
