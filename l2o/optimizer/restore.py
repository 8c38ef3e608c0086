"""The saved state of an optimizer, sorted for a model that lists its variables in its own order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from l2o.optimizer.layout import Layout, order
from l2o.optimizer.partial import AnyPlace, reordered, sources


class Owned(NamedTuple):
    """The variables of an optimizer by what they belong to.

    all: Every variable of the optimizer, in the order of `optimizer.variables`.
    model: The model's variables that the optimizer was built on.
    state: Those that hold the leaves of the rule's state.
    places: Returns where the model's variables lie in each leaf, see
        `TrainableOptimizer.state_places`.
    per_variable: Lists in which Keras has one variable for each of the model's, such as the
        moving averages of `use_ema`. A list is empty if its option is off.
    """

    all: Sequence[Any]
    model: Sequence[Any]
    state: Sequence[Any]
    places: Callable[[], Sequence[AnyPlace]]
    per_variable: Sequence[Sequence[Any]]


def is_updated(variable: Any) -> bool:
    """Returns whether a rule updates a variable of a model."""
    # A float8 layer has variables that Keras overwrites with their gradient.
    overwritten = getattr(variable, "overwrite_with_gradient", False)
    return tf.as_dtype(variable.dtype).is_floating and not overwritten


def rearranged(values: Sequence[np.ndarray], owned: Owned) -> list[np.ndarray] | None:
    """Sorts saved values into the order of an optimizer's own variables.

    Args:
        values: A value for each of `owned.all`, saved by an optimizer whose model may have
            listed its variables in another order.
        owned: The variables that the values are for.

    Returns:
        The values for `owned.all`; None if they were saved for other variables.
    """
    index = {id(v): i for i, v in enumerate(owned.all)}
    layout = next((v for v in owned.all if isinstance(v, Layout)), None)
    if layout is None:
        return list(values)
    own = layout.fingerprints
    found = order(values[index[id(layout)]], own)
    if found is None:
        return None
    if found == list(range(len(own))):
        return list(values)
    updated = [v for v in owned.model if is_updated(v)]
    of_updated = [k for v, k in zip(owned.model, found, strict=True) if is_updated(v)]
    ranks = [sorted(of_updated).index(k) for k in of_updated]
    try:
        places = owned.places()
    except NotImplementedError:
        return None
    sorted_ = list(values)
    state = [index[id(v)] for v in owned.state]
    for i, place, source in zip(state, places, sources(places, ranks), strict=True):
        sorted_[i] = reordered(values[state[source]], place, updated, ranks)
    for variables in owned.per_variable:
        at = [index[id(v)] for v in variables]
        for i, source in zip(at, found, strict=bool(at)):
            sorted_[i] = values[at[source]]
    sorted_[index[id(layout)]] = own
    return sorted_
