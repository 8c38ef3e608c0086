"""Autoencoders: Keras models as optimizees that learn to reconstruct images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal, NamedTuple

import keras
import numpy as np
import tensorflow as tf
from annotated_types import Ge
from keras import layers, ops

from l2o.errors import UserError
from l2o.options import Activation, Count
from l2o.problems.arrays import ArrayData
from l2o.problems.datasets import Dataset, Images
from l2o.problems.keras_model import FunctionLoss, KerasProblem
from l2o.problems.transforms import Transform, image_set

Architecture = Literal["mlp", "conv"]


def autoencoder(
    architecture: Architecture = "mlp",
    width: Count = 64,
    depth: Count = 1,
    latent: Count = 8,
    dataset: str = "digits",
    activation: Activation = "relu",
    batch_size: Count = 64,
    shuffle_buffer: Annotated[int, Ge(0)] = 16384,
    image_size: Count | None = None,
    transform: Transform | None = None,
) -> KerasProblem:
    """An autoencoder with the mean squared error of a pixel, whose values are from 0 to 1.

    Args:
        architecture: `mlp`, or `conv`: convolutions of 3x3 that each halve the image, and
            transposed ones that double it ["mlp"].
        width: Units of each hidden layer, or filters of each convolution [64].
        depth: Number of hidden layers of the encoder, and of the decoder [1].
        latent: Length of the code of an image [8].
        dataset: `digits` or a TFDS name, see `datasets.load` ["digits"].
        activation: Activation of the hidden layers ["relu"].
        batch_size: Examples in a mini-batch [64].
        shuffle_buffer: Number of places that an example may move when an epoch is shuffled
            [16384].
        image_size: Resize images to this many pixels squared; None keeps them [None].
        transform: `inverted`, `shifted` or `projected`: changes all images, see
            `transforms.transformed`; None keeps them [None].

    Returns:
        The problem; its parameters are those of the layers, in their order.
    """
    data = image_set(dataset, image_size, transform)
    shape = data.train.images.shape[1:]
    coder = _Coder(architecture, shape, width, depth, activation)

    def build_model() -> keras.Model:
        inputs = keras.Input(shape)
        code = layers.Dense(latent)(coder.encoded(inputs))
        return keras.Model(inputs, coder.decoded(code))

    loss = keras.losses.MeanSquaredError()
    return KerasProblem("autoencoder", build_model, _images(data), batch_size, shuffle_buffer, loss)


def vae(
    architecture: Architecture = "mlp",
    width: Count = 64,
    depth: Count = 1,
    latent: Count = 8,
    dataset: str = "digits",
    activation: Activation = "relu",
    batch_size: Count = 64,
    shuffle_buffer: Annotated[int, Ge(0)] = 16384,
    image_size: Count | None = None,
    transform: Literal["inverted", "shifted"] | None = None,
) -> KerasProblem:
    """A variational autoencoder with the negative evidence lower bound of an image, in nats.

    As in Kingma and Welling 2014: the prior is a standard normal distribution, the posterior is
    normal with a diagonal covariance, and pixels are Bernoulli variables, which is what the field
    uses for images of digits. A grey pixel counts as its probability of being white. The
    expectation is estimated with one draw for each image, in training and when the model is
    scored.

    Args:
        architecture: `mlp`, or `conv`: convolutions of 3x3 that each halve the image, and
            transposed ones that double it ["mlp"].
        width: Units of each hidden layer, or filters of each convolution [64].
        depth: Number of hidden layers of the encoder, and of the decoder [1].
        latent: Number of latent variables [8].
        dataset: `digits` or a TFDS name, see `datasets.load` ["digits"].
        activation: Activation of the hidden layers ["relu"].
        batch_size: Examples in a mini-batch [64].
        shuffle_buffer: Number of places that an example may move when an epoch is shuffled
            [16384].
        image_size: Resize images to this many pixels squared; None keeps them [None].
        transform: `inverted` or `shifted`: changes all images, see `transforms.transformed`; None
            keeps them [None].

    Returns:
        The problem; its parameters are those of the layers, in their order.

    Raises:
        UserError: If the values of the images are not from 0 to 1.
    """
    data = image_set(dataset, image_size, transform)
    for split in (data.train, data.test):
        # The whole range of an integer type becomes [0, 1].
        if split.images.dtype.kind == "f" and not _in_unit_interval(split.images):
            raise UserError(
                f"{data.name} has values that are not from 0 to 1, so they are no probabilities: "
                "expected another set, or target=autoencoder",
                "dataset",
            )
    shape = data.train.images.shape[1:]
    coder = _Coder(architecture, shape, width, depth, activation)

    def build_model() -> keras.Model:
        inputs = keras.Input(shape)
        x = coder.encoded(inputs)
        z = Posterior()([layers.Dense(latent)(x), layers.Dense(latent)(x)])
        return keras.Model(inputs, coder.decoded(z))

    return KerasProblem(
        "vae",
        build_model,
        _images(data),
        batch_size,
        shuffle_buffer,
        FunctionLoss(bernoulli),
        scores_penalties=True,
    )


class Posterior(layers.Layer):
    """Draws z from N(mean, exp(log_variance)), and adds the divergence from N(0, 1) as a loss."""

    def __init__(self) -> None:
        super().__init__()
        self.seed = keras.random.SeedGenerator()

    def call(self, inputs: Sequence[keras.KerasTensor]) -> keras.KerasTensor:
        """Returns z = mean + exp(log_variance / 2) * noise, [batch, latent].

        Args:
            inputs: mean and log_variance, [batch, latent] each.
        """
        mean, log_variance = inputs
        divergence = (ops.square(mean) + ops.exp(log_variance) - 1 - log_variance) / 2
        self.add_loss(ops.mean(ops.sum(divergence, axis=-1)))
        noise = keras.random.normal(ops.shape(mean), dtype=mean.dtype, seed=self.seed)
        return mean + ops.exp(log_variance / 2) * noise


def bernoulli(pixels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Returns the negative log-likelihood of each image, [batch], for logits of its pixels."""
    losses = tf.nn.sigmoid_cross_entropy_with_logits(pixels, logits)
    return tf.reduce_sum(losses, axis=(-3, -2, -1))


class _Coder(NamedTuple):
    """The hidden layers of an encoder and of its decoder.

    shape: Of an image.
    """

    architecture: Architecture
    shape: Sequence[int]
    width: int
    depth: int
    activation: str

    def encoded(self, x: keras.KerasTensor) -> keras.KerasTensor:
        """Returns the last features of an image, [batch, features]."""
        if self.architecture == "mlp":
            x = layers.Flatten()(x)
        for _ in range(self.depth):
            if self.architecture == "mlp":
                x = layers.Dense(self.width, self.activation)(x)
            else:
                x = layers.Conv2D(self.width, 3, 2, "same", activation=self.activation)(x)
        return layers.Flatten()(x)

    def decoded(self, code: keras.KerasTensor) -> keras.KerasTensor:
        """Returns images for their codes [batch, latent]."""
        height, width, channels = self.shape
        if self.architecture == "mlp":
            for _ in range(self.depth):
                code = layers.Dense(self.width, self.activation)(code)
            return layers.Reshape(self.shape)(layers.Dense(height * width * channels)(code))
        scale = 2**self.depth
        rows, columns = -(-height // scale), -(-width // scale)
        x = layers.Dense(rows * columns * self.width, self.activation)(code)
        x = layers.Reshape((rows, columns, self.width))(x)
        for i in reversed(range(self.depth)):
            filters, activation = (self.width, self.activation) if i else (channels, None)
            x = layers.Conv2DTranspose(filters, 3, 2, "same", activation=activation)(x)
        # What the last doublings have too much.
        return layers.Cropping2D(((0, rows * scale - height), (0, columns * scale - width)))(x)


def _images(data: Dataset) -> ArrayData:
    return ArrayData(data.name, Images(data.train.images), Images(data.test.images))


def _in_unit_interval(images: np.ndarray) -> bool:
    return bool(images.min() >= 0 and images.max() <= 1)
