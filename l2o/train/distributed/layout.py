"""Where the optimizees of a meta-step are: on which replica, and at which index of its axis."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from l2o.inner import batched
from l2o.inner.trajectory import Tensors
from l2o.train.distributed.devices import Replicas


class Layout:
    """Optimizees, equally many on each replica.

    The tensors of all optimizees of this process (states, mini-batches, seeds) are one value. With
    one replica per process, the value is a nest of tensors; with more, it is a list of nests, one
    for each. Only this class knows which. The nest of a single optimizee has no axis of
    optimizees.

    Args:
        replicas: Which share the optimizees [one].
        per_replica: How many optimizees each replica has [1].

    Attributes:
        own: The numbers of this process's optimizees among all.
    """

    def __init__(self, replicas: Replicas | None = None, per_replica: int = 1) -> None:
        self.replicas = replicas or Replicas()
        self.per_replica = per_replica
        first = self.replicas.first * per_replica
        self.own = range(first, first + self.replicas.local * per_replica)

    def stack(self, optimizees: Sequence[Any], axis: int = 0) -> Any:
        """Returns one value from a nest for each optimizee of this process.

        Args:
            optimizees: Nests of the same structure.
            axis: Where the axis of optimizees goes [0].
        """
        starts = range(0, len(optimizees), self.per_replica)
        parts = [optimizees[k : k + self.per_replica] for k in starts]
        if self.per_replica == 1:
            return self._joined([part[0] for part in parts])
        return self._joined([batched.stack(part, axis) for part in parts])

    def put(self, value: Any, index: int, optimizee: Any) -> Any:
        """Returns a value in which the nest of one optimizee is replaced.

        Args:
            value: As `stack` returns it.
            index: The optimizee's number in this process.
            optimizee: Its new nest.
        """
        replica, k = divmod(index, self.per_replica)
        parts = self.parts(value)
        parts[replica] = (
            optimizee if self.per_replica == 1 else batched.put(parts[replica], k, optimizee)
        )
        return self._joined(parts)

    def take(self, value: Any, index: int) -> Any:
        """Returns the nest of one optimizee; `index` is its number in this process."""
        replica, k = divmod(index, self.per_replica)
        part = self.parts(value)[replica]
        return part if self.per_replica == 1 else batched.take(part, k)

    def make(self, create: Callable[[], Any]) -> Any:
        """Returns one value from what `create` returns on the device of each replica."""
        return self._joined(self.replicas.each(lambda k: create()))

    def parts(self, value: Any) -> list[Any]:
        """Returns the part of each replica of this process."""
        return [value] if self.replicas.local == 1 else list(value)

    def run(
        self, function: Callable[..., tuple[Tensors, Tensors, Any]], *values: Any
    ) -> tuple[Tensors, Tensors, Any]:
        """Runs a function on each replica; all-reduces what it returns.

        Args:
            function: Of a replica's part of each value; called while tracing. Returns tensors
                to add up, tensors of the replica's optimizees (scalars or [K]) and a nest.
            values: As `stack` and `make` return them.

        Returns:
            The sums over all replicas, the tensors of all optimizees (a scalar if there is one
            in all, else [optimizees]), and the nests as one value.
        """
        arguments = list(zip(*map(self.parts, values), strict=True))
        counts = []

        def one(k: int) -> tuple[Tensors, Any]:
            sums, own, end = function(*arguments[k])
            counts.append(len(sums))
            return [*sums, *self._padded(k, own)], end

        parts, ends = zip(*self.replicas.each(one), strict=True)
        total = self.replicas.total(parts)
        return total[: counts[0]], total[counts[0] :], self._joined(list(ends))

    def _padded(self, k: int, own: Tensors) -> Tensors:
        """Returns [optimizees] with zeros for those of other replicas: their sum has all."""
        if self.replicas.count == 1:
            return list(own)
        before = (self.replicas.first + k) * self.per_replica
        after = self.replicas.count * self.per_replica - before - self.per_replica
        return [tf.pad(tf.reshape(t, [self.per_replica]), [[before, after]]) for t in own]

    def _joined(self, parts: list[Any]) -> Any:
        return parts[0] if self.replicas.local == 1 else parts
