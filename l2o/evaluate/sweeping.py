"""A sweep of learning rates: the work of baseline.py."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from l2o.errors import UserError
from l2o.evaluate.evaluation import described
from l2o.evaluate.report import pictures, tables
from l2o.evaluate.runs import best, sweep
from l2o.evaluate.suites import Case, built, resolved
from l2o.keras_optimizers import KERAS_OPTIMIZERS
from l2o.progress import Live
from l2o.shell import step
from l2o.signals import stoppable


@stoppable()
def baseline(
    optimizer: str,
    problem_name: str,
    options: Mapping[str, Any],
    rates: Sequence[float],
    steps: int,
    seeds: int,
    output: str,
) -> None:
    """Sweeps the learning rate of a Keras optimizer; prints a table, writes JSON and a picture.

    Args:
        optimizer: Class name of the Keras optimizer.
        problem_name: A registered problem.
        options: Options of the problem.
        rates: The learning rates.
        steps: Training steps of each model.
        seeds: Number of models for each rate.
        output: JSON file; the picture is written beside it.

    Raises:
        UserError: If the optimizer or the problem does not exist, or no rate converges.
    """
    KERAS_OPTIMIZERS.find(optimizer, "--optimizer")
    case = resolved(Case(problem_name, problem_name, dict(options), steps))
    problem = built(case)
    target = Path(output)
    if not target.parent.is_dir():
        raise UserError(f"--output: no directory {target.parent}")
    if target.exists() and not target.is_file():
        raise UserError(f"--output: {target} is not a file")
    chosen = range(seeds)
    total, done = steps * seeds * len(rates), 0
    with Live() as progress:

        def told(count: int, loss: float) -> None:
            nonlocal done
            done += count
            progress.update(f"{optimizer}, step {done} of {total}, loss {loss:.3f}", done / total)

        runs = sweep(problem, optimizer, rates, steps, chosen, on_steps=told)
    rate = best(runs)
    count = f"{tables.counted(steps, 'step')}, {tables.counted(seeds, 'seed')}"
    title = f"{problem_name}: {described(case)}\n{count}"
    print(title)
    print(tables.table({f"{optimizer} {r:g}{' *' if r == rate else ''}": runs[r] for r in rates}))
    print(f"* best learning rate: {rate:g}")
    if rate in (rates[0], rates[-1]) and len(rates) > 1:
        print("  it is at the edge of the grid: a wider --learning-rates may find a better one")
    content = {
        "problem": problem_name,
        "options": dict(options),
        "optimizer": optimizer,
        "steps": steps,
        "seeds": list(chosen),
        "best": rate,
        "learning_rates": {f"{r:g}": tables.summary(runs[r]) for r in rates},
    }
    picture = target.with_suffix(".png")
    try:
        tables.write_json(target, content)
        pictures.sweep_curve(picture, runs, f"{optimizer} on {title}")
    except OSError as error:
        raise UserError(f"cannot write {target}: {os.strerror(error.errno or 0)}") from None
    print(f"{target} and {picture} are written")
    print(f"next: {step('evaluate', 'weights/', '--problem', problem_name)}")
