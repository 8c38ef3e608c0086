"""A training session: what train.py and resume.py do with a resolved config."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from l2o.errors import UserError
from l2o.train.build import build_strategy, resolve_config
from l2o.train.progress import Live
from l2o.train.run_directory import RunDirectory


def start(config: Mapping[str, Any], run: RunDirectory, initialize: bool = False) -> None:
    """Starts a run, or goes on with it where it stopped; says what to type next.

    Args:
        config: A resolved config.
        run: Where the run is, or will be.
        initialize: Write config.json and stop.

    Raises:
        UserError: If something cannot be built (then nothing is written), or the
            directory holds a run with another config.
    """
    if run.exists():
        _check_same(config, run)
    strategy = build_strategy(config, run)
    if not run.exists():
        run.write_config(config)
    if initialize:
        print(f"{run.config_path} is written; next: python resume.py {run.path}")
        return
    before = strategy.restore()
    print(f"{config['constructor']} on {_names(config)}, {config['strategy_constructor']} strategy")
    if before:
        print(f"going on after {len(before)} periods in {run.path}")
    try:
        with Live() as progress:
            strategy.train(progress)
    except KeyboardInterrupt:
        print(f"finished periods are kept; go on with: python resume.py {run.path}", flush=True)
        raise
    best = run.best()
    staged = f"stage {best.stage}, " if run.rows()[-1].stage else ""
    print(f"best: {staged}period {best.period}, validation loss {best.validation_loss:.4f}")
    targets = [spec["target"] for spec in config["problems"]]
    # What it was trained on, if that is something to evaluate on.
    problem = next((t for t in targets if t.endswith("_classifier")), "mlp_classifier")
    print(f"next: python evaluate.py {run.path} --problem {problem}")


def _check_same(config: Mapping[str, Any], run: RunDirectory) -> None:
    old = resolve_config(run.read_config())
    different = sorted(
        path
        for path in {*_leaves(old), *_leaves(config)}
        # A run directory may be moved or named in another way.
        if path != "directory" and _leaves(old).get(path) != _leaves(config).get(path)
    )
    if different:
        raise UserError(
            f"{run.path} holds a run with another config (it differs in "
            f"{', '.join(different[:5])}{', ...' if len(different) > 5 else ''}); nothing was "
            f"changed: choose another directory=..., or go on with: python resume.py {run.path}"
        )


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
