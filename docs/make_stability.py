"""Writes the table of diverged models to docs/reproduction.md: see `make reproduction`.

It trains for 1,000 steps and needs no baselines, which would have to be tuned.
"""

import sys

from make_reproduction import fill

import l2o
from l2o.evaluate import metrics, run, suites

STEPS, SEEDS = 1000, range(10)


def main(names: list[str]) -> None:
    """Trains models of the suite `generalization`, all for the same number of steps."""
    optimizers = {name: l2o.load(name) for name in names}
    rows = [["problem", *names], ["---"] * (1 + len(names))]
    for case in suites.generalization("base", {}, STEPS):
        if case.steps != STEPS:
            continue
        problem = suites.built(case)
        runs = [run(problem, optimizer, STEPS, SEEDS) for optimizer in optimizers.values()]
        rows.append([case.name, *map(_cell, runs)])
        print(*rows[-1], flush=True)
    fill({"stability": "\n".join(f"| {' | '.join(row)} |" for row in rows)})


def _cell(one: metrics.Run) -> str:
    diverged = metrics.diverged(one)
    worst = f"{one.train_loss[~diverged].max():.2g}" if not diverged.all() else "-"
    return f"{worst}, {diverged.sum()} diverged" if diverged.any() else worst


if __name__ == "__main__":
    main(sys.argv[1:])
