"""What `config` and `l2o` share: errors of one line, strict JSON, older spellings of options.

It imports the standard library only. `config/plain.py` loads this file without the rest of l2o,
so that `--help` answers without TensorFlow.
"""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, NoReturn

# The deepest nesting of JSON. Python's recursion limit leaves room for several times as much.
DEEPEST = 50

# Paths that configs may use for an option, and the path at which the option is.
SPELLINGS: dict[tuple[str, ...], tuple[str, ...]] = {
    # The seed's text has it inside the section, and its sample at the top.
    ("strategy", "strategy_constructor"): ("strategy_constructor",),
    # Runs were written like this before gradient estimators had a section.
    ("training", "second_derivatives"): ("estimator", "second_derivatives"),
}


class UserError(ValueError):
    """Wrong input, said in one line; the scripts print it and exit with code 2.

    Args:
        message: What is wrong and what was expected.
        path: The config path, such as ``strategy/num_periods``; empty if the message itself
            names the place.
    """

    def __init__(self, message: str, path: str = "") -> None:
        message, path = _printable(message, 1000), _printable(path, 200)
        super().__init__(f"{path}: {message}" if path else message)
        self.message = message
        self.path = path


class LostWorkerError(RuntimeError):
    """Another process of a run on several machines has gone; the scripts exit with code 1."""


def _printable(text: str, longest: int) -> str:
    # A typed word, or a file, may hold anything.
    if len(text) > longest:
        text = f"{text[: longest // 2]}...{text[-longest // 2 :]}"
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def nearest(name: str, known: Iterable[str]) -> str:
    """Returns `` (did you mean X?)`` for the known name closest to `name`, or nothing."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f" (did you mean {close[0]}?)" if close else ""


def parse_json(text: str | bytes) -> Any:
    """Returns a JSON value as the standard defines it; Python's parser accepts more.

    Raises:
        json.JSONDecodeError: If it is not JSON.
        ValueError: If it is not UTF-8, is nested too deeply, names a key twice, or holds a
            number that is not finite or too large.
    """
    try:
        value = json.loads(
            text.decode("utf-8") if isinstance(text, bytes) else text,
            object_pairs_hook=_unique,
            parse_constant=_not_finite,
            parse_float=_finite,
            parse_int=_whole,
        )
    except UnicodeDecodeError:
        raise ValueError("it is not UTF-8 text") from None
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except json.JSONDecodeError:
        raise
    except ValueError:
        # What only begins with such a number is not JSON: a checksum may be 8e999ab1...
        with suppress(RecursionError):
            json.loads(text, parse_int=str, parse_float=str)
        raise
    _check_depth(value, DEEPEST)
    return value


def parse_object(text: str | bytes) -> dict[str, Any]:
    """Returns a JSON object.

    Raises:
        ValueError: If it is not one; see `parse_json`.
    """
    value = parse_json(text)
    if not isinstance(value, dict):
        raise ValueError("expected a JSON object")
    return value


def _check_depth(value: Any, levels: int) -> None:
    if isinstance(value, (dict, list)):
        if not levels:
            raise ValueError("it is nested too deeply")
        for inner in value.values() if isinstance(value, dict) else value:
            _check_depth(inner, levels - 1)


def _unique(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in found if names.count(name) > 1)
        raise ValueError(f"the key {twice!r} stands twice in one object")
    return found


def _finite(text: str) -> float:
    value = float(text)
    return value if math.isfinite(value) else _not_finite(text)


def _whole(text: str) -> int:
    # No float holds larger ones either.
    if len(text) > 20 or abs(int(text)) >= 2**63:
        raise ValueError(f"expected whole numbers of at most 63 bits; got {text[:40]}")
    return int(text)


def _not_finite(text: str) -> NoReturn:
    raise ValueError(f"expected finite numbers; got {text[:40]}")


def respelled(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a config in which each option is at its own path; see `SPELLINGS`.

    Args:
        config: As it was given; it is not changed.

    Raises:
        UserError: If both spellings of an option are given and their values differ.
    """
    config = dict(config)
    for spelling, place in SPELLINGS.items():
        section, name = spelling
        if not isinstance(config.get(section), Mapping) or name not in config[section]:
            continue
        *parents, last = place
        owner = config.get(parents[0], {}) if parents else config
        if not isinstance(owner, Mapping):
            continue  # refused when the section is resolved
        value = config[section][name]
        given = owner.get(last, value)
        if type(given) is not type(value) or given != value:
            raise UserError(
                f"{_json(value)} here and {_json(given)} at {'/'.join(place)}, which is the same "
                "option: expected one value",
                "/".join(spelling),
            )
        config[section] = {key: v for key, v in config[section].items() if key != name}
        if parents:
            config[parents[0]] = {**owner, last: value}
        else:
            config[last] = value
    return config


def _json(value: Any) -> str:
    return json.dumps(value, default=repr)
