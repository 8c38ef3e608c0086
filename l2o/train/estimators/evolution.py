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
    """An unroll with perturbed learned weights: scalars, or [K].

    loss: The loss of the unroll.
    counts: Whether it is finite, and so is the optimizee.
    trajectory: What the unroll did.
    """

    loss: tf.Tensor
    counts: tf.Tensor
    trajectory: Trajectory


class EvolutionStrategies(GradientEstimator):
    """Estimates the gradient of a smoothed loss from the losses of pairs of unrolls.

    A pair unrolls an optimizee with learned weights theta + e and theta - e, with e from
    N(0, sigma^2 I), on the same mini-batches and with the same random draws. Each optimizee has a
    perturbation e of its own. Nothing is differentiated and no history is kept, so the memory
    does not grow with the length of the unroll.

    Args:
        sigma: Standard deviation of the perturbations.
    """

    def __init__(self, sigma: float) -> None:
        self.sigma = sigma

    @property
    def size(self) -> int:
        """How many learned weights there are."""
        return sum(w.shape.num_elements() for w in self.rule.weights)

    def draw(self, seeds: tf.Tensor) -> tf.Tensor:
        """Returns a perturbation for each seed: [size], or [K, size]."""
        dtype = tf.as_dtype(self.rule.weights[0].dtype)

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
            # The two unrolls of a pair do not depend on each other, so they run in parallel.
            lanes=max(1, cores() // 2),
        )
        trajectory = unroll.forward(
            references=loss.references, parameters=loss.parameters, ended=loss.ended
        )
        value = loss(trajectory, steps)
        return Perturbed(value, trajectory.healthy & tf.math.is_finite(value), trajectory)

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
        counts = plus.counts & minus.counts
        losses = [tf.cast(run.loss, direction.dtype) for run in (plus, minus)]
        # Not a product: 0 times an infinity is not 0.
        difference = tf.where(counts, self.difference(*losses), tf.zeros_like(losses[0]))
        flat = difference[..., tf.newaxis] / (2 * self.sigma**2) * direction
        if flat.shape.rank == 2:
            flat = tf.reduce_sum(flat, 0)
        both = [report(run.loss, counts, run.trajectory, steps) for run in (plus, minus)]
        return Estimate(
            self._parts(weights, flat),
            tf.reduce_sum(tf.cast(counts, tf.int32)),
            _of_pair(*both),
            state,
        )

    def difference(self, plus: tf.Tensor, minus: tf.Tensor) -> tf.Tensor:
        """Returns what counts as `L+ - L-`."""
        return plus - minus

    def _parts(self, weights: Tensors, flat: tf.Tensor) -> Tensors:
        """Returns [size] or [K, size] as tensors shaped as the learned weights."""
        parts = tf.split(flat, [w.shape.num_elements() for w in weights], -1)
        return [
            tf.reshape(part, [*flat.shape[:-1], *w.shape])
            for part, w in zip(parts, weights, strict=True)
        ]


def _of_pair(plus: StepResult, minus: StepResult) -> StepResult:
    """Returns the means of both losses and objectives; steps of both count."""
    return StepResult(
        (plus.loss + minus.loss) / 2,
        (plus.objective + minus.objective) / 2,
        plus.finite,
        plus.complete & minus.complete,
        plus.steps + minus.steps,
    )
