"""Commands in messages, quoted so that they can be pasted into a shell."""

from __future__ import annotations

import json
import os
import shlex
import sys

from l2o.plain import parse_json

Path = str | os.PathLike[str]
SCRIPTS = ("train.py", "resume.py", "evaluate.py", "baseline.py")


def command(*words: str) -> str:
    """Returns words quoted for a shell, on one line: `python resume.py 'my run'`.

    Args:
        *words: The program and its arguments; see `operand` and `directory_option` for paths.
    """
    return " ".join(_quoted(word) for word in words)


def step(name: str, *words: str) -> str:
    """Returns a command of l2o as this process was started: `python train.py x`, or `l2o train x`.

    Args:
        name: `train`, `resume`, `evaluate` or `baseline`.
        *words: See `command`.
    """
    started = sys.argv[0] if sys.argv else ""
    # A script of the clone has imported this folder of the clone.
    if "config.commands" in sys.modules and os.path.basename(started) in SCRIPTS:
        return command("python", f"{name}.py", *words)
    if os.path.join("l2o", "__main__.py") in started:
        return command("python", "-m", "l2o", name, *words)
    return command("l2o", name, *words)


def operand(path: Path) -> str:
    """Returns a path as an argument that cannot be read as a flag: `./-x`."""
    text = os.fspath(path)
    return f"./{text}" if text.startswith("-") else text


def directory_option(path: Path) -> str:
    """Returns the override `directory=...`; `./` keeps its value from being read as JSON."""
    text = os.fspath(path)
    return f"directory=./{text}" if is_json(text) else f"directory={text}"


def is_json(text: str) -> bool:
    """Returns whether the override `key=text` is read as JSON instead of as a string."""
    try:
        parse_json(text)
    except json.JSONDecodeError:
        return False
    except ValueError:  # refused as a value, not taken as a string
        return True
    return True


def _quoted(word: str) -> str:
    if word.isprintable():
        return shlex.quote(word)
    # A line break, or bytes that are not text, would not survive on a terminal.
    plain = (c if c.isprintable() and c not in "\\'" else _escaped(c) for c in word)
    return f"$'{''.join(plain)}'"


def _escaped(character: str) -> str:
    return "".join(f"\\x{byte:02x}" for byte in os.fsencode(character))
