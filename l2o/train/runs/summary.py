"""summary.csv: a row for each period, and which row is the best."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from typing import Any, NamedTuple


class Row(NamedTuple):
    """A row of summary.csv: one period.

    meta_loss, imitation_loss: Means over the finite unrolls of each kind; None: there was none.
    start_loss: In the first row of a stage: the validation loss of the learned weights that
        the stage starts from; else None.
    validation_loss: Mean over optimizees. It and start_loss are inf if an optimizee diverged.
    unrolls, imitation_unrolls: All unrolls, and those that imitated.
    inner_steps: Of all unrolls together.
    dropped: Unrolls whose loss or gradient was not finite; they changed no weights.
    replaced: Optimizees that were replaced within an iteration.
    gradient_norm: Mean norm of the meta-gradients.
    signal_to_noise: The squared norm of the mean meta-gradient, divided by the variance of one,
        see `Signal`. These three are None in the rows of older runs.
    """

    stage: int
    period: int
    meta_loss: float | None
    imitation_loss: float | None
    start_loss: float | None
    validation_loss: float
    unrolls: int
    imitation_unrolls: int
    inner_steps: int
    dropped: int
    replaced: int | None = None
    gradient_norm: float | None = None
    signal_to_noise: float | None = None


# The columns of runs that are older than the last three.
OLD_COLUMNS = Row._fields[:10]


def best_row(rows: Sequence[Row]) -> Row:
    """Returns the row with the smallest validation loss of the last stage that improved.

    Stages validate on different lengths, so their losses cannot be compared. Within a stage
    they can, also with its start_loss: a stage improved if a row is below that.

    Args:
        rows: At least one, in order.
    """
    best = None
    for stage in sorted({row.stage for row in rows}):
        own = [row for row in rows if row.stage == stage]
        candidate = min(own, key=lambda row: row.validation_loss)
        start = own[0].start_loss
        if best is None or start is None or candidate.validation_loss < start:
            best = candidate
    assert best is not None
    return best


def period_name(stage: int, period: int) -> str:
    """Returns how users read of a period. Strategies without stages have stage 0 only."""
    return f"stage {stage}, period {period}" if stage else f"period {period}"


def describe(row: Row) -> str:
    """Returns a row as a line of text."""
    words = [period_name(row.stage, row.period)]
    for name, value in (
        ("start loss", row.start_loss),
        ("meta-loss", row.meta_loss),
        ("imitation loss", row.imitation_loss),
        ("validation loss", row.validation_loss),
    ):
        if value is not None:
            words.append(f"{name} {value:.4f}")
    if row.dropped:
        words.append(f"{row.dropped} of {row.unrolls} unrolls dropped: loss not finite")
    return ", ".join(words)


def from_csv(text: str) -> list[Row]:
    """Returns the rows in the text of a summary.csv.

    Raises:
        ValueError: If the text is incomplete or is not a summary.
    """
    try:
        lines = list(csv.reader(io.StringIO(text, newline="")))
        if not lines or not text.endswith("\n"):
            raise ValueError("header")
        columns = tuple(lines[0])
        if columns not in (Row._fields, OLD_COLUMNS):
            raise ValueError("header")
        if any(len(line) != len(columns) for line in lines):
            raise ValueError("columns")
        rows = [Row(*map(_parse, columns, line)) for line in lines[1:]]
        _check_order(rows)
        return rows
    except (TypeError, ValueError, csv.Error):
        raise ValueError(
            f"expected the columns {', '.join(Row._fields)} and a row for each period, in order"
        ) from None


def to_csv(*rows: Sequence[Any]) -> str:
    """Returns rows of any values as CSV lines; None becomes an empty field."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows(["" if v is None else v for v in row] for row in rows)
    return text.getvalue()


def _check_order(rows: Sequence[Row]) -> None:
    expected = {(0, 0)}
    for row in rows:
        if (row.stage, row.period) not in expected or math.isnan(row.validation_loss):
            raise ValueError("order")
        expected = {(row.stage, row.period + 1), (row.stage + 1, 0)}


def _parse(name: str, text: str) -> Any:
    if name == "validation_loss":
        return float(text)
    if name.endswith(("loss", "norm", "noise")):
        return float(text) if text else None
    if name == "replaced" and not text:
        return None
    return int(text)
