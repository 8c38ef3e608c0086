"""The backward pass of an unroll: one update after the other, each of them recomputed.

Before update t, let x_t be the parameters, s_t the optimizer's state, f_t the objective, g_t its
gradient and H_t its Hessian. Let w be the learned weights, and d_v the derivative of the loss by v.

    d_x_t+1 += d_f_t+1 g_t+1
    (d_w +=, d_g_t, d_s_t) = J_rule(g_t, s_t)^T (c_t d_x_t+1, d_s_t+1)
    d_x_t = d_x_t+1 [+ H_t d_g_t, with second derivatives]

c_t is the factor of the changes of update t, see `multiplier` of `Unroll`.

With held-out mini-batches, f_t is the objective of held-out mini-batch t, and its gradient takes
the place of g_t+1 in the first line.

Without second derivatives nothing here connects one coordinate with another: the forward pass
has recorded g. So each lane has a backward pass of its own, and no objective is evaluated.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import tensorflow as tf

from l2o.inner.batched import (
    Optimizee,
    batch_at,
    keep_where,
    one_of,
    problem_of,
    value_and_gradients,
)
from l2o.inner.lanes import cores
from l2o.inner.rule import floating, replace_floating
from l2o.inner.trajectory import Carry, Tensors, Trajectory

if TYPE_CHECKING:
    from l2o.inner.unroll import Unroll


class Backward:
    """The backward pass; see `Unroll.backward` for the arguments.

    Args:
        unroll: The unroll.
        trajectory: As there.
        d_objectives: As there.
        d_parameters: As there, of the parameters that change.
    """

    def __init__(
        self,
        unroll: Unroll,
        trajectory: Trajectory,
        d_objectives: tf.Tensor | None,
        d_parameters: Sequence[tf.Tensor],
    ) -> None:
        self.unroll = unroll
        self.lanes = unroll.lanes
        self.interval = unroll.interval
        self.history = trajectory.history
        self.d_objectives = d_objectives
        self.d_parameters = self.lanes.cut_series(list(d_parameters)) if d_parameters else []
        # Optimizees side by side share a loop, which runs as long as the last of them.
        self.ran = tf.reduce_max(trajectory.steps) if unroll.count else trajectory.steps

    def gradient(self) -> Tensors:
        """Returns the gradient of the learned weights."""
        count = len(self.unroll.states)
        # An evaluation needs the parameters of all lanes at once.
        together = self.unroll.through_evaluations
        groups = [range(count)] if together else [[lane] for lane in range(count)]
        done: list[Tensors] = []
        for k, group in enumerate(groups):
            # More at a time than there are cores would take memory and save no time.
            with tf.control_dependencies(done[k - cores()] if k >= cores() else []):
                done.append(self._lanes_gradient(group))
        return [tf.add_n(parts) for parts in zip(*done, strict=True)]

    def _lanes_gradient(self, group: Sequence[int]) -> Tensors:
        """Returns what the updates of a group of lanes add to the gradient."""
        unroll, lanes, history = self.unroll, self.lanes, self.history

        def step(
            i: tf.Tensor,
            d_x: list[Tensors],
            d_grads: Tensors,
            d_model: Tensors,
            d_states: list[Tensors],
            totals: Tensors,
            segments: list[list[tf.TensorArray]],
        ) -> Any:
            t = i - 1
            d_f = None if self.d_objectives is None else self.d_objectives[t]
            if unroll.through_evaluations:
                d_params, d_model = self._evaluation_vjp(i, d_f, d_grads, d_model)
                cut = lanes.cut(d_params)
                d_x = [_add(d_x[k], cut[lane]) for k, lane in enumerate(group)]
            elif d_f is not None:
                recorded = history.score_grads or history.grads
                for k, lane in enumerate(group):
                    grads = [a.read(i) for a in recorded[lane]]
                    d_x[k] = _add(d_x[k], lanes.scale(lane, d_f, grads))
            if self.d_parameters:
                d_x = [
                    _add(d_x[k], [v[t] for v in self.d_parameters[lane]])
                    for k, lane in enumerate(group)
                ]
            d_x, d_states, segments, lane_grads = list(d_x), list(d_states), list(segments), []
            for k, lane in enumerate(group):
                last_of_segment = (i == self.ran) | (t % self.interval == self.interval - 1)
                segments[k] = tf.cond(
                    (self.interval > 1) & last_of_segment,
                    lambda lane=lane: self._recomputed_segment(lane, t),
                    lambda k=k: segments[k],
                )
                at = tf.where(self.interval > 1, t % self.interval, t)
                state = tf.nest.pack_sequence_as(
                    unroll.states[lane], [a.read(at) for a in segments[k]]
                )
                d_params, d_g, d_states[k], totals = unroll.rule.vjp(
                    unroll.weights,
                    *self._inputs(lane, t),
                    state,
                    self._scaled(lane, t, d_x[k]),
                    d_states[k],
                    totals,
                    unroll.second_derivatives,
                )
                lane_grads.append(d_g)
                if lanes.parameters:
                    d_x[k] = _add(d_x[k], d_params)
            if unroll.second_derivatives:
                d_grads = lanes.join(lane_grads)
            return t, d_x, d_grads, d_model, d_states, totals, segments

        zeros = lanes.cut([tf.zeros_like(p) for p in unroll.start.params])
        d_grads = (
            [tf.zeros_like(p) for p in unroll.start.params] if unroll.second_derivatives else []
        )
        d_model = (
            [tf.zeros_like(s) for s in floating(unroll.start.model_state)]
            if unroll.through_evaluations
            else []
        )
        return tf.while_loop(
            lambda i, *_: i > 0,
            step,
            (
                self.ran,
                [zeros[lane] for lane in group],
                d_grads,
                d_model,
                [[tf.zeros_like(s) for s in floating(unroll.states[lane])] for lane in group],
                [tf.zeros_like(w) for w in unroll.weights],
                [history.states[lane] for lane in group],
            ),
        )[5]

    def _scaled(self, lane: int, t: tf.Tensor, d_x: Tensors) -> Tensors:
        """Returns the cotangents of what the rule returned in update t, from those of x_t+1."""
        if self.unroll.multiplier is None:
            return d_x
        factor = self.unroll.multiplier(t)
        if factor.shape.rank:
            return self.lanes.scale(lane, factor, d_x)
        return [tf.cast(factor, d.dtype) * d for d in d_x]

    def _inputs(self, lane: int, t: tf.Tensor) -> tuple[Tensors, Tensors]:
        """Returns the parameters and the gradients that the rule got in update t."""
        grads = [a.read(t) for a in self.history.grads[lane]]
        if not self.lanes.parameters:
            return grads, grads
        return self.lanes.cut([a.read(t) for a in self.history.params])[lane], grads

    def _recomputed_segment(self, lane: int, t: tf.Tensor) -> list[tf.TensorArray]:
        """Returns the states of a segment up to the one before update t.

        The forward pass has recorded the first of them; the updates between are run once more.
        """
        first = t - t % self.interval
        start = [a.read(t // self.interval) for a in self.history.states[lane]]
        arrays = [
            tf.TensorArray(
                s.dtype, size=self.interval, element_shape=s.shape, clear_after_read=False
            )
            for s in start
        ]

        def write(arrays: list[tf.TensorArray], m: tf.Tensor, state: Tensors) -> Any:
            return [a.write(m, s) for a, s in zip(arrays, state, strict=True)]

        def update(m: tf.Tensor, state: Tensors, arrays: list[tf.TensorArray]) -> Any:
            before = tf.nest.pack_sequence_as(self.unroll.states[lane], state)
            _, after = self.unroll.rule.step(
                self.unroll.weights, *self._inputs(lane, first + m), before
            )
            state = tf.nest.flatten(after)
            return m + 1, state, write(arrays, m + 1, state)

        m = tf.zeros([], tf.int32)
        loop = (m, start, write(arrays, m, start))
        return tf.while_loop(lambda m, *_: first + m < t, update, loop)[2]

    def _evaluation_vjp(
        self, i: tf.Tensor, d_f: tf.Tensor | None, d_grads: Tensors, d_model: Tensors
    ) -> tuple[Tensors, Tensors]:
        """Returns the cotangents of the parameters and of the model state of evaluation i."""
        unroll, history = self.unroll, self.history
        params = [a.read(i) for a in history.params]
        model_state = tf.nest.pack_sequence_as(
            unroll.start.model_state, [a.read(i) for a in history.model_states]
        )
        sources = [params, floating(model_state)]
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(sources)
            f, grads, after = value_and_gradients(
                unroll.optimizee,
                params,
                replace_floating(model_state, sources[1]),
                batch_at(unroll.batches, i),
            )
            if unroll.held_out is not None and unroll.scored:
                f, _ = unroll.optimizee.objective(
                    params,
                    replace_floating(model_state, sources[1]),
                    batch_at(unroll.held_out, i),
                )
        d_f = tf.zeros_like(f) if d_f is None else d_f
        d_params, d_before = tape.gradient(
            [f, *(grads if unroll.second_derivatives else []), *floating(after)],
            sources,
            output_gradients=[d_f, *d_grads, *d_model],
            unconnected_gradients=tf.UnconnectedGradients.ZERO,
        )
        if unroll.count:
            finite = history.finite[0].read(i)
            d_params, d_before = keep_where(finite, d_params), keep_where(finite, d_before)
        return d_params, d_before


def _add(a: Tensors, b: Tensors) -> Tensors:
    return [x + y for x, y in zip(a, b, strict=True)]


def state_matters(optimizee: Optimizee, carry: Carry, batches: Any, held_out: Any = None) -> bool:
    """Returns whether an objective depends on earlier parameters through the model's state.

    The moving averages of batch normalization depend on earlier parameters, but no training
    objective depends on them. A held-out objective does.

    Args:
        optimizee: What is optimized.
        carry: Only structure, shapes and dtypes matter.
        batches: Likewise; [T, ...], or [T, K, ...].
        held_out: Likewise, if updates are scored on held-out mini-batches [None].
    """
    if not floating(carry.model_state):
        return False
    # All of K optimizees are instances of the same problem.
    problem = problem_of(optimizee)
    found = []

    def trace(params: Tensors, model_state: Any, batch: Any, scored: Any) -> None:
        leaves = floating(model_state)
        with tf.GradientTape(persistent=True, watch_accessed_variables=False) as tape:
            tape.watch([params, leaves])
            f, after = problem.objective(params, model_state, batch)
            if scored is not None:
                f, _ = problem.objective(params, model_state, scored)
        new = floating(after)

        def depends(y: tf.Tensor, x: Tensors) -> list[bool]:
            return [g is not None for g in tape.gradient(y, x)]

        # Leaves that depend on the parameters, directly or through other leaves.
        reached = [any(depends(leaf, params)) for leaf in new]
        between = [depends(leaf, leaves) for leaf in new]
        for _ in leaves:
            reached = [
                r or any(b and reached[j] for j, b in enumerate(row))
                for r, row in zip(reached, between, strict=True)
            ]
        found.append(any(a and b for a, b in zip(reached, depends(f, leaves), strict=True)))

    tf.function(trace, autograph=False).get_concrete_function(
        one_of(optimizee, list(carry.params)),
        one_of(optimizee, carry.model_state),
        one_of(optimizee, batches, axes=1),
        None if held_out is None else one_of(optimizee, held_out, axes=1),
    )
    return found[-1]
