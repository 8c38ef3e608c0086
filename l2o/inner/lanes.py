"""Lanes: the chunks of coordinates that the update rule computes one by one.

A rule that treats every coordinate alike gives the same result for every grouping of them.
Equal lanes run in parallel and independently of each other. There are at least as many as
cores, and none is larger than a core's cache; see docs/performance.md.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from l2o.inner.trajectory import Tensors
from l2o.optimizer import TrainableOptimizer

# Coordinates in a lane. The state and the gates of a larger lane leave the cache. Starting a
# smaller one costs more than computing it.
LARGEST_LANE = 3984
SMALLEST_LANE = 500
# Each lane takes time to trace, so an optimizee of millions has few large ones.
MOST_LANES = 8
# Lanes are multiples of it, so that they fill every processor's vectors.
VECTOR = 16


class Uncut:
    """Parameters in their own shapes, for every rule.

    One optimizee is one lane. K side by side are divided among several.

    Args:
        optimizees: K, the first axis of all tensors; None: one, without an axis [None].
        lanes: At most how many lanes; None: as many as there are cores [None].
    """

    # Whether the rule gets the parameters' values.
    parameters = True

    def __init__(self, optimizees: int | None = None, lanes: int | None = None) -> None:
        self.stacked = optimizees is not None
        self.count = min(optimizees, lanes or cores()) if optimizees else 1
        self._sizes = [len(range(k, optimizees or 1, self.count)) for k in range(self.count)]

    def cut(self, tensors: Tensors) -> list[Tensors]:
        """Returns the lanes of tensors shaped as the parameters."""
        return self._split(tensors, 0)

    def join(self, lanes: Sequence[Tensors]) -> Tensors:
        """Undoes `cut`."""
        if not self.stacked:
            return list(lanes[0])
        return [tf.concat(parts, 0) for parts in zip(*lanes, strict=True)]

    def cut_series(self, tensors: Tensors) -> list[Tensors]:
        """Returns the lanes of tensors [T, ...] with entries shaped as the parameters."""
        return self._split(tensors, 1)

    def scale(self, lane: int, by: tf.Tensor, tensors: Tensors) -> Tensors:
        """Returns the tensors of a lane, multiplied by one number for each optimizee."""
        if not self.stacked:
            return [tf.cast(by, t.dtype) * t for t in tensors]
        by = tf.split(by, self._sizes)[lane]
        return [
            tf.reshape(tf.cast(by, t.dtype), [-1] + [1] * (t.shape.rank - 1)) * t for t in tensors
        ]

    def cut_state(self, state: Any) -> list[Any]:
        """Returns the state of each lane."""
        lanes = self._split(tf.nest.flatten(state), 0)
        return [tf.nest.pack_sequence_as(state, lane) for lane in lanes]

    def join_state(self, lanes: Sequence[Any], like: Any) -> Any:
        """Undoes `cut_state`.

        Args:
            lanes: The state of each lane.
            like: A state of the structure and shapes to return.
        """
        flat = self.join([tf.nest.flatten(lane) for lane in lanes])
        return tf.nest.pack_sequence_as(like, flat)

    def _split(self, tensors: Tensors, axis: int) -> list[Tensors]:
        if not self.stacked:
            return [list(tensors)]
        lanes = [tf.split(t, self._sizes, axis) for t in tensors]
        return [[parts[k] for parts in lanes] for k in range(self.count)]


class Coordinates:
    """Lanes of one vector each, equally long; the last one is padded with zeros.

    Args:
        params: The optimizee's parameters; only shapes and dtypes matter.
        count: How many lanes.
        dtype: What the rule computes in.
        optimizees: As for `Uncut` [None].
    """

    parameters = False
    stacked = False

    def __init__(
        self,
        params: Sequence[tf.Tensor],
        count: int,
        dtype: tf.DType,
        optimizees: int | None = None,
    ) -> None:
        self._shapes = [p.shape for p in params]
        self._optimizees = optimizees or 1
        self._sizes = [p.shape.num_elements() // self._optimizees for p in params]
        self._dtypes = [p.dtype for p in params]
        self._dtype = dtype
        self._batched = optimizees is not None
        # Coordinates of one optimizee, and of all.
        self.n = sum(self._sizes)
        self.total = self.n * self._optimizees
        self.count = count
        self._size = -(-self.total // count)
        self._size += -self._size % VECTOR
        self.padding = self._size * count - self.total

    def cut(self, tensors: Tensors) -> list[Tensors]:
        """See `Uncut.cut`."""
        if self._batched:
            rows = [tf.reshape(tf.cast(t, self._dtype), [self._optimizees, -1]) for t in tensors]
            flat = [tf.reshape(tf.concat(rows, 1), [-1])]
        else:
            flat = [tf.reshape(tf.cast(t, self._dtype), [-1]) for t in tensors]
        padded = tf.concat([*flat, tf.zeros([self.padding], self._dtype)], 0)
        return [[lane] for lane in tf.split(padded, self.count)]

    def join(self, lanes: Sequence[Tensors]) -> Tensors:
        """See `Uncut.join`."""
        flat = tf.concat([lane for (lane,) in lanes], 0)
        if self._batched:
            flat = tf.reshape(flat[: self.total], [self._optimizees, self.n])
            parts = tf.split(flat, self._sizes, 1)
        else:
            parts = tf.split(flat, [*self._sizes, self.padding])[: len(self._sizes)]
        return [
            tf.cast(tf.reshape(part, shape), dtype)
            for part, shape, dtype in zip(parts, self._shapes, self._dtypes, strict=True)
        ]

    def cut_series(self, tensors: Tensors) -> list[Tensors]:
        """See `Uncut.cut_series`."""
        flat = tf.concat(
            [
                tf.reshape(tf.cast(t, self._dtype), [tf.shape(t)[0], self._optimizees, size])
                for t, size in zip(tensors, self._sizes, strict=True)
            ],
            2,
        )
        flat = tf.reshape(flat, [tf.shape(flat)[0], self.total])
        padded = tf.pad(flat, [[0, 0], [0, self.padding]])
        return [[lane] for lane in tf.split(padded, self.count, 1)]

    def scale(self, lane: int, by: tf.Tensor, tensors: Tensors) -> Tensors:
        """See `Uncut.scale`."""
        if self._batched:
            # Padding takes the last optimizee's factor; its value does not matter.
            start = lane * self._size
            of = np.minimum(np.arange(start, start + self._size) // self.n, self._optimizees - 1)
            by = tf.gather(by, of.astype(np.int32))
        return [tf.cast(by, t.dtype) * t for t in tensors]

    def cut_state(self, state: Any) -> list[Any]:
        """See `Uncut.cut_state`."""

        def cut(leaf: tf.Tensor) -> list[tf.Tensor]:
            if self._batched:
                leaf = self._joined(leaf)
            if leaf.shape.rank == 0:
                return [leaf] * self.count
            padding = [[0, 0]] * (leaf.shape.rank - 1) + [[0, self.padding]]
            return tf.split(tf.pad(leaf, padding), self.count, -1)

        lanes = zip(*[cut(leaf) for leaf in tf.nest.flatten(state)], strict=True)
        return [tf.nest.pack_sequence_as(state, list(lane)) for lane in lanes]

    def _joined(self, leaf: tf.Tensor) -> tf.Tensor:
        """Returns [..., K n] from [K, ..., n]."""
        if leaf.shape.rank == 1:
            # One number of an optimizee is repeated for each of its coordinates.
            return tf.repeat(leaf, self.n)
        order = [*range(1, leaf.shape.rank - 1), 0, leaf.shape.rank - 1]
        return tf.reshape(tf.transpose(leaf, order), [*leaf.shape[1:-1], self.total])

    def join_state(self, lanes: Sequence[Any], like: Any) -> Any:
        """See `Uncut.join_state`."""

        def join(old: tf.Tensor, *leaves: tf.Tensor) -> tf.Tensor:
            if leaves[0].shape.rank == 0:
                return leaves[0]
            leaf = tf.concat(leaves, -1)[..., : self.total]
            if not self._batched:
                return leaf
            leaf = tf.reshape(leaf, [*leaf.shape[:-1], self._optimizees, self.n])
            if old.shape.rank == 1:
                return leaf[:, 0]
            last = leaf.shape.rank - 1
            return tf.transpose(leaf, [last - 1, *range(last - 1), last])

        return tf.nest.map_structure(join, like, *lanes)


Lanes = Uncut | Coordinates


def lanes_for(
    optimizer: TrainableOptimizer, params: Sequence[tf.Tensor], optimizees: int | None = None
) -> Lanes:
    """Returns the lanes in which a learned optimizer runs fastest on this machine.

    Args:
        optimizer: The learned optimizer.
        params: The optimizee's parameters.
        optimizees: As for `Uncut` [None].
    """
    n = sum(p.shape.num_elements() for p in params)
    if not optimizer.coordinatewise or not n:
        return Uncut(optimizees)
    if tf.config.list_logical_devices("GPU"):
        count = 1
    else:
        wanted = max(min(cores(), n // SMALLEST_LANE), -(-n // LARGEST_LANE))
        count = max(1, min(wanted, max(MOST_LANES, cores())))
    return Coordinates(params, count, optimizer.network.compute_dtype, optimizees)


def cores() -> int:
    """Returns how many cores this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)  # Linux
    return len(affinity(0)) if affinity else os.cpu_count() or 1
