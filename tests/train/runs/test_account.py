"""A run from Python goes on with what it began with."""

import copy
import functools
import json
import re
import shutil
from functools import partial

import keras
import numpy as np
import pytest
import tensorflow as tf

import l2o
from l2o.errors import UserError
from l2o.problems import Booth, Matyas, Quadratic, RandomScaling, keras_problem
from l2o.train import (
    BaseStrategy,
    CurriculumLearningStrategy,
    Finished,
    LossArgs,
    Period,
    RunDirectory,
    Runner,
    SimpleStrategy,
    Training,
    resolve_config,
    session,
)
from l2o.train.estimators import TruncatedBackprop
from l2o.train.runs import account
from l2o.train.runs.description import describe
from l2o.train.strategies.schedules import Fixed
from tests.draws import same_draws
from tests.running import build_runner, quick_periods
from tests.tiny_rule import TinyOptimizer

X = np.arange(24.0).reshape(8, 3)
pytestmark = pytest.mark.usefixtures("quick_periods")


def adam(rate):
    return {"class_name": "Adam", "config": {"learning_rate": rate}}


def make(directory, problems=None, meta=None, network=None, loss_args=None, seed=0, **options):
    strategy = {"num_periods": 1, "epochs_per_period": 1, "unroll_distribution": 2}
    strategy = {**strategy, "validation_unroll": 2, **options.pop("strategy", {})}
    same_draws(0)
    training = Training(
        options.pop("optimizer", TinyOptimizer)(**(network or {})),
        problems or [Booth()],
        meta or adam(0.01),
        loss_args or LossArgs(use_log_objective=False),
        **options,
    )
    run = directory and RunDirectory(directory)
    return Runner(training, SimpleStrategy(**strategy), run, seed)


def account_of(runner):
    return account.account_of(runner.training, runner.strategy, runner.seed)


def regression(units=2, activation="tanh", scale=1.0, loss="mse", batch_size=4):
    def build_model():
        return keras.Sequential(
            [keras.Input((3,)), keras.layers.Dense(units, activation), keras.layers.Dense(1)]
        )

    return keras_problem(build_model, (scale * X, X[:, :1]), loss, batch_size)


def half(n):
    return np.full(n, 0.5)


def third(n):
    return np.full(n, 0.3)


def content(directory):
    return {p: p.read_bytes() for p in directory.rglob("*") if p.is_file()}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    directory = tmp_path_factory.mktemp("run")
    with quick_periods():
        make(directory).train()
    return directory


@pytest.mark.parametrize(
    ("other", "path"),
    [
        ({"meta": adam(0.0)}, "optimizer/config/learning_rate (0.01 there, 0.0 here)"),
        ({"meta": adam(1.0)}, "optimizer/config/learning_rate (0.01 there, 1.0 here)"),
        ({"meta": {"class_name": "SGD"}}, "optimizer/class_name (Adam there, SGD here)"),
        (
            {"meta": {"class_name": "Adam", "config": {"clipnorm": 1.0}}},
            "optimizer/config/clipnorm",
        ),
        ({"problems": [Matyas()]}, "problems/0/name"),
        ({"problems": [Booth(), Booth()]}, "problems/1/name"),
        ({"problems": [RandomScaling(Booth())]}, "problems/0/limit"),
        ({"validation_problems": [Matyas()]}, "validation_problems"),
        ({"network": {"scale": 0.2}}, "network/scale"),
        ({"optimizer": l2o.RNNPropOptimizer}, "constructor"),
        ({"loss_args": LossArgs()}, "loss_args/use_log_objective"),
        ({"seed": 1}, "seed (0 there, 1 here)"),
        ({"repeat": 2}, "training/repeat"),
        ({"unroll_weights": "mean"}, "training/unroll_weights"),
        ({"unroll_weights": half}, "training/unroll_weights"),
        ({"strategy": {"unroll_distribution": 3}}, "strategy/unroll_distribution"),
        ({"strategy": {"unroll_distribution": lambda: 2}}, "strategy/unroll_distribution"),
        ({"strategy": {"epochs_per_period": 2}}, "strategy/epochs_per_period"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_another_run_is_refused_by_its_path(trained, other, path):
    before = content(trained)
    with pytest.raises(UserError) as refused:
        make(trained, **other).train()
    named = re.findall(r"([\w/]+) \(", refused.value.message)
    assert path in refused.value.message
    # Another class has other options.
    sections = {path.split("/")[0].split(" ")[0], *(["network"] if path == "constructor" else [])}
    assert {name.split("/")[0] for name in named} <= sections, refused.value.message
    assert "network/name" not in named
    assert "has 1 trained periods; " in refused.value.message
    assert content(trained) == before


def test_a_length_of_1_is_no_probability_of_1(tmp_path):
    make(tmp_path, strategy={"unroll_distribution": 1}).train()
    with pytest.raises(UserError, match=r"unroll_distribution \(1 there, 1.0 here\)"):
        make(tmp_path, strategy={"unroll_distribution": 1.0}).train()


def test_a_rate_that_is_set_later_is_not_ignored(trained):
    runner = make(trained)
    runner.training.meta_optimizer.learning_rate = 0.5
    with pytest.raises(UserError, match=r"learning_rate \(0.01 there, 0.5 here\)"):
        runner.train()


def test_the_same_goes_on_and_a_longer_one_too(tmp_path):
    make(tmp_path / "whole", strategy={"num_periods": 2}).train()
    make(tmp_path / "parts").train()
    assert len(make(tmp_path / "parts").train()) == 1
    extended = {"num_periods": 2, "keep_checkpoints": 1, "max_dropped": 0.25}
    make(tmp_path / "parts", strategy=extended).train()
    whole, parts = RunDirectory(tmp_path / "whole"), RunDirectory(tmp_path / "parts")
    assert whole.summary_path.read_bytes() == parts.summary_path.read_bytes()
    for name, array in whole.read_checkpoint(0, 1).items():
        np.testing.assert_array_equal(array, parts.read_checkpoint(0, 1)[name])
    assert json.loads(parts.account_path.read_text())["strategy"]["num_periods"] == 2


@pytest.mark.parametrize("rate", [0.01, pytest.param(1 / 3, marks=pytest.mark.slow)])
def test_a_keras_optimizer_is_the_same_run_as_its_spec(tmp_path, rate):
    optimizer, teachers = keras.optimizers.Adam(rate), [keras.optimizers.SGD(rate, momentum=0.9)]
    spec = {"class_name": "SGD", "config": {"learning_rate": rate, "momentum": 0.9}}
    options = {"p_teacher": 0.5, "imitation_optimizer": keras.optimizers.SGD(rate)}
    make(tmp_path, meta=adam(rate), teachers=[spec], **options).train()
    more = {"strategy": {"num_periods": 2}, **options}
    assert len(make(tmp_path, meta=optimizer, teachers=teachers, **more).train()) == 2
    more["strategy"] = {"num_periods": 3}
    assert len(make(tmp_path, meta=adam(rate), teachers=[spec], **more).train()) == 3
    for other, path in (
        ({"meta": keras.optimizers.Adam(rate, beta_1=0.8)}, "optimizer/config/beta_1"),
        ({"meta": keras.optimizers.Adam(2 * rate)}, "optimizer/config/learning_rate"),
        ({"meta": keras.optimizers.AdamW(rate)}, "optimizer/class_name"),
        ({"teachers": [keras.optimizers.SGD(rate)]}, "training/teachers/0/config/momentum"),
        (
            {"imitation_optimizer": keras.optimizers.SGD(0.5)},
            "training/imitation_optimizer/config/learning_rate",
        ),
    ):
        given = {"meta": optimizer, "teachers": teachers, **more, **other}
        with pytest.raises(UserError, match=path):
            make(tmp_path, **given).train()


# Several runs, one after the other.
@pytest.mark.slow
def test_functions_are_told_apart_by_their_names(tmp_path):
    options = {"unroll_weights": half, "strategy": {"annealing_schedule": lambda i: 0.5}}
    make(tmp_path, **options).train()
    # With functions too, what is still to be trained may change.
    more = {**options["strategy"], "num_periods": 2}
    assert len(make(tmp_path, unroll_weights=half, strategy=more).train()) == 2
    with pytest.raises(UserError, match=r"training/unroll_weights/object \(half .*third"):
        make(tmp_path, unroll_weights=third, strategy=more).train()
    with pytest.raises(UserError, match="strategy/annealing_schedule"):
        make(tmp_path, unroll_weights=half, strategy={"num_periods": 2}).train()


def test_before_the_first_period_anything_may_change(tmp_path):
    run = RunDirectory(tmp_path)
    run.write_account(account_of(make(None, meta=adam(0.5))))
    make(tmp_path).train()
    assert run.read_account() == account_of(make(None))


# Several runs, one after the other.
@pytest.mark.slow
def test_a_run_of_an_earlier_version_goes_on(tmp_path):
    make(tmp_path).train()
    run = RunDirectory(tmp_path)
    run.account_path.unlink()
    assert len(make(tmp_path, strategy={"num_periods": 2}).train()) == 2
    # An option that was not there is the default.
    old = run.read_account()
    del old["training"]["depth"], old["strategy"]["max_dropped"]
    # Its account had the optimizer's name, which Keras numbers.
    old["network"]["name"] = "TinyOptimizer_7"
    run.write_account(old)
    assert len(make(tmp_path, strategy={"num_periods": 3}).train()) == 3
    old["training"].pop("depth", None)
    run.write_account(old)
    with pytest.raises(UserError, match=r"training/depth"):
        make(tmp_path, depth=2, strategy={"num_periods": 3}).train()


@pytest.mark.parametrize("text", ["{", "{}", '{"training": [], "loss_args": 1}', "[]"])
def test_a_damaged_account_is_told(trained, tmp_path, text):
    shutil.copytree(trained, tmp_path / "run")
    RunDirectory(tmp_path / "run").account_path.write_text(text)
    with pytest.raises(UserError, match=r"account\.json is damaged"):
        make(tmp_path / "run").train()


def test_texts_are_told_by_what_they_say():
    texts = [["ab", "c"], ["ab", "d"]]
    arrays = [[tf.constant(t), np.array(t, object)] for t in texts]
    copies = [tf.constant(texts[0]), np.array(list(texts[0]), object)]
    assert describe(arrays[0]) == describe(copies)
    assert all(a != b for a, b in zip(describe(arrays[0]), describe(arrays[1]), strict=True))


def test_the_command_line_does_not_go_on_with_a_run_from_python(tmp_path):
    make(tmp_path).train()
    before = content(tmp_path)
    with pytest.raises(UserError, match="a Python program has trained"):
        session.start({"problems": [{"target": "Booth"}], "directory": str(tmp_path)})
    assert content(tmp_path) == before


def test_an_account_is_the_same_at_each_time():
    def made():
        return account_of(make(None, [regression(), Quadratic(3)], unroll_weights=half))

    first = made()
    assert json.loads(json.dumps(first)) == first == made()


@pytest.mark.parametrize(
    "other",
    [
        {"units": 3}, {"activation": "relu"}, {"scale": 2.0}, {"loss": "mae"}, {"batch_size": 2},
        {"loss": lambda y, p: abs(y - p)},
    ],
    ids=lambda other: next(iter(other)),
)  # fmt: skip
def test_models_and_data_are_told_apart(other):
    def described(**options):
        return account_of(make(None, [regression(**options)]))["problems"]

    assert described() != described(**other)
    assert described(**other) == described(**other)


def test_any_object_can_be_told_of():
    class Odd(Booth):
        def __init__(self, rng, deep, kinds):
            self.rng, self.deep, self.kinds = rng, deep, kinds

    def made():
        deep = {"me": {1.5, 2.5}, "nan": float("nan"), "f": functools.partial(half, n=2)}
        return account_of(make(None, [Odd(np.random.default_rng(0), deep, [deep, int])]))

    assert json.loads(json.dumps(made(), allow_nan=False)) == made()
    cyclic = Odd(None, {}, [])
    cyclic.deep["again"] = cyclic.deep
    json.dumps(account_of(make(None, [cyclic])))


def test_a_curriculum_too(tmp_path):
    def curriculum(**options):
        training = make(None).training
        options = {"min_periods": 1, "epochs_per_period": 1, **options}
        return Runner(training, CurriculumLearningStrategy(**options), RunDirectory(tmp_path))

    curriculum(schedule=[2, 3], max_stages=1).train()
    before = len(RunDirectory(tmp_path).rows())
    with pytest.raises(UserError, match="strategy/schedule"):
        curriculum(schedule=[3, 3], max_stages=1).train()
    assert len(curriculum(schedule=[2, 3, 4], max_stages=2).train()) >= before


class Listed(BaseStrategy):
    """A user's own strategy; its lengths have no default."""

    def __init__(self, lengths, **options):
        super().__init__(**options)
        self.lengths = lengths

    def plan(self, rows):
        i = len(rows)
        if i == len(self.lengths):
            return Finished("done")
        return Period(0, i, Fixed(self.lengths[i]), validation_unroll=2)

    def share_done(self, rows):
        return len(rows) / len(self.lengths)


# Several runs, one after the other.
@pytest.mark.slow
def test_an_argument_without_a_default_counts_too(tmp_path):
    def listed(*lengths, **options):
        strategy = Listed(list(lengths), epochs_per_period=1, **options)
        return Runner(make(None).training, strategy, RunDirectory(tmp_path))

    listed(2).train()
    with pytest.raises(UserError, match=r"strategy/lengths \(\[2\] there, \[3, 2\] here\)"):
        listed(3, 2).train()
    assert len(listed(2, 3, max_dropped=1).train()) == 2
    # The account of an older version did not have it.
    run = RunDirectory(tmp_path)
    old = run.read_account()
    del old["strategy"]["lengths"]
    run.write_account(old)
    assert len(listed(2, 3, 4, max_dropped=0.9).train()) == 3


@pytest.mark.parametrize("value", [pytest.param(True, marks=pytest.mark.slow), False])
def test_an_account_of_before_estimators_is_the_same(tmp_path, value):
    make(tmp_path, second_derivatives=value).train()
    run = RunDirectory(tmp_path)
    old = run.read_account()
    assert old["estimator"] == {"second_derivatives": value, "schedule": "constant"}
    del old["estimator_constructor"], old["estimator"]["schedule"]
    old["training"] |= old.pop("estimator")
    run.write_account(old)
    with pytest.raises(UserError, match=r"; estimator/second_derivatives \("):
        make(tmp_path, second_derivatives=not value).train()
    scheduled = TruncatedBackprop(second_derivatives=value, schedule="cosine")
    with pytest.raises(UserError, match=r"; estimator/schedule \(nothing there, cosine here\)"):
        make(tmp_path, estimator=scheduled).train()
    assert len(make(tmp_path, second_derivatives=value, strategy={"num_periods": 2}).train()) == 2


CONFIG = {
    "constructor": "DM",
    "network": {"layers": [3]},
    "problems": [{"target": "Quadratic", "args": [2], "wrappers": [{"target": "RandomScaling"}]}],
    "optimizer": adam(0.01),
    "strategy": {
        "num_periods": 1, "epochs_per_period": 1, "unroll_distribution": 2, "validation_unroll": 2
    },
    "loss_args": {"use_log_objective": False},
}  # fmt: skip


# Several runs, one after the other.
@pytest.mark.slow
def test_a_run_of_the_command_line_goes_on_from_python(tmp_path, capsys):
    config = {**copy.deepcopy(CONFIG), "directory": str(tmp_path)}
    session.start(config)
    run = RunDirectory(tmp_path)
    assert not run.account_path.exists()
    problems = [RandomScaling(Quadratic(2))]
    lstm = partial(make, optimizer=l2o.DMOptimizer, network={"layers": (3,)})
    with pytest.raises(UserError, match="optimizer/config/learning_rate"):
        lstm(tmp_path, problems, adam(0.0)).train()
    with pytest.raises(UserError, match="problems/0/problem/dimensions"):
        lstm(tmp_path, [RandomScaling(Quadratic(3))]).train()
    assert len(lstm(tmp_path, problems, strategy={"num_periods": 2}).train()) == 2
    # And the command line goes on with what Python has extended.
    assert run.read_config()["strategy"]["num_periods"] == 2
    more = {**run.read_config(), "strategy": {**config["strategy"], "num_periods": 3}}
    session.start(more, read=run.read_config())
    assert len(run.rows()) == 3
    assert len(build_runner(resolve_config(more), RunDirectory(tmp_path)).train()) == 3
