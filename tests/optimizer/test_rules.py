"""DM's and RNNProp's updates against NumPy transcriptions of their equations."""

import numpy as np
import pytest
import tensorflow as tf

from l2o.optimizer import DMOptimizer, RNNPropOptimizer
from tests import reference
from tests.optimizer.odd_gradients import SHAPES, gradients

CASES = [
    (DMOptimizer, {}, reference.DM, {}),
    (DMOptimizer, {"p": 3.0}, reference.DM, {"p": 3.0}),
    (DMOptimizer, {"output_scale": 0.7}, reference.DM, {"scale": 0.7}),
    (DMOptimizer, {"preprocess": False}, reference.DM, {"preprocess": False}),
    (DMOptimizer, {"layers": (7,)}, reference.DM, {}),
    (DMOptimizer, {"layers": (3, 4, 5)}, reference.DM, {}),
    (RNNPropOptimizer, {}, reference.RNNProp, {}),
    (RNNPropOptimizer, {"beta_1": 0.95}, reference.RNNProp, {"beta_1": 0.95}),
    (RNNPropOptimizer, {"beta_2": 0.5}, reference.RNNProp, {"beta_2": 0.5}),
    (RNNPropOptimizer, {"alpha": 0.3}, reference.RNNProp, {"alpha": 0.3}),
    (RNNPropOptimizer, {"epsilon": 0.1}, reference.RNNProp, {"epsilon": 0.1}),
    (RNNPropOptimizer, {"layers": (6,)}, reference.RNNProp, {}),
]


@pytest.mark.parametrize(
    ("make", "options", "transcription", "constants"),
    CASES,
    ids=lambda x: getattr(x, "__name__", str(x)),
)
def test_five_updates_equal_the_equations(make, options, transcription, constants):
    optimizer = make(**options)
    rng = np.random.default_rng(1)
    # Biases and readouts of some size, so that none of them can go missing unseen.
    weights = [rng.normal(size=w.shape) * 0.5 for w in optimizer.network.get_weights()]
    optimizer.network.set_weights(weights)
    params = [tf.zeros(s) for s in SHAPES]
    n = sum(int(np.prod(s)) for s in SHAPES)
    expected = transcription(optimizer.network.get_weights(), n, optimizer.layers, **constants)
    state = optimizer.initial_state(params)
    for grads in gradients(5):
        deltas, state = optimizer.update(params, [tf.constant(g, tf.float32) for g in grads], state)
        flat = np.concatenate([g.astype(np.float32).astype(np.float64).ravel() for g in grads])
        got = np.concatenate([d.numpy().ravel() for d in deltas])
        np.testing.assert_allclose(got, expected.step(flat), rtol=2e-4, atol=2e-6)
        assert [tuple(d.shape) for d in deltas] == SHAPES


@pytest.mark.parametrize("make", [DMOptimizer, RNNPropOptimizer])
def test_cell_options_reach_every_cell(make):
    options = {
        "activation": "relu",
        "recurrent_activation": "hard_sigmoid",
        "kernel_initializer": "he_normal",
        "recurrent_initializer": "glorot_normal",
        "bias_initializer": "ones",
        "unit_forget_bias": False,
    }
    for cell in make(**options).network.cells:
        config = cell.get_config()
        for name, value in options.items():
            got = config[name]
            got = got["class_name"] if isinstance(got, dict) else got
            assert str(got).lower() == str(value).lower().replace(
                "_", "" if "initializer" in name else "_"
            )
        assert (cell.bias.numpy() == 1).all()
    assert all(cell.bias is None for cell in make(use_bias=False).network.cells)
    bias = make().network.cells[0].bias.numpy()
    np.testing.assert_array_equal(bias, np.repeat([0, 1, 0, 0], 20))
