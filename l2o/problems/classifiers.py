"""Classifiers: ordinary Keras models as optimizees."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import keras
from annotated_types import Ge, Lt

from l2o.options import Activation, Count, Layers, Probability
from l2o.problems.datasets import with_wrong_labels
from l2o.problems.keras_model import KerasProblem
from l2o.problems.transforms import Transform, image_set, transformed


def mlp_classifier(
    layers: Sequence[Count] = (20,),
    dataset: str = "digits",
    activation: Activation = "sigmoid",
    batch_size: Count = 64,
    shuffle_buffer: Annotated[int, Ge(0)] = 16384,
    image_size: Count | None = None,
    label_noise: Probability = 0.0,
    normalization: Literal["none", "batch", "layer"] = "none",
    dropout: Annotated[float, Ge(0), Lt(1)] = 0.0,
    transform: Transform | None = None,
) -> KerasProblem:
    """A multilayer perceptron with softmax cross entropy.

    Args:
        layers: Units of each hidden layer [(20,)].
        dataset: `digits`, `breast_cancer`, `wine` or a TFDS name, see `datasets.load` ["digits"].
        activation: Activation of the hidden layers ["sigmoid"].
        batch_size: Examples in a mini-batch [64].
        shuffle_buffer: Number of places that an example may move when an epoch is shuffled
            [16384].
        image_size: Resize images to this many pixels squared; None keeps them [None].
        label_noise: Share of the training examples that have a wrong label. These examples
            are always the same [0.0].
        normalization: `batch` or `layer`: what normalises each hidden layer before its activation.
            With `batch` only the normalisation has a bias ["none"].
        dropout: Share of the units of each hidden layer that is dropped in training [0.0].
        transform: `inverted`, `shifted` or `projected`: changes all images, see
            `transforms.transformed`; None keeps them [None].

    Returns:
        The problem; its parameters are the kernels and biases in the order of layers.
    """
    data = with_wrong_labels(transformed(dataset, image_size, transform), label_noise)

    def hidden(units: int) -> list[keras.layers.Layer]:
        dropped = [keras.layers.Dropout(dropout)] if dropout else []
        if normalization == "none":
            return [keras.layers.Dense(units, activation), *dropped]
        # The gradient of a bias before batch normalisation would be mere rounding errors, which
        # optimizers that normalise gradients would amplify.
        batch = normalization == "batch"
        return [
            keras.layers.Dense(units, use_bias=not batch),
            keras.layers.BatchNormalization() if batch else keras.layers.LayerNormalization(),
            keras.layers.Activation(activation),
            *dropped,
        ]

    def build_model() -> keras.Model:
        return keras.Sequential(
            [
                keras.Input(data.train.images.shape[1:]),
                keras.layers.Flatten(),
                *(layer for units in layers for layer in hidden(units)),
                keras.layers.Dense(data.classes),
            ]
        )

    return KerasProblem("mlp_classifier", build_model, data, batch_size, shuffle_buffer)


def conv_classifier(
    layers: Layers = (16, 16),
    dataset: str = "digits",
    activation: Activation = "relu",
    kernel_size: Count = 3,
    batch_norm: bool = False,
    dropout: Annotated[float, Ge(0), Lt(1)] = 0.0,
    batch_size: Count = 64,
    shuffle_buffer: Annotated[int, Ge(0)] = 16384,
    image_size: Count | None = None,
    label_noise: Probability = 0.0,
    transform: Transform | None = None,
) -> KerasProblem:
    """A convolutional network with softmax cross entropy; each layer halves the image.

    Args:
        layers: Filters of each convolution [(16, 16)].
        dataset: `digits` or a TFDS name, see `datasets.load` ["digits"].
        activation: Activation of the convolutions ["relu"].
        kernel_size: Side of the filters in pixels [3].
        batch_norm: Whether each convolution is batch-normalised before its activation. Only
            the normalisation then has a bias [false].
        dropout: Share of the last features that is dropped in training [0.0].
        batch_size: Examples in a mini-batch [64].
        shuffle_buffer: Number of places that an example may move when an epoch is shuffled
            [16384].
        image_size: Resize images to this many pixels squared; None keeps them [None].
        label_noise: Share of the training examples that have a wrong label. These examples
            are always the same [0.0].
        transform: `inverted`, `shifted` or `projected`: changes all images, see
            `transforms.transformed`; None keeps them [None].

    Returns:
        The problem; its parameters are those of the layers, in their order.
    """
    data = image_set(dataset, image_size, transform, label_noise)

    def block(filters: int) -> list[keras.layers.Layer]:
        # A bias before the normalisation would have no gradient, as in `mlp_classifier`.
        convolution = keras.layers.Conv2D(
            filters, kernel_size, padding="same", use_bias=not batch_norm
        )
        return [
            convolution,
            *([keras.layers.BatchNormalization()] if batch_norm else []),
            keras.layers.Activation(activation),
            keras.layers.MaxPooling2D(2, padding="same"),
        ]

    def build_model() -> keras.Model:
        return keras.Sequential(
            [
                keras.Input(data.train.images.shape[1:]),
                *(layer for filters in layers for layer in block(filters)),
                *([keras.layers.Dropout(dropout)] if dropout else []),
                keras.layers.Flatten(),
                keras.layers.Dense(data.classes),
            ]
        )

    return KerasProblem("conv_classifier", build_model, data, batch_size, shuffle_buffer)
