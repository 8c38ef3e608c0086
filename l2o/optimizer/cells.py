"""The recurrent networks that the rules share.

Coordinates are the last axis: [units, n]. Each gate is then contiguous in memory, which makes
the rules about twice as fast on a CPU as with [n, units], see docs/performance.md.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from l2o.optimizer import equations

# Keras' activations that read all units of a coordinate; the others act on each number alone.
ACROSS_UNITS = (
    keras.activations.softmax,
    keras.activations.log_softmax,
    keras.activations.sparsemax,
    keras.activations.glu,
)

LSTMState = tuple[tuple[tf.Tensor, tf.Tensor], ...]


class CoordinatewiseLSTM(keras.layers.Layer):
    """A stack of LSTM cells with scalar readouts, applied to every coordinate alike.

    Args:
        features: Number of input features per coordinate.
        layers: Units of each LSTM layer.
        projection: Units of an ELU layer before the stack; None: no such layer.
        readouts: The dense layers that read the last cell; None: one layer `readout`.
        cell: Arguments of every `keras.layers.LSTMCell`.
    """

    def __init__(
        self,
        features: int,
        layers: Sequence[int],
        projection: int | None = None,
        readouts: Sequence[keras.layers.Dense] | None = None,
        cell: dict[str, Any] | None = None,
    ) -> None:
        # A rule keeps its precision when the model that it trains has a mixed policy.
        dtype = equations.precision()
        super().__init__(name="network", dtype=dtype)
        self.projection = (
            keras.layers.Dense(projection, activation="elu", dtype=dtype, name="projection")
            if projection
            else None
        )
        # Their own names do not change the numbers in the names of a model's layers.
        self.cells = [
            keras.layers.LSTMCell(units, dtype=dtype, name=f"lstm_{i}", **(cell or {}))
            for i, units in enumerate(layers)
        ]
        self.readouts = list(readouts or [keras.layers.Dense(1, dtype=dtype, name="readout")])
        # TensorFlow's checkpoints find attributes, not the entries of lists.
        for i, layer in enumerate([*self.cells, *self.readouts]):
            setattr(self, f"part_{i}", layer)
        # Built here, because the learned weights have to exist before any optimizee does.
        self.build((None, features))

    def build(self, input_shape: tuple[int | None, int]) -> None:
        """Creates the learned weights for [n, features] inputs."""
        stack = [self.projection] if self.projection else []
        for layer in [*stack, *self.cells]:
            layer.build(input_shape)
            input_shape = (None, layer.units)
        for readout in self.readouts:
            readout.build(input_shape)
        self.built = True

    def initial_state(self, n: int) -> LSTMState:
        """Returns zeros (h [units, n], c [units, n]) for each layer."""
        return tuple(
            (
                tf.zeros([cell.units, n], self.compute_dtype),
                tf.zeros([cell.units, n], self.compute_dtype),
            )
            for cell in self.cells
        )

    def call(self, inputs: tf.Tensor, state: LSTMState) -> tuple[list[tf.Tensor], LSTMState]:
        """Advances every coordinate by one step.

        Args:
            inputs: [features, n].
            state: What `initial_state` or the last call returned.

        Returns:
            An [n] tensor for each readout, and the new state.
        """
        x = dense(self.projection, inputs) if self.projection else inputs
        new_state = []
        for cell, (h, c) in zip(self.cells, state, strict=True):
            x, c = lstm(cell, x, h, c)
            new_state.append((x, c))
        return [dense(readout, x)[0] for readout in self.readouts], tuple(new_state)


def dense(layer: keras.layers.Dense, x: tf.Tensor) -> tf.Tensor:
    """Applies a dense layer to [features, n]; returns [units, n]."""
    bias = layer.bias if layer.use_bias else None
    return _activate(layer.activation, _affine([layer.kernel], bias, [x]))


def lstm(
    cell: keras.layers.LSTMCell, x: tf.Tensor, h: tf.Tensor, c: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Advances an LSTM cell by one step.

        i, f, g, o = W x + U h + b
        c = sigmoid(f) c + sigmoid(i) tanh(g)
        h = sigmoid(o) tanh(c)

    Args:
        cell: The weights and activations.
        x: [features, n].
        h: [units, n].
        c: [units, n].

    Returns:
        The new h and c.
    """
    gates = _affine([cell.kernel, cell.recurrent_kernel], cell.bias, [x, h])
    i, f, g, o = tf.split(gates, 4, 0)
    i, f, o = (_activate(cell.recurrent_activation, gate) for gate in (i, f, o))
    c = f * c + i * _activate(cell.activation, g)
    return o * _activate(cell.activation, c), c


def _activate(function: Callable[[tf.Tensor], tf.Tensor], x: tf.Tensor) -> tf.Tensor:
    if function in ACROSS_UNITS:
        return tf.transpose(function(tf.transpose(x)))
    return function(x)


def _affine(kernels: Sequence[Any], bias: Any, inputs: Sequence[tf.Tensor]) -> tf.Tensor:
    # One product over all inputs and the bias is faster than a sum, above all in the backward pass.
    rows, inputs = [tf.convert_to_tensor(k) for k in kernels], list(inputs)
    if bias is not None:
        rows.append(tf.convert_to_tensor(bias)[tf.newaxis])
        inputs.append(tf.ones_like(inputs[0][:1]))
    return tf.matmul(tf.concat(rows, 0), tf.concat(inputs, 0), transpose_a=True)
