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
from l2o.train import CurriculumLearningStrategy, LossArgs, SimpleStrategy, Training
from l2o.train.strategies.schedules import Exponential

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


def make(kind, made, options):
    if kind is Training:
        return training(**options)
    return kind(**options) if kind is LossArgs else kind(made, None, 0, **options)


RUBBISH = ["5", "", math.nan, math.inf, 1j, Fraction(1, 2), object(), {"a": object()}, -3, -0.5, []]
# What fits all the same.
FITS = {"teachers": [[]], "obj_train_max_multiplier": [-3, -0.5]}


@pytest.mark.parametrize(
    ("kind", "name"), [(kind, name) for kind in SECTIONS for name in options_of(kind)]
)
def test_a_value_of_the_wrong_type_is_told_by_its_option(kind, name, made):
    for value in RUBBISH:
        if value in FITS.get(name, []):
            continue
        with pytest.raises(UserError, match=f"^{SECTIONS[kind]}/{name}(/|:)") as error:
            make(kind, made, {name: value})
        assert len(str(error.value).splitlines()) == 1
    default = options_of(kind)[name].default
    if not isinstance(default, bool):
        with pytest.raises(UserError, match=f"^{SECTIONS[kind]}/{name}"):
            make(kind, made, {name: True})


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
def test_what_fits_is_taken(kind, options, made):
    assert make(kind, made, options)


@pytest.mark.parametrize("rubbish", [None, "5", math.nan, math.inf, 1j, True, [1, 2], object()])
def test_a_function_that_returns_no_number_is_told(rubbish, made):
    def function(*_):
        return rubbish

    lengths = SimpleStrategy(made, None, 0, unroll_distribution=function)
    factors = SimpleStrategy(made, None, 0, annealing_schedule=function)
    stages = CurriculumLearningStrategy(made, None, 0, schedule=function)
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
def test_a_function_may_return_any_kind_of_number(value, made):
    strategy = SimpleStrategy(
        made, None, 0, unroll_distribution=lambda: value, annealing_schedule=lambda i: value
    )
    plan = strategy.plan([])
    assert plan.draw_length(np.random.default_rng(0)) == 7
    curriculum = CurriculumLearningStrategy(made, None, 0, schedule=lambda stage: value)
    assert curriculum.plan([]).validation_unroll == 7


def test_a_negative_factor_is_no_probability(made):
    strategy = SimpleStrategy(made, None, 0, annealing_schedule=lambda i: -1)
    with pytest.raises(UserError, match=r"annealing_schedule: .* at least 0; got -1"):
        strategy.plan([])


def test_other_arguments_are_told_too(made, tmp_path):
    for path, use in (
        ("run: expected a RunDirectory", lambda: SimpleStrategy(made, str(tmp_path), 0)),
        ("seed: expected an integer", lambda: SimpleStrategy(made, None, "5")),
        ("seed: expected a value greater", lambda: SimpleStrategy(made, None, -1)),
        ("optimizer: .* object of options", lambda: training(meta=keras.optimizers.Adam())),
        ("optimizer: expected a Tr", lambda: training(optimizer=keras.optimizers.Adam())),
        ("loss_args: expected a LossArgs", lambda: training(loss_args={"epsilon": 1e-3})),
        ("problems: expected a Sequence", lambda: training(problems=Booth())),
        ("problems: expected at least one problem", lambda: training(problems=[])),
        ("training/teachers", lambda: training(teachers=[keras.optimizers.Adam()])),
        ("training/imitation", lambda: training(imitation_optimizer=keras.optimizers.Adam())),
    ):
        with pytest.raises(UserError, match=f"^{path}"):
            use()
    assert SimpleStrategy(made, None, np.int64(3)).seed == 3
