"""`resume`: goes on with a run."""

from __future__ import annotations

import argparse

from ..command_line import Command, Parser, begin
from ..overrides import merge_overrides


def arguments(parser: Parser) -> None:
    """Adds the arguments."""
    parser.add_argument(
        "directory", metavar="DIRECTORY", help="a run directory, with a config.json"
    )
    parser.add_argument(
        "overrides",
        nargs="*",
        metavar="key/path=value",
        help="options of future periods (strategy/num_periods=200), or distribute=...",
    )
    parser.add_argument("--tensorboard", action="store_true", help="also write TensorBoard files")


def work(parser: Parser, args: argparse.Namespace) -> None:
    """Merges, builds, resumes."""
    for text in args.overrides:
        if text.startswith("directory="):
            parser.error(f"{text}: the directory of a run cannot change")

    begin(args)
    from l2o.train import RunDirectory
    from l2o.train.session import start

    run_directory = RunDirectory(args.directory)
    config = {**run_directory.read_config(), "directory": args.directory}
    start(merge_overrides(config, args.overrides), read=config, tensorboard=args.tensorboard)


RESUME = Command(
    "resume",
    "Resume a run, or start one that train --initialize has prepared.",
    ["weights/ strategy/num_periods=200"],
    arguments,
    work,
)
