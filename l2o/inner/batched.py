"""Batched instances of a problem side by side: whatever belongs to them has an axis for it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from l2o.problems import Gradient, Problem


class Batched:
    """`count` instances of a problem, the first axis of all tensors.

    Args:
        problem: What they are instances of.
        count: How many, at least 2.
    """

    def __init__(self, problem: Problem, count: int) -> None:
        self.problem = problem
        self.count = count

    def objective(self, params: Any, model_state: Any, batch: Any) -> tuple[tf.Tensor, Any]:
        """See `Problem.objective`: [count] losses, each of its own instance and mini-batch."""
        # Operations that TensorFlow cannot vectorise run in a loop, as they would have to.
        loss, after = tf.vectorized_map(
            lambda instance: self.problem.objective(*instance),
            (list(params), list(model_state), batch),
            warn=False,
        )
        return tf.ensure_shape(loss, [self.count]), [
            tf.ensure_shape(new, old.shape) for new, old in zip(after, model_state, strict=True)
        ]


Optimizee = Problem | Batched


def count_of(optimizee: Optimizee) -> int | None:
    """Returns how many instances it has side by side; None: one, without an axis for it."""
    return optimizee.count if isinstance(optimizee, Batched) else None


def problem_of(optimizee: Optimizee) -> Problem:
    """Returns what it is an instance of, or what they are instances of."""
    return optimizee.problem if isinstance(optimizee, Batched) else optimizee


def one_of(optimizee: Optimizee, nest: Any, axes: int = 0) -> Any:
    """Returns the shapes and dtypes of what belongs to one instance.

    Args:
        optimizee: One instance, or several.
        nest: Tensors of all instances.
        axes: How many axes come before that of the instances; they are left out too [0].
    """
    skip = axes + int(isinstance(optimizee, Batched))
    return tf.nest.map_structure(lambda t: tf.TensorSpec(t.shape[skip:], t.dtype), nest)


def gradients_of(
    optimizee: Optimizee, params: Any, model_state: Any, batch: Any, axes: int = 0
) -> tuple[Gradient, ...]:
    """Returns `Problem.gradient_kinds`.

    Args:
        optimizee: One instance, or several.
        params: Of all instances.
        model_state: Of all instances.
        batch: A mini-batch of each.
        axes: How many axes come before those of the mini-batch [0].
    """
    return problem_of(optimizee).gradient_kinds(
        one_of(optimizee, list(params)),
        one_of(optimizee, list(model_state)),
        one_of(optimizee, batch, axes),
    )


def keep_where(flags: tf.Tensor, tensors: Sequence[tf.Tensor], axis: int = 0) -> list[tf.Tensor]:
    """Returns tensors with zeros for the instances whose flag is false.

    Args:
        flags: [count] bool; a scalar changes nothing.
        tensors: Their axis `axis` is that of the instances.
        axis: Which [0].
    """
    if flags.shape.rank == 0:
        return list(tensors)
    kept = []
    for tensor in tensors:
        shape = [1] * tensor.shape.rank
        shape[axis] = flags.shape[0]
        # Not a product: 0 times infinity is not 0.
        kept.append(tf.where(tf.reshape(flags, shape), tensor, tf.zeros_like(tensor)))
    return kept


def stack(instances: Sequence[Any], axis: int = 0) -> Any:
    """Returns one nest of tensors from several of the same structure."""
    return tf.nest.map_structure(lambda *leaves: tf.stack(leaves, axis), *instances)


def put(nest: Any, index: int, instance: Any) -> Any:
    """Returns `nest` with another instance at `index`."""
    return tf.nest.map_structure(
        lambda all_, one: tf.tensor_scatter_nd_update(all_, [[index]], one[tf.newaxis]),
        nest,
        instance,
    )


def take(nest: Any, index: int) -> Any:
    """Returns the instance at `index`."""
    return tf.nest.map_structure(lambda leaf: leaf[index], nest)
