"""Processes: what the machines of one run tell each other, and what happens if one is lost."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import tensorflow as tf

from l2o.disk.packing import pack, unpack
from l2o.errors import LostWorkerError, UserError

# What TensorFlow raises in a worker after another one was lost.
LOST = (
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    tf.errors.UnavailableError,
)


class Processes:
    """The processes that share a run, one per machine. They exchange bytes with each other.

    The chief, process 0, does what only one process may do: it writes files and decides.

    Args:
        strategy: The `tf.distribute` strategy that connects them; None if there is one.
        processes: How many there are.
        index: The number of this one.
    """

    def __init__(self, strategy: tf.distribute.Strategy | None, processes: int, index: int) -> None:
        self._strategy = strategy
        self.processes = processes
        self.index = index
        self._gather = tf.function(
            self._gather_once, input_signature=[tf.TensorSpec([None], tf.int32)], autograph=False
        )

    @property
    def is_chief(self) -> bool:
        """Whether this process is the chief."""
        return self.index == 0

    def exchange(self, blob: bytes) -> list[bytes]:
        """Returns the blob of each process, by number; all processes must call it together."""
        if self.processes == 1:
            return [blob]
        words = np.frombuffer(blob + b"\0" * (-len(blob) % 4), np.int32)
        head = np.array([self.index, len(blob)], np.int32)
        sizes, everything = self._gather(np.concatenate([head, words]))
        parts = np.split(everything.numpy(), np.cumsum(sizes.numpy())[:-1])
        # TensorFlow gathers in an order of its own, once for each replica of a process.
        given = {int(part[0]): part[2:].tobytes()[: part[1]] for part in parts}
        return [given[index] for index in range(self.processes)]

    def _gather_once(self, words: tf.Tensor) -> Any:
        assert self._strategy is not None
        every = self._strategy.experimental_distribute_values_from_function
        sizes = self._strategy.gather(every(lambda _: tf.shape(words)), 0)
        return sizes, self._strategy.gather(every(lambda _: tf.identity(words)), 0)

    def from_chief(self, make: Callable[[], bytes | None]) -> bytes:
        """Returns, in all processes, what `make` returns in the chief, which alone calls it.

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
        """Returns the arrays of all processes; of equal names, the array of this process."""
        if self.processes == 1:
            return dict(arrays)
        found: dict[str, np.ndarray] = {}
        for blob in self.exchange(pack(arrays)):
            found.update(unpack(blob))
        return {**found, **arrays}

    @contextmanager
    def lost_workers_reported(self) -> Iterator[None]:
        """Turns what TensorFlow raises after another worker was lost into a LostWorkerError."""
        try:
            yield
        except LOST as error:
            if self.processes == 1:
                raise
            raise lost_worker(error) from None

    def check_same(self, config: Mapping[str, Any], differing: Callable[..., list[str]]) -> None:
        """Checks that all workers have the same config.

        Args:
            config: That of this process, JSON values.
            differing: (config, config) -> the paths where they differ.

        Raises:
            UserError: In all workers, if the config of one, or its number of devices, differs
                from the chief's.
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
    """Returns the LostWorkerError for an error of TensorFlow that a lost worker causes."""
    return LostWorkerError(
        f"lost another worker ({_first_line(error)}); finished periods are kept: start all workers "
        "again to go on"
    )


def _first_line(error: tf.errors.OpError) -> str:
    # TensorFlow repeats its message in many lines and adds the names of its own nodes.
    lines = [re.sub(r"{{.*?}}", "", line).strip() for line in error.message.splitlines()]
    return next((line for line in lines if "aborted" in line), (lines or [""])[0])[:200]
