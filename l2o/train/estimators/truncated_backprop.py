"""Truncated backpropagation: the gradient of each unroll through all its steps, and no further."""

from __future__ import annotations

import tensorflow as tf

from l2o.inner.batched import keep_where
from l2o.inner.trajectory import Carry, Tensors
from l2o.inner.unroll import Unroll
from l2o.options import check_given
from l2o.train.estimators.base import Estimate, GradientEstimator, report
from l2o.train.estimators.scheduled import Schedule
from l2o.train.losses.base import Loss


class TruncatedBackprop(GradientEstimator):
    """The exact gradient of an unroll's loss. Where the unroll starts is a constant.

    The state of an optimizee is its carry.

    Args:
        second_derivatives: Whether to differentiate through the optimizee's gradient
            (Wichrowska et al. 2017) [False].
        schedule: What the learning rate does in each unroll: "constant", "cosine" or
            "warmup_cosine", as with `FullES`. If it is not "constant", each unroll is a training of
            its own, as there: nothing is truncated ["constant"].
    """

    def __init__(
        self, *, second_derivatives: bool = False, schedule: Schedule = "constant"
    ) -> None:
        check_given(TruncatedBackprop, locals(), "estimator")
        self.second_derivatives = second_derivatives
        self.schedule = schedule
        self.whole_trainings = schedule != "constant"

    def estimate(
        self,
        weights: Tensors,
        loss: Loss,
        state: Carry,
        batches: object,
        steps: tf.Tensor,
        seeds: tf.Tensor,
    ) -> Estimate:
        """See `GradientEstimator.estimate`."""
        loss = loss.for_unroll(state, batches, steps)
        unroll = Unroll(
            self.rule,
            weights,
            self.optimizee,
            state,
            batches,
            steps,
            second_derivatives=self.second_derivatives,
            scored=loss.objectives,
            multiplier=self.multiplier(steps),
        )
        trajectory = unroll.forward(
            references=loss.references, parameters=loss.parameters, ended=loss.ended, record=True
        )
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch([trajectory.objectives, trajectory.parameters])
            value = loss(trajectory, steps)
        d_objectives, d_parameters = tape.gradient(
            value, [trajectory.objectives, trajectory.parameters]
        )
        counts = trajectory.healthy & tf.math.is_finite(value)
        # A diverged optimizee must not change the sum over the others.
        if d_objectives is not None:
            (d_objectives,) = keep_where(counts, [d_objectives], axis=1)
        d_parameters = keep_where(counts, d_parameters, axis=1)
        gradients = unroll.backward(trajectory, d_objectives, d_parameters)
        count = tf.reduce_sum(tf.cast(counts, tf.int32))
        # A single optimizee was not masked: zero its part before the all-reduce if it diverged.
        gradients = [tf.where(count > 0, g, tf.zeros_like(g)) for g in gradients]
        result = report(value, counts, trajectory, steps)
        return Estimate(gradients, count, result, trajectory.carry)
