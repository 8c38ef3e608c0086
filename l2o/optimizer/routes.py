"""Which way each variable of a model takes through a rule that has several."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import keras

from l2o.optimizer.layout import path_of

# (path, shape) -> whether.
Predicate = Callable[[str, tuple[int, ...]], bool]


class Route(NamedTuple):
    """The way of one variable.

    variable: Its path.
    shape: Its shape.
    way: What updates it.
    """

    variable: str
    shape: tuple[int, ...]
    way: str


class Routes(tuple[Route, ...]):
    """A `Route` for each variable; printed, it is a table."""

    def __str__(self) -> str:
        rows = [("variable", "shape", "updated by"), *((n, str(s), w) for n, s, w in self)]
        widths = [max(len(row[i]) for row in rows) for i in range(2)]
        return "\n".join(f"{n:{widths[0]}}  {s:{widths[1]}}  {w}" for n, s, w in rows)


def routes(model: Any, way: Callable[[str, tuple[int, ...]], str]) -> Routes:
    """Returns the ways of a model's trainable variables.

    Args:
        model: A Keras model that is built, or a list of variables.
        way: (path, shape) -> what updates the variable.
    """
    variables = model.trainable_variables if isinstance(model, keras.layers.Layer) else model
    found = [(path_of(v), tuple(v.shape)) for v in variables]
    return Routes(Route(path, shape, way(path, shape)) for path, shape in found)


def is_chosen(
    choice: Sequence[str] | Predicate | None, path: str, shape: tuple[int, ...], default: bool
) -> bool:
    """Returns whether a user has chosen a variable.

    Args:
        choice: Names, see `is_named`, or a function of path and shape.
        path: The variable's.
        shape: The variable's.
        default: What is returned if `choice` is None.
    """
    if choice is None:
        return default
    return choice(path, shape) if callable(choice) else is_named(path, choice)


def is_named(path: str, names: Sequence[str]) -> bool:
    """Returns whether one of the names is a part of a path: `dense`, `dense/kernel` or `kernel`."""
    return any(f"/{name.strip('/')}/" in f"/{path}/" for name in names)


def is_embedding(path: str) -> bool:
    """Returns whether a path is that of a table of embeddings, which Keras calls `embeddings`."""
    return path.rpartition("/")[2].endswith("embeddings")
