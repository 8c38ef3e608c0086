"""Optimizees side by side: all their tensors have an axis of optimizees, K long."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from l2o.problems import Gradient, Problem
from l2o.problems.problem import SplitBatches


class Batched:
    """`count` optimizees, instances of one problem, along the first axis of all tensors.

    Args:
        problem: What they are instances of.
        count: How many, at least 2.
    """

    def __init__(self, problem: Problem, count: int) -> None:
        self.problem = problem
        self.count = count

    def objective(self, params: Any, model_state: Any, batch: Any) -> tuple[tf.Tensor, Any]:
        """See `Problem.objective`: [count] losses, each of its own optimizee and mini-batch."""
        # TensorFlow runs operations that it cannot vectorise in a loop; a warning would not help.
        loss, after = tf.vectorized_map(
            lambda optimizee: self.problem.objective(*optimizee),
            (list(params), list(model_state), batch),
            warn=False,
        )
        return tf.ensure_shape(loss, [self.count]), [
            tf.ensure_shape(new, old.shape) for new, old in zip(after, model_state, strict=True)
        ]


Optimizee = Problem | Batched


def count_of(optimizee: Optimizee) -> int | None:
    """Returns K, how many optimizees are side by side; None: one, without an axis."""
    return optimizee.count if isinstance(optimizee, Batched) else None


def problem_of(optimizee: Optimizee) -> Problem:
    """Returns the problem that each optimizee is an instance of."""
    return optimizee.problem if isinstance(optimizee, Batched) else optimizee


def one_of(optimizee: Optimizee, nest: Any, axes: int = 0) -> Any:
    """Returns the shapes and dtypes of the tensors of one optimizee.

    Args:
        optimizee: One, or K side by side.
        nest: Tensors of all of them.
        axes: How many axes come before that of the optimizees; they are left out too [0].
    """
    skip = axes + int(isinstance(optimizee, Batched))
    return tf.nest.map_structure(lambda t: tf.TensorSpec(t.shape[skip:], t.dtype), nest)


def gradient_kinds_of(
    optimizee: Optimizee, params: Any, model_state: Any, batch: Any, axes: int = 0
) -> tuple[Gradient, ...]:
    """Returns `Problem.gradient_kinds`, which are the same for all optimizees.

    Args:
        optimizee: One, or K side by side.
        params: Of all of them.
        model_state: Of all of them.
        batch: A mini-batch of each.
        axes: How many axes come before those of the mini-batch [0].
    """
    return problem_of(optimizee).gradient_kinds(
        one_of(optimizee, list(params)),
        one_of(optimizee, list(model_state)),
        one_of(optimizee, batch, axes),
    )


def keep_where(flags: tf.Tensor, tensors: Sequence[tf.Tensor], axis: int = 0) -> list[tf.Tensor]:
    """Returns tensors with zeros for the optimizees whose flag is false.

    Args:
        flags: [K] bool; a scalar, of one optimizee without an axis, changes nothing.
        tensors: Tensors with an axis of optimizees.
        axis: Which axis that is [0].
    """
    if flags.shape.rank == 0:
        return list(tensors)
    masked = []
    for tensor in tensors:
        shape = [1] * tensor.shape.rank
        shape[axis] = flags.shape[0]
        # Not a product: 0 times infinity is not 0.
        masked.append(tf.where(tf.reshape(flags, shape), tensor, tf.zeros_like(tensor)))
    return masked


def parts_of(batches: Any) -> tuple[Any, Any]:
    """Returns the mini-batches to train on, and those of held-out examples; None: there are none.

    Args:
        batches: As `Problem.stream` returns them, with or without an axis of optimizees.
    """
    return (*batches,) if isinstance(batches, SplitBatches) else (batches, None)


def batch_at(batches: Any, i: tf.Tensor) -> Any:
    """Returns mini-batch i."""
    return tf.nest.map_structure(lambda b: b[i], batches)


def value_and_gradients(
    optimizee: Optimizee, params: Any, model_state: Any, batch: Any
) -> tuple[tf.Tensor, list[tf.Tensor], Any]:
    """Returns the objective, its gradients and the new model state, of each optimizee.

    The gradients are dense, as learned rules expect them. Keras' optimizers get sparse ones
    where there are any: see `PerOptimizee`.
    """
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(params)
        # The reshape makes each gradient dense, even if the objective gathers rows of a parameter.
        dense = [tf.reshape(p, tf.shape(p)) for p in params]
        f, model_state = optimizee.objective(dense, model_state, batch)
    grads = tape.gradient(f, params, unconnected_gradients=tf.UnconnectedGradients.ZERO)
    return f, grads, model_state


def stack(optimizees: Sequence[Any], axis: int = 0) -> Any:
    """Returns one nest of tensors with an axis of optimizees.

    Args:
        optimizees: For each, a nest of the same structure.
        axis: Where the axis of optimizees goes [0].
    """
    return tf.nest.map_structure(lambda *leaves: tf.stack(leaves, axis), *optimizees)


def put(nest: Any, index: int, optimizee: Any) -> Any:
    """Returns `nest` with the tensors of the optimizee at `index` replaced."""
    return tf.nest.map_structure(
        lambda all_, one: tf.tensor_scatter_nd_update(all_, [[index]], one[tf.newaxis]),
        nest,
        optimizee,
    )


def take(nest: Any, index: int) -> Any:
    """Returns the tensors of the optimizee at `index`."""
    return tf.nest.map_structure(lambda leaf: leaf[index], nest)
