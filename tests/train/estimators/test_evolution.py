"""Evolution strategies against closed forms, and against truncated backpropagation."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from l2o import seeds
from l2o.errors import UserError
from l2o.inner.batched import Batched, stack
from l2o.inner.rule import Rule
from l2o.inner.trajectory import Carry
from l2o.inner.unroll import Unroll
from l2o.problems import Instance, Quadratic
from l2o.train import LossArgs, Training
from l2o.train.estimators import ES, PES, FullES, TruncatedBackprop
from l2o.train.losses.meta import MetaLoss
from tests.draws import same_draws
from tests.optimizees import Remembers, optimizer_of
from tests.tiny_rule import TinyOptimizer
from tests.train.estimators.learned_rate import RATE, LearnedRate, Parabola, Smoothed
from tests.train.parabola import TEACHERS
from tests.train.parabola import Parabola as ParabolaWithData

SIGMA = 0.2
K = 256
# For what needs no average.
FEW = 32
PLAIN = MetaLoss(LossArgs(scale_objective=False, use_log_objective=False))


class Estimated:
    """An estimator on trainings of parabolas, compiled once for all windows."""

    def __init__(self, estimator, problem=None, loss=PLAIN, rate=RATE, count=K):
        self.optimizer, self.loss, self.count = LearnedRate(rate), loss, count
        self.rule = Rule(self.optimizer)
        self.problem = problem or Parabola()
        self.estimator = estimator.for_problem(self.rule, Batched(self.problem, count))
        # Of one call, the trace would take longer.
        self.step = tf.function(self.once, autograph=False, reduce_retracing=True)

    def once(self, state, steps, draws):
        made = self.estimator.estimate(self.rule.values(), self.loss, state, (), steps, draws)
        return made.gradients[0][0, 0] / self.count, made.state, made.result

    def start(self):
        instance = self.problem.init(0)
        carry = Carry(*instance, self.optimizer.initial_state(instance.params))
        return stack([self.estimator.init(carry, k) for k in range(self.count)])

    def trainings(self, count, windows, steps):
        """Returns [count, windows]: the gradient of each window of `count` trainings."""
        found, start = np.zeros([count, windows]), self.start()
        for i in range(count):
            state = start
            for j in range(windows):
                draws = seeds.generator(i, j).integers(2**31, size=self.count)
                gradient, state, _ = self.step(
                    state, tf.constant(steps), tf.constant(draws, tf.int32)
                )
                found[i, j] = gradient.numpy()
        return found


def agrees(samples, expected, others=()):
    """Whether the mean of samples is `expected` within 4 standard errors, and far from others."""
    error = samples.std(ddof=1) / len(samples) ** 0.5
    for other in others:
        assert abs(other - expected) > 8 * error, "more draws are needed to tell them apart"
    return abs(samples.mean() - expected) < 4 * error


EXACT = Smoothed(SIGMA)
WHOLE = EXACT.one_perturbation(6)
PERSISTENT = EXACT.one_for_each(3, 2)
TRUNCATED = sum(EXACT.one_perturbation(2, (1 - RATE) ** (2 * j)) for j in range(3))


def test_the_closed_forms_are_derivatives():
    def loss(rate):
        exact = Smoothed(SIGMA, rate)
        return sum(exact.moment(2 * i) for i in range(1, 7)) / 2

    def loss_of_windows(rate):
        exact, total, before = Smoothed(SIGMA, rate), 0.0, 1.0
        for _ in range(3):
            total += before * (exact.moment(2) + exact.moment(4)) / 2
            before *= exact.moment(4)
        return total

    for function, slope in ((loss, WHOLE), (loss_of_windows, PERSISTENT)):
        differences = (function(RATE + 1e-5) - function(RATE - 1e-5)) / 2e-5
        np.testing.assert_allclose(slope, differences, rtol=1e-7)


def test_pes_is_unbiased_over_short_unrolls():
    samples = Estimated(PES(sigma=SIGMA)).trainings(40, 3, 2).sum(1)
    assert agrees(samples, PERSISTENT, [TRUNCATED])


def test_one_perturbation_for_a_whole_training_is_unbiased_too():
    samples = Estimated(PES(sigma=SIGMA, refresh=6)).trainings(40, 3, 2).sum(1)
    assert agrees(samples, WHOLE, [TRUNCATED, PERSISTENT])


# `refresh` is that of the test above.
@pytest.mark.slow
def test_a_perturbation_stays_for_as_many_steps_as_asked():
    # Windows of 2 in pairs of one perturbation: as windows of 4, whose losses are all counted.
    samples = Estimated(PES(sigma=SIGMA, refresh=4)).trainings(40, 4, 2).sum(1)
    assert agrees(samples, EXACT.one_for_each(2, 4), [EXACT.one_for_each(4, 2)])


def test_es_has_the_bias_of_truncation():
    samples = Estimated(ES(sigma=SIGMA)).trainings(20, 3, 2).sum(1)
    assert agrees(samples, TRUNCATED, [WHOLE, PERSISTENT])


def test_full_es_is_unbiased_for_a_whole_training():
    samples = Estimated(FullES(sigma=SIGMA)).trainings(40, 1, 6)[:, 0]
    assert agrees(samples, WHOLE, [TRUNCATED])


# One rule of lanes of coordinates, and two that see whole tensors.
@pytest.mark.parametrize(
    "name",
    ["DM", *(pytest.param(n, marks=pytest.mark.slow) for n in ("ScaleHierarchical", "Celo2"))],
)
def test_weights_of_each_optimizee_are_those_of_its_own_unroll(name):
    optimizer, problem, steps = optimizer_of(name), Remembers(), tf.constant(3)
    rule, rng = Rule(optimizer), np.random.default_rng(0)
    carries = []
    for k in range(3):
        instance = problem.init(k)
        state = optimizer.initial_state(problem.specs(instance.params), k)
        carries.append(Carry(*instance, state))
    theta = [
        [w + rng.normal(size=w.shape, scale=0.1).astype("float32") for w in rule.values()]
        for _ in range(3)
    ]
    batches = [problem.stream(k, 0, 4) for k in range(3)]

    @tf.function(autograph=False)
    def together():
        unroll = Unroll(
            rule,
            stack(theta),
            Batched(problem, 3),
            stack(carries),
            stack(batches, axis=1),
            steps,
            own_weights=True,
            lanes=2,
        )
        done = unroll.forward()
        return done.objectives, done.carry

    @tf.function(autograph=False)
    def alone(weights, carry, batches):
        done = Unroll(rule, weights, problem, carry, batches, steps).forward()
        return done.objectives, done.carry

    objectives, end = together()
    for k in range(3):
        own, own_end = alone(theta[k], carries[k], batches[k])
        np.testing.assert_allclose(objectives[:, k], own, rtol=1e-4)
        for a, b in zip(tf.nest.flatten(end), tf.nest.flatten(own_end), strict=True):
            np.testing.assert_allclose(a[k], b, rtol=1e-3, atol=1e-5)


# Against closed forms each of them has a test above.
@pytest.mark.parametrize(
    ("estimator", "window"),
    [
        (PES(), 2),
        pytest.param(PES(refresh=6), 2, marks=pytest.mark.slow),
        pytest.param(FullES(), 6, marks=pytest.mark.slow),
        pytest.param(ES(), 2, marks=pytest.mark.slow),
    ],
    ids=["PES", "PES, one perturbation", "FullES", "ES"],
)
def test_the_gradient_is_that_of_backpropagation_through_the_whole_training(estimator, window):
    """With a small sigma, the smoothed loss has the slope of the loss itself."""
    optimizer, problem, count = TinyOptimizer(), Quadratic(3), 512
    rule, steps = Rule(optimizer), 6
    instance = problem.init(0)
    carry = Carry(*instance, optimizer.initial_state(problem.specs(instance.params)))

    def gradients(estimator, count, steps, windows):
        bound = estimator.for_problem(rule, Batched(problem, count))
        state = stack([bound.init(carry, k) for k in range(count)])
        step = tf.function(
            lambda state, draws: bound.estimate(
                rule.values(), PLAIN, state, (), tf.constant(steps), draws
            ),
            autograph=False,
        )
        total = 0.0
        for i in range(windows):
            draws = tf.constant(seeds.generator(i).integers(2**31, size=count), tf.int32)
            made = step(state, draws)
            state, total = made.state, total + made.gradients[0][:, 0].numpy() / count
        return total

    exact = gradients(TruncatedBackprop(), 2, steps, 1)
    truncated = gradients(TruncatedBackprop(), 2, 2, 3)
    assert away(truncated, exact) > 0.4, "the training is too short to tell them apart"
    expected = truncated if isinstance(estimator, ES) else exact
    assert away(gradients(estimator, count, window, 6 // window), expected) < 0.2


def away(a, b):
    return np.linalg.norm(a - b) / np.linalg.norm(b)


def test_a_pair_of_which_one_diverges_does_not_count():
    class Cliff(Parabola):
        """Not finite beyond x = 1.02, which a negative rate reaches."""

        def objective(self, params, model_state, batch):
            f, _ = super().objective(params, model_state, batch)
            return tf.where(params[0][0] > 1.02, np.inf, f), []

    estimated = Estimated(PES(sigma=SIGMA), Cliff(), count=FEW)
    draws = tf.constant(seeds.generator(0).integers(2**31, size=FEW), tf.int32)
    gradient, state, result = estimated.once(estimated.start(), tf.constant(2), draws)
    rates = RATE + np.outer([1, -1], state.e[:, 0])
    # x after two steps is (1 - rate)^2.
    healthy = ((1 - rates) ** 2 < 1.02).all(0)
    assert 2 < (~healthy).sum() < FEW / 2
    np.testing.assert_array_equal(result.finite, healthy)
    np.testing.assert_array_equal(result.complete, healthy)
    plus, minus = (((1 - r) ** 2 + (1 - r) ** 4) / 2 for r in rates)
    own = state.e[:, 0] * (plus - minus) / (2 * SIGMA**2)
    np.testing.assert_allclose(gradient * FEW, np.sum(np.where(healthy, own, 0)), rtol=1e-3)


@pytest.mark.parametrize(("options", "expected"), [({"clip": 0.1}, 0.1), ({"sign": True}, 1.0)])
def test_full_es_clips_the_difference_or_takes_its_sign(options, expected):
    estimated = Estimated(FullES(sigma=SIGMA, **options), count=FEW)
    draws = tf.constant(seeds.generator(0).integers(2**31, size=FEW), tf.int32)
    gradient, _, _ = estimated.once(estimated.start(), tf.constant(4), draws)
    e = estimated.estimator.draw(draws).numpy()[:, 0]
    plus, minus = (
        sum((1 - RATE - sign * e) ** (2 * i) for i in range(1, 5)) / 2 for sign in (1, -1)
    )
    difference = np.clip(plus - minus, -0.1, 0.1) if "clip" in options else np.sign(plus - minus)
    assert np.abs(difference).max() == pytest.approx(expected)
    np.testing.assert_allclose(gradient, np.mean(e * difference) / (2 * SIGMA**2), rtol=1e-3)


def test_the_teachers_of_a_copy_start_where_the_copy_is():
    same_draws(0)
    training = Training(
        TinyOptimizer(),
        [ParabolaWithData(size=None)],
        {"class_name": "SGD", "config": {"learning_rate": 0.0}},
        LossArgs(use_log_objective=False),
        estimator=PES(sigma=0.3),
        teachers=TEACHERS,
        p_teacher=1.0,
        persistent=True,
        repeat=2,
    )
    (step,) = training.steps
    states, imitate = [], step.imitate

    def spy(meta_optimizer, draws, state, batches, steps):
        result, after = imitate(meta_optimizer, draws, state, batches, steps)
        states.append((state, result.loss.numpy()))
        return result, after

    step.imitate = spy
    list(training.train(0, np.random.default_rng(0), lambda rng: 3, 1.0))
    ((first, second),) = training.steps[0].imitation.teachers[0].optimizers
    assert int(first.iterations) == int(second.iterations) == 6, "one run in each unroll"
    momenta = [o.variables[2].numpy() for o in (first, second)]
    assert not np.allclose(*momenta)
    # Two unrolls of SGD with momentum from where each copy was, by NumPy.
    y, v = states[0][0].plus.model_state[0].numpy(), np.zeros((2, 2))
    for state, _ in states:
        x = np.stack([state.plus.params[0], state.minus.params[0]])
        for _ in range(3):
            v = 0.9 * v - 0.1 * (x - y)
            x = x + v
    np.testing.assert_allclose(momenta, v, rtol=1e-4)
    saved = training.save_state()
    training.load_state(saved, "memory")
    names = [n for n in saved if n.startswith("problem_0_instance_0_teacher_0/")]
    assert len(names) == 2 * len(first.variables)


def test_an_estimator_that_unrolls_a_copy_too_many_is_told():
    class Forgetful(PES):
        copies = 1

    training = Training(
        TinyOptimizer(),
        [ParabolaWithData(size=None)],
        {"class_name": "SGD"},
        LossArgs(),
        estimator=Forgetful(),
        teachers=TEACHERS,
        p_teacher=1.0,
    )
    with pytest.raises(UserError, match=r"^estimator: .*`copies` has to be at least 2; got 1$"):
        list(training.train(0, np.random.default_rng(0), lambda rng: 3, 1.0))


ONCE = [(PES, "sum"), (FullES, "mean"), (ES, "tail"), (PES, "last")]


@pytest.mark.parametrize(
    ("kind", "weights"),
    [
        # Each once; what an early end is worth is a matter of the loss.
        pytest.param(kind, weights, marks=[] if (kind, weights) in ONCE else pytest.mark.slow)
        for kind in (PES, FullES, ES)
        for weights in ("sum", "mean", "tail", "last")
    ],
)
def test_the_worse_unroll_of_a_pair_is_not_better_because_it_ends_early(kind, weights):
    """With a rate of 2.3 x diverges, and a larger rate diverges faster."""
    args = LossArgs(scale_objective=False, use_log_objective=False, obj_train_max_multiplier=2.0)
    estimated = Estimated(kind(sigma=0.1), loss=MetaLoss(args, weights), rate=2.3, count=FEW)
    draws = tf.constant(seeds.generator(0).integers(2**31, size=FEW), tf.int32)
    gradient, _, result = estimated.step(estimated.start(), tf.constant(20), draws)
    assert np.unique(result.steps).size > 1
    assert result.finite.numpy().all()
    assert gradient > 0


def test_a_run_of_theta_that_diverges_alone_is_dropped():
    class Hole(Parabola):
        """Not finite at the point that theta itself reaches."""

        def objective(self, params, model_state, batch):
            f, _ = super().objective(params, model_state, batch)
            return tf.where(tf.abs(params[0][0] - (1 - RATE)) < 1e-5, np.nan, f), []

    estimated = Estimated(ES(sigma=SIGMA), Hole(), count=FEW)
    draws = tf.constant(seeds.generator(0).integers(2**31, size=FEW), tf.int32)
    gradient, _, result = estimated.once(estimated.start(), tf.constant(2), draws)
    assert np.isnan(result.loss).all()
    assert not result.finite.numpy().any()
    assert np.isfinite(gradient), "the pairs are healthy"


def test_large_losses_are_subtracted_before_they_are_rounded():
    class High(Parabola):
        """A parabola upon 1e6, in float64."""

        def init(self, seed):
            return Instance([tf.ones([1], tf.float64)], [])

        def objective(self, params, model_state, batch):
            f, _ = super().objective(params, model_state, batch)
            return f + 1e6, []

    gradients = []
    for problem in (Parabola(), High()):
        estimated = Estimated(PES(sigma=0.01), problem, count=FEW)
        draws = tf.constant(seeds.generator(0).integers(2**31, size=FEW), tf.int32)
        gradients.append(estimated.once(estimated.start(), tf.constant(4), draws)[0].numpy())
    assert gradients[0] < -1
    np.testing.assert_allclose(gradients[1], gradients[0], rtol=1e-3)


@pytest.mark.parametrize("estimator", [TruncatedBackprop(), PES()])
def test_learned_weights_of_several_dtypes(estimator):
    class Mixed(TinyOptimizer):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            other = keras.layers.Dense(1, use_bias=False, dtype="float64")
            other.build((None, 1))
            self.network = keras.Sequential([self.network, other])
            self.network.build((None, 2))

    training = Training(
        Mixed(), [Quadratic(2)], {"class_name": "SGD"}, LossArgs(), estimator=estimator
    )
    (unroll,) = training.train(0, np.random.default_rng(0), lambda rng: 2, 0.0)
    assert unroll.finite
    assert np.abs(unroll.gradient).min() > 0


def test_full_es_takes_the_sign_or_clips():
    with pytest.raises(UserError, match=r"estimator/clip: .* one of clip and sign"):
        FullES(clip=1.0, sign=True)
