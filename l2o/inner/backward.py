"""The gradient of an unroll: back through its updates, each of them run again.

With x_t the parameters, s_t the optimizer's state, f_t the objective and g_t its gradient
before update t, and d_ the derivative of a loss by what follows it,

    d_x_t+1 += d_f_t+1 g_t+1
    (d_w, d_g_t, d_s_t) = J_rule(g_t, s_t)^T (d_x_t+1, d_s_t+1)
    d_x_t = d_x_t+1 [+ H_t d_g_t, in second order]

In first order nothing here connects one coordinate with another: g is known from the way
there. So the lanes go back independently of each other, and no objective is run again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from l2o.inner.batched import Optimizee, count_of, keep_where, one_of, problem_of
from l2o.inner.lanes import cores, lanes_for
from l2o.inner.part import part_of
from l2o.inner.rule import Rule, floating, replace_floating
from l2o.inner.unroll import (
    Carry,
    Keep,
    Tensors,
    Trajectory,
    batch_at,
    checkpoint_interval,
    value_and_gradients,
)


def what_to_keep(problem: Optimizee, carry: Carry, batches: Any, second_derivatives: bool) -> Keep:
    """Returns what `unroll` must record for `backward`.

    Args:
        problem: What is optimized.
        carry: Where the unroll starts.
        batches: As for `unroll`.
        second_derivatives: As for `backward`.
    """
    through = second_derivatives or _state_matters(problem, carry, batches)
    return Keep.EVALUATIONS if through else Keep.UPDATES


def backward(
    rule: Rule,
    weights: Tensors,
    problem: Optimizee,
    carry: Carry,
    batches: Any,
    steps: tf.Tensor,
    trajectory: Trajectory,
    d_objectives: tf.Tensor | None,
    d_parameters: Sequence[tf.Tensor] = (),
    *,
    keep: Keep,
    second_derivatives: bool = False,
) -> Tensors:
    """Returns the gradient of the learned weights.

    Args:
        rule: As for `unroll`.
        weights: As for `unroll`.
        problem: As for `unroll`.
        carry: As for `unroll`.
        batches: As for `unroll`.
        steps: As for `unroll`.
        trajectory: What `unroll` returned.
        d_objectives: [T], the gradient of a loss by its objectives; None if there is none.
            Of several optimizees [T, K], zeros for one that is not healthy.
        d_parameters: Per parameter [T, ...], that by its parameters [none].
        keep: What `unroll` recorded: `what_to_keep`.
        second_derivatives: Whether the gradients that the rule got are differentiated
            [False: they are constants].
    """
    part = part_of(rule.optimizer, problem, carry, batches)
    if part is not None:
        # What stays does not depend on the learned weights.
        return backward(
            rule,
            weights,
            part.optimizee,
            Carry(*part.split(*carry)),
            batches,
            steps,
            trajectory,
            d_objectives,
            part.taken(d_parameters) if d_parameters else (),
            keep=keep,
            second_derivatives=second_derivatives,
        )
    past, several = trajectory.past, count_of(problem)
    ran = tf.reduce_max(trajectory.steps) if several else trajectory.steps
    lanes = lanes_for(rule.optimizer, carry.params, several)
    rule = rule.stacked if lanes.stacked else rule
    states = lanes.cut_state(carry.optimizer_state)
    every = checkpoint_interval(lanes, carry.optimizer_state, steps)
    d_values = lanes.cut_series(list(d_parameters)) if d_parameters else []

    def inputs(lane: int, t: tf.Tensor) -> tuple[Tensors, Tensors]:
        grads = [a.read(t) for a in past.grads[lane]]
        if not lanes.parameters:
            return grads, grads
        return lanes.cut([a.read(t) for a in past.params])[lane], grads

    def stretch(lane: int, t: tf.Tensor) -> list[tf.TensorArray]:
        """Runs the updates up to t again, from the last state before them that was kept."""
        first = t - t % every
        state = [a.read(t // every) for a in past.states[lane]]
        arrays = [
            tf.TensorArray(s.dtype, size=every, element_shape=s.shape, clear_after_read=False)
            for s in state
        ]

        def write(arrays: list[tf.TensorArray], m: tf.Tensor, state: Tensors) -> Any:
            return [a.write(m, s) for a, s in zip(arrays, state, strict=True)]

        def again(m: tf.Tensor, state: Tensors, arrays: list[tf.TensorArray]) -> Any:
            before = tf.nest.pack_sequence_as(states[lane], state)
            _, after = rule.step(weights, *inputs(lane, first + m), before)
            state = tf.nest.flatten(after)
            return m + 1, state, write(arrays, m + 1, state)

        m = tf.zeros([], tf.int32)
        loop = (m, state, write(arrays, m, state))
        return tf.while_loop(lambda m, *_: first + m < t, again, loop)[2]

    def back(group: Sequence[int]) -> Tensors:
        """Goes back through the updates of a group of lanes."""

        def step(
            i: tf.Tensor,
            d_x: list[Tensors],
            d_grads: Tensors,
            d_model: Tensors,
            d_states: list[Tensors],
            totals: Tensors,
            kept: list[list[tf.TensorArray]],
        ) -> Any:
            t = i - 1
            d_f = None if d_objectives is None else d_objectives[t]
            if keep is Keep.EVALUATIONS:
                more, d_model = through_evaluation(i, d_f, d_grads, d_model)
                cut = lanes.cut(more)
                d_x = [_add(d_x[k], cut[lane]) for k, lane in enumerate(group)]
            elif d_f is not None:
                for k, lane in enumerate(group):
                    grads = [a.read(i) for a in past.grads[lane]]
                    d_x[k] = _add(d_x[k], lanes.scale(lane, d_f, grads))
            if d_values:
                d_x = [_add(d_x[k], [v[t] for v in d_values[lane]]) for k, lane in enumerate(group)]
            d_x, d_states, kept, lane_grads = list(d_x), list(d_states), list(kept), []
            for k, lane in enumerate(group):
                last = (i == ran) | (t % every == every - 1)
                kept[k] = tf.cond(
                    (every > 1) & last,
                    lambda lane=lane: stretch(lane, t),
                    lambda k=k: kept[k],
                )
                at = tf.where(every > 1, t % every, t)
                state = tf.nest.pack_sequence_as(states[lane], [a.read(at) for a in kept[k]])
                d_params, d_g, d_states[k], totals = rule.vjp(
                    weights,
                    *inputs(lane, t),
                    state,
                    d_x[k],
                    d_states[k],
                    totals,
                    second_derivatives,
                )
                lane_grads.append(d_g)
                if lanes.parameters:
                    d_x[k] = _add(d_x[k], d_params)
            if second_derivatives:
                d_grads = lanes.join(lane_grads)
            return t, d_x, d_grads, d_model, d_states, totals, kept

        zeros = lanes.cut([tf.zeros_like(p) for p in carry.params])
        through = keep is Keep.EVALUATIONS
        return tf.while_loop(
            lambda i, *_: i > 0,
            step,
            (
                ran,
                [zeros[lane] for lane in group],
                [tf.zeros_like(p) for p in carry.params] if second_derivatives else [],
                [tf.zeros_like(s) for s in floating(carry.model_state)] if through else [],
                [[tf.zeros_like(s) for s in floating(states[lane])] for lane in group],
                [tf.zeros_like(w) for w in weights],
                [past.states[lane] for lane in group],
            ),
        )[5]

    def through_evaluation(
        i: tf.Tensor, d_f: tf.Tensor | None, d_grads: Tensors, d_model: Tensors
    ) -> tuple[Tensors, Tensors]:
        params = [a.read(i) for a in past.params]
        model_state = tf.nest.pack_sequence_as(
            carry.model_state, [a.read(i) for a in past.model_states]
        )
        sources = [params, floating(model_state)]
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(sources)
            f, grads, after = value_and_gradients(
                problem, params, replace_floating(model_state, sources[1]), batch_at(batches, i)
            )
        d_f = tf.zeros_like(f) if d_f is None else d_f
        d_params, d_before = tape.gradient(
            [f, *(grads if second_derivatives else []), *floating(after)],
            sources,
            output_gradients=[d_f, *d_grads, *d_model],
            unconnected_gradients=tf.UnconnectedGradients.ZERO,
        )
        if several:
            good = past.good[0].read(i)
            d_params, d_before = keep_where(good, d_params), keep_where(good, d_before)
        return d_params, d_before

    count = len(states)
    # With evaluations in between, all lanes have to go together.
    groups = [range(count)] if keep is Keep.EVALUATIONS else [[lane] for lane in range(count)]
    done: list[Tensors] = []
    for k, group in enumerate(groups):
        # More at a time than there are cores would only take more memory.
        with tf.control_dependencies(done[k - cores()] if k >= cores() else []):
            done.append(back(group))
    return [tf.add_n(parts) for parts in zip(*done, strict=True)]


def _add(a: Tensors, b: Tensors) -> Tensors:
    return [x + y for x, y in zip(a, b, strict=True)]


def _state_matters(optimizee: Optimizee, carry: Carry, batches: Any) -> bool:
    """Returns whether an objective depends on earlier parameters through the model's state.

    The moving averages of batch normalization depend on them, but no objective on those.
    """
    if not floating(carry.model_state):
        return False
    # One of several is like the others.
    problem = problem_of(optimizee)
    found = []

    def look(params: Tensors, model_state: Any, batch: Any) -> None:
        leaves = floating(model_state)
        with tf.GradientTape(persistent=True, watch_accessed_variables=False) as tape:
            tape.watch([params, leaves])
            f, after = problem.objective(params, model_state, batch)
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

    tf.function(look, autograph=False).get_concrete_function(
        one_of(optimizee, list(carry.params)),
        one_of(optimizee, carry.model_state),
        one_of(optimizee, batches, axes=1),
    )
    return found[-1]
