"""LearnedMuon: Muon (Jordan et al. 2024) with a learned mixture in place of its momentum."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

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
from l2o.optimizer.mlp import is_large
from l2o.optimizer.partial import AnyPlace, own_places
from l2o.optimizer.routes import Routes, is_chosen, is_embedding, routes
from l2o.optimizer.trainable import TrainableOptimizer
from l2o.options import LearningRate, Name, Positive

# What the learned decays start as: of m, of v, and of row and col.
MOMENTUM, RMS, FACTORED = 0.9, 0.95, 0.99
# The gradient and its momentum, in each of three scales.
SCALES, HORIZONS = 3, 2
# Learned logarithms and logits move this many times as fast as the mixture.
SPEED = 2.0
# Of vectors.
BETA_1, BETA_2, ADAM_EPSILON, ADAM_MULTIPLIER = 0.9, 0.95, 1e-8, 3.0
# In the roots of second moments, and of mean squares.
EPSILON, RMS_EPSILON = 1e-8, 1e-9
# Larger gradients are clipped, so that sums of their squares stay finite in float32.
LARGEST_GRADIENT = 1e15


class Learned(NamedTuple):
    """What is learned, as the rule uses it.

    mixture: [3, 2], the weights w of the directions. A row is a scale; its columns are the gradient
        and the momentum.
    decays: Those of m [1], of v, and of row and col [1].
    size: Scalar, c.
    vector_size: Scalar, c_v.
    """

    mixture: tf.Tensor
    decays: tuple[tf.Tensor, tf.Tensor, tf.Tensor]
    size: tf.Tensor
    vector_size: tf.Tensor


# An entry for each tensor, which says the way that it takes.
LearnedMuonState = tuple[Averages | AdamState, ...]


@keras.saving.register_keras_serializable("l2o")
class LearnedMuonOptimizer(TrainableOptimizer):
    """Muon, whose momentum is a learned mixture of directions: 11 learned numbers in all.

    The rule is this project's own. It has the features of Celo2 (Moudgil et al. 2026) that have
    the sign of a gradient, and a sum in place of the MLP. For each tensor of two or more axes, with
    its averages m, v, row and col of `accumulators.averaged` and their factors R and C:

        x     = [g, m, g rsqrt(v), m rsqrt(v), g R C, m R C]
        s     = sum_i w_i x_i / rms(x_i)
        s     = orthogonalized(s)
        delta = -step_size exp(2 c) s / rms(s)

    rms is the root mean square over the last two axes. Vectors, scalars and embeddings take a step
    of Adam, with decays 0.9 and 0.95:

        delta = -step_size 3 exp(2 c_v) m^ / (sqrt(v^) + 1e-8)

    Learned are the mixture w, the sizes c and c_v, and theta of each decay:

        decay = sigmoid(logit(start) + 2 theta)

    The starts are 0.9 for m, 0.95 for v, and 0.99 for row and col. The weight of m
    starts at 1, and all other learned numbers start at 0. So the rule starts as Muon without
    Nesterov's momentum. Each change of a matrix then has a root mean square of `step_size`.

    Args:
        learning_rate: See `TrainableOptimizer` [1.0].
        step_size: Factor of every change [0.01].
        adam_for: Which variables of two or more axes take steps of Adam. Names match whole parts
            of a variable's path, such as `embeddings`, `dense` or `dense/kernel`. From Python, a
            function of path and shape. If None, embeddings [None].
        name: Name of the optimizer ["LearnedMuonOptimizer"].
        **kwargs: See `TrainableOptimizer`.
    """

    one_program = False

    def __init__(
        self,
        learning_rate: LearningRate = 1.0,
        *,
        step_size: Positive = 0.01,
        adam_for: Sequence[Name] | Callable[[str, tuple[int, ...]], bool] | None = None,
        name: str = "LearnedMuonOptimizer",
        **kwargs: Any,
    ) -> None:
        super().__init__(learning_rate, name=name, **kwargs)
        self.step_size = step_size
        self.adam_for = adam_for if adam_for is None or callable(adam_for) else tuple(adam_for)
        self.network: Mixture = Mixture()

    def routes(self, model: Any) -> Routes:
        """Returns what updates each variable of a model; print it for a table.

        Args:
            model: A Keras model that is built, or a list of variables.
        """

        def way(path: str, shape: tuple[int, ...]) -> str:
            return "Adam" if self._takes_adam(path, shape) else "mixture, orthogonalized"

        return routes(model, way)

    def _takes_adam(self, path: str, shape: tuple[int, ...]) -> bool:
        return len(shape) < 2 or is_chosen(self.adam_for, path, shape, is_embedding(path))

    def initial_state(self, params: Sequence[Any], seed: int = 0) -> LearnedMuonState:
        """See `TrainableOptimizer.initial_state`."""
        dtype = self.network.compute_dtype
        return zero_states(
            params,
            self._takes_adam,
            dtype,
            lambda shape: zero_averages(shape, dtype, momenta=1, factored=1),
        )

    def update(
        self, params: Sequence[tf.Tensor], grads: Sequence[tf.Tensor], state: LearnedMuonState
    ) -> tuple[list[tf.Tensor], LearnedMuonState]:
        """See `TrainableOptimizer.update`."""
        learned = self.network.learned()
        done = [self._step(*one, learned) for one in zip(grads, state, strict=True)]
        deltas = [tf.cast(s, p.dtype) for (s, _), p in zip(done, params, strict=True)]
        return deltas, tuple(new for _, new in done)

    def _step(
        self, g: tf.Tensor, old: Averages | AdamState, learned: Learned
    ) -> tuple[tf.Tensor, Averages | AdamState]:
        g = tf.cast(g, self.network.compute_dtype)
        if isinstance(old, AdamState):
            return self._adam(g, old, learned)
        return (self._mixed if is_large(g.shape) else self._small)(g, old, learned)

    def _mixed(self, g: tf.Tensor, old: Averages, learned: Learned) -> tuple[tf.Tensor, Averages]:
        g = tf.clip_by_value(g, -LARGEST_GRADIENT, LARGEST_GRADIENT)
        new = self._averages(g, old, learned)
        s = self._mixture(g, new, self._inverse_rms(g, new), learned)
        return self._delta(s, learned), new

    # A small tensor is not worth four programs.
    _small = part(_mixed)

    @part
    def _averages(self, g: tf.Tensor, old: Averages, learned: Learned) -> Averages:
        return averaged(old, g, *learned.decays)

    @part
    def _inverse_rms(self, g: tf.Tensor, new: Averages) -> list[tf.Tensor]:
        axes = [g.shape.rank - 1, g.shape.rank]
        return [inverse_rms(x, axes, RMS_EPSILON) for x in directions(g, new)]

    @part
    def _mixture(
        self, g: tf.Tensor, new: Averages, inverses: list[tf.Tensor], learned: Learned
    ) -> tf.Tensor:
        w = tf.unstack(tf.reshape(learned.mixture, [-1]))
        terms = zip(w, inverses, directions(g, new), strict=True)
        return tf.add_n([w_i * inverse * x for w_i, inverse, x in terms])[0]

    @part
    def _delta(self, s: tf.Tensor, learned: Learned) -> tf.Tensor:
        s = equations.orthogonalized(s)
        s = over_rms(s, [s.shape.rank - 2, s.shape.rank - 1], RMS_EPSILON)
        size = self.step_size * tf.exp(SPEED * learned.size)
        return -size * s

    @part
    def _adam(self, g: tf.Tensor, old: AdamState, learned: Learned) -> tuple[tf.Tensor, AdamState]:
        s, new = adam(g, old, BETA_1, BETA_2, ADAM_EPSILON)
        size = self.step_size * ADAM_MULTIPLIER * tf.exp(SPEED * learned.vector_size)
        return -size * s, new

    def state_places(self, state: LearnedMuonState) -> list[AnyPlace]:
        """See `TrainableOptimizer.state_places`."""
        return own_places(state)


class Mixture(keras.layers.Layer):
    """The learned numbers of LearnedMuon."""

    def __init__(self) -> None:
        dtype = equations.precision()
        super().__init__(name="network", dtype=dtype)
        for name, shape in (
            ("mixture", (SCALES, HORIZONS)),
            ("momentum_theta", (1,)),
            ("rms_theta", ()),
            ("factored_theta", (1,)),
            ("size", ()),
            ("vector_size", ()),
        ):
            setattr(self, name, self.add_weight(shape, "zeros", dtype=dtype, name=name))
        self.mixture.assign([[0.0, 1.0]] + [[0.0] * HORIZONS] * (SCALES - 1))
        self.built = True

    def learned(self) -> Learned:
        """Returns the learned numbers as the rule uses them."""
        mixture, size, vector_size = (
            tf.convert_to_tensor(w) for w in (self.mixture, self.size, self.vector_size)
        )
        decays = (
            learned_decay(MOMENTUM, self.momentum_theta),
            learned_decay(RMS, self.rms_theta),
            learned_decay(FACTORED, self.factored_theta),
        )
        return Learned(mixture, decays, size, vector_size)


def learned_decay(start: float, theta: tf.Tensor) -> tf.Tensor:
    """Returns `sigmoid(logit(start) + 2 theta)`."""
    return tf.sigmoid(math.log(start / (1 - start)) + SPEED * theta)


def directions(g: tf.Tensor, averages: Averages) -> list[tf.Tensor]:
    """Returns the directions of one tensor, before they are normalised.

    Args:
        g: Its gradient, clipped.
        averages: The averages after this gradient.

    Returns:
        Six arrays [1, ...], in the order of x in `LearnedMuonOptimizer`.
    """
    m, v, factored = averages
    assert isinstance(factored, Factored)
    r = tf.math.rsqrt(v + EPSILON)
    big_r, big_c = factors(factored, g.shape)
    g = g[tf.newaxis]
    return [g, m, g * r, m * r, g * big_r * big_c, m * big_r * big_c]
