"""The command `l2o`, which the package installs, and `python -m l2o`."""

from __future__ import annotations

import argparse
import os
import sys
from typing import Any, NoReturn

from .command_line import Parser, run, usage_error
from .commands.baseline import BASELINE
from .commands.evaluate import EVALUATE
from .commands.resume import RESUME
from .commands.show import CARD, KINDS, LIST, WEIGHTS
from .commands.train import TRAIN
from .overrides import preset_names
from .plain import nearest

COMMANDS = {command.name: command for command in (TRAIN, RESUME, EVALUATE, BASELINE, LIST, CARD)}


def main() -> NoReturn:
    """Runs the command that the first argument names, and exits."""
    started = "l2o" if os.path.basename(sys.argv[0]) != "__main__.py" else "python -m l2o"
    if "_ARGCOMPLETE" in os.environ:
        _complete(started)
    first, *others = sys.argv[1:] or ["--help"]
    if first in COMMANDS:
        command = COMMANDS[first]
        run(lambda: command.main(f"{started} {first}", others), f"l2o {first}")
    run(lambda: _without_command(started, first), "l2o")


def _without_command(started: str, first: str) -> None:
    if first in ("-h", "--help"):
        print(_help(started))
    elif first == "--version":
        print(f"l2o {_version()}")
    else:
        usage_error(
            "l2o",
            f"no command called {first!r}{nearest(first, COMMANDS)}; expected one of: "
            f"{', '.join(COMMANDS)}",
        )


def _help(started: str) -> str:
    lines = [
        f"usage: {started} [--help] [--version] COMMAND ...",
        "",
        "Optimizers that are small neural networks: meta-train them, then use them like Adam.",
        "",
        "commands:",
        *(f"  {name:9} {command.about}" for name, command in COMMANDS.items()),
        "",
        "examples:",
        *(f"  {command.example(f'{started} {name}')}" for name, command in COMMANDS.items()),
        "",
        f"`{started} COMMAND --help` explains a command.",
    ]
    return "\n".join(lines)


def _version() -> str:
    from l2o.version import __version__

    return __version__


def _complete(started: str) -> None:
    """Answers the Tab key of a shell, and exits; see docs/command-line.md."""
    from argcomplete import autocomplete
    from argcomplete.completers import FilesCompleter

    names = [path.parent.name for path in WEIGHTS.glob("*/card.md")]
    known = {"preset": preset_names(), "kinds": KINDS, "name": names, "words": names}

    def values(action: argparse.Action, **given: Any) -> list[str]:
        files = [] if action.dest in ("preset", "kinds") else FilesCompleter()(**given)
        return [*known.get(action.dest, ()), *files]

    parser = argparse.ArgumentParser(started)
    # argparse wants a class, but only calls it.
    parsers = parser.add_subparsers(  # type: ignore[call-overload]
        parser_class=lambda command, **_: Parser(f"{started} {command.name}", command)
    )
    for name, command in COMMANDS.items():
        parsers.add_parser(name, command=command)
    autocomplete(parser, default_completer=values)
