"""The unroll: a run of the learned optimizer on an optimizee, one loop for all lengths."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import tensorflow as tf

from l2o.inner.backward import Backward, state_matters
from l2o.inner.batched import (
    Optimizee,
    batch_at,
    count_of,
    keep_where,
    parts_of,
    value_and_gradients,
)
from l2o.inner.lanes import Lanes, Uncut, cores, lanes_for
from l2o.inner.part import part_of
from l2o.inner.rule import Rule
from l2o.inner.trajectory import Carry, History, Tensors, Trajectory

# Bytes that the optimizer states of an unroll may take. If all of them would take more, the
# forward pass records only some and the backward pass recomputes the others.
MEMORY = 128 * 2**20


def never(f: tf.Tensor, f_0: tf.Tensor) -> tf.Tensor:
    """Returns false: the unroll runs all its steps."""
    return tf.zeros_like(f, tf.bool)


class LoopFlags(NamedTuple):
    """How far an unroll has come: scalars, or [K] with an axis of optimizees.

    alive: Whether the optimizee still takes steps.
    healthy: As in `Trajectory`.
    ran: As `steps` in `Trajectory`.
    """

    alive: tf.Tensor
    healthy: tf.Tensor
    ran: tf.Tensor


class Unroll:
    """An unroll, with a forward and a backward pass.

    As in `fit`, parameters that the objective does not depend on do not change, and neither
    does their part of the optimizer's state.

    One optimizee has no axis of optimizees. As K = 1 of that axis it would take 5 to 15 per cent
    longer (an MLP of 64 inputs, DM and ScaleHierarchical), and ScaleHierarchical's results
    would differ in the last bits.

    Args:
        rule: The learned optimizer's update rule.
        weights: The values of its learned weights.
        optimizee: What it optimizes: one optimizee, or K independent ones side by side.
        carry: Where to start.
        batches: [steps + 1, ...] mini-batches. Update i gets its gradient from mini-batch i
            and is scored on mini-batch i + 1. With an axis of optimizees, [steps + 1, K, ...].
            `SplitBatches`: update i is scored on held-out mini-batch i + 1.
        steps: int32 scalar T, the length of the unroll.
        second_derivatives: Whether the backward pass differentiates the optimizee's
            gradients [False: they are constants].
        scored: Whether the loss depends on the objectives. If not, the backward pass needs no
            gradient of held-out objectives [True].
        own_weights: Whether each of K optimizees has learned weights of its own: `weights` then
            has a first axis of optimizees, and there is no backward pass [False].
        lanes: With `own_weights`, see `Uncut` [None].
        multiplier: i -> the factor of the changes of update i, as `learning_rate` in Keras: a
            scalar, or [K] with an axis of optimizees [None: 1].
    """

    def __init__(
        self,
        rule: Rule,
        weights: Tensors,
        optimizee: Optimizee,
        carry: Carry,
        batches: Any,
        steps: tf.Tensor,
        *,
        second_derivatives: bool = False,
        scored: bool = True,
        own_weights: bool = False,
        lanes: int | None = None,
        multiplier: Callable[[tf.Tensor], tf.Tensor] | None = None,
    ) -> None:
        self.multiplier = multiplier
        self.batches, self.held_out = parts_of(batches)
        self.steps = steps
        self.second_derivatives = second_derivatives
        self.scored = scored
        self._whole = (optimizee, carry)
        self._part = part_of(rule.optimizer, optimizee, carry, self.batches)
        # Both passes leave out the parameters that never change.
        self.optimizee = self._part.optimizee if self._part else optimizee
        self.start = Carry(*self._part.split(*carry)) if self._part else carry
        self.count = count_of(optimizee)
        self.weights = weights
        if own_weights and self.count:
            self.lanes: Lanes = Uncut(self.count, lanes)
            self.rule = rule.with_own_weights
            self._weights_of_lanes = self.lanes.cut(weights)
        else:
            self.lanes = lanes_for(rule.optimizer, self.start.params, self.count)
            self.rule = rule.stacked if self.lanes.stacked else rule
            self._weights_of_lanes = [weights] * self.lanes.count
        self.states = self.lanes.cut_state(self.start.optimizer_state)
        self.interval = checkpoint_interval(self.lanes, self.start.optimizer_state, steps)

    @cached_property
    def through_evaluations(self) -> bool:
        """Whether the backward pass differentiates the evaluations of the objective."""
        return self.second_derivatives or (
            self.scored and state_matters(*self._whole, self.batches, self.held_out)
        )

    def forward(
        self,
        *,
        references: bool = True,
        parameters: bool = False,
        ended: Callable[[tf.Tensor, tf.Tensor], tf.Tensor] = never,
        record: bool = False,
        decay: Callable[[tf.Tensor], tf.Tensor] | None = None,
    ) -> Trajectory:
        """Runs the updates.

        Do not differentiate it with a gradient tape: `backward` computes its gradient.

        Args:
            references: Whether to evaluate each mini-batch also with the parameters that the
                unroll started from [True].
            parameters: Whether the trajectory holds the parameters [False].
            ended: (f_i, f_0) -> whether the unroll ends after this step; both are those that
                the update is scored by. It always ends after an objective that is not finite,
                held-out or not [never].
            record: Whether to record the history that `backward` reads [False].
            decay: i -> the share of each parameter that is lost before update i, as in Keras: a
                scalar, or [K] with an axis of optimizees. Not with `record` [None].

        Raises:
            ValueError: For `decay` with `record`: `backward` does not know it.
        """
        if record and decay is not None:
            raise ValueError("decay has no backward pass")
        # Asked only if something is recorded: the answer takes a trace of the objective.
        through = record and self.through_evaluations
        lanes, start = self.lanes, self.start._replace(optimizer_state=self.states)

        def step(
            i: tf.Tensor,
            flags: LoopFlags,
            finite: tf.Tensor,
            now: Carry,
            next_model_state: Any,
            grads: Tensors,
            log: Any,
        ) -> Any:
            objectives, reference_values, values, history = log
            lane_grads = lanes.cut(grads)
            if decay is not None:
                lost = keep_where(flags.alive, _multiplied(decay(i), now.params))
                now = now._replace(params=[p - d for p, d in zip(now.params, lost, strict=True)])
            read = now.params
            if self.count and lanes.parameters:
                read = keep_where(finite, read)
            history = self._record(history, i, now._replace(params=read), lane_grads, finite)
            lane_params = lanes.cut(read) if lanes.parameters else lane_grads
            inputs = zip(
                self._weights_of_lanes, lane_params, lane_grads, now.optimizer_state, strict=True
            )
            deltas, states = zip(*[self.rule.step(*lane) for lane in inputs], strict=True)
            changes = lanes.join(deltas)
            if self.multiplier is not None:
                changes = _multiplied(self.multiplier(i), changes)
            changes = keep_where(flags.alive, changes)
            params = [p + d for p, d in zip(now.params, changes, strict=True)]
            # The next unroll starts by evaluating mini-batch i + 1 again, so the carry must not
            # hold the model state after it.
            now = Carry(params, next_model_state, list(states))
            batch = batch_at(self.batches, i + 1)
            f, grads, next_model_state = value_and_gradients(
                self.optimizee, params, next_model_state, batch
            )
            evaluated: Tensors = [f]
            score_grads: Tensors = []
            if self.held_out is not None:
                batch = batch_at(self.held_out, i + 1)
                f, score_grads = self._score(now, batch, record and self.scored)
                evaluated.append(f)
            finite, (grads, score_grads) = self._checked(
                flags.alive, evaluated, [grads, score_grads]
            )
            if history.score_grads:
                history = _with_score_grads(history, i + 1, lanes.cut(score_grads))
            f_0 = tf.zeros_like(f)
            if references:
                f_0, _ = self.optimizee.objective(start.params, start.model_state, batch)
            log = (
                objectives.write(i, f),
                reference_values.write(i, f_0),
                _write(values, i, params),
                history,
            )
            flags = LoopFlags(
                flags.alive & finite & ~ended(f, f_0),
                flags.healthy & (finite | ~flags.alive),
                flags.ran + tf.cast(flags.alive, tf.int32),
            )
            return i + 1, flags, finite, now, next_model_state, grads, log

        f, grads, next_model_state = value_and_gradients(
            self.optimizee, start.params, start.model_state, batch_at(self.batches, 0)
        )
        finite, (grads,) = self._checked(tf.ones_like(f, tf.bool), [f], [grads])
        history = self._empty_history(record, through, grads, finite)
        values = _arrays(start.params if parameters else [], self.steps)
        flags = LoopFlags(
            finite if self.count else tf.ones_like(finite), finite, tf.zeros_like(f, tf.int32)
        )
        i, flags, finite, end, _, grads, log = tf.while_loop(
            lambda i, flags, *_: tf.reduce_any(flags.alive) & (i < self.steps),
            step,
            (
                tf.zeros([], tf.int32),
                flags,
                finite,
                start,
                next_model_state,
                grads,
                (*_arrays([f, f], self.steps), values, history),
            ),
        )
        objectives, reference_values, values, history = log
        state = lanes.join_state(end.optimizer_state, self.start.optimizer_state)
        trajectory = Trajectory(
            objectives.stack(),
            reference_values.stack(),
            [v.stack() for v in values],
            flags.ran,
            flags.healthy,
            end._replace(optimizer_state=state),
            self._record(history, i, end, lanes.cut(grads), finite),
        )
        return self._with_the_rest(trajectory, parameters) if self._part else trajectory

    def backward(
        self,
        trajectory: Trajectory,
        d_objectives: tf.Tensor | None,
        d_parameters: Sequence[tf.Tensor] = (),
    ) -> Tensors:
        """Returns the gradient of a loss by the learned weights.

        Args:
            trajectory: What `forward` returned, with its history.
            d_objectives: [T], the loss's gradient by the objectives; None if there is none.
                With an axis of optimizees [T, K], with zeros for one that is not healthy.
            d_parameters: Per parameter [T, ...], the loss's gradient by the parameters [none].
        """
        if self._part and d_parameters:
            # Those that do not change do not depend on the learned weights.
            d_parameters = self._part.taken(d_parameters)
        return Backward(self, trajectory, d_objectives, d_parameters).gradient()

    def _score(self, now: Carry, batch: Any, gradients: bool) -> tuple[tf.Tensor, Tensors]:
        """Returns the objective on held-out examples, and its gradients or an empty list."""
        if not gradients:
            f, _ = self.optimizee.objective(now.params, now.model_state, batch)
            return f, []
        f, grads, _ = value_and_gradients(self.optimizee, now.params, now.model_state, batch)
        return f, grads

    def _checked(
        self, alive: tf.Tensor, objectives: Tensors, grads: list[Tensors]
    ) -> tuple[tf.Tensor, list[Tensors]]:
        """Returns whether evaluations are finite, and their gradients as the passes read them."""
        finite = functools.reduce(tf.logical_and, map(tf.math.is_finite, objectives))
        if self.count:
            # The rule also computes updates for optimizees that have ended. All of them share
            # the learned weights, whose gradient must not meet an infinity.
            flat = [g for group in grads for g in group]
            finite = alive & tf.reduce_all([finite, *map(_finite_optimizees, flat)], 0)
            grads = [keep_where(finite, group) for group in grads]
        return finite, grads

    def _empty_history(
        self, record: bool, through: bool, grads: Tensors, finite: tf.Tensor
    ) -> History:
        length = self.steps + 1
        with_params = through or (record and self.lanes.parameters)
        with_scores = record and self.scored and self.held_out is not None and not through
        return History(
            [_arrays(s, self.steps // self.interval + 2) for s in self.states if record],
            [_arrays(lane, length) for lane in self.lanes.cut(grads) if record],
            [_arrays(lane, length) for lane in self.lanes.cut(grads) if with_scores],
            _arrays(self.start.params if with_params else [], length),
            _arrays(self.start.model_state if through else [], length),
            _arrays(finite if self.count and through else [], length),
        )

    def _record(
        self,
        history: History,
        i: tf.Tensor,
        now: Carry,
        lane_grads: list[Tensors],
        finite: tf.Tensor,
    ) -> History:
        # Slot j holds the state before step j * k. Steps (j - 1) k + 1 to j k overwrite it one
        # after the other, which takes no branch.
        slot = (i + self.interval - 1) // self.interval
        return history._replace(
            states=[
                _write(a, slot, s)
                for a, s in zip(history.states, now.optimizer_state, strict=False)
            ],
            grads=[_write(a, i, g) for a, g in zip(history.grads, lane_grads, strict=False)],
            params=_write(history.params, i, now.params),
            model_states=_write(history.model_states, i, now.model_state),
            finite=_write(history.finite, i, finite),
        )

    def _with_the_rest(self, trajectory: Trajectory, parameters: bool) -> Trajectory:
        """Returns the trajectory of the whole optimizee from that of its changing part."""
        assert self._part is not None
        _, carry = self._whole
        rest = self._part.rest(carry.params)
        ran = tf.range(self.steps) < tf.reduce_max(trajectory.steps)
        series = [tf.where(_column(ran, r.shape.rank), r, tf.zeros_like(r)) for r in rest]
        return trajectory._replace(
            parameters=self._part.merge(trajectory.parameters, series) if parameters else [],
            carry=Carry(*self._part.join(*trajectory.carry, carry.optimizer_state)),
        )


def _with_score_grads(history: History, i: tf.Tensor, lane_grads: list[Tensors]) -> History:
    written = [_write(a, i, g) for a, g in zip(history.score_grads, lane_grads, strict=True)]
    return history._replace(score_grads=written)


def _multiplied(factor: tf.Tensor, tensors: Tensors) -> Tensors:
    """Returns tensors times a scalar, or times [K] along their first axis."""
    return [
        tf.cast(tf.reshape(factor, factor.shape + [1] * (d.shape.rank - 1)), d.dtype) * d
        if factor.shape.rank
        else tf.cast(factor, d.dtype) * d
        for d in tensors
    ]


def traced_once(function: Callable[..., Any], carry: Any, batches: Any) -> Callable[..., Any]:
    """Returns `function(carry, batches, steps)` compiled, with one trace for all lengths.

    Args:
        function: Of a carry, mini-batches [steps + 1, ...] and an int32 scalar.
        carry: Only structure, shapes and dtypes matter.
        batches: Likewise, with any number of mini-batches.
    """
    # Without a signature, another number of mini-batches would be traced again.
    signature = (
        tf.nest.map_structure(lambda t: tf.TensorSpec(t.shape, t.dtype), carry),
        tf.nest.map_structure(lambda b: tf.TensorSpec([None, *b.shape[1:]], b.dtype), batches),
        tf.TensorSpec([], tf.int32),
    )
    return tf.function(function, input_signature=signature, autograph=False)


def checkpoint_interval(lanes: Lanes, state: Any, steps: tf.Tensor) -> tf.Tensor:
    """Returns k: the forward pass records the state before every k-th update.

    k is 1 if all states fit `MEMORY`. If not, the backward pass recomputes the states of a
    segment of k steps from its first one, in as many lanes at a time as there are cores. That
    takes the memory of k states in those lanes and of T / k states in all lanes; the k
    returned makes the sum smallest.

    Args:
        lanes: Of the unroll.
        state: The optimizer's state.
        steps: int32 scalar T, the length of the unroll.
    """
    size = sum(leaf.shape.num_elements() * leaf.dtype.size for leaf in tf.nest.flatten(state))
    length = tf.cast(steps, tf.float64)
    least = tf.sqrt(length * max(1, lanes.count / cores()))
    return tf.where(length * size <= MEMORY, 1, tf.cast(tf.math.ceil(least), tf.int32))


def _column(vector: tf.Tensor, rank: int) -> tf.Tensor:
    """Returns [T, 1, ..., 1] with `rank` ones."""
    return tf.reshape(vector, [-1] + [1] * rank)


def _finite_optimizees(tensor: tf.Tensor) -> tf.Tensor:
    """Returns [K], whether all numbers of each optimizee are finite."""
    return tf.reduce_all(tf.math.is_finite(tensor), range(1, tensor.shape.rank))


def _arrays(nest: Any, size: tf.Tensor) -> list[tf.TensorArray]:
    return [
        tf.TensorArray(leaf.dtype, size=size, element_shape=leaf.shape, clear_after_read=False)
        for leaf in tf.nest.flatten(nest)
    ]


def _write(arrays: list[tf.TensorArray], i: tf.Tensor, nest: Any) -> list[tf.TensorArray]:
    # What is not recorded has no array.
    return [a.write(i, leaf) for a, leaf in zip(arrays, tf.nest.flatten(nest), strict=False)]
