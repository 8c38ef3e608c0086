"""Trains variants of a recipe with several seeds, and compares them.

`python docs/make_variants.py [TABLE ...]` makes the tables of docs/amalgamation.md and
docs/papers-chen.md, and a picture of each. It can be stopped at any time: the same command goes on.
All tables but perturbations and curricula need MNIST, see docs/problems.md.
"""

from __future__ import annotations

import json
import math
import statistics
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from calling import call
from make_ablations import PLAIN_AND_SCALED, SCALED, mlp
from make_reproduction import Found, fill, markdown, of_suite, values

from l2o.evaluate.report import pictures, tables

DOCS, RUNS = Path(__file__).parent, Path("runs/variants")
# The runs of a variant.
SEEDS = 3

Options = dict[str, Any]

# The pools of the paper. Most have their best learning rate for the MLP of the recipes, from the
# grid of evaluations. RMSprop on digits has the next smaller value of the grid.
SMALL = {"Adam": 0.1, "RMSprop": 0.03}
SMALL_ON_MNIST = {"Adam": 0.03, "RMSprop": 0.03}
LARGE = {**SMALL, "SGD": 3.0, "Momentum": 1.0, "PowerSign": 1.0, "AddSign": 1.0}
# What Keras calls a member of a pool, and its options, where that differs.
IN_KERAS: dict[str, tuple[str, Options]] = {"Momentum": ("SGD", {"momentum": 0.9})}

SHARED: Options = {"problems": PLAIN_AND_SCALED, "training/teachers": [], "training/p_teacher": 0}


def falling(updates: int) -> Options:
    """Returns options of a meta-learning rate that ends at 0 after these updates."""
    rate = {"initial_learning_rate": 0.003, "decay_steps": updates}
    return {"optimizer/config/learning_rate": {"class_name": "CosineDecay", "config": rate}}


# 53,000 inner steps on digits, in 1,060 unrolls of 50.
SIX_PERIODS = {"strategy/num_periods": 6}
ON_DIGITS = {**SIX_PERIODS, **falling(1060)}
MNIST = {"dataset": "mnist", "batch_size": 128}
PLAIN_AND_SCALED_MNIST = [mlp(**MNIST), mlp(SCALED, **MNIST)]
# 9,400 inner steps on MNIST, in about 190 unrolls of 50.
ON_MNIST = {
    "problems": PLAIN_AND_SCALED_MNIST,
    "validation_problems": PLAIN_AND_SCALED_MNIST,
    "training/epochs": 1,
    "strategy/epochs_per_period": 5,
    "strategy/num_periods": 2,
    **falling(190),
}


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


def perturbed_by(kind: str) -> Options:
    """Returns options of a training with perturbed learned weights."""
    return {"training/perturbation/kind": kind}


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


def policy_and_students(
    pool: Mapping[str, float], seed: int, suffix: str = ""
) -> dict[str, Options]:
    """Returns the options of a pool's policy and of its three students by name.

    Args:
        pool: The teachers and their learning rates.
        seed: That of the policy which the student `choice` follows.
        suffix: What the names end with.
    """
    teachers = teachers_of(pool)
    # Runs are made in this order, and `choice` needs the policy.
    variants = {
        "policy": choice(pool),
        "mean": imitating(teachers),
        "min-max": imitating(teachers, "max"),
        "choice": following(f"policy{suffix}", seed),
    }
    return {f"{name}{suffix}": options for name, options in variants.items()}


def small_pool(seed: int) -> dict[str, Options]:
    """Returns the variants of a seed by name."""
    pool = policy_and_students(SMALL, seed)
    more = {
        "meta-loss": {},
        "mean-gaussian": {**pool["mean"], **perturbed_by("gaussian")},
        "choice-gaussian": {**pool["choice"], **perturbed_by("gaussian")},
    }
    return {name: {**ON_DIGITS, **options} for name, options in {**pool, **more}.items()}


def small_pool_mnist(seed: int) -> dict[str, Options]:
    """Returns the variants of a seed by name."""
    variants = {**policy_and_students(SMALL_ON_MNIST, seed, "-mnist"), "meta-loss-mnist": {}}
    return {name: {**ON_MNIST, **options} for name, options in variants.items()}


def perturbed(seed: int) -> dict[str, Options]:
    """Returns the variants of a seed by name."""
    min_max = small_pool(seed)["min-max"]
    kinds = ("gaussian", "relative", "sign_gradient", "projected_gradient")
    return {
        "min-max": min_max,
        **{f"min-max-{kind}": {**min_max, **perturbed_by(kind)} for kind in kinds},
    }


def large_pool(seed: int) -> dict[str, Options]:
    """Returns the variants of a seed by name."""
    variants = policy_and_students(LARGE, seed, "-large")
    return {name: {**ON_DIGITS, **options} for name, options in variants.items()}


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


def with_range(ratios: list[float]) -> str:
    """Returns the median, and in brackets the smallest and the largest."""
    low, middle, high = map(tables.short, (min(ratios), statistics.median(ratios), max(ratios)))
    return f"{middle} [{low}, {high}]"


def with_spread(ratios: list[float]) -> str:
    """Returns the median, and in brackets the standard deviation of the natural logarithms."""
    diverged = math.inf in ratios
    spread = math.inf if diverged else statistics.stdev(math.log(ratio) for ratio in ratios)
    return f"{tables.short(statistics.median(ratios))} ({tables.short(spread)})"


class Table(NamedTuple):
    """A table of a page.

    page: The page.
    variants: seed -> the options of its variants by name.
    alone: What is evaluated beside the suite `dm`: the name of a problem, and the arguments.
    options: Options of the problems in all evaluations.
    cell: The ratios of all runs of a variant -> what the table shows.
    """

    page: str
    variants: Callable[[int], dict[str, Options]]
    alone: dict[str, list[str]]
    options: tuple[str, ...] = ()
    cell: Callable[[list[float]], str] = with_range


OPTIONS_OF_MNIST = tuple(f"{name}={value}" for name, value in MNIST.items())
LONGER = {"base": ["--problem", "mlp_classifier", "--steps", "1000"]}
LONGER_AND_MNIST = {
    **LONGER,
    "MNIST": ["--problem", "mlp_classifier", *OPTIONS_OF_MNIST, "--steps", "100"],
}
TABLES = {
    "small-pool": Table("amalgamation", small_pool, LONGER_AND_MNIST),
    "small-pool-mnist": Table("amalgamation", small_pool_mnist, LONGER, OPTIONS_OF_MNIST),
    "large-pool": Table("amalgamation", large_pool, LONGER_AND_MNIST),
    "perturbations": Table("amalgamation", perturbed, LONGER, cell=with_spread),
    "curricula": Table("papers-chen", curricula, LONGER),
}


def command(options: Options, seed: int, directory: Path) -> list[str]:
    """Returns the arguments of train.py for a run."""
    whole = {**SHARED, **options, "seed": seed}
    overrides = [f"{path}={json.dumps(value)}" for path, value in whole.items()]
    return ["--preset", "rnnprop-digits", *overrides, f"directory={directory}"]


def evaluations(name: str) -> dict[Path, list[str]]:
    """Returns the arguments of evaluate.py by the folders of results, that of the suite first."""
    spec = TABLES[name]
    given = [
        str(RUNS / f"{variant}-{seed}") for variant in spec.variants(0) for seed in range(SEEDS)
    ]
    wanted = {"dm": ["--suite", "dm"], **spec.alone}
    folders = {RUNS / f"{name}-{part}": what for part, what in wanted.items()}
    return {
        folder: [*given, *what, *spec.options, "--output", str(folder)]
        for folder, what in folders.items()
    }


def results(name: str) -> dict[str, dict[str, list[float]]]:
    """Returns for each problem of a table, and each variant, the ratios of all seeds."""
    spec = TABLES[name]
    suite, *others = evaluations(name)
    first, *more = of_suite(suite, "dm")
    # The first problem is the MLP that all were trained on.
    found = [{**first, "name": "base"}, *more]
    for folder, problem in zip(others, spec.alone, strict=True):
        one: Found = json.loads((folder / "eval/mlp_classifier.json").read_text("utf-8"))
        found.append({**one, "name": problem})
    return {
        problem: {
            variant: [ratios[f"{variant}-{seed}"] for seed in range(SEEDS)]
            for variant in spec.variants(0)
        }
        for problem, ratios in values(found).items()
    }


def table(
    found: Mapping[str, Mapping[str, list[float]]],
    cell: Callable[[list[float]], str] = with_range,
) -> str:
    """Returns a table with a row for each variant.

    Args:
        found: For each problem, and each variant, the ratios of all seeds.
        cell: See `Table`.
    """
    head = ["variant", *(f"{problem} steps" for problem in found)]
    variants = next(iter(found.values()))
    rows = [[name, *(cell(ratios[name]) for ratios in found.values())] for name in variants]
    return markdown([head, *rows])


def main(*names: str) -> None:
    """Makes some tables or all."""
    if unknown := [name for name in names if name not in TABLES]:
        sys.exit(f"no table called {unknown[0]!r}; expected some of {', '.join(TABLES)}")
    for name in names or TABLES:
        for seed in range(SEEDS):
            for variant, options in TABLES[name].variants(seed).items():
                call("train.py", *command(options, seed, RUNS / f"{variant}-{seed}"))
        for given in evaluations(name).values():
            call("evaluate.py", *given)
        show(name)


def show(name: str) -> None:
    """Fills a table of its page with what is there, and draws it."""
    found = results(name)
    fill({name: table(found, TABLES[name].cell)}, DOCS / f"{TABLES[name].page}.md")
    variants = next(iter(found.values()))
    # A page is taller than wide: the variants go downwards.
    medians = {
        variant: {problem: statistics.median(of[variant]) for problem, of in found.items()}
        for variant in variants
    }
    pictures.ratios(DOCS / f"{name}.png", medians)


if __name__ == "__main__":
    main(*sys.argv[1:])
