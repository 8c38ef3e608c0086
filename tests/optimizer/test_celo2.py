"""Celo2 against NumPy, and which way each variable takes."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from l2o.optimizer import Celo2Optimizer, equations
from l2o.optimizer.accumulators import two_longest
from l2o.optimizer.celo2 import AdamState
from l2o.problems import ConvexCombination, keras_problem
from l2o.train import LossArgs
from l2o.train.losses.meta import MetaLoss
from l2o.train.outer.meta_step import MetaStep
from tests import reference_mlp
from tests.draws import same_draws
from tests.optimizer.small_mlps import SHAPES, assert_follows, randomize

OPTIONS = {
    "defaults": {},
    "network": {"hidden_units": 5, "hidden_layers": 3},
    "decays": {
        "momentum_decays": (0.5, 0.8, 0.95),
        "rms_decay": 0.7,
        "factored_decays": (0.3, 0.6, 0.9),
    },
    "momentum": {"correct": "momentum"},
    "adam": {"correct": "adam", "exp_mult": 0.1},
    "sizes": {"step_size": 0.5, "exp_mult": 0.1, "gradient_clip": 1.5},
    "Adam": {"adam_for_vectors": True},
    "another Adam": {
        "adam_for_vectors": True,
        "adam_beta_1": 0.5,
        "adam_beta_2": 0.6,
        "adam_epsilon": 0.1,
        "adam_multiplier": 3.0,
    },
}
# Each option once.
FAST = [
    "base-network",
    "base-decays",
    "base-momentum",
    "orthogonal-adam",
    "orthogonal-sizes",
    "orthogonal-another Adam",
]


@pytest.mark.parametrize(
    ("options", "orthogonalize"),
    [
        pytest.param(OPTIONS[o], kind == "orthogonal", id=f"{kind}-{o}", marks=marks)
        for kind in ("base", "orthogonal")
        for o in OPTIONS
        for marks in ([] if f"{kind}-{o}" in FAST else [pytest.mark.slow],)
    ],
)
def test_eight_updates_equal_the_equations(options, orthogonalize):
    options = {"adam_for_vectors": False, **options}
    optimizer = Celo2Optimizer(**options, orthogonalize=orthogonalize)
    randomize(optimizer)
    weights, own = optimizer.network.get_weights(), optimizer._own_config()
    references = [
        reference_mlp.Adam(shape, own)
        if own["adam_for_vectors"] and len(shape) < 2
        else reference_mlp.Celo2(weights, shape, own)
        for shape in SHAPES
    ]
    # Newton-Schulz magnifies small singular values, and with them what is rounded.
    assert_follows(optimizer, references, SHAPES, 1e-3 if orthogonalize else 1e-4)


def test_the_weights_are_in_the_papers_order():
    shapes = [w.shape for w in Celo2Optimizer().network.get_weights()]
    assert shapes == [(30, 8), (8,), (8, 8), (8,), (8, 3), (3,)]
    assert sum(int(np.prod(shape)) for shape in shapes) == 347


@pytest.mark.skipif(not hasattr(keras.optimizers, "Muon"), reason="this Keras has no Muon")
def test_newton_schulz_is_that_of_keras_muon():
    muon = keras.optimizers.Muon()
    rng = np.random.default_rng(0)
    for shape in ((4, 7), (7, 4), (5, 5), (1, 6)):
        x = tf.constant(rng.normal(size=shape), tf.float32)
        expected = muon.zeropower_via_newtonschulz5(x, 5)
        np.testing.assert_allclose(equations.orthogonalized(x), expected, rtol=1e-4, atol=1e-5)
    stacked = tf.constant(rng.normal(size=(2, 3, 4, 6)), tf.float32)
    single = [[equations.orthogonalized(x) for x in row] for row in stacked]
    np.testing.assert_allclose(equations.orthogonalized(stacked), single, atol=1e-5)


def test_of_equal_axes_the_last_is_the_longest():
    assert two_longest((4, 4)) == (0, 1)
    assert two_longest((3, 3, 2, 4)) == (1, 3)
    assert two_longest((6, 4)) == (1, 0)


def model():
    same_draws(0)
    return keras.Sequential(
        [
            keras.Input((4,), dtype="int32"),
            keras.layers.Embedding(10, 3, name="words"),
            keras.layers.Flatten(),
            keras.layers.Dense(2, name="head"),
        ]
    )


def ways(optimizer):
    return [way for _, _, way in optimizer.routes(model())]


def states(optimizer):
    """The ways that the state of a built optimizer has."""
    variables = model().trainable_variables
    optimizer.build(variables)
    entries = optimizer._state_structure
    return ["Adam" if isinstance(entry, AdamState) else "MLP" for entry in entries]


CHOICES = {
    "default": ({}, ["Adam", "MLP", "Adam"]),
    "off": ({"adam_for_vectors": False}, ["MLP", "MLP", "MLP"]),
    "layer": ({"adam_for": ["head"]}, ["MLP", "Adam", "Adam"]),
    "variable": ({"adam_for": ("head/kernel",)}, ["MLP", "Adam", "MLP"]),
    "no part of a name": ({"adam_for": ["hea", "kern"]}, ["MLP", "MLP", "MLP"]),
    "none": ({"adam_for": []}, ["MLP", "MLP", "MLP"]),
    "predicate": ({"adam_for": lambda path, shape: shape == (12, 2)}, ["MLP", "Adam", "MLP"]),
}


@pytest.mark.parametrize("choice", sorted(CHOICES))
def test_which_variables_take_steps_of_adam(choice):
    options, expected = CHOICES[choice]
    assert ways(Celo2Optimizer(orthogonalize=False, **options)) == expected
    assert states(Celo2Optimizer(**options)) == expected
    assert "MLP, orthogonalized" not in ways(Celo2Optimizer(orthogonalize=False, **options))


def test_the_ways_are_printed_as_a_table():
    lines = str(Celo2Optimizer().routes(model())).splitlines()
    assert [line.split("  ")[0].split("/")[-1].strip() for line in lines] == [
        "variable",
        "embeddings",
        "kernel",
        "bias",
    ]
    assert lines[2].endswith("(12, 2)  MLP, orthogonalized")
    kernel = Celo2Optimizer().routes(model().trainable_variables)[1]
    assert (kernel.shape, kernel.way) == ((12, 2), "MLP, orthogonalized")


def test_names_are_in_the_configuration():
    made = Celo2Optimizer(adam_for=["embeddings"])
    copy = Celo2Optimizer.from_config(made.get_config())
    assert copy.adam_for == made.adam_for == ("embeddings",)


def text_problem():
    x = np.random.default_rng(0).integers(10, size=(64, 4)).astype("int32")
    return keras_problem(model, (x, x.sum(1, keepdims=True) / 40.0), "mse", batch_size=16)


def test_an_embedding_takes_the_same_way_in_meta_training_as_in_fit():
    problem, optimizer = text_problem(), Celo2Optimizer()
    step = MetaStep(optimizer, problem, MetaLoss(LossArgs()))
    state = step.start(problem.init(0)).optimizer_state
    assert [isinstance(entry, AdamState) for entry in state] == [True, False, True]
    wrapped = ConvexCombination(problem)
    state = optimizer.initial_state(wrapped.specs(wrapped.init(0).params))
    assert [isinstance(entry, AdamState) for entry in state] == [True, False, True, True]
    # A tensor has no name.
    state = optimizer.initial_state(problem.init(0).params)
    assert [isinstance(entry, AdamState) for entry in state] == [False, False, True]


def test_some_variables_alone_keep_their_ways():
    optimizer, variables = Celo2Optimizer(), model().trainable_variables
    optimizer.build(variables)
    before = [v.numpy() for v in variables]
    table, kernel, bias = (tf.ones(v.shape) for v in variables)
    optimizer.apply([table, bias], [variables[0], variables[2]])
    # The first step of Adam is as large as its learning rate.
    np.testing.assert_allclose(variables[0], before[0] - 0.02, rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(variables[1], before[1])
    optimizer.apply([kernel], [variables[1]])
    change = variables[1].numpy() - before[1]
    assert np.sqrt(np.mean(change**2)) == pytest.approx(0.001, rel=1e-3)


@pytest.mark.parametrize("shape", [(0,), (0, 5), (5, 0), (1, 1), (2, 3, 1, 4, 2)], ids=str)
@pytest.mark.parametrize("adam", [False, True])
def test_odd_shapes(shape, adam):
    optimizer = Celo2Optimizer(adam_for_vectors=adam)
    params = [tf.ones(shape)]
    state = optimizer.initial_state(params)
    for scale in (0.0, 1.0, 1e30):
        deltas, state = optimizer.update(params, [scale * tf.ones(shape)], state)
        assert deltas[0].shape == shape
        for tensor in [*deltas, *tf.nest.flatten(state)]:
            assert np.isfinite(tensor).all()


@pytest.mark.parametrize("correct", ["momentum", "adam"])
def test_a_corrected_rule_starts_as_the_known_one(correct):
    """Without random weights: the readout is 0, so the direction is the known one's."""
    optimizer = Celo2Optimizer(correct=correct, adam_for_vectors=False, orthogonalize=False)
    gradients = [np.random.default_rng(k).normal(size=(4, 3)).astype("float32") for k in range(3)]
    p = [tf.zeros([4, 3])]
    state, m, v = optimizer.initial_state(p), 0.0, 0.0
    for g in gradients:
        (delta,), state = optimizer.update(p, [tf.constant(g)], state)
        m, v = 0.9 * m + 0.1 * g, 0.95 * v + 0.05 * g**2
        s = m if correct == "momentum" else m / np.sqrt(v + 1e-8)
        np.testing.assert_allclose(delta, -0.001 * s / np.sqrt(np.mean(s**2)), rtol=1e-4)
