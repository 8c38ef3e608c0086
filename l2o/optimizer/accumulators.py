"""The averages and the features that the rules with small MLPs share.

A feature of one tensor is a group [k, ...] of k arrays, whose axes after the first are those of
the tensor. An axis along which a feature is constant has size 1, so row and column averages are
never repeated over the whole tensor.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

import tensorflow as tf

from l2o.optimizer import equations
from l2o.optimizer.mlp import is_large

# Added to g^2 in factored averages.
SMALLEST_SQUARE = 1e-30
# Keeps the divisors of factored averages above 0.
FACTOR_FLOOR = 1e-9

# XLA splits longer sums into trees. Then it writes the summands to memory before it adds them.
LONGEST_BLOCK = 16

ManyDecays: TypeAlias = Sequence[float] | tf.Tensor


class Factored(NamedTuple):
    """The factored second moment of a tensor of two or more axes.

    row: [k, ...], one for each decay, of size 1 along d0, the tensor's longest axis.
    col: [k, ...], of size 1 along d1, the second longest.
    """

    row: tf.Tensor
    col: tf.Tensor


class Unfactored(NamedTuple):
    """The second moment of a vector or scalar at each decay: f [k, ...]."""

    f: tf.Tensor


class Averages(NamedTuple):
    """The averages of one tensor.

    m: [k, ...], momentum at each decay.
    v: [...], second moment.
    factored: The second moment that takes little memory.
    """

    m: tf.Tensor
    v: tf.Tensor
    factored: Factored | Unfactored


def zero_averages(
    shape: Sequence[int], dtype: tf.DType, momenta: int = 3, factored: int = 3
) -> Averages:
    """Returns the averages of a tensor before the first step.

    Args:
        shape: The tensor's.
        dtype: Of the averages.
        momenta: Number of decays of the momentum [3].
        factored: Number of decays of the factored second moment [3].
    """
    m, v = tf.zeros([momenta, *shape], dtype), tf.zeros(shape, dtype)
    whole = [factored, *shape]
    if len(shape) < 2:
        return Averages(m, v, Unfactored(tf.zeros(whole, dtype)))
    d1, d0 = two_longest(shape)
    row, col = list(whole), list(whole)
    row[1 + d0] = col[1 + d1] = 1
    return Averages(m, v, Factored(tf.zeros(row, dtype), tf.zeros(col, dtype)))


def two_longest(shape: Sequence[int]) -> tuple[int, int]:
    """Returns d1 and d0, the second longest and the longest axis; of equal axes, d0 is the last."""
    *_, d1, d0 = sorted(range(len(shape)), key=lambda axis: shape[axis])
    return d1, d0


def averaged(
    old: Averages,
    g: tf.Tensor,
    momentum: ManyDecays,
    rms: float | tf.Tensor,
    factored: ManyDecays,
) -> Averages:
    """Returns the averages after one more gradient.

        m_k   = b_k m_k + (1 - b_k) g
        v     = r v + (1 - r) g^2
        row_k = a_k row_k + (1 - a_k) mean_d0 G        G = g^2 + 1e-30
        col_k = a_k col_k + (1 - a_k) mean_d1 G
        f_k   = a_k f_k + (1 - a_k) G                  in place of row and col, without two axes

    Args:
        old: The averages before.
        g: The gradient.
        momentum: b, one for each momentum.
        rms: Scalar, r.
        factored: a, one for each factored second moment.
    """
    b, a = (
        tf.reshape(tf.convert_to_tensor(decays, g.dtype), [-1] + [1] * g.shape.rank)
        for decays in (momentum, factored)
    )
    square = tf.square(g)
    return Averages(
        equations.moving_average(old.m, g, b),
        equations.moving_average(old.v, square, rms),
        _factored(old.factored, square + SMALLEST_SQUARE, a),
    )


def _factored(old: Factored | Unfactored, big_g: tf.Tensor, a: tf.Tensor) -> Factored | Unfactored:
    if isinstance(old, Unfactored):
        return Unfactored(equations.moving_average(old.f, big_g, a))
    d1, d0 = two_longest(big_g.shape)
    return Factored(
        equations.moving_average(old.row, _mean(big_g, [d0]), a),
        equations.moving_average(old.col, _mean(big_g, [d1]), a),
    )


def factors(factored: Factored, shape: Sequence[int]) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns R and C, so that g R C is about g over the root of its second moment.

        R_k = rsqrt(max(row_k / (mean_d1 row_k + 1e-9), 1e-9))
        C_k = rsqrt(max(col_k, 1e-9))

    Args:
        factored: Of a tensor.
        shape: The tensor's.

    Returns:
        R [k, ...] and C [k, ...], of size 1 where row and col are.
    """
    row, col = factored
    d1, _ = two_longest(shape)
    share = row / (_mean(row, [1 + d1]) + FACTOR_FLOOR)
    return (
        tf.math.rsqrt(tf.maximum(share, FACTOR_FLOOR)),
        tf.math.rsqrt(tf.maximum(col, FACTOR_FLOOR)),
    )


def inverse_rms(x: tf.Tensor, axes: Sequence[int], epsilon: float) -> tf.Tensor:
    """Returns `1 / sqrt(mean(x^2) + epsilon)`, a mean over some axes, which stay with size 1."""
    square = tf.square(x)
    if is_large(x.shape) and x.shape.rank - 2 in axes:
        return tf.math.rsqrt(_mean_of_large(square, axes) + epsilon)
    return tf.math.rsqrt(_mean(square, axes) + epsilon)


def over_rms(x: tf.Tensor, axes: Sequence[int], epsilon: float) -> tf.Tensor:
    """Divides by the root of the mean square, see `inverse_rms`."""
    return x * inverse_rms(x, axes, epsilon)


def _mean_of_large(x: tf.Tensor, axes: Sequence[int]) -> tf.Tensor:
    """Does what `_mean` does, over the last two axes or over all axes after the first.

    On a CPU, XLA uses vector instructions for a sum over a short axis that is not the last. The
    rest is a product, because XLA would join two sums again.
    """
    rows = x.shape[-2]
    block = max(size for size in range(1, LONGEST_BLOCK + 1) if rows % size == 0)
    lead = [x.shape[i] if i not in axes else 1 for i in range(x.shape.rank)]
    blocks = tf.reshape(x, [*x.shape[:-2], rows // block, block, x.shape[-1]])
    sums = tf.reshape(tf.reduce_sum(blocks, -2), [math.prod(lead), -1])
    count = math.prod(x.shape[axis] for axis in axes)
    return tf.reshape(tf.matmul(sums, tf.fill([sums.shape[1], 1], 1 / count)), lead)


def _mean(x: tf.Tensor, axes: Sequence[int]) -> tf.Tensor:
    """Returns the mean over axes, which stay with size 1; 0 where there is nothing."""
    count = math.prod(x.shape[axis] for axis in axes)
    return tf.reduce_sum(x, axes, keepdims=True) / max(count, 1)
