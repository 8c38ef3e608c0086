"""Trains variants of a recipe with several seeds, and compares them.

`python docs/make_variants.py [PAGE]` makes the tables of docs/amalgamation.md and
docs/papers-chen.md. It can be stopped at any time: the same command goes on.
"""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from calling import call
from make_ablations import PLAIN_AND_SCALED
from make_reproduction import Found, fill, of_suite, values

DOCS, RUNS = Path(__file__).parent, Path("runs/variants")
LONG = 1000

Options = dict[str, Any]

# The small pool of the paper. Adam has its best learning rate for the MLP of the recipes.
POOL = {"Adam": 0.1, "RMSprop": 0.03}
TEACHERS = [{"class_name": k, "config": {"learning_rate": v}} for k, v in POOL.items()]
GAUSSIAN = {"training/perturbation/kind": "gaussian"}


# The meta-learning rate ends at 0 after 53,000 inner steps in unrolls of 50.
RATE = {"initial_learning_rate": 0.003, "decay_steps": 1060}
SHARED: Options = {
    "problems": PLAIN_AND_SCALED,
    "optimizer/config/learning_rate": {"class_name": "CosineDecay", "config": RATE},
    "training/teachers": [],
    "training/p_teacher": 0,
}


def imitating(teachers: list[Options], how: str = "mean_log") -> Options:
    """Returns options of a student that follows teachers in all unrolls."""
    return {
        "training/teachers": teachers,
        "training/p_teacher": 1,
        "training/strategy": how,
        "strategy/annealing_schedule": 0,
    }


CHOICE = {
    "constructor": "Choice",
    "network/pool": list(POOL),
    "network/rates": list(POOL.values()),
}
# 53,000 inner steps.
SIX_PERIODS = {"strategy/num_periods": 6}


def amalgamation(seed: int) -> dict[str, Options]:
    """Returns the variants of a seed by name; students of the policy follow that of their seed."""
    policy = [{"class_name": "l2o", "config": {"directory": str(RUNS / f"policy-{seed}")}}]
    variants = {
        "policy": CHOICE,
        "meta-loss": {},
        "mean": imitating(TEACHERS),
        "min-max": imitating(TEACHERS, "max"),
        "choice": imitating(policy),
        "mean-gaussian": {**imitating(TEACHERS), **GAUSSIAN},
        "choice-gaussian": {**imitating(policy), **GAUSSIAN},
    }
    return {name: {**SIX_PERIODS, **options} for name, options in variants.items()}


# Runs with other lengths of unrolls have other numbers of updates: no schedule is fair to all.
CONSTANT = {"optimizer/config/learning_rate": 0.001}
# Unrolls of 20 steps in all periods, or the lengths of a curriculum.
FIXED = {
    **SIX_PERIODS,
    "strategy/unroll_distribution": 20,
    "strategy/annealing_schedule": 0,
}
LENGTHS = {
    "strategy_constructor": "CurriculumLearning",
    "strategy": {"schedule": [20, 50, 100, 200], "min_periods": 1, "epochs_per_period": 20},
}
# In 3 of 10 unrolls.
HELPED = {"training/teachers": TEACHERS[:1], "training/p_teacher": 0.3}
WAYS: dict[str, Options] = {
    "neither": FIXED,
    "imitation": {**FIXED, **HELPED},
    "curriculum": LENGTHS,
    "both": {**LENGTHS, **HELPED},
}


def curricula(_: int) -> dict[str, Options]:
    """Returns both rules in all ways by name; they are the same for each seed."""
    return {
        f"{rule}-{way}": {"constructor": rule, **CONSTANT, **options}
        for rule in ("DM", "RNNProp")
        for way, options in WAYS.items()
    }


# For each page the variants of a seed, and the seeds.
PAGES: dict[str, tuple[Callable[[int], dict[str, Options]], range]] = {
    "amalgamation": (amalgamation, range(3)),
    "papers-chen": (curricula, range(1)),
}


def command(options: Options, seed: int, directory: Path) -> list[str]:
    """Returns the arguments of train.py for a run."""
    whole = {**SHARED, **options, "seed": seed}
    overrides = [f"{path}={json.dumps(value)}" for path, value in whole.items()]
    return ["--preset", "rnnprop-digits", *overrides, f"directory={directory}"]


def evaluations(page: str) -> dict[str, list[str]]:
    """Returns the arguments of evaluate.py for a page, by the folder of the results."""
    variants, seeds = PAGES[page]
    given = [str(RUNS / f"{variant}-{seed}") for variant in variants(0) for seed in seeds]
    long = ["--problem", "mlp_classifier", "--steps", str(LONG)]
    return {
        str(RUNS / page): [*given, "--suite", "dm"],
        str(RUNS / f"{page}-long"): [*given, *long],
    }


def results(page: str) -> dict[str, dict[str, float]]:
    """Returns for each problem of a page the ratio to the best baseline by run."""
    short, long = evaluations(page)
    path = Path(long) / "eval/mlp_classifier.json"
    one: Found = json.loads(path.read_text("utf-8"))
    first, *others = of_suite(short, "dm")
    # Both are the MLP that all were trained on.
    return values([{**first, "name": "base"}, *others, {**one, "name": "base"}])


def table(page: str) -> str:
    """Returns the table of a page: medians over seeds, with the smallest and the largest."""
    variants, seeds = PAGES[page]
    found = results(page)
    head = ["variant", *(f"{name} steps" for name in found)]
    rows = [
        [variant, *(_cell([row[f"{variant}-{seed}"] for seed in seeds]) for row in found.values())]
        for variant in variants(0)
    ]
    return "\n".join(f"| {' | '.join(row)} |" for row in [head, ["---"] * len(head), *rows])


def _cell(ratios: list[float]) -> str:
    low, middle, high = (
        f"{value:.2f}" if value < 100 else f"{value:,.0f}"
        for value in (min(ratios), statistics.median(ratios), max(ratios))
    )
    return f"{middle} [{low}, {high}]" if len(ratios) > 1 else middle


def main(name: str | None = None) -> None:
    """Makes one page or both."""
    if name is not None and name not in PAGES:
        sys.exit(f"no page called {name!r}; expected one of {', '.join(PAGES)}")
    for page in [name] if name else PAGES:
        variants, seeds = PAGES[page]
        for seed in seeds:
            for variant, options in variants(seed).items():
                call("train.py", *command(options, seed, RUNS / f"{variant}-{seed}"))
        for folder, given in evaluations(page).items():
            call("evaluate.py", *given, "--output", folder)
        fill({"variants": table(page)}, DOCS / f"{page}.md")


if __name__ == "__main__":
    main(*sys.argv[1:])
