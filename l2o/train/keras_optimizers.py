"""Keras' own optimizers by name: meta-optimizers and teachers."""

from __future__ import annotations

import inspect
import json
from typing import Any

import keras

from l2o.errors import UserError, nearest
from l2o.options import expect_object
from l2o.registry import Registry

# Wrappers around other optimizers, which a name alone cannot describe.
_WRAPPERS = {"Optimizer", "LossScaleOptimizer", "MultiOptimizer"}


def _members(module: Any, base: type) -> dict[str, Any]:
    return {
        name: member
        for name, member in vars(module).items()
        if inspect.isclass(member) and issubclass(member, base) and name not in _WRAPPERS
    }


KERAS_OPTIMIZERS: Registry[type[keras.optimizers.Optimizer]] = Registry(
    "Keras optimizer", _members(keras.optimizers, keras.optimizers.Optimizer)
)
SCHEDULES: Registry[type] = Registry(
    "Keras learning-rate schedule",
    {
        name: member
        for name, member in _members(
            keras.optimizers.schedules, keras.optimizers.schedules.LearningRateSchedule
        ).items()
        if name != "LearningRateSchedule"
    },
)


def resolve(spec: Any, path: str) -> dict[str, Any]:
    """Checks `{"class_name": ..., "config": {...}}` and writes every default out.

    Args:
        spec: What the config says; `class_name` is "Adam" where it says none.
        path: Where it says so (`optimizer`).

    Returns:
        The complete spec; what `create` takes.

    Raises:
        UserError: For an unknown class or argument, or a value of the wrong type.
    """
    return _resolve(spec, path, KERAS_OPTIMIZERS, default="Adam")


def create(spec: dict[str, Any]) -> keras.optimizers.Optimizer:
    """Returns the optimizer a resolved spec describes."""
    config = dict(spec["config"])
    rate = config.get("learning_rate")
    if isinstance(rate, dict):
        config["learning_rate"] = SCHEDULES.find(rate["class_name"])(**rate["config"])
    return KERAS_OPTIMIZERS.find(spec["class_name"])(**config)


def _resolve(spec: Any, path: str, registry: Registry[Any], default: str | None) -> dict[str, Any]:
    spec = expect_object(spec, path)
    for key in spec:
        if key not in ("class_name", "config"):
            raise UserError("unknown option; known here: class_name, config", f"{path}/{key}")
    name = spec.get("class_name", default)
    target = registry.find(name, f"{path}/class_name")
    given = expect_object(spec.get("config") or {}, f"{path}/config")
    known = {
        name: parameter.default
        for name, parameter in inspect.signature(target).parameters.items()
        if parameter.kind is not inspect.Parameter.VAR_KEYWORD
    }
    config: dict[str, Any] = {}
    for key, value in given.items():
        place = f"{path}/config/{key}"
        if key not in known:
            raise UserError(
                f"{name} has no argument {key!r}{nearest(key, known)}; it takes: "
                f"{', '.join(known)}",
                place,
            )
        if key == "learning_rate" and isinstance(value, dict):
            value = _resolve(value, place, SCHEDULES, default=None)
        else:
            _check(value, known[key], place)
        config[key] = value
    for key, value in known.items():
        if value is not inspect.Parameter.empty:
            config.setdefault(key, value)
        elif key not in config:
            raise UserError(f"{name} needs it", f"{path}/config/{key}")
    resolved = {"class_name": name, "config": config}
    try:
        if registry is KERAS_OPTIMIZERS:
            create(resolved)
    except (ValueError, TypeError) as error:  # a limit that only Keras knows
        raise UserError(" ".join(str(error).split()), f"{path}/config") from None
    return resolved


def _check(value: Any, default: Any, path: str) -> None:
    if isinstance(default, bool):
        fits, expected = isinstance(value, bool), "true or false"
    elif isinstance(default, str):
        fits, expected = isinstance(value, str), "a string"
    elif isinstance(default, (int, float)):
        fits = isinstance(value, (int, float)) and not isinstance(value, bool)
        expected = "a number"
    else:
        fits, expected = True, ""
    if not fits:
        raise UserError(f"expected {expected}; got {json.dumps(value)}", path)
