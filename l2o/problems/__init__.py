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
from l2o.problems.autoencoders import autoencoder, vae
from l2o.problems.classifiers import conv_classifier, mlp_classifier
from l2o.problems.image_classifiers import (
    mixer_classifier,
    residual_classifier,
    vit_classifier,
)
from l2o.problems.keras_model import KerasProblem, keras_problem
from l2o.problems.language import char_lm
from l2o.problems.problem import Gradient, Instance, Problem, ProblemSpec
from l2o.problems.random_labels import RandomLabels
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
        "autoencoder": autoencoder,
        "char_lm": char_lm,
        "conv_classifier": conv_classifier,
        "mixer_classifier": mixer_classifier,
        "mlp_classifier": mlp_classifier,
        "mlp_regressor": mlp_regressor,
        "residual_classifier": residual_classifier,
        "vae": vae,
        "vit_classifier": vit_classifier,
    },
)

# Each takes the inner problem as its first argument.
WRAPPERS: Registry[Callable[..., Problem]] = Registry(
    "problem wrapper",
    {
        "ConvexCombination": ConvexCombination,
        "GradientNoise": GradientNoise,
        "RandomLabels": RandomLabels,
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
    "RandomLabels",
    "RandomScaling",
    "Rastrigin",
    "Rosenbrock",
    "StyblinskiTang",
    "Wrapper",
    "autoencoder",
    "char_lm",
    "conv_classifier",
    "keras_problem",
    "mixer_classifier",
    "mlp_classifier",
    "mlp_regressor",
    "residual_classifier",
    "vae",
    "vit_classifier",
]
