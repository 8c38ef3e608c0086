"""`evaluate`: compares trained optimizers with tuned baselines and writes a report."""

from __future__ import annotations

import argparse
import os

from ..command_line import Command, Parser, begin, natural, positive
from ..command_line import positive_number as number
from ..overrides import merge_overrides


def arguments(parser: Parser) -> None:
    """Adds the arguments."""
    parser.add_argument(
        "words",
        nargs="+",
        metavar="DIRECTORY ... [key=value ...]",
        help="runs, saved optimizers or names; then options of the problems, see docs/options.md",
    )
    parser.add_argument("--problem", dest="problems", metavar="A,B", help="[mlp_classifier]")
    suites = "dm, families, generalization, modern, refutation, rnnprop or scale"
    parser.add_argument("--suite", metavar="NAME", help=suites)
    parser.add_argument("--steps", type=positive, default=100, help="training steps [100]")
    parser.add_argument("--seeds", type=positive, default=10, help="models to train [10]")
    parser.add_argument("--target", type=number, help="count the steps until this loss")
    parser.add_argument("--output", metavar="DIRECTORY", help="for the report [the first one]")
    parser.add_argument("--period", type=natural, help="period whose weights to take [the best]")
    parser.add_argument("--stage", type=natural, help="stage of that period, if there are stages")
    _add_protocol(parser)


def _add_protocol(parser: Parser) -> None:
    group = parser.add_argument_group(
        "protocol", "how optimizers are made comparable; a flag overrides the protocol's choice"
    )
    group.add_argument(
        "--protocol",
        metavar="NAME",
        help="default (baselines tuned, no schedule), or tuned (learned optimizers and strong "
        "baselines tuned, warm-up and cosine schedule for all) [default]",
    )
    group.add_argument(
        "--tune-learned",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="tune the learning rate of learned optimizers too",
    )
    group.add_argument(
        "--tune-weight-decay",
        action="store_true",
        default=None,
        help="tune the weight decay of learned optimizers with their rate: 0, 0.001, 0.01, 0.1",
    )
    group.add_argument(
        "--schedule", metavar="NAME", help="for all optimizers: constant, cosine, warmup_cosine"
    )
    group.add_argument(
        "--baselines",
        metavar="A,B",
        help="some of SGD, Momentum, RMSprop, Adam, AdamW, AdamW2D, Lion, Muon, Muon2D, Nadam; "
        "Adam is always one",
    )
    group.add_argument(
        "--tuning-seeds",
        type=positive,
        help="models for each setting [--seeds, or 3 with --protocol tuned]",
    )
    group.add_argument(
        "--tune-for",
        dest="tuned_for",
        metavar="LOSS",
        help="what tuning minimises: training, or validation (on a fifth of the training examples, "
        "held out) [training]",
    )


def work(parser: Parser, args: argparse.Namespace) -> None:
    """Loads, runs, reports."""
    given = [word for word in args.words if "=" not in word or os.path.isdir(word)]
    options = merge_overrides({}, [word for word in args.words if word not in given])
    if not given:
        parser.error("expected a DIRECTORY")

    begin(args)
    from l2o.evaluate.session import Request, evaluate

    flags = {name: value for name, value in vars(args).items() if name in Request._fields}
    evaluate(Request(given, options=options, **flags))


EVALUATE = Command(
    "evaluate",
    "Train models with learned optimizers, and with Keras' optimizers at their best settings.",
    [
        "weights/ --problem mlp_classifier activation=relu layers=[20,20]",
        "weights/ rnnprop-digits --suite generalization --protocol tuned",
    ],
    arguments,
    work,
)
