"""What the four scripts share: one line per error, exit codes, quiet TensorFlow."""

from __future__ import annotations

import argparse
import logging
import math
import os
import sys
from collections.abc import Callable
from typing import NoReturn

from config.overrides import ConfigError


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line and exit code 2."""

    def __init__(self, description: str, example: str) -> None:
        super().__init__(
            description=description,
            epilog=f"example:\n  {example}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )

    def error(self, message: str) -> NoReturn:
        """Prints one line and exits with code 2."""
        print(f"{self.prog}: {message} (see --help)", file=sys.stderr)
        sys.exit(2)


def positive(text: str) -> int:
    """Argument type: an integer of at least 1."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected at least 1; got {value}")
    return value


def natural(text: str) -> int:
    """Argument type: an integer of at least 0."""
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"expected at least 0; got {value}")
    return value


def rates(text: str) -> list[float]:
    """Argument type: positive numbers separated by commas."""
    try:
        values = sorted({float(part) for part in text.split(",")})
    except ValueError:
        values = []
    if not values or not all(0 < value < math.inf for value in values):
        raise argparse.ArgumentTypeError(f"expected positive numbers like 0.01,0.1; got {text!r}")
    return values


def import_tensorflow() -> None:
    """Imports l2o, and so TensorFlow, without its start-up messages.

    They would bury the one line that matters. Some are written before any log level
    counts, so the file descriptor itself is closed meanwhile; an error still comes out.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    kept = os.dup(2)
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 2)
    try:
        import l2o  # noqa: F401
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(silence)
    # TensorFlow takes the few calls of a short evaluation for needless tracing.
    for name in ("absl", "tensorflow"):
        logging.getLogger(name).setLevel(logging.ERROR)


def run(main: Callable[[], None]) -> NoReturn:
    """Runs a script's main and exits: 0, 2 for wrong input, 130 for Ctrl-C.

    Args:
        main: What the script does.
    """
    try:
        main()
    except ConfigError as error:
        _fail(str(error))
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except ImportError as error:
        if error.name != "l2o":
            raise
        _fail(str(error))
    except Exception as error:
        from l2o.errors import UserError  # after the fact: it imports TensorFlow

        if not isinstance(error, UserError):
            raise
        _fail(str(error))
    sys.exit(0)


def _fail(message: str) -> NoReturn:
    print(f"{os.path.basename(sys.argv[0])}: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(2)
