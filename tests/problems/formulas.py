"""Landscapes as the literature writes them."""

from itertools import pairwise

import numpy as np


def levy(x):
    w = 1 + (x - 1) / 4
    middle = (w[:-1] - 1) ** 2 * (1 + 10 * np.sin(np.pi * w[:-1] + 1) ** 2)
    last = (w[-1] - 1) ** 2 * (1 + np.sin(2 * np.pi * w[-1]) ** 2)
    return np.sin(np.pi * w[0]) ** 2 + middle.sum() + last


def branin(x):
    b, c, t = 5.1 / (4 * np.pi**2), 5 / np.pi, 1 / (8 * np.pi)
    return (x[1] - b * x[0] ** 2 + c * x[0] - 6) ** 2 + 10 * (1 - t) * np.cos(x[0]) + 10


def ackley(x):
    waves = np.mean(np.cos(2 * np.pi * x))
    return 20 + np.e - 20 * np.exp(-0.2 * np.sqrt(np.mean(x**2))) - np.exp(waves)


# Formula, minimum per dimension, minimisers, domain.
FORMULAS = {
    "Rosenbrock": (
        lambda x: sum(100 * (b - a**2) ** 2 + (1 - a) ** 2 for a, b in pairwise(x)),
        0,
        [1],
        (-2.048, 2.048),
    ),
    "Rastrigin": (
        lambda x: 10 * len(x) + np.sum(x**2 - 10 * np.cos(2 * np.pi * x)),
        0,
        [0],
        (-5.12, 5.12),
    ),
    "Ackley": (ackley, 0, [0], (-32.768, 32.768)),
    "StyblinskiTang": (
        lambda x: np.sum(x**4 - 16 * x**2 + 5 * x) / 2,
        -39.16616570377142,
        [-2.903534],
        (-5, 5),
    ),
    "Levy": (levy, 0, [1], (-10, 10)),
    "Beale": (
        lambda x: sum(
            (c - x[0] + x[0] * x[1] ** k) ** 2 for k, c in ((1, 1.5), (2, 2.25), (3, 2.625))
        ),
        0,
        [(3, 0.5)],
        (-4.5, 4.5),
    ),
    "Booth": (
        lambda x: (x[0] + 2 * x[1] - 7) ** 2 + (2 * x[0] + x[1] - 5) ** 2,
        0,
        [(1, 3)],
        (-10, 10),
    ),
    "Matyas": (lambda x: 0.26 * (x**2).sum() - 0.48 * x[0] * x[1], 0, [0], (-10, 10)),
    "Branin": (
        branin,
        # Divided by the number of dimensions, as the others are.
        0.39788735772973816 / 2,
        [(-np.pi, 12.275), (np.pi, 2.275), (3 * np.pi, 2.475)],
        ((-5, 0), (10, 15)),
    ),
}
