"""A problem that notes what it is asked for, and a teacher for it."""

import numpy as np
import tensorflow as tf

from l2o import seeds
from l2o.problems import Instance, Problem

TEACHERS = [{"class_name": "SGD", "config": {"learning_rate": 0.1, "momentum": 0.9}}]


class Parabola(Problem):
    """|x - y|^2 / 2 in two dimensions; y differs by instance; `size` mini-batches of noise."""

    name = "parabola"

    def __init__(self, size=None, explode_from=None):
        self.steps_per_epoch = size
        self.explode_from = explode_from
        self.inits = []
        self.windows = []

    def init(self, seed):
        self.inits.append(seed)
        y = seeds.generator(seed).normal(size=2)
        return Instance([tf.zeros([2])], [tf.constant(y, tf.float32), tf.zeros([])])

    def objective(self, params, model_state, batch):
        y, count = model_state
        f = tf.reduce_sum(tf.square(params[0] - y)) / 2
        if self.explode_from is not None:
            f = tf.where(count >= self.explode_from, np.inf, f)
        return f, [y, count + 1]

    def batches(self, seed, start, count):
        self.windows.append((start, count))
        return () if self.steps_per_epoch is None else tf.zeros([count, 1])
