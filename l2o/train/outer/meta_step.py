"""One compiled meta-step: unroll, loss, meta-gradient, update of the learned weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from l2o.inner import batched
from l2o.inner.backward import backward, what_to_keep
from l2o.inner.batched import Batched, keep_where
from l2o.inner.rule import Rule
from l2o.inner.unroll import Carry, Trajectory, never, traced_once, unroll
from l2o.optimizer import TrainableOptimizer
from l2o.problems import Instance, Problem
from l2o.train.distributed.replicas import Replicas
from l2o.train.losses.meta import (
    LossArgs,
    Reduction,
    UnrollWeights,
    imitation_loss,
    meta_loss,
    unroll_weights,
)
from l2o.train.losses.teachers import Teacher

DEFAULT_LOSS = LossArgs()


class StepResult(NamedTuple):
    """What a meta-step reports, tensors still on the device: scalars, or [instances] of all.

    loss: Meta- or imitation loss of the unroll.
    objective: The optimizee's last objective.
    finite: Whether it took part in the update of the weights: its loss was finite, and so
        were the gradients of all of them together.
    complete: Whether all updates ran and the optimizee is fit to go on.
    steps: int32, how many updates ran.
    """

    loss: tf.Tensor
    objective: tf.Tensor
    finite: tf.Tensor
    complete: tf.Tensor
    steps: tf.Tensor


class MetaStep:
    """The meta-steps of one optimizer on one problem, each traced once for all lengths.

    Args:
        optimizer: What is trained.
        problem: What it is trained on.
        rule: That of the optimizer, to compile it once for several problems [a new one].
        teachers: For `imitate`, those of each replica of this process.
        loss_args: For all losses.
        weights: The weight of each step of an unroll.
        reduction: Over teachers.
        second_derivatives: Whether optimizee gradients are differentiated.
        instances: How many optimizees each replica unrolls, side by side; the gradient is the
            mean of those of all [1].
        replicas: Which share the work [one].

    Of several optimizees (of several replicas of this process) a carry has an axis (a list)
    for them. Methods number them through, those of the first replica first.
    """

    def __init__(
        self,
        optimizer: TrainableOptimizer,
        problem: Problem,
        *,
        rule: Rule | None = None,
        teachers: Sequence[Sequence[Teacher]] = (),
        loss_args: LossArgs = DEFAULT_LOSS,
        weights: UnrollWeights = "sum",
        reduction: Reduction = "mean",
        second_derivatives: bool = False,
        instances: int = 1,
        replicas: Replicas | None = None,
    ) -> None:
        self.optimizer = optimizer
        self.rule = rule or Rule(optimizer)
        self.problem = problem
        self.teachers = teachers
        self.loss_args = loss_args
        self.weights = weights
        self.reduction = reduction
        self.second_derivatives = second_derivatives
        self.instances = instances
        self.replicas = replicas or Replicas()
        # One alone needs no axis.
        self.optimizee = problem if instances == 1 else Batched(problem, instances)
        self._compiled: dict[Any, Any] = {}

    def start(self, instance: Instance, optimizer_state: Any = None, seed: int = 0) -> Carry:
        """Returns the carry at the start of one optimizee.

        Args:
            instance: The optimizee.
            optimizer_state: Internal state to keep; None for a fresh one [None].
            seed: Names the random draws of a fresh one [0].
        """
        if optimizer_state is None:
            optimizer_state = self.optimizer.initial_state(instance.params, seed)
        return Carry(instance.params, instance.model_state, optimizer_state)

    def stack(self, carries: Sequence[Carry]) -> Any:
        """Returns the carry of all instances from one for each."""
        return self._joined([self._stacked(part) for part in self._parts(carries)])

    def put(self, carry: Any, index: int, one: Carry) -> Any:
        """Returns the carry with instance `index` replaced."""
        replica, k = divmod(index, self.instances)
        carries = self._split(carry)
        carries[replica] = one if self.instances == 1 else batched.put(carries[replica], k, one)
        return self._joined(carries)

    def state(self, carry: Any, index: int) -> Any:
        """Returns the optimizer's state for instance `index`."""
        replica, k = divmod(index, self.instances)
        state = self._split(carry)[replica].optimizer_state
        return state if self.instances == 1 else batched.take(state, k)

    def stream(self, names: Sequence[int], start: int, count: int) -> Any:
        """Returns mini-batches `start` to `start + count` of each instance's stream.

        Args:
            names: Per instance, the seed of `Problem.stream`.
            start: As there.
            count: As there.
        """
        streams = [self.problem.stream(name, start, count) for name in names]
        return self._joined([self._stacked(part, axis=1) for part in self._parts(streams)])

    def _parts(self, instances: Sequence[Any]) -> list[Sequence[Any]]:
        """Returns what belongs to each replica."""
        starts = range(0, len(instances), self.instances)
        return [instances[k : k + self.instances] for k in starts]

    def _stacked(self, instances: Sequence[Any], axis: int = 0) -> Any:
        return instances[0] if self.instances == 1 else batched.stack(instances, axis)

    def _joined(self, shares: list[Any]) -> Any:
        return shares[0] if self.replicas.local == 1 else shares

    def _split(self, shares: Any) -> list[Any]:
        return [shares] if self.replicas.local == 1 else list(shares)

    def train(
        self, meta_optimizer: keras.optimizers.Optimizer, carry: Carry, batches: Any, steps: int
    ) -> tuple[StepResult, Carry]:
        """Unrolls, and lets `meta_optimizer` improve the learned weights on the meta-loss.

        Args:
            meta_optimizer: A Keras optimizer built on the learned weights.
            carry: Where the unroll starts.
            batches: What `stream` returns for `steps + 1`.
            steps: Length of the unroll, at least 1.

        Returns:
            The result and where the unroll ended.
        """
        return self._call("train", meta_optimizer, carry, batches, steps)

    def imitate(
        self, meta_optimizer: keras.optimizers.Optimizer, carry: Carry, batches: Any, steps: int
    ) -> tuple[StepResult, Carry]:
        """As `train`, on the imitation loss."""
        return self._call("imitate", meta_optimizer, carry, batches, steps)

    def validate(self, carry: Carry, batches: Any, steps: int) -> tuple[StepResult, Carry]:
        """As `train`, but changes no weight."""
        return self._call("validate", None, carry, batches, steps)

    def traces(self, kind: str) -> int:
        """Returns how often `kind` ("train", "imitate", "validate") has been traced."""
        return sum(
            f.experimental_get_tracing_count() for k, f in self._compiled.items() if k[0] == kind
        )

    def _call(
        self,
        kind: str,
        meta_optimizer: keras.optimizers.Optimizer | None,
        carry: Carry,
        batches: Any,
        steps: int,
    ) -> tuple[StepResult, Carry]:
        key = (kind, id(meta_optimizer))
        if key not in self._compiled:
            self._compiled[key] = traced_once(
                lambda *args: self._step(kind, meta_optimizer, *args), carry, batches
            )
        return self._compiled[key](carry, batches, tf.constant(steps, tf.int32))

    def _step(
        self,
        kind: str,
        meta_optimizer: keras.optimizers.Optimizer | None,
        carry: Any,
        batches: Any,
        steps: tf.Tensor,
    ) -> Any:
        values = self.rule.values()
        if kind == "validate":
            return self._validate(values, carry, batches, steps)
        carries, streams = self._split(carry), self._split(batches)

        def learn(k: int) -> tuple[Any, list[tf.Tensor]]:
            carry, batches = carries[k], streams[k]
            teachers = self.teachers[k] if kind == "imitate" else []
            taught = [teacher.run(carry, batches, steps) for teacher in teachers]
            result, end, sums, count = self._learn(kind, values, carry, batches, steps, taught)
            return end, [*sums, count, *self._spread(k, result)]

        ends, parts = zip(*self.replicas.each(learn), strict=True)
        total = self.replicas.total(parts)
        of = len(values)
        sums, count, result = total[:of], total[of], StepResult(*total[of + 1 :])
        grads = [g / tf.cast(tf.maximum(count, 1), g.dtype) for g in sums]
        finite = tf.reduce_all([count > 0, *map(_all_finite, grads)])
        assert meta_optimizer is not None

        def apply() -> tf.Tensor:
            meta_optimizer.apply(grads, self.rule.weights)
            return finite

        tf.cond(finite, apply, lambda: finite)
        return result._replace(finite=result.finite & finite), self._joined(list(ends))

    def _spread(self, k: int, result: StepResult) -> list[tf.Tensor]:
        """Returns the result [instances of all], zeros but for those of replica k."""
        if self.replicas.count == 1:
            return list(result)
        before = (self.replicas.first + k) * self.instances
        after = self.replicas.count * self.instances - before - self.instances
        return [tf.pad(tf.reshape(t, [self.instances]), [[before, after]]) for t in result]

    def _validate(
        self, values: list[tf.Tensor], carry: Carry, batches: Any, steps: tf.Tensor
    ) -> Any:
        # `obj_train_max_multiplier` is for training: what ends early would validate well.
        trajectory = unroll(
            self.rule,
            values,
            self.optimizee,
            carry,
            batches,
            steps,
            references=self.loss_args.scale_objective,
            ended=never,
        )
        weights = unroll_weights(self.weights, steps, trajectory.steps)
        loss = meta_loss(trajectory, weights, self.loss_args)
        valid = trajectory.healthy & tf.math.is_finite(loss)
        return _result(loss, valid, trajectory, steps), trajectory.carry

    def _learn(
        self,
        kind: str,
        values: list[tf.Tensor],
        carry: Any,
        batches: Any,
        steps: tf.Tensor,
        taught: Any,
    ) -> tuple[StepResult, Any, list[tf.Tensor], tf.Tensor]:
        """Returns the result, the end, and the gradients' sum over how many optimizees."""
        args, imitate = self.loss_args, kind == "imitate"
        unrolled = (self.rule, values, self.optimizee, carry, batches, steps)
        keep = what_to_keep(self.optimizee, carry, batches, self.second_derivatives)
        trajectory = unroll(
            *unrolled,
            ended=args.ended,
            keep=keep,
            references=args.obj_train_max_multiplier > 0 if imitate else args.needs_references,
            parameters=imitate,
        )
        weights = unroll_weights(self.weights, steps, trajectory.steps)
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch([trajectory.objectives, trajectory.parameters])
            if imitate:
                loss = imitation_loss(trajectory, taught, weights, args, self.reduction)
            else:
                loss = meta_loss(trajectory, weights, args)
        d_objectives, d_parameters = tape.gradient(
            loss, [trajectory.objectives, trajectory.parameters]
        )
        valid = trajectory.healthy & tf.math.is_finite(loss)
        # What one optimizee did must not spoil the mean of the others.
        if d_objectives is not None:
            (d_objectives,) = keep_where(valid, [d_objectives], axis=1)
        sums = backward(
            *unrolled,
            trajectory,
            d_objectives,
            keep_where(valid, d_parameters, axis=1),
            keep=keep,
            second_derivatives=self.second_derivatives,
        )
        count = tf.reduce_sum(tf.cast(valid, tf.int32))
        # One alone has not been masked, and what it adds to those of other replicas must be.
        sums = [tf.where(count > 0, total, tf.zeros_like(total)) for total in sums]
        return _result(loss, valid, trajectory, steps), trajectory.carry, sums, count


def _all_finite(tensor: tf.Tensor) -> tf.Tensor:
    return tf.reduce_all(tf.math.is_finite(tensor))


def _result(
    loss: tf.Tensor, finite: tf.Tensor, trajectory: Trajectory, steps: tf.Tensor
) -> StepResult:
    last = tf.maximum(trajectory.steps - 1, 0)
    of = trajectory.steps.shape.rank
    objective = (
        tf.gather(trajectory.objectives, last)
        if not of
        else tf.gather(tf.transpose(trajectory.objectives), last, batch_dims=1)
    )
    fit = [
        tf.reduce_all(tf.math.is_finite(p), range(of, p.shape.rank))
        for p in trajectory.carry.params
    ]
    complete = tf.reduce_all([trajectory.healthy, *fit], 0) & (trajectory.steps == steps)
    return StepResult(loss, objective, finite, complete, trajectory.steps)
