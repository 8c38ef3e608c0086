"""Classifiers of images with skip connections, and of patches: Keras models as optimizees."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import keras
from annotated_types import Ge
from keras import layers

from l2o.errors import UserError
from l2o.options import Activation, Count, Probability
from l2o.problems.blocks import EPSILON, Positions, mlp, transformer_block
from l2o.problems.keras_model import KerasProblem
from l2o.problems.transforms import Transform, image_set


def residual_classifier(
    width: Count = 16,
    depth: Count = 2,
    dataset: str = "digits",
    activation: Activation = "relu",
    batch_size: Count = 64,
    shuffle_buffer: Annotated[int, Ge(0)] = 16384,
    image_size: Count | None = None,
    label_noise: Probability = 0.0,
    transform: Transform | None = None,
) -> KerasProblem:
    """A residual network with softmax cross entropy: convolutions, batch norm, skip connections.

    These are the basic blocks of He et al. 2016: two convolutions of 3x3, each batch-normalised,
    and a skip around both. The mean over all places is classified.

    Args:
        width: Filters of each convolution [16].
        depth: Number of residual blocks. Each one after the first halves the image [2].
        dataset: `digits` or a TFDS name, see `datasets.load` ["digits"].
        activation: Activation of the convolutions ["relu"].
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

    def convolved(x: keras.KerasTensor, kernel_size: int, strides: int = 1) -> keras.KerasTensor:
        # As in `conv_classifier`, without a bias before the normalisation.
        convolution = layers.Conv2D(width, kernel_size, strides, padding="same", use_bias=False)
        return layers.BatchNormalization()(convolution(x))

    def block(x: keras.KerasTensor, strides: int) -> keras.KerasTensor:
        y = layers.Activation(activation)(convolved(x, 3, strides))
        skip = convolved(x, 1, strides) if strides > 1 else x
        return layers.Activation(activation)(skip + convolved(y, 3))

    def build_model() -> keras.Model:
        inputs = keras.Input(data.train.images.shape[1:])
        x = layers.Activation(activation)(convolved(inputs, 3))
        for i in range(depth):
            x = block(x, strides=2 if i else 1)
        x = layers.GlobalAveragePooling2D()(x)
        return keras.Model(inputs, layers.Dense(data.classes)(x))

    return KerasProblem("residual_classifier", build_model, data, batch_size, shuffle_buffer)


def vit_classifier(
    width: Count = 32,
    depth: Count = 2,
    heads: Count = 4,
    patch_size: Count = 2,
    dataset: str = "digits",
    batch_size: Count = 64,
    shuffle_buffer: Annotated[int, Ge(0)] = 16384,
    image_size: Count | None = None,
    label_noise: Probability = 0.0,
    transform: Transform | None = None,
) -> KerasProblem:
    """A vision transformer with softmax cross entropy: pre-norm, with learned positions.

    As in Dosovitskiy et al. 2021, but the mean over all patches is classified, and there is no
    class token.

    Args:
        width: Length of the vector of a patch [32].
        depth: Number of transformer blocks [2].
        heads: Attention heads of a block, a divisor of `width` [4].
        patch_size: Side of a patch in pixels, a divisor of the side of an image [2].
        dataset: `digits` or a TFDS name, see `datasets.load` ["digits"].
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

    Raises:
        UserError: If `heads` or `patch_size` does not divide what it should.
    """
    if width % heads:
        raise UserError(f"width {width} is no multiple of {heads} heads", "heads")
    data = image_set(dataset, image_size, transform, label_noise)
    shape = _divisible(data.train.images.shape[1:], patch_size)

    def build_model() -> keras.Model:
        inputs = keras.Input(shape)
        x = Positions()(layers.Dense(width)(_patches(inputs, patch_size)))
        for _ in range(depth):
            x = transformer_block(x, heads, causal=False)
        x = layers.GlobalAveragePooling1D()(layers.LayerNormalization(epsilon=EPSILON)(x))
        return keras.Model(inputs, layers.Dense(data.classes)(x))

    return KerasProblem("vit_classifier", build_model, data, batch_size, shuffle_buffer)


def mixer_classifier(
    width: Count = 32,
    depth: Count = 2,
    patch_size: Count = 2,
    dataset: str = "digits",
    batch_size: Count = 64,
    shuffle_buffer: Annotated[int, Ge(0)] = 16384,
    image_size: Count | None = None,
    label_noise: Probability = 0.0,
    transform: Transform | None = None,
) -> KerasProblem:
    """An MLP-Mixer with softmax cross entropy: MLPs over patches and over channels in turn.

    As in Tolstikhin et al. 2021: the MLP over patches has half as many hidden units as the width,
    and that over channels four times as many. Both have GELU, a normalisation before them and a
    skip around them. The mean over all patches is classified.

    Args:
        width: Length of the vector of a patch [32].
        depth: Number of blocks, of two MLPs each [2].
        patch_size: Side of a patch in pixels, a divisor of the side of an image [2].
        dataset: `digits` or a TFDS name, see `datasets.load` ["digits"].
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

    Raises:
        UserError: If `patch_size` does not divide the side of an image.
    """
    data = image_set(dataset, image_size, transform, label_noise)
    shape = _divisible(data.train.images.shape[1:], patch_size)

    def normed(x: keras.KerasTensor) -> keras.KerasTensor:
        return layers.LayerNormalization(epsilon=EPSILON)(x)

    def block(x: keras.KerasTensor) -> keras.KerasTensor:
        over_patches = mlp(layers.Permute((2, 1))(normed(x)), max(1, width // 2))
        x += layers.Permute((2, 1))(over_patches)
        return x + mlp(normed(x), 4 * width)

    def build_model() -> keras.Model:
        inputs = keras.Input(shape)
        x = layers.Dense(width)(_patches(inputs, patch_size))
        for _ in range(depth):
            x = block(x)
        x = layers.GlobalAveragePooling1D()(normed(x))
        return keras.Model(inputs, layers.Dense(data.classes)(x))

    return KerasProblem("mixer_classifier", build_model, data, batch_size, shuffle_buffer)


def _divisible(shape: Sequence[int], patch_size: int) -> Sequence[int]:
    """Returns the shape of an image, after checking that patches fill it."""
    height, width, _ = shape
    if height % patch_size or width % patch_size:
        raise UserError(
            f"patches of {patch_size} pixels do not fill images of {height}x{width}: expected a "
            "divisor of both, or another image_size",
            "patch_size",
        )
    return shape


def _patches(images: keras.KerasTensor, size: int) -> keras.KerasTensor:
    """Returns the pixels of each patch, [batch, patches, size * size * channels]."""
    height, width, channels = images.shape[1:]
    x = layers.Reshape((height // size, size, width // size, size, channels))(images)
    return layers.Reshape((-1, size * size * channels))(layers.Permute((1, 3, 2, 4, 5))(x))
