"""The account of a run from Python: what it is made of, so that it goes on with the same.

A run from the command line has config.json, which states everything. From Python, problems and
functions may be objects that no config can name. Their account has the layout of a config, with
a description in place of each object. It is only compared; nothing is built from it.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import keras
import numpy as np

from l2o.errors import UserError
from l2o.optimizer import OPTIMIZERS, TrainableOptimizer, saved
from l2o.options import options_of
from l2o.plain import respelled
from l2o.problems import Problem, ProblemSpec
from l2o.train.families import members_of
from l2o.train.runs.description import describe, is_data
from l2o.train.runs.differences import WHERE, Plan, differing, leaves
from l2o.train.runs.directory import SHA256, SOURCE, RunDirectory


class Trained(Protocol):
    """What an account says of a training; see `Training`."""

    optimizer: TrainableOptimizer
    problems: list[Problem]
    validation_problems: list[Problem]
    loss_args: Any
    meta_spec: Any
    meta_optimizer: keras.optimizers.Optimizer
    given: dict[str, Any]
    estimator: Any
    p_teacher: float


def account_of(training: Trained, strategy: Plan, seed: int) -> dict[str, Any]:
    """Returns the account of a run: JSON values in the layout of a config."""
    kind = type(training.optimizer)
    own = training.validation_problems is not training.problems
    network = _options(training.optimizer)
    # Keras numbers the names of a class's optimizers in a process: the name tells no runs apart.
    network.pop("name", None)
    return {
        "seed": seed,
        # Those before the first period, see `check`.
        SHA256: saved.digest(kind, training.optimizer.network.get_weights()),
        "constructor": _class(kind),
        "network": network,
        "problems": describe(training.problems),
        "validation_problems": describe(training.validation_problems) if own else [],
        "training": describe(training.given),
        "loss_args": describe(training.loss_args),
        "optimizer": _with_current_rate(training.meta_spec, training.meta_optimizer),
        "strategy_constructor": _class(type(strategy)),
        "strategy": {**_options(strategy), **_required(strategy)},
        "estimator_constructor": _class(type(training.estimator)),
        "estimator": _options(training.estimator),
    }


def check(run: RunDirectory, training: Trained, strategy: Plan, seed: int) -> None:
    """Checks that a run goes on with what it began with, and writes its account.

    Args:
        run: The run's directory, locked.
        training: The training, strategy and seed that it goes on with.
        strategy: See `training`.
        seed: See `training`.

    Raises:
        UserError: If the finished periods were trained with others; names what differs.
    """
    new = account_of(training, strategy, seed)
    rows = run.rows()
    strategy.plan(rows)
    config = run.read_config() if run.exists() else None
    old = run.read_account() if config is None else _account_of_config(config)
    old = None if old is None else respelled(old)
    if rows:
        # An optimizer that is made again may have other weights: a checkpoint replaces them.
        new[SHA256] = old and old.get(SHA256)
    elif config is not None and old and old.get(SHA256) not in (None, new[SHA256]):
        raise UserError(
            f"{run.path} starts from other learned weights than this optimizer has; expected those "
            f"of {run.initial_path(old[SHA256])}",
            SOURCE,
        )
    if old is not None and rows:
        before, after = (_comparable(account, training, strategy) for account in (old, new))
        changed = differing(before, after)
        fixed = [path for path in changed if not path.startswith("strategy/")]
        if fixed:
            raise _refusal(run, len(rows), fixed, old, new)
        if changed:
            past = _past_strategy(strategy, before["strategy"], after["strategy"])
            if past is None or not strategy.would_have_run(past, rows, training.p_teacher):
                raise _refusal(run, len(rows), changed, old, new)
    if config is None:
        if old != new:
            run.write_account(new)
    elif old is not None and old["strategy"] != new["strategy"] and is_data(new["strategy"]):
        run.write_config({**config, "strategy": new["strategy"]})


def _past_strategy(
    strategy: Plan, before: Mapping[str, Any], after: Mapping[str, Any]
) -> Plan | None:
    """Returns the strategy that a run had until now; None: its account cannot tell."""
    options = {}
    for name, value in before.items():
        if not hasattr(strategy, name):
            continue
        if not differing({name: value}, {name: after.get(name)}):
            # The option itself, since its description cannot stand for a function.
            options[name] = getattr(strategy, name)
        elif is_data(value):
            options[name] = value
        else:
            return None
    return type(strategy)(**options)


def _refusal(
    run: RunDirectory, periods: int, paths: Sequence[str], old: Any, new: Any
) -> UserError:
    there, here = leaves(old), leaves(new)
    names = [f"{p} ({_short(there, p)} there, {_short(here, p)} here)" for p in paths[:5]]
    return UserError(
        f"{run.path} has {periods} trained periods; {', '.join(names)}"
        f"{', ...' if len(paths) > 5 else ''} would have changed them; nothing was written: "
        "expected only options of what is still to be trained, such as a larger num_periods or "
        "max_stages; another RunDirectory starts another run"
    )


def _short(values: Mapping[str, Any], path: str) -> str:
    value = values.get(path, "nothing")
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _comparable(account: Mapping[str, Any], training: Trained, strategy: Plan) -> dict[str, Any]:
    """Returns an account in which equal runs are equal."""
    sections: dict[str, Any] = {"training": training, "loss_args": training.loss_args}
    sections["strategy"] = strategy
    sections["estimator"] = training.estimator
    sections["network"] = training.optimizer
    done = {"estimator_constructor": "TruncatedBackprop", **account}
    for section, target in sections.items():
        # Older versions behaved as today's defaults do.
        options = options_of(type(target)).items()
        defaults = {name: describe(option.default) for name, option in options}
        done[section] = {**defaults, **account.get(section, {})}
    # The account of an older version lacks these.
    done["strategy"] = {**_required(strategy), **done["strategy"]}
    for name in (SOURCE, SHA256):
        done.pop(name, None)
    # A config has the name, and so has the account of an older version.
    done["network"].pop("name", None)
    done["optimizer"] = _with_rounded_rate(done["optimizer"])
    done["training"] = {
        **done["training"],
        "teachers": [_without_place(_with_rounded_rate(s)) for s in done["training"]["teachers"]],
        "imitation_optimizer": _with_rounded_rate(done["training"]["imitation_optimizer"]),
    }
    return done


def _account_of_config(config: Mapping[str, Any]) -> dict[str, Any]:
    def built(section: str) -> Any:
        specs = [
            ProblemSpec(
                s["target"],
                s["args"],
                s["kwargs"],
                [ProblemSpec(w["target"], w["args"], w["kwargs"]) for w in s["wrappers"]],
            )
            for _, s in members_of(config, section)
        ]
        return describe([spec.build() for spec in specs])

    account = {k: v for k, v in config.items() if k not in WHERE}
    return {**account, **{k: built(k) for k in ("problems", "validation_problems")}}


def _class(kind: type) -> str:
    """Returns a class's name in a config, or its own name if it is the user's class."""
    known = next((name for name, known in OPTIMIZERS.entries.items() if known is kind), None)
    if known is None and kind.__module__.startswith("l2o."):
        known = kind.__name__.removesuffix("Strategy")
    return known or kind.__qualname__


def _options(target: Any) -> dict[str, Any]:
    names = [name for name in options_of(type(target)) if hasattr(target, name)]
    return {name: describe(getattr(target, name)) for name in names}


def _required(target: Any) -> dict[str, Any]:
    """Returns the constructor arguments without a default that a user's class may have."""
    parameters = inspect.signature(type(target)).parameters.values()
    names = [p.name for p in parameters if p.default is p.empty and p.kind is not p.VAR_KEYWORD]
    return {name: describe(getattr(target, name)) for name in names if hasattr(target, name)}


def _with_current_rate(
    spec: Mapping[str, Any], optimizer: keras.optimizers.Optimizer
) -> dict[str, Any]:
    """Returns the spec of an optimizer; its learning rate may have been set since."""
    config = dict(spec["config"])
    rate = config.get("learning_rate")
    if isinstance(rate, float):
        now = float(optimizer.learning_rate)
        config["learning_rate"] = rate if np.float32(rate) == np.float32(now) else now
    return {**spec, "config": describe(config)}


def _without_place(spec: Any) -> Any:
    """Returns the spec of a teacher without the directory of a trained one, which sha256 names."""
    return {**spec, "config": {k: v for k, v in spec["config"].items() if k != "directory"}}


def _with_rounded_rate(spec: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """Returns a spec with its learning rate as Keras holds it, in float32."""
    rate = spec and spec["config"].get("learning_rate")
    if spec is None or not isinstance(rate, float):
        return spec
    return {**spec, "config": {**spec["config"], "learning_rate": float(np.float32(rate))}}
