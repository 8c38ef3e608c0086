"""What a config and a command can name."""

from __future__ import annotations

import inspect
from collections.abc import Mapping

from l2o.evaluate.suites import SUITES
from l2o.optimizer import OPTIMIZERS
from l2o.problems import PROBLEMS, WRAPPERS
from l2o.registry import Registry
from l2o.train import ESTIMATORS, STRATEGIES, pretrained


def sections() -> dict[str, tuple[str, Mapping[str, str]]]:
    """Returns kinds of names.

    Returns:
        For each kind where its names are used, and the names with what they stand for.
    """
    return {
        "pretrained": ("l2o evaluate NAME, l2o card NAME, initial_weights=NAME", pretrained()),
        "optimizers": ("constructor=NAME", _described(OPTIMIZERS)),
        "problems": ("problems/0/target=NAME, --problem NAME", _described(PROBLEMS)),
        "wrappers": ('problems/0/wrappers=[{"target": NAME}]', _described(WRAPPERS)),
        "strategies": ("strategy_constructor=NAME", _described(STRATEGIES)),
        "estimators": ("estimator_constructor=NAME", _described(ESTIMATORS)),
        "suites": ("l2o evaluate --suite NAME", _described(SUITES)),
    }


def _described(registry: Registry) -> dict[str, str]:
    return {name: _first_line(inspect.getdoc(o) or "") for name, o in registry.entries.items()}


def _first_line(text: str) -> str:
    line = text.partition("\n\n")[0].replace("\n", " ").removeprefix("Returns ")
    return line[:1].upper() + line[1:]
