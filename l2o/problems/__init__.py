"""What is optimized. A new problem is a new file and a line in `PROBLEMS`."""

from collections.abc import Callable

from l2o.problems.analytic import (
    Ackley,
    Beale,
    Booth,
    Branin,
    Landscape,
    Levy,
    Matyas,
    Quadratic,
    Rastrigin,
    Rosenbrock,
    StyblinskiTang,
)
from l2o.problems.classifiers import conv_classifier, mlp_classifier
from l2o.problems.keras_model import KerasProblem, keras_problem
from l2o.problems.problem import Gradient, Instance, Problem, ProblemSpec
from l2o.problems.regressors import mlp_regressor
from l2o.problems.wrappers import ConvexCombination, GradientNoise, RandomScaling, Wrapper
from l2o.registry import Registry

PROBLEMS: Registry[Callable[..., Problem]] = Registry(
    "problem",
    {
        "Ackley": Ackley,
        "Beale": Beale,
        "Booth": Booth,
        "Branin": Branin,
        "Levy": Levy,
        "Matyas": Matyas,
        "Quadratic": Quadratic,
        "Rastrigin": Rastrigin,
        "Rosenbrock": Rosenbrock,
        "StyblinskiTang": StyblinskiTang,
        "conv_classifier": conv_classifier,
        "mlp_classifier": mlp_classifier,
        "mlp_regressor": mlp_regressor,
    },
)

# Each takes the inner problem as its first argument.
WRAPPERS: Registry[Callable[..., Problem]] = Registry(
    "problem wrapper",
    {
        "ConvexCombination": ConvexCombination,
        "GradientNoise": GradientNoise,
        "RandomScaling": RandomScaling,
    },
)

__all__ = [
    "PROBLEMS",
    "WRAPPERS",
    "Ackley",
    "Beale",
    "Booth",
    "Branin",
    "ConvexCombination",
    "Gradient",
    "GradientNoise",
    "Instance",
    "KerasProblem",
    "Landscape",
    "Levy",
    "Matyas",
    "Problem",
    "ProblemSpec",
    "Quadratic",
    "RandomScaling",
    "Rastrigin",
    "Rosenbrock",
    "StyblinskiTang",
    "Wrapper",
    "conv_classifier",
    "keras_problem",
    "mlp_classifier",
    "mlp_regressor",
]
