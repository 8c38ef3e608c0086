"""Regression: ordinary Keras models as optimizees."""

from __future__ import annotations

from functools import lru_cache
from typing import Annotated

import keras
import numpy as np
from annotated_types import Ge

from l2o.options import Activation, Count, Layers
from l2o.problems.keras_model import KerasProblem, keras_problem


def mlp_regressor(
    layers: Layers = (20,),
    activation: Activation = "sigmoid",
    batch_size: Count = 64,
    shuffle_buffer: Annotated[int, Ge(0)] = 16384,
) -> KerasProblem:
    """A multilayer perceptron with the mean squared error, on scikit-learn's diabetes data.

    There are 353 + 89 patients with 10 features. Features and target have mean 0 and variance 1
    on the training split, so a constant prediction has an error of 1.

    Args:
        layers: Units of each hidden layer [(20,)].
        activation: Activation of the hidden layers ["sigmoid"].
        batch_size: Examples in a mini-batch [64].
        shuffle_buffer: Number of places that an example may move when an epoch is shuffled
            [16384].

    Returns:
        The problem; its parameters are the kernels and biases in the order of layers.
    """
    (x, y), test = _diabetes()

    def build_model() -> keras.Model:
        return keras.Sequential(
            [
                keras.Input(x.shape[1:]),
                *(keras.layers.Dense(units, activation) for units in layers),
                keras.layers.Dense(1),
            ]
        )

    return keras_problem(
        build_model, ((x, y), test), "mse", batch_size, shuffle_buffer, "mlp_regressor"
    )


@lru_cache(maxsize=1)
def _diabetes() -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    from sklearn.datasets import load_diabetes
    from sklearn.model_selection import train_test_split
    from sklearn.preprocessing import StandardScaler

    x, y = load_diabetes(return_X_y=True)
    columns = np.c_[x, y].astype(np.float64)
    train, test = train_test_split(columns, test_size=0.2, random_state=0)
    scaler = StandardScaler().fit(train)
    train, test = (scaler.transform(part).astype(np.float32) for part in (train, test))
    return (train[:, :-1], train[:, -1:]), (test[:, :-1], test[:, -1:])
