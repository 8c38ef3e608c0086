"""Code of all scripts and commands: one line for each error, exit codes, a quiet TensorFlow."""

from __future__ import annotations

import argparse
import errno
import io
import logging
import math
import os
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, NoReturn

from .plain import LostWorkerError, UserError

# The largest 32-bit integer.
LARGEST = 2**31 - 1
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line and exit code 2.

    Args:
        program: How it is started, such as `python train.py` or `l2o train`.
        command: What it does.
    """

    def __init__(self, program: str, command: Command) -> None:
        examples = [command.example(program, i) for i in range(len(command.examples))]
        super().__init__(
            prog=program.removeprefix("python ") if program.endswith(".py") else program,
            description=command.about,
            epilog="\n  ".join([f"example{'s' * (len(examples) > 1)}:", *examples]),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        if command.computes:
            self.add_argument("--quiet", action="store_true", help="print nothing but errors")
            devices = self.add_mutually_exclusive_group()
            devices.add_argument("--cpu", action="store_true", help="do not use a GPU")
            devices.add_argument(
                "--gpus", type=numbers, metavar="0,1", help="compute on these GPUs [all GPUs]"
            )
        command.arguments(self)

    def error(self, message: str) -> NoReturn:
        """Prints one line and exits with code 2."""
        usage_error(self.prog.removeprefix("python -m "), message)


class Command(NamedTuple):
    """What a script of the clone and a command of `l2o` share.

    name: Its name, such as `train`.
    about: What it does, in a line.
    examples: Arguments that work.
    arguments: Adds its arguments to a parser.
    work: Does it, given the parser and what it has parsed.
    computes: Whether it computes on devices, and takes the flags that choose them.
    """

    name: str
    about: str
    examples: Sequence[str]
    arguments: Callable[[Parser], None]
    work: Callable[[Parser, argparse.Namespace], None]
    computes: bool = True

    def example(self, program: str, i: int = 0) -> str:
        """Returns the i-th example as it is typed."""
        return f"{program} {self.examples[i]}".rstrip()

    def main(self, program: str, words: Sequence[str] | None = None) -> None:
        """Parses and works.

        Args:
            program: See `Parser`.
            words: The arguments [those of the process].
        """
        parser = Parser(program, self)
        self.work(parser, parser.parse_intermixed_args(words))


def usage_error(program: str, message: str) -> NoReturn:
    """Prints one line and exits with code 2."""
    print(f"{program}: {message} (see --help)", file=sys.stderr)
    sys.exit(2)


def positive(text: str) -> int:
    """Argument type: an integer of at least 1."""
    value = int(text)
    if not 1 <= value <= LARGEST:
        raise argparse.ArgumentTypeError(f"expected 1 to {LARGEST}; got {text[:20]}")
    return value


def natural(text: str) -> int:
    """Argument type: an integer of at least 0."""
    value = int(text)
    if not 0 <= value <= LARGEST:
        raise argparse.ArgumentTypeError(f"expected 0 to {LARGEST}; got {text[:20]}")
    return value


def positive_number(text: str) -> float:
    """Argument type: a number above 0."""
    values = rates(text)
    if len(values) != 1:
        raise argparse.ArgumentTypeError(f"expected one number; got {text!r}")
    return values[0]


def numbers(text: str) -> list[int]:
    """Argument type: integers of at least 0 separated by commas."""
    try:
        return sorted({natural(part) for part in text.split(",")})
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected numbers like 0,1; got {text!r}") from None


def rates(text: str) -> list[float]:
    """Argument type: positive numbers separated by commas."""
    try:
        values = sorted({float(part) for part in text.split(",")})
    except ValueError:
        values = []
    if not values or not all(0 < value < math.inf for value in values):
        raise argparse.ArgumentTypeError(f"expected positive numbers like 0.01,0.1; got {text!r}")
    return values


def begin(args: argparse.Namespace) -> None:
    """Imports l2o quietly and chooses the devices; `--quiet` prints only errors from here on."""
    import_quietly()
    import l2o

    l2o.train.use_devices(args.cpu, args.gpus)
    if args.quiet:
        _print_nothing()


def _print_nothing() -> None:
    sys.stdout = open(os.devnull, "w")  # noqa: SIM115  it is open to the end


def import_quietly() -> None:
    """Imports l2o without TensorFlow's start-up messages.

    They would hide the one line that matters. Some are written before any log level applies, so the
    file descriptor of stderr is redirected meanwhile. Errors are still shown.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    stderr = os.dup(2)
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 2)
    try:
        import l2o.api  # noqa: F401
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(silence)
    # TensorFlow warns of needless tracing when a short evaluation makes only a few calls.
    for name in ("absl", "tensorflow"):
        logging.getLogger(name).setLevel(logging.ERROR)


def run(main: Callable[[], None], program: str | None = None) -> NoReturn:
    """Runs the main function of a script or command and exits.

    The exit code is 0; 2 for wrong input or a full disk; 1 for a lost worker; 128 plus its
    number for a signal: 130 for Ctrl-C, 143 for SIGTERM, 141 for a closed output.

    Args:
        main: The main function.
        program: What errors begin with [the name of the script].
    """
    program = program or os.path.basename(sys.argv[0])
    # It is None if its reader closed it before the start.
    if sys.stdout is None:
        _print_nothing()
    elif isinstance(sys.stdout, io.TextIOWrapper):
        # A terminal may lack a character, and the name of a file may not be text.
        sys.stdout.reconfigure(errors="replace")
    # A shell makes processes in the background ignore Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    code = _code_of(main, program)
    # A second signal while Python ends would change the exit code.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    try:
        sys.stdout.flush()
    except OSError:
        # Otherwise Python would try to write the rest when it ends, and print an error.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(code)


def _code_of(main: Callable[[], None], program: str) -> Any:
    try:
        main()
        sys.stdout.flush()
        return 0
    except UserError as error:
        return _said(program, str(error))
    except LostWorkerError as error:
        return _said(program, str(error), code=1)
    except KeyboardInterrupt:
        return _said(program, "interrupted", code=130)
    except SystemExit as stop:
        return stop.code
    except BrokenPipeError:
        return 141
    except OSError as error:
        if error.errno not in FULL:
            raise
        return _said(program, f"cannot write: {error.strerror}")
    except ImportError as error:
        if error.name != "l2o":
            raise
        return _said(program, str(error))


def _said(program: str, message: str, code: int = 2) -> int:
    print(f"{program}: {' '.join(message.splitlines())}", file=sys.stderr)
    return code
