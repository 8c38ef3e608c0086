"""An evaluation session: the work of evaluate.py."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from l2o.disk.caching import cache_folder
from l2o.errors import UserError
from l2o.evaluate.baselines import BASELINES
from l2o.evaluate.cache import Cache
from l2o.evaluate.comparison import compare, probed, tuning_of
from l2o.evaluate.evaluation import Evaluation, Learned, Request, described
from l2o.evaluate.protocol import Protocol
from l2o.evaluate.report import tables
from l2o.evaluate.report.writing import write
from l2o.evaluate.suites import FIXED, SUITES, Case, resolved
from l2o.evaluate.suites import built as built_problem
from l2o.optimizer import hub
from l2o.problems import PROBLEMS, Problem
from l2o.progress import Live
from l2o.shell import step
from l2o.signals import stoppable
from l2o.train import RunDirectory, load
from l2o.train.families import members_of
from l2o.train.resolve import resolve_config

# Compiling for a problem takes about as long as this number of steps.
OVERHEAD = 600
KEPT = "finished results are cached: the same command resumes the evaluation"


@stoppable(lambda: KEPT)
def evaluate(request: Request) -> None:
    """Compares optimizers with tuned baselines; prints tables, writes results and a report.

    Args:
        request: The request.

    Raises:
        UserError: If an optimizer, a period, a problem, a suite or a part of the protocol does
            not exist, or something cannot be written.
    """
    protocol = request.chosen()
    learned = _load_all(request)
    built, left_out = _built(request, next(iter(learned.values())))
    place = RunDirectory(_place(request.given[0]) if request.output is None else request.output)
    # Made now, so that an error comes before the work.
    place.evaluation_path("")
    cache = Cache(cache_folder())
    optimizers = {label: one.optimizer for label, one in learned.items()}
    models = _models(request.seeds, len(learned), protocol)
    found = []
    with Live() as progress:
        for i, (case, problem) in enumerate(built):
            told = _teller(progress, [case for case, _ in built], i, models)
            found.append(
                compare(
                    case, problem, optimizers, request.seeds, cache, request.target, told, protocol
                )
            )
        probes = {label: probed(*built[0], o, cache) for label, o in optimizers.items()}
    for label, one in learned.items():
        print(f"{label}: {one.weights()}")
    evaluation = Evaluation(request, place, learned, found, probes, left_out)
    print("\n".join(_printed(evaluation)))
    if cache.failure:
        print(cache.failure)
    write(evaluation)
    print(f"{place.path / 'report.html'} is written; numbers and pictures: {place.path / 'eval'}")
    more = ["--problem", "conv_classifier"] if request.suite else ["--suite", "generalization"]
    print(f"next: {step('evaluate', *request.operands(), *more)}")


def _load_all(request: Request) -> dict[str, Learned]:
    """Returns optimizers by label: the last part of the path, or all of it to tell two apart."""
    given, (period, stage) = request.given, (request.period, request.stage)
    # A path may have bytes that are not text.
    paths = [
        text
        if hub.is_address(text)
        else os.fsencode(os.path.normpath(text)).decode(errors="replace")
        for text in given
    ]
    names = [
        _place(text) if hub.is_address(text) else Path(path).absolute().name or path
        for text, path in zip(given, paths, strict=True)
    ]
    learned: dict[str, Learned] = {}
    for text, path, short in zip(given, paths, names, strict=True):
        label = short if names.count(short) == 1 else path
        if label.split(" ")[0] in BASELINES.entries:
            label = f"learned {label}"
        if label in learned:
            raise UserError(f"{text} is given twice")
        run = RunDirectory(text)
        optimizer = load(text, period, stage)
        row = run.find(period, stage) if not hub.is_address(text) and run.exists() else None
        learned[label] = Learned(text, optimizer, run, row)
    return learned


def _place(given: str) -> str:
    """Returns where to write what is found of an optimizer: where it is, or here."""
    return hub.name_of(given) if hub.is_address(given) else given


def _built(request: Request, first: Learned) -> tuple[list[tuple[Case, Problem]], list[str]]:
    """Returns the problems, and the reason for each problem of a suite that cannot be built."""
    options, steps = request.options, request.steps

    def problem_of(case: Case, alone: bool) -> Problem:
        try:
            problem = built_problem(case)
            # So that its errors come before the work.
            tuning_of(problem, request.chosen())
        except UserError as error:
            where = error.path if alone else f"{case.name}: {error.path}"
            raise UserError(error.message, where) from None
        return problem

    if request.suite is None:
        names = ["mlp_classifier"] if request.problems is None else request.problems.split(",")
        for name in names:
            PROBLEMS.find(name, "--problem")
        if len(set(names)) < len(names):
            raise UserError(f"expected each problem once; got {request.problems}", "--problem")
        cases = [resolved(Case(name, name, dict(options), steps)) for name in names]
        return [(case, problem_of(case, len(cases) == 1)) for case in cases], []
    if request.problems is not None:
        raise UserError("expected either --problem or --suite", "--suite")
    make = SUITES.find(request.suite, "--suite")
    built: list[tuple[Case, Problem]] = []
    left_out: list[str] = []
    if request.suite in FIXED:
        if options:
            raise UserError(f"its problems have no options; got {', '.join(options)}", "--suite")
        cases = list(make(request.suite, {}, steps))
    else:
        trained_on = _trained_on(first)
        name = "base" if trained_on is None or options else "training"
        kwargs = {**(trained_on or {}), **options}
        base = resolved(Case(name, "mlp_classifier", kwargs, steps))
        # First, so that a wrong option is an error.
        built.append((base, problem_of(base, alone=True)))
        cases = list(make(name, kwargs, steps)[1:])
    for case in map(resolved, cases):
        try:
            built.append((case, problem_of(case, alone=False)))
        except UserError as error:
            left_out.append(f"left out: {error}")
    return built, left_out


def _trained_on(learned: Learned) -> dict[str, Any] | None:
    """Returns the options of the first mlp_classifier among the training problems of a run."""
    if learned.row is None:
        return None
    config = resolve_config(learned.run.read_config())
    for _, spec in members_of(config, "problems"):
        if spec["target"] == "mlp_classifier":
            return dict(spec["kwargs"])
    return None


def _models(seeds: int, learned: int, protocol: Protocol) -> int:
    """Returns about how many models are trained on a problem."""
    grids = sum(len(one.weight_decays) or 1 for one in protocol.chosen())
    grids += learned * protocol.tune_learned * len(protocol.learned_decays())
    scored = learned + len(protocol.baselines)
    # Most grids of five rates grow once.
    return seeds * scored + 6 * (protocol.tuning_seeds or seeds) * grids


def _teller(
    progress: Live, cases: Sequence[Case], i: int, models: int
) -> Callable[[str, int, float], None]:
    """Returns a function that shows the progress of the i-th case."""
    # Each group of models is compiled, so a problem takes longer than its steps.
    sizes = [OVERHEAD + case.steps for case in cases]
    which = f"{cases[i].name} ({i + 1} of {len(cases)})" if len(cases) > 1 else cases[i].name
    done = 0

    def told(label: str, count: int, loss: float) -> None:
        nonlocal done
        done += count
        # A grid that grows takes more steps than expected.
        share = min(done / (models * cases[i].steps), 1.0)
        whole = (sum(sizes[:i]) + share * sizes[i]) / sum(sizes)
        progress.update(f"{which}, {label}, loss {loss:.3g}", whole)

    return told


def _printed(evaluation: Evaluation) -> list[str]:
    found, seeds = evaluation.found, tables.counted(evaluation.request.seeds, "seed")
    if len(found) > 1:
        tested = []
        if evaluation.measured("test_loss"):
            overview = evaluation.overview("test_loss")
            tested = ["mean test loss / that of the best baseline", tables.aligned(overview)]
        return [
            *evaluation.left_out,
            f"mean training loss / that of the best baseline [95 %], {seeds}",
            tables.aligned(evaluation.overview()),
            *tested,
            tables.aligned(tables.overall(found)),
        ]
    (one,) = found
    return [
        f"{one.case.target}: {described(one.case)}",
        f"{tables.counted(one.case.steps, 'step')}, {seeds}",
        tables.aligned(tables.rows(one, brief=True)),
    ]
