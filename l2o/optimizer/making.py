"""How a learned optimizer is made, wherever that happens."""

from __future__ import annotations

import abc
import contextlib
import inspect
from typing import Any

import keras

# Keras has no public name for this switch; `test_making.py` fails if it moves.
from keras.src.backend.common.global_state import get_global_attribute, set_global_attribute


class Making(abc.ABCMeta):
    """Makes optimizers whose learned weights are known to Keras, with names of their own.

    `Model.compile` turns off the tracking of layers that are attributes of layers. A network
    that is made meanwhile (`compile(optimizer={"class_name": ...})`) would have no weights.
    """

    @property
    def __signature__(cls) -> inspect.Signature:
        """The signature of the constructor; without this, `help` would show `__call__` below."""
        _self, *parameters = inspect.signature(cls.__init__).parameters.values()  # type: ignore[misc]
        return inspect.Signature(parameters)

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        """Returns a new optimizer; one that is not named gets a number, as Keras' own."""
        default = default_name(cls)
        # Python itself refuses arguments that do not fit the signature, below.
        with contextlib.suppress(TypeError):
            given = cls.__signature__.bind_partial(*args, **kwargs).arguments
            if default and "name" not in given:
                kwargs["name"] = _numbered(default)
        before = get_global_attribute("tracking_on", True)
        set_global_attribute("tracking_on", True)
        try:
            return super().__call__(*args, **kwargs)
        finally:
            set_global_attribute("tracking_on", before)


def default_name(kind: type) -> str | None:
    """Returns the name in a constructor's signature; None: there is none, or no text."""
    parameter = inspect.signature(kind).parameters.get("name")
    default = None if parameter is None else parameter.default
    return default if isinstance(default, str) else None


def _numbered(name: str) -> str:
    number = keras.backend.get_uid(name)
    return name if number == 1 else f"{name}_{number - 1}"
