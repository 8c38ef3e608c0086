"""Problems around other problems; they compose in any order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import tensorflow as tf

from l2o import seeds
from l2o.options import Count, NonNegative, Positive, expect
from l2o.problems.problem import Batch, HeldOut, Instance, Problem


class Wrapper(Problem):
    """A problem around another problem, with the same data and with random draws of its own.

    Args:
        problem: The inner problem.

    Attributes:
        problem: The inner problem.
        depth: Number of wrappers down to the innermost problem, this one included.
    """

    def __init__(self, problem: Problem) -> None:
        expect(Problem, problem, "problem")
        self.problem = problem
        self.name = problem.name
        self.steps_per_epoch = problem.steps_per_epoch
        # A wrapper may add parameters, after those of the inner problem.
        self.param_names = problem.param_names
        self.depth: int = 1 + (problem.depth if isinstance(problem, Wrapper) else 0)

    def batches(self, seed: int, start: int, count: int) -> Batch:
        """See `Problem.batches`; returns those of the inner problem."""
        return self.problem.batches(seed, start, count)

    def stream(self, seed: int, start: int, count: int) -> Batch:
        """See `Problem.stream`; returns that of the inner problem."""
        return self.problem.stream(seed, start, count)

    def generator(self, seed: int) -> np.random.Generator:
        """Returns the generator of this wrapper's own draws for an instance.

        It is independent of those of the inner problem and of the other wrappers around it.
        """
        return seeds.generator(seed, self.depth)


class RandomScaling(Wrapper):
    """f(c * x), started at x_0 / c, with c = exp(Uniform(-limit, limit)).

    Lv, Jiang and Li 2017, "Learning gradient descent: better generalization and longer
    horizons". An optimizer that trains on it learns to cope with gradients of any magnitude.
    The paper draws c for each coordinate, and takes 3 for networks and 1 for quadratics.
    Moudgil et al. 2026 (Celo2) draw one c for the whole problem, between 0.001 and 1,000: a
    `limit` of 6.9. Each instance draws a new c.

    Args:
        problem: The inner problem; its parameters are c * x.
        limit: Largest |log c| [3.0].
        level: What has a c of its own: "parameter", each coordinate; "tensor"; or "global", one
            c for the whole problem ["parameter"].
    """

    def __init__(
        self,
        problem: Problem,
        limit: Positive = 3.0,
        level: Literal["parameter", "tensor", "global"] = "parameter",
    ) -> None:
        super().__init__(problem)
        self.limit = limit
        self.level = level

    def init(self, seed: int) -> Instance:
        """See `Problem.init`; model_state is c for each tensor, then the inner one."""
        inner, rng = self.problem.init(seed), self.generator(seed)

        def draw(shape: Sequence[int]) -> np.ndarray:
            return np.exp(rng.uniform(-self.limit, self.limit, shape))

        whole = draw([]) if self.level == "global" else None

        def scale(shape: Sequence[int]) -> np.ndarray:
            if whole is not None:
                return whole
            return draw([] if self.level == "tensor" else shape)

        scales = [tf.constant(scale(p.shape), p.dtype) for p in inner.params]
        params = [p / c for p, c in zip(inner.params, scales, strict=True)]
        return Instance(params, [*scales, *inner.model_state])

    def objective(
        self, params: Sequence[tf.Tensor], model_state: Sequence[tf.Tensor], batch: Batch
    ) -> tuple[tf.Tensor, list[tf.Tensor]]:
        """See `Problem.objective`."""
        scales, inner_state = model_state[: len(params)], model_state[len(params) :]
        scaled = [c * p for c, p in zip(scales, params, strict=True)]
        loss, inner_state = self.problem.objective(scaled, inner_state, batch)
        return loss, [*scales, *inner_state]


class ConvexCombination(Wrapper):
    """f(x) + (1/n) sum_i (c_i y_i - w_i)^2 over x and y; w and the start of c y are N(0, 1).

    Lv, Jiang and Li 2017, "Learning gradient descent: better generalization and longer
    horizons". The convex part makes meta-training stable. Its coordinates y have their own
    random scaling, c = exp(Uniform(-limit, limit)).

    Args:
        problem: The inner problem.
        dimensions: n, the number of extra coordinates [20].
        limit: Largest |log c|; 0: no scaling [1.0].
    """

    def __init__(self, problem: Problem, dimensions: Count = 20, limit: NonNegative = 1.0) -> None:
        super().__init__(problem)
        self.dimensions = dimensions
        self.limit = limit

    def init(self, seed: int) -> Instance:
        """See `Problem.init`; y is the last parameter, model_state starts with w and c."""
        inner, rng, n = self.problem.init(seed), self.generator(seed), self.dimensions
        start, w = rng.standard_normal(n), rng.standard_normal(n)
        c = np.exp(rng.uniform(-self.limit, self.limit, n))
        y, w, c = (tf.constant(a, inner.params[0].dtype) for a in (start / c, w, c))
        return Instance([*inner.params, y], [w, c, *inner.model_state])

    def objective(
        self, params: Sequence[tf.Tensor], model_state: Sequence[tf.Tensor], batch: Batch
    ) -> tuple[tf.Tensor, list[tf.Tensor]]:
        """See `Problem.objective`."""
        (*x, y), (w, c, *inner_state) = params, model_state
        loss, inner_state = self.problem.objective(x, inner_state, batch)
        convex = tf.reduce_mean(tf.square(c * y - w))
        # Keras computes a loss in float32, whatever the dtype of the weights.
        return loss + tf.cast(convex, loss.dtype), [w, c, *inner_state]


class GradientNoise(Wrapper):
    """f(x) unchanged, with N(0, stddev^2) added to each entry of its gradient.

    The noise depends on the seed of the instance and on the number of evaluations so far.
    Held-out examples have none.

    Args:
        problem: The inner problem.
        stddev: Standard deviation of the noise [0.1].
    """

    def __init__(self, problem: Problem, stddev: Positive = 0.1) -> None:
        super().__init__(problem)
        self.stddev = stddev

    def init(self, seed: int) -> Instance:
        """See `Problem.init`; model_state starts with (seed, evaluations), int32."""
        inner = self.problem.init(seed)
        name = tf.constant([seeds.draw(self.generator(seed)), 0], tf.int32)
        return Instance(inner.params, [name, *inner.model_state])

    def objective(
        self, params: Sequence[tf.Tensor], model_state: Sequence[tf.Tensor], batch: Batch
    ) -> tuple[tf.Tensor, list[tf.Tensor]]:
        """See `Problem.objective`."""
        name, *inner_state = model_state
        loss, inner_state = self.problem.objective(params, inner_state, batch)
        if isinstance(batch, HeldOut):
            return loss, [name, *inner_state]
        for i, x in enumerate(params):
            own_name = tf.random.experimental.stateless_fold_in(name, i)
            noise = tf.random.stateless_normal(tf.shape(x), own_name, 0, self.stddev, x.dtype)
            # Adds 0 to the value, and the noise to the gradient.
            nothing = tf.reduce_sum(noise * (x - tf.stop_gradient(x)))
            loss += tf.cast(nothing, loss.dtype)
        return loss, [name + tf.constant([0, 1], tf.int32), *inner_state]
