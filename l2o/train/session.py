"""A training session: what train.py and resume.py do with a config."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

from l2o.optimizer import TrainableOptimizer
from l2o.progress import Live
from l2o.shell import command, operand, step
from l2o.signals import stoppable
from l2o.train.build import build_strategy, build_training, with_teachers_recorded
from l2o.train.distributed.cluster import join
from l2o.train.distributed.devices import Replicas
from l2o.train.families import DRAWS
from l2o.train.resolve import resolve_config, top_option
from l2o.train.runner import Runner
from l2o.train.runs.board import FOLDER, Board
from l2o.train.runs.claim import Claim
from l2o.train.runs.differences import differing
from l2o.train.runs.directory import SHA256, SOURCE, RunDirectory
from l2o.train.sources import has_changed, other_options, read_initial


def start(
    given: Any,
    read: Mapping[str, Any] | None = None,
    initialize: bool = False,
    tensorboard: bool = False,
) -> None:
    """Starts a run, or goes on where it stopped; prints what to type next.

    Args:
        given: The user's config, not resolved; names the run's directory.
        read: The config that `given` changes, as it was read from that directory; None: a run
            that is there must have the same config as `given` [None].
        initialize: Write config.json and stop [False].
        tensorboard: Write event files for it too [False].

    Raises:
        UserError: If the config is wrong or something cannot be built (then nothing is
            written), another process writes the directory, or the directory holds a run with
            another config.
        LostWorkerError: If another process of the run has died.
    """
    # Workers join before the config is checked: one with a wrong config then ends the others,
    # which would wait for it otherwise.
    distribute = top_option(given, "distribute")
    run = RunDirectory(top_option(given, "directory"))
    # TensorFlow waits for other workers in C++, where Python does not see Ctrl-C: leave it to the
    # operating system.
    interrupt = signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        replicas = Replicas() if initialize else join(distribute, _say)
    finally:
        signal.signal(signal.SIGINT, interrupt)

    def farewell() -> str:
        if replicas.processes > 1:
            return "finished periods are kept: start all workers again to go on"
        if not run.exists():
            return "nothing was written"
        go_on = step("resume", operand(run.path))
        return f"finished periods are kept; go on with: {go_on}"

    # Comes after TensorFlow's own handler, which would let the others go on without this worker.
    with stoppable(farewell), replicas.lost_workers_reported(), ExitStack() as stack:
        config = resolve_config(given)
        replicas.check_same(config, differing)
        config = with_teachers_recorded(config, replicas)
        claim = Claim(config, run, read, resolve_config)
        _go_on(config, claim, replicas, initialize, tensorboard, stack)


def _go_on(
    config: Mapping[str, Any],
    claim: Claim,
    replicas: Replicas,
    stop: bool,
    tensorboard: bool,
    stack: ExitStack,
) -> None:
    run = claim.run
    replicas.from_chief(lambda: claim.check(stack))
    training = build_training(config, replicas, lambda: claim.read_initial(read_initial))
    runner = Runner(training, build_strategy(config), run, config["seed"])
    board = Board(run.path, training.optimizer.network) if tensorboard else None
    replicas.from_chief(lambda: claim.take(stack, runner.strategy))
    if stop:
        go_on = step("resume", operand(run.path))
        print(f"{run.config_path} is written; next: {go_on}")
        return
    before = runner.restore()
    if not replicas.is_chief:
        _say(f"worker {replicas.index} of {replicas.processes}: worker 0 reports the progress")
        runner.train()
        return
    print(
        f"{config['constructor']} on {_names(config)}, {config['strategy_constructor']} strategy"
        f"{_shared(replicas)}"
    )
    for line in _initial_weights(claim, training.optimizer):
        print(line)
    if before:
        print(f"going on after {len(before)} periods in {run.path}")
    if board:
        board.begin(before)
    if missing := len(run.rows()) - len(before):
        print(f"the checkpoints of the last {missing} periods are missing: training them again")
    with Live() as progress:
        runner.train(progress, board.period if board else None)
    best = run.best()
    staged = f"stage {best.stage}, " if run.rows()[-1].stage else ""
    print(f"best: {staged}period {best.period}, validation loss {best.validation_loss:.4f}")
    if board:
        print(f"curves: {command('tensorboard', '--logdir', operand(run.path / FOLDER))}")
    targets = [spec["target"] for spec in config["problems"]]
    # Suggest the problem that it was trained on, if evaluate.py can use it.
    problem = next((t for t in targets if t.endswith("_classifier")), "mlp_classifier")
    words = (operand(run.path), "--problem", problem)
    print(f"next: {step('evaluate', *words)}")


def _initial_weights(claim: Claim, optimizer: TrainableOptimizer) -> list[str]:
    """Returns what to tell of the learned weights that a run starts from."""
    source, lines = claim.config[SOURCE], []
    if claim.initial:
        about, options = claim.initial.about, other_options(optimizer, claim.initial)
        line = f"initial weights: those of {source}{f' ({about})' if about else ''}"
        lines.append(f"{line}; they were trained with {options}" if options else line)
    if claim.has_recorded:
        path = claim.run.initial_path(claim.config[SHA256])
        if has_changed(claim.config):
            lines.append(f"{source} has other learned weights now; this run keeps to {path}")
    return lines


def _say(text: str) -> None:
    print(text, flush=True)


def _shared(replicas: Replicas) -> str:
    if replicas.count == 1:
        return ""
    machines = f" of {replicas.processes} workers" if replicas.processes > 1 else ""
    return f", {replicas.count} replicas{machines}"


def _names(config: Mapping[str, Any]) -> str:
    names = []
    for problem in config["problems"]:
        dataset = problem["kwargs"].get("dataset")
        name = f"{problem['target']} ({dataset})" if dataset else problem["target"]
        # All members are listed in members.json.
        names.append(f"{problem[DRAWS]} drawn of {name}" if DRAWS in problem else name)
    return ", ".join(names)
