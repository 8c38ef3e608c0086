"""The imitation loss: how far an unroll is from what teachers did."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Literal

import tensorflow as tf

from l2o.inner.trajectory import Carry, Tensors, Trajectory
from l2o.train.losses.base import Loss, LossArgs, StepWeights, step_weights, steps_that_ran
from l2o.train.losses.teachers import Teacher

Reduction = Literal["mean", "max", "mean_log"]


class ImitationLoss(Loss):
    """Scores a trajectory by its distance to the teachers' parameters.

        d_i = reduce_teachers |theta_i - theta_i^teacher|^2,   sum_i w_i log(d_i + eps)

    Without `use_log_objective`, sum_i w_i d_i. With the reduction "mean_log" the mean is that of
    the logarithms, as in Huang et al. 2022; "max" is their min-max.

    Args:
        args: Whether to take the logarithm, epsilon, and when an unroll ends [the defaults].
        weights: The step weights w_i ["sum"].
        reduction: Over teachers: "mean", "max" or "mean_log" ["mean"].
        teachers: Whom to imitate; they run before the unroll, from the same start.
        lessons: What the teachers did in one unroll: for each of them, per parameter
            [T, ...], or [T, K, ...] with an axis of optimizees.
    """

    objectives = False
    parameters = True

    def __init__(
        self,
        args: LossArgs | None = None,
        weights: StepWeights = "sum",
        reduction: Reduction = "mean",
        *,
        teachers: Sequence[Teacher] = (),
        lessons: Sequence[Tensors] = (),
    ) -> None:
        self.args = args or LossArgs()
        self.weights = weights
        self.reduction: Reduction = reduction
        self.teachers = teachers
        self.lessons = lessons
        self.references = self.args.ends_unrolls

    def for_unroll(
        self, carry: Carry, batches: Any, steps: tf.Tensor, copy: int = 0
    ) -> ImitationLoss:
        """See `Loss.for_unroll`: runs the teachers."""
        lessons = [teacher.run(carry, batches, steps, copy) for teacher in self.teachers]
        return ImitationLoss(self.args, self.weights, self.reduction, lessons=lessons)

    @contextmanager
    def rehearsed(self) -> Iterator[None]:
        """See `Loss.rehearsed`."""
        with ExitStack() as stack:
            for teacher in self.teachers:
                stack.enter_context(teacher.rehearsed())
            yield

    def ended(self, f: tf.Tensor, f_0: tf.Tensor) -> tf.Tensor:
        """See `Loss.ended`."""
        return self.args.ended(f, f_0)

    def __call__(self, trajectory: Trajectory, steps: tf.Tensor) -> tf.Tensor:
        """See `Loss.__call__`."""
        weights = step_weights(self.weights, steps, trajectory.steps)
        dtype = trajectory.objectives.dtype
        axes = weights.shape.rank  # of steps, and of optimizees
        distances = tf.stack(
            [
                tf.add_n(
                    [
                        tf.cast(tf.reduce_sum(tf.square(p - q), range(axes, p.shape.rank)), dtype)
                        for p, q in zip(trajectory.parameters, lesson, strict=True)
                    ]
                )
                for lesson in self.lessons
            ]
        )
        distance = self._reduced(distances)
        weighted = tf.cast(weights, distance.dtype) * distance
        ran = steps_that_ran(trajectory, weights)
        return tf.reduce_sum(tf.where(ran, weighted, tf.zeros_like(distance)), 0)

    def _reduced(self, distances: tf.Tensor) -> tf.Tensor:
        """Returns the loss of each step, from [teachers, ...] squared distances."""

        def log(d: tf.Tensor) -> tf.Tensor:
            return tf.math.log(d + tf.constant(self.args.epsilon, d.dtype))

        if self.reduction == "mean_log":
            return tf.reduce_mean(log(distances), axis=0)
        reduce = tf.reduce_mean if self.reduction == "mean" else tf.reduce_max
        distance = reduce(distances, axis=0)
        return log(distance) if self.args.use_log_objective else distance
