"""Config -> complete config: data to data, every name and type checked, nothing built."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping, Sequence
from typing import Any

from l2o import keras_optimizers
from l2o.errors import UserError, nearest
from l2o.optimizer import OPTIMIZERS
from l2o.options import SHA256, Directory, Seed, check, expect_object, options_of, resolve, to_json
from l2o.plain import respelled
from l2o.problems import PROBLEMS, WRAPPERS
from l2o.registry import Registry
from l2o.train.distributed.cluster import Distribute
from l2o.train.estimators import ESTIMATORS
from l2o.train.families import DRAWS, SAMPLE, resolve_family
from l2o.train.losses.base import LossArgs
from l2o.train.losses.learned_teacher import is_learned, resolve_learned
from l2o.train.outer.perturbation import Perturbation
from l2o.train.outer.training import Training
from l2o.train.strategies import STRATEGIES


def job(
    directory: Directory = "weights",
    seed: Seed = 0,
    initial_weights: Directory | None = None,
    initial_weights_sha256: SHA256 | None = None,
    constructor: str = "DM",
    estimator_constructor: str = "TruncatedBackprop",
    strategy_constructor: str = "Simple",
    distribute: Distribute = "none",
) -> None:
    """The options at the top of a config, declared by a signature as all options are.

    Args:
        directory: The directory of the run ["weights"].
        seed: Names every random draw of the run [0].
        initial_weights: The learned weights to start from, in place of random ones: a run
            directory, which stands for its best period, what `optimizer.save` wrote, a name that
            `l2o.pretrained()` lists, or `hf://user/name`. Their class and shapes have to be those
            of this run. Its other network options may differ from those that they were trained
            with [None].
        initial_weights_sha256: The SHA-256 of these weights; others are refused. A run writes
            it into its `config.json` [None].
        constructor: The learned optimizer ["DM"].
        estimator_constructor: The estimator of meta-gradients ["TruncatedBackprop"].
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
    "estimator",
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
        UserError: If anything in it is wrong; names the path, what was expected there and
            the nearest known name.
    """
    config = respelled(expect_object(config, "config"))
    top = _top(config)
    network = OPTIMIZERS.find(top["constructor"], "constructor")
    estimator = ESTIMATORS.find(top["estimator_constructor"], "estimator_constructor")
    strategy = STRATEGIES.find(top["strategy_constructor"], "strategy_constructor")
    for name, option in options_of(job).items():
        top[name] = check(option.annotation, top[name], name)
    if top["initial_weights"] is None and top["initial_weights_sha256"] is not None:
        raise UserError("there is no initial_weights; expected null", "initial_weights_sha256")

    def section(name: str, target: Any) -> dict[str, Any]:
        return resolve(target, config.get(name, {}), name)

    return {
        "directory": top["directory"],
        "seed": top["seed"],
        "initial_weights": top["initial_weights"],
        "initial_weights_sha256": top["initial_weights_sha256"],
        "distribute": top["distribute"],
        "constructor": top["constructor"],
        "network": section("network", network),
        "problems": _resolve_problems(config.get("problems", []), "problems"),
        "validation_problems": _resolve_problems(
            config.get("validation_problems", []), "validation_problems", least=0
        ),
        "training": _resolve_training(config.get("training", {})),
        "loss_args": section("loss_args", LossArgs),
        "estimator_constructor": top["estimator_constructor"],
        "estimator": section("estimator", estimator),
        "optimizer": keras_optimizers.resolve(config.get("optimizer", {}), "optimizer"),
        "strategy_constructor": top["strategy_constructor"],
        "strategy": section("strategy", strategy),
    }


def top_option(config: Any, name: str) -> Any:
    """Returns one option at the top of a config that is not resolved yet.

    Args:
        config: A config as it was given.
        name: The name of a parameter of `job`.

    Raises:
        UserError: If its value does not fit.
    """
    option = options_of(job)[name]
    value = expect_object(config, "config").get(name, option.default)
    return check(option.annotation, value, name)


def resolve_problem(spec: Any, path: str) -> dict[str, Any]:
    """Checks a problem's spec and writes every default out.

    Args:
        spec: `{"target", "args", "kwargs", "wrappers"}`, JSON values; of a family also
            `{"sample", "draws"}`.
        path: Where it stands in a config (`problems/0`); "" if its options are typed without
            a path, as on the command line of evaluate.py.

    Raises:
        UserError: If anything in it is wrong; names the path.
    """
    spec = dict(expect_object(spec, path))
    wrappers = spec.pop("wrappers", [])
    if not isinstance(wrappers, list):
        raise UserError(
            f"expected a list of wrappers; got {json.dumps(wrappers)}", f"{path}/wrappers"
        )
    return {
        **_resolve_family(spec, path),
        "wrappers": [
            # The first argument of a wrapper is the problem itself.
            _resolve_target(wrapper, f"{path}/wrappers/{i}", WRAPPERS, skip=1)
            for i, wrapper in enumerate(wrappers)
        ],
    }


def _resolve_family(spec: dict[str, Any], path: str) -> dict[str, Any]:
    """Returns what a problem's spec says of its target, and of the options that are drawn."""
    resolved = _resolve_target(spec, path, PROBLEMS, ("wrappers", SAMPLE, DRAWS))
    target = PROBLEMS.find(spec["target"])
    family = resolve_family(spec, options_of(target), path)
    given = [*list(inspect.signature(target).parameters)[: len(resolved["args"])]]
    given += spec.get("kwargs", {})
    for name in family.get(SAMPLE, {}):
        if name in given:
            raise UserError(
                f"{name} has a value too; expected either a value or a distribution",
                f"{path}/{SAMPLE}/{name}",
            )
    kwargs = {k: v for k, v in resolved["kwargs"].items() if k not in family.get(SAMPLE, {})}
    return {**resolved, "kwargs": kwargs, **family}


def _top(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the options at the top, not checked yet."""
    options = options_of(job)
    for name in config:
        if name not in options and name not in SECTIONS:
            raise UserError(
                f"unknown option{nearest(name, _all_paths(config))}; known here: "
                f"{', '.join([*options, *SECTIONS])}",
                name,
            )
    return {name: config.get(name, option.default) for name, option in options.items()}


def _resolve_training(given: Any) -> dict[str, Any]:
    training = resolve(Training, given, "training")
    training["teachers"] = [
        (resolve_learned if is_learned(teacher) else keras_optimizers.resolve)(
            teacher, f"training/teachers/{i}"
        )
        for i, teacher in enumerate(training["teachers"])
    ]
    if training["perturbation"] is not None:
        training["perturbation"] = to_json(Perturbation(**training["perturbation"]))
    if training["imitation_optimizer"] is not None:
        training["imitation_optimizer"] = keras_optimizers.resolve(
            training["imitation_optimizer"], "training/imitation_optimizer"
        )
    return training


def _resolve_problems(problems: Any, path: str, least: int = 1) -> list[dict[str, Any]]:
    if not isinstance(problems, list) or len(problems) < least:
        wanted = "a list of at least one problem" if least else "a list of problems"
        raise UserError(f"expected {wanted}; got {json.dumps(problems)}", path)
    return [resolve_problem(spec, f"{path}/{i}") for i, spec in enumerate(problems)]


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
    def chosen(registry: Registry[Any], choice: str) -> Any:
        return registry.entries.get(str(config.get(choice, options_of(job)[choice].default)))

    sections = {
        "network": chosen(OPTIMIZERS, "constructor"),
        "training": Training,
        "loss_args": LossArgs,
        "estimator": chosen(ESTIMATORS, "estimator_constructor"),
        "strategy": chosen(STRATEGIES, "strategy_constructor"),
    }
    paths = [
        f"{section}/{name}"
        for section, target in sections.items()
        if target is not None
        for name in options_of(target)
    ]
    return [*options_of(job), *SECTIONS, *paths]
