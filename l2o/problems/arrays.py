"""Arrays that a user gives, as a data set."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from l2o.errors import UserError
from l2o.problems.datasets import Images


class Examples(NamedTuple):
    """Inputs, a nest of [N, ...] arrays, and targets [N, ...]; of any dtype, not scaled."""

    inputs: Any
    targets: np.ndarray

    @property
    def size(self) -> int:
        """The number of examples."""
        return len(self.targets)

    def take(self, index: np.ndarray) -> tuple[Any, tf.Tensor]:
        """Returns inputs and targets at `index`, which has any shape."""
        return self.ready(tf.nest.map_structure(lambda array: tf.constant(array[index]), (*self,)))

    @staticmethod
    def ready(rows: tuple[Any, tf.Tensor]) -> tuple[Any, tf.Tensor]:
        """Returns the inputs and targets that a model gets for rows of these arrays."""
        return rows

    def all(self) -> tuple[Any, tf.Tensor]:
        """Returns all examples, in the form of `take`."""
        return self.take(np.arange(self.size))


class ArrayData(NamedTuple):
    """A data set in memory; `test` is None where there are no held-out examples."""

    name: str
    train: Examples | Images
    test: Examples | Images | None


def from_arrays(given: Any) -> ArrayData:
    """Returns a data set of arrays, after checking them.

    Args:
        given: (x, y) or ((x, y), (x_test, y_test)); x is an array or a dict, tuple or list
            of arrays, y one array. Floats are cast to Keras' float type, as in `fit`.

    Raises:
        UserError: If `given` has another form, lengths differ, or there is no example.
    """
    if not _is_pair(given):
        raise UserError(
            "expected the name of a data set, a Dataset, (x, y) or ((x, y), (x_test, y_test)); "
            f"got {type(given).__name__}",
            "dataset",
        )
    # y is a single array, so a pair in its place holds the held-out examples.
    if _is_pair(given[1]):
        train, test = (_examples(pair) for pair in given)
        return ArrayData("the arrays", train, test)
    return ArrayData("the arrays", _examples(given), None)


def _is_pair(given: Any) -> bool:
    return isinstance(given, tuple) and len(given) == 2


def _examples(pair: Any) -> Examples:
    if not _is_pair(pair):
        raise UserError(f"expected a pair (x, y); got {type(pair).__name__}", "dataset")
    inputs, targets = tf.nest.map_structure(_array, pair[0]), _array(pair[1])
    if not len(targets):
        raise UserError("expected at least one example; got none", "dataset")
    for array in tf.nest.flatten(inputs):
        if len(array) != len(targets):
            raise UserError(
                f"expected as many inputs as targets; got {len(array)} and {len(targets)}",
                "dataset",
            )
    return Examples(inputs, targets)


def _array(given: Sequence[Any] | np.ndarray | tf.Tensor) -> np.ndarray:
    array = np.asarray(given)
    if array.ndim == 0 or array.dtype.kind not in "biuf":
        raise UserError(
            f"expected arrays of numbers with one row per example; got {array.dtype} of "
            f"shape {list(array.shape)}",
            "dataset",
        )
    # `fit` casts too: float64 is NumPy's default, but networks do not compute in it.
    return array.astype(keras.config.floatx(), copy=False) if array.dtype.kind == "f" else array
