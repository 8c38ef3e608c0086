"""What works with Adam must work with each learned optimizer: one test for all of them.

A test that is marked as a feature runs once with Keras' Adam and once with each learned
optimizer, through the same assertions. docs/keras.md has them as a table.
"""

import inspect
from typing import NamedTuple

import keras
import numpy as np
import pytest
import tensorflow as tf

from l2o import seeds
from l2o.optimizer import OPTIMIZERS
from l2o.optimizer.layout import Layout
from l2o.options import options_of
from tests.draws import same_draws

LEARNED = sorted(OPTIMIZERS.entries)
COLUMNS = ["Adam", *LEARNED]
# Which columns are in the fast tier: most rows are about what all rules have in common.
ONE = ("ScaleBasic",)
# Rows that take long, and are close to another one.
NONE = ()
# A rule with one state for all variables, and one with a state for each: for rows about what of a
# state belongs to which variable, and about programs that are compiled for some of the variables.
BOTH = ("ScaleBasic", "Celo2")
# The others, Adam, and all rules compiled by XLA are for `make test-slow`: Adam's cells tell
# whether a test is right, not whether l2o is.


def _marked(names, fast):
    return [n if n in fast else pytest.param(n, marks=pytest.mark.slow) for n in names]


# For tests of what Adam does not do.
LEARNED_PARAMETERS = _marked(LEARNED, ONE)
LEARNED_PARAMETERS_BOTH = _marked(LEARNED, BOTH)


class Feature(NamedTuple):
    title: str
    file: str
    test: str


FEATURES: list[Feature] = []


def feature(title, fast=ONE):
    """Marks a test of `make`, a maker of optimizers, as a row of the table."""

    def mark(test):
        file = inspect.getsourcefile(test).rpartition("/")[2]
        FEATURES.append(Feature(title, file, test.__name__))
        return pytest.mark.parametrize("make", _marked(COLUMNS, fast), indirect=True)(test)

    return mark


def maker(name):
    """Returns what makes optimizers of a kind, all with the same learned weights."""
    if name == "Adam":
        return lambda **options: keras.optimizers.Adam(**{"learning_rate": 1.0, **options})

    kind = OPTIMIZERS.find(name)
    # A first learning rate that is drawn would be another for the same variable in another place.
    fixed = {"init_lr": (0.01, 0.01)} if "init_lr" in options_of(kind) else {}

    def make(**options):
        with seeds.keras_initializers(3):
            return kind(**{**fixed, **options})

    return make


def gradients(variables, seed=0, scale=1.0):
    rng = np.random.default_rng(seed)
    return [tf.constant(rng.normal(size=v.shape) * scale, v.dtype) for v in variables]


def new_variables(dtype="float32", **options):
    return [
        keras.Variable(np.full(shape, 2.0), dtype=dtype, name=name, **options)
        for name, shape in (("kernel", (3, 2)), ("bias", (4,)))
    ]


def steps(optimizer, grads=None, variables=None, count=3):
    """Takes some steps on new variables; returns their values."""
    variables = variables or new_variables()
    for step in range(count):
        g = gradients(variables, step)
        optimizer.apply(grads(g) if grads else g, variables)
    return values(variables)


def values(variables):
    return [np.array(v) for v in variables]


def state(optimizer):
    """The optimizer's variables, but for the one that names the model's variables."""
    return [np.array(v) for v in optimizer.variables if not isinstance(v, Layout)]


def equal(a, b):
    for x, y in zip(a, b, strict=True):
        np.testing.assert_array_equal(x, y)


def close(a, b, **tolerance):
    for x, y in zip(a, b, strict=True):
        np.testing.assert_allclose(x, y, **{"rtol": 1e-5, "atol": 1e-5, **tolerance})


def moved(a, b):
    for x, y in zip(a, b, strict=True):
        assert (x != y).any()
        assert np.isfinite(x).all()


def data(n=32):
    x = np.random.default_rng(0).normal(size=(n, 3)).astype(np.float32)
    return x, x[:, :2] ** 2


def new_model(optimizer=None, dtype=None, **compile_options):
    """A small model, the same each time; compiled with an optimizer, if there is one."""
    same_draws(7)
    model = keras.Sequential(
        [
            keras.Input((3,)),
            keras.layers.Dense(4, "tanh", dtype=dtype),
            keras.layers.Dense(2, dtype=dtype),
        ]
    )
    if optimizer is not None:
        model.compile(optimizer=optimizer, loss="mse", **compile_options)
    return model


def fit(model, epochs=2, **options):
    model.fit(*data(), batch_size=8, epochs=epochs, **{"shuffle": False, "verbose": 0, **options})
    return model.get_weights()
