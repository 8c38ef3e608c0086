"""Replicas: the copies of a meta-step that share its optimizees, on devices and machines."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import tensorflow as tf

from l2o.disk.packing import pack, unpack
from l2o.errors import LostWorkerError, UserError

Tensors = list[tf.Tensor]

# What TensorFlow raises in one worker when another has gone.
LOST = (
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    tf.errors.UnavailableError,
)


class Replicas:
    """Copies of a computation, each with a part of the work; all of them hold its sum.

    Each process has the same number of them. What only one process may do (write, decide)
    is done by the chief, which has the first.

    Args:
        strategy: Of `tf.distribute`, made for them; None: there is one [None].
        processes: How many processes share them [1].
        index: Which of those this is [0].
    """

    def __init__(
        self, strategy: tf.distribute.Strategy | None = None, processes: int = 1, index: int = 0
    ) -> None:
        self.count = strategy.num_replicas_in_sync if strategy else 1
        # One alone needs no strategy, which would only cost it time.
        self._strategy = strategy if self.count > 1 else None
        self.processes = processes
        self.index = index
        self.devices = list(self._strategy.extended.worker_devices) if self._strategy else [""]
        self.local = len(self.devices)
        # The number of this process's first among all.
        self.first = index * self.local
        self._gather = tf.function(
            self._gather_once, input_signature=[tf.TensorSpec([None], tf.int32)], autograph=False
        )

    @property
    def is_chief(self) -> bool:
        """Whether this process writes and decides."""
        return self.index == 0

    def each(self, function: Callable[[int], Any]) -> list[Any]:
        """Returns what a function returns for each replica of this process, run on its device.

        Args:
            function: k -> whatever the k-th of them shall do; called while tracing.
        """
        # Not in a replica context of TensorFlow's: what Keras does there (scale a loss by the
        # number of replicas, add up gradients, synchronize layers) joins parts of one model,
        # and these are optimizees that must not know of each other.
        done = []
        for k, device in enumerate(self.devices):
            with tf.device(device):
                done.append(function(k))
        return done

    def total(self, parts: Sequence[Sequence[tf.Tensor]]) -> Tensors:
        """Returns sums over all replicas, those of other processes too.

        Args:
            parts: For each replica of this process the same tensors, numbers of any dtype;
                they are added up in that of the first.
        """
        if self._strategy is None:
            return list(parts[0])
        like = parts[0]
        # One operation for all of them: what a small one costs is to start it.
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

    def exchange(self, blob: bytes) -> list[bytes]:
        """Returns what each process gave; all of them have to call it at the same point."""
        if self.processes == 1:
            return [blob]
        words = np.frombuffer(blob + b"\0" * (-len(blob) % 4), np.int32)
        head = np.array([self.index, len(blob)], np.int32)
        sizes, everything = self._gather(np.concatenate([head, words]))
        parts = np.split(everything.numpy(), np.cumsum(sizes.numpy())[:-1])
        # TensorFlow has an order of its own, and all replicas of a process give the same.
        given = {int(part[0]): part[2:].tobytes()[: part[1]] for part in parts}
        return [given[index] for index in range(self.processes)]

    def _gather_once(self, words: tf.Tensor) -> Any:
        assert self._strategy is not None
        every = self._strategy.experimental_distribute_values_from_function
        sizes = self._strategy.gather(every(lambda _: tf.shape(words)), 0)
        return sizes, self._strategy.gather(every(lambda _: tf.identity(words)), 0)

    def from_chief(self, make: Callable[[], bytes | None]) -> bytes:
        """Returns what `make` returns in the chief; the others do not call it.

        Raises:
            UserError: In all processes, if `make` raises it.
        """
        if self.processes == 1:
            return make() or b""
        answer = b""
        if self.is_chief:
            try:
                answer = b"+" + (make() or b"")
            except UserError as error:
                answer = b"-" + json.dumps([error.message, error.path]).encode()
        answer = self.exchange(answer)[0]
        if answer.startswith(b"-"):
            raise UserError(*json.loads(answer[1:]))
        return answer[1:]

    def merge(self, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Returns the arrays of all processes; where names are the same, this process's."""
        if self.processes == 1:
            return dict(arrays)
        found: dict[str, np.ndarray] = {}
        for blob in self.exchange(pack(arrays)):
            found.update(unpack(blob))
        return {**found, **arrays}

    @contextmanager
    def lost_workers_reported(self) -> Iterator[None]:
        """Raises LostWorkerError for what TensorFlow raises when another process has gone."""
        try:
            yield
        except LOST as error:
            if self.processes == 1:
                raise
            raise lost_worker(error) from None

    def check_same(self, config: Mapping[str, Any], differing: Callable[..., list[str]]) -> None:
        """Checks that all workers have the same config.

        Args:
            config: This one's, JSON values.
            differing: (config, config) -> the paths where they differ.

        Raises:
            UserError: In all of them, if one has another than the chief, or another number
                of devices.
        """
        try:
            chief, *others = map(json.loads, self.exchange(json.dumps(config).encode()))
        except tf.errors.InternalError as error:
            raise UserError(
                f"the workers do not fit together ({_first_line(error)}): expected the same "
                "number of GPUs for each; --cpu and --gpus choose"
            ) from None
        for i, other in enumerate(others, start=1):
            if paths := differing(chief, other):
                raise UserError(
                    f"worker {i} has another config than worker 0, the chief (it differs in "
                    f"{', '.join(paths[:5])}): expected the same for all workers"
                )


def lost_worker(error: tf.errors.OpError) -> LostWorkerError:
    """Returns what an error of TensorFlow means that tells of another worker's end."""
    return LostWorkerError(
        f"lost another worker ({_first_line(error)}); finished periods are kept: start all workers "
        "again to go on"
    )


def _first_line(error: tf.errors.OpError) -> str:
    # TensorFlow says the same in many lines, and names its own nodes before it.
    lines = [re.sub(r"{{.*?}}", "", line).strip() for line in error.message.splitlines()]
    return next((line for line in lines if "aborted" in line), (lines or [""])[0])[:200]
