"""The feature-major network against Keras' own layers, row by row."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import l2o
from l2o.optimizer.cells import CoordinatewiseLSTM
from l2o.options import activation_names


def keras_rows(network, inputs, state):
    """What Keras' layers make of [n, features] and [n, units]."""
    x = network.projection(inputs) if network.projection else inputs
    new_state = []
    for cell, (h, c) in zip(network.cells, state, strict=True):
        x, new = cell(x, [h, c])
        new_state.append(tuple(new))
    return [readout(x)[:, 0] for readout in network.readouts], tuple(new_state)


@pytest.mark.parametrize(
    ("projection", "use_bias", "activation", "recurrent_activation"),
    [
        (None, True, "tanh", "sigmoid"),
        (5, True, "tanh", "hard_sigmoid"),
        (None, False, "softmax", "log_softmax"),
        (5, False, "sparsemax", "softmax"),
    ],
)
def test_the_network_is_keras_own_cells_transposed(
    projection, use_bias, activation, recurrent_activation
):
    keras.utils.set_random_seed(0)
    network = CoordinatewiseLSTM(
        3,
        (4, 6),
        projection,
        [keras.layers.Dense(1), keras.layers.Dense(1, use_bias=False)],
        {
            "use_bias": use_bias,
            "activation": activation,
            "recurrent_activation": recurrent_activation,
            "bias_initializer": "random_normal",
        },
    )
    x = tf.random.normal([7, 3])
    state = tuple((tf.random.normal([7, u]), tf.random.normal([7, u])) for u in (4, 6))
    expected = keras_rows(network, x, state)
    got = network(tf.transpose(x), tf.nest.map_structure(tf.transpose, state))
    for a, b in zip(tf.nest.flatten(got), tf.nest.flatten(expected), strict=True):
        np.testing.assert_allclose(a, tf.transpose(b), atol=1e-6)


@pytest.mark.parametrize("name", activation_names())
def test_coordinates_do_not_see_each_other_whatever_the_activation(name):
    keras.utils.set_random_seed(0)
    options = {"activation": name, "recurrent_activation": name, "layers": (4,)}
    try:
        optimizer = l2o.DMOptimizer(**options)
        params = [tf.zeros([6])]
        grads = [tf.constant([0.3, -1.0, 2.0, 0.0, 5.0, -0.1])]
        together, _ = optimizer.update(params, grads, optimizer.initial_state(params))
    except (ValueError, tf.errors.InvalidArgumentError):
        assert name == "glu", "it halves its units, which no cell can use"
        return
    one = [tf.zeros([1])]
    for i in range(6):
        alone, _ = optimizer.update(one, [grads[0][i : i + 1]], optimizer.initial_state(one))
        np.testing.assert_allclose(alone[0][0], together[0][i], rtol=1e-5, atol=1e-7)
