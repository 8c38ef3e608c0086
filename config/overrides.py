"""default.json, presets, a config file and `key/path=value` overrides -> one dict.

Values are data: JSON, or else a string. Nothing is evaluated or imported.
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
# Choosing another of these drops the options of the one it replaces.
SECTION_OF = {"constructor": "network", "strategy_constructor": "strategy"}
# The same within a spec: another class has other arguments.
OPTIONS_OF = {"class_name": ("config",), "target": ("args", "kwargs")}
DEFAULT_CHOICE = {"class_name": "Adam"}
LARGEST_FILE = 2**20
# Nesting that Python's recursion can take several times over.
DEEPEST = 50


class ConfigError(ValueError):
    """A config, preset or override that is wrong, said in one line."""

    def __init__(self, message: str) -> None:
        # What somebody has typed, or a file has, may hold anything.
        if len(message) > 1000:
            message = f"{message[:500]}...{message[-500:]}"
        super().__init__("".join(c if c.isprintable() else repr(c)[1:-1] for c in message))


def merge_all(
    config_file: str | None = None,
    presets: Sequence[str] = (),
    overrides: Sequence[str] = (),
) -> dict[str, Any]:
    """Returns the config a command line asks for; options it does not name are absent.

    Args:
        config_file: A JSON file instead of `config/default.json`.
        presets: Names of partial configs in `config/presets/`, later ones win.
        overrides: `key/path=value` each, they win over everything.

    Raises:
        ConfigError: If a file cannot be read or an override is not one, or the file wants to
            write outside the current directory: only the command line may.
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
    except (OSError, ValueError, RuntimeError):  # no path at all, or links in a circle
        return True


def merge_overrides(config: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """Returns `config` with `key/path=value` overrides on top.

    Raises:
        ConfigError: If one is not of this form or leads through something that has no
            such entry.
    """
    parsed = [parse_override(text) for text in overrides]
    for (name,), value in ((path, value) for path, value in parsed if len(path) == 1):
        if name in SECTION_OF:
            config = merge(config, {name: value})
    # A strategy may be chosen inside its section too; its old options go first.
    for path, value in parsed:
        if path == ("strategy", "strategy_constructor"):
            config = merge(config, {"strategy_constructor": value})
    merged = json.loads(json.dumps(config))
    # What chooses comes before the options of what is chosen, whatever the order.
    for path, value in sorted(parsed, key=lambda item: item[0][-1] not in OPTIONS_OF):
        if path != ("strategy", "strategy_constructor"):
            _set(merged, path, value)
    return merged


def _lifted(config: dict[str, Any]) -> dict[str, Any]:
    """Returns a config whose strategy is chosen at the top, not inside its section."""
    strategy = config.get("strategy")
    if not isinstance(strategy, dict) or "strategy_constructor" not in strategy:
        return config
    inner = strategy["strategy_constructor"]
    if config.get("strategy_constructor", inner) != inner:
        return config  # two choices: for `resolve_config` to refuse
    rest = {key: value for key, value in strategy.items() if key != "strategy_constructor"}
    return {**config, "strategy_constructor": inner, "strategy": rest}


def merge(base: Mapping[str, Any], layer: Mapping[str, Any]) -> dict[str, Any]:
    """Returns `base` with `layer` on top: objects are merged, all else is replaced.

    A layer that chooses another constructor or strategy_constructor starts from that
    one's defaults: the `network` or `strategy` of the base is left out.
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
    """Drops the options of what `spec` names if `value` names another."""
    if key in OPTIONS_OF and value != spec.get(key, DEFAULT_CHOICE.get(key)):
        for options in OPTIONS_OF[key]:
            spec.pop(options, None)


def parse_override(text: str) -> tuple[tuple[str, ...], Any]:
    """Splits `strategy/num_periods=5` into its path and its value.

    Returns:
        The path, and the value: JSON, or else the text itself as a string.

    Raises:
        ConfigError: If there is no `=` or a part of the path is empty.
    """
    key, equals, value = text.partition("=")
    path = tuple(key.split("/"))
    if not equals or not all(path) or len(path) > DEEPEST:
        raise ConfigError(f"{_short(text)} is not an override: expected key/path=value")
    return path, parse_value(value, where=key)


def parse_value(text: str, where: str) -> Any:
    """Returns `text` as JSON, or itself where it is not JSON.

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
            # Not all of it: a device has no end.
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
    """Returns ` (did you mean X?)` or nothing."""
    close = difflib.get_close_matches(name, known, n=1)
    return f" (did you mean {close[0]}?)" if close else ""


def preset_names() -> list[str]:
    """Returns the names `--preset` takes."""
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
        # What is not there yet: a list if the next part is the number of an entry.
        missing: Any = value if last else [] if path[depth + 1].isdecimal() else {}
        if isinstance(here, list):
            # Longer numbers than any list has entries are none that Python reads.
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
