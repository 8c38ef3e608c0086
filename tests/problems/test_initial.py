"""First values without a model are those of a model, to the last bit."""

import random

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from l2o.problems import conv_classifier, initial, keras_problem, mlp_classifier, mlp_regressor
from tests.problems import tiny
from tests.problems.models import Noisy, Plain, Subclassed, functional, regression

X, Y = np.ones((8, 3)), np.ones((8, 1))


def nested():
    return keras.Sequential([keras.Input((3,)), functional(), layers.Dense(3), regression()()])


def shared_initializer():
    same = keras.initializers.HeNormal()
    return keras.Sequential(
        [
            keras.Input((3,)),
            layers.Dense(3, kernel_initializer=same),
            layers.Dense(1, kernel_initializer=same),
        ]
    )


def seeded():
    fixed = keras.initializers.GlorotNormal(seed=7)
    return keras.Sequential(
        [
            keras.Input((3,)),
            layers.Dense(4, kernel_initializer=fixed),
            layers.Dropout(0.5, seed=3),
            layers.Dense(1),
        ]
    )


def every_layer():
    return keras.Sequential(
        [
            keras.Input((3,)),
            layers.Dense(4, kernel_initializer="orthogonal", bias_initializer="random_normal"),
            layers.GaussianNoise(0.1),
            layers.BatchNormalization(gamma_initializer="random_uniform"),
            layers.Reshape((2, 2)),
            layers.LSTM(3, return_sequences=True, recurrent_dropout=0.1),
            layers.GRU(2),
            layers.PReLU(),
            layers.Dense(1, dtype="float64", kernel_initializer="truncated_normal"),
        ]
    )


def of_a_tensor():
    model = keras.Sequential([keras.Input((3,)), layers.Dense(1)])
    model.constant = keras.Variable(np.arange(2.0), trainable=False)
    return model


class Scaled(keras.initializers.Initializer):
    """One of the user's own: no Keras class within, a draw when it is made."""

    def __init__(self):
        self.seed = random.randint(1, int(1e9))

    def __call__(self, shape, dtype=None):
        return keras.random.normal(shape, seed=self.seed, dtype=dtype) * 3


def own_initializer():
    return keras.Sequential([keras.Input((3,)), layers.Dense(1, kernel_initializer=Scaled())])


REPLAYED = [
    regression(), functional, Subclassed, Plain, nested, shared_initializer, seeded, every_layer,
    of_a_tensor, own_initializer, lambda: keras.Sequential([Noisy(), layers.Dense(1)]),
]  # fmt: skip


# What only a model knows.


def attention():
    x = keras.Input((3,))
    y = layers.Reshape((3, 1))(x)
    return keras.Model(x, layers.Dense(1)(layers.Flatten()(layers.MultiHeadAttention(2, 2)(y, y))))


def a_choice_by_a_draw():
    kernel = "zeros" if random.random() < 0.01 else "glorot_uniform"
    return keras.Sequential([keras.Input((3,)), layers.Dense(1, kernel_initializer=kernel)])


def a_size_by_a_draw():
    kernel = keras.initializers.RandomNormal(stddev=random.randint(1, int(1e9)) / 1e9)
    return keras.Sequential([keras.Input((3,)), layers.Dense(1, kernel_initializer=kernel)])


def a_derived_seed():
    kernel = keras.initializers.RandomNormal(seed=random.randint(1, int(1e9)) // 2)
    return keras.Sequential([keras.Input((3,)), layers.Dense(1, kernel_initializer=kernel)])


class Remembering(Scaled):
    def __init__(self):
        super().__init__()
        self.scale = self.seed / 1e9

    def __call__(self, shape, dtype=None):
        return super().__call__(shape, dtype) * self.scale


def what_a_constructor_kept():
    return keras.Sequential([keras.Input((3,)), layers.Dense(1, kernel_initializer=Remembering())])


def hidden_in_a_function():
    inner = keras.initializers.HeNormal()
    return keras.Sequential(
        [
            keras.Input((3,)),
            layers.Dense(1, kernel_initializer=lambda s, dtype: 2 * inner(s, dtype)),
        ]
    )


BUILT = [
    attention, a_choice_by_a_draw, a_size_by_a_draw, a_derived_seed, what_a_constructor_kept,
    hidden_in_a_function,
]  # fmt: skip


def problem_of(build_model):
    return keras_problem(build_model, (X, Y), "mse", batch_size=4)


def built_variables(function):
    built = []

    def spy(create, **options):
        built.append(options["name"])
        return create(**options)

    with tf.variable_creator_scope(spy):
        function()
    return len(built)


def check(problem, seeds=(3, 0, 3, 11, 2**31 - 1, 5, 0)):
    for seed in seeds:
        model = problem.model(seed)
        state = random.getstate()
        instance = problem.init(seed)
        assert random.getstate() == state
        for got, variables in zip(
            instance, (model.trainable_variables, model.non_trainable_variables), strict=True
        ):
            assert len(got) == len(variables)
            for tensor, variable in zip(got, variables, strict=True):
                expected = variable.numpy()
                assert tensor.dtype == expected.dtype, variable.path
                assert tensor.shape == expected.shape, variable.path
                assert tensor.numpy().tobytes() == expected.tobytes(), variable.path


# Most have one layer that none of the others has; these are made of such.
CLOSE = (nested, Plain, functional)


@pytest.mark.parametrize(
    "build_model",
    [
        pytest.param(f, id=f.__name__, marks=pytest.mark.slow if f in CLOSE else [])
        for f in REPLAYED
    ],
)
def test_values_are_those_of_a_model(build_model):
    problem = problem_of(build_model)
    check(problem)
    assert built_variables(lambda: problem.init(100)) == 0


@pytest.mark.parametrize("build_model", BUILT, ids=lambda f: f.__name__)
def test_where_draws_are_for_something_else_a_model_is_built(build_model):
    problem = problem_of(build_model)
    check(problem)
    assert built_variables(lambda: problem.init(100)) > 0


@pytest.mark.parametrize(
    "problem",
    [
        mlp_classifier, mlp_regressor, lambda: mlp_classifier(layers=[]), conv_classifier,
        lambda: conv_classifier([3], batch_norm=True, dropout=0.2),
        *(
            f if kind in ("transformer", "vae") else pytest.param(f, marks=pytest.mark.slow)
            for kind, f in tiny.PROBLEMS.items()
        ),
    ],
)  # fmt: skip
def test_problems_with_names(problem):
    problem = problem()
    check(problem)
    assert built_variables(lambda: [problem.init(seed) for seed in range(100, 110)]) == 0


def test_a_seed_that_is_asked_for_again_proves_nothing():
    problem = mlp_classifier()
    for _ in range(initial.TRIALS + 2):
        assert built_variables(lambda: problem.init(1)) > 0


def test_values_of_a_graph_are_not_kept():
    problem = conv_classifier([3], dropout=0.2)
    sums = tf.function(lambda: tf.add_n([tf.reduce_sum(p) for p in problem.init(9).params]))
    with pytest.raises(ValueError, match="singleton"):
        sums()
    check(problem)
