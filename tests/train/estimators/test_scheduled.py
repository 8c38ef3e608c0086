"""Schedules of a training against Keras' own and against Python loops."""

import numpy as np
import pytest
import tensorflow as tf

from l2o.evaluate.schedules import SCHEDULES
from l2o.inner.batched import Batched, stack
from l2o.inner.rule import Rule
from l2o.inner.trajectory import Carry
from l2o.train import LossArgs, Training
from l2o.train.estimators import ES, PES, FullES, TruncatedBackprop
from l2o.train.estimators.scheduled import factor
from l2o.train.losses.meta import MetaLoss
from tests.by_loop import Bowl, Wide, factors_of, gradient_of, loop
from tests.train.parabola import Parabola

PLAIN = LossArgs(scale_objective=False, use_log_objective=False)
STEPS = 10


@pytest.mark.parametrize("steps", [1, 2, 3, 10, 30, 50, 100, 333])
@pytest.mark.parametrize("schedule", ["constant", "cosine", "warmup_cosine"])
def test_the_factors_are_those_of_an_evaluation(schedule, steps):
    rate = SCHEDULES.find(schedule)(1.0, steps)
    expected = [float(rate(k)) if callable(rate) else rate for k in range(steps)]
    made = tf.function(lambda i, n: factor(schedule, i, n), reduce_retracing=True)
    got = [float(made(tf.constant(k), tf.constant(steps))) for k in range(steps)]
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-7)
    assert min(got) > 0
    assert max(got) == 1.0
    # What the other tests compare with.
    np.testing.assert_allclose(factors_of(schedule, steps), expected, rtol=1e-4, atol=1e-7)


def test_the_steps_of_warm_up_are_rounded_as_in_an_evaluation():
    steps = np.arange(1, 20_001)
    first = factor("warmup_cosine", tf.zeros_like(steps), tf.constant(steps)).numpy()
    expected = [min(max(1, round(0.05 * n)), n - 1) for n in steps.tolist()]
    np.testing.assert_allclose(1 / first - 1, expected, rtol=1e-5)


def test_no_schedule_is_no_factor():
    for estimator in (TruncatedBackprop(), ES(), PES(), FullES()):
        assert estimator.multiplier(tf.constant(5)) is None
        assert estimator.whole_trainings == isinstance(estimator, FullES)
    assert TruncatedBackprop(schedule="cosine").whole_trainings


class Estimated:
    """An estimator on K optimizees, or on one without an axis of optimizees."""

    def __init__(self, estimator, count, weights="sum"):
        self.optimizer, self.problem = Wide(scale=0.5), Bowl()
        self.optimizer.xla = False
        rule = Rule(self.optimizer)
        optimizee = Batched(self.problem, count) if count else self.problem
        self.estimator = estimator.for_problem(rule, optimizee)
        self.carries = []
        for k in range(count or 1):
            instance = self.problem.init(k)
            self.carries.append(Carry(*instance, self.optimizer.initial_state(instance.params)))
        self.draws = tf.range(count) + 7 if count else tf.constant(7)
        state = stack(self.carries) if count else self.carries[0]
        loss = MetaLoss(PLAIN, weights)

        @tf.function(autograph=False)
        def run():
            values = rule.values()
            return self.estimator.estimate(values, loss, state, (), tf.constant(STEPS), self.draws)

        self.made = run()


@pytest.mark.parametrize(
    ("count", "second_derivatives", "weights"),
    [
        pytest.param(None, True, "sum", marks=pytest.mark.slow),
        (3, True, "tail"),
        (None, False, "tail"),
        pytest.param(3, False, "sum", marks=pytest.mark.slow),
    ],
)
def test_backpropagation_through_a_scheduled_training(count, second_derivatives, weights):
    estimator = TruncatedBackprop(second_derivatives=second_derivatives, schedule="warmup_cosine")
    got, factors = Estimated(estimator, count, weights), factors_of("warmup_cosine", STEPS)
    score = np.sum if weights == "sum" else lambda f: f[-1]
    slopes = [
        gradient_of(got.optimizer, got.problem, one, factors, score, second_derivatives)
        for one in got.carries
    ]
    np.testing.assert_allclose(got.made.gradients[0], sum(slopes), rtol=1e-5)
    losses = [
        score(np.array(loop(got.optimizer, got.problem, one, factors)[0])) for one in got.carries
    ]
    np.testing.assert_allclose(np.atleast_1d(got.made.result.loss), losses, rtol=1e-6)


@pytest.mark.parametrize(
    ("schedule", "count"),
    [
        ("cosine", None),
        ("warmup_cosine", 3),
        pytest.param("cosine", 3, marks=pytest.mark.slow),
        pytest.param("warmup_cosine", None, marks=pytest.mark.slow),
    ],
)
def test_full_es_trains_with_the_schedule(schedule, count):
    got = Estimated(FullES(sigma=0.1, schedule=schedule), count)
    weights = got.optimizer.network.get_weights()[0]
    perturbations = np.atleast_2d(got.estimator.draw(got.draws))
    losses = []
    for k, one in enumerate(got.carries):
        pair = []
        for sign in (-1, 1):
            moved = weights + sign * perturbations[k].reshape(weights.shape)
            got.optimizer.network.set_weights([moved])
            factors = factors_of(schedule, STEPS)
            objectives, params, _ = loop(got.optimizer, got.problem, one, factors)
            pair.append(sum(map(float, objectives)))
        losses.append(np.mean(pair))
        # Where theta + e ended.
        for a, b in zip(got.made.state.params, params, strict=True):
            np.testing.assert_allclose(a[k] if count else a, b, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(np.atleast_1d(got.made.result.loss), losses, rtol=1e-6)


ESTIMATORS = {
    "backprop": TruncatedBackprop(schedule="warmup_cosine"),
    "FullES": FullES(schedule="warmup_cosine"),
    "none": None,
}


@pytest.mark.parametrize(
    "name",
    [
        "backprop",
        "none",
        # A validation takes the schedule alone from an estimator.
        pytest.param("FullES", marks=pytest.mark.slow),
    ],
)
def test_each_unroll_of_a_validation_is_a_training_with_the_schedule(name):
    problem, optimizer = Bowl(), Wide(scale=0.5)
    optimizer.xla = False
    training = Training(
        optimizer,
        [problem],
        {"class_name": "SGD"},
        PLAIN,
        unroll_weights="last",
        repeat=2,
        estimator=ESTIMATORS[name],
    )
    problem.inits.clear()
    rngs = np.random.default_rng(0).spawn(4)
    found = list(training.validate(0, rngs, STEPS))
    starts, length = problem.inits[:], STEPS
    if name == "none":
        # One training in two unrolls.
        assert len(starts) == 4
        length, found = 2 * STEPS, found[4:]
    else:
        assert len(starts) == len(set(starts)) == 8
    factors = factors_of("constant" if name == "none" else "warmup_cosine", length)
    for seed, unroll in zip(starts, found, strict=True):
        instance = problem.init(seed)
        carry = Carry(*instance, optimizer.initial_state(instance.params))
        expected = loop(optimizer, problem, carry, factors)[0][-1]
        np.testing.assert_allclose(unroll.loss, expected, rtol=1e-6)


def test_each_unroll_of_backpropagation_with_a_schedule_has_a_new_optimizee():
    def replaced(**options):
        problem = Parabola()
        training = Training(
            Wide(), [problem], {"class_name": "SGD"}, PLAIN, repeat=3, depth=2, **options
        )
        lengths = iter([4, 2, 3])
        unrolls = training.train(0, np.random.default_rng(0), lambda rng: next(lengths), 0.0)
        return [u.replaced for u in unrolls]

    assert replaced() == [False, True, False]
    assert replaced(estimator=TruncatedBackprop(schedule="cosine")) == [True, True, False]
