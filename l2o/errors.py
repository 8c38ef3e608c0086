"""The one exception that means "the user's input is wrong", never "the code is"."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """Wrong input, said in one line; the scripts print it and exit with code 2.

    Args:
        message: What was wrong and what was expected.
        path: Where, as a config path such as ``strategy/num_periods``; empty when
            the place is named by the message itself.
    """

    def __init__(self, message: str, path: str = "") -> None:
        message, path = _printable(message, 1000), _printable(path, 200)
        super().__init__(f"{path}: {message}" if path else message)
        self.message = message
        self.path = path


def _printable(text: str, longest: int) -> str:
    # What somebody has typed, or a file has, may hold anything.
    if len(text) > longest:
        text = f"{text[: longest // 2]}...{text[-longest // 2 :]}"
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def nearest(name: str, known: Iterable[str]) -> str:
    """Returns `` (did you mean X?)`` for the known name closest to `name`, or nothing."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f" (did you mean {close[0]}?)" if close else ""


class LostWorkerError(RuntimeError):
    """Another process of a run on several machines has gone; the scripts exit with code 1."""
