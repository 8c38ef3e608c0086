"""Where learned weights come from: the option `initial_weights`, and what comes with l2o."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np

from l2o.errors import UserError, nearest
from l2o.optimizer import OPTIMIZERS, TrainableOptimizer, hub, learned, saved
from l2o.optimizer.saved import Saved
from l2o.options import resolve, to_json
from l2o.train.resolve import resolve_config
from l2o.train.runs.directory import SHA256, SOURCE, RunDirectory
from l2o.train.runs.summary import period_name

SHIPPED = Path(__file__).parent.parent / "weights"


def shipped_names() -> list[str]:
    """Returns the names of the trained optimizers that come with l2o."""
    return sorted(path.parent.name for path in SHIPPED.glob("*/optimizer.npz"))


def no_optimizer(name: str | os.PathLike[str]) -> str:
    """Returns what is wrong with a name that stands for no trained optimizer."""
    names = shipped_names()
    return (
        f"{name} is not a run directory (it has no config.json), not a saved optimizer (no "
        f"optimizer.npz) and none of those that come with l2o{nearest(str(name), names)}: "
        f"{', '.join(names)}"
    )


def learned_weights(arrays: Mapping[str, np.ndarray], path: Path) -> list[np.ndarray]:
    """Returns the learned weights in the arrays of a checkpoint.

    Raises:
        UserError: If one of them is missing.
    """
    count = sum(name.startswith("network/") for name in arrays)
    names = [f"network/{i}" for i in range(count)]
    if missing := [name for name in names if name not in arrays]:
        raise UserError(f"{path} holds {count} learned weights, but {missing[0]} is missing")
    return [arrays[name] for name in names]


def read_initial(config: Mapping[str, Any]) -> Saved | None:
    """Reads the learned weights that a config starts from; None: it starts from random ones.

    Args:
        config: A complete config.

    Raises:
        UserError: If there are none where `initial_weights` says, they cannot be read, or
            `initial_weights_sha256` says that they were others.
    """
    source, expected = config[SOURCE], config[SHA256]
    if source is None:
        return None
    try:
        found = find(source)
    except UserError as error:
        raise UserError(str(error), SOURCE) from None
    sha256 = saved.digest(found.kind, found.weights)
    if expected not in (None, sha256):
        raise UserError(
            f"{source} has other learned weights than before: their SHA-256 is {sha256}; expected "
            f"{expected}, as {SHA256} says",
            SOURCE,
        )
    return found


def has_changed(config: Mapping[str, Any]) -> bool:
    """Returns whether a source has other learned weights than `initial_weights_sha256` says.

    One that is gone, or cannot be read, has not changed.
    """
    try:
        found = find(config[SOURCE])
    except UserError:
        return False
    return saved.digest(found.kind, found.weights) != config[SHA256]


def find(source: str) -> Saved:
    """Reads a trained optimizer.

    Args:
        source: A run directory, which stands for its best period, what `optimizer.save` wrote, a
            name of `shipped_names`, or `hf://user/name`. A directory of a name comes first.

    Raises:
        UserError: If there is none, or it cannot be read.
    """
    if hub.is_address(source):
        return saved.read(hub.fetch(source))
    path, run = Path(source), RunDirectory(source)
    if run.exists():
        return _of_run(run)
    if os.path.isfile(path) or os.path.exists(saved.file_of(path)):
        return saved.read(path)
    if str(path) in shipped_names():
        return saved.read(SHIPPED / path)
    raise UserError(no_optimizer(source))


def _of_run(run: RunDirectory) -> Saved:
    """Returns the best period of a run."""
    row = run.best()
    try:
        config = resolve_config(run.read_config())
    except UserError as error:
        raise UserError(f"cannot use {run.config_path}: {error}") from None
    kind = OPTIMIZERS.find(config["constructor"])
    arrays = run.read_checkpoint(row.stage, row.period)
    path = run.checkpoint_path(row.stage, row.period)
    if (written := str(arrays.get("optimizer"))) != kind.__name__:
        raise UserError(f"{path} has the weights of {written}; expected those of {kind.__name__}")
    return Saved(
        keras.saving.get_registered_name(kind),
        config["network"],
        f"{period_name(row.stage, row.period)} of {run.path}",
        learned_weights(arrays, path),
    )


def start_from(optimizer: TrainableOptimizer, initial: Saved, source: str) -> None:
    """Sets an optimizer's learned weights to those that its training starts from.

    Args:
        optimizer: Built with the options of its own run.
        initial: The learned weights.
        source: Where they come from, for messages.

    Raises:
        UserError: If they are those of another class or have other shapes; nothing is changed.
    """
    kind = type(optimizer)
    if initial.kind != keras.saving.get_registered_name(kind):
        there, here = _constructor(initial.kind), _constructor(kind)
        raise UserError(
            f"{source} has the learned weights of {there}; expected those of {here}, or "
            f"constructor={there}",
            SOURCE,
        )
    if misfit := learned.misfit(initial.weights, optimizer.network.weights):
        options = other_options(optimizer, initial)
        expected = f"what they were trained with: {options}" if options else "others"
        raise UserError(
            f"the learned weights of {source} do not fit this network: {misfit}; expected "
            f"{expected}",
            SOURCE,
        )
    optimizer.set_learned_weights(initial.weights)


def other_options(optimizer: TrainableOptimizer, initial: Saved) -> str:
    """Returns the options with which weights were learned that an optimizer has not; or ""."""
    try:
        there = resolve(type(optimizer), initial.options, "network")
    except UserError:  # those of another version
        return ""
    here = {name: to_json(getattr(optimizer, name)) for name in there if name != "name"}
    return ", ".join(
        f"network/{name}={_text(there[name])} (here {_text(value)})"
        for name, value in here.items()
        if there[name] != value
    )


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))


def _constructor(kind: type | str) -> str:
    """Returns the name of an optimizer's class in a config, or Keras' name for it."""
    registered = kind if isinstance(kind, str) else keras.saving.get_registered_name(kind)
    for name, known in OPTIMIZERS.entries.items():
        if keras.saving.get_registered_name(known) == registered:
            return name
    return registered
