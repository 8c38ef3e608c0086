"""Evolution strategies against closed forms, and against truncated backpropagation."""

import numpy as np
import pytest
import tensorflow as tf

from l2o import seeds
from l2o.inner.batched import Batched, stack
from l2o.inner.rule import Rule
from l2o.inner.trajectory import Carry
from l2o.inner.unroll import Unroll
from l2o.train import LossArgs
from l2o.train.estimators import ES, PES, FullES, TruncatedBackprop
from l2o.train.losses.meta import MetaLoss
from tests.train.estimators.learned_rate import RATE, LearnedRate, Parabola, Smoothed

SIGMA = 0.2
K = 256
PLAIN = MetaLoss(LossArgs(scale_objective=False, use_log_objective=False))


class Estimated:
    """An estimator on K trainings of parabolas, compiled once for all windows."""

    def __init__(self, estimator):
        self.optimizer = LearnedRate()
        self.rule = Rule(self.optimizer)
        self.problem = Parabola()
        self.estimator = estimator.for_problem(self.rule, Batched(self.problem, K))
        self.step = tf.function(self._step, autograph=False, reduce_retracing=True)

    def _step(self, state, steps, draws):
        made = self.estimator.estimate(self.rule.values(), PLAIN, state, (), steps, draws)
        return made.gradients[0][0, 0] / K, made.state, made.result

    def start(self):
        instance = self.problem.init(0)
        carry = Carry(*instance, self.optimizer.initial_state(instance.params))
        return stack([self.estimator.init(carry, k) for k in range(K)])

    def trainings(self, count, windows, steps):
        """Returns [count, windows]: the gradient of each window of `count` trainings."""
        found, start = np.zeros([count, windows]), self.start()
        for i in range(count):
            state = start
            for j in range(windows):
                draws = seeds.generator(i, j).integers(2**31, size=K)
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


@pytest.mark.parametrize("refresh", [6, 100])
def test_one_perturbation_for_a_whole_training_is_unbiased_too(refresh):
    samples = Estimated(PES(sigma=SIGMA, refresh=refresh)).trainings(40, 3, 2).sum(1)
    assert agrees(samples, WHOLE, [TRUNCATED, PERSISTENT])


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
