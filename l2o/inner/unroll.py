"""The unroll: a run of the learned optimizer on an optimizee, one loop for all lengths."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Any, NamedTuple

import tensorflow as tf

from l2o.inner.batched import Optimizee, count_of, keep_where
from l2o.inner.lanes import Lanes, cores, lanes_for
from l2o.inner.part import part_of
from l2o.inner.rule import Rule

Tensors = list[tf.Tensor]
# Bytes that the states of all steps of an unroll may take; of a longer one only some are kept.
MEMORY = 128 * 2**20


class Carry(NamedTuple):
    """What one unroll hands to the next one of the same optimizee."""

    params: Tensors
    model_state: Any
    optimizer_state: Any


class Keep(Enum):
    """How much of an unroll is recorded: for a gradient, or for one through evaluations too."""

    NOTHING = 0
    UPDATES = 1
    EVALUATIONS = 2


class History(NamedTuple):
    """What going back through an unroll needs, by the index of the update.

    states: Per lane and leaf of the optimizer's state, that before updates 0, k, 2k, ...
    grads: Per lane, the gradients each update got; one more entry for those after the last.
    params: Per parameter, its value at the same point; empty if nothing needs it.
    model_states: Per leaf, the model state before the mini-batch; empty likewise.
    good: Of several optimizees, whether each got these gradients; the others got zeros.
    """

    states: list[list[tf.TensorArray]]
    grads: list[list[tf.TensorArray]]
    params: list[tf.TensorArray]
    model_states: list[tf.TensorArray]
    good: list[tf.TensorArray]


class Trajectory(NamedTuple):
    """What an unroll did. Entries of steps that did not run are 0.

    Of several optimizees side by side, K: [T, K] for [T], and [K] for a scalar. What an
    optimizee has done after its last step does not count.

    objectives: [T], the objective f_i after update i, on mini-batch i + 1.
    references: [T], the objective of the same mini-batch at the start of the unroll;
        zeros if it was not asked for.
    parameters: Per parameter [T, ...], its value after update i; empty if not asked for.
    steps: int32 scalar, how many updates ran.
    healthy: bool scalar, whether all objectives were finite, and of several optimizees the
        gradients too.
    carry: What the next unroll starts from.
    past: What `backward` needs of it.
    """

    objectives: tf.Tensor
    references: tf.Tensor
    parameters: Tensors
    steps: tf.Tensor
    healthy: tf.Tensor
    carry: Carry
    past: History = History([], [], [], [], [])


def never(f: tf.Tensor, f_0: tf.Tensor) -> tf.Tensor:
    """Returns false: the unroll goes on."""
    return tf.zeros_like(f, tf.bool)


class LoopFlags(NamedTuple):
    """How far an unroll has come; of several optimizees a flag and a count for each.

    alive: Whether it goes on.
    healthy: As in `Trajectory`.
    ran: As `steps` in `Trajectory`.
    """

    alive: tf.Tensor
    healthy: tf.Tensor
    ran: tf.Tensor


def unroll(
    rule: Rule,
    weights: Tensors,
    problem: Optimizee,
    carry: Carry,
    batches: Any,
    steps: tf.Tensor,
    *,
    references: bool = True,
    parameters: bool = False,
    ended: Callable[[tf.Tensor, tf.Tensor], tf.Tensor] = never,
    keep: Keep = Keep.NOTHING,
) -> Trajectory:
    """Runs `steps` updates. A gradient tape is of no use around it: see `backward`.

    As in `fit`, parameters that the objective does not depend on stay, and so does their
    part of the optimizer's state.

    Args:
        rule: Of the learned optimizer.
        weights: Its learned weights, as they are.
        problem: What it optimizes: one instance, or several, which do not see each other.
        carry: Where to start.
        batches: [steps + 1, ...], the mini-batches; update i gets its gradient from
            mini-batch i and is scored on mini-batch i + 1. Of several optimizees
            [steps + 1, K, ...].
        steps: int32 scalar.
        references: Whether to evaluate each mini-batch at the start of the unroll too.
        parameters: Whether to record the parameters.
        ended: (f_i, f_0) -> whether the unroll ends after this step. It ends after an
            objective that is not finite anyway.
        keep: What `backward` is going to need.

    Returns:
        The trajectory.
    """
    part = part_of(rule.optimizer, problem, carry, batches)
    if part is not None:
        inner = Carry(*part.split(*carry))
        done = unroll(
            rule,
            weights,
            part.optimizee,
            inner,
            batches,
            steps,
            references=references,
            parameters=parameters,
            ended=ended,
            keep=keep,
        )
        rest = part.rest(carry.params)
        ran = tf.range(steps) < tf.reduce_max(done.steps)
        still = [tf.where(_column(ran, r.shape.rank), r, tf.zeros_like(r)) for r in rest]
        return done._replace(
            parameters=part.merge(done.parameters, still) if parameters else [],
            carry=Carry(*part.join(*done.carry, carry.optimizer_state)),
        )
    several = count_of(problem)
    lanes = lanes_for(rule.optimizer, carry.params, several)
    rule = rule.stacked if lanes.stacked else rule
    start = carry._replace(optimizer_state=lanes.cut_state(carry.optimizer_state))
    every = checkpoint_interval(lanes, carry.optimizer_state, steps)

    def remember(
        past: History, i: tf.Tensor, now: Carry, lane_grads: list[Tensors], good: tf.Tensor
    ) -> History:
        # Of a stretch the first state stays: the last one written at ceil(i / k) is i = jk.
        index = (i + every - 1) // every
        return History(
            [_write(a, index, s) for a, s in zip(past.states, now.optimizer_state, strict=False)],
            [_write(a, i, g) for a, g in zip(past.grads, lane_grads, strict=False)],
            _write(past.params, i, now.params),
            _write(past.model_states, i, now.model_state),
            _write(past.good, i, good),
        )

    def look(alive: tf.Tensor, f: tf.Tensor, grads: Tensors) -> tuple[tf.Tensor, Tensors]:
        """Returns whether an evaluation may be used, and the gradients as the rule gets them."""
        good = tf.math.is_finite(f)
        if several:
            # One optimizee alone ends with the loop. Here the rule goes on beside those that
            # have ended, and learned weights that all of them share must not see infinities.
            good = alive & tf.reduce_all([good, *map(_finite_instances, grads)], 0)
            grads = keep_where(good, grads)
        return good, grads

    def step(
        i: tf.Tensor,
        flags: LoopFlags,
        good: tf.Tensor,
        now: Carry,
        seen: Any,
        grads: Tensors,
        log: Any,
    ) -> Any:
        objectives, reference_values, values, past = log
        lane_grads = lanes.cut(grads)
        read = now.params
        if several and lanes.parameters:
            read = keep_where(good, read)
        past = remember(past, i, now._replace(params=read), lane_grads, good)
        lane_params = lanes.cut(read) if lanes.parameters else lane_grads
        inputs = zip(lane_params, lane_grads, now.optimizer_state, strict=True)
        deltas, states = zip(*[rule.step(weights, *lane) for lane in inputs], strict=True)
        changes = keep_where(flags.alive, lanes.join(deltas))
        params = [p + d for p, d in zip(now.params, changes, strict=True)]
        # The next unroll sees mini-batch i + 1 again: the carry stays at the state before it.
        now = Carry(params, seen, list(states))
        f, grads, seen = value_and_gradients(problem, params, seen, batch_at(batches, i + 1))
        good, grads = look(flags.alive, f, grads)
        f_0 = tf.zeros_like(f)
        if references:
            f_0, _ = problem.objective(carry.params, carry.model_state, batch_at(batches, i + 1))
        log = (
            objectives.write(i, f),
            reference_values.write(i, f_0),
            _write(values, i, params),
            past,
        )
        flags = LoopFlags(
            flags.alive & good & ~ended(f, f_0),
            flags.healthy & (good | ~flags.alive),
            flags.ran + tf.cast(flags.alive, tf.int32),
        )
        return i + 1, flags, good, now, seen, grads, log

    f, grads, seen = value_and_gradients(
        problem, carry.params, carry.model_state, batch_at(batches, 0)
    )
    good, grads = look(tf.ones_like(f, tf.bool), f, grads)
    some, all_ = keep is not Keep.NOTHING, keep is Keep.EVALUATIONS
    past = History(
        [_arrays(s, steps // every + 2) for s in start.optimizer_state if some],
        [_arrays(lane, steps + 1) for lane in lanes.cut(grads) if some],
        _arrays(carry.params if all_ or (some and lanes.parameters) else [], steps + 1),
        _arrays(carry.model_state if all_ else [], steps + 1),
        _arrays(good if several and all_ else [], steps + 1),
    )
    values = _arrays(carry.params if parameters else [], steps)
    first = LoopFlags(good if several else tf.ones_like(good), good, tf.zeros_like(f, tf.int32))
    i, flags, good, end, _, grads, (objectives, reference_values, values, past) = tf.while_loop(
        lambda i, flags, *_: tf.reduce_any(flags.alive) & (i < steps),
        step,
        (
            tf.zeros([], tf.int32),
            first,
            good,
            start,
            seen,
            grads,
            (*_arrays([f, f], steps), values, past),
        ),
    )
    return Trajectory(
        objectives.stack(),
        reference_values.stack(),
        [v.stack() for v in values],
        flags.ran,
        flags.healthy,
        end._replace(optimizer_state=lanes.join_state(end.optimizer_state, carry.optimizer_state)),
        remember(past, i, end, lanes.cut(grads), good),
    )


def traced_once(function: Callable[..., Any], carry: Any, batches: Any) -> Callable[..., Any]:
    """Returns `function(carry, batches, steps)` compiled, with one trace for all lengths.

    Args:
        function: Of a carry, mini-batches [steps + 1, ...] and an int32 scalar.
        carry: A carry of the shapes it will get.
        batches: Mini-batches likewise, any number of them.
    """
    # Spelled out, so that another number of steps is no reason to trace again.
    signature = (
        tf.nest.map_structure(lambda t: tf.TensorSpec(t.shape, t.dtype), carry),
        tf.nest.map_structure(lambda b: tf.TensorSpec([None, *b.shape[1:]], b.dtype), batches),
        tf.TensorSpec([], tf.int32),
    )
    return tf.function(function, input_signature=signature, autograph=False)


def batch_at(batches: Any, i: tf.Tensor) -> Any:
    """Returns mini-batch i."""
    return tf.nest.map_structure(lambda b: b[i], batches)


def value_and_gradients(
    problem: Optimizee, params: Tensors, model_state: Any, batch: Any
) -> tuple[tf.Tensor, Tensors, Any]:
    """Returns the objective, its gradients and the new model state; of several, of each.

    Gradients are dense, as learned rules expect them: see `teachers.PerOptimizee` for Keras'.
    """
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(params)
        # The gradient of what is gathered from is sparse; a reshape's is not.
        dense = [tf.reshape(p, tf.shape(p)) for p in params]
        f, model_state = problem.objective(dense, model_state, batch)
    grads = tape.gradient(f, params, unconnected_gradients=tf.UnconnectedGradients.ZERO)
    return f, grads, model_state


def checkpoint_interval(lanes: Lanes, state: Any, steps: tf.Tensor) -> tf.Tensor:
    """Returns k: the state before every k-th update is kept.

    All of them if they fit `MEMORY`. If not, going back computes the states of a stretch of
    k steps again, in as many lanes at a time as there are cores; k is where those and the
    T / k states that are kept together take the least.

    Args:
        lanes: Of the unroll.
        state: The optimizer's state.
        steps: int32 scalar T, length of the unroll.
    """
    size = sum(leaf.shape.num_elements() * leaf.dtype.size for leaf in tf.nest.flatten(state))
    length = tf.cast(steps, tf.float64)
    least = tf.sqrt(length * max(1, lanes.count / cores()))
    return tf.where(length * size <= MEMORY, 1, tf.cast(tf.math.ceil(least), tf.int32))


def _column(vector: tf.Tensor, rank: int) -> tf.Tensor:
    """Returns [T, 1, ..., 1] with `rank` ones."""
    return tf.reshape(vector, [-1] + [1] * rank)


def _finite_instances(tensor: tf.Tensor) -> tf.Tensor:
    """Returns [K], whether each instance is finite."""
    return tf.reduce_all(tf.math.is_finite(tensor), range(1, tensor.shape.rank))


def _arrays(nest: Any, size: tf.Tensor) -> list[tf.TensorArray]:
    return [
        tf.TensorArray(leaf.dtype, size=size, element_shape=leaf.shape, clear_after_read=False)
        for leaf in tf.nest.flatten(nest)
    ]


def _write(arrays: list[tf.TensorArray], i: tf.Tensor, nest: Any) -> list[tf.TensorArray]:
    # What is not recorded has no array.
    return [a.write(i, leaf) for a, leaf in zip(arrays, tf.nest.flatten(nest), strict=False)]
