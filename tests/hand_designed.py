"""SGD and Adam as pure rules: oracles for the unroll and for the Keras adapter."""

from typing import NamedTuple

import keras
import tensorflow as tf

from l2o.optimizer import TrainableOptimizer


class Empty(keras.layers.Layer):
    """A network that has learned nothing."""


class SGD(TrainableOptimizer):
    """velocity = momentum * velocity - rate * g, as Keras writes it."""

    def __init__(self, rate=0.1, momentum=0.9, **kwargs):
        super().__init__(**kwargs)
        self.rate = rate
        self.momentum = momentum
        self.network = Empty()

    def initial_state(self, params, seed=0):
        return [tf.zeros(p.shape, p.dtype) for p in params]

    def update(self, params, grads, state):
        velocity = [self.momentum * v - self.rate * g for v, g in zip(state, grads, strict=True)]
        return velocity, velocity


class AdamState(NamedTuple):
    m: list
    v: list
    t: tf.Tensor


class Adam(TrainableOptimizer):
    """Kingma and Ba 2015, Algorithm 1, with the efficient ordering of section 2."""

    def __init__(self, rate=0.01, beta_1=0.9, beta_2=0.999, epsilon=1e-7, **kwargs):
        super().__init__(**kwargs)
        self.rate = rate
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon
        self.network = Empty()

    def initial_state(self, params, seed=0):
        zeros = [tf.zeros(p.shape, p.dtype) for p in params]
        return AdamState(zeros, zeros, tf.zeros([], tf.int64))

    def update(self, params, grads, state):
        t = state.t + 1
        m = [self.beta_1 * a + (1 - self.beta_1) * g for a, g in zip(state.m, grads, strict=True)]
        v = [
            self.beta_2 * a + (1 - self.beta_2) * g * g for a, g in zip(state.v, grads, strict=True)
        ]
        steps = tf.cast(t, tf.float32)
        rate = self.rate * tf.sqrt(1 - self.beta_2**steps) / (1 - self.beta_1**steps)
        deltas = [-rate * a / (tf.sqrt(b) + self.epsilon) for a, b in zip(m, v, strict=True)]
        return deltas, AdamState(m, v, t)
