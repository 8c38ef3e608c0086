"""The meta-loss and the imitation loss: pure functions of a trajectory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import tensorflow as tf

from l2o.errors import UserError
from l2o.inner.unroll import Trajectory
from l2o.options import Epsilon, check_given

UnrollWeights = Literal["sum", "mean", "last"] | Callable[[int], tf.Tensor]
Reduction = Literal["mean", "max"]


def unroll_weights(kind: UnrollWeights, steps: tf.Tensor, ran: tf.Tensor) -> tf.Tensor:
    """Returns the weight w_i of each step of an unroll.

    Args:
        kind: "sum" (ones), "mean" (1/n), "last" (only the final step, as RNNProp) or a
            callable that takes the int n and returns an [n] tensor.
        steps: int32 scalar n.
        ran: int32 scalar, how many steps ran before the unroll ended: the last of them is
            the final one. Of several optimizees [K].

    Returns:
        [n] float32, or [n, K].
    """
    if callable(kind):
        function = kind  # a user's Python, which wants an int: called on the host
        weights = tf.py_function(
            lambda n: tf.ensure_shape(tf.cast(function(int(n)), tf.float32), [int(n)]),
            [steps],
            tf.float32,
        )
        weights = tf.ensure_shape(weights, [None])
    elif kind == "last":
        return tf.one_hot(ran - 1, steps, axis=0)
    else:
        ones = tf.ones([steps])
        weights = ones / tf.cast(steps, tf.float32) if kind == "mean" else ones
    return weights[:, tf.newaxis] + tf.zeros_like(ran, tf.float32) if ran.shape.rank else weights


def check_weights(kind: UnrollWeights) -> None:
    """Calls a function that gives the weights of steps, for a few lengths.

    Raises:
        UserError: If it does not return a number for each step.
    """
    if not callable(kind):
        return
    for n in (1, 3):
        weights = kind(n)
        try:
            shape = tf.cast(weights, tf.float32).shape
        except (ValueError, TypeError, tf.errors.OpError):
            shape = None
        if shape != [n]:
            raise UserError(
                f"expected a function that returns a number for each of n steps; for n = {n} it "
                f"returned {weights!r}",
                "training/unroll_weights",
            )


@dataclass(frozen=True)
class LossArgs:
    """The seed's `loss_args`.

    Args:
        scale_objective: Divide by the objective at the start of the unroll, so that the
            loss shows relative improvement [True].
        use_log_objective: Take logarithms [True].
        obj_train_max_multiplier: End an unroll once f_i > f_0 + (k - 1) |f_0| for this
            k; not positive: never [-1].
        use_numerator_epsilon: Add `epsilon` inside the logarithm of f_i too [True].
        epsilon: Keeps divisors and logarithms away from 0 [1e-6].
    """

    scale_objective: bool = True
    use_log_objective: bool = True
    obj_train_max_multiplier: float = -1.0
    use_numerator_epsilon: bool = True
    epsilon: Epsilon = 1e-6

    def __post_init__(self) -> None:
        check_given(LossArgs, vars(self), "loss_args")

    @property
    def needs_references(self) -> bool:
        """Whether the objective at the start of the unroll is needed."""
        return self.scale_objective or self.obj_train_max_multiplier > 0

    def ended(self, f: tf.Tensor, f_0: tf.Tensor) -> tf.Tensor:
        """Returns whether `obj_train_max_multiplier` ends the unroll at f."""
        if self.obj_train_max_multiplier <= 0:
            return tf.zeros_like(f, tf.bool)
        return f > f_0 + (self.obj_train_max_multiplier - 1) * tf.abs(f_0)


def meta_loss(trajectory: Trajectory, weights: tf.Tensor, args: LossArgs) -> tf.Tensor:
    """Scores a trajectory by its objectives.

        sum_i w_i f_i                                     plain
        sum_i w_i f_i / (f_0 + eps)                       scale_objective
        sum_i w_i log(f_i [+ eps])                        use_log_objective
        sum_i w_i (log(f_i [+ eps]) - log(f_0 + eps))     both

    Args:
        trajectory: Steps behind `trajectory.steps` do not count.
        weights: [T], or [T, K] of several optimizees.
        args: Which of the above.

    Returns:
        A scalar, or [K]; not finite if a step's objective is not.
    """
    ran = _ran(trajectory, weights)
    # 1 where no step ran: a logarithm there must have a finite gradient, times 0.
    f = tf.where(ran, trajectory.objectives, tf.ones_like(trajectory.objectives))
    f_0 = tf.where(ran, trajectory.references, tf.ones_like(f))
    epsilon = tf.constant(args.epsilon, f.dtype)
    if args.use_log_objective:
        value = tf.math.log(f + epsilon if args.use_numerator_epsilon else f)
        if args.scale_objective:
            value -= tf.math.log(f_0 + epsilon)
    else:
        value = f / (f_0 + epsilon) if args.scale_objective else f
    return tf.reduce_sum(tf.where(ran, tf.cast(weights, f.dtype) * value, tf.zeros_like(f)), 0)


def _ran(trajectory: Trajectory, weights: tf.Tensor) -> tf.Tensor:
    """Returns which steps ran, shaped as the weights."""
    i = tf.range(tf.shape(weights)[0])
    return (i[:, tf.newaxis] if weights.shape.rank == 2 else i) < trajectory.steps


def imitation_loss(
    trajectory: Trajectory,
    teachers: Sequence[Sequence[tf.Tensor]],
    weights: tf.Tensor,
    args: LossArgs,
    reduction: Reduction,
) -> tf.Tensor:
    """Scores a trajectory by its distance to the teachers'.

        d_i = reduce_teachers |theta_i - theta_i^teacher|^2,   sum_i w_i log(d_i + eps)

    (without the logarithm unless `use_log_objective`.)

    Args:
        trajectory: The student's, with `parameters`.
        teachers: Per teacher and parameter [T, ...], over the same mini-batches.
        weights: [T], or [T, K] of several optimizees.
        args: Whether to take the logarithm, and epsilon.
        reduction: Over teachers: "mean" or "max".

    Returns:
        A scalar, or [K].
    """
    dtype = trajectory.objectives.dtype
    within = weights.shape.rank
    distances = tf.stack(
        [
            tf.add_n(
                [
                    tf.cast(tf.reduce_sum(tf.square(p - q), range(within, p.shape.rank)), dtype)
                    for p, q in zip(trajectory.parameters, teacher, strict=True)
                ]
            )
            for teacher in teachers
        ]
    )
    reduce = tf.reduce_mean if reduction == "mean" else tf.reduce_max
    distance = reduce(distances, axis=0)
    if args.use_log_objective:
        distance = tf.math.log(distance + tf.constant(args.epsilon, distance.dtype))
    weighted = tf.cast(weights, distance.dtype) * distance
    ran = _ran(trajectory, weights)
    return tf.reduce_sum(tf.where(ran, weighted, tf.zeros_like(distance)), 0)
