"""`train`: meta-trains a learned optimizer."""

from __future__ import annotations

import argparse

from ..command_line import Command, Parser, begin
from ..overrides import merge_all


def arguments(parser: Parser) -> None:
    """Adds the arguments."""
    parser.add_argument(
        "overrides",
        nargs="*",
        metavar="key/path=value",
        help="options, see docs/options.md; --initialize writes them all to config.json",
    )
    parser.add_argument("--config", metavar="FILE", help="a job instead of the default one")
    parser.add_argument(
        "--preset",
        metavar="A,B",
        default="",
        help="presets; a wrong name lists them all",
    )
    parser.add_argument(
        "--initialize", action="store_true", help="write config.json for resume and stop"
    )
    parser.add_argument("--tensorboard", action="store_true", help="also write TensorBoard files")


def work(parser: Parser, args: argparse.Namespace) -> None:
    """Merges, builds, trains."""
    presets = [name for name in args.preset.split(",") if name]
    config = merge_all(args.config, presets, args.overrides)

    begin(args)
    from l2o.train.session import start

    start(config, initialize=args.initialize, tensorboard=args.tensorboard)


TRAIN = Command(
    "train",
    "Meta-train a learned optimizer; results go to the run directory (directory=weights).",
    [
        "constructor=RNNProp strategy/num_periods=5",
        "constructor=RNNProp initial_weights=rnnprop-digits",
    ],
    arguments,
    work,
)
