"""Evolution strategies on unrolls: truncated ones, and whole trainings."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from l2o.errors import UserError
from l2o.inner.trajectory import Carry, Tensors
from l2o.options import Positive, check_given
from l2o.train.estimators.base import Estimate, report
from l2o.train.estimators.evolution import EvolutionStrategies
from l2o.train.estimators.scheduled import Schedule
from l2o.train.losses.base import Loss


class ES(EvolutionStrategies):
    """Truncated evolution strategies: a pair starts from the state that theta's own run is in.

        g = e (L+ - L-) / (2 sigma^2)

    As with truncated backpropagation, the start of an unroll counts as a constant, so the
    estimate is biased. It stays smooth where the gradient of a long unroll explodes.

    Args:
        sigma: Standard deviation of the perturbations [0.01].
    """

    def __init__(self, *, sigma: Positive = 0.01) -> None:
        check_given(ES, locals(), "estimator")
        super().__init__(sigma)

    def estimate(
        self,
        weights: Tensors,
        loss: Loss,
        state: Carry,
        batches: Any,
        steps: tf.Tensor,
        seeds: tf.Tensor,
    ) -> Estimate:
        """See `GradientEstimator.estimate`."""
        e, own = self.draw(seeds), loss.for_unroll(state, batches, steps)
        plus, minus, middle = (
            self.unroll(weights, sign * e, own, state, batches, steps) for sign in (1.0, -1.0, 0.0)
        )
        made = self.estimate_from(weights, e, plus, minus, steps, middle.trajectory.carry)
        value = middle.value(middle.trajectory.steps, steps)
        finite = made.result.finite & middle.trajectory.healthy & tf.math.is_finite(value)
        own_result = report(value, finite, middle.trajectory, steps)
        all_steps = made.result.steps + own_result.steps
        return made._replace(result=own_result._replace(steps=all_steps))


class FullES(EvolutionStrategies):
    """Evolution strategies on whole trainings: each unroll is a training of its own.

        g = e (L+ - L-) / (2 sigma^2)

    An optimizee is replaced after each unroll, so `training/depth` has no effect. With
    `strategy/horizon`, the horizon draws the length of each unroll, for all optimizees together,
    and the strategy's own lengths have no effect. VeLO was trained in this way (Metz et al. 2022,
    arXiv 2211.09760), with the sign of the difference.

    Args:
        sigma: Standard deviation of the perturbations [0.01].
        clip: L+ - L- is clipped to plus and minus this; None: not at all [None].
        sign: Whether only the sign of L+ - L- counts [False].
        schedule: What the learning rate does in each training: "constant", "cosine" (falls to 0)
            or "warmup_cosine" (rises for 5 % of the steps, then falls), as in an evaluation. If it
            is not "constant", each unroll of a validation is a training of its own too
            ["constant"].

    Raises:
        UserError: If an option does not fit, or `clip` and `sign` are both given.
    """

    whole_trainings = True

    def __init__(
        self,
        *,
        sigma: Positive = 0.01,
        clip: Positive | None = None,
        sign: bool = False,
        schedule: Schedule = "constant",
    ) -> None:
        check_given(FullES, locals(), "estimator")
        if sign and clip is not None:
            raise UserError(
                "clipping does not change the sign; expected one of clip and sign", "estimator/clip"
            )
        super().__init__(sigma)
        self.clip = clip
        self.sign = sign
        self.schedule = schedule

    def estimate(
        self,
        weights: Tensors,
        loss: Loss,
        state: Carry,
        batches: Any,
        steps: tf.Tensor,
        seeds: tf.Tensor,
    ) -> Estimate:
        """See `GradientEstimator.estimate`."""
        e, own = self.draw(seeds), loss.for_unroll(state, batches, steps)
        plus, minus = (
            self.unroll(weights, sign * e, own, state, batches, steps) for sign in (1.0, -1.0)
        )
        # With `training/persistent`, theta + e leaves its optimizer's state to the next optimizee.
        return self.estimate_from(weights, e, plus, minus, steps, plus.trajectory.carry)

    def difference(self, plus: tf.Tensor, minus: tf.Tensor) -> tf.Tensor:
        """See `EvolutionStrategies.difference`."""
        d = plus - minus
        if self.clip is not None:
            d = tf.clip_by_value(d, -self.clip, self.clip)
        return tf.sign(d) if self.sign else d
