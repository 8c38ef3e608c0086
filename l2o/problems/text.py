"""A text as a data set: windows of characters, each with the characters that follow."""

from __future__ import annotations

from collections import Counter
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from l2o.disk.files import os_errors_told, read_regular
from l2o.errors import UserError
from l2o.problems.arrays import ArrayData, Examples

# The last one of this many equal parts of the text is the test split.
PARTS = 10
# Characters that have a number of their own; the others share `UNKNOWN`.
MOST_CHARACTERS = 95
UNKNOWN = 0
# Bytes.
LARGEST_TEXT = 2**26


class Windows(NamedTuple):
    """Windows of a text, and the characters that the numbers 1, 2 and so on stand for."""

    data: ArrayData
    characters: str

    @property
    def classes(self) -> int:
        """How many numbers there are, that of unknown characters included."""
        return len(self.characters) + 1


@lru_cache(maxsize=4)
def windows(path: str | None, context: int, characters: int | None = None) -> Windows:
    """Returns a text as examples: `context` characters, and for each of them the next one.

    The first 90 % of the text are the training split, and the rest is the test split. Each is cut
    into windows of context + 1 characters that do not overlap; what remains is dropped. The 95
    most frequent characters of the training split have the numbers 1 to 95, the most frequent
    first. All other characters have the number 0.

    Args:
        path: A file in UTF-8; None: the reference of the Python language that comes with Python.
        context: Number of characters that a model sees.
        characters: How many characters of the text count, from its start; None: all [None].

    Returns:
        Windows of int32 numbers; inputs and targets are [N, context].

    Raises:
        UserError: If the text cannot be read, is too short, or has one character only.
    """
    text = (_python_reference() if path is None else _read(path))[:characters]
    end = len(text) - len(text) // PARTS
    train, test = text[:end], text[end:]
    if len(test) <= context:
        raise UserError(
            f"the text has {len(text)} characters: expected at least {PARTS * (context + 1)}, so "
            f"that its last tenth has a window of {context + 1}",
            "text",
        )
    # Equally frequent ones in the order of their code points.
    counted = sorted(Counter(train).items(), key=lambda item: (-item[1], item[0]))
    if len(counted) == 1:
        raise UserError(
            f"the text has no character but {counted[0][0]!r}: expected several", "text"
        )
    known = "".join(character for character, _ in counted[:MOST_CHARACTERS])
    numbers = {character: i for i, character in enumerate(known, 1)}

    def split(part: str) -> Examples:
        count = len(part) // (context + 1)
        ids = [numbers.get(character, UNKNOWN) for character in part[: count * (context + 1)]]
        rows = np.array(ids, np.int32).reshape(count, context + 1)
        return Examples(rows[:, :-1], rows[:, 1:])

    return Windows(ArrayData("the text", split(train), split(test)), known)


def _python_reference() -> str:
    """Returns the topics of Python's `help`, 465,000 characters of English about Python."""
    from pydoc_data.topics import topics

    return "\n".join(topics[name] for name in sorted(topics))


def _read(path: str) -> str:
    what = f"cannot read {path!r}"
    try:
        with os_errors_told(what):
            content = read_regular(Path(path), LARGEST_TEXT)
        return content.decode("utf-8")
    except UserError as error:
        raise UserError(error.message, "text") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{what}: byte {error.start} is not UTF-8", "text") from None
    except ValueError as error:  # no path: a zero byte, or half a surrogate
        raise UserError(f"{what}: {error}", "text") from None
