"""Adam (Kingma and Ba 2015), as a part of the rules that take its steps for vectors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

import tensorflow as tf

from l2o.optimizer import equations
from l2o.optimizer.routes import Predicate

State = TypeVar("State")


class AdamState(NamedTuple):
    """The moments m and v of one tensor, and the number t of its steps."""

    m: tf.Tensor
    v: tf.Tensor
    t: tf.Tensor


def zero_adam(shape: Sequence[int], dtype: tf.DType) -> AdamState:
    """Returns the state of a tensor before the first step."""
    zeros = tf.zeros(shape, dtype)
    return AdamState(zeros, zeros, tf.zeros([], tf.int64))


def zero_states(
    params: Sequence[Any],
    takes_adam: Predicate,
    dtype: tf.DType,
    other: Callable[[Sequence[int]], State],
) -> tuple[State | AdamState, ...]:
    """Returns the state of each tensor before the first step.

    Args:
        params: See `TrainableOptimizer.initial_state`.
        takes_adam: Whether a tensor takes steps of Adam. A tensor without a name has the path "".
        dtype: Of the states of Adam.
        other: Returns the state of a tensor that does not, by its shape.
    """

    def start(p: Any) -> State | AdamState:
        path = (p.name or "") if isinstance(p, tf.TensorSpec) else ""
        return zero_adam(p.shape, dtype) if takes_adam(path, tuple(p.shape)) else other(p.shape)

    return tuple(start(p) for p in params)


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
