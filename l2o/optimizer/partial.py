"""Steps that update only some of the variables; the others and their state do not change."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf


class Place(NamedTuple):
    """Where the variables lie in a leaf of a state.

    axis: The axis along which they lie.
    coordinates: Whether this axis has an entry for each coordinate; else for each variable.
    """

    axis: int
    coordinates: bool


def take(
    leaf: tf.Tensor, place: Place | None, params: Sequence[tf.Tensor], taking: Sequence[bool]
) -> tf.Tensor:
    """Returns the part of a leaf that belongs to some of the variables.

    Args:
        leaf: A tensor of a state.
        place: Where the variables lie in it; None: all variables share the leaf.
        params: All variables.
        taking: For each variable, whether its part is taken.

    Returns:
        The leaf that a state of these variables alone would have.
    """
    if place is None:
        return leaf
    parts = tf.split(leaf, _sizes(place, params), place.axis)
    return tf.concat([p for p, takes in zip(parts, taking, strict=True) if takes], place.axis)


def put(
    leaf: tf.Tensor,
    new: tf.Tensor,
    place: Place | None,
    params: Sequence[tf.Tensor],
    taking: Sequence[bool],
) -> tf.Tensor:
    """Returns a leaf in which `new` replaces the part that `take` returned."""
    if place is None:
        return new
    sizes = _sizes(place, params)
    taken = [size for size, takes in zip(sizes, taking, strict=True) if takes]
    replaced = iter(tf.split(new, taken, place.axis))
    parts = tf.split(leaf, sizes, place.axis)
    return tf.concat(
        [next(replaced) if takes else p for p, takes in zip(parts, taking, strict=True)], place.axis
    )


def reordered(
    leaf: np.ndarray, place: Place | None, variables: Sequence[Any], order: Sequence[int]
) -> np.ndarray:
    """Returns a leaf of a state in another order of the variables.

    Args:
        leaf: The leaf in its old order.
        place: Where the variables lie in it; None: all variables share the leaf.
        variables: The variables in their new order.
        order: The index of each of them in the old order.
    """
    if place is None:
        return leaf
    sizes = _sizes(place, variables)
    old_sizes = [0] * len(sizes)
    for size, k in zip(sizes, order, strict=True):
        old_sizes[k] = size
    parts = np.split(leaf, np.cumsum(old_sizes)[:-1], place.axis)
    return np.concatenate([parts[k] for k in order], place.axis)


def _sizes(place: Place, params: Sequence[Any]) -> list[int]:
    return [math.prod(p.shape) if place.coordinates else 1 for p in params]
