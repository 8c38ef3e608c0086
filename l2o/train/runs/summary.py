"""What summary.csv says: a row for each period, and which of them is the best."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from typing import Any, NamedTuple


class Row(NamedTuple):
    """A row of summary.csv: one period.

    Losses are means over unrolls; meta_loss and imitation_loss are empty where there was
    no such unroll. start_loss is what the weights that a stage starts from validate at, in
    its first row; it and validation_loss are inf where an optimizee diverged.
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


def best_row(rows: Sequence[Row]) -> Row:
    """Returns the row with the smallest validation loss of the last stage that improved.

    Stages validate over different lengths, so that their losses do not compare; but a
    stage's own do, with what its first weights validated at (the best of the one before).

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


def from_csv(text: str) -> list[Row]:
    """Returns the rows that `to_csv` wrote.

    Raises:
        ValueError: If it is nothing that it wrote, or not whole.
    """
    try:
        lines = list(csv.reader(io.StringIO(text, newline="")))
        if not lines or tuple(lines[0]) != Row._fields or not text.endswith("\n"):
            raise ValueError("header")
        rows = [Row(*map(_parse, Row._fields, line)) for line in lines[1:]]
        _check_order(rows)
        return rows
    except (TypeError, ValueError, csv.Error):
        raise ValueError(
            f"expected the columns {', '.join(Row._fields)} and a row for each period, in order"
        ) from None


def to_csv(*rows: Sequence[Any]) -> str:
    """Returns rows of anything as lines; None is empty."""
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
    if name.endswith("loss"):
        return float(text) if text else None
    return int(text)
