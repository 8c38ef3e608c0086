"""Problems that hold out a part of the training examples: for each optimizee, or once for all."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import tensorflow as tf

from l2o import seeds
from l2o.errors import UserError
from l2o.problems.keras_model import KerasProblem
from l2o.problems.problem import Batch, Gradient, HeldOut, Instance, Problem, SplitBatches
from l2o.problems.wrappers import Wrapper

# Of the training examples.
HELD_OUT_SHARE = 0.2
# The last integers of the names of draws. Those of `KerasProblem` have none, and 0 would be the
# same as none.
PART, ORDER = 1, 2
# Those whose parts are kept.
OPTIMIZEES_KEPT = 64


def with_held_out(problem: Problem) -> Problem:
    """Returns a problem whose `stream` gives `SplitBatches`.

    Args:
        problem: A Keras problem, or wrappers around one.

    Raises:
        UserError: If it is another problem, or a mini-batch is larger than the held-out part.
    """
    if isinstance(problem, Wrapper):
        # A copy, so that its own draws stay as they are.
        wrapper = copy.copy(problem)
        wrapper.problem = with_held_out(problem.problem)
        wrapper.steps_per_epoch = wrapper.problem.steps_per_epoch
        return wrapper
    if isinstance(problem, KerasProblem):
        return PartlyHeldOut(problem)
    raise UserError(
        f'{problem.name} has no training examples that can be held out: expected "train", or '
        "only problems that are Keras models, such as mlp_classifier"
    )


def with_validation_split(problem: KerasProblem) -> KerasProblem:
    """Returns a problem that is tested on a part of the training examples, and trained on the rest.

    The part, `HELD_OUT_SHARE` of them, is always the same. Its own test split is not used.

    Args:
        problem: The whole problem.

    Raises:
        UserError: If a mini-batch is larger than the rest, or no example is left for the part.
    """
    train = problem.dataset.train
    count = round(HELD_OUT_SHARE * train.size)
    drawn = seeds.generator(0, 0, PART).permutation(train.size)
    part, rest = (_at(train, np.sort(index)) for index in (drawn[:count], drawn[count:]))
    if not count:
        raise UserError(
            f"{problem.dataset.name} has {train.size} training examples, too few for a validation: "
            "expected at least 3, or --tune-for training",
            "dataset",
        )
    if problem.batch_size > rest.size:
        raise UserError(
            f"batch_size {problem.batch_size} of {problem.name} is larger than the {rest.size} "
            f"examples of {problem.dataset.name} that are left beside those for validation: "
            "expected a smaller batch_size, or --tune-for training",
            "batch_size",
        )
    made = copy.copy(problem)
    made.dataset = problem.dataset._replace(train=rest, test=part)
    made.steps_per_epoch = rest.size // problem.batch_size
    # What the whole problem keeps of its examples.
    made.__dict__.pop("_examples", None)
    return made


def _at(split: Any, index: np.ndarray) -> Any:
    return type(split)(*tf.nest.map_structure(lambda array: array[index], tuple(split)))


class PartlyHeldOut(Problem):
    """A Keras problem of which each optimizee trains on a part of the training examples.

    The other part, `HELD_OUT_SHARE` of them, is drawn by the seed of the optimizee's stream. An
    epoch is a pass over the part that it trains on.

    Args:
        problem: The whole problem.
    """

    def __init__(self, problem: KerasProblem) -> None:
        self.problem = problem
        self.name = problem.name
        self.param_names = problem.param_names
        self._examples = problem.dataset.train.size
        # Drawn again for each unroll, they would take as long as several steps of a small network.
        self._parts = lru_cache(maxsize=OPTIMIZEES_KEPT)(self._draw_parts)
        self._held_out = round(HELD_OUT_SHARE * self._examples)
        if problem.batch_size > self._held_out:
            raise UserError(
                f"batch_size {problem.batch_size} of {self.name} is larger than the "
                f"{self._held_out} examples of {problem.dataset.name} that are held out: expected "
                'a smaller batch_size, or "train"'
            )
        self.steps_per_epoch = (self._examples - self._held_out) // problem.batch_size

    def init(self, seed: int) -> Instance:
        """See `Problem.init`; returns that of the whole problem."""
        return self.problem.init(seed)

    def objective(
        self, params: Sequence[tf.Tensor], model_state: Sequence[tf.Tensor], batch: Batch
    ) -> tuple[tf.Tensor, list[tf.Tensor]]:
        """See `Problem.objective`; returns that of the whole problem."""
        return self.problem.objective(params, model_state, batch)

    def gradient_kinds(self, params: Any, model_state: Any, batch: Any) -> tuple[Gradient, ...]:
        """See `Problem.gradient_kinds`; returns those of the whole problem."""
        return self.problem.gradient_kinds(params, model_state, batch)

    def batches(self, seed: int, start: int, count: int) -> SplitBatches:
        """See `Problem.batches`."""
        return self._split(self.problem.dataset.train.take, seed, start, count)

    def stream(self, seed: int, start: int, count: int) -> SplitBatches:
        """See `Problem.stream`."""
        return self._split(self.problem.picked, seed, start, count)

    def _split(
        self, form: Callable[[np.ndarray], Batch], seed: int, start: int, count: int
    ) -> SplitBatches:
        held_out, train = self._parts(seed)

        def mini_batches(part: np.ndarray, *purpose: int) -> Batch:
            return form(part[self.problem.shuffled(len(part), start, count, seed, *purpose)])

        return SplitBatches(mini_batches(train), HeldOut(mini_batches(held_out, ORDER)))

    def _draw_parts(self, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns the examples that an optimizee does not train on, and the others."""
        drawn = seeds.generator(seed, 0, PART).permutation(self._examples)
        # In the order of the data set, as a buffer shuffles it.
        return np.sort(drawn[: self._held_out]), np.sort(drawn[self._held_out :])
