"""An estimator with states and random draws of its own, and how one is chosen."""

from typing import NamedTuple

import numpy as np
import pytest
import tensorflow as tf

from l2o import seeds
from l2o.errors import UserError
from l2o.inner.trajectory import Carry
from l2o.inner.unroll import Unroll
from l2o.options import options_of
from l2o.problems import Instance, Problem
from l2o.train import LossArgs, Replicas, Training
from l2o.train.estimators import ESTIMATORS, Estimate, GradientEstimator, TruncatedBackprop
from l2o.train.estimators.base import report
from tests.draws import same_draws
from tests.tiny_rule import TinyOptimizer


class Twins(NamedTuple):
    """Two carries, a sum over unrolls and how many there were: as evolution strategies need."""

    first: Carry
    second: Carry
    total: tf.Tensor
    unrolls: tf.Tensor


class TwinEstimator(GradientEstimator):
    """Unrolls two carries; the gradient is the sum of the seeds so far."""

    def init(self, carry, seed):
        return Twins(carry, carry, tf.constant(float(seed % 2)), tf.constant(0))

    def optimizer_state(self, state):
        return state.first.optimizer_state

    def estimate(self, weights, loss, state, batches, steps, seeds):
        ends, results = [], []
        for carry in state[:2]:
            bound = loss.for_unroll(carry, batches, steps)
            unroll = Unroll(self.rule, weights, self.optimizee, carry, batches, steps)
            done = unroll.forward(references=bound.references, parameters=bound.parameters)
            value = bound(done, steps)
            results.append(report(value, done.healthy, done, steps))
            ends.append(done.carry)
        seen.append((seeds.shape, seeds.dtype))
        total = state.total + tf.cast(seeds % 1000, tf.float32)
        gradients = [tf.zeros_like(w) + tf.reduce_sum(total) for w in weights]
        new = Twins(*ends, total, state.unrolls + 1)
        return Estimate(gradients, tf.size(results[0].loss), results[0], new)


seen: list = []


class Slope(Problem):
    """sum x^2 from a start that differs between instances, without data."""

    name = "slope"
    steps_per_epoch = None

    def __init__(self):
        self.inits = []

    def init(self, seed):
        self.inits.append(seed)
        return Instance([tf.fill([2], 1.0 + seed % 7)], [])

    def objective(self, params, model_state, batch):
        return tf.reduce_sum(tf.square(params[0])), model_state

    def batches(self, seed, start, count):
        return ()


def make(problem=None, **options):
    same_draws(0)
    training = Training(
        TinyOptimizer(),
        [problem or Slope()],
        {"class_name": "SGD", "config": {"learning_rate": 1.0}},
        LossArgs(),
        **options,
    )
    training.problems[0].inits.clear()
    return training


def states_of(training):
    """The estimator's states that go into each meta-step, and the seeds."""
    (step,) = training.steps
    found = []
    train = step.train

    def spy(meta_optimizer, draws, state, batches, steps):
        found.append((state, draws))
        return train(meta_optimizer, draws, state, batches, steps)

    step.train = spy
    return found


def run(training, seed=0):
    return list(training.train(0, np.random.default_rng(seed), lambda rng: 2, 0.0))


@pytest.mark.parametrize(
    ("count", "replicas"),
    [(4, 2), *(pytest.param(*c, marks=pytest.mark.slow) for c in ((2, 1), (2, 2), (4, 1)))],
)
def test_an_estimator_has_a_state_and_seeds_of_its_own_for_each_optimizee(count, replicas):
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"][:replicas])
    training = make(
        estimator=TwinEstimator(),
        batch_of_problems=count,
        depth=2,
        repeat=4,
        persistent=True,
        replicas=Replicas(strategy),
    )
    found = states_of(training)
    before = [w.numpy() for w in training.optimizer.network.trainable_variables]
    unrolls = run(training)
    assert len(unrolls) == 4 * count
    assert all(u.finite and u.steps == 2 for u in unrolls)
    take = training.layout.take
    draws = np.array([[int(take(s, k)) for k in range(count)] for _, s in found])
    assert len(np.unique(draws)) == 4 * count, "of each unroll and optimizee"
    total, all_totals = np.zeros(count), 0
    for i, (state, _) in enumerate(found):
        own = [take(state, k) for k in range(count)]
        assert [int(s.unrolls) for s in own] == [i % 2] * count, "replaced after two unrolls"
        if i % 2 == 0:
            total = np.array([float(s.total) for s in own])
            assert set(total) <= {0, 1}, "from the seed of `init`"
        np.testing.assert_allclose([float(s.total) for s in own], total)
        # The learned optimizer's state lives on.
        assert [int(s.first.optimizer_state.t) for s in own] == [2 * i] * count
        total += draws[i] % 1000
        all_totals += total.sum() / count
    for a, b in zip(before, training.optimizer.network.trainable_variables, strict=True):
        np.testing.assert_allclose(a - b.numpy(), all_totals, rtol=1e-5)
    assert [int(s.t) for s in training.state.optimizer_states[0]] == [8] * count


def test_seeds_are_those_of_the_draws_and_change_no_other_draw():
    ends = []
    for estimator in (TwinEstimator(), TwinEstimator(), None):
        training = make(estimator=estimator, batch_of_problems=2, depth=1, repeat=3)
        found = states_of(training)
        run(training)
        ends.append(([s.numpy().tolist() for _, s in found], training.problems[0].inits))
    assert ends[0] == ends[1]
    # Of each optimizee a stream, then an instance for each of its unrolls.
    own = np.random.default_rng(0).spawn(2)
    draws = np.array([[seeds.draw(rng) for _ in range(4)] for rng in own])
    for _, inits in ends:
        assert inits == draws[:, 1:].T.ravel().tolist()
    seen.clear()
    run(make(estimator=TwinEstimator()))
    assert seen[0] == ((), tf.int32), "one optimizee has no axis"


def test_truncated_backprop_is_found_by_its_name_with_its_options():
    kind = ESTIMATORS.find("TruncatedBackprop")
    assert kind is TruncatedBackprop
    assert {name: o.default for name, o in options_of(kind).items()} == {
        "second_derivatives": False,
        "schedule": "constant",
    }
    assert kind(second_derivatives=True).second_derivatives
    with pytest.raises(UserError, match="estimator/second_derivatives"):
        kind(second_derivatives="yes")


def test_second_derivatives_of_training_are_those_of_truncated_backprop():
    assert not make().estimator.second_derivatives
    for options in (
        {"second_derivatives": True},
        {"estimator": TruncatedBackprop(second_derivatives=True)},
        {"estimator": TruncatedBackprop(second_derivatives=True), "second_derivatives": True},
    ):
        training = make(**options)
        assert training.estimator.second_derivatives
        assert training.steps[0].estimator.second_derivatives
    for estimator in (TruncatedBackprop(), TwinEstimator()):
        with pytest.raises(UserError, match=r"training/second_derivatives: .* takes none"):
            make(estimator=estimator, second_derivatives=True)
    with pytest.raises(UserError, match=r"estimator: expected a GradientEstimator; got"):
        make(estimator="TruncatedBackprop")


def test_an_estimator_serves_several_problems():
    given = TruncatedBackprop(second_derivatives=True)
    training = Training(
        TinyOptimizer(),
        [Slope(), Slope()],
        {"class_name": "SGD"},
        LossArgs(),
        estimator=given,
    )
    bound = [step.estimator for step in training.steps]
    assert [e.optimizee for e in bound] == training.problems
    assert bound[0].rule is bound[1].rule
    assert not hasattr(given, "optimizee"), "what was given is not changed"
