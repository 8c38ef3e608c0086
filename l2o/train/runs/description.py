"""Descriptions: JSON values that tell Python objects apart, the same in each process."""

from __future__ import annotations

import functools
import hashlib
import inspect
import math
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import fields, is_dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from l2o.problems import KerasProblem, Problem

# The depth to which objects within objects are described; deeper ones are named by their class.
DEEPEST = 12
# Parts of a Keras layer's config that differ between processes, or only say how layers connect.
_NAMES = {"name", "build_config", "inbound_nodes", "input_layers", "output_layers"}
# The key of a class or function name. Only objects have it, data does not.
_OBJECT = "object"


def describe(value: Any, depth: int = 0) -> Any:
    """Returns a JSON value that describes any object.

    Numbers, strings, lists and mappings describe themselves. A function is described by its
    name, an array by its shape, type and content, any other object by its class and parts.

    Args:
        value: The object.
        depth: The number of objects around it [0].
    """
    inner = functools.partial(describe, depth=depth + 1)
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, np.generic):
        return inner(value.item())
    if isinstance(value, (np.ndarray, tf.Tensor, tf.Variable, keras.Variable)):
        return _array(np.asarray(value))
    if depth > DEEPEST:
        return {_OBJECT: type(value).__qualname__}
    if isinstance(value, Mapping):
        return {str(key): inner(item) for key, item in value.items()}
    if hasattr(value, "_asdict"):
        return inner(value._asdict())
    if isinstance(value, (list, tuple)):
        return [inner(item) for item in value]
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: inner(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, functools.partial):
        return {_OBJECT: inner(value.func), "args": inner(value.args), **inner(value.keywords)}
    if inspect.isroutine(value) or isinstance(value, type):
        return {_OBJECT: value.__qualname__}
    return {_OBJECT: type(value).__qualname__, **_parts(value, inner)}


def is_data(description: Any) -> bool:
    """Returns whether a description contains no object, so that it is the value itself."""
    if isinstance(description, Mapping):
        return _OBJECT not in description and all(map(is_data, description.values()))
    return not isinstance(description, list) or all(map(is_data, description))


def _parts(value: Any, inner: Callable[[Any], Any]) -> dict[str, Any]:
    # Most classes hold each constructor argument in an attribute of the same name.
    try:
        names = [n for n in inspect.signature(type(value)).parameters if n not in _NAMES]
    except ValueError:  # a class that is not written in Python
        names = []
    parts = {name: inner(getattr(value, name)) for name in names if hasattr(value, name)}
    if isinstance(value, Problem):
        instance = value.init(0)
        parts["name"], parts["steps_per_epoch"] = value.name, value.steps_per_epoch
        parts["parameters"] = [[p.dtype.name, p.shape.as_list()] for p in instance.params]
    if isinstance(value, KerasProblem):
        parts["layers"] = [inner(layer) for layer in value.model(0).layers]
    if hasattr(value, "get_config"):
        with suppress(NotImplementedError):  # a user's own layer may not define it
            parts = {**parts, **inner(_nameless(value.get_config()))}
    return parts


def _nameless(config: Any) -> Any:
    if isinstance(config, Mapping):
        return {key: _nameless(item) for key, item in config.items() if key not in _NAMES}
    return [_nameless(item) for item in config] if isinstance(config, (list, tuple)) else config


def _array(array: np.ndarray) -> dict[str, Any]:
    if array.dtype.hasobject:
        # The bytes of objects, such as texts, are addresses in memory.
        digest = hashlib.sha256(repr(array.tolist()).encode()).hexdigest()
    else:
        # Not `tobytes`, which copies the data.
        flat = np.ascontiguousarray(array).reshape(-1)
        digest = hashlib.sha256(flat.view(np.uint8).data).hexdigest()
    return {_OBJECT: f"{array.dtype} {list(array.shape)} {digest[:16]}"}
