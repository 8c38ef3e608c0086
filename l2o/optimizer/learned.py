"""Learned weights as arrays that fit a network, and as text in a configuration."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from l2o.disk.packing import pack, unpack


def misfit(arrays: Sequence[np.ndarray], weights: Sequence[Any]) -> str:
    """Returns why arrays cannot be the values of a network's weights.

    Args:
        arrays: As `network.get_weights()` returns them.
        weights: `network.weights`.

    Returns:
        The first thing that does not fit; "" if all of them fit.
    """
    if len(arrays) != len(weights):
        return f"{len(arrays)} arrays, of the shapes {[a.shape for a in arrays]}"
    for i, (array, weight) in enumerate(zip(arrays, weights, strict=True)):
        if array.shape != tuple(weight.shape):
            return f"array {i} of the shape {array.shape} where {tuple(weight.shape)} belongs"
        if not np.can_cast(array.dtype, np.float64, "same_kind"):
            return f"array {i} of {array.dtype}, which are not real numbers"
        with np.errstate(over="ignore"):
            if not np.isfinite(array.astype(tf.as_dtype(weight.dtype).as_numpy_dtype)).all():
                return f"array {i} with values that are not finite in {weight.dtype}"
    return ""


def to_text(arrays: Sequence[np.ndarray]) -> str:
    """Returns arrays as text for a configuration."""
    return base64.b64encode(pack({str(i): a for i, a in enumerate(arrays)})).decode()


def from_text(text: str) -> list[np.ndarray]:
    """Returns the arrays that `to_text` was given.

    Raises:
        ValueError: If the text is damaged.
        TypeError: If it is no text.
    """
    arrays = unpack(base64.b64decode(text))
    return [arrays.get(str(i), np.empty(0)) for i in range(len(arrays))]
