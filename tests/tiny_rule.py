"""A learned optimizer that is traced in a third of the time, for tests of what is around one."""

from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from l2o.optimizer import TrainableOptimizer, equations
from l2o.options import Positive


class Momentum(NamedTuple):
    m: tf.Tensor
    t: tf.Tensor


@keras.saving.register_keras_serializable("tests")
class TinyOptimizer(TrainableOptimizer):
    """m <- 0.9 m + g, delta = -scale tanh(w_0 g + w_1 m), w learned."""

    coordinatewise = True

    def __init__(self, learning_rate=1.0, *, scale: Positive = 0.1, name="TinyOptimizer", **kwargs):
        super().__init__(learning_rate, name=name, **kwargs)
        self.scale = scale
        self.network = keras.layers.Dense(1, use_bias=False)
        self.network.build((None, 2))
        self.network.set_weights([np.array([[0.5], [0.1]])])

    def initial_state(self, params, seed=0):
        m = tf.zeros([equations.count(params)], self.network.compute_dtype)
        return Momentum(m, tf.zeros([], tf.int32))

    def update(self, params, grads, state):
        g = equations.flatten(grads, self.network.compute_dtype)
        m = 0.9 * state.m + g
        delta = -self.scale * tf.tanh(self.network(tf.stack([g, m], -1))[:, 0])
        return equations.unflatten(delta, params), Momentum(m, state.t + 1)
