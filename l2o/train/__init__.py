"""How a learned optimizer is trained. A new strategy is a new file and a line in `STRATEGIES`."""

from l2o.train.build import (
    STRATEGIES,
    build_optimizer,
    build_strategy,
    resolve_config,
)
from l2o.train.cluster import join, use_devices
from l2o.train.curriculum import CurriculumLearningStrategy
from l2o.train.loading import load, load_weights, pretrained
from l2o.train.loss import LossArgs
from l2o.train.replicas import Replicas
from l2o.train.run_directory import RunDirectory
from l2o.train.simple import SimpleStrategy
from l2o.train.strategy import BaseStrategy
from l2o.train.training import Training

__all__ = [
    "STRATEGIES",
    "BaseStrategy",
    "CurriculumLearningStrategy",
    "LossArgs",
    "Replicas",
    "RunDirectory",
    "SimpleStrategy",
    "Training",
    "build_optimizer",
    "build_strategy",
    "join",
    "load",
    "load_weights",
    "pretrained",
    "resolve_config",
    "use_devices",
]
