"""Where losses meet unrolls that end early; see also test_unroll_and_loss."""

import itertools

import numpy as np
import pytest
import tensorflow as tf

from l2o.inner.unroll import Carry, Trajectory
from l2o.train.losses.meta import LossArgs, imitation_loss, meta_loss, unroll_weights

COMBINATIONS = list(itertools.product([False, True], repeat=3))


def trajectory(f, f_0, steps, parameters=(), dtype=tf.float32):
    return Trajectory(
        tf.constant(f, dtype),
        tf.constant(f_0, dtype),
        [tf.constant(p, dtype) for p in parameters],
        tf.constant(steps),
        tf.constant(True),
        Carry([], [], ()),
    )


def args_of(combination, **options):
    scale, log, numerator = combination
    return LossArgs(
        scale_objective=scale, use_log_objective=log, use_numerator_epsilon=numerator, **options
    )


def term(args, f, f_0):
    if not args.use_log_objective:
        return f / (f_0 + args.epsilon) if args.scale_objective else f
    value = np.log(f + args.epsilon * args.use_numerator_epsilon)
    return value - np.log(f_0 + args.epsilon) * args.scale_objective


@pytest.mark.parametrize("combination", COMBINATIONS, ids=str)
@pytest.mark.parametrize("kind", ["sum", "mean", lambda n: 1 / (1.0 + tf.range(float(n)))])
def test_an_unroll_that_ends_early_gives_the_loss_so_far(combination, kind):
    args = args_of(combination, epsilon=0.05)
    f, f_0 = np.array([3.0, 0.2, 7.0, 0, 0]), np.array([2.0, 1.0, 4.0, 0, 0])
    weights = {"sum": np.ones(5), "mean": np.full(5, 0.2)}.get(kind, 1 / np.arange(1.0, 6))
    expected = sum(w * term(args, a, b) for w, a, b in zip(weights[:3], f, f_0, strict=False))
    got = meta_loss(
        trajectory(f, f_0, 3), unroll_weights(kind, tf.constant(5), tf.constant(3)), args
    )
    np.testing.assert_allclose(got, expected, rtol=1e-6)


@pytest.mark.parametrize("combination", COMBINATIONS, ids=str)
@pytest.mark.parametrize("kind", ["sum", "mean", "last"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_one_objective_that_is_not_finite_makes_the_loss_so(combination, kind, bad):
    got = meta_loss(
        trajectory([1.0, bad, 0, 0], [1.0, 1.0, 0, 0], 2),
        unroll_weights(kind, tf.constant(4), tf.constant(4)),
        args_of(combination),
    )
    assert not np.isfinite(got)


@pytest.mark.parametrize("combination", COMBINATIONS, ids=str)
def test_the_gradient_of_each_objective_is_that_of_its_term(combination):
    args = args_of(combination, epsilon=0.05)
    f, f_0 = np.array([3.0, 0.2, 7.0, 0]), np.array([2.0, 1.0, 4.0, 0])
    weights = np.array([1.0, 2.0, 0.5, 9.0])
    cut = trajectory(f, f_0, 3, dtype=tf.float64)
    with tf.GradientTape() as tape:
        tape.watch(cut.objectives)
        loss = meta_loss(cut, tf.constant(weights, tf.float32), args)
    h = 1e-6
    slopes = (term(args, f[:3] + h, f_0[:3]) - term(args, f[:3] - h, f_0[:3])) / (2 * h)
    expected = [*(weights[:3] * slopes), 0]
    np.testing.assert_allclose(tape.gradient(loss, cut.objectives), expected, rtol=1e-6)


def test_zero_is_no_singularity_with_the_numerator_epsilon():
    f = tf.zeros([2])
    with tf.GradientTape() as tape:
        tape.watch(f)
        got = meta_loss(
            trajectory([0, 0], [1.0, 1.0], 2)._replace(objectives=f), tf.ones([2]), LossArgs()
        )
    np.testing.assert_allclose(got, 2 * np.log(1e-6 / (1 + 1e-6)), rtol=1e-6)
    np.testing.assert_allclose(tape.gradient(got, f), [1e6, 1e6], rtol=1e-5)


@pytest.mark.parametrize("k", [0.5, 1.0, 1.5, 3.0])
@pytest.mark.parametrize("f_0", [-2.0, 0.0, 4.0])
def test_an_unroll_ends_strictly_above_the_limit(k, f_0):
    ended = LossArgs(obj_train_max_multiplier=k).ended
    limit = f_0 + (k - 1) * abs(f_0)
    for f, expected in ((limit, False), (limit - 0.01, False), (limit + 0.01, True)):
        assert bool(ended(tf.constant(f), tf.constant(f_0))) == expected


@pytest.mark.parametrize("k", [-1.0, 0.0])
def test_a_multiplier_that_is_not_positive_never_ends_anything(k):
    args = LossArgs(obj_train_max_multiplier=k)
    assert not bool(args.ended(tf.constant(1e30), tf.constant(1.0)))


def test_references_are_computed_exactly_where_something_needs_them():
    def needs(scale, k):
        return LossArgs(scale_objective=scale, obj_train_max_multiplier=k).needs_references

    assert [needs(s, k) for s in (False, True) for k in (-1.0, 2.0)] == [False, True, True, True]


@pytest.mark.parametrize("steps", [1, 2, 5])
@pytest.mark.parametrize("log", [False, True])
def test_imitation_counts_the_steps_that_ran(steps, log):
    rng = np.random.default_rng(0)
    student, teacher = ([rng.normal(size=(5, 2, 2)), rng.normal(size=5)] for _ in range(2))
    for p in student:
        p[steps:] = 0  # what the unroll leaves there
    weights = np.array([1.0, 2.0, 0.5, 4.0, 3.0])
    got = trajectory(np.zeros(5), np.zeros(5), steps, student, tf.float64)
    with tf.GradientTape() as tape:
        tape.watch(got.parameters)
        loss = imitation_loss(
            got,
            [[tf.constant(p) for p in teacher]],
            tf.constant(weights, tf.float32),
            LossArgs(use_log_objective=log, epsilon=0.01),
            "max",
        )
    difference = [s - t for s, t in zip(student, teacher, strict=True)]
    d = sum((e**2).reshape(5, -1).sum(1) for e in difference)
    expected = (weights * (np.log(d + 0.01) if log else d))[:steps].sum()
    np.testing.assert_allclose(loss, expected, rtol=1e-9)
    slope = np.where(np.arange(5) < steps, weights / (d + 0.01 if log else 1), 0)
    for gradient, e in zip(tape.gradient(loss, got.parameters), difference, strict=True):
        factor = slope.reshape(-1, *[1] * (e.ndim - 1))
        np.testing.assert_allclose(gradient, 2 * factor * e, rtol=1e-9)


def test_a_teacher_that_was_met_is_no_singularity_of_the_logarithm():
    got = trajectory([0.0], [0.0], 1, [np.ones((1, 3))])
    with tf.GradientTape() as tape:
        tape.watch(got.parameters)
        loss = imitation_loss(got, [[tf.ones([1, 3])]], tf.ones([1]), LossArgs(), "mean")
    np.testing.assert_allclose(loss, np.log(1e-6), rtol=1e-5)
    np.testing.assert_array_equal(tape.gradient(loss, got.parameters)[0], np.zeros((1, 3)))
