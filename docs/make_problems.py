"""Prints the table of docs/problems.md: `python docs/make_problems.py`, 4 minutes on 2 cores."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from l2o.evaluate.runs import run
from l2o.problems import ProblemSpec

STEPS = 1000
RATE = 0.003
ROWS: list[tuple[str, dict[str, Any]]] = [
    *(("char_lm", {"architecture": a}) for a in ("rnn", "gru", "lstm", "transformer")),
    ("vit_classifier", {}),
    ("mixer_classifier", {}),
    ("residual_classifier", {}),
    ("conv_classifier", {}),
    *(("conv_classifier", {"transform": t}) for t in ("inverted", "shifted", "projected")),
    ("mlp_classifier", {}),
    *(("mlp_classifier", {"normalization": n}) for n in ("batch", "layer")),
    ("mlp_classifier", {"dropout": 0.2}),
    *(("autoencoder", {"architecture": a}) for a in ("mlp", "conv")),
    *(("vae", {"architecture": a}) for a in ("mlp", "conv")),
    ("mlp_regressor", {}),
]


def row(name: str, kwargs: dict[str, Any]) -> str:
    """Returns the row of a problem, trained with Adam."""
    problem = ProblemSpec(name, kwargs=kwargs).build()
    size = sum(int(np.prod(p.shape)) for p in problem.init(0).params)
    done = run(problem, keras.optimizers.Adam(RATE), STEPS, [0])
    options = ", ".join(f"`{key}={value}`" for key, value in kwargs.items())
    accuracy = "" if np.isnan(done.test_accuracy[0]) else f"{done.test_accuracy[0]:.1%}"
    losses = (done.losses[:, 0], done.train_loss, done.test_loss)
    cells = (f"`{name}`", options, f"{size:,}", *(f"{loss[0]:.3g}" for loss in losses), accuracy)
    return f"| {' | '.join(cells)} | {done.seconds:.0f} |"


if __name__ == "__main__":
    for spec in ROWS:
        print(row(*spec), flush=True)
