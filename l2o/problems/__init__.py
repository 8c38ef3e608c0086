"""What is optimized. A new problem is a new file and a line in `PROBLEMS`."""

from collections.abc import Callable

from l2o.problems.classifiers import KerasProblem, mlp_classifier
from l2o.problems.problem import Instance, Problem, ProblemSpec
from l2o.registry import Registry

PROBLEMS: Registry[Callable[..., Problem]] = Registry("problem", {"mlp_classifier": mlp_classifier})

__all__ = ["PROBLEMS", "Instance", "KerasProblem", "Problem", "ProblemSpec", "mlp_classifier"]
