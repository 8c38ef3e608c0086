"""Steps that update only some of the variables; the others and their state do not change."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
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


class Own(NamedTuple):
    """The place of a leaf that belongs to one variable.

    The leaf is in a tuple or list that has an entry for each variable, in their order. A state
    of some of the variables has fewer entries.
    """

    variable: int


# None: all variables share the leaf.
AnyPlace = Place | Own | None


def take(
    leaf: tf.Tensor, place: AnyPlace, params: Sequence[tf.Tensor], taking: Sequence[bool]
) -> tf.Tensor | None:
    """Returns the part of a leaf that belongs to some of the variables.

    Args:
        leaf: A tensor of a state.
        place: Where the variables lie in it.
        params: All variables.
        taking: For each variable, whether its part is taken.

    Returns:
        The leaf that a state of these variables alone would have; None: it would have none.
    """
    if place is None:
        return leaf
    if isinstance(place, Own):
        return leaf if taking[place.variable] else None
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


def take_state(
    state: Any, places: Sequence[AnyPlace], params: Sequence[Any], taking: Sequence[bool]
) -> Any:
    """Returns the state that some of the variables alone would have.

    Args:
        state: The state of all variables.
        places: Where the variables lie in each of its leaves, see
            `TrainableOptimizer.state_places`.
        params: All variables.
        taking: For each variable, whether its part is taken.
    """
    leaves = zip(tf.nest.flatten(state), places, strict=True)
    return _pruned(state, iter([take(leaf, place, params, taking) for leaf, place in leaves]))


def put_state(
    state: Any, new: Any, places: Sequence[AnyPlace], params: Sequence[Any], taking: Sequence[bool]
) -> Any:
    """Returns a state in which `new` replaces the part that `take_state` returned."""
    rest, leaves = iter(tf.nest.flatten(new)), []
    for leaf, place in zip(tf.nest.flatten(state), places, strict=True):
        if isinstance(place, Own):
            leaves.append(next(rest) if taking[place.variable] else leaf)
        else:
            leaves.append(put(leaf, next(rest), place, params, taking))
    return tf.nest.pack_sequence_as(state, leaves)


def _pruned(structure: Any, leaves: Iterator[Any]) -> Any:
    """Returns a nest of the leaves that are not None, without the entries that have no leaf left.

    The result is None if nothing is left.
    """
    if not tf.nest.is_nested(structure):
        return next(leaves)
    if isinstance(structure, Mapping):
        parts = {key: _pruned(structure[key], leaves) for key in sorted(structure)}
        left = {key: part for key, part in parts.items() if part is not None}
        return left if left or not structure else None
    kept = [part for entry in structure if (part := _pruned(entry, leaves)) is not None]
    if structure and not kept:
        return None
    return type(structure)(*kept) if hasattr(structure, "_fields") else type(structure)(kept)


def reordered(
    leaf: np.ndarray, place: AnyPlace, variables: Sequence[Any], order: Sequence[int]
) -> np.ndarray:
    """Returns a leaf of a state in another order of the variables.

    Args:
        leaf: The leaf in its old order; of one variable, the leaf that `sources` names.
        place: Where the variables lie in it.
        variables: The variables in their new order.
        order: The index of each of them in the old order.
    """
    if not isinstance(place, Place):
        return leaf
    sizes = _sizes(place, variables)
    old_sizes = [0] * len(sizes)
    for size, k in zip(sizes, order, strict=True):
        old_sizes[k] = size
    parts = np.split(leaf, np.cumsum(old_sizes)[:-1], place.axis)
    return np.concatenate([parts[k] for k in order], place.axis)


def sources(places: Sequence[AnyPlace], order: Sequence[int]) -> list[int]:
    """Returns the index of the leaf that each leaf comes from, in another order of the variables.

    Args:
        places: Where the variables lie in each leaf, in their new order.
        order: The index of each variable in the old order.
    """
    found = list(range(len(places)))
    for own in _lists(places):
        leaves_of: list[list[int]] = [[] for _ in order]
        for i, variable in own:
            leaves_of[variable].append(i)
        counts = [0] * len(order)
        for k, leaves in zip(order, leaves_of, strict=True):
            counts[k] = len(leaves)
        starts = np.cumsum([0, *counts])
        positions = [i for i, _ in own]
        for k, leaves in zip(order, leaves_of, strict=True):
            for j, leaf in enumerate(leaves):
                found[leaf] = positions[starts[k] + j]
    return found


def _lists(places: Sequence[AnyPlace]) -> list[list[tuple[int, int]]]:
    """Returns (leaf, variable) of the leaves in each list that has an entry for each variable."""
    found: list[list[tuple[int, int]]] = []
    for i, place in enumerate(places):
        if isinstance(place, Own):
            if not found or place.variable < found[-1][-1][1]:
                found.append([])
            found[-1].append((i, place.variable))
    return found


def _sizes(place: Place, params: Sequence[Any]) -> list[int]:
    return [math.prod(p.shape) if place.coordinates else 1 for p in params]


def own_places(state: Sequence[Any]) -> list[AnyPlace]:
    """Returns the places of a state that is a tuple with an entry for each variable."""
    return [Own(i) for i, entry in enumerate(state) for _ in tf.nest.flatten(entry)]
