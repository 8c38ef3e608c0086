"""Where every random draw gets its seed from.

A draw is named by a tuple of integers (run seed, purpose, stage, period, epoch,
problem); the same name always gives the same draw, so a resumed run needs no saved
generator.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

# The second word of every name: what the draw is for.
WEIGHTS, TRAINING, VALIDATION, EVALUATION = range(4)


def generator(*name: int) -> np.random.Generator:
    """Returns the random generator called `name` (non-negative integers)."""
    return np.random.default_rng(np.random.SeedSequence(name))


def draw(rng: np.random.Generator) -> int:
    """Returns a fresh seed in [0, 2**31) from `rng`."""
    return int(rng.integers(2**31))


@contextmanager
def keras_initializers(seed: int) -> Iterator[None]:
    """Makes unseeded Keras initializers inside the block a function of `seed`.

    Keras draws the seed of an unseeded initializer (and of a dropout layer) from
    Python's `random` module; the module's own state is put back afterwards.
    """
    state = random.getstate()
    random.seed(seed)
    try:
        yield
    finally:
        random.setstate(state)
