"""Gradients of every size."""

import numpy as np

SHAPES = [(3, 4), (), (5,), (1, 2, 2)]


def gradients(steps):
    """Of every size, some exactly zero, some below exp(-10)."""
    rng = np.random.default_rng(0)
    for _ in range(steps):
        yield [
            np.where(rng.random(s) < 0.2, 0, rng.normal(size=s) * 10 ** rng.uniform(-7, 1, s))
            for s in SHAPES
        ]
