"""Complete config -> objects: the one place that turns names into objects."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from l2o import keras_optimizers, seeds
from l2o.errors import UserError
from l2o.optimizer import OPTIMIZERS, TrainableOptimizer
from l2o.optimizer.saved import Saved, packed, unpacked
from l2o.options import resolve
from l2o.problems import Problem, ProblemSpec
from l2o.train.distributed.devices import Replicas
from l2o.train.estimators import ESTIMATORS
from l2o.train.families import members_of
from l2o.train.losses.base import LossArgs
from l2o.train.losses.learned_teacher import LearnedTeacher, is_learned
from l2o.train.outer.training import Training
from l2o.train.runs.directory import SOURCE
from l2o.train.sources import find, read_initial, start_from
from l2o.train.strategies import STRATEGIES
from l2o.train.strategies.base import BaseStrategy


def build_training(
    config: Mapping[str, Any],
    replicas: Replicas | None = None,
    initial: Callable[[], Saved | None] | None = None,
) -> Training:
    """Returns the training that a complete config describes.

    Args:
        config: A complete config; see `resolve_config`.
        replicas: The replicas that `join` made of the option `distribute` [None: one].
        initial: As for `build_optimizer` [None].

    Raises:
        UserError: If a part cannot be built.
    """
    options = config["training"]
    meta_optimizer = keras_optimizers.tried(config["optimizer"], "optimizer")
    imitation_optimizer = options["imitation_optimizer"] and keras_optimizers.tried(
        options["imitation_optimizer"], "training/imitation_optimizer"
    )
    teachers = [
        build_teacher(spec, f"training/teachers/{i}", replicas)
        for i, spec in enumerate(options["teachers"])
    ]
    estimator = ESTIMATORS.find(config["estimator_constructor"])(**config["estimator"])
    return Training(
        build_optimizer(config, replicas, initial),
        _problem_specs(config, "problems"),
        meta_optimizer,
        LossArgs(**config["loss_args"]),
        validation_problems=_problem_specs(config, "validation_problems"),
        estimator=estimator,
        replicas=replicas,
        **{**options, "teachers": teachers, "imitation_optimizer": imitation_optimizer},
    )


def build_teacher(
    spec: Mapping[str, Any], path: str, replicas: Replicas | None = None
) -> keras_optimizers.Spec:
    """Returns a teacher's spec, from which optimizers can be made.

    Args:
        spec: Complete.
        path: Where it stands in a config (`training/teachers/0`).
        replicas: Their chief reads what a trained optimizer has learned, and the others receive
            it [one].

    Raises:
        UserError: If Keras refuses it, or there is no such trained optimizer.
    """
    if not is_learned(spec):
        return keras_optimizers.tried(spec, path)
    source, expected = spec["config"]["directory"], spec["config"]["sha256"]
    try:
        content = (replicas or Replicas()).from_chief(lambda: packed(find(source)))
        teacher = LearnedTeacher(optimizer_of(unpacked(content), source), source)
    except UserError as error:
        raise UserError(str(error), f"{path}/config/directory") from None
    sha256 = teacher["config"]["sha256"]
    if expected not in (None, sha256):
        raise UserError(
            f"{source} is another optimizer than before: its SHA-256 is {sha256}; expected "
            f"{expected}, as {path}/config/sha256 says",
            f"{path}/config/directory",
        )
    return teacher


def with_teachers_recorded(
    config: Mapping[str, Any], replicas: Replicas | None = None
) -> dict[str, Any]:
    """Returns a config in which each teacher that is a trained optimizer has its SHA-256.

    Args:
        config: Complete.
        replicas: As for `build_teacher` [one].

    Raises:
        UserError: If there is no such trained optimizer.
    """
    teachers = [
        dict(build_teacher(spec, f"training/teachers/{i}", replicas)) if is_learned(spec) else spec
        for i, spec in enumerate(config["training"]["teachers"])
    ]
    return {**config, "training": {**config["training"], "teachers": teachers}}


def optimizer_of(found: Saved, where: object) -> TrainableOptimizer:
    """Returns a trained optimizer.

    Args:
        found: What was read of it.
        where: From where, for messages.

    Raises:
        UserError: If its class is not registered here, or its options or weights do not fit.
    """
    kind = keras.saving.get_registered_object(found.kind)
    if not (isinstance(kind, type) and issubclass(kind, TrainableOptimizer)):
        raise UserError(
            f"{where} is of the class {found.kind!r}, which is not registered here: "
            "import the module that defines it"
        )
    optimizer = untrained(kind, resolve(kind, found.options, "network"))
    set_learned_weights(optimizer, found.weights, where)
    return optimizer


def untrained(kind: type[TrainableOptimizer], options: Mapping[str, Any]) -> TrainableOptimizer:
    """Returns what `build_network` does, for an optimizer whose weights are to be replaced."""
    # A seed of their own leaves the draws of the user's next model as they are.
    with seeds.keras_initializers(0):
        return build_network(kind, options)


def set_learned_weights(
    optimizer: TrainableOptimizer, weights: list[np.ndarray], where: object
) -> None:
    """Sets learned weights that were read.

    Args:
        optimizer: What they are for.
        weights: As `network.get_weights()` returns them.
        where: Where they come from, for messages.

    Raises:
        UserError: If they do not fit; nothing is changed.
    """
    try:
        optimizer.set_learned_weights(weights)
    except ValueError as error:
        raise UserError(f"{where} cannot be used: {' '.join(str(error).split())}") from None


def build_strategy(config: Mapping[str, Any]) -> BaseStrategy:
    """Returns the strategy that a complete config describes.

    Args:
        config: A complete config; see `resolve_config`.

    Raises:
        UserError: If a part cannot be built.
    """
    return STRATEGIES.find(config["strategy_constructor"])(**config["strategy"])


def build_optimizer(
    config: Mapping[str, Any],
    replicas: Replicas | None = None,
    initial: Callable[[], Saved | None] | None = None,
) -> TrainableOptimizer:
    """Returns the optimizer of a complete config with the weights that training starts from.

    Args:
        config: A complete config; see `resolve_config`.
        replicas: Their chief reads the initial weights, and the others receive them [one].
        initial: Called by the chief for the learned weights to start from, if they are not to
            be read from where `config` says; returns None for random ones [None].

    Raises:
        UserError: If Keras cannot build its network with these options, or there are no
            initial weights that fit it.
    """
    seed = seeds.draw(seeds.generator(config["seed"], seeds.WEIGHTS))
    with seeds.keras_initializers(seed):
        optimizer = build_network(OPTIMIZERS.find(config["constructor"]), config["network"])

    def read() -> bytes:
        found = read_initial(config) if initial is None else initial()
        return packed(found) if found else b""

    source = config[SOURCE]
    content = (replicas or Replicas()).from_chief(read) if source is not None else b""
    if content:
        start_from(optimizer, unpacked(content), source)
    return optimizer


def build_network(kind: type[TrainableOptimizer], options: Mapping[str, Any]) -> TrainableOptimizer:
    """Returns an optimizer of a class with complete options.

    Args:
        kind: Its class.
        options: All options of its constructor, JSON values.

    Raises:
        UserError: If Keras cannot build such a network.
    """
    with _reported("network"):
        optimizer = kind(**options)
        # Some activations fail only when they are called.
        params = [tf.zeros([2])]
        optimizer.update(params, params, optimizer.initial_state(params))
        return optimizer


def build_problem(spec: Mapping[str, Any], path: str) -> Problem:
    """Returns the problem that a complete spec describes.

    Args:
        spec: A complete spec; see `resolve_problem`.
        path: Where it stands in a config, or "".

    Raises:
        UserError: If it cannot be built.
    """
    return _built(_problem_spec(spec), path)


def _problem_specs(config: Mapping[str, Any], section: str) -> list[ProblemSpec]:
    """Returns the specs of a section's problems; equal ones are one object."""
    known: dict[str, ProblemSpec] = {}
    specs = []
    for path, spec in members_of(config, section):
        content = json.dumps(spec, sort_keys=True)
        if content not in known:
            known[content] = _problem_spec(spec)
            _built(known[content], path)
        specs.append(known[content])
    return specs


def _problem_spec(spec: Mapping[str, Any]) -> ProblemSpec:
    wrappers = [ProblemSpec(w["target"], w["args"], w["kwargs"]) for w in spec["wrappers"]]
    return ProblemSpec(spec["target"], spec["args"], spec["kwargs"], wrappers)


def _built(spec: ProblemSpec, path: str) -> Problem:
    with _reported(path, arguments="kwargs"):
        problem = spec.build()
        # Some options fail only when they are used: better here than in a trace.
        batch = tf.nest.map_structure(lambda b: b[0], problem.batches(0, 0, 1))
        problem.objective(*problem.init(0), batch)
        return problem


@contextmanager
def _reported(path: str, arguments: str = "") -> Iterator[None]:
    """Adds the config path to errors of options that fail only when they are used."""
    try:
        yield
    except UserError as error:
        # A constructor knows the name of its argument, but not the path of its section.
        parts = [path, arguments, error.path] if error.path and path else [path or error.path]
        raise UserError(error.message, "/".join(part for part in parts if part)) from None
    except (ValueError, TypeError, OverflowError, MemoryError, tf.errors.OpError) as error:
        # Keras colours its messages.
        reason = " ".join(re.sub(r"\x1b\[\d*m", "", str(error)).split())
        raise UserError(f"this cannot be built: {reason[:300]}", path) from None
