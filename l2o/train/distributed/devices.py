"""Replicas: copies of a computation on several devices, of one process or of several."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from l2o.inner.trajectory import Tensors
from l2o.train.distributed.processes import Processes


class Replicas(Processes):
    """Copies of a computation. Each does a part of the work, and all of them get its sum.

    Each process has the same number of replicas, one per device.

    Args:
        strategy: The `tf.distribute` strategy of their devices; None: one replica [None].
        processes: How many processes share the work [1].
        index: The number of this process [0].
    """

    def __init__(
        self, strategy: tf.distribute.Strategy | None = None, processes: int = 1, index: int = 0
    ) -> None:
        self.count = strategy.num_replicas_in_sync if strategy else 1
        # For a single replica a strategy would cost time and change nothing.
        super().__init__(strategy if self.count > 1 else None, processes, index)
        self.devices = list(self._strategy.extended.worker_devices) if self._strategy else [""]
        self.local = len(self.devices)
        # The number of this process's first replica among all.
        self.first = index * self.local

    def each(self, function: Callable[[int], Any]) -> list[Any]:
        """Returns what a function returns for each replica of this process, run on its device.

        Args:
            function: Of the replica's number in this process; called while tracing.
        """
        # Not in TensorFlow's replica context: there Keras divides losses by the number of
        # replicas and synchronizes gradients and layers, as for parts of one model. Here each
        # replica has optimizees of its own.
        done = []
        for k, device in enumerate(self.devices):
            with tf.device(device):
                done.append(function(k))
        return done

    def total(self, parts: Sequence[Sequence[tf.Tensor]]) -> Tensors:
        """Returns sums over all replicas, those of other processes too.

        Args:
            parts: For each replica of this process the same tensors, numbers of any dtype.
                The sums are computed in the dtype of the first tensor.
        """
        if self._strategy is None:
            return list(parts[0])
        like = parts[0]
        # One all-reduce for all tensors: to start one takes longer than to transfer a few numbers.
        flat = self.each(
            lambda k: tf.concat([tf.reshape(tf.cast(t, like[0].dtype), [-1]) for t in parts[k]], 0)
        )
        values = self._strategy.experimental_distribute_values_from_function(
            lambda context: flat[context.replica_id_in_sync_group - self.first]
        )
        summed = self._strategy.reduce(tf.distribute.ReduceOp.SUM, values, axis=None)
        split = tf.split(summed, [t.shape.num_elements() for t in like])
        return [
            tf.cast(tf.reshape(part, t.shape), t.dtype) for part, t in zip(split, like, strict=True)
        ]
