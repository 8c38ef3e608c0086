"""The differentiable loop: T steps of an optimizer on an optimizee."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from l2o.optimizer import TrainableOptimizer
from l2o.problems import Problem


class Carry(NamedTuple):
    """What one unroll hands to the next: optimizee and optimizer, without gradients."""

    params: list[tf.Tensor]
    model_state: list[tf.Tensor]
    optimizer_state: Any


class Trajectory(NamedTuple):
    """What a loss may look at.

    objectives: [T], f_i: the objective after update i, on the mini-batch of update i+1.
    references: [T], the objective on the same mini-batches at the parameters at the
        start of the unroll (zeros if not asked for).
    parameters: per parameter [T, ...], its value after update i ([] if not asked for).
    steps: int32, how many updates ran before the unroll ended; entries behind are 0.
    carry: Where it ended.
    """

    objectives: tf.Tensor
    references: tf.Tensor
    parameters: list[tf.Tensor]
    steps: tf.Tensor
    carry: Carry


def never(f: tf.Tensor, f_0: tf.Tensor) -> tf.Tensor:
    """Returns false: the unroll goes on."""
    return tf.zeros([], tf.bool)


def unroll(
    optimizer: TrainableOptimizer,
    problem: Problem,
    carry: Carry,
    batches: Any,
    steps: tf.Tensor,
    *,
    second_derivatives: bool = False,
    references: bool = True,
    parameters: bool = False,
    ended: Callable[[tf.Tensor, tf.Tensor], tf.Tensor] = never,
) -> Trajectory:
    """Runs `steps` updates in a loop that a gradient tape can differentiate.

    Args:
        optimizer: Whose `update` runs.
        problem: Whose `objective` is minimised.
        carry: Where to start.
        batches: [steps + 1, ...] nest: the first only drives update 1, mini-batch i
            scores update i and drives update i+1.
        steps: int32 scalar T, at least 1; a tensor, so that one trace serves all.
        second_derivatives: Whether the optimizee's gradient is differentiated too
            [False, as Andrychowicz et al. 2016].
        references: Whether to compute `Trajectory.references` [True].
        parameters: Whether to record `Trajectory.parameters` [False].
        ended: (f_i, reference) -> bool, whether the unroll ends with this update; it
            always ends where f_i is not finite.

    Returns:
        The trajectory.
    """
    start = tf.nest.map_structure(tf.stop_gradient, carry)

    def batch(i: tf.Tensor) -> Any:
        return tf.nest.map_structure(lambda b: b[i], batches)

    def evaluate(
        params: Sequence[tf.Tensor], model_state: Sequence[tf.Tensor], i: tf.Tensor
    ) -> tuple[tf.Tensor, list[tf.Tensor], list[tf.Tensor]]:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(params)
            f, model_state = problem.objective(params, model_state, batch(i))
        grads = tape.gradient(f, params, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        if not second_derivatives:
            grads = [tf.stop_gradient(g) for g in grads]
        return f, grads, model_state

    def step(i: tf.Tensor, alive: tf.Tensor, now: Carry, seen: Any, grads: Any, record: Any) -> Any:
        deltas, optimizer_state = optimizer.update(now.params, grads, now.optimizer_state)
        params = [p + d for p, d in zip(now.params, deltas, strict=True)]
        # The next unroll sees mini-batch i + 1 again: the carry stays at the state before it.
        model_state = seen
        f, grads, seen = evaluate(params, model_state, i + 1)
        f_0 = tf.zeros([], f.dtype)
        if references:
            f_0, _ = problem.objective(start.params, start.model_state, batch(i + 1))
        record = (
            record[0].write(i, f),
            record[1].write(i, f_0),
            [array.write(i, p) for array, p in zip(record[2], params, strict=False)],
        )
        alive = tf.math.is_finite(f) & ~ended(f, f_0)
        return i + 1, alive, Carry(params, model_state, optimizer_state), seen, grads, record

    def array(like: tf.Tensor) -> tf.TensorArray:
        return tf.TensorArray(like.dtype, size=steps, element_shape=like.shape)

    f, grads, seen = evaluate(start.params, start.model_state, tf.zeros([], tf.int32))
    record = (array(f), array(f), [array(p) for p in start.params if parameters])
    i, _, carry, _, _, (objectives, reference_values, values) = tf.while_loop(
        lambda i, alive, *_: alive & (i < steps),
        step,
        (
            tf.zeros([], tf.int32),
            tf.ones([], tf.bool),
            start,
            seen,
            grads,
            record,
        ),
    )
    return Trajectory(
        objectives.stack(), reference_values.stack(), [v.stack() for v in values], i, carry
    )
