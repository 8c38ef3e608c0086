"""Which variables an optimizer's state belongs to, as numbers that are saved with the state.

The state of a rule is a few vectors over all coordinates. If a model lists its variables in
another order when it is loaded, their entries would go to the wrong variables. So the optimizer
has one more variable, with two fingerprints for each variable of the model, and a loaded state is
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
    """The fingerprints of an optimizer's variables: [variables, 2] int64, never changed.

    Assigning the fingerprints of other variables, or of another order, raises ValueError. This
    protects an optimizer that is restored one variable after the other.

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
        # A graph's tensor was computed in this process, from this variable.
        if tf.is_symbolic_tensor(value):
            return self.value
        found = order(np.asarray(value), self.fingerprints)
        if found != list(range(len(self.fingerprints))):
            raise ValueError(
                f"Expected the state of {len(self.fingerprints)} variables in the order in which "
                f"{self.path} has them. Received: the state of other variables, or another order"
            )
        return self.value

    def _restore_from_tensors(self, restored_tensors: dict[str, tf.Tensor]) -> Any:
        # `tf.train.Checkpoint` calls this in place of `assign`.
        for value in restored_tensors.values():
            self.assign(value)
        return self.value


def fingerprints(variables: Sequence[Any]) -> np.ndarray:
    """Returns two hashes for each variable: of its name, and of its kind.

    Args:
        variables: Variables of Keras or of TensorFlow.

    Returns:
        [variables, 2] int64. The first column hashes `names`, the second the last part of the
        path (`kernel`) with the shape.
    """
    called = [_number(name) for name in names(variables)]
    kinds = [
        _number(f"{path[-1]} {tuple(v.shape)}")
        for path, v in zip(_paths(variables), variables, strict=True)
    ]
    return np.stack([np.array(called, np.int64), np.array(kinds, np.int64)], 1)


def order(saved: np.ndarray, own: np.ndarray) -> list[int] | None:
    """Finds the variables of a saved state among those of an optimizer.

    Args:
        saved: `fingerprints` of the variables that the state was saved with.
        own: `fingerprints` of the optimizer's variables.

    Returns:
        The index of the saved variable for each own variable; None if they do not correspond.
        If all names differ but the kinds agree one by one, as in a model that was made a second
        time with other names, the variables correspond in order.
    """
    if saved.shape != own.shape or saved.dtype != own.dtype:
        return None
    given, wanted = (list(map(tuple, rows.tolist())) for rows in (saved, own))
    if Counter(given) == Counter(wanted):
        places: dict[Any, list[int]] = defaultdict(list)
        for i, row in enumerate(given):
            places[row].append(i)
        return [places[row].pop(0) for row in wanted]
    renamed = own[:, 0] != saved[:, 0]
    known = set(saved[:, 0].tolist()) & set(own[renamed, 0].tolist())
    if known or not np.array_equal(saved[:, 1], own[:, 1]):
        return None
    return list(range(len(own)))


def names(variables: Sequence[Any]) -> list[str]:
    """Returns names that stay the same when a model is saved, loaded, cloned or made a second time.

    Depending on who built a layer, its path begins with the names of the models around it or does
    not. So a name is the end of the path: layer and variable, and more of the path only where that
    is not unique. Keras' numbers (`dense_7`) are replaced by ranks, from 0, among the names that
    differ only in the number.
    """
    paths = _paths(variables)
    ends = [path[-2:] for path in paths]
    for length in range(3, max(map(len, paths), default=0) + 1):
        times = Counter(ends)
        ends = [
            path[-length:] if times[end] > 1 else end for path, end in zip(paths, ends, strict=True)
        ]
    found = list(ends)
    for depth in range(max(map(len, ends), default=0)):
        # The numbers by what precedes the name and by the name without its number.
        siblings: dict[Any, set[int]] = defaultdict(set)
        for end in found:
            if depth < len(end):
                base, number = _split(end[depth])
                siblings[end[:depth], base].add(number)
        ranks = {key: sorted(numbers) for key, numbers in siblings.items()}
        for i, end in enumerate(found):
            if depth < len(end):
                base, number = _split(end[depth])
                rank = ranks[end[:depth], base].index(number)
                found[i] = (*end[:depth], f"{base}#{rank}", *end[depth + 1 :])
    return ["/".join(end) for end in found]


def _paths(variables: Sequence[Any]) -> list[tuple[str, ...]]:
    # A name from TensorFlow ends in ":0".
    texts = [v.path if isinstance(v, keras.Variable) else v.name.split(":")[0] for v in variables]
    return [tuple(text.split("/")) for text in texts]


def _split(name: str) -> tuple[str, int]:
    match = re.fullmatch(r"(.*?)_(\d+)", name)
    return (match[1], int(match[2])) if match else (name, -1)


def _number(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little", signed=True)
