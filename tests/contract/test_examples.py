"""Models as one finds them in Keras' examples, trained by the optimizers that come with l2o."""

import keras
import numpy as np
import pytest
from sklearn.datasets import load_digits

import l2o
from tests.contract.features import LEARNED_PARAMETERS
from tests.draws import same_draws


def two_inputs():
    """Pictures of two digits; which is larger?"""
    pixels, labels = load_digits(return_X_y=True)
    half = len(pixels) // 2
    a, b = (keras.Input((64,), name=name) for name in ("a", "b"))
    reader = keras.layers.Dense(16, "relu")
    both = keras.layers.Concatenate()([reader(a), reader(b)])
    hidden = keras.layers.Dense(16, "relu")(both)
    model = keras.Model({"a": a, "b": b}, keras.layers.Dense(1, "sigmoid")(hidden))
    pixels = pixels / 16
    x = {"a": pixels[:half], "b": pixels[half : 2 * half]}
    return model, x, labels[:half] > labels[half : 2 * half]


def convnet():
    images, labels = load_digits(return_X_y=True)
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Conv2D(8, 3, padding="same", use_bias=False),
            keras.layers.BatchNormalization(),
            keras.layers.ReLU(),
            keras.layers.MaxPooling2D(),
            keras.layers.Flatten(),
            keras.layers.Dropout(0.2),
            keras.layers.Dense(10, "softmax"),
        ]
    )
    return model, images.reshape(-1, 8, 8, 1) / 16, labels


def text():
    """Does a word of the last 20 come before one of the first 20?"""
    rng = np.random.default_rng(0)
    words = rng.integers(40, 100, size=(900, 10))
    first = rng.integers(2, size=900)
    places = np.sort(rng.permuted(np.tile(np.arange(10), (900, 1)), axis=1)[:, :2], axis=1)
    for row, (i, j), late in zip(words, places, first, strict=True):
        low, high = rng.integers(20), 20 + rng.integers(20)
        row[i], row[j] = (high, low) if late else (low, high)
    model = keras.Sequential(
        [
            keras.Input((10,), dtype="int32"),
            keras.layers.Embedding(100, 8),
            keras.layers.LSTM(16),
            keras.layers.Dense(1, "sigmoid"),
        ]
    )
    return model, words, first


# The end's loss over the start's, for scale-basic-digits on two inputs and over 16 seeds: a mean of
# 0.21, a deviation of 0.09, and 0.46 at most. So the bound is six deviations off.
EPOCHS, BOUND = 32, 0.75
# The cheapest; the others take twice as long.
FAST = [(two_inputs, "scale-basic-digits")]


@pytest.mark.parametrize(
    ("example", "name"),
    [
        pytest.param(
            example,
            name,
            marks=[] if (example, name) in FAST else pytest.mark.slow,
            id=f"{example.__name__}-{name}",
        )
        for example in (two_inputs, convnet, text)
        for name in sorted(l2o.pretrained())
    ],
)
def test_an_example_is_trained(name, example):
    same_draws(1)
    model, x, y = example()
    optimizer = l2o.load(name)
    learned = optimizer.network.get_weights()
    kind = "sparse_categorical_crossentropy" if example is convnet else "binary_crossentropy"
    model.compile(optimizer=optimizer, loss=kind)
    start = model.evaluate(x, y, verbose=0)
    model.fit(x, y, batch_size=64, epochs=EPOCHS, verbose=0)
    end = model.evaluate(x, y, verbose=0)
    assert end < BOUND * start
    for before, after in zip(learned, optimizer.network.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)


@pytest.mark.parametrize("make", LEARNED_PARAMETERS, indirect=True)
def test_a_model_of_a_million_parameters(make):
    model = keras.Sequential(
        [keras.Input((1000,)), keras.layers.Dense(990), keras.layers.Dense(10)]
    )
    assert model.count_params() > 1_000_000
    optimizer = make()
    optimizer.build(model.trainable_variables)
    size = sum(np.prod(v.shape) * v.value.dtype.size for v in optimizer.variables)
    # docs/keras.md: from 8 to 332 bytes for each.
    assert 8e6 < size < 340e6
    # Beside the state: the step, the learning rate, and whose state it is.
    assert len(optimizer.variables) == 3 + len(optimizer._state_variables)
