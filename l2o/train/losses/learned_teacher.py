"""Trained optimizers as teachers: specs of the class "l2o"."""

from __future__ import annotations

import json
from typing import Any

import keras
import numpy as np

from l2o.disk import packing
from l2o.errors import UserError
from l2o.keras_optimizers import Spec
from l2o.optimizer import TrainableOptimizer
from l2o.options import SHA256, Directory, expect_object, options_of, resolve, to_json

# The class_name that stands for them.
NAME = "l2o"


def config(directory: Directory | None = None, sha256: SHA256 | None = None) -> None:
    """The options at `training/teachers/<i>/config`, declared by a signature as all options are.

    Args:
        directory: What `l2o.load` takes: a run directory, which stands for its best period, what
            `optimizer.save` wrote, a name that `l2o.pretrained()` lists, or `hf://user/name`.
        sha256: The SHA-256 of what it has learned and of its options; another teacher is refused.
            A run writes it into its `config.json` [None].
    """


class LearnedTeacher(Spec):
    """The complete spec of a trained optimizer, with what it has learned.

    Args:
        optimizer: The optimizer. Its options, Keras' options and learned weights are used, not its
            state.
        directory: Where it was read from; None: Python code gave it [None].
    """

    def __init__(self, optimizer: TrainableOptimizer, directory: str | None = None) -> None:
        found = {"directory": directory, "sha256": digest(optimizer)}
        super().__init__(class_name=NAME, config=found)
        self._kind, self._config = type(optimizer), optimizer.get_config()

    def make(self) -> keras.optimizers.Optimizer:
        """Returns a new optimizer with the same learned weights."""
        return self._kind.from_config(self._config)


def is_learned(spec: Any) -> bool:
    """Returns whether a spec is that of a trained optimizer."""
    return isinstance(spec, dict) and spec.get("class_name") == NAME


def resolve_learned(spec: dict[str, Any], path: str) -> dict[str, Any]:
    """Checks `{"class_name": "l2o", "config": {...}}` and writes every default out.

    Args:
        spec: As a config gives it.
        path: Where it stands in the config (`training/teachers/0`).

    Raises:
        UserError: If an option is unknown or has a wrong value, or there is no directory.
    """
    for key in spec:
        if key not in ("class_name", "config"):
            raise UserError("unknown option; known here: class_name, config", f"{path}/{key}")
    place = f"{path}/config"
    found = resolve(config, expect_object(spec.get("config") or {}, place), place)
    if found["directory"] is None:
        raise UserError(
            "expected where the trained optimizer is: a run directory, a saved optimizer or a name "
            "of l2o.pretrained()",
            f"{place}/directory",
        )
    return {"class_name": NAME, "config": found}


def specs_of_learned(optimizers: Any) -> Any:
    """Returns a sequence with a spec for each trained optimizer; anything else as it is.

    Raises:
        UserError: For a spec that only a config may have: nothing here reads files.
    """
    if not isinstance(optimizers, (list, tuple)):
        return optimizers
    for i, given in enumerate(optimizers):
        if is_learned(given) and not isinstance(given, Spec):
            raise UserError(
                "expected the optimizer itself, such as l2o.load(...); a config names it",
                f"training/teachers/{i}",
            )
    return [LearnedTeacher(o) if isinstance(o, TrainableOptimizer) else o for o in optimizers]


def digest(optimizer: TrainableOptimizer) -> str:
    """Returns the SHA-256 of an optimizer's class, learned weights and options.

    Options that have their defaults do not count, so that later versions may have more of them.
    """
    own, plain = options_of(type(optimizer)), keras.optimizers.Optimizer(1.0).get_config()
    options = {
        name: to_json(getattr(optimizer, name))
        for name, option in own.items()
        if name != "name" and to_json(getattr(optimizer, name)) != to_json(option.default)
    }
    of_keras = {
        name: value
        for name, value in optimizer.get_config().items()
        if name not in (*own, "learned", "name") and value != plain.get(name)
    }
    text = json.dumps([options, of_keras], sort_keys=True)
    weights = {f"network/{i}": w for i, w in enumerate(optimizer.network.get_weights())}
    name = keras.saving.get_registered_name(type(optimizer))
    return packing.digest({"optimizer": np.array(name), "options": np.array(text), **weights})
