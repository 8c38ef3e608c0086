"""Keras models as people write them."""

import keras
import numpy as np
import tensorflow as tf
from keras import layers

RNG = np.random.default_rng(0)
X = RNG.standard_normal((40, 3))
Y = X @ [1.0, -2.0, 0.5] + 0.1


def regression(**kwargs):
    def build_model():
        return keras.Sequential(
            [keras.Input((3,)), layers.Dense(4, "tanh", **kwargs), layers.Dense(1)]
        )

    return build_model


class Noisy(layers.Layer):
    """As people write them: `call` without `training`, layers inside, a loss of its own."""

    def __init__(self):
        super().__init__()
        self.hidden = layers.Dense(4)
        self.normed = layers.BatchNormalization()
        self.drop = layers.Dropout(0.5)

    def call(self, x):
        hidden = self.drop(self.normed(self.hidden(x)))
        self.add_loss(tf.reduce_mean(hidden**2))
        return hidden


class Subclassed(keras.Model):
    """Not built before it sees data."""

    def __init__(self):
        super().__init__()
        self.noisy = Noisy()
        self.out = layers.Dense(1)

    def call(self, x, training=None):
        return self.out(self.noisy(x))


class Plain(Subclassed):
    """One that Keras never puts into training mode."""

    def call(self, x):
        return self.out(self.noisy(x))


def unbuilt():
    return keras.Sequential([Noisy(), layers.Dense(1)])


def functional():
    x = keras.Input((3,))
    return keras.Model(x, layers.Dense(1)(Noisy()(x)))
