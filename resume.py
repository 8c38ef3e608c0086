"""Resumes a run."""

from config.command_line import Parser, begin, run
from config.overrides import merge_overrides


def main() -> None:
    """Parses, builds, resumes."""
    parser = Parser(
        "Resume a run, or start one that train.py --initialize has prepared.",
        "python resume.py weights/ strategy/num_periods=200",
    )
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
    args = parser.parse_intermixed_args()
    for text in args.overrides:
        if text.startswith("directory="):
            parser.error(f"{text}: the directory of a run cannot change")

    begin(args)
    from l2o.train import RunDirectory
    from l2o.train.session import start

    run_directory = RunDirectory(args.directory)
    config = {**run_directory.read_config(), "directory": args.directory}
    start(merge_overrides(config, args.overrides), read=config, tensorboard=args.tensorboard)


if __name__ == "__main__":
    run(main)
