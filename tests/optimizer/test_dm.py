"""DM in float64 against NumPy, with every option of its cells: only rounding may differ."""

import numpy as np
import pytest
import tensorflow as tf

from l2o.optimizer import DMOptimizer
from tests.optimizer.lstm_equations import CELLS, assert_follows, numpy_stack, randomize


@pytest.mark.parametrize(
    "options", [*CELLS, {"p": 4.0}, {"output_scale": 0.7}, {"preprocess": False}], ids=str
)
def test_updates_equal_the_equations_to_rounding(options, float64):
    optimizer = DMOptimizer(**{"layers": (4, 3), **options})
    randomize(optimizer)
    stack = numpy_stack(optimizer, optimizer.network.get_weights(), **options)
    p = options.get("p", 10.0)

    def features(g):
        if not options.get("preprocess", True):
            return g[:, None]
        rows = [
            (np.log(abs(v)) / p, np.sign(v)) if abs(v) >= np.exp(-p) else (-1, np.exp(p) * v)
            for v in g
        ]
        return np.array(rows)

    scale = options.get("output_scale", 0.1)
    assert_follows(optimizer, lambda g: scale * stack(features(g)))


@pytest.mark.parametrize(
    ("options", "bias"),
    [
        ({}, [0, 0, 1, 1, 0, 0, 0, 0]),
        ({"unit_forget_bias": False}, [0] * 8),
        ({"bias_initializer": "ones"}, [1] * 8),
        ({"bias_initializer": "ones", "unit_forget_bias": False}, [1] * 8),
    ],
    ids=str,
)
def test_where_the_biases_start(options, bias):
    kernel, recurrent, got = DMOptimizer(layers=(2,), **options).network.cells[0].get_weights()
    np.testing.assert_array_equal(got, bias)
    assert kernel.any()
    assert recurrent.any()


@pytest.mark.parametrize("option", ["kernel_initializer", "recurrent_initializer"])
def test_each_initializer_starts_its_own_weights(option):
    weights = DMOptimizer(layers=(2,), **{option: "zeros"}).network.cells[0].get_weights()
    is_zero = [not w.any() for w in weights]
    assert is_zero == [option == "kernel_initializer", option == "recurrent_initializer", False]


def test_coordinates_do_not_see_each_other():
    optimizer = DMOptimizer(layers=(3,))
    together, apart = [tf.zeros([3])], [tf.zeros([])] * 3
    a, b = optimizer.initial_state(together), optimizer.initial_state(apart)
    for g in ([1.0, -2.0, 1e-6], [0.0, 3.0, 0.5]):
        whole, a = optimizer.update(together, [tf.constant(g)], a)
        pieces, b = optimizer.update(apart, [tf.constant(v) for v in g], b)
        np.testing.assert_allclose(whole[0], pieces, rtol=1e-6)
    assert len(set(np.round(whole[0], 6))) == 3
