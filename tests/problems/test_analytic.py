import numpy as np
import pytest
import tensorflow as tf

from l2o.errors import UserError
from l2o.problems import PROBLEMS, Landscape, ProblemSpec, Quadratic, Rosenbrock
from tests.problems.formulas import FORMULAS

MANY_DIMENSIONAL = ["Rosenbrock", "Rastrigin", "Ackley", "StyblinskiTang", "Levy"]
CASES = [(name, {}) for name in FORMULAS] + [(name, {"dimensions": 5}) for name in MANY_DIMENSIONAL]


def derivatives(problem, x):
    """Value, gradient and row sums of the Hessian."""
    with tf.GradientTape() as outer:
        outer.watch(x)
        with tf.GradientTape() as tape:
            tape.watch(x)
            f, _ = problem.objective([x], [], ())
        gradient = tape.gradient(f, x)
    return f, gradient, outer.gradient(gradient, x)


@pytest.fixture(params=CASES, ids=lambda case: f"{case[0]}-{case[1].get('dimensions', 2)}")
def case(request):
    name, kwargs = request.param
    return name, ProblemSpec(name, kwargs=kwargs).build()


def test_every_landscape_has_a_formula_here():
    landscapes = {n for n, p in PROBLEMS.entries.items() if isinstance(p, type)} - {"Quadratic"}
    assert landscapes == set(FORMULAS)
    assert all(issubclass(PROBLEMS.find(name), Landscape) for name in landscapes)
    assert all(PROBLEMS.find(name).name == name for name in landscapes)


def test_values_and_gradients_are_those_of_the_formula(case):
    name, problem = case
    formula, least, _, (low, high) = FORMULAS[name]
    rng = np.random.default_rng(0)
    for _ in range(5):
        x = rng.uniform(low, high, problem.dimensions)
        expected = formula(x) - problem.dimensions * least
        value, gradient, _ = derivatives(problem, tf.constant(x))
        np.testing.assert_allclose(value, expected, rtol=1e-7, atol=5e-6)
        h = 1e-5
        slopes = [(formula(x + e) - formula(x - e)) / (2 * h) for e in h * np.eye(len(x))]
        np.testing.assert_allclose(gradient, slopes, rtol=1e-5, atol=1e-5)
        low_precision, _ = problem.objective([tf.constant(x, tf.float32)], [], ())
        assert low_precision.dtype == tf.float32
        np.testing.assert_allclose(low_precision, expected, rtol=1e-4, atol=1e-4)


def test_the_minimum_is_zero_with_finite_derivatives(case):
    name, problem = case
    _, _, minimisers, _ = FORMULAS[name]
    for minimiser in minimisers:
        x = np.broadcast_to(minimiser, problem.dimensions)
        value, gradient, curvature = derivatives(problem, tf.constant(x, tf.float32))
        assert 0 <= value < 1e-9
        np.testing.assert_allclose(gradient, np.zeros(len(x)), atol=1e-4)
        assert np.isfinite(curvature).all()
        assert curvature.numpy().sum() > 0


def test_nothing_in_the_domain_is_negative_or_not_finite(case):
    name, problem = case
    _, _, minimisers, (low, high) = FORMULAS[name]
    rng = np.random.default_rng(1)
    d = problem.dimensions
    points = rng.uniform(low, high, (30, d))
    near = np.broadcast_to(minimisers[0], d) + np.logspace(-30, 0, 30)[:, None] * points
    corners = [np.broadcast_to(low, d), np.broadcast_to(high, d)]
    compiled = tf.function(lambda x: derivatives(problem, x))
    for x in np.concatenate([points, np.clip(near, low, high), corners]):
        value, gradient, curvature = compiled(tf.constant(x, tf.float32))
        assert value >= 0
        assert np.isfinite(gradient).all()
        assert np.isfinite(curvature).all()


def test_starts_are_uniform_in_the_domain(case):
    name, problem = case
    *_, (low, high) = FORMULAS[name]
    starts = np.array([problem.init(seed).params[0] for seed in range(300)])
    assert starts.dtype == np.float32
    share = (starts - np.array(low)) / (np.array(high) - np.array(low))
    assert share.min() >= 0
    assert share.max() <= 1
    np.testing.assert_allclose(share.mean(0), 0.5, atol=0.07)
    np.testing.assert_allclose(share.std(0), 12**-0.5, atol=0.04)
    np.testing.assert_array_equal(starts[7], problem.init(7).params[0])
    assert problem.steps_per_epoch is None
    assert problem.batches(0, 0, 3) == ()


def test_rosenbrock_needs_two_dimensions():
    with pytest.raises(UserError, match="at least 2 dimensions for Rosenbrock; got 1"):
        Rosenbrock(1)


def test_the_quadratic_is_that_of_its_instance():
    problem = Quadratic(7)
    instance = problem.init(3)
    w, y = (t.numpy().astype(np.float64) for t in instance.model_state)
    assert w.shape == (7, 7)
    theta = np.random.default_rng(0).standard_normal(7)
    with tf.GradientTape() as tape:
        x = tf.constant(theta, tf.float32)
        tape.watch(x)
        loss, model_state = problem.objective([x], instance.model_state, ())
    residual = w @ theta - y
    np.testing.assert_allclose(loss, residual @ residual, rtol=1e-5)
    np.testing.assert_allclose(tape.gradient(loss, x), 2 * w.T @ residual, rtol=1e-4)
    for before, after in zip(instance.model_state, model_state, strict=True):
        np.testing.assert_array_equal(before, after)
    minimiser = tf.constant(np.linalg.solve(w, y), tf.float32)
    assert problem.objective([minimiser], instance.model_state, ())[0] < 1e-8


def test_quadratics_are_drawn_from_their_seed():
    problem = Quadratic()
    instances = [problem.init(seed) for seed in range(100)]
    theta, w, y = (np.array([[*i.params, *i.model_state][k] for i in instances]) for k in range(3))
    for values, scale in ((theta, 0.01), (w, 1), (y, 1)):
        np.testing.assert_allclose(values.mean() / scale, 0, atol=0.1)
        np.testing.assert_allclose(values.std() / scale, 1, atol=0.06)
    assert len(np.unique(y)) == y.size, "every instance has its own"
    for a, b in zip(problem.init(5), problem.init(5), strict=True):
        for s, t in zip(a, b, strict=True):
            np.testing.assert_array_equal(s, t)
