"""Where losses meet unrolls that end early; see also test_unroll_and_loss."""

import itertools

import numpy as np
import pytest
import tensorflow as tf

from l2o.train.losses.base import LossArgs
from l2o.train.losses.meta import MetaLoss
from tests.unrolled import trajectory

COMBINATIONS = list(itertools.product([False, True], repeat=3))


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
    got = MetaLoss(args, kind)(trajectory(f, f_0, 3), tf.constant(5))
    np.testing.assert_allclose(got, expected, rtol=1e-6)


@pytest.mark.parametrize("combination", COMBINATIONS, ids=str)
@pytest.mark.parametrize("kind", ["sum", "mean", "tail", "last"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_one_objective_that_is_not_finite_makes_the_loss_so(combination, kind, bad):
    loss = MetaLoss(args_of(combination), kind)
    got = loss(trajectory([1.0, bad, 0, 0], [1.0, 1.0, 0, 0], 2), tf.constant(4))
    assert not np.isfinite(got)


@pytest.mark.parametrize("combination", COMBINATIONS, ids=str)
def test_the_gradient_of_each_objective_is_that_of_its_term(combination):
    args = args_of(combination, epsilon=0.05)
    f, f_0 = np.array([3.0, 0.2, 7.0, 0]), np.array([2.0, 1.0, 4.0, 0])
    weights = np.array([1.0, 2.0, 0.5, 9.0])
    cut = trajectory(f, f_0, 3, dtype=tf.float64)
    with tf.GradientTape() as tape:
        tape.watch(cut.objectives)
        loss = MetaLoss(args, lambda n: weights)(cut, tf.constant(4))
    h = 1e-6
    slopes = (term(args, f[:3] + h, f_0[:3]) - term(args, f[:3] - h, f_0[:3])) / (2 * h)
    expected = [*(weights[:3] * slopes), 0]
    np.testing.assert_allclose(tape.gradient(loss, cut.objectives), expected, rtol=1e-6)


def test_zero_is_no_singularity_with_the_numerator_epsilon():
    f = tf.zeros([2])
    with tf.GradientTape() as tape:
        tape.watch(f)
        got = MetaLoss()(trajectory([0, 0], [1.0, 1.0], 2)._replace(objectives=f), tf.constant(2))
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
        return MetaLoss(LossArgs(scale_objective=scale, obj_train_max_multiplier=k)).references

    assert [needs(s, k) for s in (False, True) for k in (-1.0, 2.0)] == [False, True, True, True]


def test_a_validation_never_ends_early_and_has_no_needless_references():
    for scale in (False, True):
        args = LossArgs(scale_objective=scale, obj_train_max_multiplier=2.0, epsilon=0.1)
        loss = MetaLoss(args, "last").for_validation()
        assert loss.references == scale
        assert not bool(loss.ended(tf.constant(1e30), tf.constant(1.0)))
        got = loss(trajectory([3.0, 4.0], [2.0, 2.0], 2), tf.constant(2))
        expected = np.log(4.1) - scale * np.log(2.1)
        np.testing.assert_allclose(got, expected, rtol=1e-6)
