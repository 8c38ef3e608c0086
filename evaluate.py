"""Compares trained optimizers with tuned baselines and writes a report."""

from config.command_line import run
from config.commands.evaluate import EVALUATE


def main() -> None:
    """Does what `l2o evaluate` does."""
    EVALUATE.main("python evaluate.py")


if __name__ == "__main__":
    run(main)
