"""Claim: which process may write a run directory, and with which config."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

from l2o.errors import UserError
from l2o.optimizer.saved import Saved, digest
from l2o.shell import operand, step
from l2o.train.families import SECTIONS, has_families, members_of
from l2o.train.runs.differences import WHERE, Plan, differing
from l2o.train.runs.directory import SHA256, SOURCE, RunDirectory


class Claim:
    """The right to write a run directory with a config; the chief process takes it.

    Args:
        config: Resolved.
        run: The directory.
        read: The config that this one changes, as it was read from the directory. Options of
            what is not trained yet may differ from it; None: no option may differ from the
            config in the directory.
        resolve: Completes a config that an older version wrote.

    Attributes:
        config: Of the run; its `initial_weights_sha256` is that of the weights it starts from.
        initial: The learned weights that its first period starts from; None: random ones, or
            it has been trained.
        has_recorded: Whether the directory has had these weights recorded before.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        run: RunDirectory,
        read: Mapping[str, Any] | None,
        resolve: Callable[[Any], dict[str, Any]],
    ) -> None:
        self.config = config
        self.run = run
        self.read = read
        self._resolve = resolve
        self.initial: Saved | None = None
        self.has_recorded = False

    def check(self, stack: ExitStack) -> None:
        """Locks an existing run and compares its config; call it before the slow building.

        Raises:
            UserError: If another process writes the run, or the config does not fit.
        """
        if self.run.exists():
            stack.enter_context(self.run.locked())
            self._changed()

    def read_initial(self, read: Callable[[Mapping[str, Any]], Saved | None]) -> Saved | None:
        """Returns the learned weights to start from; None: random ones, or a run goes on.

        Those that the run has recorded count, whatever their source has become since. Call it
        after `check`.

        Args:
            read: Reads those that a config names from their source.

        Raises:
            UserError: If there are none, or others than those that the config says.
        """
        if self.run.rows():
            return None
        sha256 = self.config[SHA256]
        try:
            self.initial = self.run.read_initial(sha256) if sha256 else None
        except UserError as error:
            raise UserError(
                f"{error}; without the file, they are read from "
                f"{self.config[SOURCE]} again, if they are still the same",
                SOURCE,
            ) from None
        self.initial = self.initial or read(self.config)
        if self.initial:
            sha256 = digest(self.initial.kind, self.initial.weights)
            self.config = {**self.config, SHA256: sha256}
        return self.initial

    def take(self, stack: ExitStack, strategy: Plan) -> None:
        """Locks the run; writes the config if the run is new or its config may change.

        Raises:
            UserError: As `check` does, or if the finished periods would have been different.
        """
        stack.enter_context(self.run.locked())
        self.run.claimed = True
        if not self.run.exists():
            if self.run.rows():
                raise UserError(
                    f"{self.run.path} has periods that a Python program has trained, and no "
                    "config.json; nothing was changed: go on from Python, or choose another "
                    "directory=..."
                )
            # A plan fails here if its schedule is invalid.
            strategy.plan([])
            self._write(self.config)
            return
        old, changed = self._changed()
        rows = self.run.rows()
        strategy.plan(rows)
        if changed and rows:
            past = type(strategy)(**old["strategy"])
            if not strategy.would_have_run(past, rows, self.config["training"]["p_teacher"]):
                raise self._refusal(changed)
        where = {key: old[key] for key in WHERE}
        self._write({**self.config, **where} if changed else None)

    def _write(self, config: Mapping[str, Any] | None) -> None:
        # In this order, so that what config.json says is there at any time.
        if self.initial:
            self.run.write_initial(self.initial)
        if config:
            if has_families(config):
                self.run.write_members(
                    {section: [m for _, m in members_of(config, section)] for section in SECTIONS}
                )
            self.run.write_config(config)
        self.run.remove_initial(keep=self.config[SHA256])

    def _changed(self) -> tuple[dict[str, Any], list[str]]:
        """Returns the old config and the paths where the new one differs.

        Raises:
            UserError: If it may not differ there.
        """
        there = self.run.read_config()
        if self.read is not None and {**there, "directory": ""} != {**self.read, "directory": ""}:
            raise UserError(
                f"{self.run.config_path} has changed since it was read; nothing was written: try "
                "again"
            )
        old = self._resolve(there)
        if old[SOURCE] == self.config[SOURCE] and self.config[SHA256] is None:
            self.config = {**self.config, SHA256: old[SHA256]}
        self.has_recorded = old[SHA256] is not None and old[SHA256] == self.config[SHA256]
        changed = differing(old, self.config)
        if SOURCE in changed:
            changed = [path for path in changed if path != SHA256]
        fixed = [path for path in changed if not path.startswith("strategy/")]
        if changed and self.read is None:
            raise self._refusal(changed)
        if fixed and self.run.rows():
            raise self._refusal(fixed)
        return old, changed

    def _refusal(self, paths: Sequence[str]) -> UserError:
        path, go_on = self.run.path, step("resume", operand(self.run.path))
        names = f"{', '.join(paths[:5])}{', ...' if len(paths) > 5 else ''}"
        if self.read is None:
            return UserError(
                f"{path} holds a run with another config (it differs in {names}); nothing was "
                f"written: choose another directory=..., go on with: {go_on}, "
                f"or extend it with: {go_on} key/path=value"
            )
        return UserError(
            f"{path} has {len(self.run.rows())} trained periods; {names} would have changed them; "
            "nothing was written: expected only options of what is still to be trained, such as a "
            f"larger strategy/num_periods or strategy/max_stages; {step('train')} starts others"
        )
