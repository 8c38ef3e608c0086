"""Where two configs, or descriptions of runs, differ."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

# What a run may change at any time: where it is and goes on.
WHERE = ("directory", "distribute")


def differing(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[str]:
    """Returns the paths where two configs differ, but for where the run is and goes on."""
    a, b = leaves(a), leaves(b)
    return sorted(p for p in {*a, *b} if p not in WHERE and _text(a, p) != _text(b, p))


def leaves(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the values of a config by their paths."""
    return dict(_walk(config, ""))


def _text(values: Mapping[str, Any], path: str) -> str:
    # To Python 1, 1.0 and true are the same; a length and a probability are not.
    return json.dumps(values[path], sort_keys=True) if path in values else ""


def _walk(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        for key, item in value.items():
            yield from _walk(item, f"{path}/{key}" if path else key)
    elif isinstance(value, list) and any(isinstance(item, Mapping) for item in value):
        for i, item in enumerate(value):
            yield from _walk(item, f"{path}/{i}")
    else:
        yield path, value
