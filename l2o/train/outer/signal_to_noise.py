"""How much of the meta-gradients of a period is signal, and how much is noise."""

from __future__ import annotations

from typing import Any

import numpy as np

from l2o.train.outer.iteration import UnrollRecord


class Signal:
    """Collects meta-gradients g_1, ..., g_n, one for each meta-step.

        s^2             = sum_i |g_i - mean g|^2 / (n - 1)
        signal_to_noise = max(0, |mean g|^2 - s^2 / n) / s^2

    Noise alone gives the mean of n gradients a squared norm of s^2 / n, which is subtracted.
    Gradients that are not finite, and those of imitation, do not count. Where a period has several
    problems, the differences between them count as noise.
    """

    def __init__(self) -> None:
        self._last: Any = None
        self._count = 0
        self._norms = 0.0
        self._sum: Any = 0.0
        self._squares = 0.0

    def add(self, unroll: UnrollRecord) -> None:
        """Adds the gradient of an unroll's meta-step, once for all its optimizees."""
        gradient = unroll.gradient
        if unroll.imitation or gradient is None or gradient is self._last:
            return
        self._last = gradient
        gradient = gradient.astype(np.float64)
        if not np.isfinite(gradient).all():
            return
        square = float(gradient @ gradient)
        self._count += 1
        self._norms += square**0.5
        self._squares += square
        self._sum = self._sum + gradient

    @property
    def norm(self) -> float | None:
        """The mean norm; None: there was no gradient."""
        return self._norms / self._count if self._count else None

    @property
    def to_noise(self) -> float | None:
        """The signal-to-noise ratio; None: it cannot be known from these gradients."""
        n = self._count
        if n < 2:
            return None
        mean_square = float(self._sum @ self._sum) / n**2
        variance = (self._squares - n * mean_square) / (n - 1)
        if not variance > 0:
            return None
        return max(0.0, mean_square - variance / n) / variance
