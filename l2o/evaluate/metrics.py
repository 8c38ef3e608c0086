"""Measures of runs, with a number for each seed, and the ratio of two runs."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from l2o.evaluate.runs import Run

# Steps after which longer runs report the mini-batch loss.
MILESTONES = (10, 100, 1000)
# Number of mini-batch losses whose mean is compared with a target.
WINDOW = 10
RESAMPLES = 10_000
LEVEL = 0.95
# Smaller losses count as this: they are 0 in practice, and their logarithms mean nothing.
LEAST_LOSS = 1e-12


class Ratio(NamedTuple):
    """The ratio of two means and its confidence interval, which is None for a single seed."""

    value: float
    low: float | None
    high: float | None


def diverged(run: Run) -> np.ndarray:
    """Returns [seeds], whether each model diverged.

    A model diverged if a loss is not finite, or if the final training loss is above the loss of
    the first mini-batch.
    """
    # A measure that was not taken is NaN for every seed.
    tested = np.isfinite(run.test_loss) | np.isnan(run.test_loss).all()
    finite = np.isfinite(run.losses).all(1) & np.isfinite(run.train_loss) & tested
    return ~(finite & (run.train_loss <= run.losses[:, 0]))


def area(run: Run) -> np.ndarray:
    """Returns [seeds], the area under the curve of the log-loss, divided by the steps.

    This is the mean over all steps of the natural logarithm of the mini-batch loss. It
    distinguishes runs that end alike but start at different speeds. It is infinite if a loss is
    not finite.
    """
    finite = np.isfinite(run.losses).all(1)
    logs = np.log(np.maximum(np.where(np.isfinite(run.losses), run.losses, 1), LEAST_LOSS))
    return np.where(finite, logs.mean(1), np.inf)


def smooth(losses: np.ndarray) -> np.ndarray:
    """Returns [seeds, steps], the mean of the last `WINDOW` mini-batch losses at each step.

    The first steps have fewer losses, and the mean is over these.
    """
    window = min(WINDOW, losses.shape[1])
    counts = np.arange(1, window)
    first = np.cumsum(losses[:, : window - 1], axis=1, dtype=np.float64) / counts
    # In a difference of cumulative sums, one large loss would cancel the digits of all others.
    windows = np.lib.stride_tricks.sliding_window_view(losses, window, axis=1)
    return np.concatenate([first, windows.mean(-1, dtype=np.float64)], axis=1)


def steps_to(run: Run, target: float) -> np.ndarray:
    """Returns [seeds], the steps until the smoothed loss is at most `target`; inf if never.

    Args:
        run: The run.
        target: A mini-batch loss, see `smooth`.
    """
    reached = smooth(run.losses) <= target
    return np.where(reached.any(1), reached.argmax(1).astype(float), np.inf)


def target_of(run: Run) -> float:
    """Returns the median over seeds of the final smoothed loss, as a target for other runs."""
    ends = smooth(run.losses)[:, -1]
    return float(np.median(np.where(np.isfinite(ends), ends, np.inf)))


def ratio(run: Run, other: Run) -> Ratio:
    """Returns the ratio of the mean final training losses, with a paired bootstrap interval.

    Runs are paired by seed: for the same seed both start from the same weights and get the same
    data. The interval has the percentiles of 10,000 resamples. Means below `LEAST_LOSS` count as
    `LEAST_LOSS`.

    Args:
        run: The run in the numerator.
        other: The run in the denominator, with the same seeds.
    """
    # A model that diverged is worse than any finite loss.
    above, below = (
        np.where(np.isfinite(r.train_loss), r.train_loss, np.inf).astype(np.float64)
        for r in (run, other)
    )
    value = float(_quotient(above.mean(), below.mean()))
    if len(above) < 2:
        return Ratio(value, None, None)
    pick = np.random.default_rng(0).integers(len(above), size=(RESAMPLES, len(above)))
    found = _quotient(above[pick].mean(1), below[pick].mean(1))
    ends = (1 - LEVEL) / 2, (1 + LEVEL) / 2
    low, high = np.quantile(found, ends, method="inverted_cdf")
    return Ratio(value, float(low), float(high))


def _quotient(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """Returns above / below; inf where `above` is inf."""
    finite = np.maximum(np.where(np.isfinite(above), above, 1), LEAST_LOSS)
    return np.where(np.isfinite(above), finite / np.maximum(below, LEAST_LOSS), np.inf)


def per_seed(run: Run, target: float) -> dict[str, np.ndarray]:
    """Returns every measure of a run, [seeds] each.

    Args:
        run: The run.
        target: For `steps_to`.

    Returns:
        train_loss, train_accuracy, test_loss, test_accuracy (those that were measured),
        loss_at_10 and so on (for `MILESTONES` before the end), log_area, steps_to_target,
        diverged (0 or 1).
    """
    names = ("train_loss", "train_accuracy", "test_loss", "test_accuracy")
    found = {name: getattr(run, name) for name in names}
    found = {k: v for k, v in found.items() if k == "train_loss" or not np.isnan(v).all()}
    for step in MILESTONES:
        if step < run.losses.shape[1]:
            found[f"loss_at_{step}"] = run.losses[:, step]
    found["log_area"] = area(run)
    found["steps_to_target"] = steps_to(run, target)
    found["diverged"] = diverged(run).astype(float)
    return found
