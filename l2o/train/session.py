"""A training session: what train.py and resume.py do with a resolved config."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

from l2o.errors import UserError
from l2o.signals import listen, stoppable
from l2o.train.build import build_strategy, resolve_config, top_option
from l2o.train.cluster import join
from l2o.train.progress import Live
from l2o.train.replicas import Replicas
from l2o.train.run_directory import RunDirectory
from l2o.train.strategy import BaseStrategy

# What a run may change at any time: where it is and goes on.
WHERE = ("directory", "distribute")


def start(given: Any, run: RunDirectory | None = None, initialize: bool = False) -> None:
    """Starts a run, or goes on with it where it stopped; says what to type next.

    Args:
        given: A config as it was given.
        run: One to go on with, which `given` may extend; None: the one in the config's
            directory, if it has the same config, or a new one there [None].
        initialize: Write config.json and stop [False].

    Raises:
        UserError: If something is wrong with the config or cannot be built (then nothing is
            written), another process writes the directory, or it holds a run with another
            config.
        LostWorkerError: If another process of the run has gone.
    """
    distribute = top_option(given, "distribute")
    directory = RunDirectory(run.path if run else top_option(given, "directory"))

    def farewell() -> str:
        if not directory.exists():
            return "nothing was written"
        return f"finished periods are kept; go on with: python resume.py {directory.path}"

    with stoppable(farewell):
        replicas = Replicas() if initialize else join(distribute, _say)
        # TensorFlow puts a handler in place that would let the others go on without this worker.
        listen()
        with replicas.reported_loss(), ExitStack() as stack:
            config = resolve_config(given)
            replicas.check_same(config, differing)
            claim = Claim(config, directory, extends=run is not None)
            _go_on(config, claim, replicas, initialize, stack)


class Claim:
    """The right to write a run directory with a config; used on the chief only.

    Args:
        config: Resolved.
        run: The directory.
        extends: Whether what has not been trained yet may have other options.
    """

    def __init__(self, config: Mapping[str, Any], run: RunDirectory, extends: bool) -> None:
        self.config = config
        self.run = run
        self.extends = extends

    def check(self, stack: ExitStack) -> None:
        """Takes a run that is there; before anything is built, which takes time."""
        if self.run.exists():
            stack.enter_context(self.run.locked())
            self._changed()

    def take(self, stack: ExitStack, strategy: BaseStrategy) -> None:
        """Writes the config, if it is new or may change."""
        stack.enter_context(self.run.locked())
        if not self.run.exists():
            self.run.write_config(self.config)
            return
        old, changed = self._changed()
        rows = self.run.rows()
        if changed and rows:
            constructor = type(strategy)
            past = constructor(strategy.training, None, strategy.seed, **old["strategy"])
            if not strategy.would_have_run(past, rows):
                raise self._refusal(changed)
        if changed:
            where = {key: old[key] for key in WHERE}
            self.run.write_config({**self.config, **where})

    def _changed(self) -> tuple[dict[str, Any], list[str]]:
        """Returns the old config and where the new one differs, if it may there."""
        old = resolve_config(self.run.read_config())
        changed = differing(old, self.config)
        fixed = [path for path in changed if not path.startswith("strategy/")]
        if changed and (not self.extends or (fixed and self.run.rows())):
            raise self._refusal(changed if not self.extends else fixed)
        return old, changed

    def _refusal(self, paths: Sequence[str]) -> UserError:
        path = self.run.path
        names = f"{', '.join(paths[:5])}{', ...' if len(paths) > 5 else ''}"
        if not self.extends:
            return UserError(
                f"{path} holds a run with another config (it differs in {names}); nothing was "
                f"changed: choose another directory=..., go on with: python resume.py {path}, "
                f"or extend it with: python resume.py {path} strategy/num_periods=N"
            )
        return UserError(
            f"{path} has {len(self.run.rows())} trained periods, which {names} would have made "
            "others; nothing was changed: expected only options of what is still to be trained, "
            "such as a larger strategy/num_periods; train.py starts another run"
        )


def _go_on(
    config: Mapping[str, Any], claim: Claim, replicas: Replicas, stop: bool, stack: ExitStack
) -> None:
    run = claim.run
    replicas.from_chief(lambda: claim.check(stack))
    strategy = build_strategy(config, run, replicas)
    replicas.from_chief(lambda: claim.take(stack, strategy))
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
    if missing := len(run.rows()) - len(before):
        print(f"the checkpoints of the last {missing} periods are missing: they are trained again")
    with Live() as progress:
        strategy.train(progress)
    best = run.best()
    staged = f"stage {best.stage}, " if run.rows()[-1].stage else ""
    print(f"best: {staged}period {best.period}, validation loss {best.validation_loss:.4f}")
    targets = [spec["target"] for spec in config["problems"]]
    # What it was trained on, if that is something to evaluate on.
    problem = next((t for t in targets if t.endswith("_classifier")), "mlp_classifier")
    print(f"next: python evaluate.py {run.path} --problem {problem}")


def _say(text: str) -> None:
    print(text, flush=True)


def _shared(replicas: Replicas) -> str:
    if replicas.count == 1:
        return ""
    machines = f" of {replicas.processes} workers" if replicas.processes > 1 else ""
    return f", {replicas.count} replicas{machines}"


def differing(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[str]:
    """Returns the paths where two configs differ, but for where the run is and goes on."""
    a, b = _leaves(a), _leaves(b)
    return sorted(p for p in {*a, *b} if p not in WHERE and a.get(p) != b.get(p))


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
