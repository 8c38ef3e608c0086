"""Keras problems whose gradients are not all dense tensors."""

import keras
import numpy as np

from l2o.problems import keras_problem

RNG = np.random.default_rng(0)
WORDS = RNG.integers(0, 40, (64, 5))
X = RNG.standard_normal((64, 3)).astype("float32")


def text():
    """A classifier of texts: some rows of its embedding have no word in a mini-batch."""

    def build_model():
        return keras.Sequential(
            [
                keras.Input((5,), dtype="int32"),
                keras.layers.Embedding(40, 4),
                keras.layers.GlobalAveragePooling1D(),
                keras.layers.Dense(2),
            ]
        )

    labels = (WORDS.sum(1) > 100).astype("int32")
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    return keras_problem(build_model, (WORDS, labels), loss, batch_size=8)


class Tied(keras.Model):
    """Predicts one of its words; the embedding is the last layer too."""

    def __init__(self):
        super().__init__()
        self.embedding = keras.layers.Embedding(40, 4)
        self.dense = keras.layers.Dense(4)

    def call(self, words):
        hidden = self.dense(keras.ops.mean(self.embedding(words), 1))
        return keras.ops.matmul(hidden, keras.ops.transpose(self.embedding.embeddings))


def tied():
    """A language model in small."""
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    return keras_problem(Tied, (WORDS, WORDS[:, 0]), loss, batch_size=8)


class Outside(keras.Model):
    """Its middle layer is called, and has no effect on the loss."""

    def __init__(self):
        super().__init__()
        self.first = keras.layers.Dense(4, "tanh")
        self.idle = keras.layers.Dense(5, bias_initializer="ones")
        self.last = keras.layers.Dense(1)

    def call(self, x):
        hidden = self.first(x)
        self.idle(hidden)
        return self.last(hidden)


# Of `outside`, which of its weights the loss depends on.
TAKING = [True, True, False, False, True, True]


def outside():
    """A regression with a layer outside of the loss."""
    return keras_problem(Outside, (X, X[:, :1] - X[:, 1:2]), "mse", batch_size=8)
