"""Goes on with a run."""

from config.command_line import Parser, begin, run
from config.overrides import merge_overrides


def main() -> None:
    """Parses, builds, trains on."""
    parser = Parser(
        "Go on with a run, or start one that train.py --initialize has prepared.",
        "python resume.py weights/ strategy/num_periods=200",
    )
    parser.add_argument("directory", metavar="DIRECTORY", help="has a config.json")
    parser.add_argument(
        "overrides",
        nargs="*",
        metavar="key/path=value",
        help="of what is still to be trained (strategy/num_periods=200), or distribute=...",
    )
    parser.add_argument("--tensorboard", action="store_true", help="write curves for it too")
    args = parser.parse_intermixed_args()
    for text in args.overrides:
        if text.startswith("directory="):
            parser.error(f"{text}: a run stays where it is")

    begin(args)
    from l2o.train import RunDirectory
    from l2o.train.session import start

    run_directory = RunDirectory(args.directory)
    config = {**run_directory.read_config(), "directory": args.directory}
    start(merge_overrides(config, args.overrides), read=config, tensorboard=args.tensorboard)


if __name__ == "__main__":
    run(main)
