"""The parameters that an unroll changes: as in `fit`, those that have a gradient."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from l2o.errors import UserError
from l2o.inner.batched import Batched, Optimizee, count_of, gradient_kinds_of, one_of, problem_of
from l2o.inner.trajectory import Tensors
from l2o.optimizer import TrainableOptimizer
from l2o.optimizer.partial import Place, put_state, take_state
from l2o.problems import Gradient, Instance, Problem


class PartialProblem(Problem):
    """A problem in those of its parameters that have a gradient.

    The other parameters come first in its model state.

    Args:
        problem: The whole problem.
        kinds: Of each parameter of the whole, what gradient it has.
    """

    def __init__(self, problem: Problem, kinds: Sequence[Gradient]) -> None:
        self.problem = problem
        self.name = problem.name
        self.steps_per_epoch = problem.steps_per_epoch
        self.kinds = kinds
        self.changing = [kind is not Gradient.NONE for kind in kinds]

    def init(self, seed: int) -> Instance:
        """See `Problem.init`."""
        return self.split(*self.problem.init(seed))

    def objective(
        self, params: Sequence[tf.Tensor], model_state: Sequence[tf.Tensor], batch: Any
    ) -> tuple[tf.Tensor, Tensors]:
        """See `Problem.objective`."""
        whole, inner = self.join(params, model_state)
        loss, after = self.problem.objective(whole, inner, batch)
        return loss, [*self.rest(whole), *after]

    def gradient_kinds(self, params: Any, model_state: Any, batch: Any) -> tuple[Gradient, ...]:
        """See `Problem.gradient_kinds`."""
        return tuple(self.taken(self.kinds))

    def split(self, params: Sequence[Any], model_state: Sequence[Any]) -> Instance:
        """Returns an instance of this problem from one of the whole."""
        return Instance(self.taken(params), [*self.rest(params), *model_state])

    def join(self, params: Sequence[Any], model_state: Sequence[Any]) -> Instance:
        """Undoes `split`."""
        count = self.changing.count(False)
        return Instance(self.merge(params, model_state[:count]), list(model_state[count:]))

    def taken(self, whole: Sequence[Any]) -> list[Any]:
        """Returns the entries of the parameters that have a gradient."""
        return [p for p, changes in zip(whole, self.changing, strict=True) if changes]

    def rest(self, whole: Sequence[Any]) -> list[Any]:
        """Returns the entries of the other parameters."""
        return [p for p, changes in zip(whole, self.changing, strict=True) if not changes]

    def merge(self, taken: Sequence[Any], rest: Sequence[Any]) -> list[Any]:
        """Undoes `taken` and `rest`."""
        parts = {True: iter(taken), False: iter(rest)}
        return [next(parts[changes]) for changes in self.changing]


class Part:
    """Splits an optimizee, and an optimizer's state for it, into what changes and the rest.

    Args:
        optimizer: The learned optimizer.
        optimizee: The whole: one, or K side by side.
        kinds: Of each parameter, what gradient it has.
        params: Of all optimizees; only shapes and dtypes matter.
        state: The optimizer's, of all optimizees; only shapes and dtypes matter.
    """

    def __init__(
        self,
        optimizer: TrainableOptimizer,
        optimizee: Optimizee,
        kinds: Sequence[Gradient],
        params: Sequence[tf.Tensor],
        state: Any,
    ) -> None:
        count = count_of(optimizee)
        self._problem = PartialProblem(problem_of(optimizee), kinds)
        self.optimizee: Optimizee = Batched(self._problem, count) if count else self._problem
        self.taken, self.rest = self._problem.taken, self._problem.rest
        self.merge = self._problem.merge
        self._params = one_of(optimizee, list(params))
        one = one_of(optimizee, state)
        try:
            places = optimizer.state_places(one)
        except NotImplementedError:
            raise UserError(
                f"the loss of {self._problem.name} depends on {self._problem.changing.count(True)} "
                f"of its {len(kinds)} parameters, and {type(optimizer).__name__} does not define "
                "`state_places`, which says what of its state belongs to which of them"
            ) from None
        first = 1 if count else 0
        self._places = [
            Place(first + p.axis % leaf.shape.rank, p.coordinates) if isinstance(p, Place) else p
            for p, leaf in zip(places, tf.nest.flatten(one), strict=True)
        ]

    def split(self, params: Tensors, model_state: Any, state: Any) -> tuple[Tensors, Tensors, Any]:
        """Returns the parameters, the model state and the optimizer's state that change."""
        own = take_state(state, self._places, self._params, self._problem.changing)
        return (*self._problem.split(params, model_state), own)

    def join(
        self, params: Tensors, model_state: Tensors, state: Any, before: Any
    ) -> tuple[Tensors, Tensors, Any]:
        """Undoes `split`; the optimizer's state of the rest is that of `before`."""
        whole = put_state(before, state, self._places, self._params, self._problem.changing)
        return (*self._problem.join(params, model_state), whole)


def part_of(
    optimizer: TrainableOptimizer, optimizee: Optimizee, carry: Any, batches: Any
) -> Part | None:
    """Returns how to split an optimizee; None: all its parameters change.

    Args:
        optimizer: The learned optimizer.
        optimizee: What it optimizes.
        carry: Where the unroll starts.
        batches: Its mini-batches [T, ...], or [T, K, ...].
    """
    params, model_state, state = carry
    kinds = gradient_kinds_of(optimizee, params, model_state, batches, axes=1)
    if Gradient.NONE not in kinds:
        return None
    return Part(optimizer, optimizee, kinds, params, state)
