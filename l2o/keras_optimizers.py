"""Keras' own optimizers, and two like them, by name: meta-optimizers, teachers and baselines."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from pydantic import InstanceOf

from l2o.errors import UserError, nearest
from l2o.options import expect_object
from l2o.registry import Registry
from l2o.sign_optimizers import AddSign, PowerSign

# A spec, or from Python an optimizer object whose options make one.
OptimizerSpec = dict[str, Any] | InstanceOf[keras.optimizers.Optimizer]

# Arguments of every Keras optimizer whose default is None, with a value of their type.
COMMON = {
    "clipnorm": 1.0,
    "clipvalue": 1.0,
    "global_clipnorm": 1.0,
    "weight_decay": 0.0,
    "loss_scale_factor": 1.0,
    "ema_overwrite_frequency": 1,
    "gradient_accumulation_steps": 1,
}

# A name alone cannot describe these: they wrap other optimizers.
_WRAPPERS = {"Optimizer", "LossScaleOptimizer", "MultiOptimizer"}


def _members(module: Any, base: type) -> dict[str, Any]:
    return {
        name: member
        for name, member in vars(module).items()
        if inspect.isclass(member) and issubclass(member, base) and name not in _WRAPPERS
    }


KERAS_OPTIMIZERS: Registry[type[keras.optimizers.Optimizer]] = Registry(
    "Keras optimizer",
    {
        **_members(keras.optimizers, keras.optimizers.Optimizer),
        "AddSign": AddSign,
        "PowerSign": PowerSign,
    },
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


class Spec(dict[str, Any]):
    """A complete spec with which Keras has made an optimizer and one step; see `tried`."""

    def make(self) -> keras.optimizers.Optimizer:
        """Returns a new optimizer."""
        return create(self)


def resolve(spec: Any, path: str) -> dict[str, Any]:
    """Checks `{"class_name": ..., "config": {...}}` and writes every default out.

    Args:
        spec: As a config gives it; `class_name` is "Adam" if it has none.
        path: Where it stands in the config (`optimizer`).

    Returns:
        The complete spec. Nothing is built.

    Raises:
        UserError: For an unknown class or argument, or a value of the wrong type.
    """
    resolved = _resolve(spec, path, KERAS_OPTIMIZERS, default="Adam")
    _check_sense(resolved["config"], path)
    return resolved


def spec_of_object(optimizer: Any, path: str) -> Any:
    """Returns the spec of a Keras optimizer object; returns anything else as it is.

    The spec has the object's options. The object's state, and the object itself, are not used.

    Args:
        optimizer: The object, built or not.
        path: Where a config has its spec (`optimizer`).

    Raises:
        UserError: If no spec describes it: its class is not in `KERAS_OPTIMIZERS`, or its learning
            rate is not Keras' own.
    """
    if not isinstance(optimizer, keras.optimizers.Optimizer):
        return optimizer
    name = type(optimizer).__name__
    # A user's class may have the name of Keras' own.
    if KERAS_OPTIMIZERS.entries.get(name) is not type(optimizer):
        raise UserError(
            "expected one of Keras' own optimizers, PowerSign or AddSign; got a "
            f"{type(optimizer).__module__}.{name}",
            path,
        )
    excluded = ("_exclude_from_weight_decay", "_exclude_from_weight_decay_pattern")
    if any(getattr(optimizer, attribute, None) for attribute in excluded):
        raise UserError("no spec describes exclude_from_weight_decay: expected none", path)
    config = optimizer.get_config()
    rate = config["learning_rate"]
    if isinstance(rate, dict):
        if not str(rate.get("module")).startswith("keras."):
            raise UserError(
                f"expected a number or one of Keras' own schedules; got a {rate['class_name']}",
                f"{path}/config/learning_rate",
            )
        config["learning_rate"] = {key: rate[key] for key in ("class_name", "config")}
    else:
        # Keras holds 0.01 as a float32. The shortest number that is this float32 is 0.01 again.
        config["learning_rate"] = float(str(np.asarray(optimizer.learning_rate)[()]))
    # Keras numbers the names, and writes some defaults in another way than it takes them.
    defaults = {**type(optimizer)().get_config(), "name": config["name"]}
    given = {key: value for key, value in config.items() if value != defaults[key]}
    return {"class_name": name, "config": given}


def specs_of_objects(optimizers: Any, path: str) -> Any:
    """Returns a sequence with each object in it as its spec; returns anything else as it is."""
    if not isinstance(optimizers, (list, tuple)):
        return optimizers
    return [spec_of_object(optimizer, f"{path}/{i}") for i, optimizer in enumerate(optimizers)]


def tried(spec: Mapping[str, Any], path: str) -> Spec:
    """Returns a complete spec after Keras has made one step with it.

    Keras alone knows some limits, and some values fail only at a step.

    Args:
        spec: Complete; see `resolve`.
        path: Where it stands in a config (`optimizer`).

    Raises:
        UserError: If Keras refuses it.
    """
    try:
        variable = keras.Variable([[1.0, 2.0], [3.0, 4.0]])
        create(spec).apply([tf.ones([2, 2])], [variable])
    except Exception as error:  # an optimizer may raise anything for a wrong value
        reason = " ".join(str(error).split())[:300]
        raise UserError(
            f"{spec['class_name']} cannot use this: {reason}", f"{path}/config"
        ) from None
    return Spec(spec)


def spec_of(given: Any, path: str) -> Spec:
    """Returns the spec of an optimizer that Python code gives.

    Args:
        given: A `Spec`, which is complete, or a spec as a config gives it.
        path: Where a config has it (`optimizer`).

    Raises:
        UserError: If it is wrong.
    """
    if isinstance(given, Spec):
        return given
    return tried(resolve(spec_of_object(given, path), path), path)


def create(spec: Mapping[str, Any]) -> keras.optimizers.Optimizer:
    """Returns the optimizer that a complete spec describes."""
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
            _check(value, COMMON.get(key, known[key]), place)
            # Keras refuses an int as a learning rate.
            value = float(value) if isinstance(known[key], float) else value
        config[key] = value
    for key, value in known.items():
        if value is not inspect.Parameter.empty:
            config.setdefault(key, value)
        elif key not in config:
            raise UserError(f"{name} needs it", f"{path}/config/{key}")
    return {"class_name": name, "config": config}


def check_teacher(spec: Spec, path: str) -> None:
    """Refuses an optimizer that cannot start from the student's parameters.

    Args:
        spec: A complete spec.
        path: Where it stands in the config (`training/teachers/0`).

    Raises:
        UserError: If the optimizer keeps a copy of the parameters it was built with.
    """
    if keeps_copy(spec.make):
        raise UserError(
            f"{spec['class_name']} keeps a copy of the parameters it was built with, so it "
            "cannot start from the student's: expected another teacher",
            f"{path}/class_name",
        )


def keeps_copy(make: Callable[[], keras.optimizers.Optimizer]) -> bool:
    """Returns whether an optimizer's state starts as a copy of the parameters.

    Args:
        make: Returns an optimizer that is not built yet.
    """
    start = np.array([1.25, -2.5], np.float32)
    optimizer = make()
    optimizer.build([keras.Variable(start)])
    return any(v.shape == (2,) and np.array_equal(v.numpy(), start) for v in optimizer.variables)


def _check_sense(config: dict[str, Any], path: str) -> None:
    if config.get("loss_scale_factor") is not None:
        raise UserError(
            "the loss is not scaled here: expected null", f"{path}/config/loss_scale_factor"
        )
    if config.get("use_ema") and config.get("ema_overwrite_frequency") is None:
        raise UserError(
            "the average would never be used: expected ema_overwrite_frequency too",
            f"{path}/config/use_ema",
        )


def _check(value: Any, default: Any, path: str) -> None:
    if isinstance(default, bool):
        fits, expected = isinstance(value, bool), "true or false"
    elif isinstance(default, str):
        fits, expected = isinstance(value, str), "a string"
    elif isinstance(default, float):
        fits = isinstance(value, (int, float)) and not isinstance(value, bool)
        expected = "a number"
    elif isinstance(default, int):
        fits, expected = isinstance(value, int) and not isinstance(value, bool), "an integer"
    else:
        fits, expected = True, ""
    # Null is Keras' own default for these.
    if not fits and not (value is None and path.rpartition("/")[2] in COMMON):
        raise UserError(f"expected {expected}; got {json.dumps(value)}", path)
