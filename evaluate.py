"""Compares a trained optimizer with Adam."""

from config.command_line import Parser, import_tensorflow, natural, positive, run
from config.overrides import merge_overrides


def main() -> None:
    """Parses, loads, runs, reports."""
    parser = Parser(
        "Train models with a learned optimizer and with Adam at its best learning rate.",
        "python evaluate.py weights/ --problem mlp_classifier activation=relu layers=[20,20]",
    )
    parser.add_argument(
        "directory", metavar="DIRECTORY", help="a run, a saved optimizer, or a name"
    )
    parser.add_argument(
        "options", nargs="*", metavar="key=value", help="options of the problem, see README.md"
    )
    parser.add_argument("--problem", default="mlp_classifier", help="[mlp_classifier]")
    parser.add_argument("--steps", type=positive, default=100, help="training steps [100]")
    parser.add_argument("--seeds", type=positive, default=10, help="models to train [10]")
    parser.add_argument(
        "--period", type=natural, help="which period's weights [best validation loss]"
    )
    parser.add_argument("--stage", type=natural, help="of which stage, if the run has stages")
    args = parser.parse_intermixed_args()
    options = merge_overrides({}, args.options)

    import_tensorflow(args)
    from l2o.evaluate.session import evaluate

    evaluate(args.directory, args.problem, options, args.steps, args.seeds, args.period, args.stage)


if __name__ == "__main__":
    run(main)
