"""`baseline`: evaluates a Keras optimizer, Adam by default, over learning rates."""

from __future__ import annotations

import argparse

from ..command_line import Command, Parser, begin, positive, rates
from ..overrides import merge_overrides


def arguments(parser: Parser) -> None:
    """Adds the arguments."""
    parser.add_argument(
        "options",
        nargs="*",
        metavar="key=value",
        help="options of the problem (docs/options.md)",
    )
    parser.add_argument("--optimizer", default="Adam", help="a Keras optimizer [Adam]")
    parser.add_argument("--problem", default="mlp_classifier", help="[mlp_classifier]")
    parser.add_argument(
        "--learning-rates",
        type=rates,
        default=rates("0.003,0.01,0.03,0.1,0.3"),
        metavar="A,B,C",
        help="[0.003,0.01,0.03,0.1,0.3]",
    )
    parser.add_argument("--steps", type=positive, default=100, help="training steps [100]")
    parser.add_argument("--seeds", type=positive, default=10, help="models to train [10]")
    parser.add_argument("--output", default="baseline.json", help="[baseline.json]")


def work(parser: Parser, args: argparse.Namespace) -> None:
    """Sweeps, reports."""
    options = merge_overrides({}, args.options)

    begin(args)
    from l2o.evaluate.sweeping import baseline

    baseline(
        args.optimizer, args.problem, options, args.learning_rates, args.steps, args.seeds,
        args.output,
    )  # fmt: skip


BASELINE = Command(
    "baseline",
    "Sweep the learning rate of a Keras optimizer on a problem.",
    ["--optimizer RMSprop --learning-rates 0.001,0.01,0.1"],
    arguments,
    work,
)
