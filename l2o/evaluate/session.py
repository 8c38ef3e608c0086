"""An evaluation session: what evaluate.py and baseline.py do with their arguments."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from l2o.errors import UserError
from l2o.evaluate import plot, report
from l2o.evaluate.runs import best, run, sweep
from l2o.options import options_of
from l2o.problems import PROBLEMS, KerasProblem
from l2o.signals import stoppable
from l2o.train import RunDirectory, load
from l2o.train.build import problem_from
from l2o.train.keras_optimizers import KERAS_OPTIMIZERS
from l2o.train.progress import Live
from l2o.train.summary import Row

# Adam's grid; its best rate on the problem at hand is what the learned optimizer meets.
ADAM_RATES = (0.003, 0.01, 0.03, 0.1, 0.3)


@stoppable()
def evaluate(
    directory: str,
    problem_name: str,
    options: Mapping[str, Any],
    steps: int,
    seeds: int,
    period: int | None,
    stage: int | None = None,
) -> None:
    """Compares a run's optimizer with Adam; prints a table, writes JSON and a picture.

    Args:
        directory: What `l2o.load` takes: a run directory, a saved optimizer, or the name of
            one that comes with l2o.
        problem_name: A registered problem.
        options: The problem's options.
        steps: Training steps of each model.
        seeds: How many models each optimizer trains.
        period: Of a run: whose weights; None: those that validated best.
        stage: Of which stage; None: see `RunDirectory.find` [None].

    Raises:
        UserError: If the run, the period or the problem does not exist.
    """
    directory_run = RunDirectory(directory)
    optimizer = load(directory, period, stage)
    row = directory_run.find(period, stage) if directory_run.exists() else None
    problem = _keras_problem(problem_name, options)
    chosen = range(seeds)
    total = steps * seeds * (1 + len(ADAM_RATES))
    with Live() as progress:
        step = _counter(progress, total)
        runs = {optimizer.name: run(problem, optimizer, steps, chosen, on_steps=step("learned"))}
        adam = sweep(problem, "Adam", ADAM_RATES, steps, chosen, on_steps=step("Adam"))
    rate = best(adam)
    runs[f"Adam (learning rate {rate:g})"] = adam[rate]
    ratio = float(runs[optimizer.name].train_loss.mean() / adam[rate].train_loss.mean())
    title = _title(problem_name, options, steps, seeds)
    print(f"{title}\nweights of {_which(directory_run, row) if row else directory}")
    print(report.table(runs))
    print(f"mean training loss, learned / Adam at its best: {ratio:.2f}")
    target = directory_run.evaluation_path(problem_name)
    content = {
        "problem": problem_name,
        "options": dict(options),
        "steps": steps,
        "seeds": list(chosen),
        "stage": row and row.stage,
        "period": row and row.period,
        "ratio": ratio,
        "optimizers": {label: report.summary(r) for label, r in runs.items()},
        "adam_mean_train_loss": {f"{r:g}": adam[r].train_loss.mean() for r in adam},
        "losses": {label: r.losses.mean(0).tolist() for label, r in runs.items()},
    }
    _write(target, content, lambda path: plot.loss_curves(path, runs, title))
    print(f"next: python evaluate.py {directory} --problem {problem_name} activation=relu")


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
    """Sweeps the learning rate of a Keras optimizer; prints, writes, draws.

    Args:
        optimizer: Its Keras class name.
        problem_name: A registered problem.
        options: The problem's options.
        rates: The learning rates.
        steps: Training steps of each model.
        seeds: How many models each rate trains.
        output: JSON file; the picture lies beside it.

    Raises:
        UserError: If the optimizer or the problem does not exist, or no rate converges.
    """
    KERAS_OPTIMIZERS.find(optimizer, "--optimizer")
    problem = _keras_problem(problem_name, options)
    target = Path(output)
    if not target.parent.is_dir():
        raise UserError(f"--output: no directory {target.parent}")
    if target.exists() and not target.is_file():
        raise UserError(f"--output: {target} is not a file")
    chosen = range(seeds)
    with Live() as progress:
        step = _counter(progress, steps * seeds * len(rates))
        runs = sweep(problem, optimizer, rates, steps, chosen, on_steps=step(optimizer))
    rate = best(runs)
    title = _title(problem_name, options, steps, seeds)
    print(title)
    print(report.table({f"{optimizer} {r:g}{' *' if r == rate else ''}": runs[r] for r in rates}))
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
        "learning_rates": {f"{r:g}": report.summary(runs[r]) for r in rates},
    }
    _write(target, content, lambda path: plot.sweep_curve(path, runs, f"{optimizer} on {title}"))
    print("next: python evaluate.py weights/ --problem " + problem_name)


def _which(run: RunDirectory, row: Row) -> str:
    staged = f"stage {row.stage}, " if run.rows()[-1].stage else ""
    return f"{staged}period {row.period}"


def _keras_problem(name: str, options: Mapping[str, Any]) -> KerasProblem:
    problem = problem_from(name, options)
    if not isinstance(problem, KerasProblem):
        raise UserError(f"--problem: {name} is not a Keras model")
    return problem


def _title(name: str, options: Mapping[str, Any], steps: int, seeds: int) -> str:
    defaults = {k: o.default for k, o in options_of(PROBLEMS.find(name)).items()}
    shown = ("dataset", "layers", "activation", "batch_size")
    values = {k: options.get(k, v) for k, v in defaults.items() if k in shown or k in options}
    described = ", ".join(
        f"{k} {v if isinstance(v, str) else json.dumps(v)}" for k, v in values.items()
    )
    return f"{name}: {described}\n{steps} steps, {seeds} seeds"


def _counter(progress: Live, total: int) -> Callable[[str], Callable[[int, float], None]]:
    done = 0

    def named(label: str) -> Callable[[int, float], None]:
        def steps(count: int, loss: float) -> None:
            nonlocal done
            done += count
            progress.update(f"{label}, step {done} of {total}, loss {loss:.3f}", done / total)

        return steps

    return named


def _write(target: Path, content: Mapping[str, Any], draw: Callable[[Path], None]) -> None:
    try:
        report.write_json(target, content)
        picture = target.with_suffix(".png")
        draw(picture)
    except OSError as error:
        raise UserError(f"cannot write {target}: {os.strerror(error.errno or 0)}") from None
    print(f"{target} and {picture} are written")
