"""Optimizees side by side, as tests want them: problems, starts and a meta-step on them."""

from functools import partial

import keras
import numpy as np
import tensorflow as tf

import l2o
from l2o.problems import Instance, Problem, mlp_classifier
from l2o.train.estimators import TruncatedBackprop
from l2o.train.losses.imitation import ImitationLoss
from l2o.train.losses.teachers import Teacher
from l2o.train.outer.meta_step import MetaStep
from tests.draws import same_draws
from tests.tiny_rule import TinyOptimizer

STEPS = 5
OPTIMIZERS = (
    "AdafacMLP",
    "Celo2",
    "Choice",
    "DM",
    "LearnedMuon",
    "RNNProp",
    "ScaleBasic",
    "ScaleHierarchical",
)
SMALL = {
    "Tiny": {},
    "AdafacMLP": {"hidden_units": 3, "step_size": 0.1},
    "Celo2": {"hidden_units": 3, "step_size": 0.1},
    "LearnedMuon": {"step_size": 0.1},
    "ScaleHierarchical": {"param_units": 4, "tensor_units": 3, "global_units": 2},
}


class Remembers(Problem):
    """sum((x - average of the past x)^4), and a drift that differs between optimizees."""

    name = "remembers"

    def init(self, seed):
        rng = np.random.default_rng(seed)
        kernel = rng.normal(size=(5, 7)).astype(np.float32)
        start = [tf.constant(kernel), tf.constant([1.0, -2.0, 0.5])]
        return Instance(start, [tf.constant([0.3, 0.2]), tf.constant(rng.normal(), tf.float32)])

    def objective(self, params, model_state, batch):
        past, drift = model_state
        means = tf.stack([tf.reduce_mean(p) for p in params])
        f = sum(tf.reduce_mean((p - past[i]) ** 4) for i, p in enumerate(params))
        f += batch * tf.math.abs(drift) + drift * tf.reduce_sum(tf.square(params[1]))
        return f + 30.0, [0.5 * past + 0.5 * means, drift]

    def batches(self, seed, start, count):
        return tf.linspace(0.0, 1.0, count) * (1.0 + seed)


class Outside(Remembers):
    """As `Remembers`, with parameters first and in the middle that the loss does not depend on."""

    def init(self, seed):
        (kernel, other), state = super().init(seed)
        return Instance([tf.ones([2]), kernel, tf.ones([3, 2]), other], state)

    def objective(self, params, model_state, batch):
        return super().objective(params[1::2], model_state, batch)


class Cliff(Remembers):
    """As `Remembers`, but from mini-batch 3 on the optimizees of odd seeds are spoilt."""

    def __init__(self, how):
        self.how = how

    def batches(self, seed, start, count):
        spoilt = (tf.range(count) >= 3) & (seed % 2 == 1)
        return tf.where(spoilt, -1.0, super().batches(seed, start, count))

    def objective(self, params, model_state, batch):
        f, state = super().objective(params, model_state, tf.maximum(batch, 0.0))
        if self.how == "objective":
            return tf.where(batch < 0, np.inf, f), state
        # A root of 0 is finite, but its gradient is not.
        return f + tf.sqrt(tf.reduce_sum(params[1] ** 2) * tf.where(batch < 0, 0.0, 1.0)), state


CASES = {
    "state": Remembers,
    "outside": Outside,
    "data": lambda: mlp_classifier(layers=[3], batch_size=8),
}


def optimizer_of(name, xla=False):
    """A small rule of l2o; "Tiny" is that of tests/tiny_rule.py, for the fast tier."""
    same_draws(1)
    kind = TinyOptimizer if name == "Tiny" else getattr(l2o, f"{name}Optimizer")
    made = kind(**SMALL.get(name, {"layers": (4,)}))
    made.network.set_weights([2 * w for w in made.network.get_weights()])
    # Most of these tests would only wait for the compiler.
    made.xla = xla
    return made


def started(step, seed):
    """An optimizee, with a state that has seen as many steps as its seed says."""
    carry = step.start(step.problem.init(seed), seed=seed)
    state = tf.nest.map_structure(
        lambda leaf: leaf if leaf.dtype.is_floating else leaf + seed, carry.optimizer_state
    )
    return carry._replace(optimizer_state=state)


def learn(step, kind, seeds):
    """The meta-gradient and the results of an unroll of optimizees with these seeds."""
    # Its momentum after the first step is the gradient, to the last bit.
    sgd = keras.optimizers.SGD(1.0, momentum=0.9)
    sgd.build(step.optimizer.network.trainable_variables)
    starts = [started(step, seed) for seed in seeds]
    kept = step.optimizer.network.get_weights()
    draws, batches = step.seeds(seeds), step.stream(seeds, 0, STEPS + 1)
    result, carry = getattr(step, kind)(sgd, draws, step.layout.stack(starts), batches, STEPS)
    step.optimizer.network.set_weights(kept)
    gradient = np.concatenate([-m.numpy().ravel() for m in sgd.variables[2:]])
    return gradient, type(result)(*map(np.atleast_1d, result)), carry


def meta_step(optimizer, problem, optimizees, kind="train", order="first", replicas=None):
    estimator = TruncatedBackprop(second_derivatives=order == "second")
    step = MetaStep(
        optimizer, problem, estimator=estimator, optimizees=optimizees, replicas=replicas
    )
    if kind == "imitate":
        # Clipping by the norm shows whether a teacher sees the gradients of another optimizee.
        create = partial(keras.optimizers.Adam, 0.1, clipnorm=0.5)
        params = problem.init(0).params
        step.imitation = step.layout.make(
            lambda: ImitationLoss(teachers=[Teacher(create, step.optimizee, params, False)])
        )
    return step
