"""Measures over several problems: the interquartile mean and performance profiles."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from l2o.evaluate.metrics import LEAST_LOSS, RESAMPLES, Ratio, interval, quotient

# Share of the values that the interquartile mean leaves out at each end.
TRIMMED = 0.25


def interquartile_mean(values: np.ndarray) -> np.ndarray:
    """Returns the mean of the middle half of the last axis.

    As in Agarwal et al. 2021 (`scipy.stats.trim_mean` with 0.25), the number of values that are
    left out at each end is rounded down.
    """
    ordered = np.sort(values, axis=-1)
    cut = int(TRIMMED * ordered.shape[-1])
    with np.errstate(invalid="ignore"):
        mean = ordered[..., cut : ordered.shape[-1] - cut].mean(-1)
    # An infinite gain does not make up for a model that diverged.
    return np.where(np.isnan(mean), np.inf, mean)


def overall_ratio(pairs: Sequence[tuple[np.ndarray, np.ndarray]]) -> Ratio:
    """Returns the interquartile mean of the ratio of two losses, over problems and seeds.

    A value is the natural logarithm of the ratio of both losses for one seed of one problem. The
    mean is that of the middle half of all values, and the result is its exponential. The interval
    has the percentiles of 10,000 resamples that are stratified as in Agarwal et al. 2021: each
    draws as many seeds as there are, with replacement, within each problem.

    Args:
        pairs: For each problem the losses [seeds] above and below, paired by seed; infinite
            where a model diverged.

    Returns:
        The ratio; without an interval if no problem has two seeds.
    """
    with np.errstate(divide="ignore"):
        logs = [np.log(quotient(above, below)) for above, below in pairs]
    value = float(np.exp(interquartile_mean(np.concatenate(logs))))
    if max(map(len, logs)) < 2:
        return Ratio(value, None, None)
    rng = np.random.default_rng(0)
    drawn = [own[rng.integers(len(own), size=(RESAMPLES, len(own)))] for own in logs]
    return Ratio(value, *interval(np.exp(interquartile_mean(np.concatenate(drawn, axis=1)))))


def ratios_to_winner(losses: np.ndarray) -> np.ndarray:
    """Returns each loss over the smallest one of its problem.

    Args:
        losses: [problems, optimizers]; infinite where a model diverged.

    Returns:
        [problems, optimizers], at least 1; infinite where the loss is.
    """
    losses = np.maximum(losses, LEAST_LOSS)
    best = losses.min(1, keepdims=True)
    # Where every optimizer diverged there is no winner.
    return np.where(np.isfinite(losses), losses / np.where(np.isfinite(best), best, 1), np.inf)


def performance_profile(ratios: np.ndarray, taus: Sequence[float]) -> np.ndarray:
    """Returns the performance profile of Dolan and Moré 2002.

    Args:
        ratios: [problems, optimizers], see `ratios_to_winner`.
        taus: Factors of at least 1.

    Returns:
        [optimizers, taus], the share of problems that an optimizer solves within tau times the
        loss of the best optimizer.
    """
    return (ratios[:, :, np.newaxis] <= np.asarray(taus)).mean(0)
