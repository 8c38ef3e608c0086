"""Draws docs/meta-training.png from run directories: `python docs/make_figures.py runs/*`."""

import sys
from pathlib import Path

from l2o.evaluate.report import pictures
from l2o.train import RunDirectory


def main(directories: list[str]) -> None:
    """Draws the validation loss of each run, side by side."""
    runs = [RunDirectory(directory) for directory in directories]
    histories = {run.read_config()["constructor"]: run.rows() for run in runs}
    pictures.meta_training(Path(__file__).parent / "meta-training.png", histories)


if __name__ == "__main__":
    main(sys.argv[1:])
