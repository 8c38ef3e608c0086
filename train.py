"""Meta-trains a learned optimizer."""

from config.command_line import Parser, begin, run
from config.overrides import merge_all


def main() -> None:
    """Parses, merges, builds, trains."""
    parser = Parser(
        "Meta-train a learned optimizer; results go to the run directory (directory=weights).",
        "python train.py constructor=RNNProp strategy/num_periods=5",
        "python train.py constructor=RNNProp initial_weights=rnnprop-digits",
    )
    parser.add_argument(
        "overrides", nargs="*", metavar="key/path=value", help="options, see README.md"
    )
    parser.add_argument("--config", metavar="FILE", help="instead of config/default.json")
    parser.add_argument("--preset", metavar="A,B", default="", help="names in config/presets")
    parser.add_argument(
        "--initialize", action="store_true", help="write config.json for resume.py and stop"
    )
    parser.add_argument("--tensorboard", action="store_true", help="also write TensorBoard files")
    args = parser.parse_intermixed_args()
    presets = [name for name in args.preset.split(",") if name]
    config = merge_all(args.config, presets, args.overrides)

    begin(args)
    from l2o.train.session import start

    start(config, initialize=args.initialize, tensorboard=args.tensorboard)


if __name__ == "__main__":
    run(main)
