"""The examples of CONTRIBUTING.md work as they stand there."""

import numpy as np
import pytest
import tensorflow as tf

from l2o.inner.rule import Rule
from l2o.inner.trajectory import Carry
from l2o.options import resolve
from l2o.problems import ProblemSpec, Rosenbrock
from l2o.train import LossArgs, RunDirectory, Runner, Training
from l2o.train.estimators import TruncatedBackprop
from l2o.train.losses.meta import MetaLoss
from tests.pages import run


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return tmp_path_factory.mktemp("contributing")


@pytest.fixture(scope="module")
def examples(directory):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(directory)
        return run("CONTRIBUTING.md")


def make(examples, **options):
    optimizer, problem, *_ = examples
    return Training(
        optimizer["ScaledSignOptimizer"](),
        [ProblemSpec(problem["Rosenbrock"])],
        {"class_name": "Adam"},
        LossArgs(),
        repeat=2,
        **options,
    )


def test_the_optimizer_the_problem_and_the_strategy(examples):
    optimizer, problem, strategy, *_ = examples
    kind = optimizer["ScaledSignOptimizer"]
    assert resolve(kind, {"start": 0.2}, "network")["start"] == 0.2
    assert optimizer["optimizer"].get_config()["start"] == 0.1
    assert isinstance(problem["problem"], problem["Rosenbrock"])
    training = make(examples)
    before = training.optimizer.network.get_weights()[0]
    plan = strategy["GrowingStrategy"](num_periods=2, epochs_per_period=1)
    rows = Runner(training, plan).train()
    assert [row.inner_steps for row in rows] == [2 * 10, 2 * 20]
    assert training.optimizer.network.get_weights()[0] != before
    delta, _ = training.optimizer.update([tf.zeros(2)], [tf.constant([3.0, -4.0])], ())
    weight = training.optimizer.network.get_weights()[0][0, 0]
    np.testing.assert_allclose(delta[0], [-weight, weight])


def test_the_strategy_imitates_where_the_user_asks_for_it(examples):
    training = make(examples, teachers=[{"class_name": "Adam"}], p_teacher=1.0)
    strategy = examples[2]["GrowingStrategy"](num_periods=1, epochs_per_period=1)
    (row,) = Runner(training, strategy).train()
    assert row.imitation_unrolls == row.unrolls == 2


def test_the_strategy_as_the_page_runs_it(examples, directory):
    assert [row.inner_steps for row in examples[2]["rows"]] == [2 * 10, 2 * 20]
    assert len(RunDirectory(directory / "growing").rows()) == 2


def test_the_python_api(examples, directory):
    (row,) = RunDirectory(directory / "run").rows()
    assert row.inner_steps == 20 * 25


def test_the_estimator_as_the_page_runs_it(examples):
    (row,) = examples[4]["rows"]
    assert (row.unrolls, row.dropped) == (8, 0)


# The page runs its estimator in the fast tier.
@pytest.mark.slow
def test_the_estimator_agrees_with_backpropagation(examples):
    # Of one learned weight w the estimate is dL/dw e^2 / sigma^2, but for terms of order e^3.
    sigma, seed = 1e-3, 5
    rule = Rule(examples[0]["ScaledSignOptimizer"](start=0.1))
    problem = Rosenbrock()
    carry = Carry(*problem.init(0), ())
    loss = MetaLoss(LossArgs(use_log_objective=False, scale_objective=False))

    def gradient(estimator):
        bound = estimator.for_problem(rule, problem)

        @tf.function
        def estimate():
            state = bound.init(carry, 0)
            return bound.estimate(
                rule.values(), loss, state, (), tf.constant(3), tf.constant(seed)
            ).gradients[0]

        return float(tf.squeeze(estimate()))

    noise = float(tf.squeeze(tf.random.stateless_normal([1, 1], [seed, 0], stddev=sigma)))
    expected = gradient(TruncatedBackprop()) * (noise / sigma) ** 2
    found = gradient(examples[4]["SharedES"](sigma=sigma))
    np.testing.assert_allclose(found, expected, rtol=0.02)
