"""LearnedMuon against NumPy and against Muon, and which way each variable takes."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from l2o.optimizer import LearnedMuonOptimizer
from l2o.optimizer.adam import AdamState
from tests import reference_mlp
from tests.optimizer.small_mlps import SHAPES, assert_follows, randomize

ADAM = {"adam_beta_1": 0.9, "adam_beta_2": 0.95, "adam_epsilon": 1e-8}


def test_eight_updates_equal_the_equations():
    optimizer = LearnedMuonOptimizer(step_size=0.5)
    randomize(optimizer)
    weights, own = optimizer.network.get_weights(), optimizer._own_config()
    multiplier = 3 * np.exp(2 * float(weights[-1]))
    references = [
        reference_mlp.Adam(shape, {**own, **ADAM, "adam_multiplier": multiplier})
        if len(shape) < 2
        else reference_mlp.LearnedMuon(weights, shape, own)
        for shape in SHAPES
    ]
    # Newton-Schulz magnifies small singular values, and with them what is rounded.
    assert_follows(optimizer, references, SHAPES, 1e-3)


def test_eleven_numbers_are_learned():
    shapes = [w.shape for w in LearnedMuonOptimizer().network.get_weights()]
    assert shapes == [(3, 2), (1,), (), (1,), (), ()]


@pytest.mark.skipif(not hasattr(keras.optimizers, "Muon"), reason="this Keras has no Muon")
def test_untrained_it_steps_in_the_direction_of_muon():
    ours = LearnedMuonOptimizer(step_size=0.01)
    # An average instead of a sum: only their sizes differ, and Newton-Schulz does not see those.
    muon = keras.optimizers.Muon(0.01, momentum=0.9, nesterov=False, weight_decay=0.0)
    start = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
    a, b = keras.Variable(start), keras.Variable(start)
    rng = np.random.default_rng(1)
    for _ in range(4):
        g = tf.constant(rng.normal(size=(6, 4)), tf.float32)
        before = a.numpy(), b.numpy()
        ours.apply([g], [a])
        muon.apply([g], [b])
        first, second = (x.numpy() - y for x, y in zip((a, b), before, strict=True))
        assert np.sqrt(np.mean(first**2)) == pytest.approx(0.01, rel=1e-4)
        np.testing.assert_allclose(
            first / np.linalg.norm(first), second / np.linalg.norm(second), atol=1e-3
        )


def model():
    return keras.Sequential(
        [
            keras.Input((2,)),
            keras.layers.Embedding(7, 4),
            keras.layers.Conv1D(3, 2),
            keras.layers.Dense(2),
        ]
    )


@pytest.mark.parametrize(
    ("adam_for", "expected"),
    [
        (None, [True, False, True, False, True]),
        (["dense"], [False, False, True, True, True]),
        (lambda path, shape: shape[0] == 2, [False, True, True, False, True]),
    ],
)
def test_vectors_and_what_is_asked_for_take_adam(adam_for, expected):
    keras.utils.clear_session()
    optimizer, variables = LearnedMuonOptimizer(adam_for=adam_for), model().trainable_variables
    assert [r.way == "Adam" for r in optimizer.routes(variables)] == expected
    specs = [tf.TensorSpec(v.shape, tf.float32, v.path) for v in variables]
    assert [isinstance(s, AdamState) for s in optimizer.initial_state(specs)] == expected


def test_what_takes_adam_survives_the_config():
    made = LearnedMuonOptimizer(adam_for=["embeddings", "dense/kernel"])
    copy = LearnedMuonOptimizer.from_config(made.get_config())
    assert copy.adam_for == ("embeddings", "dense/kernel")


def test_no_gradient_is_no_change():
    optimizer, x = LearnedMuonOptimizer(), keras.Variable(np.ones([3, 2]))
    optimizer.apply([tf.zeros([3, 2])], [x])
    np.testing.assert_array_equal(x, np.ones([3, 2]))
