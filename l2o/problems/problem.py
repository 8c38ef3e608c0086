"""Problem: a family of optimizees, as pure functions."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, NamedTuple

import tensorflow as tf

from l2o.errors import UserError
from l2o.registry import Registry

Batch = Any  # a nest of tensors; () where the problem has no data


class Instance(NamedTuple):
    """What `Problem.init` draws: the start of an optimizee.

    params: The parameters, a list of floating tensors.
    model_state: A list of tensors that the objective carries along (batch statistics, seeds,
        constants drawn for the instance).
    """

    params: list[tf.Tensor]
    model_state: list[tf.Tensor]


class HeldOut(NamedTuple):
    """A mini-batch of examples that the optimizee does not train on.

    `Problem.objective` returns the loss of inference for it (no dropout, moving statistics instead
    of those of the mini-batch, no penalties unless the problem counts them in), and the model state
    as it was.
    """

    batch: Batch


class SplitBatches(NamedTuple):
    """What `stream` returns of a problem of `l2o.problems.held_out.with_held_out`.

    train: The mini-batches that the optimizee trains on.
    held_out: As many of the other examples, a `HeldOut`.
    """

    train: Batch
    held_out: HeldOut


class Gradient(Enum):
    """The kind of gradient that automatic differentiation returns for a parameter.

    NONE: The loss does not depend on the parameter; Keras' optimizers do not update it.
    SPARSE: `tf.IndexedSlices`, as for an embedding; Keras' optimizers treat it differently.
    """

    NONE = 0
    DENSE = 1
    SPARSE = 2


class Problem(ABC):
    """A family of optimizees: how they start, their objective and its data.

    Attributes:
        name: Name in messages and file names.
        steps_per_epoch: Number of mini-batches in an epoch; None for a problem without data.
        param_names: Names of the parameters, in their order; parameters beyond the last name have
            none.
    """

    name: str
    steps_per_epoch: int | None = None
    param_names: Sequence[str] = ()

    @abstractmethod
    def init(self, seed: int) -> Instance:
        """Returns the instance that belongs to `seed`."""

    @abstractmethod
    def objective(
        self, params: Sequence[tf.Tensor], model_state: Sequence[tf.Tensor], batch: Batch
    ) -> tuple[tf.Tensor, list[tf.Tensor]]:
        """Returns the loss to be minimised, as a pure function.

        Args:
            params: As in `Instance`.
            model_state: As in `Instance`.
            batch: One mini-batch from `batches` or `stream`.

        Returns:
            The loss (scalar) and the new model_state.
        """

    def batches(self, seed: int, start: int, count: int) -> Batch:
        """Returns mini-batches `start` to `start + count` of the stream of a seed.

        Args:
            seed: Seed of the order of the examples.
            start: Index of the first mini-batch; epochs follow each other without end.
            count: Number of mini-batches.

        Returns:
            A nest of [count, ...] tensors; () for a problem without data.
        """
        return ()

    def stream(self, seed: int, start: int, count: int) -> Batch:
        """Returns the mini-batches of `batches` in the form that is fastest for `objective`."""
        return self.batches(seed, start, count)

    def specs(self, params: Sequence[Any]) -> list[tf.TensorSpec]:
        """Returns the shapes, dtypes and names of parameters, for an optimizer's first state."""
        names = [*self.param_names, *[None] * len(params)]
        return [
            tf.TensorSpec(p.shape, p.dtype, name) for p, name in zip(params, names, strict=False)
        ]

    def gradient_kinds(
        self, params: Sequence[Any], model_state: Sequence[Any], batch: Any
    ) -> tuple[Gradient, ...]:
        """Returns the kind of the gradient of each parameter.

        The first call traces the objective; later calls return the same result, since it is
        equal for all instances.

        Args:
            params: As for `objective`; only shapes and dtypes matter.
            model_state: As for `objective`; only shapes and dtypes matter.
            batch: As for `objective`; only shapes and dtypes matter.

        Raises:
            UserError: If the objective depends on no parameter.
        """
        known: tuple[Gradient, ...] | None = self.__dict__.get("_gradients")
        if known is None:
            known = self.__dict__["_gradients"] = self._traced(params, model_state, batch)
        return known

    def _traced(self, *args: Any) -> tuple[Gradient, ...]:
        found: list[Any] = []

        def differentiate(
            params: list[tf.Tensor], model_state: list[tf.Tensor], batch: Batch
        ) -> None:
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(params)
                f, _ = self.objective(params, model_state, batch)
            found.extend(tape.gradient(f, params))

        params, model_state, batch = tf.nest.map_structure(
            lambda t: tf.TensorSpec(t.shape, t.dtype), args
        )
        tf.function(differentiate, autograph=False).get_concrete_function(
            list(params), list(model_state), batch
        )
        if all(g is None for g in found):
            raise UserError(f"the loss of {self.name} does not depend on its parameters")
        return tuple(_kind(g) for g in found)


@dataclass(frozen=True)
class ProblemSpec:
    """How to build a problem: the form in which a config has it.

    Args:
        target: A registered name (`"mlp_classifier"`) or, from Python, any callable
            that returns a `Problem`.
        args: Its positional arguments [()].
        kwargs: Its keyword arguments [{}].
        wrappers: Wrappers around the problem, the innermost first. The target of each is a
            registered name (`"RandomScaling"`) or a callable whose first argument is a problem
            [()].
    """

    target: str | Callable[..., Problem]
    args: Sequence[Any] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    wrappers: Sequence[ProblemSpec] = ()

    def build(self) -> Problem:
        """Returns the problem.

        Raises:
            UserError: If there is no such target, an argument is wrong, or a wrapper has
                wrappers itself.
        """
        from l2o.problems import PROBLEMS, WRAPPERS

        problem = self._target(PROBLEMS)(*self.args, **self.kwargs)
        for wrapper in self.wrappers:
            if wrapper.wrappers:
                raise UserError(f"wrapper {wrapper.target!r}: expected no wrappers of its own")
            problem = wrapper._target(WRAPPERS)(problem, *wrapper.args, **wrapper.kwargs)
        return problem

    def _target(self, registry: Registry[Callable[..., Problem]]) -> Callable[..., Problem]:
        return registry.find(self.target) if isinstance(self.target, str) else self.target


def _kind(gradient: Any) -> Gradient:
    if gradient is None:
        return Gradient.NONE
    return Gradient.SPARSE if isinstance(gradient, tf.IndexedSlices) else Gradient.DENSE
