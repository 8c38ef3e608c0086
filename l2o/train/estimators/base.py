"""What a gradient estimator is: how the meta-step gets the gradient of a loss of unrolls."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf

from l2o.inner.batched import Optimizee
from l2o.inner.rule import Rule
from l2o.inner.trajectory import Carry, Tensors, Trajectory
from l2o.train.estimators.scheduled import Schedule, factor
from l2o.train.losses.base import Loss


class StepResult(NamedTuple):
    """What a meta-step reports of its optimizees, on the device: scalars, or [K].

    loss: The loss of the unroll.
    objective: The optimizee's last objective.
    finite: Whether the optimizee's loss was finite, and so counts in the meta-gradient.
        The meta-step narrows it: the meta-gradient was finite too, so it was applied.
    complete: Whether all inner steps ran and the optimizee's parameters are finite.
    steps: int32, how many inner steps ran.
    gradient: The meta-gradient, flat, for all of them together; None: the meta-step has not
        computed it, or there is none.
    """

    loss: tf.Tensor
    objective: tf.Tensor
    finite: tf.Tensor
    complete: tf.Tensor
    steps: tf.Tensor
    gradient: tf.Tensor | None = None


class Estimate(NamedTuple):
    """What an estimator knows after one unroll of its optimizees.

    gradients: Per learned weight, the sum of its gradients over the optimizees that count;
        zeros if none does, and never NaN for those that do not.
    count: int32 scalar, how many count.
    result: What to report.
    state: The estimator's new state, of all its optimizees, with the structure, shapes and
        dtypes of the old one.
    """

    gradients: Tensors
    count: tf.Tensor
    result: StepResult
    state: Any


class GradientEstimator:
    """Estimates meta-gradients. Its options are the keyword parameters of its constructor.

    A state is a nest of tensors: all that an estimator needs of an optimizee from one unroll to
    the next, such as a carry (the default), or two carries and a sum of perturbations. `init`
    returns the state of one optimizee. `estimate` gets the state of one optimizee, or of K side by
    side with a first axis in each tensor. A state lives until its optimizee is replaced, and no
    longer than an iteration.

    Attributes:
        copies: How many unrolls of each optimizee run side by side, each from its own last
            state [1].
        whole_trainings: Whether each unroll is a training of its own, so that its optimizee is
            replaced after it [False].
        schedule: What the learning rate does over each unroll. If it is not constant, the state
            is a carry, and each unroll is a training of its own, in a validation too ["constant"].
        rule: The learned optimizer's update rule; set by `for_problem`.
        optimizee: What is unrolled: one optimizee, or K side by side; set by `for_problem`.
    """

    copies: int = 1
    whole_trainings: bool = False
    schedule: Schedule = "constant"
    rule: Rule
    optimizee: Optimizee

    def for_problem(self, rule: Rule, optimizee: Optimizee) -> GradientEstimator:
        """Returns a copy for one learned optimizer and one problem, with the same options."""
        bound = copy.copy(self)
        bound.rule, bound.optimizee = rule, optimizee
        return bound

    def init(self, carry: Carry, seed: int) -> Any:
        """Returns the state of one optimizee before its first unroll: the carry.

        Args:
            carry: Where it starts.
            seed: For random draws, in [0, 2^31).
        """
        return carry

    def optimizer_state(self, state: Any) -> Any:
        """Returns the learned optimizer's state, from the state of one optimizee.

        With `training/persistent`, the next optimizee starts with it.
        """
        return state.optimizer_state

    def multiplier(self, steps: tf.Tensor) -> Callable[[tf.Tensor], tf.Tensor] | None:
        """Returns the factor of the changes of each step of an unroll, as `Unroll` takes it.

        Args:
            steps: int32 scalar, the length of the unroll.
        """
        if self.schedule == "constant":
            return None
        return functools.partial(factor, self.schedule, steps=steps)

    def estimate(
        self,
        weights: Tensors,
        loss: Loss,
        state: Any,
        batches: Any,
        steps: tf.Tensor,
        seeds: tf.Tensor,
    ) -> Estimate:
        """Unrolls all optimizees and estimates the loss's gradient; called while tracing.

        Args:
            weights: The values of the learned weights.
            loss: What to differentiate.
            state: Of all optimizees.
            batches: As `Unroll` takes them.
            steps: int32 scalar, the length of the unroll.
            seeds: int32 scalar, or [K]: for this unroll's random draws, of each optimizee.
        """
        raise NotImplementedError


def report(
    loss: tf.Tensor, finite: tf.Tensor, trajectory: Trajectory, steps: tf.Tensor
) -> StepResult:
    """Returns the result of an unroll.

    Args:
        loss: A scalar, or [K].
        finite: As the loss, see `StepResult`.
        trajectory: What the unroll did.
        steps: int32 scalar, the length that it was to have.
    """
    last = tf.maximum(trajectory.steps - 1, 0)
    axes = trajectory.steps.shape.rank
    objective = (
        tf.gather(tf.transpose(trajectory.objectives), last, batch_dims=1)
        if axes
        else tf.gather(trajectory.objectives, last)
    )
    parameters_finite = [
        tf.reduce_all(tf.math.is_finite(p), range(axes, p.shape.rank))
        for p in trajectory.carry.params
    ]
    healthy = tf.reduce_all([trajectory.healthy, *parameters_finite], 0)
    complete = healthy & (trajectory.steps == steps)
    return StepResult(loss, objective, finite, complete, trajectory.steps)
