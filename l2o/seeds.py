"""The seeds of all random draws.

A tuple of integers (run seed, purpose, stage, period, epoch, problem) names a draw. The
same name always gives the same draw, so a resumed run needs no saved generator.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

# The second integer of every name: the purpose of the draw.
WEIGHTS, TRAINING, VALIDATION, EVALUATION, FAMILIES = range(5)


def generator(*name: int) -> np.random.Generator:
    """Returns the random generator called `name` (non-negative integers)."""
    return np.random.default_rng(np.random.SeedSequence(name))


def draw(rng: np.random.Generator) -> int:
    """Returns a fresh seed in [0, 2**31) from `rng`."""
    return int(rng.integers(2**31))


@contextmanager
def keras_initializers(seed: int) -> Iterator[None]:
    """Seeds the unseeded Keras initializers inside the block.

    Keras draws the seed of an unseeded initializer, or of a dropout layer, from Python's
    `random` module. The state of the module is restored afterwards.
    """
    state = random.getstate()
    random.seed(seed)
    try:
        yield
    finally:
        random.setstate(state)
