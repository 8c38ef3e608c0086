"""Resumes a run."""

from config.command_line import run
from config.commands.resume import RESUME


def main() -> None:
    """Does what `l2o resume` does."""
    RESUME.main("python resume.py")


if __name__ == "__main__":
    run(main)
