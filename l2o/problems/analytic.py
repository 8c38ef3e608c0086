"""Functions with a formula: random quadratics and the classic test functions."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import tensorflow as tf

from l2o import seeds
from l2o.errors import UserError
from l2o.options import Count
from l2o.problems.problem import Batch, Instance, Problem


class Quadratic(Problem):
    """f(theta) = |W theta - y|^2 with a new W and y for each instance.

    Andrychowicz et al. 2016, "Learning to learn by gradient descent by gradient descent",
    section 3.1. W [d, d] and y [d] are standard normal; theta starts from N(0, 0.01^2),
    as in the authors' code.

    Args:
        dimensions: d, the number of coordinates [10].
    """

    name = "Quadratic"

    def __init__(self, dimensions: Count = 10) -> None:
        self.dimensions = dimensions

    def init(self, seed: int) -> Instance:
        """See `Problem.init`; model_state is W and y."""
        rng, d = seeds.generator(seed), self.dimensions
        w, y = rng.standard_normal((d, d)), rng.standard_normal(d)
        theta = 0.01 * rng.standard_normal(d)
        return Instance(
            [tf.constant(theta, tf.float32)],
            [tf.constant(w, tf.float32), tf.constant(y, tf.float32)],
        )

    def objective(
        self, params: Sequence[tf.Tensor], model_state: Sequence[tf.Tensor], batch: Batch
    ) -> tuple[tf.Tensor, list[tf.Tensor]]:
        """See `Problem.objective`."""
        w, y = model_state
        residual = tf.linalg.matvec(w, params[0]) - y
        return tf.reduce_sum(tf.square(residual)), list(model_state)


class Landscape(Problem):
    """A fixed function of a point; an instance starts at a random point of its domain.

    The formulas are those of Jamil and Yang 2013, "A literature survey of benchmark
    functions for global optimisation problems", minus the value of the minimum, so that the
    minimum of each function is 0. They are written as sums of non-negative terms. This keeps
    the digits near the minimum in float32, and the logarithm is defined everywhere.

    Attributes:
        low, high: Ends of the domain, one for all coordinates or one each.
        dimensions: Number of coordinates.
    """

    low: ClassVar[float | tuple[float, ...]]
    high: ClassVar[float | tuple[float, ...]]
    dimensions: int = 2

    def init(self, seed: int) -> Instance:
        """See `Problem.init`; one parameter, [dimensions] float32."""
        start = seeds.generator(seed).uniform(self.low, self.high, self.dimensions)
        return Instance([tf.constant(start, tf.float32)], [])

    def objective(
        self, params: Sequence[tf.Tensor], model_state: Sequence[tf.Tensor], batch: Batch
    ) -> tuple[tf.Tensor, list[tf.Tensor]]:
        """See `Problem.objective`."""
        return self.value(params[0]), list(model_state)

    @abstractmethod
    def value(self, x: tf.Tensor) -> tf.Tensor:
        """Returns the function at `x` [dimensions], a scalar of its dtype."""


class ManyDimensional(Landscape):
    """A landscape of any number of dimensions.

    Args:
        dimensions: Number of coordinates [2].

    Raises:
        UserError: If the function needs more dimensions.
    """

    least_dimensions: ClassVar[int] = 1

    def __init__(self, dimensions: Count = 2) -> None:
        if dimensions < self.least_dimensions:
            raise UserError(
                f"expected at least {self.least_dimensions} dimensions for {self.name}; "
                f"got {dimensions}",
                "dimensions",
            )
        self.dimensions = dimensions


class Rosenbrock(ManyDimensional):
    """A curved valley with a flat floor; minimum at (1, ..., 1); Rosenbrock 1960.

    Starts in [-2.048, 2.048].

    Args:
        dimensions: Number of coordinates, at least 2 [2].

    Raises:
        UserError: If there are fewer than 2 dimensions.
    """

    name = "Rosenbrock"
    low, high = -2.048, 2.048
    least_dimensions = 2

    def value(self, x: tf.Tensor) -> tf.Tensor:
        """See `Landscape.value`."""
        steps = tf.square(x[1:] - tf.square(x[:-1]))
        return tf.reduce_sum(100 * steps + tf.square(1 - x[:-1]))


class Rastrigin(ManyDimensional):
    """A parabola under a grid of minima; the lowest at 0; Rastrigin 1974.

    Starts in [-5.12, 5.12].

    Args:
        dimensions: Number of coordinates [2].
    """

    name = "Rastrigin"
    low, high = -5.12, 5.12

    def value(self, x: tf.Tensor) -> tf.Tensor:
        """See `Landscape.value`."""
        # 10 - 10 cos(2 pi x) = 20 sin(pi x)^2.
        return tf.reduce_sum(tf.square(x) + 20 * tf.square(tf.sin(math.pi * x)))


class Ackley(ManyDimensional):
    """A plain of small minima around one deep hole at 0; Ackley 1987.

    Starts in [-32.768, 32.768]. The tip of the hole is rounded within 1e-6, so that both
    derivatives exist there. The value differs from the paper's by at most 4e-6.

    Args:
        dimensions: Number of coordinates [2].
    """

    name = "Ackley"
    low, high = -32.768, 32.768

    def value(self, x: tf.Tensor) -> tf.Tensor:
        """See `Landscape.value`."""
        squares, tip = tf.reduce_mean(tf.square(x)), 1e-6
        # sqrt(squares + tip^2) - tip without the cancellation.
        radius = squares / (tf.sqrt(squares + tip**2) + tip)
        # cos(2 pi x) = 1 - 2 sin(pi x)^2.
        waves = tf.reduce_mean(2 * tf.square(tf.sin(math.pi * x)))
        return -20 * tf.math.expm1(-0.2 * radius) - math.e * tf.math.expm1(-waves)


class StyblinskiTang(ManyDimensional):
    """Two unequal minima per coordinate; the lowest at -2.9035; Styblinski and Tang 1990.

    Starts in [-5, 5].

    Args:
        dimensions: Number of coordinates [2].
    """

    name = "StyblinskiTang"
    low, high = -5.0, 5.0
    # The smallest root of the derivative, 4 a^3 - 32 a + 5.
    minimiser = -2.903534027771177

    def value(self, x: tf.Tensor) -> tf.Tensor:
        """See `Landscape.value`."""
        # x^4 - 16 x^2 + 5 x minus its minimum has the double root a.
        a = self.minimiser
        rest = tf.square(x + a) + (2 * a**2 - 16)
        return tf.reduce_sum(tf.square(x - a) * rest) / 2


class Levy(ManyDimensional):
    """Waves on a parabola; minimum at (1, ..., 1); Levy and Montalvo 1985.

    Starts in [-10, 10].

    Args:
        dimensions: Number of coordinates [2].
    """

    name = "Levy"
    low, high = -10.0, 10.0

    def value(self, x: tf.Tensor) -> tf.Tensor:
        """See `Landscape.value`."""
        # The usual w is 1 + u; a shift by pi does not change a squared sine.
        u = (x - 1) / 4
        middle = tf.square(u[:-1]) * (1 + 10 * tf.square(tf.sin(math.pi * u[:-1] + 1)))
        last = tf.square(u[-1]) * (1 + tf.square(tf.sin(2 * math.pi * u[-1])))
        return tf.square(tf.sin(math.pi * u[0])) + tf.reduce_sum(middle) + last


class Beale(Landscape):
    """Flat with steep corners; minimum at (3, 0.5); Beale 1958. Starts in [-4.5, 4.5]."""

    name = "Beale"
    low, high = -4.5, 4.5

    def value(self, x: tf.Tensor) -> tf.Tensor:
        """See `Landscape.value`."""
        a, b = x[0], x[1]
        return (
            tf.square(1.5 - a + a * b)
            + tf.square(2.25 - a + a * b**2)
            + tf.square(2.625 - a + a * b**3)
        )


class Booth(Landscape):
    """A tilted parabola; minimum at (1, 3). Starts in [-10, 10]."""

    name = "Booth"
    low, high = -10.0, 10.0

    def value(self, x: tf.Tensor) -> tf.Tensor:
        """See `Landscape.value`."""
        return tf.square(x[0] + 2 * x[1] - 7) + tf.square(2 * x[0] + x[1] - 5)


class Matyas(Landscape):
    """A parabola with condition number 25; minimum at 0. Starts in [-10, 10]."""

    name = "Matyas"
    low, high = -10.0, 10.0

    def value(self, x: tf.Tensor) -> tf.Tensor:
        """See `Landscape.value`."""
        # 0.26 (a^2 + b^2) - 0.48 a b.
        return 0.02 * tf.reduce_sum(tf.square(x)) + 0.24 * tf.square(x[0] - x[1])


class Branin(Landscape):
    """Three equal minima, at (-pi, 12.275), (pi, 2.275) and (3 pi, 2.475); Branin 1972.

    Starts in [-5, 10] x [0, 15].
    """

    name = "Branin"
    low, high = (-5.0, 0.0), (10.0, 15.0)

    def value(self, x: tf.Tensor) -> tf.Tensor:
        """See `Landscape.value`."""
        a, b = x[0], x[1]
        bowl = b - 5.1 / (4 * math.pi**2) * a**2 + 5 / math.pi * a - 6
        # 1 + cos(a) = 2 cos(a / 2)^2.
        return tf.square(bowl) + 20 * (1 - 1 / (8 * math.pi)) * tf.square(tf.cos(a / 2))
