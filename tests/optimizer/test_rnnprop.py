"""RNNProp in float64 against NumPy, with every option of its cells."""

import numpy as np
import pytest
import tensorflow as tf

from l2o.optimizer import RNNPropOptimizer
from tests.optimizer.lstm_equations import (
    CELLS,
    COUNT,
    assert_follows,
    numpy_stack,
    randomize,
)

OWN = [
    {"beta_1": 0.95},
    {"beta_2": 0.99},
    {"beta_1": 0.0, "beta_2": 0.0},
    {"alpha": 0.3},
    {"epsilon": 0.1},
]


@pytest.mark.parametrize("options", [*CELLS, *OWN], ids=str)
def test_updates_equal_the_equations_to_rounding(options, float64):
    optimizer = RNNPropOptimizer(**{"layers": (4, 3), **options})
    randomize(optimizer)
    kernel, bias, *rest = optimizer.network.get_weights()
    stack = numpy_stack(optimizer, rest, **options)
    b1, b2 = options.get("beta_1", 0.9), options.get("beta_2", 0.9)
    alpha, epsilon = options.get("alpha", 0.1), options.get("epsilon", 1e-10)
    seen = []

    def expected(g):
        # The averages as the weighted sums they unroll to, not as recursions.
        seen.append(g)
        t = len(seen)
        w1, w2 = (np.array([(1 - b) * b ** (t - k) for k in range(1, t + 1)]) for b in (b1, b2))
        m_hat = w1 @ np.array(seen) / (1 - b1**t)
        v_hat = w2 @ np.array(seen) ** 2 / (1 - b2**t)
        s = np.sqrt(v_hat) + epsilon
        x = np.stack([m_hat / s, g / s], 1) @ kernel + bias
        return -alpha * np.tanh(stack(np.where(x > 0, x, np.exp(np.minimum(x, 0)) - 1)))

    assert_follows(optimizer, expected)


def test_only_the_direction_of_gradients_matters_not_their_scale():
    optimizer = RNNPropOptimizer(layers=(4,))
    params = [tf.zeros([COUNT])]
    states = [optimizer.initial_state(params)] * 2
    rng = np.random.default_rng(0)
    for _ in range(4):
        g = rng.normal(size=COUNT).astype(np.float32)
        a, states[0] = optimizer.update(params, [tf.constant(g)], states[0])
        b, states[1] = optimizer.update(params, [tf.constant(g * 2.0**20)], states[1])
        np.testing.assert_allclose(a[0], b[0], rtol=1e-4, atol=1e-6)


def test_no_change_is_larger_than_alpha():
    optimizer = RNNPropOptimizer(layers=(4,), alpha=0.02)
    weights = optimizer.network.get_weights()
    optimizer.network.set_weights([*weights[:-1], weights[-1] + 50])
    params = [tf.zeros([2])]
    state = optimizer.initial_state(params)
    deltas, _ = optimizer.update(params, [tf.constant([5.0, -1e-3])], state)
    np.testing.assert_allclose(deltas[0], [-0.02, -0.02], rtol=1e-6)
