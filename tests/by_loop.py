"""Trainings with a factor for each step, as Python loops in float64: what unrolls must equal."""

import keras
import numpy as np
import tensorflow as tf

from l2o.problems import Instance, Problem
from tests.tiny_rule import TinyOptimizer


class Wide(TinyOptimizer):
    """The rule of tests/tiny_rule.py, in float64."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        values = self.network.get_weights()
        self.network = keras.layers.Dense(1, use_bias=False, dtype="float64")
        self.network.build((None, 2))
        self.network.set_weights(values)


class Whole(Wide):
    """As `Wide`, and sees whole tensors."""

    coordinatewise = False


class Bowl(Problem):
    """sum x^4 / 4 + d sum x^2 + 1 in two tensors; the start and d differ between optimizees."""

    name = "bowl"

    def __init__(self):
        self.inits = []

    def init(self, seed):
        self.inits.append(seed)
        rng = np.random.default_rng(seed)
        start = [tf.constant(rng.normal(size=s)) for s in ((2, 2), (3,))]
        return Instance(start, [tf.constant(rng.uniform(0.1, 1.0), tf.float64)])

    def objective(self, params, model_state, batch):
        x = tf.concat([tf.reshape(p, [-1]) for p in params], 0)
        f = tf.reduce_sum(x**4) / 4 + model_state[0] * tf.reduce_sum(x**2) + 1
        return f, model_state


def factors_of(schedule, steps):
    """The factors of a schedule, by NumPy."""
    k = np.arange(steps)
    if schedule == "constant":
        return np.ones(steps)
    warmup = min(max(1, round(0.05 * steps)), steps - 1) if schedule == "warmup_cosine" else 0
    falls = (1 + np.cos(np.pi * (k - warmup) / (steps - warmup))) / 2
    return np.where(k < warmup, (k + 1) / (warmup + 1), falls)


def loop(optimizer, problem, carry, factors, given=None):
    """A training without data.

    Args:
        optimizer: Its `update` is called.
        problem: What is trained.
        carry: Where to start.
        factors: Of the changes of each step.
        given: The gradients to take, instead of those of the objective [None].

    Returns:
        The objectives after each step, the parameters at the end, and the gradients.
    """
    params, model_state, state = carry
    objectives, gradients = [], []
    for i, factor in enumerate(factors):
        if given is None:
            with tf.GradientTape() as tape:
                tape.watch(params)
                f, model_state = problem.objective(params, model_state, ())
            gradients.append(tape.gradient(f, params))
        else:
            gradients.append(given[i])
        changes, state = optimizer.update(params, gradients[-1], state)
        params = [p + tf.cast(factor, d.dtype) * d for p, d in zip(params, changes, strict=True)]
        objectives.append(problem.objective(params, model_state, ())[0])
    return objectives, params, gradients


def gradient_of(optimizer, problem, carry, factors, score, second_derivatives):
    """The slopes of `score(objectives)` by both learned weights, by finite differences."""
    _, _, recorded = loop(optimizer, problem, carry, factors)
    given = None if second_derivatives else recorded
    weights = optimizer.network.get_weights()[0]
    found = np.zeros_like(weights)
    for place in np.ndindex(weights.shape):
        ends = []
        for sign in (1, -1):
            moved = weights.copy()
            moved[place] += sign * 1e-5
            optimizer.network.set_weights([moved])
            objectives = loop(optimizer, problem, carry, factors, given)[0]
            ends.append(float(score(np.array(objectives))))
        found[place] = (ends[0] - ends[1]) / 2e-5
    optimizer.network.set_weights([weights])
    return found
