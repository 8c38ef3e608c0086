"""Strategies: pure plans of a run, decided from its finished periods alone."""

from l2o.registry import Registry
from l2o.train.strategies.base import BaseStrategy
from l2o.train.strategies.curriculum import CurriculumLearningStrategy
from l2o.train.strategies.simple import SimpleStrategy

STRATEGIES: Registry[type[BaseStrategy]] = Registry(
    "strategy", {"CurriculumLearning": CurriculumLearningStrategy, "Simple": SimpleStrategy}
)
