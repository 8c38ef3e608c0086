"""Steps in which only some variables take part: the others, and their state, stay as they are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf


class Place(NamedTuple):
    """Where the variables lie in a leaf of a state.

    axis: Along which of its axes.
    coordinates: Whether each coordinate has an entry there, or each variable.
    """

    axis: int
    coordinates: bool


def take(
    leaf: tf.Tensor, place: Place | None, params: Sequence[tf.Tensor], taking: Sequence[bool]
) -> tf.Tensor:
    """Returns the part of a leaf that belongs to some of the variables.

    Args:
        leaf: A tensor of a state.
        place: Where the variables lie in it; None: it is what they all share.
        params: All variables.
        taking: Which of them.

    Returns:
        The leaf as a state of these variables alone would have it.
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
    """Undoes `take`: returns a leaf with `new` in place of the part that was taken."""
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
    """Returns a leaf of a state whose variables were listed in another order.

    Args:
        leaf: As it was.
        place: Where the variables lie in it; None: it is what they all share.
        variables: In the order that is wanted.
        order: For each of them, its index in the order of the leaf.
    """
    if place is None:
        return leaf
    sizes = _sizes(place, variables)
    before = [0] * len(sizes)
    for size, k in zip(sizes, order, strict=True):
        before[k] = size
    parts = np.split(leaf, np.cumsum(before)[:-1], place.axis)
    return np.concatenate([parts[k] for k in order], place.axis)


def _sizes(place: Place, params: Sequence[Any]) -> list[int]:
    return [math.prod(p.shape) if place.coordinates else 1 for p in params]
