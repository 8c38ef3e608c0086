"""However an unroll is cut and whatever it records, it equals the loop written out by hand."""

import numpy as np
import pytest
import tensorflow as tf

import l2o
from l2o.inner import lanes, unroll
from l2o.inner.trajectory import Carry
from l2o.problems import Instance, Problem
from tests.draws import same_draws
from tests.unrolled import meta_gradient

STEPS = 5


class Average(Problem):
    """sum((x - average)^4) over two tensors; the average of past x is model state.

    So an objective depends on earlier parameters through the state, in first order too.
    """

    name = "average"

    def __init__(self, remembers=True):
        self.remembers = remembers

    def init(self, seed):
        rng = np.random.default_rng(seed)
        kernel = rng.normal(size=(5, 7)).astype(np.float32)
        return Instance(
            [tf.constant(kernel), tf.constant([1.0, -2.0, 0.5])], [tf.constant([0.3, 0.2])]
        )

    def objective(self, params, model_state, batch):
        means = tf.stack([tf.reduce_mean(p) for p in params])
        average = 0.5 * model_state[0] + 0.5 * means
        shift = model_state[0] if self.remembers else tf.zeros([2])
        f = sum(tf.reduce_mean((p - shift[i]) ** 4) for i, p in enumerate(params))
        return f + batch * tf.reduce_sum(params[1]), [average]


def by_hand(optimizer, problem, batches, second_derivatives):
    """The sum of the objectives and its gradient, by a tape over a Python loop."""
    weights = optimizer.network.trainable_variables
    with tf.GradientTape() as tape:
        params, model_state = problem.init(0)
        state = optimizer.initial_state(params)
        loss = 0.0
        for i in range(STEPS + 1):
            with tf.GradientTape() as inner:
                inner.watch(params)
                f, model_state = problem.objective(params, model_state, batches[i])
            loss += f if i else 0.0
            grads = inner.gradient(f, params)
            if not second_derivatives:
                grads = [tf.stop_gradient(g) for g in grads]
            deltas, state = optimizer.update(params, grads, state)
            params = [p + d for p, d in zip(params, deltas, strict=True)]
    return loss, tape.gradient(loss, [w.value for w in weights])


CASES = {
    "first": (False, False),
    "remembers-first": (True, False),
    "second": (False, True),
    "remembers-second": (True, True),
}
# Lanes are those of every coordinatewise rule; ScaleHierarchical has none.
FAST = ["DM-first", "DM-remembers-second"]


@pytest.mark.parametrize(
    ("name", "remembers", "second_derivatives"),
    [
        pytest.param(name, *values, id=case, marks=[] if case in FAST else pytest.mark.slow)
        for name in ("DM", "RNNProp", "ScaleBasic", "ScaleHierarchical")
        for case, values in ((f"{name}-{key}", values) for key, values in CASES.items())
    ],
)
def test_the_gradient_of_lanes_and_segments(monkeypatch, name, remembers, second_derivatives):
    same_draws(1)
    small = {"param_units": 4} if name == "ScaleHierarchical" else {"layers": (4,)}
    optimizer = getattr(l2o, f"{name}Optimizer")(**small)
    optimizer.network.set_weights([2 * w for w in optimizer.network.get_weights()])
    # One compiled case of a rule is enough to wait for.
    optimizer.xla = remembers and second_derivatives
    problem = Average(remembers)
    batches = tf.linspace(0.0, 1.0, STEPS + 1)
    instance = problem.init(0)
    carry = Carry(*instance, optimizer.initial_state(instance.params))
    loss, gradient = by_hand(optimizer, problem, batches, second_derivatives)

    # 38 coordinates in three lanes of 16, and only every third state is recorded.
    monkeypatch.setattr(lanes, "cores", lambda: 3)
    monkeypatch.setattr(lanes, "SMALLEST_LANE", 10)
    monkeypatch.setattr(unroll, "MEMORY", 0)
    got_loss, got, _ = meta_gradient(
        optimizer, problem, carry, batches, STEPS, second_derivatives=second_derivatives
    )
    made = lanes.lanes_for(optimizer, carry.params)
    assert made.count == (1 if name == "ScaleHierarchical" else 3)
    assert unroll.checkpoint_interval(made, carry.optimizer_state, tf.constant(STEPS)) == 3

    np.testing.assert_allclose(got_loss, loss, rtol=1e-5)
    largest = max(np.abs(g).max() for g in gradient if g is not None)
    for a, b in zip(got, gradient, strict=True):
        b = np.zeros(a.shape) if b is None else b
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5 * largest)


def test_lanes_undo_what_they_cut():
    params = [tf.zeros([3, 4]), tf.zeros([]), tf.zeros([0, 2]), tf.zeros([6], tf.float16)]
    cut = lanes.Coordinates(params, 2, tf.float32)
    values = [
        tf.cast(tf.reshape(tf.range(tf.size(p)) + i, p.shape), p.dtype)
        for i, p in enumerate(params)
    ]
    parts = cut.cut(values)
    assert [part.shape for (part,) in parts] == [(16,), (16,)]
    for a, b in zip(cut.join(parts), values, strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)
    series = cut.cut_series([tf.stack([v, 2 * v]) for v in values])
    np.testing.assert_array_equal(series[1][0][1], 2 * parts[1][0])
    state = (tf.reshape(tf.range(38), [2, 19]), tf.constant(3))
    for a, b in zip(cut.join_state(cut.cut_state(state), state), state, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(("size", "count"), [(900, 1), (1510, 2), (15910, 4), (10**7, 8)])
def test_lanes_fill_the_cores_and_fit_the_cache(monkeypatch, size, count):
    monkeypatch.setattr(lanes, "cores", lambda: 2)
    made = lanes.lanes_for(l2o.DMOptimizer(), [tf.TensorSpec([size])])
    assert made.count == count
