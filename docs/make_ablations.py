"""Trains and evaluates the ablations of docs/reproduction.md: `make ablations`.

Every run is a preset with overrides. Finished runs are not trained a second time, and finished
evaluations are read from the cache. It takes a few hours on 2 cores.
"""

import json
from pathlib import Path
from typing import Any

from calling import call

RUNS, TABLES = Path("runs"), Path("runs/ablations")

Run = tuple[str, dict[str, Any]]

SCALED = {"target": "RandomScaling", "kwargs": {"limit": 3.0}}
SCALED_BY_5 = {"target": "RandomScaling", "kwargs": {"limit": 5.0}}
CONVEX = {"target": "ConvexCombination", "kwargs": {"dimensions": 20, "limit": 1.0}}
ADAM = [{"class_name": "Adam", "config": {"learning_rate": 0.1}}]
META_LOSS = {"training/p_teacher": 0, "training/teachers": []}


def mlp(
    *wrappers: dict[str, Any], units: int = 20, batch_size: int = 64, **more: Any
) -> dict[str, Any]:
    """Returns a classifier with a hidden layer of sigmoids.

    Args:
        wrappers: Specs of wrappers, the innermost first.
        units: Units of the layer.
        batch_size: Examples of a step.
        more: Other options of the problem.
    """
    kwargs = {"layers": [units], "activation": "sigmoid", "batch_size": batch_size, **more}
    return {"target": "mlp_classifier", "kwargs": kwargs, "wrappers": list(wrappers)}


def _rnnprop(problems: list[dict[str, Any]], epochs: int, periods: int, **more: Any) -> Run:
    own = {
        "problems": problems,
        "strategy/epochs_per_period": epochs,
        "strategy/num_periods": periods,
        "strategy/unroll_distribution": 0.05,
    }
    return "rnnprop-digits", {**own, **META_LOSS, "seed": 0, **more}


PLAIN_AND_SCALED = [mlp(), mlp(SCALED)]
SIZES = [
    mlp(batch_size=32),
    mlp(SCALED),
    mlp(SCALED, units=10, batch_size=128),
    mlp(SCALED, units=40, batch_size=16),
]

# For each table the suite, and the runs by name.
ABLATIONS: dict[str, tuple[str, dict[str, Run]]] = {
    "rnnprop": (
        "rnnprop",
        {
            "plain": _rnnprop([mlp()], 40, 20),
            "scaled": _rnnprop([mlp(SCALED)], 40, 20),
            "plain+scaled": _rnnprop(PLAIN_AND_SCALED, 20, 40),
            "plain+scaled-seed1": _rnnprop(PLAIN_AND_SCALED, 20, 40, seed=1),
            "+scaled-by-5": _rnnprop([mlp(), mlp(SCALED_BY_5)], 20, 20),
            "+sizes": _rnnprop(SIZES, 10, 20),
            "+longer-unrolls": _rnnprop(
                PLAIN_AND_SCALED, 20, 20, **{"strategy/unroll_distribution": 0.02}
            ),
            "+convex": _rnnprop([*PLAIN_AND_SCALED, mlp(SCALED, CONVEX)], 14, 40),
        },
    ),
    "imitation": (
        "rnnprop",
        {
            "rnnprop-digits": ("rnnprop-digits", {}),
            "rnnprop-seed0": ("rnnprop-digits", {"seed": 0}),
            "rnnprop-seed1": ("rnnprop-digits", {"seed": 1}),
            "rnnprop-meta-loss": ("rnnprop-digits", {**META_LOSS, "seed": 0}),
            "rnnprop-meta-loss-seed1": ("rnnprop-digits", {**META_LOSS, "seed": 1}),
        },
    ),
    "recipes": (
        "dm",
        {
            "dm-digits": ("dm-digits", {}),
            "dm-seed1": ("dm-digits", {"seed": 1}),
            "dm-plain": ("dm-digits", {"problems": [mlp()], "strategy/epochs_per_period": 60}),
            "dm-imitation": (
                "dm-digits",
                {"training/p_teacher": 1, "training/teachers": ADAM},
            ),
            "scale-basic-digits": ("scale-basic-digits", {}),
            "scale-basic-seed1": ("scale-basic-digits", {"seed": 1}),
            "scale-basic-meta-loss": ("scale-basic-digits", META_LOSS),
            "scale-basic-meta-loss-seed1": ("scale-basic-digits", {**META_LOSS, "seed": 1}),
            "scale-basic-meta-loss-seed2": ("scale-basic-digits", {**META_LOSS, "seed": 2}),
            "scale-basic-plain": (
                "scale-basic-digits",
                {**META_LOSS, "problems": [mlp()], "strategy/epochs_per_period": 60},
            ),
            "scale-hierarchical-digits": ("scale-hierarchical-digits", {}),
            "scale-hierarchical-seed1": ("scale-hierarchical-digits", {"seed": 1}),
            "scale-hierarchical-plain": (
                "scale-hierarchical-digits",
                {**META_LOSS, "problems": [mlp()], "strategy/epochs_per_period": 40},
            ),
            "scale-hierarchical-meta-loss": ("scale-hierarchical-digits", META_LOSS),
            "scale-hierarchical-meta-loss-seed1": (
                "scale-hierarchical-digits",
                {**META_LOSS, "seed": 1},
            ),
        },
    ),
}


def command(name: str, run: Run) -> list[str]:
    """Returns the arguments of train.py for a run."""
    preset, options = run
    overrides = [f"{path}={json.dumps(value)}" for path, value in options.items()]
    return ["--preset", preset, *overrides, f"directory={RUNS / name}"]


def main() -> None:
    """Trains and evaluates all ablations."""
    for table, (suite, runs) in ABLATIONS.items():
        for name, run in runs.items():
            call("train.py", *command(name, run))
        given = [str(RUNS / name) for name in runs]
        call("evaluate.py", *given, "--suite", suite, "--output", str(TABLES / table))


if __name__ == "__main__":
    main()
