"""Whose a run directory is, and which options a run may go on with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any

from l2o.errors import UserError
from l2o.shell import command, operand
from l2o.train.build import resolve_config
from l2o.train.runs.differences import WHERE, differing
from l2o.train.runs.directory import RunDirectory
from l2o.train.strategies.base import BaseStrategy


class Claim:
    """The right to write a run directory with a config; used on the chief only.

    Args:
        config: Resolved.
        run: The directory.
        read: The config that was read from there, which this one may extend: what has not
            been trained yet may have other options; None: it may not.
    """

    def __init__(
        self, config: Mapping[str, Any], run: RunDirectory, read: Mapping[str, Any] | None
    ) -> None:
        self.config = config
        self.run = run
        self.read = read

    def check(self, stack: ExitStack) -> None:
        """Takes a run that is there; before anything is built, which takes time."""
        if self.run.exists():
            stack.enter_context(self.run.locked())
            self._changed()

    def take(self, stack: ExitStack, strategy: BaseStrategy) -> None:
        """Writes the config, if it is new or may change, and there is something to train."""
        stack.enter_context(self.run.locked())
        self.run.claimed = True
        if not self.run.exists():
            if self.run.rows():
                raise UserError(
                    f"{self.run.path} has periods that a Python program has trained, and no "
                    f"config.json; nothing was changed: go on from Python, or choose "
                    "another directory=..."
                )
            # A schedule may turn out to be none.
            strategy.plan([])
            self.run.write_config(self.config)
            return
        old, changed = self._changed()
        rows = self.run.rows()
        strategy.plan(rows)
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
        there = self.run.read_config()
        if self.read is not None and {**there, "directory": ""} != {**self.read, "directory": ""}:
            raise UserError(
                f"{self.run.config_path} has changed while this began; nothing was done: try again"
            )
        old = resolve_config(there)
        changed = differing(old, self.config)
        fixed = [path for path in changed if not path.startswith("strategy/")]
        if changed and self.read is None:
            raise self._refusal(changed)
        if fixed and self.run.rows():
            raise self._refusal(fixed)
        return old, changed

    def _refusal(self, paths: Sequence[str]) -> UserError:
        path, go_on = self.run.path, command("python", "resume.py", operand(self.run.path))
        names = f"{', '.join(paths[:5])}{', ...' if len(paths) > 5 else ''}"
        if self.read is None:
            return UserError(
                f"{path} holds a run with another config (it differs in {names}); nothing was "
                f"changed: choose another directory=..., go on with: {go_on}, "
                f"or extend it with: {go_on} key/path=value"
            )
        return UserError(
            f"{path} has {len(self.run.rows())} trained periods, which {names} would have made "
            "others; nothing was changed: expected only options of what is still to be trained, "
            "such as a larger strategy/num_periods or strategy/max_stages; train.py starts another "
            "run"
        )
