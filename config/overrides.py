"""Merges default.json, presets, a config file and `key/path=value` overrides into one dict.

Values are data: a value that is not JSON is a string. Nothing is evaluated or imported.
"""

from __future__ import annotations

import difflib
import json
import math
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
DEFAULT = HERE / "default.json"
PRESETS = HERE / "presets"
# A new choice of these drops the options of the old choice.
SECTION_OF = {"constructor": "network", "strategy_constructor": "strategy"}
# The same within a spec, because another class has other arguments.
OPTIONS_OF = {"class_name": ("config",), "target": ("args", "kwargs")}
DEFAULT_CHOICE = {"class_name": "Adam"}
LARGEST_FILE = 2**20
# Far below the limit of Python's recursion.
DEEPEST = 50


class ConfigError(ValueError):
    """A wrong config, preset or override, described in one line."""

    def __init__(self, message: str) -> None:
        # Input of a user may be long or hold control characters.
        if len(message) > 1000:
            message = f"{message[:500]}...{message[-500:]}"
        super().__init__("".join(c if c.isprintable() else repr(c)[1:-1] for c in message))


def merge_all(
    config_file: str | None = None,
    presets: Sequence[str] = (),
    overrides: Sequence[str] = (),
) -> dict[str, Any]:
    """Returns the config of a command line; options that it does not name are absent.

    Args:
        config_file: A JSON file instead of `config/default.json`.
        presets: Names of partial configs in `config/presets/`; later ones win.
        overrides: `key/path=value` each; they win over everything else.

    Raises:
        ConfigError: If a file cannot be read, an override is malformed, or the file names a
            directory outside the current one, which only the command line may do.
    """
    config = _lifted(read_json(Path(config_file) if config_file else DEFAULT))
    directory = config.get("directory")
    said = any(text.startswith("directory=") for text in overrides)
    if config_file and not said and isinstance(directory, str) and _is_elsewhere(directory):
        raise ConfigError(
            f"directory: {config_file} wants to write to {directory!r}, outside of this directory; "
            f"if that is right, say so: {shlex.quote(f'directory={directory}')}"
        )
    for name in presets:
        config = merge(config, _lifted(read_json(_preset(name))))
    return merge_overrides(config, overrides)


def _is_elsewhere(directory: str) -> bool:
    here = Path.cwd().resolve()
    try:
        return not (here / directory).resolve().is_relative_to(here)
    except (OSError, ValueError, RuntimeError):  # not a path, or links in a circle
        return True


def merge_overrides(config: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """Returns `config` with `key/path=value` overrides on top.

    Raises:
        ConfigError: If an override is malformed, or its path does not exist.
    """
    parsed = [parse_override(text) for text in overrides]
    for (name,), value in ((path, value) for path, value in parsed if len(path) == 1):
        if name in SECTION_OF:
            config = merge(config, {name: value})
    # A strategy may be chosen inside its section too. This drops its old options first.
    for path, value in parsed:
        if path == ("strategy", "strategy_constructor"):
            config = merge(config, {"strategy_constructor": value})
    merged = json.loads(json.dumps(config))
    # A choice comes before the options of what it chooses, in any order of the overrides.
    for path, value in sorted(parsed, key=lambda item: item[0][-1] not in OPTIONS_OF):
        if path != ("strategy", "strategy_constructor"):
            _set(merged, path, value)
    return merged


def _lifted(config: dict[str, Any]) -> dict[str, Any]:
    """Returns a config that chooses its strategy at the top, not inside its section."""
    strategy = config.get("strategy")
    if not isinstance(strategy, dict) or "strategy_constructor" not in strategy:
        return config
    inner = strategy["strategy_constructor"]
    if config.get("strategy_constructor", inner) != inner:
        return config  # `resolve_config` refuses two different choices
    rest = {key: value for key, value in strategy.items() if key != "strategy_constructor"}
    return {**config, "strategy_constructor": inner, "strategy": rest}


def merge(base: Mapping[str, Any], layer: Mapping[str, Any]) -> dict[str, Any]:
    """Returns `base` with `layer` on top: objects are merged, other values replaced.

    If the layer chooses another constructor or strategy_constructor, the `network` or `strategy`
    of the base is left out, so that the defaults of the new choice apply.
    """
    base = dict(base)
    for choice, section in SECTION_OF.items():
        if choice in layer and layer[choice] != base.get(choice):
            base.pop(section, None)
    for key, value in layer.items():
        both_objects = isinstance(value, Mapping) and isinstance(base.get(key), Mapping)
        base[key] = _merge_plain(base[key], value) if both_objects else value
    return base


def _merge_plain(base: Mapping[str, Any], layer: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in layer.items():
        _choose(merged, key, value)
    for key, value in layer.items():
        both_objects = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = _merge_plain(merged[key], value) if both_objects else value
    return merged


def _choose(spec: dict[str, Any], key: str, value: Any) -> None:
    """Drops the options of a spec if `value` chooses another class or target."""
    if key in OPTIONS_OF and value != spec.get(key, DEFAULT_CHOICE.get(key)):
        for options in OPTIONS_OF[key]:
            spec.pop(options, None)


def parse_override(text: str) -> tuple[tuple[str, ...], Any]:
    """Splits `strategy/num_periods=5` into its path and its value.

    Returns:
        The path and the value; a value that is not JSON is a string.

    Raises:
        ConfigError: If there is no `=` or a part of the path is empty.
    """
    key, equals, value = text.partition("=")
    path = tuple(key.split("/"))
    if not equals or not all(path) or len(path) > DEEPEST:
        raise ConfigError(f"{_short(text)} is not an override: expected key/path=value")
    return path, parse_value(value, where=key)


def parse_value(text: str, where: str) -> Any:
    """Returns the JSON value of a text, or the text itself if it is not JSON.

    Raises:
        ConfigError: For a number that is not finite, or nesting that is too deep.
    """
    try:
        value = json.loads(text, object_pairs_hook=_no_duplicates)
    except _DuplicateKeyError as error:
        raise ConfigError(f"{where}: {error}") from None
    except RecursionError:
        raise ConfigError(f"{where}: it is nested too deeply") from None
    except ValueError:
        return text
    _check(value, where)
    return value


def read_json(path: Path) -> dict[str, Any]:
    """Returns the object in a JSON file.

    Raises:
        ConfigError: If it cannot be read, is not one JSON object, names a key twice or
            holds a number that is not finite.
    """
    try:
        with path.open("rb") as file:
            # With a limit, because a device has no end.
            text = file.read(LARGEST_FILE + 1)
        if len(text) > LARGEST_FILE:
            raise ConfigError(f"{path} is larger than {LARGEST_FILE >> 20} MiB: not a config")
        value = json.loads(text.decode("utf-8"), object_pairs_hook=_no_duplicates)
    except _DuplicateKeyError as error:
        raise ConfigError(f"{path}: {error}") from None
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is not UTF-8 text") from None
    except RecursionError:
        raise ConfigError(f"{path} is nested too deeply") from None
    except ValueError as error:
        raise ConfigError(f"{path} is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise ConfigError(f"{path}: expected a JSON object")
    _check(value, str(path))
    return value


def nearest(name: str, known: Sequence[str]) -> str:
    """Returns ` (did you mean X?)`, or "" if no name is close."""
    close = difflib.get_close_matches(name, known, n=1)
    return f" (did you mean {close[0]}?)" if close else ""


def preset_names() -> list[str]:
    """Returns the names that `--preset` accepts."""
    return sorted(path.stem for path in PRESETS.glob("*.json"))


def _preset(name: str) -> Path:
    names = preset_names()
    if name not in names:
        raise ConfigError(
            f"--preset: no preset called {name!r}{nearest(name, names)}; "
            f"expected one of: {', '.join(names)}"
        )
    return PRESETS / f"{name}.json"


class _DuplicateKeyError(ValueError):
    pass


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise _DuplicateKeyError(f"the key {key!r} stands twice in one object")
        found[key] = value
    return found


def _check(value: Any, where: str, depth: int = 0) -> None:
    if isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(f"{where}: expected a finite number")
    if isinstance(value, int) and abs(value) >= 2**63:
        raise ConfigError(f"{where}: expected whole numbers of at most 63 bits")
    if depth > DEEPEST:
        raise ConfigError(f"{where}: it is nested too deeply")
    if isinstance(value, (dict, list)):
        for item in value.values() if isinstance(value, dict) else value:
            _check(item, where, depth + 1)


def _short(text: str) -> str:
    return repr(text if len(text) <= 80 else f"{text[:77]}...")


def _set(config: dict[str, Any], path: tuple[str, ...], value: Any) -> None:
    here: Any = config
    for depth, part in enumerate(path):
        last = depth == len(path) - 1
        where = "/".join(path[: depth + 1])
        # A missing value is a list if the next part of the path is a number.
        missing: Any = value if last else [] if path[depth + 1].isdecimal() else {}
        if isinstance(here, list):
            # Python cannot convert very long numbers.
            if not part.isdecimal() or len(part) > 9 or int(part) > len(here):
                raise ConfigError(f"{where}: expected the number of an entry, 0 to {len(here)}")
            key: Any = int(part)
            if key == len(here):
                here.append(missing)
        elif isinstance(here, dict):
            key = part
            if not last and here.get(key) is None:
                here[key] = missing
        else:
            raise ConfigError(f"{where}: {'/'.join(path[:depth])} has no options")
        if last:
            if isinstance(here, dict):
                _choose(here, key, value)
            here[key] = value
        else:
            here = here[key]
