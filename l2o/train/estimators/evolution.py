"""Antithetic pairs: what the estimators by evolution strategies share."""

from __future__ import annotations

from typing import Any, NamedTuple

import tensorflow as tf

from l2o.inner.batched import count_of
from l2o.inner.lanes import cores
from l2o.inner.trajectory import Carry, Tensors, Trajectory
from l2o.inner.unroll import Unroll
from l2o.train.estimators.base import Estimate, GradientEstimator, StepResult, report
from l2o.train.losses.base import Loss


class Perturbed(NamedTuple):
    """An unroll with perturbed learned weights.

    loss: Scores it.
    trajectory: What it did.
    """

    loss: Loss
    trajectory: Trajectory

    def value(self, ran: tf.Tensor, steps: tf.Tensor) -> tf.Tensor:
        """Returns the loss of its first steps, in at least float32: a scalar, or [K].

        Args:
            ran: int32 scalar, or [K]: how many steps count.
            steps: int32 scalar, the length that the unroll was to have.
        """
        value = self.loss(self.trajectory._replace(steps=ran), steps)
        return tf.cast(value, _at_least_float32(value.dtype))


class EvolutionStrategies(GradientEstimator):
    """Estimates the gradient of a smoothed loss from the losses of pairs of unrolls.

    A pair unrolls an optimizee with learned weights theta + e and theta - e, with e from
    N(0, sigma^2 I), on the same mini-batches and with the same random draws. Each optimizee has a
    perturbation e of its own. Nothing is differentiated and no history is kept, so the memory
    does not grow with the length of the unroll (except in imitation, which records parameters).

    Args:
        sigma: Standard deviation of the perturbations.
    """

    def __init__(self, sigma: float) -> None:
        self.sigma = sigma

    @property
    def size(self) -> int:
        """How many learned weights there are."""
        return sum(w.shape.num_elements() for w in self.rule.weights)

    @property
    def dtype(self) -> tf.DType:
        """The dtype of perturbations."""
        widths = [_at_least_float32(tf.as_dtype(w.dtype)) for w in self.rule.weights]
        return max(widths, key=lambda dtype: dtype.size)

    def draw(self, seeds: tf.Tensor) -> tf.Tensor:
        """Returns a perturbation for each seed: [size], or [K, size]."""
        dtype = self.dtype

        def one(seed: tf.Tensor) -> tf.Tensor:
            # All machines must draw the same, whatever devices they have.
            draws = tf.random.stateless_normal(
                [self.size], tf.stack([seed, 0]), dtype=dtype, alg="philox"
            )
            return self.sigma * draws

        if not seeds.shape.rank:
            return one(seeds)
        return tf.map_fn(one, seeds, fn_output_signature=tf.TensorSpec([self.size], dtype))

    def unroll(
        self,
        weights: Tensors,
        e: tf.Tensor,
        loss: Loss,
        carry: Carry,
        batches: Any,
        steps: tf.Tensor,
    ) -> Perturbed:
        """Unrolls all optimizees.

        Args:
            weights: The values of the learned weights.
            e: What is added to them, [size], or [K, size].
            loss: Of this unroll, see `Loss.for_unroll`.
            carry: Where the unroll starts.
            batches: As `Unroll` takes them.
            steps: int32 scalar, the length of the unroll.
        """
        unroll = Unroll(
            self.rule,
            [w + part for w, part in zip(weights, self._parts(weights, e), strict=True)],
            self.optimizee,
            carry,
            batches,
            steps,
            own_weights=count_of(self.optimizee) is not None,
            # The two unrolls of a pair do not depend on each other, so each has half of the cores.
            lanes=max(1, cores() // 2),
            multiplier=self.multiplier(steps),
        )
        trajectory = unroll.forward(
            references=loss.references, parameters=loss.parameters, ended=loss.ended
        )
        return Perturbed(loss, trajectory)

    def estimate_from(
        self,
        weights: Tensors,
        direction: tf.Tensor,
        plus: Perturbed,
        minus: Perturbed,
        steps: tf.Tensor,
        state: Any,
    ) -> Estimate:
        """Returns the sum of `direction (L+ - L-) / (2 sigma^2)` over the pairs that count.

        Args:
            weights: The values of the learned weights.
            direction: [size], or [K, size].
            plus: The unroll with theta + e.
            minus: The unroll with theta - e.
            steps: int32 scalar, the length of the unrolls.
            state: The estimator's new state.
        """
        # An unroll that ends early adds up fewer steps, so it would seem to be the better one.
        ran = tf.minimum(plus.trajectory.steps, minus.trajectory.steps)
        losses = [run.value(ran, steps) for run in (plus, minus)]
        # Not in the dtype of the learned weights: two large losses may be almost equal.
        difference = tf.cast(self.difference(*losses) / (2 * self.sigma), direction.dtype)
        counts = tf.reduce_all(
            [
                plus.trajectory.healthy,
                minus.trajectory.healthy,
                *(tf.math.is_finite(x) for x in (*losses, difference)),
            ],
            0,
        )
        # Not a product: 0 times an infinity is not 0.
        difference = tf.where(counts, difference, tf.zeros_like(difference))
        flat = difference[..., tf.newaxis] * (direction / self.sigma)
        if flat.shape.rank == 2:
            flat = tf.reduce_sum(flat, 0)
        both = [
            report(loss, counts, run.trajectory, steps)
            for loss, run in zip(losses, (plus, minus), strict=True)
        ]
        return Estimate(
            self._parts(weights, flat),
            tf.reduce_sum(tf.cast(counts, tf.int32)),
            _of_pair(*both),
            state,
        )

    def difference(self, plus: tf.Tensor, minus: tf.Tensor) -> tf.Tensor:
        """Returns what stands for `L+ - L-` in the estimate."""
        return plus - minus

    def _parts(self, weights: Tensors, flat: tf.Tensor) -> Tensors:
        """Returns [size] or [K, size] as tensors shaped as the learned weights."""
        parts = tf.split(flat, [w.shape.num_elements() for w in weights], -1)
        return [
            tf.cast(tf.reshape(part, [*flat.shape[:-1], *w.shape]), w.dtype)
            for part, w in zip(parts, weights, strict=True)
        ]


def _at_least_float32(dtype: tf.DType) -> tf.DType:
    return dtype if dtype.size >= tf.float32.size else tf.float32


def _of_pair(plus: StepResult, minus: StepResult) -> StepResult:
    """Returns the means of both losses and objectives; steps of both count."""
    return StepResult(
        (plus.loss + minus.loss) / 2,
        (plus.objective + minus.objective) / 2,
        plus.finite,
        plus.complete & minus.complete,
        plus.steps + minus.steps,
    )
