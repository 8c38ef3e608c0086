"""Runs and comparisons as tables and as JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from l2o.disk.files import write_atomically
from l2o.evaluate import aggregate, metrics
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
# Factors of the performance profile whose shares are in tables.
TAUS = (1.0, 1.5, 2.0, 4.0)
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
    tested = "test_loss" in comparison.losses() and not brief
    titles = ["optimizer", "ratio to best", *(["test ratio"] if tested else [])]
    titles += [TITLES[name] for name in taken]
    titles += [] if brief else [f"steps to {comparison.target:.2g}"]
    titles += ["speed-up", *([] if brief else ["in time"])]
    diverged = any(values["diverged"].any() for values in measured.values())
    titles += ["diverged"] if diverged or not brief else []
    found = [[*titles, "time"]]
    for label, entry in entries.items():
        values = measured[label]
        star = " *" if label == comparison.best else ""
        setting = f" {entry.setting()}" if label in comparison.learned and entry.rates else ""
        cells = [label + setting + star, ratio_text(comparison.ratio(label))]
        cells += [ratio_text(comparison.ratio(label, "test_loss"))] if tested else []
        cells += [_cell(name, values[name]) if name in values else "" for name in taken]
        cells += [] if brief else [_steps_text(values["steps_to_target"])]
        speed_up = comparison.speed_up(label)
        cells.append(speed_up_text(speed_up))
        cells += [] if brief else [speed_up_text(speed_up, entry.time)]
        if diverged or not brief:
            cells.append(f"{100 * values['diverged'].mean():.0f} %")
        found.append([*cells, f"{entry.time:.1f}x" if math.isfinite(entry.time) else ""])
    return found


def ratio_text(ratio: metrics.Ratio) -> str:
    """Returns a ratio as `0.70 [0.62, 0.79]`, or `diverged` if it is not finite."""
    if not math.isfinite(ratio.value):
        return "diverged"
    if ratio.low is None or ratio.high is None:
        return short(ratio.value)
    return f"{short(ratio.value)} [{short(ratio.low)}, {short(ratio.high)}]"


def speed_up_text(speed_up: metrics.SpeedUp, time: float = 1.0) -> str:
    """Returns a speed-up as `1.30x`, `> 1.30x` if Adam does not get there, or `diverged`.

    Args:
        speed_up: The speed-up in steps.
        time: Time of a step relative to Adam's, for the speed-up in time [1].
    """
    if not math.isfinite(speed_up.value):
        return "diverged"
    if not math.isfinite(time):
        return ""
    more = "> " if speed_up.others is None else ""
    return f"{more}{short(speed_up.in_time(time))}x"


def speed_ups(comparisons: Sequence[Comparison]) -> list[list[str]]:
    """Returns the speed-ups over Adam as the cells of a table, a row for each problem.

    Learned optimizers have a column for steps and one for time, baselines only that for steps.
    Adam, whose speed-up is 1, has none.

    Args:
        comparisons: One for each problem, all with the same optimizers.
    """
    first = comparisons[0]
    titles = [part for label in first.learned for part in (label, "in time")]
    titles += [label for label in first.named() if label not in (*first.learned, "Adam")]
    found = [["problem", "steps", *titles]]
    for one in comparisons:
        cells = []
        for label, entry in one.named().items():
            if label == "Adam":
                continue
            speed_up = metrics.speed_up(entry.run, one.named()["Adam"].run)
            cells.append(speed_up_text(speed_up))
            cells += [speed_up_text(speed_up, entry.time)] if label in one.learned else []
        found.append([one.case.name, f"{one.case.steps:,}", *cells])
    return found


def overall(comparisons: Sequence[Comparison]) -> list[list[str]]:
    """Returns the measures over all problems as the cells of a table, a row for each optimizer.

    Args:
        comparisons: One for each problem, all with the same optimizers.
    """
    content = overall_content(comparisons)
    tested = any("test_loss" in one.losses() for one in comparisons)
    titles = ["over all problems", "train ratio", *(["test ratio"] if tested else [])]
    found = [[*titles, "best", *(f"within {tau:g}x" for tau in TAUS[1:])]]
    for label, one in content["optimizers"].items():
        ratios = [one["interquartile_mean_ratio"]]
        ratios += [one["interquartile_mean_test_ratio"]] if tested else []
        cells = [ratio_text(metrics.Ratio(**ratio)) for ratio in ratios]
        shares = [f"{100 * share:.0f} %" for share in one["performance_profile"].values()]
        found.append([label, *cells, *shares])
    return found


def overall_content(comparisons: Sequence[Comparison]) -> dict[str, Any]:
    """Returns the measures over all problems, as JSON values.

    Args:
        comparisons: As for `overall`.
    """
    winners = ratios_to_winner(comparisons)
    table = np.array([list(row.values()) for row in winners.values()])
    profile = aggregate.performance_profile(table, TAUS)
    optimizers = {}
    for i, label in enumerate(comparisons[0].named()):
        optimizers[label] = {
            **{f"interquartile_mean_{short}ratio": ratio and ratio._asdict() for short, ratio in (
                ("", _overall_ratio(comparisons, label, "train_loss")),
                ("test_", _overall_ratio(comparisons, label, "test_loss")),
            )},
            "performance_profile": {
                f"{tau:g}": float(share) for tau, share in zip(TAUS, profile[i], strict=True)
            },
            "loss_relative_to_the_smallest": {
                problem: row[label] for problem, row in winners.items()
            },
        }  # fmt: skip
    return {"problems": list(winners), "optimizers": optimizers}


def ratios_to_winner(comparisons: Sequence[Comparison]) -> dict[str, dict[str, float]]:
    """Returns the mean training loss relative to the smallest, by problem and optimizer.

    Args:
        comparisons: As for `overall`.
    """
    labels = list(comparisons[0].named())
    losses = [
        [float(metrics.final(entry.run, "train_loss").mean()) for entry in one.named().values()]
        for one in comparisons
    ]
    found = aggregate.ratios_to_winner(np.array(losses))
    return {
        one.case.name: dict(zip(labels, map(float, row), strict=True))
        for one, row in zip(comparisons, found, strict=True)
    }


def _overall_ratio(
    comparisons: Sequence[Comparison], label: str, measure: str
) -> metrics.Ratio | None:
    pairs = [
        (
            metrics.final(one.named()[label].run, measure),
            metrics.final(one.baselines[one.best_by(measure)].run, measure),
        )
        for one in comparisons
        if measure in one.losses()
    ]
    return aggregate.overall_ratio(pairs) if pairs else None


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
    tested = "test_loss" in comparison.losses() or None
    for label, entry in comparison.entries().items():
        values = metrics.per_seed(entry.run, comparison.target)
        optimizers[label] = {
            "learned": label in comparison.learned,
            "ratio_to_best": comparison.ratio(label)._asdict(),
            "test_ratio_to_best": tested and comparison.ratio(label, "test_loss")._asdict(),
            "time_per_step_relative_to_adam": entry.time,
            "speed_up_over_adam": _speed_up(comparison, label),
            "setting": entry.setting() or None,
            "tuning": entry.rates and {f"{r:g}": entry.rates[r] for r in entry.rates},
            "tuning_by_weight_decay": {
                f"{decay:g}": {f"{r:g}": mean for r, mean in rates.items()}
                for decay, rates in entry.weight_decays.items()
            },
            "measures": {name: _spread_of(own) for name, own in values.items()},
        }
    return {
        **comparison.case._asdict(),
        "seeds": list(range(seeds)),
        "best_baseline": comparison.best,
        "best_baseline_by_test_loss": tested and comparison.best_by("test_loss"),
        "target_loss": comparison.target,
        "optimizers": optimizers,
    }


def _speed_up(comparison: Comparison, label: str) -> dict[str, Any]:
    speed_up = comparison.speed_up(label)
    return {
        "reached": speed_up.others is not None,
        "steps": speed_up.steps,
        "steps_of_adam": speed_up.others,
        "value": speed_up.value,
        "value_in_time": speed_up.in_time(comparison.entries()[label].time),
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


def short(value: float) -> str:
    """Returns a positive number with two or three digits."""
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
