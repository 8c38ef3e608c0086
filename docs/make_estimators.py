"""Compares the estimators of meta-gradients on one job: `make estimators`.

Trains AdafacMLP on trainings of 500 steps with each estimator and three seeds, measures bias and
variance of each estimate at two points, writes docs/estimators.png and prints the tables of
docs/estimators.md. Finished runs are not trained a second time. It takes about half an hour on 2
quiet cores.
"""

from __future__ import annotations

import csv
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from calling import call

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
# The overrides of each estimator, and how many iterations it gets in a period: in inverse
# proportion to the seconds that `samples` measures, so that periods take equally long. An iteration
# has 550 steps, with FullES two whole trainings.
PERIODS = 4
ESTIMATORS: dict[str, tuple[list[str], int]] = {
    "truncated backpropagation": ([], 3),
    "ES": (["estimator_constructor=ES"], 4),
    "PES": (["estimator_constructor=PES"], 7),
    "NRES": (["estimator_constructor=PES", f"estimator/refresh={TRAINING}"], 7),
    "FullES": (["estimator_constructor=FullES"], 4),
}


def train(name: str, seed: int) -> Path:
    """Trains with one estimator and seed; goes on with a run that is there."""
    overrides, iterations = ESTIMATORS[name]
    directory = RUNS / f"{name.replace(' ', '-')}-{seed}"
    own = [f"seed={seed}", f"directory={directory}", f"strategy/num_periods={PERIODS}"]
    own.append(f"strategy/epochs_per_period={iterations}")
    call("train.py", *JOB, *overrides, *own)
    return directory


def course(directory: Path) -> list[float]:
    """Returns the validation losses of a run, that of its start first."""
    with (directory / "summary.csv").open() as file:
        rows = list(csv.DictReader(file))
    return [float(rows[0]["start_loss"]), *(float(row["validation_loss"]) for row in rows)]


def samples(name: str, weights: list[np.ndarray], trainings: int) -> tuple[np.ndarray, float]:
    """Returns the estimates [trainings, size] of whole trainings, and seconds for each.

    The name "exact" stands for backpropagation through the whole training, with second
    derivatives.
    """
    import keras

    import l2o
    from l2o import seeds
    from l2o.problems import mlp_classifier
    from l2o.train import LossArgs
    from l2o.train.estimators import ES, PES, FullES, TruncatedBackprop
    from l2o.train.losses.meta import MetaLoss
    from l2o.train.outer.meta_step import MetaStep

    made = {
        "exact": TruncatedBackprop(second_derivatives=True),
        "truncated backpropagation": TruncatedBackprop(),
        "ES": ES(),
        "PES": PES(),
        "NRES": PES(refresh=TRAINING),
        "FullES": FullES(),
    }
    window = TRAINING if name in ("exact", "FullES") else WINDOW
    problem, optimizer = mlp_classifier(), l2o.AdafacMLPOptimizer(step_size=0.01)
    optimizer.network.set_weights(weights)
    loss = MetaLoss(LossArgs(scale_objective=False), "mean")
    step = MetaStep(optimizer, problem, loss, estimator=made[name], optimizees=PAIRS)
    # The learned weights stay.
    sgd = keras.optimizers.SGD(0.0)
    sgd.build(optimizer.network.trainable_variables)
    found, start = [], 0.0
    for i in range(trainings + 1):
        if i == 1:  # the first one is traced
            start = time.monotonic()
        # The same optimizees for each estimator.
        names = [1000 * i + k for k in range(PAIRS)]
        state = step.layout.stack([step.start(problem.init(n), seed=n) for n in names])
        gradients = []
        for position in range(0, TRAINING, window):
            rng = seeds.generator(i, position)
            draws = step.seeds([seeds.draw(rng) for _ in range(PAIRS)])
            batches = step.stream(names, position, window + 1)
            result, state = step.train(sgd, draws, state, batches, window)
            gradients.append(result.gradient.numpy().astype(np.float64))
        found.append(np.mean(gradients, 0))
    return np.array(found[1:]), (time.monotonic() - start) / trainings


def compare(weights: list[np.ndarray], trainings: int) -> dict[str, Any]:
    """Returns how each estimate differs from the exact gradient at some learned weights."""
    exact, _ = samples("exact", weights, trainings)
    reference = exact.mean(0)
    result: dict[str, Any] = {"norm": float(np.linalg.norm(reference))}
    for name in ESTIMATORS:
        found, seconds = samples(name, weights, trainings)
        mean = found.mean(0)
        variance = found.var(0, ddof=1).sum()
        result[name] = {
            "cosine": float(mean @ reference / np.linalg.norm(mean) / np.linalg.norm(reference)),
            "length": float(np.linalg.norm(mean) / np.linalg.norm(reference)),
            "noise": float((variance / (reference @ reference)) ** 0.5),
            "seconds": seconds,
        }
        print(name, result[name], flush=True)
    return result


def main() -> None:
    """Trains what is missing, measures, and writes the page."""
    from l2o.train import RunDirectory, build_optimizer

    courses = {name: [course(train(name, seed)) for seed in SEEDS] for name in ESTIMATORS}
    measured = RUNS / "measured.json"
    if not measured.exists():
        run = RunDirectory(RUNS / "PES-0")
        first = build_optimizer(run.read_config()).network.get_weights()
        row = run.best()
        arrays = run.read_checkpoint(row.stage, row.period)
        later = [arrays[f"network/{i}"] for i in range(len(first))]
        points = {"before training": first, "after training": later}
        measured.write_text(
            json.dumps({name: compare(weights, 8) for name, weights in points.items()}, indent=1)
        )
    draw(courses)
    print(tables(json.loads(measured.read_text()), courses))


def tables(points: dict[str, Any], courses: dict[str, Any]) -> str:
    """Returns both tables of the page as Markdown."""
    lines = [
        "| estimator | point | cosine | length | noise | seconds |",
        "|---|---|---|---|---|---|",
    ]
    for point, values in points.items():
        for name in ESTIMATORS:
            one = values[name]
            lines.append(
                f"| {name} | {point} | {one['cosine']:.2f} | {one['length']:.2f} "
                f"| {one['noise']:.1f} | {one['seconds']:.1f} |"
            )
    lines += ["", "| estimator | " + " | ".join(f"seed {seed}" for seed in SEEDS) + " |"]
    lines.append("|---" * (1 + len(SEEDS)) + "|")
    for name, runs in courses.items():
        lines.append(f"| {name} | " + " | ".join(f"{losses[-1]:.2f}" for losses in runs) + " |")
    return "\n".join(lines)


def draw(courses: dict[str, Any]) -> None:
    """Writes docs/estimators.png."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4.2), layout="constrained")
    for i, (name, runs) in enumerate(courses.items()):
        for k, losses in enumerate(runs):
            label = name if k == 0 else None
            axes.plot(losses, color=f"C{i}", marker=".", label=label, alpha=0.8)
    axes.set_xlabel("period; each takes about as long with every estimator")
    axes.set_ylabel("validation loss: mean log objective")
    axes.set_title("AdafacMLP, trainings of 500 steps: three seeds each")
    axes.legend()
    figure.savefig(ROOT / "docs/estimators.png", dpi=120)


if __name__ == "__main__":
    main()
