"""One live progress line: period, step, loss, time left."""

from __future__ import annotations

import sys
import time
from typing import Any, Protocol

SECONDS_BETWEEN_LINES = 10.0


class Progress(Protocol):
    """Receives the progress of long work."""

    def update(self, text: str, done: float | None) -> None:
        """Shows `text` and `done`, the finished share of the work, 0 to 1; None: unknown."""

    def line(self, text: str) -> None:
        """Prints a line that stays; of many lines in a short time it may print only the last."""

    def end(self, text: str) -> None:
        """Prints how the work ended."""


class Silent:
    """Prints nothing."""

    def update(self, text: str, done: float | None) -> None:
        """See `Progress.update`."""

    def line(self, text: str) -> None:
        """See `Progress.line`."""

    def end(self, text: str) -> None:
        """See `Progress.end`."""


class Live:
    """On a terminal one line that is rewritten, elsewhere at most one line every 10 seconds.

    Use it as a context manager.
    """

    def __init__(self) -> None:
        self._done_first: float | None = None
        # When the first step forward ended, and what was done then. It compiles, so it is slow.
        self._start: tuple[float, float] | None = None
        self._last_line = time.monotonic()
        # The last text given to `line`, if it is not printed yet.
        self._pending: str | None = None
        self._bar: Any = None
        self._task: Any = None

    def __enter__(self) -> Live:
        if sys.stdout.isatty():
            from rich.progress import BarColumn, TaskProgressColumn, TextColumn
            from rich.progress import Progress as Bar

            self._bar = Bar(
                BarColumn(bar_width=20),
                # Empty where the total is unknown.
                TaskProgressColumn("{task.percentage:3.0f}%"),
                TextColumn("{task.description}", markup=False),
                transient=True,
            )
            self._task = self._bar.add_task("starting", total=1.0)
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._flush()
        if self._bar:
            self._bar.stop()

    def update(self, text: str, done: float | None) -> None:
        """See `Progress.update`."""
        now = time.monotonic()
        if done is not None:
            # A resumed run starts in the middle: its speed is that of the work since then.
            self._done_first = done if self._done_first is None else self._done_first
            if self._start is None and done > self._done_first:
                self._start = now, done
        percent = ""
        if done is not None:
            text = f"{text}, {self._time_left(now, done)} left"
            percent = f"{100 * done:3.0f}% "
        if self._bar:
            total = None if done is None else 1.0
            self._bar.update(self._task, total=total, completed=done or 0.0, description=text)
        elif self._pending is None:
            self._print(f"{percent}{text}")
        else:
            self.line(self._pending)

    def line(self, text: str) -> None:
        """See `Progress.line`."""
        if self._bar:
            self._bar.console.print(text, markup=False, highlight=False)
        else:
            self._pending = None if self._print(text) else text

    def end(self, text: str) -> None:
        """See `Progress.end`."""
        self._flush()
        self.line(text)
        self._flush()

    def _print(self, text: str) -> bool:
        """Prints a line if it is time for one; returns whether it was."""
        now = time.monotonic()
        if now - self._last_line < SECONDS_BETWEEN_LINES:
            return False
        self._last_line = now
        print(text, flush=True)
        return True

    def _flush(self) -> None:
        if self._pending is not None:
            print(self._pending, flush=True)
            self._pending = None

    def _time_left(self, now: float, done: float) -> str:
        start, done_at_start = self._start or (now, done)
        if done >= 1:
            return "0:00"
        if done <= done_at_start:
            return "?:??"
        seconds = round((now - start) * (1 - done) / (done - done_at_start))
        hours, minutes, seconds = seconds // 3600, seconds // 60 % 60, seconds % 60
        return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
