"""The schedules of the learning rate that an evaluation applies to every optimizer."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from keras.optimizers.schedules import CosineDecay, LearningRateSchedule

from l2o.registry import Registry
from l2o.train.estimators.scheduled import WARMUP

# A number or a schedule.
Rate: TypeAlias = float | LearningRateSchedule


def constant(rate: float, steps: int) -> Rate:
    """Returns the rate itself."""
    return rate


def cosine(rate: float, steps: int) -> Rate:
    """Returns a schedule that starts at the rate and falls to 0 after the last step."""
    return CosineDecay(rate, steps)


def warmup_cosine(rate: float, steps: int) -> Rate:
    """Returns a schedule that rises linearly over the first steps, then falls as `cosine` does.

    Of w steps of warm-up, step k = 0, 1, ... has the rate times (k + 1) / (w + 1). Keras' own
    default starts at 0, which would waste the first step.

    Args:
        rate: The largest rate, of step w.
        steps: Steps of the training. 5 % of them warm up, at least one; a single step has no
            warm-up.
    """
    warmup = min(max(1, round(WARMUP * steps)), steps - 1)
    if not warmup:
        return cosine(rate, steps)
    return CosineDecay(rate / (warmup + 1), steps - warmup, warmup_target=rate, warmup_steps=warmup)


SCHEDULES: Registry[Callable[[float, int], Rate]] = Registry(
    "schedule", {"constant": constant, "cosine": cosine, "warmup_cosine": warmup_cosine}
)
