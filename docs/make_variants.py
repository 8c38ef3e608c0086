"""Trains variants of a recipe with several seeds, and compares them.

`python docs/make_variants.py [TABLE ...]` makes the tables of docs/amalgamation.md and
docs/papers-chen.md, and a picture of each. It can be stopped at any time: the same command goes on.
The table large-pool needs MNIST, see docs/problems.md.
"""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from calling import call
from make_ablations import PLAIN_AND_SCALED
from make_reproduction import Found, fill, markdown, of_suite, values

from l2o.evaluate.report import pictures, tables

DOCS, RUNS = Path(__file__).parent, Path("runs/variants")
SEEDS = range(3)

Options = dict[str, Any]

# The pools of the paper. Most have their best learning rate for the MLP of the recipes, from the
# grid of evaluations; that of RMSprop is the one below it.
SMALL = {"Adam": 0.1, "RMSprop": 0.03}
LARGE = {**SMALL, "SGD": 3.0, "Momentum": 1.0, "PowerSign": 1.0, "AddSign": 1.0}
# What Keras calls a member of a pool, and its options, where that differs.
IN_KERAS: dict[str, tuple[str, Options]] = {"Momentum": ("SGD", {"momentum": 0.9})}

# The meta-learning rate ends at 0 after 53,000 inner steps in unrolls of 50.
RATE = {"initial_learning_rate": 0.003, "decay_steps": 1060}
SHARED: Options = {
    "problems": PLAIN_AND_SCALED,
    "optimizer/config/learning_rate": {"class_name": "CosineDecay", "config": RATE},
    "training/teachers": [],
    "training/p_teacher": 0,
}
# 53,000 inner steps.
SIX_PERIODS = {"strategy/num_periods": 6}


def teachers_of(pool: Mapping[str, float]) -> list[Options]:
    """Returns the members of a pool as teachers."""
    return [
        {"class_name": kind, "config": {"learning_rate": rate, **more}}
        for name, rate in pool.items()
        for kind, more in [IN_KERAS.get(name, (name, {}))]
    ]


def imitating(teachers: list[Options], how: str = "mean_log") -> Options:
    """Returns options of a student that follows teachers in all unrolls."""
    return {
        "training/teachers": teachers,
        "training/p_teacher": 1,
        "training/strategy": how,
        "strategy/annealing_schedule": 0,
    }


def following(policy: str, seed: int) -> Options:
    """Returns options of a student that follows the policy of its seed."""
    directory = str(RUNS / f"{policy}-{seed}")
    return imitating([{"class_name": "l2o", "config": {"directory": directory}}])


def choice(pool: Mapping[str, float]) -> Options:
    """Returns options of a policy that mixes a pool."""
    return {
        "constructor": "Choice",
        "network/pool": list(pool),
        "network/rates": list(pool.values()),
    }


# In all that follows a policy stands before its students, which need it.
def small_pool(seed: int) -> dict[str, Options]:
    """Returns the variants of a seed by name."""
    teachers, student = teachers_of(SMALL), following("policy", seed)
    gaussian = {"training/perturbation/kind": "gaussian"}
    variants = {
        "policy": choice(SMALL),
        "meta-loss": {},
        "mean": imitating(teachers),
        "min-max": imitating(teachers, "max"),
        "choice": student,
        "mean-gaussian": {**imitating(teachers), **gaussian},
        "choice-gaussian": {**student, **gaussian},
    }
    return {name: {**SIX_PERIODS, **options} for name, options in variants.items()}


def large_pool(seed: int) -> dict[str, Options]:
    """Returns the variants of a seed by name."""
    teachers = teachers_of(LARGE)
    variants = {
        "policy-large": choice(LARGE),
        "mean-large": imitating(teachers),
        "min-max-large": imitating(teachers, "max"),
        "choice-large": following("policy-large", seed),
    }
    return {name: {**SIX_PERIODS, **options} for name, options in variants.items()}


# Runs with other lengths of unrolls have other numbers of updates: no schedule is fair to all.
CONSTANT = {"optimizer/config/learning_rate": 0.001}


def fixed(steps: int) -> Options:
    """Returns options of a training whose unrolls have a mean length that stays the same."""
    unrolls = {"strategy/unroll_distribution": steps, "strategy/annealing_schedule": 0}
    return {**SIX_PERIODS, **unrolls}


LENGTHS = {
    "strategy_constructor": "CurriculumLearning",
    "strategy": {"schedule": [20, 50, 100, 200], "min_periods": 1, "epochs_per_period": 20},
}
# In 3 of 10 unrolls.
HELPED = {"training/teachers": teachers_of({"Adam": 0.1}), "training/p_teacher": 0.3}
WAYS: dict[str, Options] = {
    "neither": fixed(20),
    "long": fixed(200),
    "imitation": {**fixed(20), **HELPED},
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


class Table(NamedTuple):
    """A table of a page.

    page: The page.
    variants: seed -> the options of its variants by name.
    alone: What is evaluated beside the suite `dm`: the name of a problem, and the arguments.
    """

    page: str
    variants: Callable[[int], dict[str, Options]]
    alone: dict[str, list[str]]


LONGER = ["--problem", "mlp_classifier", "--steps", "1000"]
MNIST = ["--problem", "mlp_classifier", "dataset=mnist", "batch_size=128", "--steps", "100"]
TABLES = {
    "small-pool": Table("amalgamation", small_pool, {"base": LONGER}),
    "large-pool": Table("amalgamation", large_pool, {"base": LONGER, "MNIST": MNIST}),
    "curricula": Table("papers-chen", curricula, {"base": LONGER}),
}


def command(options: Options, seed: int, directory: Path) -> list[str]:
    """Returns the arguments of train.py for a run."""
    whole = {**SHARED, **options, "seed": seed}
    overrides = [f"{path}={json.dumps(value)}" for path, value in whole.items()]
    return ["--preset", "rnnprop-digits", *overrides, f"directory={directory}"]


def evaluations(name: str) -> dict[Path, list[str]]:
    """Returns the arguments of evaluate.py by the folders of results, that of the suite first."""
    variants = TABLES[name].variants(0)
    given = [str(RUNS / f"{variant}-{seed}") for variant in variants for seed in SEEDS]
    wanted = {"dm": ["--suite", "dm"], **TABLES[name].alone}
    folders = {RUNS / f"{name}-{part}": what for part, what in wanted.items()}
    return {folder: [*given, *what, "--output", str(folder)] for folder, what in folders.items()}


def results(name: str) -> dict[str, dict[str, list[float]]]:
    """Returns for each problem of a table, and each variant, the ratios of all seeds."""
    suite, *others = evaluations(name)
    first, *more = of_suite(suite, "dm")
    # The first problem is the MLP that all were trained on.
    found = [{**first, "name": "base"}, *more]
    for folder, problem in zip(others, TABLES[name].alone, strict=True):
        one: Found = json.loads((folder / "eval/mlp_classifier.json").read_text("utf-8"))
        found.append({**one, "name": problem})
    return {
        problem: {
            variant: [ratios[f"{variant}-{seed}"] for seed in SEEDS]
            for variant in TABLES[name].variants(0)
        }
        for problem, ratios in values(found).items()
    }


def table(found: Mapping[str, Mapping[str, list[float]]]) -> str:
    """Returns a table of medians over seeds, with the smallest and the largest.

    Args:
        found: For each problem, and each variant, the ratios of all seeds.
    """
    head = ["variant", *(f"{problem} steps" for problem in found)]
    variants = next(iter(found.values()))
    rows = [[name, *(_cell(ratios[name]) for ratios in found.values())] for name in variants]
    return markdown([head, *rows])


def _cell(ratios: list[float]) -> str:
    low, middle, high = map(tables.short, (min(ratios), statistics.median(ratios), max(ratios)))
    return f"{middle} [{low}, {high}]"


def main(*names: str) -> None:
    """Makes some tables or all."""
    if unknown := [name for name in names if name not in TABLES]:
        sys.exit(f"no table called {unknown[0]!r}; expected some of {', '.join(TABLES)}")
    for name in names or TABLES:
        for seed in SEEDS:
            for variant, options in TABLES[name].variants(seed).items():
                call("train.py", *command(options, seed, RUNS / f"{variant}-{seed}"))
        for given in evaluations(name).values():
            call("evaluate.py", *given)
        show(name)


def show(name: str) -> None:
    """Fills a table of its page with what is there, and draws it."""
    found = results(name)
    fill({name: table(found)}, DOCS / f"{TABLES[name].page}.md")
    variants = next(iter(found.values()))
    # A page is taller than wide: the variants go downwards.
    medians = {
        variant: {problem: statistics.median(of[variant]) for problem, of in found.items()}
        for variant in variants
    }
    pictures.ratios(DOCS / f"{name}.png", medians)


if __name__ == "__main__":
    main(*sys.argv[1:])
