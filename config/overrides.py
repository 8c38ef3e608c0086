"""Merges default.json, presets, a config file and `key/path=value` overrides into one dict.

Values are data: a value that is not JSON is a string. Nothing is evaluated or imported.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .plain import DEEPEST, SPELLINGS, UserError, nearest, parse_json, parse_object, respelled

HERE = Path(__file__).parent
DEFAULT = HERE / "default.json"
PRESETS = HERE / "presets"
# Another choice of one of these drops the options of the choice that it replaces.
SECTION_OF = {
    "constructor": "network",
    "strategy_constructor": "strategy",
    "estimator_constructor": "estimator",
    "initial_weights": "initial_weights_sha256",
}
# The same within a spec: another class has other arguments.
OPTIONS_OF = {"class_name": ("config",), "target": ("args", "kwargs")}
# The choice of a config that makes none, where it may have options all the same.
DEFAULT_CHOICE = {"class_name": "Adam", "estimator_constructor": "TruncatedBackprop"}
# Bytes.
LARGEST_FILE = 2**20


def merge_all(
    config_file: str | None = None,
    presets: Sequence[str] = (),
    overrides: Sequence[str] = (),
) -> dict[str, Any]:
    """Returns the config of a command line; options that it does not name are absent.

    Args:
        config_file: A JSON file instead of `config/default.json`.
        presets: Names of partial configs in `config/presets/`; later ones win.
        overrides: `key/path=value` each; they win over everything.

    Raises:
        UserError: If a file cannot be read, an override does not have this form, or the file
            chooses a directory outside the current one: only the command line may.
    """
    config = respelled(read_json(Path(config_file) if config_file else DEFAULT))
    directory = config.get("directory")
    said = any(text.startswith("directory=") for text in overrides)
    if config_file and not said and isinstance(directory, str) and _is_elsewhere(directory):
        raise UserError(
            f"directory: {config_file} wants to write to {directory!r}, outside of this directory; "
            f"if that is right, say so: {shlex.quote(f'directory={directory}')}"
        )
    for name in presets:
        config = merge(config, respelled(read_json(_preset(name))))
    return merge_overrides(config, overrides)


def _is_elsewhere(directory: str) -> bool:
    here = Path.cwd().resolve()
    try:
        return not (here / directory).resolve().is_relative_to(here)
    except (OSError, ValueError, RuntimeError):  # not a path at all, or a cycle of links
        return True


def merge_overrides(config: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """Returns `config` with `key/path=value` overrides on top.

    Raises:
        UserError: If one does not have this form, its path leads through something without
            such an entry, or two spellings of an option have different values.
    """
    parsed = _parsed(overrides)
    config = respelled(config)
    for path, value in parsed:
        if len(path) == 1 and path[0] in SECTION_OF:
            config = merge(config, {path[0]: value})
    merged = json.loads(json.dumps(config))
    # A choice comes before the options of what is chosen, whatever the order.
    for path, value in sorted(parsed, key=lambda item: item[0][-1] not in OPTIONS_OF):
        _set(merged, path, value)
    return merged


def _parsed(overrides: Sequence[str]) -> list[tuple[tuple[str, ...], Any]]:
    """Returns paths and values, each option at its own path; see `SPELLINGS`."""
    parsed = [parse_override(text) for text in overrides]
    spelled: dict[str, Any] = {}
    for path, value in parsed:
        if path in SPELLINGS or path in SPELLINGS.values():
            _set(spelled, path, value)
    respelled(spelled)  # refuses two spellings with different values
    found = []
    for path, value in parsed:
        for (section, name), place in SPELLINGS.items():
            if path == (section, name):
                path = place
            elif path == (section,) and isinstance(value, dict) and name in value:
                found.append((place, value[name]))
                value = {key: v for key, v in value.items() if key != name}
        found.append((path, value))
    return found


def merge(base: Mapping[str, Any], layer: Mapping[str, Any]) -> dict[str, Any]:
    """Returns `base` with `layer` on top: objects are merged, other values replaced.

    A layer that makes another choice (see `SECTION_OF`) starts from the defaults of that
    choice: the options of the base's choice are left out.
    """
    base = dict(base)
    for choice, section in SECTION_OF.items():
        if choice in layer and _replaces(base, choice, layer[choice]):
            base.pop(section, None)
    for key, value in layer.items():
        both_objects = isinstance(value, Mapping) and isinstance(base.get(key), Mapping)
        base[key] = _merge_plain(base[key], value) if both_objects else value
    return base


def _replaces(base: Mapping[str, Any], choice: str, value: Any) -> bool:
    """Returns whether `value` replaces another choice; options without a choice belong to none."""
    made = base.get(choice, DEFAULT_CHOICE.get(choice))
    return made is not None and made != value


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
    if key in OPTIONS_OF and _replaces(spec, key, value):
        for options in OPTIONS_OF[key]:
            spec.pop(options, None)


def parse_override(text: str) -> tuple[tuple[str, ...], Any]:
    """Splits `strategy/num_periods=5` into its path and its value.

    Returns:
        The path and the value; a value that is not JSON is a string.

    Raises:
        UserError: If there is no `=` or a part of the path is empty.
    """
    key, equals, value = text.partition("=")
    path = tuple(key.split("/"))
    if not equals or not all(path) or len(path) > DEEPEST:
        raise UserError(f"{_short(text)} is not an override: expected key/path=value")
    return path, parse_value(value, where=key)


def parse_value(text: str, where: str) -> Any:
    """Returns `text` as JSON, or `text` itself if it is not JSON.

    Raises:
        UserError: If it is JSON that the standard does not allow; see `parse_json`.
    """
    try:
        return parse_json(text)
    except json.JSONDecodeError:
        return text
    except ValueError as error:
        raise UserError(str(error), where) from None


def read_json(path: Path) -> dict[str, Any]:
    """Returns the object in a JSON file.

    Raises:
        UserError: If it cannot be read or is not one JSON object; see `parse_json`.
    """
    try:
        with path.open("rb") as file:
            # With a limit, because a device has no end.
            text = file.read(LARGEST_FILE + 1)
        if len(text) > LARGEST_FILE:
            raise UserError(f"{path} is larger than {LARGEST_FILE >> 20} MiB: not a config")
        return parse_object(text)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    except json.JSONDecodeError as error:
        raise UserError(f"{path} is not JSON: {error}") from None
    except UserError:
        raise
    except ValueError as error:
        raise UserError(f"{path}: {error}") from None


def preset_names() -> list[str]:
    """Returns the names that `--preset` accepts."""
    return sorted(path.stem for path in PRESETS.glob("*.json"))


def _preset(name: str) -> Path:
    names = preset_names()
    if name not in names:
        raise UserError(
            f"--preset: no preset called {name!r}{nearest(name, names)}; "
            f"expected one of: {', '.join(names)}"
        )
    return PRESETS / f"{name}.json"


def _short(text: str) -> str:
    return repr(text if len(text) <= 80 else f"{text[:77]}...")


def _set(config: dict[str, Any], path: tuple[str, ...], value: Any) -> None:
    here: Any = config
    for depth, part in enumerate(path):
        last = depth == len(path) - 1
        where = "/".join(path[: depth + 1])
        # What is missing becomes a list if the next part is the number of an entry.
        missing: Any = value if last else [] if path[depth + 1].isdecimal() else {}
        if isinstance(here, list):
            # A longer number exceeds any list, and Python may refuse to read it.
            if not part.isdecimal() or len(part) > 9 or int(part) > len(here):
                raise UserError(f"{where}: expected the number of an entry, 0 to {len(here)}")
            key: Any = int(part)
            if key == len(here):
                here.append(missing)
        elif isinstance(here, dict):
            key = part
            if not last and here.get(key) is None:
                here[key] = missing
        else:
            raise UserError(f"{where}: {'/'.join(path[:depth])} has no options")
        if last:
            if isinstance(here, dict):
                _choose(here, key, value)
            here[key] = value
        else:
            here = here[key]
