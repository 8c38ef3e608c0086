"""AdafacMLP: Metz et al. 2022, "Practical tradeoffs between memory, compute, and performance in learned optimizers"."""  # noqa: E501

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from l2o.optimizer.accumulators import (
    Averages,
    Factored,
    averaged,
    factors,
    inverse_rms,
    zero_averages,
)
from l2o.optimizer.compiling import part
from l2o.optimizer.mlp import CoordinatewiseMLP, is_large
from l2o.optimizer.partial import AnyPlace, own_places
from l2o.optimizer.trainable import TrainableOptimizer
from l2o.options import Count, Decay, Decays, LearningRate, NonNegative, Positive

FEATURES = 28
TIMESCALES = (1, 3, 10, 30, 100, 300, 1_000, 3_000, 10_000, 30_000, 100_000)
# Direction and magnitude.
OUTPUTS = 2
# In the roots of v, of row, col and f, of f for g alone, and of mean squares.
EPSILON, FACTORED_EPSILON, GRADIENT_EPSILON, RMS_EPSILON = 1e-6, 1e-8, 1e-9, 1e-5
# Learned decays move this many times as fast as theta.
DECAY_SCALE = 10.0
# Larger gradients are clipped, so that sums of their squares stay finite in float32.
LARGEST_GRADIENT = 1e15


class TensorState(NamedTuple):
    """The averages of one tensor, and the number t of its steps."""

    averages: Averages
    t: tf.Tensor


AdafacMLPState = tuple[TensorState, ...]


@keras.saving.register_keras_serializable("l2o")
class AdafacMLPOptimizer(TrainableOptimizer):
    """The small MLP over features of factored averages of Metz et al. (2022), section 4.

    For each tensor, with its averages m_k, v, row_k and col_k of `accumulators.averaged` and
    their factors R_k and C_k, k = 1, 2, 3:

        x     = [g, p, m, v, m rsqrt(v), rsqrt(v), g R C,
                 row, col, rsqrt(row), rsqrt(col), m R C]
        x_i   = x_i / rms(x_i), the root mean square over the tensor
        o     = MLP([x, tanh(t / tau_j - 1)]),  tau = 1, 3, 10, ..., 100,000
        delta = -step_size o_0 exp(exp_mult o_1)

    All decays are learned, from the given starts:

        decay = 1 - exp(10 (log(1 - start) / 10 + theta)),  theta = 0 at first

    A vector or scalar has f, its second moment at the decays a_k, in place of row and col:
    `g rsqrt(f)` in place of `g R C`, and then f, f, rsqrt(f) twice and `m rsqrt(f)`.

    Args:
        learning_rate: See `TrainableOptimizer` [1.0].
        hidden_units: Units of each hidden layer of the MLP [4].
        hidden_layers: Number of hidden layers [2].
        momentum_decays: First decays b_k of the momenta m_k [(0.9, 0.99, 0.999)].
        rms_decay: First decay r of the second moment v [0.999].
        factored_decays: First decays a_k of row_k, col_k and f_k [(0.9, 0.99, 0.999)].
        step_size: Factor of every change [0.001].
        exp_mult: Factor of the second output in the exponent [0.001].
        name: Name of the optimizer ["AdafacMLPOptimizer"].
        **kwargs: See `TrainableOptimizer`.
    """

    one_program = False

    def __init__(
        self,
        learning_rate: LearningRate = 1.0,
        *,
        hidden_units: Count = 4,
        hidden_layers: Count = 2,
        momentum_decays: Decays = (0.9, 0.99, 0.999),
        rms_decay: Decay = 0.999,
        factored_decays: Decays = (0.9, 0.99, 0.999),
        step_size: Positive = 0.001,
        exp_mult: NonNegative = 0.001,
        name: str = "AdafacMLPOptimizer",
        **kwargs: Any,
    ) -> None:
        super().__init__(learning_rate, name=name, **kwargs)
        self.hidden_units = hidden_units
        self.hidden_layers = hidden_layers
        self.momentum_decays = tuple(momentum_decays)
        self.rms_decay = rms_decay
        self.factored_decays = tuple(factored_decays)
        self.step_size = step_size
        self.exp_mult = exp_mult
        self.network = AdafacNetwork(hidden_units, hidden_layers)

    def initial_state(self, params: Sequence[Any], seed: int = 0) -> AdafacMLPState:
        """See `TrainableOptimizer.initial_state`."""
        dtype = self.network.compute_dtype
        return tuple(
            TensorState(zero_averages(p.shape, dtype), tf.zeros([], tf.int64)) for p in params
        )

    def update(
        self, params: Sequence[tf.Tensor], grads: Sequence[tf.Tensor], state: AdafacMLPState
    ) -> tuple[list[tf.Tensor], AdafacMLPState]:
        """See `TrainableOptimizer.update`."""
        net, dtype = self.network, self.network.compute_dtype
        decays = (
            learned_decay(self.momentum_decays, net.momentum_theta),
            learned_decay(self.rms_decay, net.rms_theta),
            learned_decay(self.factored_decays, net.factored_theta),
        )
        deltas, new = [], []
        for p, g, old in zip(params, grads, state, strict=True):
            step = self._step if is_large(p.shape) else self._small
            s, entry = step(tf.cast(p, dtype), tf.cast(g, dtype), old, decays)
            deltas.append(tf.cast(-self.step_size * s, p.dtype))
            new.append(entry)
        return deltas, tuple(new)

    def _step(
        self, p: tf.Tensor, g: tf.Tensor, old: TensorState, decays: Any
    ) -> tuple[tf.Tensor, TensorState]:
        g = tf.clip_by_value(g, -LARGEST_GRADIENT, LARGEST_GRADIENT)
        new = TensorState(self._averages(g, old.averages, decays), old.t + 1)
        inverses = self._inverse_rms(p, g, new.averages)
        return self._outputs(p, g, new, inverses), new

    # A small tensor is not worth three programs.
    _small = part(_step)

    @part
    def _averages(self, g: tf.Tensor, old: Averages, decays: Any) -> Averages:
        return averaged(old, g, *decays)

    @part
    def _inverse_rms(self, p: tf.Tensor, g: tf.Tensor, new: Averages) -> list[tf.Tensor]:
        axes = range(1, 1 + g.shape.rank)
        return [inverse_rms(f, axes, RMS_EPSILON) for f in features(p, g, new)]

    @part
    def _outputs(
        self, p: tf.Tensor, g: tf.Tensor, new: TensorState, inverses: list[tf.Tensor]
    ) -> tf.Tensor:
        groups = features(p, g, new.averages)
        x = [f * inverse for f, inverse in zip(groups, inverses, strict=True)]
        o = self.network([*x, time_features(new.t, g.shape.rank, g.dtype)])
        return o[0] * tf.exp(self.exp_mult * o[1])

    def state_places(self, state: AdafacMLPState) -> list[AnyPlace]:
        """See `TrainableOptimizer.state_places`."""
        return own_places(state)


class AdafacNetwork(CoordinatewiseMLP):
    """The learned weights of AdafacMLP: the MLP, and theta of each decay.

    Args:
        units: Units of each hidden layer.
        layers: Number of hidden layers.
    """

    def __init__(self, units: int, layers: int) -> None:
        super().__init__(FEATURES + len(TIMESCALES), units, layers, OUTPUTS)
        self.built = False
        for name, shape in (("momentum_theta", (3,)), ("rms_theta", ()), ("factored_theta", (3,))):
            weight = self.add_weight(
                shape=shape, initializer="zeros", dtype=self.compute_dtype, name=name
            )
            setattr(self, name, weight)
        self.built = True


def learned_decay(start: float | Sequence[float], theta: tf.Tensor) -> tf.Tensor:
    """Returns `1 - exp(10 (log(1 - start) / 10 + theta))`, but at least 0.

    A second moment with a negative decay could become negative.
    """
    rest = [math.log(1 - s) for s in start] if isinstance(start, Sequence) else math.log(1 - start)
    return tf.nn.relu(1 - tf.exp(tf.constant(rest, theta.dtype) + DECAY_SCALE * theta))


def features(p: tf.Tensor, g: tf.Tensor, averages: Averages) -> list[tf.Tensor]:
    """Returns the features of one tensor, before they are normalised.

    Args:
        p: The parameters.
        g: Their gradient.
        averages: The averages after this gradient.

    Returns:
        Groups [k, ...], 28 features in all; see `accumulators`.
    """
    m, v, factored = averages
    r = tf.math.rsqrt(v + EPSILON)
    whole = [g[tf.newaxis], p[tf.newaxis], m, v[tf.newaxis], m * r, r[tf.newaxis]]
    if isinstance(factored, Factored):
        row, col = factored
        big_r, big_c = factors(factored, g.shape)
        of_g, of_m = g * big_r * big_c, m * big_r * big_c
    else:
        row = col = factored.f
        of_g = g * tf.math.rsqrt(row + GRADIENT_EPSILON)
        of_m = m * tf.math.rsqrt(row + EPSILON)
    roots = [tf.math.rsqrt(average + FACTORED_EPSILON) for average in (row, col)]
    return [*whole, of_g, row, col, *roots, of_m]


def time_features(t: tf.Tensor, rank: int, dtype: tf.DType) -> tf.Tensor:
    """Returns `tanh(t / tau_j - 1)`, [11, 1, ...] for a tensor of `rank` axes."""
    x = tf.tanh(tf.cast(t, dtype) / tf.constant(TIMESCALES, dtype) - 1)
    return tf.reshape(x, [-1] + [1] * rank)
