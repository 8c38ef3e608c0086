"""The choice policy in float64 against NumPy, with Keras' optimizers as its pool."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import l2o
from l2o.errors import UserError
from l2o.optimizer import ChoiceOptimizer
from tests.optimizer.lstm_equations import COUNT, SHAPES, numpy_stack, randomize, split

KERAS = {
    "AddSign": l2o.AddSign,
    "Adam": keras.optimizers.Adam,
    "Momentum": lambda rate: keras.optimizers.SGD(rate, momentum=0.9),
    "PowerSign": l2o.PowerSign,
    "RMSprop": keras.optimizers.RMSprop,
    "SGD": keras.optimizers.SGD,
}
# Powers of two, which float32 holds.
RATES = {"Adam": 0.25, "RMSprop": 0.125, "SGD": 0.5, "AddSign": 1.0}


def ranks():
    """One-hot: a matrix, a scalar and a vector."""
    rows = [np.eye(3)[len(s) - 1] if s else np.zeros(3) for s in SHAPES]
    return np.concatenate(
        [np.tile(r, (int(np.prod(s)), 1)) for r, s in zip(rows, SHAPES, strict=True)]
    )


@pytest.mark.parametrize("pool", [("Adam", "RMSprop"), ("SGD", "Adam", "AddSign")], ids=str)
def test_updates_equal_the_equations(pool, float64):
    rates = [RATES[member] for member in pool]
    optimizer = ChoiceOptimizer(pool=pool, rates=rates, layers=(4, 3))
    randomize(optimizer)
    weights = optimizer.network.get_weights()
    # A stack for each readout, since all of them read the same hidden state.
    stacks = [
        numpy_stack(optimizer, [*weights[:6], *weights[6 + 2 * j : 8 + 2 * j]])
        for j in range(len(pool))
    ]
    members = [KERAS[member](rate) for member, rate in zip(pool, rates, strict=True)]
    points = [keras.Variable(np.zeros(COUNT), dtype="float64") for _ in pool]
    rng, params = np.random.default_rng(0), split(np.ones(COUNT))
    state, chosen = optimizer.initial_state(params), []
    for t in range(6):
        g = rng.normal(size=COUNT) * 10.0 ** rng.integers(-3, 3, COUNT)
        before = [p.numpy() for p in points]
        for member, point in zip(members, points, strict=True):
            member.apply([tf.constant(g)], [point])
        u = np.array([p.numpy() - b for p, b in zip(points, before, strict=True)])
        time = np.full((COUNT, 1), 1 / (1 + t / 1000))
        x = np.hstack([(u / np.array(rates)[:, None]).T, time, ranks()])
        logits = np.array([stack(x) for stack in stacks])
        c = np.exp(logits) / np.exp(logits).sum(0)
        chosen.append(c)
        deltas, state = optimizer.update(params, split(g), state)
        flat = np.concatenate([np.ravel(d) for d in deltas])
        # Keras holds 0.999 and its powers in float32.
        np.testing.assert_allclose(flat, (c * u).sum(0), rtol=1e-4, atol=1e-9)
        assert [tuple(d.shape) for d in deltas] == SHAPES
    assert np.std(chosen) > 0.05, "the policy chooses"
    assert int(state.t) == 6


def test_a_convolution_counts_as_of_rank_three():
    params = [tf.zeros(s) for s in [(), (1,), (1, 1), (1, 1, 1), (1, 1, 1, 1)]]
    assert ChoiceOptimizer().initial_state(params).rank.numpy().tolist() == [0, 1, 2, 3, 3]


def test_equal_members_are_their_own_mix():
    """Softmax weights add up to 1."""
    optimizer = ChoiceOptimizer(pool=["Adam"] * 3, rates=[0.25] * 3, layers=(3,))
    x, params = keras.Variable(np.ones(5)), [tf.ones([5])]
    adam, state = keras.optimizers.Adam(0.25), optimizer.initial_state(params)
    rng = np.random.default_rng(0)
    for _ in range(4):
        g = tf.constant(rng.normal(size=5), tf.float32)
        adam.apply([g], [x])
        deltas, state = optimizer.update(params, [g], state)
        params = [params[0] + deltas[0]]
    np.testing.assert_allclose(params[0], x, rtol=1e-4)


@pytest.mark.parametrize(
    ("options", "path", "words"),
    [
        ({"pool": ["Adam", "Adan"]}, "pool/1", "no optimizer in the pool called 'Adan' (did"),
        ({"pool": ["Adam"]}, "rates", "expected a learning rate for each of 1 optimizers; got 2"),
        ({"pool": [], "rates": []}, "pool", "at least 1 item"),
        ({"rates": [0.1, -0.1]}, "rates/1", "greater than 0"),
    ],
)
def test_a_pool_that_makes_no_sense_is_refused(options, path, words):
    with pytest.raises(UserError) as error:
        ChoiceOptimizer(**options)
    assert error.value.path == path
    assert words in error.value.message
