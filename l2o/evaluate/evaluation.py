"""The request and the results of an evaluation."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from l2o.evaluate.comparison import Comparison
from l2o.evaluate.probe import Probe
from l2o.evaluate.protocol import Protocol, protocol_of
from l2o.evaluate.report import tables
from l2o.evaluate.suites import Case
from l2o.optimizer import TrainableOptimizer
from l2o.options import options_of
from l2o.problems import PROBLEMS
from l2o.shell import is_json, operand, step
from l2o.train import RunDirectory
from l2o.train.runs.summary import Row


class Request(NamedTuple):
    """The arguments of an evaluation.

    given: The optimizers, each in a form that `l2o.load` accepts: a run directory, a saved
        optimizer, or the name of an optimizer that comes with l2o.
    problems: Registered problems, separated by commas; None: those of the suite.
    suite: A registered suite; None: no suite. Without both, the problem is mlp_classifier.
    options: Options of each problem; with a suite, of the problem that it starts from.
    steps: Training steps of each model.
    seeds: Number of models that each optimizer trains.
    period: The period of runs whose weights are taken; None: the best one.
    stage: The stage of that period; None: see `RunDirectory.find`.
    target: Count the steps to this loss; None: to the final loss of the best baseline.
    output: The directory for the report; None: the first of `given`.
    protocol, baselines, schedule, tune_learned, tuning_seeds, tuned_for, tune_weight_decay: See
        `protocol_of`.
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
    protocol: str | None = None
    baselines: str | None = None
    schedule: str | None = None
    tune_learned: bool | None = None
    tuning_seeds: int | None = None
    tuned_for: str | None = None
    tune_weight_decay: bool | None = None

    def chosen(self) -> Protocol:
        """Returns how optimizers are made comparable."""
        return protocol_of(
            self.protocol,
            self.baselines,
            self.schedule,
            self.tune_learned,
            self.tuning_seeds,
            self.tuned_for,
            self.tune_weight_decay,
        )

    def operands(self) -> list[str]:
        """Returns the optimizers as arguments of a command."""
        return [operand(text) for text in self.given]

    def command(self) -> str:
        """Returns the command that makes the same request."""
        flags = {
            "--problem": self.problems,
            "--suite": self.suite,
            "--steps": self.steps,
            "--seeds": self.seeds,
            "--period": self.period,
            "--stage": self.stage,
            "--target": self.target,
            "--output": None if self.output is None else operand(self.output),
            "--protocol": self.protocol,
            "--baselines": self.baselines,
            "--schedule": self.schedule,
            "--tuning-seeds": self.tuning_seeds,
            "--tune-for": self.tuned_for,
        }
        words = self.operands()
        if self.tune_learned is not None:
            words.append("--tune-learned" if self.tune_learned else "--no-tune-learned")
        words += ["--tune-weight-decay"] if self.tune_weight_decay else []
        for flag, value in flags.items():
            words += [] if value is None else [flag, str(value)]
        for key, value in self.options.items():
            plain = isinstance(value, str) and not is_json(value)
            text = value if plain else json.dumps(value, separators=(",", ":"))
            words.append(f"{key}={text}")
        return step("evaluate", *words)


class Learned(NamedTuple):
    """An optimizer that is evaluated.

    given: The argument that named it.
    optimizer: The loaded optimizer.
    run: Its directory, which may hold no run.
    row: The row of the period whose weights it has; None if it is not from a run.
    """

    given: str
    optimizer: TrainableOptimizer
    run: RunDirectory
    row: Row | None

    def weights(self) -> str:
        """Returns the origin of its weights, in words."""
        kind = type(self.optimizer).__name__.removesuffix("Optimizer")
        if self.row is None:
            return f"{kind}, as saved"
        staged = f"stage {self.row.stage}, " if self.run.rows()[-1].stage else ""
        return f"{kind}, {staged}period {self.row.period}"


class Evaluation(NamedTuple):
    """The results of an evaluation.

    request: The request.
    place: The directory for the results.
    learned: The learned optimizers by label.
    found: A comparison for each problem.
    probes: The updates of each learned optimizer on the first problem, by label.
    left_out: For each problem of the suite that cannot be built, the reason.
    """

    request: Request
    place: RunDirectory
    learned: dict[str, Learned]
    found: list[Comparison]
    probes: dict[str, Probe]
    left_out: list[str]

    @property
    def name(self) -> str:
        """The name in file names."""
        if self.request.suite:
            return self.request.suite
        return self.found[0].case.name if len(self.found) == 1 else "comparison"

    def overview(self, measure: str = "train_loss") -> list[list[str]]:
        """Returns a table of ratios, a row for each problem that has the loss.

        Args:
            measure: "train_loss" or "test_loss" ["train_loss"].
        """
        rows = [["problem", "steps", *self.learned, "best baseline"]]
        for one in self.measured(measure):
            ratios = [tables.ratio_text(one.ratio(label, measure)) for label in one.learned]
            best = one.best if measure == "train_loss" else one.best_by(measure)
            loss = getattr(one.baselines[best].run, measure).mean()
            rows.append([one.case.name, f"{one.case.steps:,}", *ratios, f"{best}: {loss:.3g}"])
        return rows

    def measured(self, measure: str) -> list[Comparison]:
        """Returns the comparisons whose problem has a loss, "train_loss" or "test_loss"."""
        return [one for one in self.found if measure in one.losses()]


def described(case: Case) -> str:
    """Returns the options of a problem that are shown or not the defaults, in words."""
    shown = ("dataset", "layers", "activation", "batch_size")
    usual = {k: o.default for k, o in options_of(PROBLEMS.find(case.target)).items()}
    parts = []
    for key, value in case.kwargs.items():
        if key in shown or value != usual[key]:
            text = ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else value
            parts.append(f"{key} {text}")
    return ", ".join(parts) or "as by default"


def titled(one: Comparison) -> str:
    """Returns the title of a comparison."""
    return f"{one.case.name}, {tables.counted(one.case.steps, 'step')}"
