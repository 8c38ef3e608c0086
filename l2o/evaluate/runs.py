"""Training models with an optimizer, through the path a user deploys: compile and fit."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np

from l2o import seeds as seeding
from l2o.errors import UserError
from l2o.problems import KerasProblem
from l2o.train.keras_optimizers import KERAS_OPTIMIZERS

# As many examples as a convolutional network can see at once in a few GiB.
EVALUATION_BATCH = 2048


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
    on_step: Callable[[float], None] | None = None,
) -> Run:
    """Trains a fresh model per seed with `model.fit`.

    For one seed every optimizer gets the same initial weights and the same mini-batches.

    Args:
        problem: The model and its data.
        optimizer: Not built yet; its state starts anew for each seed. What a learned
            optimizer has learned is not changed.
        steps: Number of mini-batches.
        seeds: One per model, non-negative.
        learning_rate: Set for this run; None: the optimizer's own [None].
        on_step: Told the loss of each step [None].

    Returns:
        The measurements; a model that diverges has losses that are not finite.

    Raises:
        UserError: If there is no seed.
        ValueError: If the optimizer has been built for another model (from Keras).
        TypeError: If a rate is given and the optimizer has a schedule (from Keras).
    """
    return _Trainer(problem, optimizer, steps, on_step).run(seeds, learning_rate)


def sweep(
    problem: KerasProblem,
    optimizer: str | Callable[[], keras.optimizers.Optimizer],
    learning_rates: Sequence[float],
    steps: int,
    seeds: Sequence[int],
    on_step: Callable[[float], None] | None = None,
) -> dict[float, Run]:
    """Runs an optimizer at each learning rate.

    Args:
        problem: As for `run`.
        optimizer: Name of a Keras optimizer, all else as by default, or a function that
            returns a fresh optimizer whose learning rate is no schedule.
        learning_rates: The rates.
        steps: As for `run`.
        seeds: As for `run`.
        on_step: As for `run` [None].

    Returns:
        Run by learning rate, in the order given.

    Raises:
        UserError: If there is no Keras optimizer of that name, or no seed.
    """
    make = KERAS_OPTIMIZERS.find(optimizer) if isinstance(optimizer, str) else optimizer
    trainer = _Trainer(problem, make(), steps, on_step)
    return {rate: trainer.run(seeds, rate) for rate in learning_rates}


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


class _StepLoss(keras.callbacks.Callback):
    """Records the loss of each mini-batch; Keras itself reports the mean so far."""

    def __init__(self, on_step: Callable[[float], None] | None) -> None:
        super().__init__()
        self.losses: list[float] = []
        self.on_step = on_step

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Forgets the mini-batches before."""
        self.model.reset_metrics()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Records this one."""
        self.losses.append(float(logs["loss"]))
        if self.on_step:
            self.on_step(self.losses[-1])


class _Trainer:
    """One compiled model for all seeds and rates: compiling anew would trace anew."""

    def __init__(
        self,
        problem: KerasProblem,
        optimizer: keras.optimizers.Optimizer,
        steps: int,
        on_step: Callable[[float], None] | None,
    ) -> None:
        self.problem = problem
        self.steps = steps
        self.on_step = on_step
        self.model = problem.model(0)
        metrics = ["accuracy"] if problem.classifies else None
        self.model.compile(optimizer=optimizer, loss=problem.loss, metrics=metrics)
        self.optimizer = self.model.optimizer
        self.optimizer.build(self.model.trainable_variables)
        self._initial = [v.numpy() for v in self.optimizer.variables]
        self._train = problem.dataset.train.all()
        self._test = problem.dataset.test.all() if problem.dataset.test else None

    def run(self, seeds: Sequence[int], learning_rate: float | None = None) -> Run:
        """Trains a model per seed, at `learning_rate` if one is given."""
        if len(seeds) == 0:
            raise UserError("expected at least one seed")
        start = time.perf_counter()
        results = [self._one(seed, learning_rate) for seed in seeds]
        losses, *final = (np.array(column) for column in zip(*results, strict=True))
        train_loss, train_accuracy, test_loss, test_accuracy = final
        seconds = time.perf_counter() - start
        return Run(losses, train_loss, train_accuracy, test_loss, test_accuracy, seconds)

    def _one(self, seed: int, learning_rate: float | None) -> tuple[Any, ...]:
        rng = seeding.generator(seed, seeding.EVALUATION)
        params, model_state = self.problem.init(seeding.draw(rng))
        # Not `set_weights`: a dropout layer's seed is state, but no weight.
        _assign(self.model.trainable_variables, params)
        _assign(self.model.non_trainable_variables, model_state)
        _assign(self.optimizer.variables, self._initial)
        if learning_rate is not None:
            self.optimizer.learning_rate = learning_rate
        indices = self.problem.indices(seeding.draw(rng), 0, self.steps)
        recorder = _StepLoss(self.on_step)
        self.model.fit(
            *self.problem.dataset.train.take(indices.reshape(-1)),
            batch_size=self.problem.batch_size,
            shuffle=False,
            verbose=0,
            callbacks=[recorder],
        )
        return recorder.losses, *self._measure(self._train), *self._measure(self._test)

    def _measure(self, split: Any) -> tuple[float, float]:
        if split is None:
            return math.nan, math.nan
        batch_size = min(len(split[1]), EVALUATION_BATCH)
        found = self.model.evaluate(*split, batch_size=batch_size, verbose=0, return_dict=True)
        return found["loss"], found.get("accuracy", math.nan)


def _assign(variables: Sequence[Any], values: Sequence[Any]) -> None:
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)
