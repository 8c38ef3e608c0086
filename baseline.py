"""Evaluates a Keras optimizer, Adam by default, over learning rates."""

from config.command_line import run
from config.commands.baseline import BASELINE


def main() -> None:
    """Does what `l2o baseline` does."""
    BASELINE.main("python baseline.py")


if __name__ == "__main__":
    run(main)
