"""A learned learning rate on a parabola: the gradient of a training is known in closed form."""

import keras
import numpy as np
import tensorflow as tf

from l2o.optimizer import TrainableOptimizer
from l2o.problems import Instance, Problem
from tests.tiny_rule import TinyOptimizer

RATE = 0.3


class LearnedRate(TinyOptimizer):
    """delta = -w g; w is the learned weight."""

    def __init__(self, rate=RATE, **kwargs):
        TrainableOptimizer.__init__(self, 1.0, name="LearnedRate", **kwargs)
        self.network = keras.layers.Dense(1, use_bias=False)
        self.network.build((None, 1))
        self.network.set_weights([np.array([[rate]])])

    def initial_state(self, params, seed=0):
        return tf.zeros([], tf.int32)

    def update(self, params, grads, state):
        changes = [-self.network(tf.reshape(g, [-1, 1]))[:, 0] for g in grads]
        return [tf.cast(c, g.dtype) for c, g in zip(changes, grads, strict=True)], state + 1


class Parabola(Problem):
    """x^2 / 2 from 1, so that x is (1 - w)^t after t steps."""

    name = "parabola"

    def init(self, seed):
        return Instance([tf.ones([1])], [])

    def objective(self, params, model_state, batch):
        return tf.reduce_sum(tf.square(params[0])) / 2, []


class Smoothed:
    """E over e of the sum of (1 - w - e)^(2 i) / 2, and its derivative by w, in float64."""

    def __init__(self, sigma, rate=RATE):
        nodes, shares = np.polynomial.hermite_e.hermegauss(30)
        self.points = 1 - rate - sigma * nodes
        self.shares = shares / shares.sum()

    def moment(self, n):
        """E (1 - w - e)^n."""
        return self.shares @ self.points**n

    def slope(self, n):
        """d/dw of it."""
        return -n * (self.shares @ self.points ** (n - 1))

    def one_perturbation(self, steps, start=1.0):
        """d/dw of the losses of `steps` steps from x = start, with one e for all of them."""
        return sum(start**2 * self.slope(2 * i) / 2 for i in range(1, steps + 1))

    def one_for_each(self, windows, steps):
        """d/dw of the losses of some windows, with an e of its own for each of them."""
        before, d_before, total = 1.0, 0.0, 0.0
        for _ in range(windows):
            for i in range(1, steps + 1):
                total += (d_before * self.moment(2 * i) + before * self.slope(2 * i)) / 2
            whole, d_whole = self.moment(2 * steps), self.slope(2 * steps)
            before, d_before = before * whole, d_before * whole + before * d_whole
        return total
