"""One compiled meta-step: unroll, loss, meta-gradient, update of the learned weights."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from l2o.errors import UserError
from l2o.inner.batched import Batched
from l2o.inner.rule import Rule
from l2o.inner.trajectory import Carry, Tensors
from l2o.inner.unroll import Unroll, traced_once
from l2o.optimizer import TrainableOptimizer
from l2o.problems import Instance, Problem
from l2o.problems.held_out import with_held_out
from l2o.train.distributed.devices import Replicas
from l2o.train.distributed.layout import Layout
from l2o.train.estimators.base import GradientEstimator, StepResult, report
from l2o.train.estimators.truncated_backprop import TruncatedBackprop
from l2o.train.losses.base import Loss
from l2o.train.losses.meta import MetaLoss
from l2o.train.outer.perturbation import Perturbation


class MetaStep:
    """The meta-steps of one optimizer on one problem, each traced once for all lengths.

    An index counts this process's optimizees from 0. Their states, mini-batches and seeds are kept
    together as one value, which only `layout` can take apart.

    Args:
        optimizer: What is trained.
        problem: What it is trained on; if the loss is that of held-out examples, the attribute
            `problem` is the same problem without them.
        loss: Of `train`; `validate` uses it too [the meta-loss].
        imitation: The loss of `imitate`, one for each replica as a value of the layout: its
            teachers have variables on the replica's device [none].
        estimator: Estimates the gradients of the losses [TruncatedBackprop].
        rule: The optimizer's rule, to compile it once for several problems [a new one].
        optimizees: How many each replica unrolls side by side. The meta-gradient
            is the mean of the gradients of all of them [1].
        replicas: Which share the work [one].
        perturbation: Of the learned weights, while a meta-gradient is computed [none].
    """

    def __init__(
        self,
        optimizer: TrainableOptimizer,
        problem: Problem,
        loss: MetaLoss | None = None,
        *,
        imitation: Any = None,
        estimator: GradientEstimator | None = None,
        rule: Rule | None = None,
        optimizees: int = 1,
        replicas: Replicas | None = None,
        perturbation: Perturbation | None = None,
    ) -> None:
        self.optimizer = optimizer
        self.perturbation = perturbation
        self.loss = loss or MetaLoss()
        self.problem = problem = _for_loss(problem, self.loss)
        self.imitation = imitation
        self.rule = rule or Rule(optimizer)
        self.layout = Layout(replicas, optimizees)
        self.optimizee = problem if optimizees == 1 else Batched(problem, optimizees)
        self.estimator = (estimator or TruncatedBackprop()).for_problem(self.rule, self.optimizee)
        self._compiled: dict[Any, Any] = {}

    @property
    def optimizees(self) -> int:
        """How many optimizees each replica unrolls."""
        return self.layout.per_replica

    def start(self, instance: Instance, optimizer_state: Any = None, seed: int = 0) -> Any:
        """Returns the estimator's state at the start of one optimizee.

        Args:
            instance: The optimizee.
            optimizer_state: The learned optimizer's state for it; None: a fresh one [None].
            seed: Of the random draws of a fresh one, and of the estimator [0].
        """
        if optimizer_state is None:
            params = self.problem.specs(instance.params)
            optimizer_state = self.optimizer.initial_state(params, seed)
        carry = Carry(instance.params, instance.model_state, optimizer_state)
        return self.estimator.init(carry, seed)

    def optimizer_state(self, state: Any, index: int) -> Any:
        """Returns the learned optimizer's state for optimizee `index`."""
        return self.estimator.optimizer_state(self.layout.take(state, index))

    def stream(self, names: Sequence[int], start: int, count: int) -> Any:
        """Returns mini-batches `start` to `start + count` of each optimizee's stream.

        Args:
            names: Per optimizee, the seed of `Problem.stream`.
            start: As there.
            count: As there.
        """
        streams = [self.problem.stream(name, start, count) for name in names]
        return self.layout.stack(streams, axis=1)

    def seeds(self, numbers: Sequence[int]) -> Any:
        """Returns what `train` takes as seeds, from an int in [0, 2^31) for each optimizee."""
        return self.layout.stack([tf.constant(number, tf.int32) for number in numbers])

    def train(
        self,
        meta_optimizer: keras.optimizers.Optimizer,
        seeds: Any,
        state: Any,
        batches: Any,
        steps: int,
        *,
        seed: int = 0,
    ) -> tuple[StepResult, Any]:
        """Unrolls, and lets `meta_optimizer` improve the learned weights on the loss.

        Args:
            meta_optimizer: A Keras optimizer built on the learned weights.
            seeds: What `seeds` returns, for the estimator's random draws in this unroll.
            state: Where the unroll starts: the states of `start`, stacked by the layout.
            batches: What `stream` returns for `steps + 1`.
            steps: Length of the unroll, at least 1.
            seed: For the perturbation of the learned weights, in [0, 2^31) [0].

        Returns:
            The result and the state after the unroll.
        """
        loss = self.layout.make(lambda: self.loss)
        start = (state, seeds, tf.constant(seed, tf.int32))
        return self._learn("train", loss, meta_optimizer, start, batches, steps)

    def imitate(
        self,
        meta_optimizer: keras.optimizers.Optimizer,
        seeds: Any,
        state: Any,
        batches: Any,
        steps: int,
        *,
        seed: int = 0,
    ) -> tuple[StepResult, Any]:
        """As `train`, on the imitation loss."""
        start = (state, seeds, tf.constant(seed, tf.int32))
        return self._learn("imitate", self.imitation, meta_optimizer, start, batches, steps)

    def validate(self, carry: Carry, batches: Any, steps: int) -> tuple[StepResult, Carry]:
        """Unrolls on one replica without an early end, and changes no weight.

        Args:
            carry: Where the unroll starts: the carries of all optimizees, stacked.
            batches: As for `train`.
            steps: As for `train`.

        Returns:
            The result and where the unroll ended.
        """
        return self._run(("validate", None), self._validation, carry, batches, steps)

    def traces(self, kind: str) -> int:
        """Returns how often `kind` ("train", "imitate", "validate") has been traced."""
        return sum(
            f.experimental_get_tracing_count() for k, f in self._compiled.items() if k[0] == kind
        )

    def _learn(
        self,
        kind: str,
        loss: Any,
        meta_optimizer: keras.optimizers.Optimizer,
        start: Any,
        batches: Any,
        steps: int,
    ) -> tuple[StepResult, Any]:
        def step(start: Any, batches: Any, steps: tf.Tensor) -> tuple[StepResult, Any]:
            state, seeds, seed = start
            return self._meta_step(loss, meta_optimizer, state, seeds, seed, batches, steps)

        key = (kind, id(meta_optimizer))
        return self._run(key, step, start, batches, steps)

    def _run(
        self, key: Any, function: Callable[..., Any], start: Any, batches: Any, steps: int
    ) -> Any:
        """Calls a function compiled; what has the same key has been traced before."""
        if key not in self._compiled:
            self._compiled[key] = traced_once(function, start, batches)
        return self._compiled[key](start, batches, tf.constant(steps, tf.int32))

    def _meta_step(
        self,
        loss: Any,
        meta_optimizer: keras.optimizers.Optimizer,
        state: Any,
        seeds: Any,
        seed: tf.Tensor,
        batches: Any,
        steps: tf.Tensor,
    ) -> tuple[StepResult, Any]:
        weights = self.rule.values()

        def estimate(weights: Tensors, loss: Loss, state: Any, seeds: Any, batches: Any) -> Any:
            made = self.estimator.estimate(weights, loss, state, batches, steps, seeds)
            *of_optimizees, _ = made.result
            return [*made.gradients, made.count], of_optimizees, made.state

        def rehearse(loss: Loss, *args: Any) -> Any:
            with loss.rehearsed():
                return estimate(weights, loss, *args)

        def gradient() -> Tensors:
            sums, *_ = self.layout.run(rehearse, loss, state, seeds, batches)
            return _mean(sums)[0]

        at = self.perturbation.perturbed(weights, seed, gradient) if self.perturbation else weights
        sums, results, state = self.layout.run(
            functools.partial(estimate, at), loss, state, seeds, batches
        )
        gradients, count = _mean(sums)
        result = StepResult(*results)
        finite = tf.reduce_all([count > 0, *map(_all_finite, gradients)])

        def apply() -> tf.Tensor:
            meta_optimizer.apply(gradients, self.rule.weights)
            return finite

        # A meta-gradient that is not finite must not reach the weights or the meta-optimizer.
        tf.cond(finite, apply, lambda: finite)
        flat = tf.concat([tf.reshape(tf.cast(g, tf.float32), [-1]) for g in gradients], 0)
        flat = tf.where(finite, flat, np.nan)
        return result._replace(finite=result.finite & finite, gradient=flat), state

    def _validation(self, carry: Carry, batches: Any, steps: tf.Tensor) -> tuple[StepResult, Carry]:
        loss = self.loss.for_validation()
        unroll = Unroll(
            self.rule,
            self.rule.values(),
            self.optimizee,
            carry,
            batches,
            steps,
            multiplier=self.estimator.multiplier(steps),
        )
        trajectory = unroll.forward(references=loss.references, ended=loss.ended)
        value = loss(trajectory, steps)
        finite = trajectory.healthy & tf.math.is_finite(value)
        return report(value, finite, trajectory, steps), trajectory.carry


def _for_loss(problem: Problem, loss: MetaLoss) -> Problem:
    if loss.args.split == "train":
        return problem
    try:
        return with_held_out(problem)
    except UserError as error:
        raise UserError(error.message, "loss_args/split") from None


def _mean(sums: Tensors) -> tuple[Tensors, tf.Tensor]:
    """Returns mean gradients over the optimizees that count, and the number of these."""
    *gradients, count = sums
    return [g / tf.cast(tf.maximum(count, 1), g.dtype) for g in gradients], count


def _all_finite(tensor: tf.Tensor) -> tf.Tensor:
    return tf.reduce_all(tf.math.is_finite(tensor))
