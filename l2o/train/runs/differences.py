"""Where two configs, or two accounts of runs, differ."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

from l2o.train.runs.summary import Row

# A run may change these at any time: its place on disk, and its devices.
WHERE = ("directory", "distribute")


class Plan(Protocol):
    """What a run directory asks a strategy; see `BaseStrategy`. Its class takes its options."""

    def plan(self, rows: Sequence[Row]) -> Any:
        """Returns what comes after the finished periods."""

    def would_have_run(self, other: Any, rows: Sequence[Row], p_teacher: float) -> bool:
        """Returns whether `other`, with other options, plans the same periods."""


def differing(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[str]:
    """Returns the paths where two configs differ, without those of `WHERE`."""
    a, b = leaves(a), leaves(b)
    return sorted(p for p in {*a, *b} if p not in WHERE and _text(a, p) != _text(b, p))


def leaves(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the values of a config by their paths."""
    return dict(_walk(config, ""))


def _text(values: Mapping[str, Any], path: str) -> str:
    # Python says 1 == 1.0 == True, but a length of 1 is not a probability of 1.0.
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
