"""Steps in which only some variables have a gradient, and what their state is then."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import l2o
from l2o.optimizer import OPTIMIZERS, TrainableOptimizer
from l2o.optimizer.partial import Own, Place, put, put_state, sources, take, take_state

SHAPES = [(3, 2), (4,), (), (2,)]


@pytest.fixture(
    params=[
        # It shares Celo2's code.
        pytest.param(n, marks=pytest.mark.slow) if n == "AdafacMLP" else n
        for n in sorted(OPTIMIZERS.entries)
    ]
)
def optimizer(request):
    made = OPTIMIZERS.find(request.param)()
    made.xla = False
    rng = np.random.default_rng(0)
    made.set_learned_weights([rng.normal(size=w.shape) * 0.3 for w in made.network.weights])
    return made


def parts(optimizer, which):
    """What the state holds of one variable, and what is shared."""
    state = [tf.convert_to_tensor(v) for v in optimizer._state_variables]
    places = optimizer.state_places(tf.nest.pack_sequence_as(optimizer._state_structure, state))
    params = [tf.zeros(shape) for shape in SHAPES]
    taking = [i == which for i in range(len(SHAPES))]
    own = [
        part.numpy()
        for leaf, place in zip(state, places, strict=True)
        if place and (part := take(leaf, place, params, taking)) is not None
    ]
    return own, [leaf.numpy() for leaf, place in zip(state, places, strict=True) if not place]


def test_the_state_of_a_variable_without_a_gradient_stays(optimizer):
    variables = [keras.Variable(np.ones(shape, np.float32)) for shape in SHAPES]
    optimizer.build(variables)
    grads = [tf.random.stateless_normal(shape, [1, 2]) for shape in SHAPES]
    optimizer.apply(grads, variables)
    before = [parts(optimizer, i)[0] for i in range(4)]
    optimizer.apply([grads[2], grads[0]], [variables[2], variables[0]])
    for i, was in enumerate(before):
        now = parts(optimizer, i)[0]
        assert now
        equal = all(np.array_equal(a, b) for a, b in zip(was, now, strict=True))
        assert equal == (i in (1, 3))


def test_a_tensor_that_comes_later_starts_as_the_first_ones_did():
    optimizer = l2o.ScaleHierarchicalOptimizer()
    optimizer.xla = False
    for start in (optimizer.network.h_param, optimizer.network.h_tensor):
        start.assign(np.linspace(0.1, 0.9, start.shape[0]))
    variables = [keras.Variable(np.ones(3, np.float32)) for _ in range(2)]
    optimizer.build(variables)
    grads = tf.constant([1.0, -2.0, 0.5])
    for _ in range(3):
        optimizer.apply([grads], variables[:1])
    optimizer.apply([grads, grads], variables)
    state = {v.name: v for v in optimizer._state_variables}
    np.testing.assert_array_equal(state["t_tensor"], [4, 1])
    np.testing.assert_array_equal(state["t"], 4)
    np.testing.assert_allclose(state["lam"][3:], np.square(state["gbar"][3:]), rtol=1e-6)
    # From the learned start; from zeros its GRU would be elsewhere.
    kept = state["h_param"][3:].numpy()
    optimizer.network.h_param.assign(np.zeros(10))
    other = optimizer.update([tf.zeros(3)], [grads], optimizer.initial_state([tf.zeros(3)]))[
        1
    ].h_param
    assert np.abs(kept - other).max() > 0.05


def test_take_and_put():
    leaf, params = tf.reshape(tf.range(12.0), [2, 6]), [tf.zeros([2]), tf.zeros([]), tf.zeros([3])]
    taking = [True, False, True]
    part = take(leaf, Place(1, coordinates=True), params, taking)
    np.testing.assert_array_equal(part, [[0, 1, 3, 4, 5], [6, 7, 9, 10, 11]])
    back = put(leaf, -part, Place(1, coordinates=True), params, taking)
    np.testing.assert_array_equal(back, [[0, -1, 2, -3, -4, -5], [-6, -7, 8, -9, -10, -11]])
    per_tensor = tf.constant([[1], [2], [3]])
    part = take(per_tensor, Place(0, coordinates=False), params, taking)
    np.testing.assert_array_equal(part, [[1], [3]])
    back = put(per_tensor, part * 10, Place(0, coordinates=False), params, taking)
    np.testing.assert_array_equal(back, [[10], [2], [30]])
    assert take(leaf, None, params, taking) is leaf
    assert put(leaf, part, None, params, taking) is part


def test_leaves_of_single_variables():
    params, taking = [tf.zeros([2]), tf.zeros([]), tf.zeros([3])], [True, False, True]
    state = {"t": 7, "x": tf.range(6.0), "own": ({"a": 1, "b": (2, ())}, {"a": 3}, {"a": 4})}
    # In the order of the keys: own, t, x.
    places = [Own(0), Own(0), Own(1), Own(2), None, Place(0, coordinates=True)]
    part = take_state(state, places, params, taking)
    np.testing.assert_array_equal(part.pop("x"), [0, 1, 3, 4, 5])
    assert part == {"t": 7, "own": ({"a": 1, "b": (2, ())}, {"a": 4})}
    new = {"t": 8, "x": -tf.range(5.0), "own": ({"a": 10, "b": (20, ())}, {"a": 40})}
    back = put_state(state, new, places, params, taking)
    np.testing.assert_array_equal(back.pop("x"), [0, -1, 2, -2, -3, -4])
    assert back == {"t": 8, "own": ({"a": 10, "b": (20, ())}, {"a": 3}, {"a": 40})}


def test_where_leaves_of_single_variables_come_from():
    # The variables were b, c, a, with 1, 3 and 2 leaves; now they are a, b, c.
    places = [None, Own(0), Own(0), Own(1), Own(2), Own(2), Own(2), None]
    assert sources(places, [2, 0, 1]) == [0, 5, 6, 1, 2, 3, 4, 7]
    # Two lists with one leaf for each variable.
    twice = [Own(0), Own(1), Own(2)] * 2
    assert sources(twice, [2, 0, 1]) == [2, 0, 1, 5, 3, 4]
    assert sources([None, Place(0, True)], [1, 0]) == [0, 1]


class Whole(TrainableOptimizer):
    """A rule with one number for all parameters together."""

    network = keras.layers.Identity()

    def initial_state(self, params, seed=0):
        return [tf.zeros([7])]

    def update(self, params, grads, state):
        return [-g for g in grads], state


def test_a_rule_that_does_not_say_what_belongs_to_whom_is_told():
    variables = [keras.Variable(np.ones(2, np.float32)) for _ in range(2)]
    optimizer = Whole()
    optimizer.build(variables)
    optimizer.apply([tf.ones(2)] * 2, variables)
    np.testing.assert_array_equal(variables[0], [0, 0])
    with pytest.raises(NotImplementedError, match=r"Whole does not define `state_places`"):
        optimizer.apply([tf.ones(2)], variables[:1])
