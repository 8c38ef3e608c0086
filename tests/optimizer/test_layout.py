"""Which saved variable is which of a model's, by names that a model keeps."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from l2o.optimizer.layout import Layout, fingerprints, names, order


class Called:
    """A variable, as far as its layout is asked."""

    def __init__(self, path, shape=(2,)):
        self.name, self.shape = f"{path}:0", shape


def called(*paths):
    return [Called(path) for path in paths]


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        (["w"], ["w"]),
        (["dense/kernel", "dense/bias"], ["dense/kernel", "dense/bias"]),
        (["sequential_3/dense/kernel"], ["dense/kernel"]),
        (
            ["mha/query/kernel", "mha_1/query/kernel", "m/dense/kernel"],
            ["mha/query/kernel", "mha_1/query/kernel", "dense/kernel"],
        ),
        (["Variable", "Variable"], ["Variable", "Variable"]),
    ],
)
def test_names(paths, expected):
    assert names(called(*paths)) == expected


@pytest.mark.parametrize(
    ("saved", "own", "expected"),
    [
        ("a/k b/k", "a/k b/k", [0, 1]),
        ("a/k b/k", "b/k a/k", [1, 0]),
        ("m/a/k m/b/k m/c/k", "c/k a/k b/k", [2, 0, 1]),
        ("dense_3/k dense_4/k", "dense_4/k dense_3/k", [1, 0]),
        # Made again: Keras' numbers have gone on, and some are those of other layers.
        ("dense/k dense_1/k", "dense_8/k dense_9/k", [0, 1]),
        ("dense/k dense_1/k", "dense_1/k dense_2/k", [0, 1]),
        ("dense/k dense_5/k", "dense_8/k dense_5/k", [0, 1]),
        ("dense/k lstm/k", "lstm_1/k dense_1/k", None),
        # Other names: the order is all there is.
        ("a/k b/k", "c/k d/k", [0, 1]),
        ("a/k b/k", "a/k d/k", [0, 1]),
        # One is known, and in another place.
        ("a/k b/k", "b/k c/k", None),
        ("a/k b/k", "c/k d/bias", None),
        ("a/k b/k", "a/k", None),
        ("", "", []),
    ],
)
def test_order(saved, own, expected):
    saved, own = (fingerprints(called(*text.split())) for text in (saved, own))
    assert order(saved, own) == expected


def test_a_shape_is_part_of_what_a_variable_is():
    saved = fingerprints([Called("a/k", (2,)), Called("b/k", (3,))])
    assert order(saved, fingerprints([Called("b/k", (3,)), Called("a/k", (2,))])) == [1, 0]
    assert order(saved, fingerprints([Called("b/k", (2,)), Called("a/k", (3,))])) is None
    assert order(saved, fingerprints([Called("c/k", (2,)), Called("d/k", (2,))])) is None


def test_the_variable_keeps_its_value():
    own, other = called("a/k", "b/k"), called("b/k", "a/k")
    layout = Layout(own, "layout")
    mean = np.mean([fingerprints(own)] * 3, axis=0)
    for value in (fingerprints(called("c/k", "d/k")), np.zeros([2, 3]), mean):
        layout.assign(value)
        np.testing.assert_array_equal(layout.numpy(), fingerprints(own))
    for value in (fingerprints(other), np.ones([2, 3]), np.ones([3, 3], np.int64)):
        with pytest.raises(ValueError, match="Expected the state of 2 variables"):
            layout.assign(value)
    np.testing.assert_array_equal(layout.numpy(), fingerprints(own))


def test_the_variable_in_a_graph():
    layout = Layout(called("a/k", "b/k"), "layout")

    @tf.function
    def assign(value):
        layout.assign(value)

    assign(tf.constant(layout.fingerprints))
    assign(tf.zeros([2, 3], tf.int64))
    with pytest.raises(tf.errors.InvalidArgumentError, match="Expected the state of 2 variables"):
        assign(tf.constant(fingerprints(called("b/k", "a/k"))))


def test_models_that_are_made_again():
    def model():
        inner = keras.Sequential([keras.layers.Dense(2), keras.layers.Dense(2)])
        model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2), inner])
        return model, fingerprints(model.trainable_variables)

    (made, expected), (_, again) = model(), model()
    in_order = list(range(len(expected)))
    assert order(expected, again) == in_order
    clone = keras.models.clone_model(made)
    assert order(expected, fingerprints(clone.trainable_variables)) == in_order
    variable = tf.Variable(tf.ones([2]), name="v")
    np.testing.assert_array_equal(fingerprints([variable]), fingerprints(called("v")))
