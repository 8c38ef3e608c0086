"""The network of DM as published codes call it: once for each variable, rows of coordinates."""

from __future__ import annotations

import math
from collections.abc import Sequence

import keras
import tensorflow as tf

# The preprocessing of Andrychowicz et al. (2016), Appendix A, and the scale of its code.
P = 10.0
OUTPUT_SCALE = 0.1
UNITS = 20
# A logarithm that is not chosen must still be finite.
TINY = 1e-38

State = list[list[tf.Tensor]]


class NaiveNetwork:
    """Two Keras LSTM cells and a dense readout.

    Attributes:
        layers: The three of them.
    """

    def __init__(self) -> None:
        self.cells = [keras.layers.LSTMCell(UNITS) for _ in range(2)]
        self.readout = keras.layers.Dense(1)
        self.layers = [*self.cells, self.readout]
        for layer, inputs in zip(self.layers, (2, UNITS, UNITS), strict=True):
            layer.build((None, inputs))

    @property
    def weights(self) -> list[keras.Variable]:
        """The learned weights, as their layers have them."""
        return [weight for layer in self.layers for weight in layer.trainable_weights]

    def initial_state(self, coordinates: int) -> State:
        """Returns zeros: per cell [h, c], each [coordinates, units]."""
        return [[tf.zeros([coordinates, UNITS])] * 2 for _ in self.cells]

    def __call__(self, gradient: tf.Tensor, state: State) -> tuple[tf.Tensor, State]:
        """Returns the change of one variable and the new state of its coordinates."""
        h = preprocess(tf.reshape(gradient, [-1]))
        new = []
        for cell, cell_state in zip(self.cells, state, strict=True):
            h, cell_state = cell(h, cell_state)
            new.append(cell_state)
        return OUTPUT_SCALE * tf.reshape(self.readout(h), gradient.shape), new


def preprocess(g: tf.Tensor) -> tf.Tensor:
    """Returns [n, 2]: logarithm and sign of [n] gradients, or -1 and exp(p) g of small ones."""
    size = tf.abs(g)
    normal = size >= math.exp(-P)
    logarithm = tf.where(normal, tf.math.log(size + TINY) / P, -tf.ones_like(g))
    sign = tf.where(normal, tf.sign(g), math.exp(P) * g)
    return tf.stack([logarithm, sign], axis=1)


def mlp_loss(params: Sequence[tf.Tensor], x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
    """Returns the mean cross entropy of an MLP with one hidden layer of sigmoids."""
    kernel, bias, out_kernel, out_bias = params
    hidden = tf.sigmoid(tf.matmul(x, kernel) + bias)
    logits = tf.matmul(hidden, out_kernel) + out_bias
    return tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(y, logits))
