"""Celo2: Moudgil, Knyazev, Belilovsky, ICLR 2026 (arXiv 2602.19142)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import keras
import tensorflow as tf

from l2o.optimizer import equations
from l2o.optimizer.accumulators import (
    Averages,
    Factored,
    averaged,
    factors,
    inverse_rms,
    over_rms,
    zero_averages,
)
from l2o.optimizer.adam import AdamState, adam, zero_states
from l2o.optimizer.compiling import part
from l2o.optimizer.mlp import CoordinatewiseMLP, is_large
from l2o.optimizer.partial import AnyPlace, own_places
from l2o.optimizer.routes import Routes, is_chosen, is_embedding, routes
from l2o.optimizer.trainable import TrainableOptimizer
from l2o.options import Count, Decay, Decays, Epsilon, LearningRate, Name, NonNegative, Positive

FEATURES = 30
# Direction and magnitude; the third has no effect in the authors' code either.
OUTPUTS = 3
# Places of m and m rsqrt(v) in the groups of `features`.
MOMENTUM, ADAM = 3, 5
# The second of the features that the MLP sees.
SMALL_CLIP = 0.1
# In the roots of second moments, of factored ones, and of mean squares.
EPSILON, FACTORED_EPSILON, RMS_EPSILON = 1e-8, 1e-9, 1e-9


# An entry for each tensor, which says the way that it takes.
Celo2State = tuple[Averages | AdamState, ...]


@keras.saving.register_keras_serializable("l2o")
class Celo2Optimizer(TrainableOptimizer):
    """The small MLP over normalised features of Moudgil et al. (2026), section 3.

    For each tensor of two or more axes, with its averages m_k, v, row_k and col_k of
    `accumulators.averaged` and their factors R_k and C_k, k = 1, 2, 3:

        x     = [g, clip(g, 0.1), p, m, v, m rsqrt(v), rsqrt(v), g R C, g rsqrt(v),
                 row, col, rsqrt(row), rsqrt(col), m R C]
        x_i   = x_i / rms(x_i)
        o     = MLP(x)
        s     = o_0 exp(exp_mult o_1)
        s     = orthogonalized(s), with `orthogonalize`
        delta = -step_size s / rms(s)

    rms is the root mean square over the last two axes. A vector or scalar has the features up to
    `g rsqrt(v)`, with `g rsqrt(f)` in place of `g R C`, and the first 15 rows of the input
    weights. By default vectors, scalars and embeddings take a step of Adam instead:

        m     = adam_beta_1 m + (1 - adam_beta_1) g        m^ = m / (1 - adam_beta_1^t)
        v     = adam_beta_2 v + (1 - adam_beta_2) g^2      v^ = v / (1 - adam_beta_2^t)
        delta = -step_size adam_multiplier m^ / (sqrt(v^) + adam_epsilon)

    `initial_state` decides which way a tensor takes, and the state has it from then on. It knows
    an embedding by its path, which a model's variables and the parameters of a Keras problem
    have; a tensor without a name counts by its shape alone. `routes(model)` shows the ways.

    With `correct="momentum"` or `"adam"` the rule starts as a known one and learns a correction of
    it, which is not in the paper: the MLP's last weights start at 0, and

        o_0   = o_0 + m_1 / rms(m_1)                    or m_1 rsqrt(v) / rms(m_1 rsqrt(v))

    With `orthogonalize` and momentum it starts as Muon (Jordan et al. 2024), with Adam for vectors.

    With `orthogonalize=False, adam_for_vectors=False` it is the paper's celo2-base. The paper's
    learning rate is `learning_rate * step_size`, but Keras' `weight_decay` is multiplied by
    `learning_rate` alone: to have the learning rate in one place, set `step_size=1`.

    Args:
        learning_rate: See `TrainableOptimizer` [1.0].
        hidden_units: Units of each hidden layer of the MLP [8].
        hidden_layers: Number of hidden layers [2].
        momentum_decays: Decays b_k of the momenta m_k [(0.9, 0.99, 0.999)].
        rms_decay: Decay r of the second moment v [0.95].
        factored_decays: Decays a_k of row_k, col_k and f_k [(0.9, 0.99, 0.999)].
        step_size: Factor of every change [0.001].
        exp_mult: Factor of the second output in the exponent [0.0, as published: no effect].
        orthogonalize: Whether changes of tensors of two or more axes are orthogonalised, as in
            Muon [True].
        correct: What the MLP corrects: "momentum", "adam", or "nothing" ["nothing"].
        gradient_clip: Gradients are clipped to plus and minus this, except for Adam [1000.0].
        adam_for_vectors: Whether vectors, scalars and embeddings take steps of Adam [True].
        adam_for: Which variables take steps of Adam. Names match whole parts of a variable's
            path, such as `embeddings`, `dense` or `dense/bias`. From Python, a function of path
            and shape. If None, `adam_for_vectors` decides [None].
        adam_beta_1: Decay of Adam's momentum [0.9].
        adam_beta_2: Decay of Adam's second moment [0.95].
        adam_epsilon: Added to Adam's divisor [1e-8].
        adam_multiplier: Factor of Adam's changes [20.0].
        name: Name of the optimizer ["Celo2Optimizer"].
        **kwargs: See `TrainableOptimizer`.
    """

    one_program = False

    def __init__(
        self,
        learning_rate: LearningRate = 1.0,
        *,
        hidden_units: Count = 8,
        hidden_layers: Count = 2,
        momentum_decays: Decays = (0.9, 0.99, 0.999),
        rms_decay: Decay = 0.95,
        factored_decays: Decays = (0.9, 0.99, 0.999),
        step_size: Positive = 0.001,
        exp_mult: NonNegative = 0.0,
        orthogonalize: bool = True,
        correct: Literal["nothing", "momentum", "adam"] = "nothing",
        gradient_clip: Positive = 1000.0,
        adam_for_vectors: bool = True,
        adam_for: Sequence[Name] | Callable[[str, tuple[int, ...]], bool] | None = None,
        adam_beta_1: Decay = 0.9,
        adam_beta_2: Decay = 0.95,
        adam_epsilon: Epsilon = 1e-8,
        adam_multiplier: Positive = 20.0,
        name: str = "Celo2Optimizer",
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
        self.orthogonalize = orthogonalize
        self.correct = correct
        self.gradient_clip = gradient_clip
        self.adam_for_vectors = adam_for_vectors
        self.adam_for = adam_for if adam_for is None or callable(adam_for) else tuple(adam_for)
        self.adam_beta_1 = adam_beta_1
        self.adam_beta_2 = adam_beta_2
        self.adam_epsilon = adam_epsilon
        self.adam_multiplier = adam_multiplier
        self.network = CoordinatewiseMLP(FEATURES, hidden_units, hidden_layers, OUTPUTS)
        if correct != "nothing":
            last = self.network.stack[-1].kernel
            last.assign(tf.zeros_like(last))

    def routes(self, model: Any) -> Routes:
        """Returns what updates each variable of a model; print it for a table.

        Args:
            model: A Keras model that is built, or a list of variables.
        """

        def way(path: str, shape: tuple[int, ...]) -> str:
            if self._takes_adam(path, shape):
                return "Adam"
            return "MLP, orthogonalized" if self.orthogonalize and len(shape) > 1 else "MLP"

        return routes(model, way)

    def _takes_adam(self, path: str, shape: tuple[int, ...]) -> bool:
        default = self.adam_for_vectors and (len(shape) < 2 or is_embedding(path))
        return is_chosen(self.adam_for, path, shape, default)

    def initial_state(self, params: Sequence[Any], seed: int = 0) -> Celo2State:
        """See `TrainableOptimizer.initial_state`."""
        dtype = self.network.compute_dtype
        return zero_states(
            params, self._takes_adam, dtype, lambda shape: zero_averages(shape, dtype)
        )

    def update(
        self, params: Sequence[tf.Tensor], grads: Sequence[tf.Tensor], state: Celo2State
    ) -> tuple[list[tf.Tensor], Celo2State]:
        """See `TrainableOptimizer.update`."""
        done = [self._step(*one) for one in zip(params, grads, state, strict=True)]
        return [delta for delta, _ in done], tuple(new for _, new in done)

    def _step(
        self, p: tf.Tensor, g: tf.Tensor, old: Averages | AdamState
    ) -> tuple[tf.Tensor, Averages | AdamState]:
        g = tf.cast(g, self.network.compute_dtype)
        s, new = (
            self._adam(g, old)
            if isinstance(old, AdamState)
            else (self._learned if is_large(p.shape) else self._small)(tf.cast(p, g.dtype), g, old)
        )
        return tf.cast(-self.step_size * s, p.dtype), new

    def _learned(self, p: tf.Tensor, g: tf.Tensor, old: Averages) -> tuple[tf.Tensor, Averages]:
        g = tf.clip_by_value(g, -self.gradient_clip, self.gradient_clip)
        new = self._averages(g, old)
        return self._direction(self._outputs(p, g, new, self._inverse_rms(p, g, new))), new

    # A small tensor is not worth four programs.
    _small = part(_learned)

    @part
    def _averages(self, g: tf.Tensor, old: Averages) -> Averages:
        return averaged(old, g, self.momentum_decays, self.rms_decay, self.factored_decays)

    @part
    def _inverse_rms(self, p: tf.Tensor, g: tf.Tensor, new: Averages) -> list[tf.Tensor]:
        axes = [1 + axis for axis in _last_two(g)]
        return [inverse_rms(f, axes, RMS_EPSILON) for f in features(p, g, new)]

    @part
    def _outputs(
        self, p: tf.Tensor, g: tf.Tensor, new: Averages, inverses: list[tf.Tensor]
    ) -> tf.Tensor:
        x = [f * inverse for f, inverse in zip(features(p, g, new), inverses, strict=True)]
        o = self.network(x)
        o_0 = o[0]
        if self.correct != "nothing":
            # The first decay of each group.
            o_0 += x[MOMENTUM if self.correct == "momentum" else ADAM][0]
        return o_0 * tf.exp(self.exp_mult * o[1]) if self.exp_mult else o_0

    @part
    def _direction(self, s: tf.Tensor) -> tf.Tensor:
        if self.orthogonalize and s.shape.rank > 1:
            s = equations.orthogonalized(s)
        return over_rms(s, _last_two(s), RMS_EPSILON)

    @part
    def _adam(self, g: tf.Tensor, old: AdamState) -> tuple[tf.Tensor, AdamState]:
        s, new = adam(g, old, self.adam_beta_1, self.adam_beta_2, self.adam_epsilon)
        return self.adam_multiplier * s, new

    def state_places(self, state: Celo2State) -> list[AnyPlace]:
        """See `TrainableOptimizer.state_places`."""
        return own_places(state)


def _last_two(x: tf.Tensor) -> range:
    """Returns the last two axes, or all if there are fewer."""
    return range(x.shape.rank)[-2:]


def features(p: tf.Tensor, g: tf.Tensor, averages: Averages) -> list[tf.Tensor]:
    """Returns the features of one tensor, before they are normalised.

    Args:
        p: The parameters.
        g: Their gradient, clipped.
        averages: The averages after this gradient.

    Returns:
        Groups [k, ...], 30 features in all, or 15 of a vector or scalar; see `accumulators`.
    """
    m, v, factored = averages
    r = tf.math.rsqrt(v + EPSILON)
    small = tf.clip_by_value(g, -SMALL_CLIP, SMALL_CLIP)
    whole = [g[tf.newaxis], small[tf.newaxis], p[tf.newaxis], m, v[tf.newaxis]]
    whole += [m * r, r[tf.newaxis]]
    if not isinstance(factored, Factored):
        return [*whole, g * tf.math.rsqrt(factored.f + FACTORED_EPSILON), (g * r)[tf.newaxis]]
    row, col = factored
    big_r, big_c = factors(factored, g.shape)
    return [
        *whole,
        g * big_r * big_c,
        (g * r)[tf.newaxis],
        row,
        col,
        tf.math.rsqrt(row + EPSILON),
        tf.math.rsqrt(col + EPSILON),
        m * big_r * big_c,
    ]
