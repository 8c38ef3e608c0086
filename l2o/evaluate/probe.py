"""The sizes of an optimizer's updates beside those of the gradients, step by step."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from l2o import seeds
from l2o.inner.batched import batch_at, value_and_gradients
from l2o.inner.part import part_of
from l2o.inner.trajectory import Carry
from l2o.optimizer import TrainableOptimizer
from l2o.problems import Problem

# Larger models are sampled down to this number of coordinates.
MOST_COORDINATES = 2_000


class Probe(NamedTuple):
    """Sizes of gradients and of updates, [steps, coordinates] each."""

    gradients: np.ndarray
    updates: np.ndarray


def probe(problem: Problem, optimizer: TrainableOptimizer, steps: int, seed: int = 0) -> Probe:
    """Trains a model and records the sizes of gradients and of updates.

    Args:
        problem: The problem.
        optimizer: A learned optimizer; it is not changed.
        steps: Number of steps.
        seed: Seed of the model and its data, as for `run` [0].

    Returns:
        The sizes at all steps, for at most `MOST_COORDINATES` coordinates at equal distances;
        parameters without a gradient are left out.
    """
    rng = seeds.generator(seed, seeds.EVALUATION)
    instance, stream = problem.init(seeds.draw(rng)), seeds.draw(rng)
    batches = problem.stream(stream, 0, steps)
    carry = Carry(*instance, optimizer.initial_state(problem.specs(instance.params)))
    part = part_of(optimizer, problem, carry, batches)
    optimizee = part.optimizee if part else problem
    params, model_state, state = part.split(*carry) if part else carry

    @tf.function(autograph=False)
    def step(i: tf.Tensor, params: list[tf.Tensor], model_state: list[tf.Tensor], state):  # type: ignore[no-untyped-def]
        _, grads, model_state = value_and_gradients(
            optimizee, params, model_state, batch_at(batches, i)
        )
        deltas, state = optimizer.update(params, grads, state)
        params = [p + d for p, d in zip(params, deltas, strict=True)]
        return params, model_state, state, _sizes(grads), _sizes(deltas)

    found = []
    for i in range(steps):
        params, model_state, state, *sizes = step(tf.constant(i), params, model_state, state)
        found.append(sizes)
    gradients, updates = (np.array(column) for column in zip(*found, strict=True))
    return Probe(gradients, updates)


def _sizes(tensors: list[tf.Tensor]) -> tf.Tensor:
    sizes = tf.abs(tf.concat([tf.reshape(t, [-1]) for t in tensors], axis=0))
    return sizes[:: -(-sizes.shape[0] // MOST_COORDINATES)]
