"""Schedules of the learning rate within an optimizee's training."""

from __future__ import annotations

import math
from typing import Literal

import tensorflow as tf

# The values of the option `estimator/schedule`.
Schedule = Literal["constant", "cosine", "warmup_cosine"]

# Share of the steps that warm up.
WARMUP = 0.05


def factor(schedule: Schedule, i: tf.Tensor, steps: tf.Tensor) -> tf.Tensor:
    """Returns the factor of the changes of one step of a training, in (0, 1].

    These are the schedules of an evaluation (`l2o.evaluate.schedules`), for a length that is
    known only when the training runs.

    Args:
        schedule: "constant": 1; "cosine": falls from 1, and would be 0 after the last step;
            "warmup_cosine": rises linearly over the first 5 % of the steps, at least one, then
            falls so.
        i: int32 scalar, the step, from 0.
        steps: int32 scalar, the length of the training.
    """
    if schedule == "constant":
        return tf.ones([])
    k, length = tf.cast(i, tf.float32), tf.cast(steps, tf.float32)
    if schedule == "cosine":
        return _cosine(k / length)
    # Halves are rounded as in Python. A single step has no warm-up.
    warmup = tf.minimum(tf.maximum(1.0, tf.round(WARMUP * length)), length - 1)
    rises, falls = (k + 1) / (warmup + 1), _cosine((k - warmup) / (length - warmup))
    return tf.where(k < warmup, rises, falls)


def _cosine(share: tf.Tensor) -> tf.Tensor:
    return 0.5 * (1 + tf.cos(math.pi * share))
