"""The examples of CONTRIBUTING.md work as they stand there."""

import numpy as np
import pytest
import tensorflow as tf

from l2o.options import resolve
from l2o.problems import ProblemSpec
from l2o.train import LossArgs, RunDirectory, Runner, Training
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
