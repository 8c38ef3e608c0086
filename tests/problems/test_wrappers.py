import keras
import numpy as np
import pytest
import tensorflow as tf

from l2o.errors import UserError
from l2o.inner.rule import Rule
from l2o.inner.trajectory import Carry
from l2o.inner.unroll import Unroll
from l2o.problems import (
    ConvexCombination,
    GradientNoise,
    Instance,
    Problem,
    ProblemSpec,
    Quadratic,
    RandomScaling,
    Rosenbrock,
    conv_classifier,
    keras_problem,
    mlp_classifier,
)
from tests import hand_designed

WRAPPERS = [RandomScaling, ConvexCombination, GradientNoise]


def gradients(problem, instance, batch=()):
    """The objective, its gradients and the next model state."""
    with tf.GradientTape() as tape:
        tape.watch(instance.params)
        loss, model_state = problem.objective(*instance, batch)
    return loss, tape.gradient(loss, instance.params), model_state


@pytest.fixture(scope="module")
def mlp():
    return mlp_classifier(layers=[6], batch_size=50)


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_the_data_is_that_of_the_inner_problem(mlp, wrapper):
    problem = wrapper(wrapper(mlp))
    assert problem.name == "mlp_classifier"
    assert problem.steps_per_epoch == mlp.steps_per_epoch == 28
    for a, b in zip(problem.batches(4, 2, 3), mlp.batches(4, 2, 3), strict=True):
        np.testing.assert_array_equal(a, b)
    assert wrapper(Quadratic()).steps_per_epoch is None


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_instances_belong_to_their_seed(mlp, wrapper):
    problem = wrapper(mlp)
    a, b, c = (problem.init(seed) for seed in (1, 1, 2))
    for x, y, other in zip(*(i.params + i.model_state for i in (a, b, c)), strict=True):
        np.testing.assert_array_equal(x, y)
        if np.any(x):  # biases start at 0 everywhere
            assert not np.array_equal(x, other)


def test_scaling_starts_where_the_inner_problem_does(mlp):
    problem = RandomScaling(mlp)
    instance, inner = problem.init(5), mlp.init(5)
    batch = tuple(b[0] for b in mlp.batches(0, 0, 1))
    loss, grads, _ = gradients(problem, instance, batch)
    inner_loss, inner_grads, _ = gradients(mlp, inner, batch)
    np.testing.assert_allclose(loss, inner_loss, rtol=1e-5)
    scales = instance.model_state[:4]
    for x, g, c, inner_x, inner_g in zip(
        instance.params, grads, scales, inner.params, inner_grads, strict=True
    ):
        np.testing.assert_allclose(x * c, inner_x, rtol=1e-6)
        np.testing.assert_allclose(g, c * inner_g, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("level", ["tensor", "global"])
def test_scaling_of_a_tensor_or_of_the_whole_problem(mlp, level):
    problem = RandomScaling(mlp, limit=6.9, level=level)
    instance, inner = problem.init(5), mlp.init(5)
    scales = np.array(instance.model_state[:4])
    assert scales.shape == (4,)
    assert len(set(scales)) == (1 if level == "global" else 4)
    for x, c, inner_x in zip(instance.params, scales, inner.params, strict=True):
        np.testing.assert_allclose(x * c, inner_x, rtol=1e-6)
    batch = tuple(b[0] for b in mlp.batches(0, 0, 1))
    loss, grads, after = gradients(problem, instance, batch)
    inner_loss, inner_grads, _ = gradients(mlp, inner, batch)
    np.testing.assert_allclose(loss, inner_loss, rtol=1e-5)
    for g, c, inner_g in zip(grads, scales, inner_grads, strict=True):
        np.testing.assert_allclose(g / c, inner_g, rtol=1e-3, atol=1e-6)
    np.testing.assert_array_equal(after[:4], scales)
    # Log-uniform over instances.
    logs = np.log([problem.init(seed).model_state[0] for seed in range(60)])
    assert -6.9 < logs.min() < -5 < 5 < logs.max() < 6.9
    assert np.std(logs) == pytest.approx(6.9 / 3**0.5, rel=0.2)


def test_scaling_is_log_uniform_and_coordinatewise():
    problem = RandomScaling(Quadratic(1000), limit=2.0)
    (c, *inner_state) = problem.init(0).model_state
    assert len(inner_state) == 2
    logs = np.sort(np.log(c))
    assert -2 <= logs[0] < -1.98
    assert 1.98 < logs[-1] <= 2
    # The distance of Kolmogorov and Smirnov from the uniform distribution.
    np.testing.assert_allclose(logs, np.linspace(-2, 2, 1000), atol=4 * 0.06)
    # A start of the same generator would order the two alike.
    theta = Quadratic(1000).init(0).params[0]
    assert abs(np.corrcoef(np.log(c), theta)[0, 1]) < 0.1
    assert abs(np.log(RandomScaling(Quadratic(1000)).init(0).model_state[0])).max() > 2.9


@pytest.mark.parametrize("limit", [0.0, 2.0])
def test_the_convex_part_adds_its_mean_square(limit):
    inner = Quadratic()
    problem = ConvexCombination(inner, dimensions=500, limit=limit)
    instance = problem.init(3)
    *x, y = (p.numpy() for p in instance.params)
    w, c, *_ = (s.numpy() for s in instance.model_state)
    if limit:
        assert np.abs(np.log(c)).max() <= limit
        assert np.log(c).std() == pytest.approx(2 * limit / 12**0.5, rel=0.1)
    else:
        np.testing.assert_array_equal(c, 1)
    loss, (inner_grad, grad), model_state = gradients(problem, instance)
    inner_loss, (expected,), _ = gradients(inner, inner.init(3))
    np.testing.assert_array_equal(x[0], inner.init(3).params[0])
    np.testing.assert_allclose(loss, inner_loss + ((c * y - w) ** 2).mean(), rtol=1e-5)
    np.testing.assert_allclose(inner_grad, expected, rtol=1e-6)
    np.testing.assert_allclose(grad, 2 * c * (c * y - w) / 500, rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(model_state[0], w)
    for draws in (c * y, w):
        assert draws.shape == (500,)
        assert abs(draws.mean()) < 0.15
        assert abs(draws.std() - 1) < 0.1
    assert abs(np.corrcoef(c * y, w)[0, 1]) < 0.15
    assert ConvexCombination(inner).init(0).params[1].shape == [20]


def test_noise_leaves_the_value_and_is_normal_on_the_gradient(mlp):
    problem = GradientNoise(mlp, stddev=0.5)
    instance = problem.init(1)
    batch = tuple(b[0] for b in mlp.batches(0, 0, 1))
    loss, grads, model_state = gradients(problem, instance, batch)
    inner_loss, inner_grads, _ = gradients(mlp, mlp.init(1), batch)
    assert loss == inner_loss
    noise = [(g - i).numpy().ravel() for g, i in zip(grads, inner_grads, strict=True)]
    everything = np.concatenate(noise)
    assert len(everything) == 64 * 6 + 6 + 6 * 10 + 10
    assert abs(everything.mean()) < 0.1
    assert abs(everything.std() - 0.5) < 0.06
    assert len(np.unique(np.round(everything, 6))) > 450, "no parameter repeats another's"

    _, again, _ = gradients(problem, instance, batch)
    _, later, _ = gradients(problem, instance._replace(model_state=model_state), batch)
    other = problem.init(2).model_state
    _, elsewhere, _ = gradients(problem, instance._replace(model_state=other), batch)
    np.testing.assert_array_equal(again[0], grads[0])
    for different in (later, elsewhere):
        correlation = np.corrcoef((different[0] - inner_grads[0]).numpy().ravel(), noise[0])[0, 1]
        assert abs(correlation) < 0.2


def test_noise_does_not_touch_second_derivatives():
    def curvature(problem):
        x, model_state = problem.init(0)
        with tf.GradientTape() as outer:
            outer.watch(x)
            with tf.GradientTape() as tape:
                tape.watch(x)
                f, _ = problem.objective(x, model_state, ())
            (gradient,) = tape.gradient(f, x)
        return outer.jacobian(gradient, x[0])

    np.testing.assert_array_equal(curvature(GradientNoise(Rosenbrock())), curvature(Rosenbrock()))


class Sum(Problem):
    """The sum of all squares, computed in a type of its own."""

    name = "Sum"

    def __init__(self, params, loss):
        self.params, self.loss = params, loss

    def init(self, seed):
        return Instance([tf.constant([1, -2, 0.5], dtype) for dtype in self.params], [])

    def objective(self, params, model_state, batch):
        parts = [tf.reduce_sum(tf.square(tf.cast(p, self.loss))) for p in params]
        return tf.add_n(parts), []


def network(dtype):
    """A Keras model of a type; Keras computes its loss in float32."""

    def build():
        return keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, dtype=dtype)])

    x, y = np.ones((8, 4)), np.arange(8) % 3
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    return keras_problem(build, (x, y), loss, batch_size=8)


FLOATS = ["float16", "bfloat16", "float32", "float64"]


@pytest.mark.parametrize(
    "inner",
    [
        *(Sum([params], loss) for params in FLOATS for loss in FLOATS),
        Sum(FLOATS, "float32"),
        Sum(FLOATS[::-1], "bfloat16"),
        *(network(dtype) for dtype in [*FLOATS, "mixed_float16", "mixed_bfloat16"]),
    ],
    ids=lambda p: getattr(p, "name", "") + str(getattr(p, "params", "")),
)
def test_every_wrapper_keeps_the_types_of_every_problem(inner):
    batch = tf.nest.map_structure(lambda b: b[0], inner.batches(0, 0, 1))
    inner_loss, inner_grads, _ = gradients(inner, inner.init(0), batch)
    for wrap in [*WRAPPERS, lambda p: GradientNoise(ConvexCombination(RandomScaling(p)))]:
        problem = wrap(inner)
        instance = problem.init(0)
        loss, grads, model_state = gradients(problem, instance, batch)
        assert loss.dtype == inner_loss.dtype
        assert [g.dtype for g in grads] == [p.dtype for p in instance.params]
        assert [s.dtype for s in model_state] == [s.dtype for s in instance.model_state]
        tolerance = 0.05 if "16" in f"{loss.dtype} {[g.dtype for g in grads]}" else 1e-5
        if wrap is ConvexCombination:
            y, (w, c, *_) = instance.params[-1], instance.model_state
            convex = np.mean(np.square(np.float64(c) * np.float64(y) - np.float64(w)))
            np.testing.assert_allclose(
                np.float64(loss), np.float64(inner_loss) + convex, rtol=tolerance
            )
        elif wrap is GradientNoise:
            assert loss == inner_loss
            for g, inner_g in zip(grads, inner_grads, strict=True):
                assert 0 < np.abs(np.float64(g) - np.float64(inner_g)).max() < 0.6


def test_wrappers_around_each_other_draw_independently():
    problem = RandomScaling(RandomScaling(Quadratic(1000)))
    outer, inner, *_ = problem.init(0).model_state
    assert abs(np.corrcoef(np.log(outer), np.log(inner))[0, 1]) < 0.15
    outer, inner, *_ = GradientNoise(GradientNoise(Quadratic())).init(0).model_state
    assert not np.array_equal(outer, inner)
    y_outer, y_inner = ConvexCombination(ConvexCombination(Quadratic())).init(0).params[1:]
    assert not np.array_equal(y_outer, y_inner)


@pytest.mark.parametrize(
    "order",
    [(2, 1, 0), *(pytest.param(o, marks=pytest.mark.slow) for o in ((0, 1, 2), (1, 2, 0)))],
)
def test_all_of_them_around_a_network_with_batch_norm(order):
    def network():
        return conv_classifier([3], kernel_size=2, batch_norm=True, dropout=0.3, batch_size=8)

    spec = ProblemSpec(network, wrappers=[ProblemSpec(WRAPPERS[i]) for i in order])
    problem, steps = spec.build(), 3
    params, model_state = problem.init(0)
    rule = hand_designed.SGD(rate=0.01, momentum=0.0)
    data = problem.batches(0, 0, steps + 1)
    carry = Carry(params, model_state, rule.initial_state(params))
    compiled = tf.function(
        lambda n: Unroll(Rule(rule), Rule(rule).values(), problem, carry, data, n).forward(),
        autograph=False,
    )
    got = compiled(tf.constant(steps))

    expected = []
    for i in range(steps + 1):
        state_before = model_state
        loss, grads, model_state = gradients(
            problem, Instance(params, model_state), tuple(b[i] for b in data)
        )
        expected.append(loss)
        end = params
        params = [p - 0.01 * g for p, g in zip(params, grads, strict=True)]
    np.testing.assert_allclose(got.objectives, expected[1:], rtol=1e-4)
    for a, b in zip(got.carry.params, end, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)
    for a, b in zip(got.carry.model_state, state_before, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)


def test_a_spec_wraps_the_innermost_first():
    inner_wrapper = ProblemSpec("RandomScaling", kwargs={"limit": 0.5})
    outer_wrapper = ProblemSpec(ConvexCombination, args=(3,))
    spec = ProblemSpec("Quadratic", wrappers=[inner_wrapper, outer_wrapper])
    built, expected = spec.build(), ConvexCombination(RandomScaling(Quadratic(), 0.5), 3)
    for a, b in zip(built.init(1), expected.init(1), strict=True):
        for s, t in zip(a, b, strict=True):
            np.testing.assert_array_equal(s, t)
    with pytest.raises(UserError, match="no problem wrapper called 'Quadratic'"):
        ProblemSpec("Quadratic", wrappers=[ProblemSpec("Quadratic")]).build()
    nested = ProblemSpec("RandomScaling", wrappers=[outer_wrapper])
    with pytest.raises(UserError, match="no wrappers of its own"):
        ProblemSpec("Quadratic", wrappers=[nested]).build()
