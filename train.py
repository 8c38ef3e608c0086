"""Meta-trains a learned optimizer."""

from config.command_line import run
from config.commands.train import TRAIN


def main() -> None:
    """Does what `l2o train` does."""
    TRAIN.main("python train.py")


if __name__ == "__main__":
    run(main)
