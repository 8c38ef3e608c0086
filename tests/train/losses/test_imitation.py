"""The imitation loss of unrolls that end early; see also test_unroll_and_loss."""

import numpy as np
import pytest
import tensorflow as tf

from l2o.train.losses.base import LossArgs
from l2o.train.losses.imitation import ImitationLoss
from tests.unrolled import trajectory


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
        loss = ImitationLoss(
            LossArgs(use_log_objective=log, epsilon=0.01),
            lambda n: weights,
            "max",
            lessons=[[tf.constant(p) for p in teacher]],
        )(got, tf.constant(5))
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
        loss = ImitationLoss(lessons=[[tf.ones([1, 3])]])(got, tf.constant(1))
    np.testing.assert_allclose(loss, np.log(1e-6), rtol=1e-5)
    np.testing.assert_array_equal(tape.gradient(loss, got.parameters)[0], np.zeros((1, 3)))


@pytest.mark.parametrize("k", [-1.0, 2.0])
def test_references_are_computed_only_where_they_may_end_the_unroll(k):
    loss = ImitationLoss(LossArgs(scale_objective=True, obj_train_max_multiplier=k))
    assert loss.references == (k > 0)
    assert loss.parameters
    assert bool(loss.ended(tf.constant(2.5), tf.constant(1.0))) == (k > 0)


def test_the_teachers_run_once_for_each_unroll():
    class Teacher:
        def run(self, carry, batches, steps, copy):
            return [carry + batches * float(steps)]

    loss = ImitationLoss(LossArgs(use_log_objective=False), teachers=[Teacher()])
    for start in (1.0, 4.0):
        bound = loss.for_unroll(tf.fill([1, 3], start), tf.ones([1, 3]), tf.constant(1))
        got = bound(trajectory([0.0], [0.0], 1, [np.zeros((1, 3))]), tf.constant(1))
        np.testing.assert_allclose(got, 3 * (start + 1) ** 2)
    assert loss.lessons == ()
