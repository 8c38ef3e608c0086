"""How a learned optimizer is made, wherever that happens."""

from __future__ import annotations

import inspect
from typing import Any

import keras

# Keras has no public name for this switch; `test_making.py` fails if it moves.
from keras.src.backend.common.global_state import get_global_attribute, set_global_attribute


class Making(type):
    """Makes optimizers with distinct names, whose learned weights are known to Keras.

    `Model.compile` turns off the tracking of layers that are attributes of layers. A network
    that is made meanwhile (`compile(optimizer={"class_name": ...})`) would have no weights.
    """

    @property
    def __signature__(cls) -> inspect.Signature:
        """The signature of the constructor; without this, `help` would show `__call__` below."""
        _self, *parameters = inspect.signature(cls.__init__).parameters.values()  # type: ignore[misc]
        return inspect.Signature(parameters)

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        """Returns a new optimizer; without a name it gets a number, as Keras' optimizers do."""
        if "name" not in kwargs:
            default = cls.__signature__.parameters.get("name")
            if default is not None and isinstance(default.default, str):
                kwargs["name"] = _numbered(default.default)
        before = get_global_attribute("tracking_on", True)
        set_global_attribute("tracking_on", True)
        try:
            return super().__call__(*args, **kwargs)
        finally:
            set_global_attribute("tracking_on", before)


def _numbered(name: str) -> str:
    number = keras.backend.get_uid(name)
    return name if number == 1 else f"{name}_{number - 1}"
