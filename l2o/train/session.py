"""A training session: what train.py and resume.py do with a resolved config."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from l2o.errors import UserError
from l2o.train.build import build_strategy, distribute_of, resolve_config
from l2o.train.cluster import join
from l2o.train.progress import Live
from l2o.train.replicas import Replicas
from l2o.train.run_directory import RunDirectory


def start(given: Any, run: RunDirectory | None = None, initialize: bool = False) -> None:
    """Starts a run, or goes on with it where it stopped; says what to type next.

    Args:
        given: A config as it was given.
        run: Where the run is, or will be; None: in the config's directory [None].
        initialize: Write config.json and stop [False].

    Raises:
        UserError: If something is wrong with the config or cannot be built (then nothing is
            written), or the directory holds a run with another config.
        LostWorkerError: If another process of the run has gone.
    """
    distribute = distribute_of(given)
    # TensorFlow waits for other workers in C++, where Python would not hear of a Ctrl-C.
    interrupt = signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        replicas = Replicas() if initialize else join(distribute, _say)
    finally:
        signal.signal(signal.SIGINT, interrupt)
    # After TensorFlow's own handler, which would let the others go on without this worker.
    signal.signal(signal.SIGTERM, _stop)
    with replicas.reported_loss():
        config = resolve_config(given)
        replicas.check_same(config, _differing)
        _go_on(config, run or RunDirectory(config["directory"]), replicas, initialize)


def _go_on(config: Mapping[str, Any], run: RunDirectory, replicas: Replicas, stop: bool) -> None:
    def check() -> None:
        if run.exists():
            _check_same(config, run)

    def write() -> None:
        if not run.exists():
            run.write_config(config)

    replicas.from_chief(check)
    strategy = build_strategy(config, run, replicas)
    replicas.from_chief(write)
    if stop:
        print(f"{run.config_path} is written; next: python resume.py {run.path}")
        return
    before = strategy.restore()
    if not replicas.is_chief:
        _say(f"worker {replicas.index} of {replicas.processes}: worker 0 tells how far they are")
        strategy.train()
        return
    print(
        f"{config['constructor']} on {_names(config)}, {config['strategy_constructor']} strategy"
        f"{_shared(replicas)}"
    )
    if before:
        print(f"going on after {len(before)} periods in {run.path}")
    try:
        with Live() as progress:
            strategy.train(progress)
    except (KeyboardInterrupt, SystemExit):
        print(f"finished periods are kept; go on with: python resume.py {run.path}", flush=True)
        raise
    best = run.best()
    staged = f"stage {best.stage}, " if run.rows()[-1].stage else ""
    print(f"best: {staged}period {best.period}, validation loss {best.validation_loss:.4f}")
    targets = [spec["target"] for spec in config["problems"]]
    # What it was trained on, if that is something to evaluate on.
    problem = next((t for t in targets if t.endswith("_classifier")), "mlp_classifier")
    print(f"next: python evaluate.py {run.path} --problem {problem}")


def _stop(number: int, _: Any) -> None:
    sys.exit(128 + number)


def _say(text: str) -> None:
    print(text, flush=True)


def _shared(replicas: Replicas) -> str:
    if replicas.count == 1:
        return ""
    machines = f" of {replicas.processes} workers" if replicas.processes > 1 else ""
    return f", {replicas.count} replicas{machines}"


def _check_same(config: Mapping[str, Any], run: RunDirectory) -> None:
    different = _differing(resolve_config(run.read_config()), config)
    if different:
        raise UserError(
            f"{run.path} holds a run with another config (it differs in "
            f"{', '.join(different[:5])}{', ...' if len(different) > 5 else ''}); nothing was "
            f"changed: choose another directory=..., or go on with: python resume.py {run.path}"
        )


def _differing(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[str]:
    """Returns the paths where two configs differ, but for where the run is and goes on."""
    a, b = _leaves(a), _leaves(b)
    where = ("directory", "distribute")
    return sorted(p for p in {*a, *b} if p not in where and a.get(p) != b.get(p))


def _leaves(config: Mapping[str, Any]) -> dict[str, Any]:
    return dict(_walk(config, ""))


def _walk(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        for key, item in value.items():
            yield from _walk(item, f"{path}/{key}" if path else key)
    elif isinstance(value, list) and any(isinstance(item, Mapping) for item in value):
        for i, item in enumerate(value):
            yield from _walk(item, f"{path}/{i}")
    else:
        yield path, value


def _names(config: Mapping[str, Any]) -> str:
    names = []
    for problem in config["problems"]:
        dataset = problem["kwargs"].get("dataset")
        names.append(f"{problem['target']} ({dataset})" if dataset else problem["target"])
    return ", ".join(names)
