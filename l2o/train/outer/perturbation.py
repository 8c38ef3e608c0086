"""Perturbed learned weights: the meta-gradient is taken beside them (Huang et al. 2022, stability)."""  # noqa: E501

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import tensorflow as tf

from l2o.errors import UserError
from l2o.inner.trajectory import Tensors
from l2o.options import Positive, check_given
from l2o.train.estimators.base import GradientEstimator
from l2o.train.estimators.evolution import EvolutionStrategies

Kind = Literal["gaussian", "relative", "sign_gradient", "projected_gradient"]
# By kind, as in the paper.
SIZES = {
    "gaussian": 1e-3,
    "relative": 5e-4,
    "sign_gradient": 1e-3,
    "projected_gradient": 1e-4,
}
# How far one step of `projected_gradient` goes along the gradient before it is clipped.
ASCENT_RATE = 0.1


@dataclass(frozen=True)
class Perturbation:
    """What is added to the learned weights w while a meta-gradient g is computed.

        gaussian             size N(0, I)
        relative             size rms(w) N(0, I), with the root mean square of each tensor
        sign_gradient        size sign(g)
        projected_gradient   0.1 g, each entry clipped to +-size

    The update applies to w itself. Everything in an unroll sees the same perturbed weights, the
    optimizee as well. With the last two, a meta-step computes two meta-gradients, that at w first.

    Args:
        kind: Gaussian noise, noise relative to the root mean square of each tensor, along the
            sign of the meta-gradient, or along the meta-gradient and clipped ["gaussian"].
        size: Its size; None: 1e-3; of relative 5e-4, of projected_gradient 1e-4 [None].
    """

    kind: Kind = "gaussian"
    size: Positive | None = None

    def __post_init__(self) -> None:
        check_given(Perturbation, vars(self), "training/perturbation")
        if self.size is None:
            object.__setattr__(self, "size", SIZES[self.kind])

    @property
    def needs_gradient(self) -> bool:
        """Whether it depends on a meta-gradient."""
        return self.kind in ("sign_gradient", "projected_gradient")

    def check_estimator(self, estimator: GradientEstimator) -> None:
        """Refuses an estimator with which it makes no sense.

        Raises:
            UserError: If it needs a gradient and the estimator has a random one.
        """
        if self.needs_gradient and isinstance(estimator, EvolutionStrategies):
            raise UserError(
                f"one estimate of {type(estimator).__name__} is mostly noise, so {self.kind} would "
                "be a random direction; expected gaussian or relative",
                "training/perturbation/kind",
            )

    def perturbed(
        self, weights: Tensors, seed: tf.Tensor, gradient: Callable[[], Tensors]
    ) -> Tensors:
        """Returns perturbed learned weights; called while tracing.

        Args:
            weights: The learned weights.
            seed: int32 scalar, for the random draws.
            gradient: Computes the meta-gradient at the weights.
        """
        if self.needs_gradient:
            # Where the gradient is not finite there is no direction.
            gradients = [tf.where(tf.math.is_finite(g), g, tf.zeros_like(g)) for g in gradient()]
            return [w + self._along(g) for w, g in zip(weights, gradients, strict=True)]
        return [w + self._drawn(w, tf.stack([seed, i])) for i, w in enumerate(weights)]

    def _along(self, g: tf.Tensor) -> tf.Tensor:
        if self.kind == "sign_gradient":
            return self.size * tf.sign(g)
        size = tf.constant(self.size, g.dtype)
        return tf.clip_by_value(ASCENT_RATE * g, -size, size)

    def _drawn(self, w: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        # All machines must draw the same, whatever devices they have.
        e = self.size * tf.random.stateless_normal(w.shape, seed, dtype=w.dtype, alg="philox")
        if self.kind == "relative":
            e *= tf.sqrt(tf.reduce_mean(tf.square(w)))
        return e
