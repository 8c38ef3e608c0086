"""Trained optimizers from disk: those of runs, saved ones, and those that come with l2o."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from l2o.errors import UserError
from l2o.optimizer import OPTIMIZERS, TrainableOptimizer, hub, saved
from l2o.options import options_of
from l2o.shell import directory_option, step
from l2o.train.build import optimizer_of, set_learned_weights, untrained
from l2o.train.outer.state import check_optimizer
from l2o.train.resolve import resolve_config
from l2o.train.runs.directory import RunDirectory
from l2o.train.sources import SHIPPED, learned_weights, no_optimizer, shipped_names


def load(
    directory: str | os.PathLike[str],
    period: int | None = None,
    stage: int | None = None,
    **keras_options: Any,
) -> TrainableOptimizer:
    """Loads a trained optimizer, ready for `model.compile(optimizer=...)`.

    Args:
        directory: A run directory, a directory that `optimizer.save` has written, a name that
            `pretrained` lists, or `hf://user/name` for what `optimizer.push_to_hub` has written.
            A directory of a name comes first. `hf://user/name@revision` is what a branch, tag or
            commit has; a commit never changes.
        period: The period of a run; None: the one with the best validation loss [None].
        stage: The stage of the period, if the strategy has stages [None].
        **keras_options: Arguments of `keras.optimizers.Optimizer`: `learning_rate`, which
            multiplies the learned change [1.0], `clipnorm`, `weight_decay`, `use_ema`, ...

    Returns:
        A new optimizer with the learned weights.

    Raises:
        UserError: If there is no such optimizer or period, a file is damaged, an option belongs
            to the learned rule, or the Hub cannot be reached.
        ValueError: If Keras refuses one of its options.
    """
    remote = hub.is_address(directory)
    run, about = RunDirectory(directory), ""
    if not remote and run.exists():
        config = resolve_config(run.read_config())
        optimizer = untrained(OPTIMIZERS.find(config["constructor"]), config["network"])
        load_weights(optimizer, run, period, stage)
    else:
        path = Path(directory)
        if not remote and not os.path.exists(saved.file_of(path)):
            path = _shipped(directory)
        if (period, stage) != (None, None):
            raise UserError(f"{directory} is a saved optimizer: it has no periods and no stages")
        if remote:
            path = hub.fetch(str(directory))
        found = saved.read(path)
        about = found.about
        optimizer = optimizer_of(found, directory if remote else saved.file_of(path))
    for name in keras_options:
        if name == "learned" or (name != "name" and name in options_of(type(optimizer))):
            raise UserError(
                f"{name} belongs to what was trained: expected options of every Keras optimizer"
            )
    if keras_options:
        optimizer = type(optimizer).from_config({**optimizer.get_config(), **keras_options})
    optimizer.keep_note(about)
    return optimizer


def pretrained() -> dict[str, str]:
    """Lists the trained optimizers that come with l2o.

    Returns:
        What each was trained on, by the name under which `load` finds it.
    """
    return {name: saved.read(SHIPPED / name).about for name in shipped_names()}


def load_weights(
    optimizer: TrainableOptimizer,
    run: RunDirectory,
    period: int | None = None,
    stage: int | None = None,
) -> None:
    """Sets an optimizer's learned weights to those of a run; for runs started from Python.

    Args:
        optimizer: Built with the same options as the run's.
        run: The directory of the run.
        period: As for `load` [None].
        stage: As for `load` [None].

    Raises:
        UserError: If there is no such period, a file is damaged, or the weights belong to
            another optimizer; nothing is changed.
    """
    row = run.find(period, stage)
    arrays = run.read_checkpoint(row.stage, row.period)
    path = run.checkpoint_path(row.stage, row.period)
    check_optimizer(optimizer, arrays, str(path))
    set_learned_weights(optimizer, learned_weights(arrays, path), path)


def _shipped(name: str | os.PathLike[str]) -> Path:
    if str(Path(name)) in shipped_names():
        return SHIPPED / name
    start = step("train", directory_option(name))
    raise UserError(f"{no_optimizer(name)}; start a run with: {start}")
