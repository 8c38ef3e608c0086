"""The recurrent networks that the rules share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

LSTMState = tuple[tuple[tf.Tensor, tf.Tensor], ...]


class CoordinatewiseLSTM(keras.layers.Layer):
    """A stack of LSTM cells with scalar readouts, applied to every coordinate alike.

    Args:
        features: Number of input features per coordinate.
        layers: Units of each LSTM layer.
        projection: Units of an ELU layer before the stack; None for none.
        readouts: Makes each readout of the last layer; None: one `readout()`.
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
        # Not the global policy: a rule keeps its precision when the model it trains is mixed.
        dtype = keras.config.floatx()
        super().__init__(name="network", dtype=dtype)
        self.projection = (
            keras.layers.Dense(projection, activation="elu", dtype=dtype) if projection else None
        )
        self.cells = [keras.layers.LSTMCell(units, dtype=dtype, **(cell or {})) for units in layers]
        self.readouts = list(readouts or [keras.layers.Dense(1, dtype=dtype)])
        # TensorFlow's own checkpoints follow attributes, not lists.
        for i, layer in enumerate([*self.cells, *self.readouts]):
            setattr(self, f"part_{i}", layer)
        # Built here: the learned weights exist before any optimizee does.
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
        """Returns zeros: per layer (h [n, units], c [n, units])."""
        return tuple(
            (
                tf.zeros([n, cell.units], self.compute_dtype),
                tf.zeros([n, cell.units], self.compute_dtype),
            )
            for cell in self.cells
        )

    def call(self, inputs: tf.Tensor, state: LSTMState) -> tuple[list[tf.Tensor], LSTMState]:
        """Advances every coordinate by one step.

        Args:
            inputs: [n, features].
            state: As `initial_state` gives it.

        Returns:
            Per readout [n], and the new state.
        """
        x = self.projection(inputs) if self.projection else inputs
        new_state = []
        for cell, cell_state in zip(self.cells, state, strict=True):
            x, (h, c) = cell(x, list(cell_state))
            new_state.append((h, c))
        return [tf.squeeze(readout(x), -1) for readout in self.readouts], tuple(new_state)
