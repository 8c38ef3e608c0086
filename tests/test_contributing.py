"""The examples of CONTRIBUTING.md work as they stand there."""

import re
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

import l2o
from l2o import seeds
from l2o.optimizer import TrainableOptimizer, equations
from l2o.options import Count, Positive, resolve
from l2o.problems import Instance, Problem, ProblemSpec
from l2o.train import (
    BaseStrategy,
    Finished,
    LossArgs,
    Period,
    RunDirectory,
    Runner,
    SimpleStrategy,
    Training,
)
from l2o.train.strategies.schedules import Fixed

PAGE = Path(__file__).parent.parent / "CONTRIBUTING.md"


@pytest.fixture(scope="module")
def page():
    """What the code blocks of the page define, one after the other."""
    names = {
        "keras": keras, "np": np, "tf": tf, "l2o": l2o, "seeds": seeds, "equations": equations,
        "TrainableOptimizer": TrainableOptimizer, "Count": Count, "Positive": Positive,
        "Instance": Instance, "Problem": Problem, "ProblemSpec": ProblemSpec,
        "BaseStrategy": BaseStrategy, "LossArgs": LossArgs, "RunDirectory": RunDirectory,
        "SimpleStrategy": SimpleStrategy, "Training": Training, "Period": Period,
        "Finished": Finished, "Fixed": Fixed, "Runner": Runner,
        "__name__": "contributed",
    }  # fmt: skip
    *blocks, last = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.S)
    for block in blocks:
        exec(block, names)
    return names, last


def make(names, **options):
    return Training(
        names["ScaledSignOptimizer"](),
        [ProblemSpec(names["Rosenbrock"])],
        {"class_name": "Adam"},
        LossArgs(),
        repeat=2,
        **options,
    )


def test_the_optimizer_the_problem_and_the_strategy(page):
    names, _ = page
    assert resolve(names["ScaledSignOptimizer"], {"start": 0.1}, "network")["start"] == 0.1
    assert names["ScaledSignOptimizer"](start=0.2).get_config()["start"] == 0.2
    training = make(names)
    before = training.optimizer.network.get_weights()[0]
    strategy = names["GrowingStrategy"](num_periods=2, epochs_per_period=1)
    rows = Runner(training, strategy).train()
    assert [row.inner_steps for row in rows] == [2 * 10, 2 * 20]
    assert training.optimizer.network.get_weights()[0] != before
    delta, _ = training.optimizer.update([tf.zeros(2)], [tf.constant([3.0, -4.0])], ())
    weight = training.optimizer.network.get_weights()[0][0, 0]
    np.testing.assert_allclose(delta[0], [-weight, weight])


def test_the_strategy_imitates_where_the_user_asks_for_it(page):
    names, _ = page
    training = make(names, teachers=[{"class_name": "Adam"}], p_teacher=1.0)
    (row,) = Runner(training, names["GrowingStrategy"](num_periods=1, epochs_per_period=1)).train()
    assert row.imitation_unrolls == row.unrolls == 2


def test_the_python_api(page, tmp_path, monkeypatch):
    names, last = page
    monkeypatch.chdir(tmp_path)
    exec(last.replace("(unroll", "(num_periods=1, epochs_per_period=1, unroll"), names)
    (row,) = RunDirectory("run").rows()
    assert row.inner_steps == 20 * 25
