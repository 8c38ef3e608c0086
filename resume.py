"""Goes on with a run."""

from config.command_line import Parser, import_tensorflow, run


def main() -> None:
    """Parses, builds, trains on."""
    parser = Parser(
        "Go on with a run, or start one that train.py --initialize has prepared.",
        "python resume.py weights/",
    )
    parser.add_argument("directory", metavar="DIRECTORY", help="has a config.json")
    args = parser.parse_args()

    import_tensorflow()
    from l2o.train import RunDirectory, resolve_config
    from l2o.train.session import start

    run_directory = RunDirectory(args.directory)
    start(resolve_config(run_directory.read_config()), run_directory)


if __name__ == "__main__":
    run(main)
