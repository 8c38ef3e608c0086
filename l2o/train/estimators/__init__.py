"""How meta-gradients are estimated. A new estimator is a new file and a line in `ESTIMATORS`."""

from l2o.registry import Registry
from l2o.train.estimators.base import Estimate, GradientEstimator, StepResult
from l2o.train.estimators.es import ES, FullES
from l2o.train.estimators.pes import PES
from l2o.train.estimators.truncated_backprop import TruncatedBackprop

ESTIMATORS: Registry[type[GradientEstimator]] = Registry(
    "estimator",
    {"TruncatedBackprop": TruncatedBackprop, "ES": ES, "PES": PES, "FullES": FullES},
)

__all__ = [
    "ES",
    "ESTIMATORS",
    "PES",
    "Estimate",
    "FullES",
    "GradientEstimator",
    "StepResult",
    "TruncatedBackprop",
]
