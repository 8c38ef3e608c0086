"""Equations that the update rules share, as free functions in the papers' symbols."""

from __future__ import annotations

import math
from collections.abc import Sequence

import keras
import tensorflow as tf

# Larger gradients are clipped, so that their squares stay finite in float32.
LARGEST_GRADIENT = 1e18
# Of the quintic iteration that orthogonalises a matrix, and how often it is applied (Jordan et al.
# 2024, "Muon").
NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
NEWTON_SCHULZ_STEPS = 5


def precision() -> str:
    """Returns the dtype that rules compute in: Keras' default, or float32 if that has 16 bits."""
    floatx = keras.config.floatx()
    return floatx if floatx in ("float32", "float64") else "float32"


def flatten(tensors: Sequence[tf.Tensor], dtype: tf.DType) -> tf.Tensor:
    """Joins all coordinates into one batch, so that a rule is one matmul per layer.

    Args:
        tensors: Tensors of any shape and floating dtype.
        dtype: The dtype to compute in.

    Returns:
        [n] tensor of `dtype`; n is the number of coordinates of all tensors.
    """
    return tf.concat([tf.reshape(tf.cast(t, dtype), [-1]) for t in tensors], 0)


def unflatten(flat: tf.Tensor, like: Sequence[tf.Tensor]) -> list[tf.Tensor]:
    """Splits [n] coordinates back into tensors with the shapes and dtypes of `like`."""
    sizes = [t.shape.num_elements() for t in like]
    return [
        tf.cast(tf.reshape(part, t.shape), t.dtype)
        for part, t in zip(tf.split(flat, sizes), like, strict=True)
    ]


def count(tensors: Sequence[tf.Tensor]) -> int:
    """Returns n, the number of coordinates of all tensors."""
    return sum(t.shape.num_elements() for t in tensors)


def log_and_sign(g: tf.Tensor, p: float) -> tf.Tensor:
    """Splits gradients into logarithm and sign (Andrychowicz et al. 2016, Appendix A).

        (log|g| / p, sign(g))   where |g| >= exp(-p)
        (-1, exp(p) g)          elsewhere

    Args:
        g: [n] gradients.
        p: Number of e-folds below 1 that the logarithm covers; 10 in the paper.

    Returns:
        [2, n] features, of the order of 1 for gradients from exp(-p) to exp(p).
    """
    magnitude = tf.abs(g)
    threshold = tf.exp(tf.constant(-p, g.dtype))
    large = magnitude >= threshold
    # The inner `where` keeps the gradient of the logarithm finite where it is not chosen.
    log = tf.math.log(tf.where(large, magnitude, tf.ones_like(g)))
    return tf.stack(
        [tf.where(large, log / p, -tf.ones_like(g)), tf.where(large, tf.sign(g), g / threshold)]
    )


def clip_gradient(g: tf.Tensor) -> tf.Tensor:
    """Clips to +-1e18; beyond that g^2 overflows, and the state would never be finite again."""
    return tf.clip_by_value(g, -LARGEST_GRADIENT, LARGEST_GRADIENT)


def moving_average(average: tf.Tensor, value: tf.Tensor, decay: float) -> tf.Tensor:
    """Returns `decay * average + (1 - decay) * value`."""
    return decay * average + (1 - decay) * value


def debias(average: tf.Tensor, decay: float, t: tf.Tensor) -> tf.Tensor:
    """Divides by `1 - decay^t` an average that started at 0, t >= 1 steps ago."""
    return average / (1 - tf.pow(tf.constant(decay, average.dtype), tf.cast(t, average.dtype)))


def root(v: tf.Tensor) -> tf.Tensor:
    """Returns sqrt(v); its gradient at v = 0 is 0 instead of infinity."""
    positive = v > 0
    return tf.where(positive, tf.sqrt(tf.where(positive, v, tf.ones_like(v))), tf.zeros_like(v))


def orthogonalized(x: tf.Tensor) -> tf.Tensor:
    """Returns matrices with the singular vectors of `x` and singular values near 1.

        X <- 3.4445 X + (-4.7750 A + 2.0315 A A) X,   A = X X^T,   five times

    from X = x / |x|, which is transposed where that makes A smaller.

    Args:
        x: [..., rows, columns].
    """
    a, b, c = NEWTON_SCHULZ
    is_tall = x.shape[-2] > x.shape[-1]
    if is_tall:
        x = tf.linalg.matrix_transpose(x)
    x /= root(tf.reduce_sum(tf.square(x), [-2, -1], keepdims=True)) + 1e-8
    for _ in range(NEWTON_SCHULZ_STEPS):
        square = tf.matmul(x, x, transpose_b=True)
        x = a * x + tf.matmul(b * square + c * tf.matmul(square, square), x)
    return tf.linalg.matrix_transpose(x) if is_tall else x


def log_uniform(n: int, ends: Sequence[float], seed: Sequence[int], dtype: tf.DType) -> tf.Tensor:
    """Draws [n] logarithms of numbers that are log-uniform between `ends`.

    Args:
        n: Number of draws.
        ends: The smallest and the largest number, positive.
        seed: Two integers.
        dtype: Floating dtype of the result.

    Returns:
        [n] tensor, from log(ends[0]) to log(ends[1]).
    """
    low, high = (math.log(end) for end in ends)
    return low + (high - low) * tf.random.stateless_uniform([n], seed, dtype=dtype)
