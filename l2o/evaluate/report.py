"""Runs as numbers for people and for programs."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from l2o.evaluate.runs import Run
from l2o.train.run_directory import write_atomically

MEASURES = ("train_loss", "train_accuracy", "test_loss", "test_accuracy")


def summary(run: Run) -> dict[str, Any]:
    """Returns mean and spread over seeds of the final measurements.

    Args:
        run: What to summarise.

    Returns:
        Per measure mean, standard deviation (n - 1; null for one seed) and the values
        themselves; and how many models diverged. Values that are not finite are null.
    """
    found: dict[str, Any] = {"diverged": int(np.sum(~np.isfinite(run.train_loss)))}
    for name in MEASURES:
        values = getattr(run, name)
        found[name] = {
            "mean": float(np.mean(values)),
            "std": _spread(values),
            "values": [float(v) for v in values],
        }
    return _finite(found)


def table(runs: Mapping[str, Run]) -> str:
    """Returns an aligned table of mean and standard deviation over seeds.

    Args:
        runs: By the label of their row.
    """
    rows = [["optimizer", "train loss", "train acc", "test loss", "test acc"]]
    for label, run in runs.items():
        rows.append([label, *(_cell(name, getattr(run, name)) for name in MEASURES)])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Writes JSON atomically; numbers that are not finite become null."""
    write_atomically(path, json.dumps(_finite(content), indent=2, allow_nan=False).encode())


def _cell(name: str, values: np.ndarray) -> str:
    if name.endswith("accuracy"):
        return f"{100 * np.mean(values):5.1f} ± {100 * (_spread(values) or 0):.1f} %"
    return f"{np.mean(values):.4f} ± {_spread(values) or 0:.4f}"


def _spread(values: np.ndarray) -> float | None:
    return float(np.std(values, ddof=1)) if len(values) > 1 else None


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    if isinstance(value, (float, np.floating)):
        return float(value) if math.isfinite(value) else None
    return value
