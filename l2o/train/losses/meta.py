"""The meta-loss: how far an unroll lowered the objective."""

from __future__ import annotations

import dataclasses

import tensorflow as tf

from l2o.inner.trajectory import Trajectory
from l2o.train.losses.base import Loss, LossArgs, StepWeights, step_weights, steps_that_ran


class MetaLoss(Loss):
    """Scores a trajectory by its objectives.

        sum_i w_i f_i                                     plain
        sum_i w_i f_i / (f_0 + eps)                       scale_objective
        sum_i w_i log(f_i [+ eps])                        use_log_objective
        sum_i w_i (log(f_i [+ eps]) - log(f_0 + eps))     both

    Args:
        args: Which of these, epsilon, and when an unroll ends [the defaults].
        weights: The step weights w_i ["sum"].
    """

    def __init__(self, args: LossArgs | None = None, weights: StepWeights = "sum") -> None:
        self.args = args or LossArgs()
        self.weights = weights
        self.references = self.args.scale_objective or self.args.ends_unrolls

    def for_validation(self) -> MetaLoss:
        """Returns the same loss without an early end.

        An unroll that ends early adds up fewer steps, so it would seem to validate well.
        """
        return MetaLoss(dataclasses.replace(self.args, obj_train_max_multiplier=-1.0), self.weights)

    def ended(self, f: tf.Tensor, f_0: tf.Tensor) -> tf.Tensor:
        """See `Loss.ended`."""
        return self.args.ended(f, f_0)

    def __call__(self, trajectory: Trajectory, steps: tf.Tensor) -> tf.Tensor:
        """See `Loss.__call__`."""
        weights = step_weights(self.weights, steps, trajectory.steps)
        ran = steps_that_ran(trajectory, weights)
        # 1 where no step ran: the logarithm's gradient there is multiplied by 0, and 0 times an
        # infinity would not be 0.
        f = tf.where(ran, trajectory.objectives, tf.ones_like(trajectory.objectives))
        f_0 = tf.where(ran, trajectory.references, tf.ones_like(f))
        epsilon = tf.constant(self.args.epsilon, f.dtype)
        if self.args.use_log_objective:
            value = tf.math.log(f + epsilon if self.args.use_numerator_epsilon else f)
            if self.args.scale_objective:
                value -= tf.math.log(f_0 + epsilon)
        else:
            value = f / (f_0 + epsilon) if self.args.scale_objective else f
        weighted = tf.cast(weights, f.dtype) * value
        return tf.reduce_sum(tf.where(ran, weighted, tf.zeros_like(f)), 0)
