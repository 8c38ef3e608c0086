"""Goes on with a run."""

from config.command_line import Parser, import_tensorflow, run
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
    args = parser.parse_intermixed_args()
    for text in args.overrides:
        if text.startswith("directory="):
            parser.error(f"{text}: a run stays where it is")

    import_tensorflow(args)
    from l2o.train import RunDirectory
    from l2o.train.session import start

    run_directory = RunDirectory(args.directory)
    config = {**run_directory.read_config(), "directory": args.directory}
    start(merge_overrides(config, args.overrides), read=config)


if __name__ == "__main__":
    run(main)
