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


class SpeedUp(NamedTuple):
    """How many times as many steps another optimizer needs to an optimizer's final loss.

    steps: Steps of the optimizer.
    others: Steps of the other optimizer; None if it does not get there.
    value: `others / steps`. If the other does not get there, its number of steps counts, so the
        speed-up is larger than this. NaN if the optimizer diverged, 0 if it ends where it started.
    """

    steps: int
    others: int | None
    value: float

    def in_time(self, time: float) -> float:
        """Returns the same in wall-clock time.

        Args:
            time: Time of a step of the optimizer, relative to that of the other.
        """
        return self.value / time


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


def median_curve(run: Run) -> np.ndarray:
    """Returns [steps], the median over seeds of the smoothed loss; inf where it is not finite."""
    curves = smooth(run.losses)
    return np.median(np.where(np.isfinite(curves), curves, np.inf), axis=0)


def speed_up(run: Run, other: Run) -> SpeedUp:
    """Compares the steps to the final loss of `run`, on the median curves of both.

    The loss is that of mini-batches, see `median_curve`. Each optimizer's steps are counted until
    its curve gets there first.

    Args:
        run: The run whose final loss counts.
        other: The run that is to get there, on the same problem and seeds.
    """
    own, others = median_curve(run), median_curve(other)
    steps = int(np.argmax(own <= own[-1]))
    reached = others <= own[-1]
    if not np.isfinite(own[-1]):
        return SpeedUp(steps, None, np.nan)
    if not steps:
        return SpeedUp(0, 0, 0.0)
    if not reached.any():
        return SpeedUp(steps, None, (len(others) - 1) / steps)
    count = int(np.argmax(reached))
    return SpeedUp(steps, count, count / steps)


def ratio(run: Run, other: Run, measure: str = "train_loss") -> Ratio:
    """Returns the ratio of the mean final losses, with a paired bootstrap interval.

    Runs are paired by seed: for the same seed both start from the same weights and get the same
    data. The interval has the percentiles of 10,000 resamples. Means below `LEAST_LOSS` count as
    `LEAST_LOSS`.

    Args:
        run: The run in the numerator.
        other: The run in the denominator, with the same seeds.
        measure: "train_loss" or "test_loss" ["train_loss"].
    """
    above, below = final(run, measure), final(other, measure)
    value = float(quotient(above.mean(), below.mean()))
    if len(above) < 2:
        return Ratio(value, None, None)
    pick = np.random.default_rng(0).integers(len(above), size=(RESAMPLES, len(above)))
    return Ratio(value, *interval(quotient(above[pick].mean(1), below[pick].mean(1))))


def interval(draws: np.ndarray) -> tuple[float, float]:
    """Returns the ends of the 95 % interval of bootstrap draws."""
    ends = (1 - LEVEL) / 2, (1 + LEVEL) / 2
    low, high = np.quantile(draws, ends, method="inverted_cdf")
    return float(low), float(high)


def final(run: Run, measure: str) -> np.ndarray:
    """Returns [seeds], a final loss; a model that diverged is worse than any finite loss."""
    values = getattr(run, measure)
    return np.where(np.isfinite(values), values, np.inf).astype(np.float64)


def quotient(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """Returns above / below; inf where `above` is inf, 0 where only `below` is."""
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
