"""Which variables an optimizer's state belongs to, as numbers that are saved with the state.

The state of a rule is a few vectors over all coordinates. If a model lists its variables in
another order when it is loaded, their entries would go to the wrong variables. So the optimizer
has one more variable, with fingerprints for each variable of the model, and a loaded state is
compared with it.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf


class Layout(keras.Variable):
    """The fingerprints of an optimizer's variables: [variables, 3] int64, never changed.

    Assigning the fingerprints of other variables, or of another order, raises an error. This
    protects an optimizer that is restored one variable after the other. Zeros are accepted, since
    a state may be reset to zeros; the fingerprints stay.

    Args:
        variables: The model's variables, as the optimizer was built on them.
        name: Name of the variable.
    """

    def __init__(self, variables: Sequence[Any], name: str) -> None:
        self.fingerprints = fingerprints(variables)
        super().__init__(
            tf.constant(self.fingerprints),
            dtype="int64",
            trainable=False,
            aggregation="only_first_replica",
            name=name,
        )

    def assign(self, value: Any) -> Any:
        """Checks a value; see `keras.Variable.assign`."""
        message = (
            f"Expected the state of {len(self.fingerprints)} variables in the order in which "
            f"{self.path} has them. Received: that of other variables, or in another order"
        )
        if tf.is_symbolic_tensor(value):
            # The value is known only when the graph runs.
            fits = (value == self.fingerprints) | (value == 0)
            tf.debugging.Assert(tf.reduce_all(fits), [message])
            return self.value
        given = np.asarray(value)
        if given.any() and order(given, self.fingerprints) != list(range(len(self.fingerprints))):
            raise ValueError(message)
        return self.value

    def _restore_from_tensors(self, restored_tensors: dict[str, tf.Tensor]) -> Any:
        # `tf.train.Checkpoint` calls this in place of `assign`.
        for value in restored_tensors.values():
            self.assign(value)
        return self.value


def fingerprints(variables: Sequence[Any]) -> np.ndarray:
    """Returns three hashes for each variable: of its name, of its kind and of its look.

    Args:
        variables: Variables of Keras or of TensorFlow.

    Returns:
        [variables, 3] int64, below 2^48, so that float64 holds them too. The name is that of
        `names`. The kind is the name without the numbers that Keras gives (`dense_7`), with the
        shape. The look is the last part of the path (`kernel`), with the shape.
    """
    rows = []
    for name, variable in zip(names(variables), variables, strict=True):
        shape = tuple(variable.shape)
        kind = re.sub(r"_\d+(?=/|$)", "", name)
        look = name.rpartition("/")[2]
        rows.append([_number(name), _number(f"{kind} {shape}"), _number(f"{look} {shape}")])
    return np.array(rows, np.int64).reshape(-1, 3)


def order(saved: np.ndarray, own: np.ndarray) -> list[int] | None:
    """Finds the variables of a saved state among those of an optimizer.

    Args:
        saved: `fingerprints` of the variables that the state was saved with.
        own: `fingerprints` of the optimizer's variables.

    Returns:
        The index of the saved variable for each own variable; None if they do not correspond.
        If the names are the same, variables of the same name correspond. If a model is made a
        second time, its names have other numbers or are all different, but its variables keep
        their order: they correspond in order if their looks agree.
    """
    if saved.shape != own.shape:
        return None
    given, wanted = (list(map(tuple, rows[:, [0, 2]].tolist())) for rows in (saved, own))
    if Counter(given) == Counter(wanted):
        places: dict[Any, list[int]] = defaultdict(list)
        for i, row in enumerate(given):
            places[row].append(i)
        return [places[row].pop(0) for row in wanted]
    in_order = list(range(len(own)))
    if np.array_equal(saved[:, 1], own[:, 1]):
        return in_order
    other = saved[:, 1] != own[:, 1]
    for column in (0, 1):
        # A name that is known, in another place.
        if set(saved[:, column].tolist()) & set(own[other, column].tolist()):
            return None
    return in_order if np.array_equal(saved[:, 2], own[:, 2]) else None


def names(variables: Sequence[Any]) -> list[str]:
    """Returns names that a model keeps when it is saved and loaded.

    A path begins with the names of the models around a layer, or it does not, depending on who
    built the layer. So a name is the end of the path: layer and variable, and more of it only
    where that is not unique.
    """
    paths = [tuple(path_of(v).split("/")) for v in variables]
    ends = [path[-2:] for path in paths]
    for length in range(3, max(map(len, paths), default=0) + 1):
        times = Counter(ends)
        ends = [
            path[-length:] if times[end] > 1 else end for path, end in zip(paths, ends, strict=True)
        ]
    return ["/".join(end) for end in ends]


def path_of(variable: Any) -> str:
    """Returns the path of a variable of Keras or of TensorFlow: `sequential/dense/kernel`."""
    if isinstance(variable, keras.Variable):
        return variable.path
    return variable.name.split(":")[0]  # TensorFlow's end in ":0"


def _number(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6], "little")
