"""Peer of `model.fit` with our DM: a Keras optimizer that treats one variable at a time."""

from __future__ import annotations

import math
from typing import Any

import keras
import tensorflow as tf

from benchmarks.peers.naive_network import UNITS, NaiveNetwork


class NaiveDM(keras.optimizers.Optimizer):
    """DM in Keras' own scheme: `update_step` for each variable, state variables for each.

    Args:
        learning_rate: Multiplies the learned change [1.0].
        name: Name of the optimizer ["NaiveDM"].
    """

    def __init__(self, learning_rate: float = 1.0, name: str = "NaiveDM") -> None:
        super().__init__(learning_rate=learning_rate, name=name)
        self.network = NaiveNetwork()

    def build(self, variables: list[keras.Variable]) -> None:
        """Creates h and c [n, units] of both cells for each variable."""
        if self.built:
            return
        super().build(variables)
        self._states = [
            [
                [
                    self.add_variable((math.prod(variable.shape), UNITS), name=f"{part}_{i}_{cell}")
                    for part in "hc"
                ]
                for cell in range(2)
            ]
            for i, variable in enumerate(variables)
        ]

    def update_step(self, gradient: tf.Tensor, variable: Any, learning_rate: tf.Tensor) -> None:
        """Changes one variable and its states."""
        states = self._states[self._get_variable_index(variable)]
        delta, new = self.network(gradient, [[v.value for v in cell] for cell in states])
        for cell, values in zip(states, new, strict=True):
            for state, value in zip(cell, values, strict=True):
                self.assign(state, value)
        self.assign_add(variable, tf.cast(learning_rate, delta.dtype) * delta)
