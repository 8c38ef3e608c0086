"""Persistent evolution strategies: unbiased however short the unrolls are."""

from __future__ import annotations

from typing import Any, NamedTuple

import tensorflow as tf

from l2o.inner.trajectory import Carry, Tensors
from l2o.options import Count, Positive, check_given
from l2o.train.estimators.base import Estimate
from l2o.train.estimators.evolution import EvolutionStrategies
from l2o.train.losses.base import Loss


class PairState(NamedTuple):
    """The two runs of one optimizee, each with its own state.

    plus, minus: Where the next unroll with theta + e and theta - e starts.
    e: [size], the perturbation in use.
    xi: [size], the sum of all perturbations that this optimizee has had.
    left: int32, how many more steps e is used.
    """

    plus: Carry
    minus: Carry
    e: tf.Tensor
    xi: tf.Tensor
    left: tf.Tensor


class PES(EvolutionStrategies):
    """Persistent evolution strategies (Vicol, Metz, Sohl-Dickstein 2021, algorithm 2).

    Each of the two runs of a pair keeps its own state from unroll to unroll. xi is the sum of all
    perturbations that the optimizee has had. The estimate

        g = xi (L+ - L-) / (2 sigma^2)

    is unbiased for the loss of the whole training, smoothed over the perturbations, as long as
    theta stays the same, no pair is dropped and no optimizer state outlives its optimizee. With
    `refresh` of at least the length of a training it is noise-reuse evolution strategies (Li et al.
    2023, arXiv 2304.12180, "NRES"; Vicol 2023, "ES-Single"): then xi = e, and the variance is
    smaller.

    Args:
        sigma: Standard deviation of the perturbations [0.01].
        refresh: A perturbation is kept for at least this many inner steps, and changes only
            between unrolls; None: it changes at each unroll [None].
    """

    copies = 2

    def __init__(self, *, sigma: Positive = 0.01, refresh: Count | None = None) -> None:
        check_given(PES, locals(), "estimator")
        super().__init__(sigma)
        self.refresh = refresh

    def init(self, carry: Carry, seed: int) -> PairState:
        """See `GradientEstimator.init`."""
        zeros = tf.zeros([self.size], self.dtype)
        return PairState(carry, carry, zeros, zeros, tf.zeros([], tf.int32))

    def optimizer_state(self, state: PairState) -> object:
        """See `GradientEstimator.optimizer_state`; that of theta + e."""
        return state.plus.optimizer_state

    def estimate(
        self,
        weights: Tensors,
        loss: Loss,
        state: PairState,
        batches: Any,
        steps: tf.Tensor,
        seeds: tf.Tensor,
    ) -> Estimate:
        """See `GradientEstimator.estimate`."""
        is_new = state.left <= 0
        drawn = self.draw(seeds)
        e = tf.where(is_new[..., tf.newaxis], drawn, state.e)
        xi = tf.where(is_new[..., tf.newaxis], state.xi + drawn, state.xi)
        left = tf.where(is_new, self.refresh or 0, state.left) - steps

        def unroll(sign: float, carry: Carry, copy: int) -> Any:
            own = loss.for_unroll(carry, batches, steps, copy)
            return self.unroll(weights, sign * e, own, carry, batches, steps)

        plus, minus = unroll(1.0, state.plus, 0), unroll(-1.0, state.minus, 1)
        new = PairState(plus.trajectory.carry, minus.trajectory.carry, e, xi, left)
        return self.estimate_from(weights, xi, plus, minus, steps, new)
