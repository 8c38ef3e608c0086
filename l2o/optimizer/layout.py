"""Which variables an optimizer's state belongs to, as numbers that are saved with the state.

The state of a rule is a few vectors over all coordinates. Read back for a model that lists its
variables in another order, they would go to the wrong ones. So beside them lies a variable
with fingerprints for each variable of the model, and what is loaded is held against it.
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

    Assigning it those of a state that does not belong to these variables, in this order, is an
    error. So is whatever restores an optimizer variable by variable. Zeros, by which a state is
    reset, say nothing and are taken.

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
            # What a graph assigns, it has from an optimizer that was built on the same model.
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
    """Returns three numbers for each variable: its name, its kind, and what it looks like.

    Args:
        variables: Variables of Keras or of TensorFlow.

    Returns:
        [variables, 3] int64, below 2^48, so that float64 holds them too: of `names`; of the
        same without the numbers that Keras gives (`dense_7`), with the shape; and of the last
        part of the path (`kernel`) with the shape.
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
        For each own variable the index of the saved one: by the names, if they are the same.
        A model that was made again has other numbers in its names, or all others, and lists its
        variables as before: they correspond in order, if each looks like the other. None: they
        do not correspond.
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
    # TensorFlow's end in ":0".
    texts = [v.path if isinstance(v, keras.Variable) else v.name.split(":")[0] for v in variables]
    paths = [tuple(text.split("/")) for text in texts]
    ends = [path[-2:] for path in paths]
    for length in range(3, max(map(len, paths), default=0) + 1):
        times = Counter(ends)
        ends = [
            path[-length:] if times[end] > 1 else end for path, end in zip(paths, ends, strict=True)
        ]
    return ["/".join(end) for end in ends]


def _number(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6], "little")
