"""What evaluate.py was asked, and what it found."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from l2o.evaluate.comparison import Comparison
from l2o.evaluate.probe import Probe
from l2o.evaluate.report import tables
from l2o.evaluate.suites import Case
from l2o.optimizer import TrainableOptimizer
from l2o.options import options_of
from l2o.problems import PROBLEMS
from l2o.shell import command, is_json, operand
from l2o.train import RunDirectory
from l2o.train.runs.summary import Row


class Request(NamedTuple):
    """What is asked for.

    given: Each what `l2o.load` takes: a run directory, a saved optimizer, or the name of one
        that comes with l2o.
    problems: Registered problems, separated by commas; None: see `suite`.
    suite: A registered suite; None, without problems: mlp_classifier.
    options: Of each problem; of a suite, of the problem it starts from.
    steps: Training steps of each model.
    seeds: How many models each optimizer trains.
    period: Of runs: whose weights; None: those that validated best.
    stage: Of which stage; None: see `RunDirectory.find`.
    target: A loss whose steps are counted; None: what the best baseline reaches.
    output: The directory that gets the report; None: the first of `given`.
    """

    given: Sequence[str]
    problems: str | None = None
    suite: str | None = None
    options: Mapping[str, Any] = {}
    steps: int = 100
    seeds: int = 10
    period: int | None = None
    stage: int | None = None
    target: float | None = None
    output: str | None = None

    def operands(self) -> list[str]:
        """Returns what is evaluated, as arguments of a command."""
        return [operand(text) for text in self.given]

    def command(self) -> str:
        """Returns the command that asks for the same."""
        flags = {
            "--problem": self.problems,
            "--suite": self.suite,
            "--steps": self.steps,
            "--seeds": self.seeds,
            "--period": self.period,
            "--stage": self.stage,
            "--target": self.target,
            "--output": None if self.output is None else operand(self.output),
        }
        words = ["python", "evaluate.py", *self.operands()]
        for flag, value in flags.items():
            words += [] if value is None else [flag, str(value)]
        for key, value in self.options.items():
            plain = isinstance(value, str) and not is_json(value)
            text = value if plain else json.dumps(value, separators=(",", ":"))
            words.append(f"{key}={text}")
        return command(*words)


class Learned(NamedTuple):
    """An optimizer that is evaluated.

    given: What the user called it.
    optimizer: Loaded.
    run: Its directory; it may hold no run.
    row: Of the period whose weights it has; None: it is not from a run.
    """

    given: str
    optimizer: TrainableOptimizer
    run: RunDirectory
    row: Row | None

    def weights(self) -> str:
        """Returns which weights it has, in words."""
        kind = type(self.optimizer).__name__.removesuffix("Optimizer")
        if self.row is None:
            return f"{kind}, as saved"
        staged = f"stage {self.row.stage}, " if self.run.rows()[-1].stage else ""
        return f"{kind}, {staged}period {self.row.period}"


class Evaluation(NamedTuple):
    """What was found.

    request: What was asked for.
    place: Where it is written.
    learned: The optimizers by label.
    found: A comparison for each problem.
    probes: What each optimizer does on the first problem, by label.
    left_out: Which problems of the suite cannot be built, and why.
    """

    request: Request
    place: RunDirectory
    learned: dict[str, Learned]
    found: list[Comparison]
    probes: dict[str, Probe]
    left_out: list[str]

    @property
    def name(self) -> str:
        """Its name in files."""
        if self.request.suite:
            return self.request.suite
        return self.found[0].case.name if len(self.found) == 1 else "comparison"

    def overview(self) -> list[list[str]]:
        """Returns a table of ratios, a row for each problem."""
        rows = [["problem", "steps", *self.learned, "best baseline"]]
        for one in self.found:
            ratios = [tables.ratio_text(one.ratio(label)) for label in one.learned]
            loss = one.baselines[one.best].run.train_loss.mean()
            rows.append([one.case.name, f"{one.case.steps:,}", *ratios, f"{one.best}: {loss:.3g}"])
        return rows


def described(case: Case) -> str:
    """Returns what is special about a problem, in words."""
    shown = ("dataset", "layers", "activation", "batch_size")
    usual = {k: o.default for k, o in options_of(PROBLEMS.find(case.target)).items()}
    parts = []
    for key, value in case.kwargs.items():
        if key in shown or value != usual[key]:
            text = ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else value
            parts.append(f"{key} {text}")
    return ", ".join(parts) or "as by default"


def titled(one: Comparison) -> str:
    """Returns the title of what is said about a comparison."""
    return f"{one.case.name}, {tables.counted(one.case.steps, 'step')}"
