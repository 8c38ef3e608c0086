"""How a learned optimizer is trained. A new strategy is a new file and a line in `STRATEGIES`."""

from l2o.train.build import build_optimizer, build_strategy, build_training
from l2o.train.distributed.cluster import join, use_devices
from l2o.train.distributed.devices import Replicas
from l2o.train.estimators import ESTIMATORS
from l2o.train.loading import load, load_weights, pretrained
from l2o.train.losses.base import LossArgs
from l2o.train.outer.training import Training
from l2o.train.resolve import resolve_config
from l2o.train.runner import Runner
from l2o.train.runs.directory import RunDirectory
from l2o.train.strategies import STRATEGIES
from l2o.train.strategies.base import BaseStrategy, Finished, Period
from l2o.train.strategies.curriculum import CurriculumLearningStrategy
from l2o.train.strategies.simple import SimpleStrategy

__all__ = [
    "ESTIMATORS",
    "STRATEGIES",
    "BaseStrategy",
    "CurriculumLearningStrategy",
    "Finished",
    "LossArgs",
    "Period",
    "Replicas",
    "RunDirectory",
    "Runner",
    "SimpleStrategy",
    "Training",
    "build_optimizer",
    "build_strategy",
    "build_training",
    "join",
    "load",
    "load_weights",
    "pretrained",
    "resolve_config",
    "use_devices",
]
