"""The unroll's bookkeeping and the losses, against NumPy."""

import itertools
import math

import keras
import numpy as np
import pytest
import tensorflow as tf

import l2o
from l2o.inner.rule import Rule
from l2o.inner.trajectory import Carry, Trajectory
from l2o.inner.unroll import Unroll, never
from l2o.problems import Instance, Problem, mlp_classifier
from l2o.train.losses.base import LossArgs, step_weights
from l2o.train.losses.imitation import ImitationLoss
from l2o.train.losses.meta import MetaLoss
from l2o.train.outer.meta_step import MetaStep
from tests import hand_designed
from tests.unrolled import meta_gradient

F = np.array([2.0, 0.5, 1.5, 0.25], np.float32)
F_0 = np.array([2.5, 1.0, 1.2, 3.0], np.float32)
WEIGHTS = np.array([1.0, 2.0, 0.5, 4.0], np.float32)
NOWHERE = Carry([], [], ())


def given(n):
    return WEIGHTS[:n]


def trajectory(f=F, f_0=F_0, steps=4, parameters=()):
    return Trajectory(
        tf.constant(f),
        tf.constant(f_0),
        list(parameters),
        tf.constant(steps),
        tf.constant(True),
        NOWHERE,
    )


@pytest.mark.parametrize(
    ("scale", "log", "numerator"), itertools.product([False, True], repeat=3), ids=str
)
def test_the_meta_loss_is_that_of_the_equations(scale, log, numerator):
    eps = 0.1
    args = LossArgs(
        scale_objective=scale, use_log_objective=log, use_numerator_epsilon=numerator, epsilon=eps
    )
    if log:
        value = np.log(F + eps * numerator) - scale * np.log(F_0 + eps)
    else:
        value = F / (F_0 + eps) if scale else F
    got = MetaLoss(args, given)(trajectory(), tf.constant(4))
    np.testing.assert_allclose(got, np.sum(WEIGHTS * value), rtol=1e-6)


def test_steps_that_did_not_run_do_not_count_and_have_no_gradient():
    f = tf.constant([2.0, 0.5, 0.0, 0.0])
    with tf.GradientTape() as tape:
        tape.watch(f)
        cut = trajectory(steps=2)._replace(objectives=f)
        args = LossArgs(use_numerator_epsilon=False)
        loss = MetaLoss(args, given)(cut, tf.constant(4))
    expected = np.sum((WEIGHTS * (np.log(F) - np.log(F_0 + 1e-6)))[:2])
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    np.testing.assert_allclose(tape.gradient(loss, f), [0.5, 4.0, 0.0, 0.0])


def test_step_weights():
    n = tf.constant(4)
    np.testing.assert_array_equal(step_weights("sum", n, n), [1, 1, 1, 1])
    np.testing.assert_array_equal(step_weights("mean", n, n), [0.25] * 4)
    np.testing.assert_array_equal(step_weights("last", n, n), [0, 0, 0, 1])
    np.testing.assert_array_equal(step_weights("last", n, tf.constant(2)), [0, 1, 0, 0])
    ramp = step_weights(lambda n: [i / n for i in range(n)], n, n)
    np.testing.assert_array_equal(ramp, [0, 0.25, 0.5, 0.75])


def tail_weights(n, ran):
    expected = np.zeros(n, np.float32)
    tail = math.ceil(ran / 10)
    expected[ran - tail : ran] = np.float32(1) / tail if ran else 0
    return expected


@pytest.mark.parametrize("n", [1, 2, 9, 10, 11, 20, 21, 100, 333])
def test_the_tail_is_the_last_tenth_of_the_steps_that_ran(n):
    several = [n, max(n - 1, 1), -(-n // 2), 1, 0]
    for ran in several:
        got = step_weights("tail", tf.constant(n), tf.constant(ran))
        assert got.dtype == tf.float32
        np.testing.assert_array_equal(got, tail_weights(n, ran))
    got = step_weights("tail", tf.constant(n), tf.constant(several))
    np.testing.assert_array_equal(got, np.stack([tail_weights(n, ran) for ran in several], 1))


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("reduction", ["mean", "max"])
def test_the_imitation_loss_is_that_of_the_equations(log, reduction):
    rng = np.random.default_rng(0)
    shapes = [(4, 2, 3), (4, 5), (4,)]

    def draw():
        return [rng.normal(size=s).astype(np.float32) for s in shapes]

    student, teachers = draw(), [draw(), draw()]
    distances = np.array(
        [
            sum(((p - q) ** 2).reshape(4, -1).sum(1) for p, q in zip(student, t, strict=True))
            for t in teachers
        ]
    )
    distance = getattr(np, reduction)(distances, axis=0)
    expected = np.sum(WEIGHTS * (np.log(distance + 1e-6) if log else distance))
    loss = ImitationLoss(LossArgs(use_log_objective=log), given, reduction, lessons=teachers)
    got = loss(trajectory(parameters=map(tf.constant, student)), tf.constant(4))
    np.testing.assert_allclose(got, expected, rtol=1e-5)


class Stairs(Problem):
    """f(x) = b . x with a different b each mini-batch: what it sees is what is fed."""

    name = "stairs"

    def init(self, seed):
        return Instance([tf.constant([1.0, -2.0])], [])

    def objective(self, params, model_state, batch):
        return tf.reduce_sum(params[0] * batch), model_state


class Step(hand_designed.SGD):
    """x <- x - 1, whatever the gradient."""

    def update(self, params, grads, state):
        return [-tf.ones_like(p) for p in params], state


def run(batches, steps, **options):
    problem, rule = Stairs(), Step()
    instance = problem.init(0)
    carry = Carry(*instance, rule.initial_state(instance.params))
    batches = tf.constant(batches, tf.float32)
    unrolled = (Rule(rule), [], problem, carry, batches)
    return tf.function(lambda n: Unroll(*unrolled, n).forward(**options), autograph=False)(
        tf.constant(steps)
    )


BATCHES = np.array([[9, 9], [1, 0], [0, 1], [1, 1], [2, -1]], np.float32)


def test_an_update_is_scored_after_it_on_the_next_mini_batch():
    got = run(BATCHES, 4, parameters=True)
    x = np.array([[1 - i, -2 - i] for i in range(5)])
    np.testing.assert_allclose(got.parameters[0], x[1:])
    np.testing.assert_allclose(got.objectives, (x[1:] * BATCHES[1:]).sum(1))
    np.testing.assert_allclose(got.references, (x[0] * BATCHES[1:]).sum(1))
    assert int(got.steps) == 4
    np.testing.assert_allclose(got.carry.params[0], x[4])


# f_0 is -2 throughout and f falls: -4, -6, -8, -10 for this b.
FALLING = np.tile(np.array([[0, 1]], np.float32), (5, 1))


@pytest.mark.parametrize(
    ("k", "batches", "ran"),
    [
        (-1.0, -FALLING, 4),  # never, though f rises from 2: 3, 4, 5, 6
        (2.0, -FALLING, 3),  # f > 2 + 1 * 2 first for the third, 5
        (1.5, -FALLING, 2),  # f > 2 + 0.5 * 2: 4
        (1.1, FALLING, 4),  # falling below a negative start is no explosion
    ],
)
def test_the_unroll_ends_where_the_multiplier_says(k, batches, ran):
    args = LossArgs(obj_train_max_multiplier=k, use_log_objective=False, scale_objective=False)
    got = run(batches, 4, ended=args.ended)
    assert int(got.steps) == ran
    expected = [3.0, 4.0, 5.0, 6.0] if batches[0, 1] < 0 else [-3.0, -4.0, -5.0, -6.0]
    np.testing.assert_allclose(got.objectives[:ran], expected[:ran])
    np.testing.assert_allclose(got.objectives[ran:], 0)
    loss = MetaLoss(args)(got, tf.constant(4))
    np.testing.assert_allclose(loss, sum(expected[:ran]), err_msg="the loss so far")


def test_the_multiplier_works_from_a_negative_start():
    args = LossArgs(obj_train_max_multiplier=2.0)
    assert bool(args.ended(tf.constant(0.5), tf.constant(-2.0))), "above -2 + 2"
    assert not bool(args.ended(tf.constant(-0.5), tf.constant(-2.0)))


def test_an_objective_that_is_not_finite_ends_the_unroll():
    batches = BATCHES.copy()
    batches[2] = np.nan
    got = run(batches, 4)
    assert int(got.steps) == 2
    assert not np.isfinite(MetaLoss()(got, tf.constant(4)))


def test_an_unroll_that_ends_early_has_the_gradient_of_the_shorter_one():
    problem = mlp_classifier(layers=[3], batch_size=16)
    optimizer = l2o.RNNPropOptimizer(layers=(3,))
    instance = problem.init(0)
    carry = Carry(*instance, optimizer.initial_state(instance.params))
    batches = problem.batches(0, 0, 7)

    def gradient(steps, ended=never):
        _, grads, got = meta_gradient(
            optimizer, problem, carry, batches, steps, args=LossArgs(), ended=ended
        )
        return got.objectives.numpy(), grads

    objectives, expected = gradient(3)
    _, got = gradient(6, lambda f, f_0: tf.abs(f - objectives[2]) < 1e-6)
    for a, b in zip(got, expected, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_validation_gives_the_loss_of_training_and_changes_no_weight():
    problem = mlp_classifier(layers=[3], batch_size=16)
    optimizer = l2o.DMOptimizer(layers=(3,))
    adam = keras.optimizers.Adam(0.01)
    adam.build(optimizer.network.trainable_variables)
    step = MetaStep(optimizer, problem)
    carry, batches = step.start(problem.init(0)), problem.batches(0, 0, 6)
    before = optimizer.network.get_weights()
    validated, _ = step.validate(carry, batches, 5)
    for a, b in zip(before, optimizer.network.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    trained, _ = step.train(adam, tf.constant(0), carry, batches, 5)
    np.testing.assert_allclose(validated.loss, trained.loss, rtol=1e-5)
    assert any((a != b).any() for a, b in zip(before, optimizer.network.get_weights(), strict=True))
