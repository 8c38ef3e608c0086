"""What goes into an unroll and what comes out of it."""

from __future__ import annotations

from typing import Any, NamedTuple

import tensorflow as tf

Tensors = list[tf.Tensor]


class Carry(NamedTuple):
    """Where an unroll starts and where it ends, which is where the optimizee's next one starts.

    params: The optimizee's parameters.
    model_state: What else belongs to the optimizee, such as moving averages.
    optimizer_state: The learned optimizer's state for it.
    """

    params: Tensors
    model_state: Any
    optimizer_state: Any


class History(NamedTuple):
    """What the backward pass reads, by the index of the update.

    states: Per lane and leaf of the optimizer's state. Slot j holds the state before update
        j * k, with k the checkpoint interval.
    grads: Per lane, the gradients that each update got, and those after the last update.
    score_grads: Per lane, the gradients of the held-out objective after each update, from 1 on;
        empty if updates are scored on the mini-batches of `grads`, or if it is not read.
    params: Per parameter, its value before each update and after the last; empty if the
        backward pass does not read it.
    model_states: Per leaf, the model state before the mini-batch; empty if it is not read.
    finite: With an axis of optimizees, whether each one was still alive and its evaluation
        finite; the gradients of the others were set to zero. Empty if it is not read.
    """

    states: list[list[tf.TensorArray]]
    grads: list[list[tf.TensorArray]]
    score_grads: list[list[tf.TensorArray]]
    params: list[tf.TensorArray]
    model_states: list[tf.TensorArray]
    finite: list[tf.TensorArray]


class Trajectory(NamedTuple):
    """What an unroll did. Entries of steps that did not run are 0.

    The shapes are those of one optimizee. With K side by side, [T] is [T, K] and a scalar is
    [K]; entries after an optimizee's last step have no meaning.

    objectives: [T], the objective f_i after update i, on mini-batch i + 1; on held-out
        mini-batch i + 1 if there are such.
    references: [T], the objective of the same mini-batch at the start of the unroll;
        zeros if not asked for.
    parameters: Per parameter [T, ...], its value after update i; empty if not asked for.
    steps: int32 scalar, how many updates ran.
    healthy: bool scalar, whether all objectives were finite, on held-out mini-batches and on the
        others. With an axis of optimizees, whether all gradients that the unroll computed were
        finite too.
    carry: Where the unroll ended.
    history: What `Unroll.backward` reads.
    """

    objectives: tf.Tensor
    references: tf.Tensor
    parameters: Tensors
    steps: tf.Tensor
    healthy: tf.Tensor
    carry: Carry
    history: History = History([], [], [], [], [], [])
