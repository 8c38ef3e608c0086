"""Runs as numbers for people and for programs."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from l2o.disk.files import write_atomically
from l2o.evaluate.runs import Run

TITLES = {
    "train_loss": "train loss",
    "train_accuracy": "train acc",
    "test_loss": "test loss",
    "test_accuracy": "test acc",
}


def summary(run: Run) -> dict[str, Any]:
    """Returns mean and spread over seeds of the final measurements.

    Args:
        run: What to summarise.

    Returns:
        Per measure that was taken mean, standard deviation (n - 1; null for one seed) and
        the values themselves; and how many models diverged. Values that are not finite
        are null.
    """
    taken = _taken([run])
    measured = np.array([getattr(run, name) for name in taken])
    found: dict[str, Any] = {"diverged": _diverged(measured)}
    for name in taken:
        values = getattr(run, name)
        found[name] = {
            "mean": _mean(values),
            "std": _spread(values),
            "values": [float(v) for v in values],
        }
    return _finite(found)


def table(runs: Mapping[str, Run]) -> str:
    """Returns an aligned table of mean and standard deviation over seeds.

    Args:
        runs: By the label of their row.

    Returns:
        Lines without a newline at the end, a column for each measure that was taken; a
        loss that is not finite for some models reads `3 of 10 diverged`.
    """
    taken = _taken(list(runs.values()))
    rows = [["optimizer", *(TITLES[name] for name in taken)]]
    for label, run in runs.items():
        rows.append([label, *(_cell(name, getattr(run, name)) for name in taken)])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Writes JSON atomically; numbers that are not finite become null.

    Args:
        path: The file; its directory exists.
        content: Nested objects, lists, strings and numbers (NumPy's too).

    Raises:
        OSError: If it cannot be written; an older file is intact.
    """
    write_atomically(path, json.dumps(_finite(content), indent=2, allow_nan=False).encode())


def _taken(runs: Sequence[Run]) -> list[str]:
    # The accuracy of a regression and the loss on a test split that is none are NaN
    # everywhere; the training loss is always taken.
    return [
        name
        for name in TITLES
        if name == "train_loss" or not all(np.isnan(getattr(run, name)).all() for run in runs)
    ]


def _cell(name: str, values: np.ndarray) -> str:
    if diverged := _diverged(values[np.newaxis]):
        return f"{diverged} of {len(values)} diverged"
    mean, spread = _mean(values), _spread(values) or 0.0
    if name.endswith("accuracy"):
        return f"{100 * mean:5.1f} ± {100 * spread:.1f} %"
    # A loss that explodes without overflowing would need forty columns as a decimal.
    digits = ".4f" if max(mean, spread) < 1000 else ".3g"
    return f"{mean:{digits}} ± {spread:{digits}}"


def _diverged(measured: np.ndarray) -> int:
    # [measures, seeds] -> number of seeds.
    return int(np.sum(~np.isfinite(measured).all(axis=0)))


def _mean(values: np.ndarray) -> float:
    return float(np.mean(values))


def _spread(values: np.ndarray) -> float | None:
    if len(values) < 2:
        return None
    with np.errstate(invalid="ignore"):  # inf - inf: not finite is an answer here
        return float(np.std(values, ddof=1))


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    if isinstance(value, (float, np.floating)):
        return float(value) if math.isfinite(value) else None
    return value
