"""The order in which each epoch shows the examples of a data set."""

from __future__ import annotations

from collections import OrderedDict

import numpy as np

from l2o import seeds

# Bytes of the epochs that are kept. An epoch of MNIST has 480 kB.
LARGEST_KEPT = 2**26


class Shuffling:
    """Mini-batches of the numbers of examples, in an order of its own for each epoch.

    Shuffling 60,000 examples takes as long as several steps of a small network, and a training
    asks for the mini-batches of one unroll after the other. So the orders that were used last are
    kept.

    Args:
        buffer: Number of places that an example may move. The number of examples or more gives a
            full shuffle, and 0 gives none.
        batch_size: Examples in a mini-batch; the remainder of an epoch is dropped.
    """

    def __init__(self, buffer: int, batch_size: int) -> None:
        self.buffer = buffer
        self.batch_size = batch_size
        self._kept: OrderedDict[tuple[int, ...], np.ndarray] = OrderedDict()
        self._bytes = 0

    def __call__(
        self, examples: int, start: int, count: int, seed: int, *purpose: int
    ) -> np.ndarray:
        """Returns mini-batches `start` to `start + count`, [count, batch_size] integers.

        Args:
            examples: How many there are, at least `batch_size`.
            start: As in `Problem.batches`.
            count: As in `Problem.batches`.
            seed: With the number of the epoch, and `purpose`, it names the order.
            purpose: Tells apart several orders of one seed.
        """
        per_epoch = examples // self.batch_size
        first, last = start // per_epoch, (start + count - 1) // per_epoch
        epochs = [self._epoch(examples, seed, epoch, *purpose) for epoch in range(first, last + 1)]
        offset = start - first * per_epoch
        return np.concatenate(epochs)[offset : offset + count]

    def _epoch(self, examples: int, *name: int) -> np.ndarray:
        key = (examples, *name)
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        order = self._shuffled(examples, seeds.generator(*name))
        per_epoch = examples // self.batch_size
        order = order[: per_epoch * self.batch_size].reshape(-1, self.batch_size)
        self._kept[key] = order
        self._bytes += order.nbytes
        while self._bytes > LARGEST_KEPT:
            _, oldest = self._kept.popitem(last=False)
            self._bytes -= oldest.nbytes
        return order

    def _shuffled(self, examples: int, rng: np.random.Generator) -> np.ndarray:
        if self.buffer >= examples:
            return rng.permutation(examples)
        moved = rng.uniform(0, self.buffer, examples)
        return np.argsort(np.arange(examples) + moved)
