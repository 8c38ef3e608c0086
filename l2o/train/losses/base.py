"""What a loss of an unroll is, and what all of them share: step weights and `loss_args`."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import tensorflow as tf

from l2o.errors import UserError
from l2o.inner.trajectory import Carry, Trajectory
from l2o.inner.unroll import never
from l2o.options import Epsilon, check_given

# The values of the option `training/unroll_weights`.
StepWeights = Literal["sum", "mean", "tail", "last"] | Callable[[int], tf.Tensor]


class Loss:
    """A number for each unroll; the meta-gradient is the gradient of this number.

    An estimator asks a loss what the unroll must record and when it ends, and then calls it
    with the trajectory. The base class asks for nothing and never ends an unroll.

    Attributes:
        references: Whether the loss needs f_0, the objective of each mini-batch at the start
            of the unroll.
        objectives: Whether the loss depends on the objectives.
        parameters: Whether the loss needs the parameters after each update.
    """

    references: bool = False
    objectives: bool = True
    parameters: bool = False

    def for_unroll(self, carry: Carry, batches: Any, steps: tf.Tensor, copy: int = 0) -> Loss:
        """Returns the loss of one unroll; called while tracing, before the unroll.

        Args:
            carry: Where the unroll starts.
            batches: Its mini-batches, as `l2o.inner.unroll.Unroll` takes them.
            steps: int32 scalar, its length.
            copy: Which of the estimator's copies of the optimizees it unrolls [0].
        """
        return self

    def rehearsed(self) -> AbstractContextManager[None]:
        """Makes an unroll inside the block one that changes nothing; used while tracing.

        A perturbation of the learned weights may need a meta-gradient first, from an unroll that
        is then done again. A loss whose `for_unroll` changes variables has to restore them.
        """
        return nullcontext()

    def ended(self, f: tf.Tensor, f_0: tf.Tensor) -> tf.Tensor:
        """Returns whether an unroll ends after a step with objective f.

        Args:
            f: A scalar, or [K] with an axis of optimizees; what the update is scored by.
            f_0: As f, the objective of the same mini-batch at the start of the unroll; zeros
                without `references`.
        """
        return never(f, f_0)

    def __call__(self, trajectory: Trajectory, steps: tf.Tensor) -> tf.Tensor:
        """Returns the loss of a trajectory.

        Args:
            trajectory: What the unroll did; steps that did not run do not count.
            steps: int32 scalar T, the length that the unroll was to have.

        Returns:
            A scalar, or [K] with an axis of optimizees; not finite if a step's value is not.
        """
        raise NotImplementedError


@dataclass(frozen=True)
class LossArgs:
    """The seed's `loss_args`.

    Args:
        scale_objective: Divide by the objective at the start of the unroll, so that the
            loss shows relative improvement [True].
        use_log_objective: Take logarithms [True].
        obj_train_max_multiplier: End an unroll once f_i > f_0 + (k - 1) |f_0| for this
            k; not positive: never [-1].
        use_numerator_epsilon: Add `epsilon` inside the logarithm of f_i too [True].
        epsilon: Keeps divisors and logarithms away from 0 [1e-6].
        split: What each update is scored on: "train", the optimizee's next mini-batch; or
            "held_out", one of training examples that this optimizee does not train on, with
            the model in inference mode. It then trains on four fifths of the training split, and
            an epoch is a pass over these ["train"].
    """

    scale_objective: bool = True
    use_log_objective: bool = True
    obj_train_max_multiplier: float = -1.0
    use_numerator_epsilon: bool = True
    epsilon: Epsilon = 1e-6
    split: Literal["train", "held_out"] = "train"

    def __post_init__(self) -> None:
        check_given(LossArgs, vars(self), "loss_args")

    @property
    def ends_unrolls(self) -> bool:
        """Whether `obj_train_max_multiplier` may end an unroll."""
        return self.obj_train_max_multiplier > 0

    def ended(self, f: tf.Tensor, f_0: tf.Tensor) -> tf.Tensor:
        """Returns whether `obj_train_max_multiplier` ends the unroll at f; see `Loss.ended`."""
        if not self.ends_unrolls:
            return never(f, f_0)
        return f > f_0 + (self.obj_train_max_multiplier - 1) * tf.abs(f_0)


def step_weights(kind: StepWeights, steps: tf.Tensor, ran: tf.Tensor) -> tf.Tensor:
    """Returns the weight w_i of each step of an unroll.

    Args:
        kind: "sum" (ones), "mean" (1/n), "tail" (the mean of the last tenth of the steps that
            ran, rounded up), "last" (only the final step, as RNNProp) or a callable that takes the
            int n and returns an [n] tensor.
        steps: int32 scalar n.
        ran: int32 scalar, how many steps ran; the last of them is the final step. With an
            axis of optimizees [K].

    Returns:
        [n] float32, or [n, K].
    """
    if callable(kind):
        function = kind  # written in Python by the user: called on the host, with an int
        weights = tf.py_function(
            lambda n: tf.ensure_shape(tf.cast(function(int(n)), tf.float32), [int(n)]),
            [steps],
            tf.float32,
        )
        weights = tf.ensure_shape(weights, [None])
    elif kind == "last":
        return tf.one_hot(ran - 1, steps, axis=0)
    elif kind == "tail":
        # Of those that ran: an unroll that ended early would else have a loss of 0.
        tail = tf.maximum((ran + 9) // 10, 1)
        i = tf.range(steps)[:, tf.newaxis] if ran.shape.rank else tf.range(steps)
        return tf.cast((ran - tail <= i) & (i < ran), tf.float32) / tf.cast(tail, tf.float32)
    else:
        ones = tf.ones([steps])
        weights = ones / tf.cast(steps, tf.float32) if kind == "mean" else ones
    return weights[:, tf.newaxis] + tf.zeros_like(ran, tf.float32) if ran.shape.rank else weights


def check_step_weights(kind: StepWeights) -> None:
    """Checks a function that gives step weights by calling it for two lengths.

    Raises:
        UserError: If it does not return a number for each step.
    """
    if not callable(kind):
        return
    for n in (1, 3):
        weights = kind(n)
        try:
            shape = tf.cast(weights, tf.float32).shape
        except (ValueError, TypeError, tf.errors.OpError):
            shape = None
        if shape != [n]:
            raise UserError(
                f"expected a function that returns a number for each of n steps; for n = {n} it "
                f"returned {weights!r}",
                "training/unroll_weights",
            )


def steps_that_ran(trajectory: Trajectory, weights: tf.Tensor) -> tf.Tensor:
    """Returns whether each step ran: bool, in the shape of the step weights."""
    i = tf.range(tf.shape(weights)[0])
    return (i[:, tf.newaxis] if weights.shape.rank == 2 else i) < trajectory.steps
