"""Optimizers designed by hand, as pure functions of one tensor.

`POOL` has each of them under one signature, for a rule that reads what all of them would do.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

from l2o.optimizer import equations

# Keras' defaults, but for the momentum, whose default is none.
MOMENTUM = 0.9
BETA_1, BETA_2 = 0.9, 0.999
RHO = 0.9
EPSILON = 1e-7
# Bello et al. 2017, section 4.
SIGN_BETA = 0.9
POWER_ALPHA = math.e
ADD_ALPHA = 1.0

Averages = tuple[tf.Tensor, ...]
Step = tuple[tf.Tensor, Averages]


class Member(NamedTuple):
    """A member of the pool.

    averages: How many averages of the gradient's shape it keeps; they start at 0.
    step: (g, averages, t, rate) -> delta and the new averages. t is the number of this step, from
        1 on.
    """

    averages: int
    step: Callable[[tf.Tensor, Averages, tf.Tensor, float], Step]


def power_sign(g: tf.Tensor, m: tf.Tensor, alpha: float) -> tf.Tensor:
    """Returns `alpha^(sign(g) sign(m)) g` (Bello et al. 2017, "PowerSign")."""
    base = tf.constant(alpha, g.dtype)
    return tf.pow(base, tf.sign(g) * tf.sign(m)) * g


def add_sign(g: tf.Tensor, m: tf.Tensor, alpha: float) -> tf.Tensor:
    """Returns `(alpha + sign(g) sign(m)) g` (Bello et al. 2017, "AddSign")."""
    return (alpha + tf.sign(g) * tf.sign(m)) * g


def _sgd(g: tf.Tensor, averages: Averages, t: tf.Tensor, rate: float) -> Step:
    return -rate * g, averages


def _momentum(g: tf.Tensor, averages: Averages, t: tf.Tensor, rate: float) -> Step:
    (m,) = averages
    m = MOMENTUM * m - rate * g
    return m, (m,)


def _rmsprop(g: tf.Tensor, averages: Averages, t: tf.Tensor, rate: float) -> Step:
    (v,) = averages
    v = equations.moving_average(v, tf.square(g), RHO)
    return -rate * g * tf.math.rsqrt(v + EPSILON), (v,)


def _adam(g: tf.Tensor, averages: Averages, t: tf.Tensor, rate: float) -> Step:
    m, v = averages
    m = equations.moving_average(m, g, BETA_1)
    v = equations.moving_average(v, tf.square(g), BETA_2)
    # As in Keras, epsilon is added before the second moment is debiased.
    debias = equations.root(1 / equations.debias(tf.ones([], g.dtype), BETA_2, t))
    m_hat = equations.debias(m, BETA_1, t)
    return -rate * debias * m_hat / (equations.root(v) + EPSILON), (m, v)


def _power_sign(g: tf.Tensor, averages: Averages, t: tf.Tensor, rate: float) -> Step:
    m = equations.moving_average(averages[0], g, SIGN_BETA)
    return -rate * power_sign(g, m, POWER_ALPHA), (m,)


def _add_sign(g: tf.Tensor, averages: Averages, t: tf.Tensor, rate: float) -> Step:
    m = equations.moving_average(averages[0], g, SIGN_BETA)
    return -rate * add_sign(g, m, ADD_ALPHA), (m,)


POOL = {
    "AddSign": Member(1, _add_sign),
    "Adam": Member(2, _adam),
    "Momentum": Member(1, _momentum),
    "PowerSign": Member(1, _power_sign),
    "RMSprop": Member(1, _rmsprop),
    "SGD": Member(0, _sgd),
}
