"""Config -> objects: the one place that turns names into objects."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import tensorflow as tf

from l2o import keras_optimizers, seeds
from l2o.errors import UserError, nearest
from l2o.optimizer import OPTIMIZERS, TrainableOptimizer
from l2o.options import Directory, Seed, check, expect_object, options_of, resolve
from l2o.problems import PROBLEMS, WRAPPERS, ProblemSpec
from l2o.registry import Registry
from l2o.train.distributed.cluster import Distribute
from l2o.train.distributed.devices import Replicas
from l2o.train.losses.base import LossArgs
from l2o.train.outer.training import Training
from l2o.train.strategies.base import BaseStrategy
from l2o.train.strategies.curriculum import CurriculumLearningStrategy
from l2o.train.strategies.simple import SimpleStrategy

STRATEGIES: Registry[type[BaseStrategy]] = Registry(
    "strategy", {"CurriculumLearning": CurriculumLearningStrategy, "Simple": SimpleStrategy}
)


def job(
    directory: Directory = "weights",
    seed: Seed = 0,
    constructor: str = "DM",
    strategy_constructor: str = "Simple",
    distribute: Distribute = "none",
) -> None:
    """The options at the top of a config; a signature, as all options are.

    Args:
        directory: Where the run is written ["weights"].
        seed: Names every random draw of the run [0].
        constructor: The learned optimizer ["DM"].
        strategy_constructor: The training strategy ["Simple"].
        distribute: What shares the optimizees of a meta-step: "none", one device;
            "mirrored", all GPUs of this machine; "multi_worker", the machines that the
            environment variable TF_CONFIG names ["none"].
    """


SECTIONS = (
    "problems",
    "validation_problems",
    "network",
    "training",
    "loss_args",
    "optimizer",
    "strategy",
)


def resolve_config(config: Any) -> dict[str, Any]:
    """Checks a config and writes every default out.

    Args:
        config: A config as it was given, JSON values.

    Returns:
        The complete config; resolving it again changes nothing.

    Raises:
        UserError: For whatever is wrong with it: names the path, what was expected there
            and the nearest known name.
    """
    config = dict(expect_object(config, "config"))
    strategy = config.get("strategy", {})
    if isinstance(strategy, Mapping) and "strategy_constructor" in strategy:
        # The seed documents it inside the section, its sample has it at the top.
        inner = strategy["strategy_constructor"]
        if config.get("strategy_constructor", inner) != inner:
            raise UserError(
                f"the top of the config chooses {config['strategy_constructor']!r} and this "
                f"{inner!r}: expected one choice",
                "strategy/strategy_constructor",
            )
        config["strategy"] = {k: v for k, v in strategy.items() if k != "strategy_constructor"}
        config["strategy_constructor"] = inner
    top = {key: value for key, value in config.items() if key not in SECTIONS}
    for key in top:
        if key not in options_of(job):
            raise UserError(
                f"unknown option{nearest(key, _all_paths(config))}; known here: "
                f"{', '.join([*options_of(job), *SECTIONS])}",
                key,
            )
    top = {**{k: o.default for k, o in options_of(job).items()}, **top}
    optimizer = OPTIMIZERS.find(top["constructor"], "constructor")
    strategy_class = STRATEGIES.find(top["strategy_constructor"], "strategy_constructor")
    for key, value in top.items():
        top[key] = check(options_of(job)[key].annotation, value, key)
    training = resolve(Training, config.get("training", {}), "training")
    training["teachers"] = [
        keras_optimizers.resolve(teacher, f"training/teachers/{i}")
        for i, teacher in enumerate(training["teachers"])
    ]
    if training["imitation_optimizer"] is not None:
        training["imitation_optimizer"] = keras_optimizers.resolve(
            training["imitation_optimizer"], "training/imitation_optimizer"
        )
    return {
        "directory": top["directory"],
        "seed": top["seed"],
        "distribute": top["distribute"],
        "constructor": top["constructor"],
        "network": resolve(optimizer, config.get("network", {}), "network"),
        "problems": _resolve_problems(config.get("problems", []), "problems"),
        "validation_problems": _resolve_problems(
            config.get("validation_problems", []), "validation_problems", least=0
        ),
        "training": training,
        "loss_args": resolve(LossArgs, config.get("loss_args", {}), "loss_args"),
        "optimizer": keras_optimizers.resolve(config.get("optimizer", {}), "optimizer"),
        "strategy_constructor": top["strategy_constructor"],
        "strategy": resolve(strategy_class, config.get("strategy", {}), "strategy"),
    }


def top_option(config: Any, name: str) -> Any:
    """Returns an option at the top of a config that is not resolved yet.

    Args:
        config: A config as it was given.
        name: One of `job`'s.

    Raises:
        UserError: If its value is none that it may have.
    """
    option = options_of(job)[name]
    value = expect_object(config, "config").get(name, option.default)
    return check(option.annotation, value, name)


def build_training(config: Mapping[str, Any], replicas: Replicas | None = None) -> Training:
    """Builds the training of a resolved config; reads data, writes nothing.

    Args:
        config: A resolved config.
        replicas: What `join` made of the option `distribute`; None: one replica [None].

    Raises:
        UserError: If a part cannot be built.
    """
    return Training(
        build_optimizer(config),
        _specs(config, "problems"),
        config["optimizer"],
        LossArgs(**config["loss_args"]),
        validation_problems=_specs(config, "validation_problems"),
        replicas=replicas,
        **config["training"],
    )


def build_strategy(config: Mapping[str, Any]) -> BaseStrategy:
    """Builds the strategy of a resolved config.

    Raises:
        UserError: If an option does not fit.
    """
    return STRATEGIES.find(config["strategy_constructor"])(**config["strategy"])


def _specs(config: Mapping[str, Any], section: str) -> list[ProblemSpec]:
    specs = []
    for i, spec in enumerate(config[section]):
        specs.append(_spec(spec))
        _built(specs[-1], f"{section}/{i}")
    return specs


def _spec(spec: Mapping[str, Any]) -> ProblemSpec:
    wrappers = [ProblemSpec(w["target"], w["args"], w["kwargs"]) for w in spec["wrappers"]]
    return ProblemSpec(spec["target"], spec["args"], spec["kwargs"], wrappers)


def build_optimizer(config: Mapping[str, Any]) -> TrainableOptimizer:
    """Returns the optimizer of a resolved config with the weights training starts from.

    Raises:
        UserError: If Keras cannot build its network with these options.
    """
    seed = seeds.draw(seeds.generator(config["seed"], seeds.WEIGHTS))
    with seeds.keras_initializers(seed):
        return optimizer_from(OPTIMIZERS.find(config["constructor"]), config["network"])


def optimizer_from(kind: type[TrainableOptimizer], options: Any) -> TrainableOptimizer:
    """Returns an optimizer with options that come from a file.

    Args:
        kind: Its class.
        options: JSON values; what is not given has its default.

    Raises:
        UserError: If an option is none of `kind`, or Keras cannot build such a network.
    """
    options = resolve(kind, options, "network")
    with _reported("network"):
        optimizer = kind(**options)
        # Some activations only fail once tensors flow.
        params = [tf.zeros([2])]
        optimizer.update(params, params, optimizer.initial_state(params))
        return optimizer


def problem_from(target: str, kwargs: Mapping[str, Any]) -> Any:
    """Builds a problem from names and JSON values, as `evaluate.py --problem` gives them.

    Raises:
        UserError: If there is no such problem or an option is wrong.
    """
    spec = _resolve_target({"target": target, "kwargs": kwargs}, "", PROBLEMS)
    return _built(ProblemSpec(spec["target"], spec["args"], spec["kwargs"]), "")


def _built(spec: ProblemSpec, path: str) -> Any:
    with _reported(path, arguments="kwargs"):
        problem = spec.build()
        # Some options only fail once tensors flow: better here than in a trace.
        batch = tf.nest.map_structure(lambda b: b[0], problem.batches(0, 0, 1))
        problem.objective(*problem.init(0), batch)
        return problem


@contextmanager
def _reported(path: str, arguments: str = "") -> Iterator[None]:
    """Says where an option stands that only shows to be wrong when it is used."""
    try:
        yield
    except UserError as error:
        # A constructor knows its argument, but not where that stands.
        parts = [path, arguments, error.path] if error.path and path else [path or error.path]
        raise UserError(error.message, "/".join(part for part in parts if part)) from None
    except (ValueError, TypeError, OverflowError, MemoryError, tf.errors.OpError) as error:
        # Keras colours its messages.
        reason = " ".join(re.sub(r"\x1b\[\d*m", "", str(error)).split())
        raise UserError(f"this cannot be built: {reason[:300]}", path) from None


def _resolve_problems(problems: Any, path: str, least: int = 1) -> list[dict[str, Any]]:
    if not isinstance(problems, list) or len(problems) < least:
        wanted = "a list of at least one problem" if least else "a list of problems"
        raise UserError(f"expected {wanted}; got {json.dumps(problems)}", path)
    return [_resolve_problem(spec, f"{path}/{i}") for i, spec in enumerate(problems)]


def _resolve_problem(spec: Any, path: str) -> dict[str, Any]:
    spec = dict(expect_object(spec, path))
    wrappers = spec.pop("wrappers", [])
    if not isinstance(wrappers, list):
        raise UserError(
            f"expected a list of wrappers; got {json.dumps(wrappers)}", f"{path}/wrappers"
        )
    return {
        **_resolve_target(spec, path, PROBLEMS, ("wrappers",)),
        "wrappers": [
            # The first argument of a wrapper is the problem itself.
            _resolve_target(wrapper, f"{path}/wrappers/{i}", WRAPPERS, skip=1)
            for i, wrapper in enumerate(wrappers)
        ],
    }


def _resolve_target(
    spec: Any, path: str, registry: Registry[Any], others: Sequence[str] = (), skip: int = 0
) -> dict[str, Any]:
    spec = expect_object(spec, path)
    known = ("target", "args", "kwargs", *others)
    for key in spec:
        if key not in known:
            raise UserError(
                f"unknown option{nearest(key, known)}; known here: {', '.join(known)}",
                f"{path}/{key}",
            )
    prefix = f"{path}/" if path else ""
    target = registry.find(spec.get("target"), f"{prefix}target" if path else "")
    args = spec.get("args", [])
    names = list(inspect.signature(target).parameters)[skip:]
    if not isinstance(args, list) or len(args) > len(names):
        raise UserError(f"expected a list of at most {len(names)} values", f"{prefix}args")
    kwargs = expect_object(spec.get("kwargs", {}), f"{prefix}kwargs")
    positional = dict(zip(names, args, strict=False))
    for name in positional:
        if name in kwargs:
            raise UserError(f"{name} is given by args too", f"{prefix}kwargs/{name}")
    try:
        both = resolve(target, {**positional, **kwargs}, f"{prefix}kwargs" if path else "")
    except UserError as error:
        for i, name in enumerate(positional):
            here = f"{prefix}kwargs/{name}"
            if error.path == here or error.path.startswith(f"{here}/"):
                place = error.path.replace(here, f"{prefix}args/{i}", 1)
                raise UserError(error.message, place) from None
        raise
    return {
        "target": spec["target"],
        "args": list(args),
        "kwargs": {k: v for k, v in both.items() if k not in positional},
    }


def _all_paths(config: Mapping[str, Any]) -> list[str]:
    optimizer = OPTIMIZERS.entries.get(str(config.get("constructor")))
    strategy = STRATEGIES.entries.get(str(config.get("strategy_constructor", "Simple")))
    sections = {"network": optimizer, "training": Training, "loss_args": LossArgs}
    sections["strategy"] = strategy  # type: ignore[assignment]
    paths = [
        f"{section}/{name}"
        for section, target in sections.items()
        if target is not None
        for name in options_of(target)
    ]
    return [*options_of(job), *SECTIONS, *paths]
