"""Shared by the benchmarks: options, worker processes, medians, tables.

It imports only the standard library before a worker measures: the peers may run in another
interpreter, and the process that starts the workers stays small.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

Number = TypeVar("Number", int, float)
Row = dict[str, Any]

ROOT = Path(__file__).resolve().parents[1]
LEARNED = (
    "DM", "RNNProp", "ScaleBasic", "ScaleHierarchical", "AdafacMLP", "Celo2", "Celo2-base",
    "LearnedMuon",
    "Choice",
)  # fmt: skip
# Fewer calls give no reliable mean, even if they take long.
FEWEST_CALLS = 3


def positive(kind: type[Number]) -> Callable[[str], Number]:
    """Returns an argparse type: a number of this kind above 0."""

    def convert(text: str) -> Number:
        try:
            value = kind(text)
        except ValueError:
            value = kind(0)
        if not 0 < value < float("inf"):
            raise argparse.ArgumentTypeError(f"expected a positive {kind.__name__}; got {text!r}")
        return value

    return convert


def listed(
    convert: Callable[[str], Any], choices: Collection[Any] | None = None
) -> Callable[[str], list[Any]]:
    """Returns an argparse type: one or more values, separated by commas, in order.

    Args:
        convert: Converts the text of a value.
        choices: The allowed values; None: all.
    """

    def convert_all(text: str) -> list[Any]:
        values = list(dict.fromkeys(convert(part.strip()) for part in text.split(",")))
        for value in values:
            if choices is not None and value not in choices:
                known = ", ".join(map(str, choices))
                raise argparse.ArgumentTypeError(f"expected some of {known}; got {str(value)!r}")
        return values

    return convert_all


def add_common_options(parser: argparse.ArgumentParser, seconds: float) -> None:
    """Adds the options `--repeats`, `--seconds` and `--json`."""
    parser.add_argument(
        "--repeats", type=positive(int), default=5, help="measurements per row [%(default)s]"
    )
    parser.add_argument(
        "--seconds",
        type=positive(float),
        default=seconds,
        help="length of a measurement [%(default)s]",
    )
    parser.add_argument("--json", action="store_true", help="one JSON line per row, no table")


@dataclass(frozen=True)
class Case:
    """A row of the table and the command that measures it once.

    Attributes:
        row: The values that distinguish it from other rows.
        command: A command whose last line of output is a JSON object of numbers.
    """

    row: Mapping[str, Any]
    command: Sequence[str]


def run_alternately(cases: Sequence[Case], repeats: int, spread: str) -> list[Row]:
    """Measures each case `repeats` times, in turn, so that drift affects all of them alike.

    A case that fails is named on stderr and left out.

    Args:
        cases: The cases.
        repeats: Number of measurements of each case.
        spread: Name of a number whose `<spread>_min` and `<spread>_max` are reported too.

    Returns:
        For each case its row and the medians of its numbers.
    """
    measured: list[list[Row] | None] = [[] for _ in cases]
    for repeat in range(repeats):
        for i, case in enumerate(cases):
            results = measured[i]
            if results is None:
                continue
            label = " ".join(map(str, case.row.values()))
            print(f"[{repeat + 1}/{repeats}] {label}", file=sys.stderr, flush=True)
            done = subprocess.run(
                case.command,
                capture_output=True,
                text=True,
                check=False,
                cwd=ROOT,
                env={"TF_CPP_MIN_LOG_LEVEL": "3", **os.environ},
            )
            if done.returncode:
                reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
                print(f"{label} failed ({done.returncode}): {reason}", file=sys.stderr)
                measured[i] = None
            else:
                results.append(json.loads(done.stdout.splitlines()[-1]))
    rows = []
    for case, results in zip(cases, measured, strict=True):
        if results:
            medians = {key: statistics.median(r[key] for r in results) for key in results[0]}
            values = [r[spread] for r in results]
            rows.append(
                {
                    **case.row,
                    **medians,
                    f"{spread}_min": min(values),
                    f"{spread}_max": max(values),
                }
            )
    return rows


def time_calls(function: Callable[[], Any], seconds: float) -> tuple[float, float]:
    """Times a function that traces or compiles at its first call.

    Args:
        function: Returns only when its work is done.
        seconds: Duration of the calls after the first.

    Returns:
        Seconds of the first call, and calls per second of the others.
    """
    start = time.perf_counter()
    function()
    first = time.perf_counter() - start
    calls, start = 0, time.perf_counter()
    while (wall := time.perf_counter() - start) < seconds or calls < FEWEST_CALLS:
        function()
        calls += 1
    return first, calls / wall


def learned(name: str) -> Any:
    """Returns a learned optimizer with its default options, but for Celo2-base.

    Args:
        name: One of `LEARNED`.
    """
    import l2o

    if name == "Celo2-base":
        return l2o.Celo2Optimizer(orthogonalize=False, adam_for_vectors=False)
    return getattr(l2o, f"{name}Optimizer")()


def peak_rss_mb() -> float:
    """Returns the peak resident memory of this process, in MB of 2^20 bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


def report(rows: Iterable[Row], as_json: bool, columns: Mapping[str, Callable[[Row], str]]) -> None:
    """Prints rows as JSON lines or as a Markdown table.

    Args:
        rows: The rows.
        as_json: Whether to print JSON.
        columns: For each heading of the table, a function from a row to its text.
    """
    rows = list(rows)
    if as_json:
        for row in rows:
            print(json.dumps(rounded(row)))
        return
    lines = [list(columns), *([text(row) for text in columns.values()] for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(columns))]
    lines.insert(1, ["-" * width for width in widths])
    for line in lines:
        cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        print(f"| {' | '.join(cells)} |")


def rounded(row: Row) -> Row:
    """Returns the row with its floats at 4 significant digits."""
    return {k: float(f"{v:.4g}") if isinstance(v, float) else v for k, v in row.items()}


def number(value: float | None) -> str:
    """Returns a number with three significant digits in plain notation, or a dash for None."""
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def both_ends(name: str) -> Callable[[Row], str]:
    """Returns a function from a row to the smallest and largest value of a number."""
    return lambda row: f"{number(row[f'{name}_min'])} - {number(row[f'{name}_max'])}"
