"""What runs are worth: a number for each seed, and how two runs compare."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from l2o.evaluate.runs import Run

# Steps after which the mini-batch loss is reported, where there are more.
MILESTONES = (10, 100, 1000)
# Mini-batches a loss is averaged over before it is compared with a target.
WINDOW = 10
RESAMPLES = 10_000
LEVEL = 0.95
# Smaller losses are 0 for all purposes, and have no logarithm to speak of.
LEAST_LOSS = 1e-12


class Ratio(NamedTuple):
    """The ratio of two means, and its confidence interval; None: there is only one seed."""

    value: float
    low: float | None
    high: float | None


def diverged(run: Run) -> np.ndarray:
    """Returns [seeds], which models diverged.

    That is: a loss was not finite, or the training loss at the end is above that of the first
    mini-batch.
    """
    # What was not measured is NaN for every seed.
    tested = np.isfinite(run.test_loss) | np.isnan(run.test_loss).all()
    finite = np.isfinite(run.losses).all(1) & np.isfinite(run.train_loss) & tested
    return ~(finite & (run.train_loss <= run.losses[:, 0]))


def area(run: Run) -> np.ndarray:
    """Returns [seeds], the area under the curve of the log-loss, divided by the steps.

    The mean over all steps of the natural logarithm of the mini-batch loss: it tells a fast
    start from a slow one where both end alike. Infinite where a loss is not finite.
    """
    finite = np.isfinite(run.losses).all(1)
    logs = np.log(np.maximum(np.where(np.isfinite(run.losses), run.losses, 1), LEAST_LOSS))
    return np.where(finite, logs.mean(1), np.inf)


def smooth(losses: np.ndarray) -> np.ndarray:
    """Returns [seeds, steps], the mean of the last `WINDOW` mini-batch losses of each step.

    The first steps have a mean of those there are.
    """
    window = min(WINDOW, losses.shape[1])
    counts = np.arange(1, window)
    first = np.cumsum(losses[:, : window - 1], axis=1, dtype=np.float64) / counts
    # Not a difference of sums, in which one large loss would drown all others.
    windows = np.lib.stride_tricks.sliding_window_view(losses, window, axis=1)
    return np.concatenate([first, windows.mean(-1, dtype=np.float64)], axis=1)


def steps_to(run: Run, target: float) -> np.ndarray:
    """Returns [seeds], the steps until the smoothed loss is at most `target`; inf: never.

    Args:
        run: The run.
        target: A mini-batch loss, see `smooth`.
    """
    reached = smooth(run.losses) <= target
    return np.where(reached.any(1), reached.argmax(1).astype(float), np.inf)


def target_of(run: Run) -> float:
    """Returns the target that a run sets for others: its median smoothed loss at the end."""
    ends = smooth(run.losses)[:, -1]
    return float(np.median(np.where(np.isfinite(ends), ends, np.inf)))


def ratio(run: Run, other: Run) -> Ratio:
    """Returns the ratio of the mean final training losses, with a paired bootstrap interval.

    Pairs are seeds: for one seed both start from the same weights and see the same data. The
    interval has the percentiles of 10,000 resamples. Means below `LEAST_LOSS` count as that.

    Args:
        run: The numerator.
        other: The denominator, of the same seeds.
    """
    # A model that has diverged is worse than any number.
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
    """Returns above / below; inf wherever `above` is."""
    finite = np.maximum(np.where(np.isfinite(above), above, 1), LEAST_LOSS)
    return np.where(np.isfinite(above), finite / np.maximum(below, LEAST_LOSS), np.inf)


def per_seed(run: Run, target: float) -> dict[str, np.ndarray]:
    """Returns every measure of a run, [seeds] each.

    Args:
        run: The run.
        target: For `steps_to`.

    Returns:
        train_loss, train_accuracy, test_loss, test_accuracy (where they were measured),
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
