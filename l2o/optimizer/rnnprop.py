"""RNNProp: Lv, Jiang, Li 2017, "Learning gradient descent: better generalization and longer horizons"."""  # noqa: E501

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from l2o.optimizer import equations
from l2o.optimizer.cells import LSTMState
from l2o.optimizer.lstm import LSTMOptimizer
from l2o.options import Decay, Epsilon, LearningRate, Positive

# Units of the ELU layer that the authors' code puts before the LSTMs.
PROJECTION = 20


class RNNPropState(NamedTuple):
    """The moments m and v [n], the number t of steps taken, and the LSTMs' state."""

    m: tf.Tensor
    v: tf.Tensor
    t: tf.Tensor
    lstm: LSTMState


@keras.saving.register_keras_serializable("l2o")
class RNNPropOptimizer(LSTMOptimizer):
    """RNNProp of Lv, Jiang and Li (2017), section 4.

        m_t   = beta_1 m + (1 - beta_1) g          m^ = m_t / (1 - beta_1^t)
        v_t   = beta_2 v + (1 - beta_2) g^2        v^ = v_t / (1 - beta_2^t)
        x     = (m^ / s, g / s),  s = sqrt(v^) + epsilon
        delta = -alpha tanh(w . LSTM(ELU(W x)) + b)

    Args:
        learning_rate: See `TrainableOptimizer` [1.0].
        beta_1: Decay of the momentum m [0.9; the paper has 0.95].
        beta_2: Decay of the second moment v [0.9; the paper has 0.95].
        alpha: Largest change of a parameter in one step [0.1].
        epsilon: Lower bound of the divisor s [1e-10].
        name: Name of the optimizer ["RNNPropOptimizer"].
        **kwargs: See `LSTMOptimizer`.
    """

    def __init__(
        self,
        learning_rate: LearningRate = 1.0,
        *,
        beta_1: Decay = 0.9,
        beta_2: Decay = 0.9,
        alpha: Positive = 0.1,
        epsilon: Epsilon = 1e-10,
        name: str = "RNNPropOptimizer",
        **kwargs: Any,
    ) -> None:
        super().__init__(learning_rate, name=name, **kwargs)
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.alpha = alpha
        self.epsilon = epsilon
        self.network = self.lstm(features=2, projection=PROJECTION)

    def initial_state(self, params: Sequence[tf.Tensor], seed: int = 0) -> RNNPropState:
        """See `TrainableOptimizer.initial_state`."""
        n = equations.count(params)
        zeros = tf.zeros([n], self.network.compute_dtype)
        return RNNPropState(zeros, zeros, tf.zeros([], tf.int64), self.network.initial_state(n))

    def update(
        self, params: Sequence[tf.Tensor], grads: Sequence[tf.Tensor], state: RNNPropState
    ) -> tuple[list[tf.Tensor], RNNPropState]:
        """See `TrainableOptimizer.update`."""
        g = equations.clip_gradient(equations.flatten(grads, self.network.compute_dtype))
        t = state.t + 1
        m = equations.moving_average(state.m, g, self.beta_1)
        v = equations.moving_average(state.v, tf.square(g), self.beta_2)
        s = equations.root(equations.debias(v, self.beta_2, t)) + self.epsilon
        x = tf.stack([equations.debias(m, self.beta_1, t) / s, g / s])
        (readout,), lstm = self.network(x, state.lstm)
        delta = -self.alpha * tf.tanh(readout)
        return equations.unflatten(delta, params), RNNPropState(m, v, t, lstm)
