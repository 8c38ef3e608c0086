"""AdafacMLP against NumPy, and what its paper promises of it."""

import numpy as np
import pytest
import tensorflow as tf

from l2o.optimizer import AdafacMLPOptimizer
from l2o.optimizer.adafac_mlp import learned_decay
from tests import reference_mlp
from tests.optimizer.small_mlps import SHAPES, assert_follows, randomize


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({}, marks=pytest.mark.slow),
        pytest.param({"hidden_units": 5, "hidden_layers": 1}, marks=pytest.mark.slow),
        {"momentum_decays": (0.5, 0.8, 0.95), "rms_decay": 0.7, "factored_decays": (0.3, 0.6, 0.9)},
        pytest.param({"step_size": 0.5, "exp_mult": 0.3}, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_eight_updates_equal_the_equations(options):
    optimizer = AdafacMLPOptimizer(**options)
    randomize(optimizer)
    net = optimizer.network
    thetas = [w.numpy() for w in (net.momentum_theta, net.rms_theta, net.factored_theta)]
    weights = [w for layer in net.stack for w in layer.get_weights()]
    own = optimizer._own_config()
    references = [reference_mlp.Adafac(weights, thetas, shape, own) for shape in SHAPES]
    assert_follows(optimizer, references, SHAPES, 1e-4)


def test_decays_start_at_the_given_values_and_are_learned():
    net = AdafacMLPOptimizer().network
    starts = (0.9, 0.99, 0.999)
    np.testing.assert_allclose(learned_decay(starts, net.momentum_theta), starts, rtol=1e-6)
    assert [w.name for w in net.trainable_weights[:3]] == [
        "momentum_theta",
        "rms_theta",
        "factored_theta",
    ]
    np.testing.assert_allclose(
        learned_decay(0.9, tf.constant(0.1)), 1 - np.exp(np.log(0.1) + 1), rtol=1e-6
    )
    assert learned_decay(0.9, tf.constant(1.0)) == 0


def test_the_network_has_the_papers_size():
    optimizer = AdafacMLPOptimizer()
    shapes = [w.shape for layer in optimizer.network.stack for w in layer.get_weights()]
    assert shapes == [(39, 4), (4,), (4, 4), (4,), (4, 2), (2,)]
    kernel = AdafacMLPOptimizer(hidden_units=500).network.stack[0].kernel.numpy()
    # Of a normal distribution that is cut off at two deviations.
    assert kernel.std() == pytest.approx(0.88 / 39**0.5, rel=0.02)
    assert np.abs(kernel).max() <= 2 / 39**0.5


def test_the_state_of_a_matrix_is_four_floats_for_each_weight_and_three_for_each_row_and_column():
    state = AdafacMLPOptimizer().initial_state([tf.zeros([50, 30])])
    floats = [t.shape.num_elements() for t in tf.nest.flatten(state) if t.dtype.is_floating]
    assert sum(floats) == 4 * 50 * 30 + 3 * (50 + 30)


def test_many_large_gradients_leave_a_finite_state():
    optimizer, params = AdafacMLPOptimizer(), [tf.ones([400, 300])]
    grads = [tf.fill([400, 300], np.float32(np.inf))]
    deltas, state = optimizer.update(params, grads, optimizer.initial_state(params))
    for tensor in [*deltas, *tf.nest.flatten(state)]:
        assert np.isfinite(tensor).all()
