"""Classifiers: ordinary Keras models as optimizees."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import keras
from annotated_types import Ge, Lt

from l2o.errors import UserError
from l2o.options import Activation, Count, Layers, Probability
from l2o.problems.datasets import load, with_wrong_labels
from l2o.problems.keras_model import KerasProblem


def mlp_classifier(
    layers: Sequence[Count] = (20,),
    dataset: str = "digits",
    activation: Activation = "sigmoid",
    batch_size: Count = 64,
    shuffle_buffer: Annotated[int, Ge(0)] = 16384,
    image_size: Count | None = None,
    label_noise: Probability = 0.0,
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

    Returns:
        The problem; its parameters are the kernels and biases in the order of layers.
    """
    data = with_wrong_labels(load(dataset, image_size), label_noise)

    def build_model() -> keras.Model:
        return keras.Sequential(
            [
                keras.Input(data.train.images.shape[1:]),
                keras.layers.Flatten(),
                *(keras.layers.Dense(units, activation) for units in layers),
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

    Returns:
        The problem; its parameters are those of the layers, in their order.
    """
    data = with_wrong_labels(load(dataset, image_size), label_noise)
    if data.train.images.ndim == 2:
        raise UserError(f"{dataset} has no images: expected a set of images", "dataset")

    def block(filters: int) -> list[keras.layers.Layer]:
        # The gradient of a bias before the normalisation would be mere rounding errors, which
        # optimizers that normalise gradients would amplify.
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
