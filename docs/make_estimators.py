"""Compares the estimators of meta-gradients on one job: `make estimators`.

Trains AdafacMLP on trainings of 500 steps with each estimator and three seeds, measures bias and
variance of each estimate at two points, and writes docs/estimators.png and the tables of
docs/estimators.md. Finished runs are not trained a second time. It takes about an hour on 2 cores.
"""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parent.parent
RUNS = Path("runs/estimators")

TRAINING, WINDOW, PAIRS, SEEDS = 500, 50, 8, (0, 1, 2)
JOB = [
    "constructor=AdafacMLP",
    "network/step_size=0.01",
    'problems=[{"target": "mlp_classifier"}]',
    f"training/batch_of_problems={PAIRS}",
    "training/unroll_weights=mean",
    # Validation: trainings of about 500 steps.
    "training/epochs=23",
    f"strategy/validation_unroll={WINDOW}",
    f"strategy/unroll_distribution={WINDOW}",
    f"strategy/horizon=[{TRAINING},{TRAINING}]",
    "strategy/keep_checkpoints=1",
    "loss_args/scale_objective=false",
    "optimizer/config/learning_rate=0.003",
    "optimizer/config/global_clipnorm=1.0",
]
# The overrides of each estimator, and how many iterations of 500 steps it gets in a period. Ten
# periods then take each about as long, see docs/performance.md.
ESTIMATORS: dict[str, tuple[list[str], int]] = {
    "truncated backpropagation": ([], 2),
    "ES": (["estimator_constructor=ES"], 2),
    "PES": (["estimator_constructor=PES"], 3),
    "NRES": (["estimator_constructor=PES", f"estimator/refresh={TRAINING}"], 3),
}


def train(name: str, seed: int) -> Path:
    """Trains with one estimator and seed; goes on with a run that is there."""
    overrides, iterations = ESTIMATORS[name]
    directory = RUNS / f"{name.replace(' ', '-')}-{seed}"
    own = [f"seed={seed}", f"directory={directory}", "strategy/num_periods=10"]
    own.append(f"strategy/epochs_per_period={iterations}")
    command = [sys.executable, str(ROOT / "train.py"), *JOB, *overrides, *own]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return directory


def course(directory: Path) -> tuple[np.ndarray, np.ndarray]:
    """Returns minutes of training and the validation losses of a run."""
    with (directory / "summary.csv").open() as file:
        rows = list(csv.DictReader(file))
    with (directory / "log.csv").open() as file:
        seconds = [float(r["seconds"]) for r in csv.DictReader(file) if r["event"] == "period"]
    losses = [float(rows[0]["start_loss"]), *(float(row["validation_loss"]) for row in rows)]
    return np.array([0.0, *np.cumsum(seconds)]) / 60, np.array(losses)
