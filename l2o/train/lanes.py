"""How the coordinates of an optimizee are cut for the update rule.

A rule that treats every coordinate alike may see them in any grouping. Equal lanes, at
least as many as there are cores and no larger than a core's cache, run at the same time
and independently of each other; see docs/performance.md.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from l2o.optimizer import TrainableOptimizer

Tensors = list[tf.Tensor]
# Coordinates in a lane: the state and the gates of more leave the cache, and of fewer cost
# less to compute than to start.
LARGEST_LANE = 3984
SMALLEST_LANE = 500
# Each lane takes time to trace: an optimizee of millions has large ones.
MOST_LANES = 8
# Lanes are multiples of it, so that no processor's vectors leave a rest.
VECTOR = 16


class Whole:
    """One lane: the parameters as they are. For every rule."""

    # Whether the rule may read the parameters' values.
    parameters = True
    count = 1

    def cut(self, tensors: Tensors) -> list[Tensors]:
        """Returns the lanes of tensors shaped as the parameters."""
        return [tensors]

    def join(self, lanes: Sequence[Tensors]) -> Tensors:
        """Undoes `cut`."""
        return lanes[0]

    def cut_series(self, tensors: Tensors) -> list[Tensors]:
        """Returns the lanes of tensors [T, ...] with entries shaped as the parameters."""
        return [tensors]

    def cut_state(self, state: Any) -> list[Any]:
        """Returns the state of each lane."""
        return [state]

    def join_state(self, lanes: Sequence[Any]) -> Any:
        """Undoes `cut_state`."""
        return lanes[0]


class Coordinates:
    """Lanes of one vector of `size` coordinates each, the last one padded with zeros.

    Args:
        params: The optimizee's parameters; only shapes and dtypes matter.
        count: How many lanes.
        dtype: What the rule computes in.
    """

    parameters = False

    def __init__(self, params: Sequence[tf.Tensor], count: int, dtype: tf.DType) -> None:
        self._shapes = [p.shape for p in params]
        self._sizes = [p.shape.num_elements() for p in params]
        self._dtypes = [p.dtype for p in params]
        self._dtype = dtype
        self.n = sum(self._sizes)
        self.count = count
        size = -(-self.n // count)
        self.padding = (size + -size % VECTOR) * count - self.n

    def cut(self, tensors: Tensors) -> list[Tensors]:
        """See `Whole.cut`."""
        flat = [tf.reshape(tf.cast(t, self._dtype), [-1]) for t in tensors]
        padded = tf.concat([*flat, tf.zeros([self.padding], self._dtype)], 0)
        return [[lane] for lane in tf.split(padded, self.count)]

    def join(self, lanes: Sequence[Tensors]) -> Tensors:
        """See `Whole.join`."""
        flat = tf.concat([lane for (lane,) in lanes], 0)
        parts = tf.split(flat, [*self._sizes, self.padding])[: len(self._sizes)]
        return [
            tf.cast(tf.reshape(part, shape), dtype)
            for part, shape, dtype in zip(parts, self._shapes, self._dtypes, strict=True)
        ]

    def cut_series(self, tensors: Tensors) -> list[Tensors]:
        """See `Whole.cut_series`."""
        flat = tf.concat(
            [
                tf.reshape(tf.cast(t, self._dtype), [tf.shape(t)[0], size])
                for t, size in zip(tensors, self._sizes, strict=True)
            ],
            1,
        )
        padded = tf.pad(flat, [[0, 0], [0, self.padding]])
        return [[lane] for lane in tf.split(padded, self.count, 1)]

    def cut_state(self, state: Any) -> list[Any]:
        """See `Whole.cut_state`."""

        def cut(leaf: tf.Tensor) -> list[tf.Tensor]:
            if leaf.shape.rank == 0:
                return [leaf] * self.count
            padding = [[0, 0]] * (leaf.shape.rank - 1) + [[0, self.padding]]
            return tf.split(tf.pad(leaf, padding), self.count, -1)

        lanes = zip(*[cut(leaf) for leaf in tf.nest.flatten(state)], strict=True)
        return [tf.nest.pack_sequence_as(state, list(lane)) for lane in lanes]

    def join_state(self, lanes: Sequence[Any]) -> Any:
        """See `Whole.join_state`."""

        def join(*leaves: tf.Tensor) -> tf.Tensor:
            if leaves[0].shape.rank == 0:
                return leaves[0]
            return tf.concat(leaves, -1)[..., : self.n]

        return tf.nest.map_structure(join, *lanes)


Lanes = Whole | Coordinates


def lanes_for(optimizer: TrainableOptimizer, params: Sequence[tf.Tensor]) -> Lanes:
    """Returns the lanes in which `optimizer` runs fastest on this machine.

    Args:
        optimizer: Its rule.
        params: The optimizee's parameters.
    """
    n = sum(p.shape.num_elements() for p in params)
    if not optimizer.coordinatewise or not n:
        return Whole()
    if tf.config.list_logical_devices("GPU"):
        count = 1
    else:
        wanted = max(min(cores(), n // SMALLEST_LANE), -(-n // LARGEST_LANE))
        count = max(1, min(wanted, max(MOST_LANES, cores())))
    return Coordinates(params, count, optimizer.network.compute_dtype)


def cores() -> int:
    """Returns how many cores this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)  # Linux
    return len(affinity(0)) if affinity else os.cpu_count() or 1
