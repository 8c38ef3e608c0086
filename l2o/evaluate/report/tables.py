"""Runs and comparisons as tables and as JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from l2o.disk.files import write_atomically
from l2o.evaluate import metrics
from l2o.evaluate.comparison import Comparison
from l2o.evaluate.runs import Run

TITLES = {
    "train_loss": "train loss",
    "train_accuracy": "train acc",
    "test_loss": "test loss",
    "test_accuracy": "test acc",
    **{f"loss_at_{step}": f"at {step:,}" for step in metrics.MILESTONES},
    "log_area": "log-loss",
}
FINAL = ("train_loss", "train_accuracy", "test_loss", "test_accuracy")


def summary(run: Run) -> dict[str, Any]:
    """Returns mean and spread over seeds of the final measures, as JSON values.

    Args:
        run: The run.

    Returns:
        For each measure that was taken the mean, the standard deviation (n - 1; null for one
        seed) and the values; also the number of models that diverged. Values that are not
        finite are null.
    """
    found: dict[str, Any] = {"diverged": int(metrics.diverged(run).sum())}
    for name in _taken([run]):
        found[name] = _spread_of(getattr(run, name))
    return _finite(found)


def table(runs: Mapping[str, Run]) -> str:
    """Returns an aligned table of mean and standard deviation over seeds.

    Args:
        runs: Runs by the label of their row.

    Returns:
        Lines without a newline at the end, with a column for each measure that was taken. A
        loss that is not finite for some models reads `3 of 10 diverged`.
    """
    taken = _taken(list(runs.values()))
    rows = [["optimizer", *(TITLES[name] for name in taken)]]
    for label, run in runs.items():
        rows.append([label, *(_cell(name, getattr(run, name)) for name in taken)])
    return aligned(rows)


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Returns rows of cells as aligned lines; the first row is underlined."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    return "\n".join([lines[0], "-" * max(map(len, lines)), *lines[1:]])


def rows(comparison: Comparison, brief: bool = False) -> list[list[str]]:
    """Returns a comparison as the cells of a table, one row for each optimizer.

    Args:
        comparison: The comparison.
        brief: Whether to leave out columns that do not fit on a terminal [False].

    Returns:
        The titles, then the learned optimizers and the baselines; the best baseline has a *.
    """
    entries = comparison.entries()
    measured = {
        label: metrics.per_seed(entry.run, comparison.target) for label, entry in entries.items()
    }
    taken = [name for name in TITLES if any(name in values for values in measured.values())]
    if brief:
        taken = [name for name in taken if name in ("train_loss", "test_loss", "test_accuracy")]
    titles = ["optimizer", "ratio to best", *(TITLES[name] for name in taken)]
    titles += [] if brief else [f"steps to {comparison.target:.2g}"]
    diverged = any(values["diverged"].any() for values in measured.values())
    titles += ["diverged"] if diverged or not brief else []
    found = [[*titles, "time"]]
    for label, entry in entries.items():
        values = measured[label]
        star = " *" if label == comparison.best else ""
        cells = [label + star, ratio_text(comparison.ratio(label))]
        cells += [_cell(name, values[name]) if name in values else "" for name in taken]
        cells += [] if brief else [_steps_text(values["steps_to_target"])]
        if diverged or not brief:
            cells.append(f"{100 * values['diverged'].mean():.0f} %")
        found.append([*cells, f"{entry.time:.1f}x" if math.isfinite(entry.time) else ""])
    return found


def ratio_text(ratio: metrics.Ratio) -> str:
    """Returns a ratio as `0.70 [0.62, 0.79]`, or `diverged` if it is not finite."""
    if not math.isfinite(ratio.value):
        return "diverged"
    if ratio.low is None or ratio.high is None:
        return _short(ratio.value)
    return f"{_short(ratio.value)} [{_short(ratio.low)}, {_short(ratio.high)}]"


def counted(number: int, noun: str) -> str:
    """Returns a number with its noun: `1 seed`, `10 seeds`."""
    return f"{number:,} {noun}{'s' * (number != 1)}"


def content(comparison: Comparison, seeds: int) -> dict[str, Any]:
    """Returns every number of a comparison except the loss curves, as JSON values.

    Args:
        comparison: The comparison.
        seeds: Number of models that each optimizer trained.
    """
    optimizers: dict[str, Any] = {}
    for label, entry in comparison.entries().items():
        values = metrics.per_seed(entry.run, comparison.target)
        optimizers[label] = {
            "learned": label in comparison.learned,
            "ratio_to_best": comparison.ratio(label)._asdict(),
            "time_per_step_relative_to_adam": entry.time,
            "tuning": entry.rates and {f"{r:g}": entry.rates[r] for r in entry.rates},
            "measures": {name: _spread_of(own) for name, own in values.items()},
        }
    return {
        **comparison.case._asdict(),
        "seeds": list(range(seeds)),
        "best_baseline": comparison.best,
        "target_loss": comparison.target,
        "optimizers": optimizers,
    }


def curves(comparison: Comparison) -> dict[str, np.ndarray]:
    """Returns the loss curves by label: all mini-batch losses, [seeds, steps]."""
    return {f"losses/{label}": entry.run.losses for label, entry in comparison.entries().items()}


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Writes JSON atomically; numbers that are not finite become null.

    Args:
        path: The file; its directory exists.
        value: Nested objects, lists, strings and numbers (NumPy's too).

    Raises:
        OSError: If it cannot be written; an older file is intact.
    """
    write_atomically(path, json.dumps(_finite(value), indent=2, allow_nan=False).encode())


def _taken(runs: Sequence[Run]) -> list[str]:
    # Measures that were not taken are NaN everywhere, such as the accuracy of a regression. The
    # training loss is always taken.
    return [
        name
        for name in FINAL
        if name == "train_loss" or not all(np.isnan(getattr(run, name)).all() for run in runs)
    ]


def _cell(name: str, values: np.ndarray) -> str:
    if lost := int(np.sum(~np.isfinite(values))):
        return f"{lost} of {len(values)} diverged"
    mean, spread = float(np.mean(values)), _deviation(values)
    if name.endswith("accuracy"):
        # The training accuracy is often 100 %, so its spread is left out.
        more = "" if spread is None or name.startswith("train") else f" ± {100 * spread:.1f}"
        return f"{100 * mean:.1f}{more} %"
    if name.startswith("loss_at"):
        return f"{mean:.2g}"
    if name == "log_area":
        return f"{mean:.2f}"
    # As a decimal, an exploding loss would need forty columns, and a tiny one would be 0.
    usual = 0.01 <= max(mean, spread or 0) < 1000
    text = f"{mean:.4f}" if usual else f"{mean:.3g}"
    if spread is None:
        return text
    return f"{text} ± {spread:.4f}" if usual else f"{text} ± {spread:.2g}"


def _steps_text(values: np.ndarray) -> str:
    # The median seed may never reach the target.
    median = float(np.quantile(values, 0.5, method="inverted_cdf"))
    return f"{median:,.0f}" if math.isfinite(median) else "never"


def _short(value: float) -> str:
    if not math.isfinite(value):
        return "inf"
    if 100 <= value < 1e5:
        return f"{value:,.0f}"
    return f"{value:.2f}" if 0.1 <= value < 100 else f"{value:.2g}"


def _spread_of(values: np.ndarray) -> dict[str, Any]:
    with np.errstate(invalid="ignore"):  # inf - inf is NaN, which is a valid result here
        mean = float(np.mean(values))
    return {"mean": mean, "std": _deviation(values), "values": [float(v) for v in values]}


def _deviation(values: np.ndarray) -> float | None:
    if len(values) < 2:
        return None
    with np.errstate(invalid="ignore"):
        return float(np.std(values, ddof=1))


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    if isinstance(value, (float, np.floating)):
        return float(value) if math.isfinite(value) else None
    return value
