"""What a checkpoint holds: everything that training changes, as named arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from l2o.errors import UserError
from l2o.optimizer import TrainableOptimizer
from l2o.problems import Problem
from l2o.train.distributed.layout import Layout


class TrainingState:
    """Everything that training changes. Each process holds the part of its own optimizees.

    Args:
        optimizer: What is trained.
        problems: What it is trained on.
        layout: Of the optimizees.
        meta_optimizers: Those of training and of imitation, by name.
        imitation: Per problem, the imitation loss with its teachers, a value of the layout;
            None: there is none.
        persistent: Whether the learned optimizer's and the teachers' states live on when an
            optimizee is replaced.

    Attributes:
        optimizer_states: Per problem and own optimizee, the learned optimizer's state that
            the next optimizee starts with; None: a fresh one.
    """

    def __init__(
        self,
        optimizer: TrainableOptimizer,
        problems: Sequence[Problem],
        layout: Layout,
        meta_optimizers: Mapping[str, keras.optimizers.Optimizer],
        imitation: Sequence[Any],
        persistent: bool,
    ) -> None:
        self._optimizer = optimizer
        self._problems = problems
        self._layout = layout
        self._meta_optimizers = meta_optimizers
        self._imitation = imitation
        self._persistent = persistent
        self.optimizer_states: list[list[Any]] = [[None] * len(layout.own) for _ in problems]

    def variables(self) -> dict[str, Any]:
        """Returns all variables by the names of their arrays."""
        groups: dict[str, list[Any]] = {"network": list(self._optimizer.network.weights)}
        for name, optimizer in self._meta_optimizers.items():
            groups[name] = list(optimizer.variables)
        for i, loss in enumerate(self._imitation if self._persistent else []):
            losses = self._layout.parts(loss) if loss else []
            for j, same in enumerate(zip(*[part.teachers for part in losses], strict=True)):
                optimizers = [own for teacher in same for own in teacher.optimizers]
                for k, own in zip(self._layout.own, optimizers, strict=True):
                    variables = [variable for optimizer in own for variable in optimizer.variables]
                    groups[f"problem_{i}_instance_{k}_teacher_{j}"] = variables
        return {
            f"{group}/{i}": variable
            for group, variables in groups.items()
            for i, variable in enumerate(variables)
        }

    def save(self) -> dict[str, np.ndarray]:
        """Returns the state of all processes.

        The array "optimizer" is the class that is trained: the weights of another class may
        have the same shapes.
        """
        arrays = {name: variable.numpy() for name, variable in self.variables().items()}
        arrays["optimizer"] = np.array(type(self._optimizer).__name__)
        for i, states in enumerate(self.optimizer_states):
            for k, state in zip(self._layout.own, states, strict=True):
                for j, tensor in enumerate(tf.nest.flatten(state) if state is not None else []):
                    arrays[f"{_prefix(i, k)}{j}"] = tensor.numpy()
        # Only the persistent states differ between processes.
        return self._layout.replicas.merge(arrays) if self._persistent else arrays

    def load(self, arrays: Mapping[str, np.ndarray], source: str) -> None:
        """Restores what `save` returned, in any number of processes.

        Args:
            arrays: By the same names.
            source: Where they come from, for messages.

        Raises:
            UserError: If one is missing or has another shape or dtype; nothing is changed.
        """
        check_optimizer(self._optimizer, arrays, source)
        variables = self.variables()
        for name, variable in variables.items():
            fits = name in arrays and arrays[name].shape == tuple(variable.shape)
            if not fits or arrays[name].dtype != np.dtype(variable.dtype):
                raise UserError(f"{source} does not belong to this configuration ({name})")
        states = [
            [self._optimizer_state(i, k, arrays, source) for k in self._layout.own]
            for i in range(len(self._problems))
        ]
        for name, variable in variables.items():
            variable.assign(arrays[name])
        self.optimizer_states = states

    def _optimizer_state(
        self, i: int, k: int, arrays: Mapping[str, np.ndarray], source: str
    ) -> Any:
        count = sum(name.startswith(_prefix(i, k)) for name in arrays)
        if not count:
            return None
        problem = self._problems[i]
        like = self._optimizer.initial_state(problem.specs(problem.init(0).params))
        leaves = [arrays.get(f"{_prefix(i, k)}{j}") for j in range(count)]
        shapes = [tuple(t.shape) for t in tf.nest.flatten(like)]
        if [None if a is None else a.shape for a in leaves] != shapes:
            raise UserError(
                f"{source} does not belong to this configuration (state {k} of problem {i})"
            )
        return tf.nest.pack_sequence_as(like, [tf.constant(a) for a in leaves])


def check_optimizer(
    optimizer: TrainableOptimizer, arrays: Mapping[str, np.ndarray], source: str
) -> None:
    """Checks that a checkpoint's arrays belong to an optimizer's class.

    Args:
        optimizer: Of the expected class.
        arrays: What `TrainingState.save` returned.
        source: Where they come from, for messages.

    Raises:
        UserError: If they belong to another class.
    """
    written, expected = str(arrays.get("optimizer")), type(optimizer).__name__
    if written != expected:
        raise UserError(f"{source} does not belong to {expected}: it has the weights of {written}")


def _prefix(i: int, k: int) -> str:
    return f"problem_{i}_instance_{k}_state/"
