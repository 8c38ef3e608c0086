"""The account of a run from Python: what it is made of, so that it goes on with the same.

A run from the command line has config.json, which says all. From Python problems and functions
may be objects that no config names. Their account has the layout of a config, with what can be
said of an object in its place; it is only ever compared, nothing is built from it.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import json
import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf

from l2o.errors import UserError
from l2o.optimizer import OPTIMIZERS
from l2o.options import options_of
from l2o.problems import KerasProblem, Problem, ProblemSpec
from l2o.train.losses.base import LossArgs
from l2o.train.outer.training import Training
from l2o.train.runs.differences import WHERE, differing, leaves
from l2o.train.runs.directory import RunDirectory

if TYPE_CHECKING:
    from l2o.train.strategies.base import BaseStrategy

# Objects within objects are told apart down to here; deeper ones are their classes.
DEEPEST = 12
# Of a Keras layer, what is numbered anew in each process or says how layers hang together.
_NAMES = {"name", "build_config", "inbound_nodes", "input_layers", "output_layers"}


def account_of(strategy: BaseStrategy) -> dict[str, Any]:
    """Returns what a run is made of, JSON values in the layout of a config."""
    training = strategy.training
    kind = type(training.optimizer)
    own = training.validation_problems is not training.problems
    return {
        "seed": strategy.seed,
        "constructor": _class(kind),
        "network": _options(training.optimizer),
        "problems": _plain(training.problems),
        "validation_problems": _plain(training.validation_problems) if own else [],
        "training": _plain(training.given),
        "loss_args": _plain(training.loss_args),
        "optimizer": _as_set(training.meta_spec, training.meta_optimizer),
        "strategy_constructor": _class(type(strategy)),
        "strategy": _options(strategy),
    }


def check(strategy: BaseStrategy, run: RunDirectory) -> None:
    """Sees to it that a run goes on with what it began with, and writes down what that is.

    Args:
        strategy: What is about to train.
        run: Its directory, locked.

    Raises:
        UserError: If finished periods were trained by something else: says where it differs.
    """
    new = account_of(strategy)
    rows = run.rows()
    strategy.plan(rows)
    config = run.read_config() if run.exists() else None
    old = run.read_account() if config is None else _account_of_config(config)
    if old is not None and rows:
        # An option that an older version did not have was what is its default now.
        changed = differing(_complete(old, strategy), _complete(new, strategy))
        fixed = [path for path in changed if not path.startswith("strategy/")]
        if fixed or (changed and not _would_have_run(strategy, rows, old, new)):
            raise _refusal(run, len(rows), fixed or changed, old, new)
    if config is None:
        if old != new:
            run.write_account(new)
    elif old is not None and old["strategy"] != new["strategy"] and _is_data(new["strategy"]):
        run.write_config({**config, "strategy": new["strategy"]})


def _would_have_run(
    strategy: BaseStrategy, rows: Sequence[Any], old: Mapping[str, Any], new: Mapping[str, Any]
) -> bool:
    # What has not changed is taken as it is: it may be a function.
    options = {}
    for name, value in old["strategy"].items():
        if not differing({name: value}, {name: new["strategy"].get(name)}):
            options[name] = getattr(strategy, name)
        elif _is_data(value):
            options[name] = value
        else:
            return False
    past = type(strategy)(strategy.training, None, strategy.seed, **options)
    return strategy.would_have_run(past, rows)


def _refusal(
    run: RunDirectory, periods: int, paths: Sequence[str], old: Any, new: Any
) -> UserError:
    there, here = leaves(old), leaves(new)
    names = [f"{p} ({_short(there, p)} there, {_short(here, p)} here)" for p in paths[:5]]
    return UserError(
        f"{run.path} has {periods} trained periods, which {', '.join(names)}"
        f"{', ...' if len(paths) > 5 else ''} would have made others; nothing was changed: "
        "expected only options of what is still to be trained, such as a larger num_periods or "
        "max_stages; another RunDirectory starts another run"
    )


def _short(values: Mapping[str, Any], path: str) -> str:
    value = values.get(path, "nothing")
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _complete(account: Mapping[str, Any], strategy: BaseStrategy) -> dict[str, Any]:
    sections: dict[str, Any] = {"training": Training, "loss_args": LossArgs}
    sections["strategy"] = type(strategy)
    sections["network"] = type(strategy.training.optimizer)
    done = dict(account)
    for section, target in sections.items():
        defaults = {name: _plain(option.default) for name, option in options_of(target).items()}
        done[section] = {**defaults, **account[section]}
        done[section].pop("name", None)
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
            for s in config[section]
        ]
        return _plain([spec.build() for spec in specs])

    account = {k: v for k, v in config.items() if k not in WHERE}
    return {**account, **{k: built(k) for k in ("problems", "validation_problems")}}


def _class(kind: type) -> str:
    """Returns the name a config has for a class of this package; of others their own."""
    known = next((name for name, known in OPTIMIZERS.entries.items() if known is kind), None)
    if known is None and kind.__module__.startswith("l2o."):
        known = kind.__name__.removesuffix("Strategy")
    return known or kind.__qualname__


def _options(target: Any) -> dict[str, Any]:
    # An optimizer that is not named has a number in its name: it says nothing of the rule.
    names = [name for name in options_of(type(target)) if name != "name" and hasattr(target, name)]
    return {name: _plain(getattr(target, name)) for name in names}


def _as_set(spec: Mapping[str, Any], optimizer: keras.optimizers.Optimizer) -> dict[str, Any]:
    """Returns the spec of a Keras optimizer, with the learning rate that was set since."""
    config = dict(spec["config"])
    rate = config.get("learning_rate")
    if isinstance(rate, float):
        now = float(optimizer.learning_rate)
        config["learning_rate"] = rate if np.float32(rate) == np.float32(now) else now
    return {**spec, "config": _plain(config)}


def _is_data(value: Any) -> bool:
    """Returns whether an account of options is the options themselves."""
    if isinstance(value, Mapping):
        return _OBJECT not in value and all(map(_is_data, value.values()))
    return not isinstance(value, list) or all(map(_is_data, value))


# The key that stands where an object is described by its class or name.
_OBJECT = "object"


def _plain(value: Any, depth: int = 0) -> Any:
    """Returns a JSON value that says what an object is, the same in each process."""
    inner = functools.partial(_plain, depth=depth + 1)
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


def _parts(value: Any, inner: Any) -> dict[str, Any]:
    # What a constructor takes, most classes keep under the same name.
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
        with suppress(NotImplementedError):  # a layer of the user's own may have none
            parts = {**parts, **inner(_nameless(value.get_config()))}
    return parts


def _nameless(config: Any) -> Any:
    if isinstance(config, Mapping):
        return {key: _nameless(item) for key, item in config.items() if key not in _NAMES}
    return [_nameless(item) for item in config] if isinstance(config, (list, tuple)) else config


def _array(array: np.ndarray) -> dict[str, Any]:
    if array.dtype.hasobject:
        # The bytes of objects, such as texts, are where they lie in memory.
        digest = hashlib.sha256(repr(array.tolist()).encode()).hexdigest()
    else:
        # Not `tobytes`, which copies them.
        flat = np.ascontiguousarray(array).reshape(-1)
        digest = hashlib.sha256(flat.view(np.uint8).data).hexdigest()
    return {_OBJECT: f"{array.dtype} {list(array.shape)} {digest[:16]}"}
