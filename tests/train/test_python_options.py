"""Options that Python code gives are checked as those of a config are."""

import math
from fractions import Fraction

import keras
import numpy as np
import pytest
import tensorflow as tf

import l2o
from l2o.errors import UserError
from l2o.options import options_of
from l2o.problems import Booth
from l2o.train import (
    CurriculumLearningStrategy,
    LossArgs,
    RunDirectory,
    Runner,
    SimpleStrategy,
    Training,
)
from l2o.train.strategies.schedules import Exponential
from tests.draws import same_draws
from tests.tiny_rule import TinyOptimizer

ADAM = {"class_name": "Adam"}


def training(*, optimizer=None, problems=None, meta=ADAM, loss_args=None, **options):
    return Training(
        l2o.DMOptimizer(layers=(2,)) if optimizer is None else optimizer,
        [Booth()] if problems is None else problems,
        meta,
        LossArgs() if loss_args is None else loss_args,
        **options,
    )


@pytest.fixture(scope="module")
def made():
    return training()


SECTIONS = {
    SimpleStrategy: "strategy",
    CurriculumLearningStrategy: "strategy",
    Training: "training",
    LossArgs: "loss_args",
}


def make(kind, options):
    return training(**options) if kind is Training else kind(**options)


RUBBISH = ["5", "", math.nan, math.inf, 1j, Fraction(1, 2), object(), {"a": object()}, -3, -0.5, []]
# What fits all the same.
FITS = {"teachers": [[]], "obj_train_max_multiplier": [-3, -0.5]}


@pytest.mark.parametrize(
    ("kind", "name"), [(kind, name) for kind in SECTIONS for name in options_of(kind)]
)
def test_a_value_of_the_wrong_type_is_told_by_its_option(kind, name):
    for value in RUBBISH:
        if value in FITS.get(name, []):
            continue
        with pytest.raises(UserError, match=f"^{SECTIONS[kind]}/{name}(/|:)") as error:
            make(kind, {name: value})
        assert len(str(error.value).splitlines()) == 1
    default = options_of(kind)[name].default
    if not isinstance(default, bool):
        with pytest.raises(UserError, match=f"^{SECTIONS[kind]}/{name}"):
            make(kind, {name: True})


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (SimpleStrategy, {"unroll_distribution": np.int64(5), "num_periods": np.int32(2)}),
        (SimpleStrategy, {"unroll_distribution": np.float32(0.5)}),
        (SimpleStrategy, {"unroll_distribution": 1.0, "annealing_schedule": 0}),
        (SimpleStrategy, {"annealing_schedule": np.ones(3), "num_periods": 3}),
        (SimpleStrategy, {"annealing_schedule": (1, 0.5), "num_periods": 2}),
        (SimpleStrategy, {"keep_checkpoints": None, "max_dropped": 1}),
        (CurriculumLearningStrategy, {"schedule": np.arange(3, 7), "max_stages": 3}),
        (CurriculumLearningStrategy, {"schedule": Exponential(3, 1.5)}),
        (CurriculumLearningStrategy, {"schedule": {"base": 3}}),
        (CurriculumLearningStrategy, {"schedule": lambda stage: 3.0 + stage}),
        (Training, {"epochs": np.int64(2), "persistent": np.True_, "p_teacher": 0}),
        (Training, {"unroll_weights": lambda n: tf.ones([n])}),
        (Training, {"unroll_weights": lambda n: [1] * n}),
        (LossArgs, {"epsilon": np.float32(1e-3), "obj_train_max_multiplier": 2}),
    ],
)
def test_what_fits_is_taken(kind, options):
    assert make(kind, options)


@pytest.mark.parametrize("rubbish", [None, "5", math.nan, math.inf, 1j, True, [1, 2], object()])
def test_a_function_that_returns_no_number_is_told(rubbish):
    def function(*_):
        return rubbish

    lengths = SimpleStrategy(unroll_distribution=function)
    factors = SimpleStrategy(annealing_schedule=function)
    stages = CurriculumLearningStrategy(schedule=function)
    rng = np.random.default_rng(0)
    for path, use in (
        ("unroll_distribution", lambda: lengths.plan([]).draw_length(rng)),
        ("annealing_schedule", lambda: factors.plan([])),
        ("schedule", lambda: stages.plan([])),
    ):
        with pytest.raises(UserError, match=f"^strategy/{path}: .* function that returns a number"):
            use()
    if rubbish != [1, 2]:
        with pytest.raises(UserError, match=r"^training/unroll_weights: .* each of n steps"):
            training(unroll_weights=function)


@pytest.mark.parametrize("value", [7, 7.4, np.float32(6.6), np.int64(7), tf.constant(7)])
def test_a_function_may_return_any_kind_of_number(value):
    strategy = SimpleStrategy(unroll_distribution=lambda: value, annealing_schedule=lambda i: value)
    plan = strategy.plan([])
    assert plan.draw_length(np.random.default_rng(0)) == 7
    curriculum = CurriculumLearningStrategy(schedule=lambda stage: value)
    assert curriculum.plan([]).validation_unroll == 7


def test_a_negative_factor_is_no_probability():
    strategy = SimpleStrategy(annealing_schedule=lambda i: -1)
    with pytest.raises(UserError, match=r"annealing_schedule: .* at least 0; got -1"):
        strategy.plan([])


def test_other_arguments_are_told_too(made, tmp_path):
    wrapped = keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam())
    strategy = SimpleStrategy()
    for path, use in (
        ("training: expected a Training", lambda: Runner(strategy, made)),
        ("strategy: expected a BaseStrategy", lambda: Runner(made, SimpleStrategy)),
        ("run: expected a RunDirectory", lambda: Runner(made, strategy, str(tmp_path))),
        ("seed: expected an integer", lambda: Runner(made, strategy, seed="5")),
        ("seed: expected a value greater", lambda: Runner(made, strategy, seed=-1)),
        ("optimizer: .* object of options", lambda: training(meta=keras.optimizers.Adam)),
        ("optimizer: .* Keras' own", lambda: training(meta=l2o.DMOptimizer(layers=(2,)))),
        ("optimizer: expected a Tr", lambda: training(optimizer=keras.optimizers.Adam())),
        ("loss_args: expected a LossArgs", lambda: training(loss_args={"epsilon": 1e-3})),
        ("problems: expected a Sequence", lambda: training(problems=Booth())),
        ("problems: expected at least one problem", lambda: training(problems=[])),
        ("training/teachers", lambda: training(teachers=keras.optimizers.Adam())),
        (
            "training/teachers/1: .* Keras' own",
            lambda: training(teachers=[ADAM, wrapped]),
        ),
        ("training/imitation", lambda: training(imitation_optimizer=[keras.optimizers.Adam()])),
    ):
        with pytest.raises(UserError, match=f"^{path}"):
            use()
    assert Runner(made, strategy, RunDirectory(tmp_path), np.int64(3)).seed == 3


# Three runs; runs/test_account.py compares less of them in the fast tier.
@pytest.mark.slow
def test_keras_optimizers_train_as_their_specs_do(monkeypatch):
    schedule = {
        "class_name": "ExponentialDecay",
        "config": {"initial_learning_rate": 0.1, "decay_steps": 2, "decay_rate": 0.5},
    }
    specs = {
        "meta": {"class_name": "Adam", "config": {"learning_rate": schedule, "clipnorm": 0.1}},
        "imitation_optimizer": {"class_name": "SGD", "config": {"learning_rate": 0.3}},
        "teachers": [{"class_name": "RMSprop", "config": {"rho": 0.5}}],
    }
    decay = keras.optimizers.schedules.ExponentialDecay(0.1, 2, 0.5)
    objects = {
        "meta": keras.optimizers.Adam(decay, clipnorm=0.1),
        "imitation_optimizer": keras.optimizers.SGD(0.3),
        "teachers": (keras.optimizers.RMSprop(rho=0.5),),
    }
    ends = []
    for optimizers in (specs, objects, {**objects, "teachers": specs["teachers"]}):
        same_draws(0)
        rule = TinyOptimizer()
        made = training(optimizer=rule, repeat=3, p_teacher=0.5, persistent=True, **optimizers)
        lengths = {"unroll_distribution": 2, "validation_unroll": 2}
        strategy = SimpleStrategy(num_periods=2, epochs_per_period=2, **lengths)
        ends.append((Runner(made, strategy).train(), made.save_state()))
    (rows, state), *others = ends
    assert all(0 < row.imitation_unrolls < row.unrolls for row in rows[:1])
    for other_rows, other in others:
        assert other_rows == rows
        assert other.keys() == state.keys()
        for name, array in state.items():
            np.testing.assert_array_equal(other[name], array)
    assert not objects["meta"].built, "the object itself is not used"
