"""Commands that a message prints, so that they do what it says when they are pasted."""

from __future__ import annotations

import json
import os
import shlex

Path = str | os.PathLike[str]


def command(*words: str) -> str:
    """Returns words as a shell reads them, on one line: `python resume.py 'my run'`.

    Args:
        *words: The program and its arguments; see `operand` and `directory_option` for paths.
    """
    return " ".join(_quoted(word) for word in words)


def operand(path: Path) -> str:
    """Returns a path as an argument that no parser takes for a flag: `./-x`."""
    text = os.fspath(path)
    return f"./{text}" if text.startswith("-") else text


def directory_option(path: Path) -> str:
    """Returns the override `directory=...`, whose value would be no path if it were JSON."""
    text = os.fspath(path)
    return f"directory=./{text}" if is_json(text) else f"directory={text}"


def is_json(text: str) -> bool:
    """Returns whether `key=text` on a command line gives another value than this string."""
    try:
        json.loads(text)
    except RecursionError:
        return True
    except ValueError:
        return False
    return True


def _quoted(word: str) -> str:
    if word.isprintable():
        return shlex.quote(word)
    # A line break, or bytes that are no text, would not survive on their way to a terminal.
    plain = (c if c.isprintable() and c not in "\\'" else _escaped(c) for c in word)
    return f"$'{''.join(plain)}'"


def _escaped(character: str) -> str:
    return "".join(f"\\x{byte:02x}" for byte in os.fsencode(character))
