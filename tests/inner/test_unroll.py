"""Meta-steps and teachers against loops written out by hand; see also test_unroll_and_loss."""

from functools import partial

import keras
import numpy as np
import pytest
import tensorflow as tf

import l2o
from l2o.inner.unroll import Unroll
from l2o.problems import Instance, Problem
from l2o.train.estimators import TruncatedBackprop
from l2o.train.losses.base import LossArgs
from l2o.train.losses.imitation import ImitationLoss
from l2o.train.losses.meta import MetaLoss
from l2o.train.losses.teachers import Teacher
from l2o.train.outer.meta_step import MetaStep
from tests import hand_designed
from tests.draws import same_draws

# Seeds for an estimator that draws nothing.
ZERO = tf.constant(0)


class Drift(Problem):
    """f = b_0 (1 + count / 10) sum exp(x / 2 - 1) - x + sqrt(1 - b_1): two tensors.

    The model state counts the evaluations. b_0 = nan gives an objective that is not
    finite; b_1 = 1 gives one that is, with a gradient that is not.
    """

    name = "drift"

    def init(self, seed):
        return Instance([tf.constant([0.5, -1.0, 2.0]), tf.constant(1.5)], [tf.zeros([])])

    def objective(self, params, model_state, batch):
        x = tf.concat([tf.reshape(p, [-1]) for p in params], 0)
        f = batch[0] * (1 + model_state[0] / 10) * tf.reduce_sum(tf.exp(x / 2 - 1) - x)
        f += tf.sqrt(tf.nn.relu(-tf.square(x[0])) + 1 - batch[1])
        return f + 20, [model_state[0] + 1]


def batches(steps, **special):
    """[steps + 1, 2]; `special` as {"nan": i, "steep": i}."""
    b = np.stack([np.linspace(1, 2, steps + 1), np.zeros(steps + 1)], 1)
    if "nan" in special:
        b[special["nan"], 0] = np.nan
    if "steep" in special:
        b[special["steep"], 1] = 1
    return tf.constant(b, tf.float32)


def student(seed=0):
    same_draws(seed)
    optimizer = l2o.RNNPropOptimizer(layers=(3,))
    # Larger outputs than a fresh network's: the unroll gets somewhere.
    optimizer.network.set_weights([2 * w for w in optimizer.network.get_weights()])
    return optimizer


def meta(optimizer, make=lambda: keras.optimizers.SGD(1.0)):
    made = make()
    made.build(optimizer.network.trainable_variables)
    return made


def ramp(n):
    return tf.cast(tf.range(1, n + 1), tf.float32)


def by_hand(optimizer, problem, data, steps, second_derivatives):
    """The unroll as a Python loop: parameters, objectives and references of each update."""
    params, model_state = start = problem.init(0)
    state = optimizer.initial_state(params)
    for i in range(steps):
        with tf.GradientTape() as tape:
            tape.watch(params)
            f, next_state = problem.objective(params, model_state, data[i])
        grads = tape.gradient(f, params)
        if not second_derivatives:
            grads = [tf.constant(g.numpy()) for g in grads]
        deltas, state = optimizer.update(params, grads, state)
        params = [p + d for p, d in zip(params, deltas, strict=True)]
        model_state = next_state
        scored, _ = problem.objective(params, model_state, data[i + 1])
        reference, _ = problem.objective(*start, data[i + 1])
        yield params, scored, reference


def learned_change(optimizer, function):
    """What `function` adds to the learned weights, and what it returns."""
    before = optimizer.network.get_weights()
    result = function()
    return [a - b for a, b in zip(optimizer.network.get_weights(), before, strict=True)], result


LOSSES = {
    "plain": (lambda f, f_0: f, {"scale_objective": False, "use_log_objective": False}),
    "scaled log": (lambda f, f_0: tf.math.log(f) - tf.math.log(f_0 + 1e-6), {}),
}


@pytest.mark.parametrize(
    ("second_derivatives", "loss"), [(False, "scaled log"), (True, "plain")], ids=str
)
def test_training_steps_down_the_gradient_of_the_loop_by_hand(second_derivatives, loss):
    optimizer, problem, steps = student(), Drift(), 4
    score, options = LOSSES[loss]
    step = MetaStep(
        optimizer,
        problem,
        MetaLoss(LossArgs(**options), ramp),
        estimator=TruncatedBackprop(second_derivatives=second_derivatives),
    )
    data = batches(steps)
    with tf.GradientTape() as tape:
        run = by_hand(optimizer, problem, data, steps, second_derivatives)
        total = tf.add_n([(i + 1) * score(f, f_0) for i, (_, f, f_0) in enumerate(run)])
    expected = tape.gradient(total, [v.value for v in optimizer.network.trainable_variables])
    sgd = meta(optimizer)
    change, (result, _) = learned_change(
        optimizer, lambda: step.train(sgd, ZERO, step.start(problem.init(0)), data, steps)
    )
    np.testing.assert_allclose(result.loss, total, rtol=1e-5)
    largest = max(np.abs(g).max() for g in expected)
    assert largest > 0.01
    for c, g in zip(change, expected, strict=True):
        np.testing.assert_allclose(c, -g, atol=1e-4 * largest + 1e-6)
    assert bool(result.finite)
    assert bool(result.complete)
    assert int(sgd.iterations) == 1


@pytest.mark.parametrize("reduction", [pytest.param("mean", marks=pytest.mark.slow), "max"])
def test_imitation_steps_down_the_gradient_of_the_loop_by_hand(reduction):
    optimizer, problem, steps = student(), Drift(), 4
    rates = [0.3, 0.01]
    teachers = [
        Teacher(partial(keras.optimizers.SGD, r), problem, problem.init(0).params, False)
        for r in rates
    ]
    args = LossArgs(use_log_objective=False)
    loss = ImitationLoss(args, ramp, reduction, teachers=teachers)
    step = MetaStep(optimizer, problem, imitation=loss)
    data = batches(steps)

    def taught(rate):
        params, model_state = problem.init(0)
        for i in range(steps):
            with tf.GradientTape() as tape:
                tape.watch(params)
                f, model_state = problem.objective(params, model_state, data[i])
            grads = tape.gradient(f, params)
            params = [p - rate * g for p, g in zip(params, grads, strict=True)]
            yield params

    def distance(a, b):
        return tf.add_n([tf.reduce_sum((p - q) ** 2) for p, q in zip(a, b, strict=True)])

    lessons = [list(taught(rate)) for rate in rates]
    reduce = tf.reduce_mean if reduction == "mean" else tf.reduce_max
    with tf.GradientTape() as tape:
        total = tf.add_n(
            [
                (i + 1) * reduce([distance(params, lesson[i]) for lesson in lessons])
                for i, (params, _, _) in enumerate(by_hand(optimizer, problem, data, steps, False))
            ]
        )
    expected = tape.gradient(total, [v.value for v in optimizer.network.trainable_variables])
    change, (result, _) = learned_change(
        optimizer,
        lambda: step.imitate(meta(optimizer), ZERO, step.start(problem.init(0)), data, steps),
    )
    np.testing.assert_allclose(result.loss, total, rtol=1e-5)
    for c, g in zip(change, expected, strict=True):
        np.testing.assert_allclose(c, -g, atol=1e-5 * max(1, np.abs(g).max()))


@pytest.fixture(scope="module")
def adam_step():
    """A meta-step with Adam that several tests share, so that it is traced once."""
    optimizer = student()
    adam = meta(optimizer, lambda: keras.optimizers.Adam(0.01))
    return MetaStep(optimizer, Drift()), adam


@pytest.mark.parametrize(
    ("special", "ran"), [({"nan": 3}, 3), ({"nan": 5}, 5), ({"steep": 5}, 5)], ids=str
)
def test_what_is_not_finite_never_reaches_weights_or_meta_optimizer(adam_step, special, ran):
    step, adam = adam_step
    start = step.start(step.problem.init(0))
    step.train(adam, ZERO, start, batches(5), 5)
    kept = [v.numpy() for v in adam.variables]
    iterations = int(adam.iterations)
    change, (result, _) = learned_change(
        step.optimizer, lambda: step.train(adam, ZERO, start, batches(5, **special), 5)
    )
    assert not bool(result.finite)
    assert int(result.steps) == ran
    assert np.isfinite(result.loss) == np.isfinite(result.objective) == ("steep" in special)
    assert bool(result.complete) == ("steep" in special), "the optimizee itself is well"
    assert all((c == 0).all() for c in change)
    assert int(adam.iterations) == iterations
    for a, b in zip(kept, adam.variables, strict=True):
        np.testing.assert_array_equal(a, b.numpy())
    # ... and a healthy unroll after it is learned from.
    change, (result, _) = learned_change(
        step.optimizer, lambda: step.train(adam, ZERO, start, batches(5), 5)
    )
    assert bool(result.finite)
    assert any((c != 0).any() for c in change)
    assert int(adam.iterations) == iterations + 1


def test_one_trace_serves_all_lengths(adam_step):
    step, adam = adam_step
    for steps in (1, 2, 7, 30):
        result, _ = step.train(adam, ZERO, step.start(step.problem.init(0)), batches(steps), steps)
        assert int(result.steps) == steps
    assert step.traces("train") == 1


@pytest.fixture(scope="module")
def sgd_step():
    args = LossArgs(obj_train_max_multiplier=1.5, scale_objective=False, use_log_objective=False)
    return MetaStep(hand_designed.SGD(rate=0.05, momentum=0.0), Drift(), MetaLoss(args))


class LearnedRate(hand_designed.SGD):
    """Gradient descent whose learned weight is its learning rate."""

    def __init__(self, rate):
        super().__init__(rate, momentum=0.0)
        self.network.rate = self.network.add_weight(
            shape=(), initializer=keras.initializers.Constant(rate)
        )

    def update(self, params, grads, state):
        return [-self.network.rate * g for g in grads], state


def test_the_multiplier_ends_training_unrolls_and_no_validation(sgd_step):
    problem = sgd_step.problem
    # The reference is that of the same mini-batch, so a steep one alone ends nothing ...
    downhill = LearnedRate(0.05)
    data = batches(6) * [[3.0, 1.0]]
    step = MetaStep(downhill, problem, sgd_step.loss)
    whole, _ = step.train(meta(downhill), ZERO, step.start(problem.init(0)), data, 6)
    assert int(whole.steps) == 6
    assert bool(whole.complete)
    # ... but uphill: each update adds what it should take away.
    uphill = LearnedRate(-0.1)
    step = MetaStep(uphill, problem, sgd_step.loss)
    expected = list(by_hand(uphill, problem, data, 6, False))
    above = [float(f) > float(f_0) + 0.5 * abs(float(f_0)) for _, f, f_0 in expected]
    ran = above.index(True) + 1
    assert 1 < ran < 6
    start = step.start(problem.init(0))
    whole, _ = step.validate(start, data, 6)
    assert int(whole.steps) == 6
    assert bool(whole.complete)
    np.testing.assert_allclose(whole.loss, sum(float(f) for _, f, _ in expected), rtol=1e-5)
    result, end = step.train(meta(uphill), ZERO, start, data, 6)
    assert int(result.steps) == ran
    assert not bool(result.complete)
    np.testing.assert_allclose(result.loss, sum(float(f) for _, f, _ in expected[:ran]), rtol=1e-5)
    np.testing.assert_allclose(end.params[0], expected[ran - 1][0][0], rtol=1e-5)


def test_the_model_state_goes_along(sgd_step):
    problem = sgd_step.problem
    data = batches(4)
    carry = sgd_step.start(problem.init(0))
    rule = sgd_step.rule
    got = Unroll(rule, rule.values(), problem, carry, data, tf.constant(4)).forward()
    expected = list(by_hand(sgd_step.optimizer, problem, data, 4, False))
    np.testing.assert_allclose(got.objectives, [f for _, f, _ in expected], rtol=1e-6)
    np.testing.assert_allclose(got.references, [f_0 for *_, f_0 in expected], rtol=1e-6)


def test_a_weight_decay_that_a_gradient_would_miss_is_refused(sgd_step):
    carry = sgd_step.start(sgd_step.problem.init(0))
    rule = sgd_step.rule
    unroll = Unroll(rule, rule.values(), sgd_step.problem, carry, batches(2), tf.constant(2))

    def decay(i):
        return tf.constant(0.1)

    assert int(unroll.forward(decay=decay).steps) == 2
    with pytest.raises(ValueError, match="decay has no backward pass"):
        unroll.forward(decay=decay, record=True)


def test_chained_unrolls_equal_one_where_the_model_state_matters(sgd_step):
    data = batches(6)
    start = sgd_step.start(sgd_step.problem.init(0))
    _, whole = sgd_step.validate(start, data, 6)
    _, middle = sgd_step.validate(start, data[:4], 3)
    _, end = sgd_step.validate(middle, data[3:], 3)
    for a, b in zip(end.params, whole.params, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)
    # Six updates are six training calls of the model, as in `fit`.
    assert float(whole.model_state[0]) == float(end.model_state[0]) == 6


TEACHERS = {
    "SGD": lambda: keras.optimizers.SGD(0.05, momentum=0.9),
    "RMSprop": lambda: keras.optimizers.RMSprop(0.1, centered=True, momentum=0.5),
    "Adam": lambda: keras.optimizers.Adam(0.1, amsgrad=True),
    "AdamW": lambda: keras.optimizers.AdamW(
        keras.optimizers.schedules.ExponentialDecay(0.1, 3, 0.5), weight_decay=0.1
    ),
    # Its accumulators do not start at zero.
    "Adagrad": lambda: keras.optimizers.Adagrad(0.1),
}


@pytest.mark.parametrize(
    "persistent",
    [pytest.param(False, marks=pytest.mark.slow), True],
    ids=["restarts", "persistent"],
)
@pytest.mark.parametrize("name", TEACHERS)
def test_a_teacher_is_keras_own_optimizer_stepped_by_hand(name, persistent):
    problem, steps = Drift(), 10
    instance = problem.init(0)
    teacher = Teacher(TEACHERS[name], problem, instance.params, persistent)
    run = tf.function(lambda start, data: teacher.run(start, data, tf.constant(steps)))
    reference = None
    for shift in (0.0, 0.3):  # two unrolls that start elsewhere
        start = MetaStep(hand_designed.SGD(), problem).start(
            Instance([p + shift for p in instance.params], instance.model_state)
        )
        got = run(start, batches(steps))
        variables = [keras.Variable(p) for p in start.params]
        fresh = TEACHERS[name]()
        fresh.build(variables)
        if persistent and reference is not None:
            for v, kept in zip(fresh.variables, reference.variables, strict=True):
                v.assign(kept)
        reference, model_state = fresh, start.model_state
        for i in range(steps):
            with tf.GradientTape() as tape:
                f, model_state = problem.objective(
                    [v.value for v in variables], model_state, batches(steps)[i]
                )
            reference.apply(tape.gradient(f, [v.value for v in variables]), variables)
            for array, v in zip(got, variables, strict=True):
                np.testing.assert_allclose(array[i], v.numpy(), rtol=1e-5, atol=1e-6)
