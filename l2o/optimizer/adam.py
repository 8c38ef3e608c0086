"""Adam (Kingma and Ba 2015), as a part of the rules that take its steps for vectors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import tensorflow as tf

from l2o.optimizer import equations


class AdamState(NamedTuple):
    """The moments m and v of one tensor, and the number t of its steps."""

    m: tf.Tensor
    v: tf.Tensor
    t: tf.Tensor


def zero_adam(shape: Sequence[int], dtype: tf.DType) -> AdamState:
    """Returns the state of a tensor before the first step."""
    zeros = tf.zeros(shape, dtype)
    return AdamState(zeros, zeros, tf.zeros([], tf.int64))


def adam(
    g: tf.Tensor, old: AdamState, beta_1: float, beta_2: float, epsilon: float
) -> tuple[tf.Tensor, AdamState]:
    """Returns `m^ / (sqrt(v^) + epsilon)`, see Algorithm 1 of the paper, and the new state.

    Args:
        g: The gradient.
        old: The state before.
        beta_1: Decay of m.
        beta_2: Decay of v.
        epsilon: Added to the divisor.
    """
    g = equations.clip_gradient(g)
    t = old.t + 1
    m = equations.moving_average(old.m, g, beta_1)
    v = equations.moving_average(old.v, tf.square(g), beta_2)
    root = equations.root(equations.debias(v, beta_2, t))
    return equations.debias(m, beta_1, t) / (root + epsilon), AdamState(m, v, t)
