"""Compares trained optimizers with tuned baselines and writes a report."""

import os

from config import command_line as line
from config.command_line import natural, positive
from config.command_line import positive_number as number
from config.overrides import merge_overrides


def main() -> None:
    """Parses, loads, runs, reports."""
    parser = line.Parser(
        "Train models with learned optimizers, and with Keras' optimizers at their best settings.",
        "python evaluate.py weights/ --problem mlp_classifier activation=relu layers=[20,20]\n"
        "  python evaluate.py weights/ rnnprop-digits --suite generalization --protocol tuned",
    )
    parser.add_argument(
        "words",
        nargs="+",
        metavar="DIRECTORY ... [key=value ...]",
        help="runs, saved optimizers or names; then options of the problems, see README.md",
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
    line.add_protocol(parser)
    args = parser.parse_intermixed_args()
    given = [word for word in args.words if "=" not in word or os.path.isdir(word)]
    options = merge_overrides({}, [word for word in args.words if word not in given])
    if not given:
        parser.error("expected a DIRECTORY")

    line.begin(args)
    from l2o.evaluate.session import Request, evaluate

    flags = {name: value for name, value in vars(args).items() if name in Request._fields}
    evaluate(Request(given, options=options, **flags))


if __name__ == "__main__":
    line.run(main)
