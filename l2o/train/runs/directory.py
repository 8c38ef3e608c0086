"""The run directory: config.json, summary.csv, log.csv and one checkpoint per period.

The learned weights that a run starts from are in a file named after their SHA-256, which
config.json says. It is written before config.json.

A period is written completely or not at all: its checkpoint first, its row in
summary.csv last, each as a temporary file that is renamed. A checkpoint is sealed with
its row, so that it is not taken for that of another period or run.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from l2o.disk.files import (
    locked,
    make_folder,
    os_errors_told,
    read_regular,
    remove_temporary,
    write_atomically,
)
from l2o.disk.packing import seal, unseal
from l2o.errors import UserError
from l2o.optimizer import saved
from l2o.optimizer.saved import Saved
from l2o.plain import parse_object
from l2o.shell import directory_option, operand, step
from l2o.train.runs.summary import Row, best_row, from_csv, to_csv

LARGEST_CONFIG = 2**20
LARGEST_ACCOUNT = 2**26
LARGEST_SUMMARY = 2**28
LARGEST_CHECKPOINT = 2**36
# The options that say which learned weights a run starts from.
SOURCE, SHA256 = "initial_weights", "initial_weights_sha256"
# The names of the files of `initial_path`.
INITIAL = f"initial_{'[0-9a-f]' * 16}.npz"


class Event(NamedTuple):
    """A row of log.csv: what happened and when. Two equal runs differ only here.

    time is UTC; seconds is how long a period took; about is free text.
    """

    time: str
    event: str
    stage: int | None
    period: int | None
    seconds: float | None
    about: str


class RunDirectory:
    """A run on disk.

    Args:
        path: The directory; the first write makes it.

    Attributes:
        claimed: Whether its config is known to be that of the run about to train.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.config_path = self.path / "config.json"
        self.account_path = self.path / "account.json"
        self.members_path = self.path / "members.json"
        self.summary_path = self.path / "summary.csv"
        self.log_path = self.path / "log.csv"
        self._checkpoints = self.path / "checkpoints"
        self._is_locked = False
        self.claimed = False

    def exists(self) -> bool:
        """Returns whether a config has been written.

        Raises:
            UserError: If that cannot be known.
        """
        with os_errors_told(f"cannot read {self.config_path}"):
            try:
                os.lstat(self.config_path)
            except (FileNotFoundError, NotADirectoryError):
                return False
        return True

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Makes this the only process that writes the run; a nested call does nothing.

        Removes the temporary files of a process that died while it wrote.

        Raises:
            UserError: If another process writes it, or the directory cannot be made.
        """
        if self._is_locked:
            yield
            return
        with os_errors_told(f"cannot write {self.path}"):
            self.path.mkdir(parents=True, exist_ok=True)
            lock = locked(self.path / ".lock")
            lock.__enter__()
        self._is_locked = True
        try:
            self._tidy()
            yield
        finally:
            self._is_locked = False
            lock.__exit__(None, None, None)

    def _tidy(self) -> None:
        with os_errors_told(f"cannot write {self.path}"):
            # The path itself may be a link: its user has chosen it.
            names = ["config.json", "account.json", "members.json", "summary.csv", INITIAL]
            remove_temporary(self.path.resolve(), names)
            remove_temporary(self._checkpoints, ["stage_*_period_*.npz"])

    def write_config(self, config: Mapping[str, Any]) -> None:
        """Writes the resolved config.

        Raises:
            UserError: If the directory cannot be made or written.
        """
        self._write_json(self.config_path, config)

    def write_members(self, members: Mapping[str, Any]) -> None:
        """Writes the problems that were drawn from families; for people, nothing reads it.

        Args:
            members: Per section of the config, the specs of its problems.

        Raises:
            UserError: If the directory cannot be made or written.
        """
        self._write_json(self.members_path, members)

    def write_account(self, account: Mapping[str, Any]) -> None:
        """Writes the account of a run from Python.

        Raises:
            UserError: If the directory cannot be made or written.
        """
        self._write_json(self.account_path, account)

    def _write_json(self, path: Path, value: Mapping[str, Any]) -> None:
        with os_errors_told(f"cannot write {path}"):
            self.path.mkdir(parents=True, exist_ok=True)
            write_atomically(path, json.dumps(value, indent=4).encode() + b"\n")

    def read_account(self) -> dict[str, Any] | None:
        """Returns the account of a run from Python; None if there is none.

        Raises:
            UserError: If it cannot be read.
        """
        with os_errors_told(f"cannot read {self.account_path}"):
            try:
                account = parse_object(read_regular(self.account_path, LARGEST_ACCOUNT))
                for section in ("network", "training", "loss_args", "optimizer", "strategy"):
                    if not isinstance(account.get(section), dict):
                        raise ValueError(f"its {section} is no object")
                return account
            except FileNotFoundError:
                return None
            except ValueError as error:
                raise UserError(
                    f"{self.account_path} is damaged: {error}; without the file the run goes on "
                    "with what it is given, unchecked"
                ) from None

    def initial_path(self, sha256: str) -> Path:
        """Returns the path of the learned weights that a run starts from, by their SHA-256."""
        return self.path / f"initial_{sha256[:16]}.npz"

    def write_initial(self, initial: Saved) -> None:
        """Writes the learned weights that a run starts from, as `optimizer.save` does.

        Raises:
            UserError: If the directory cannot be made or written.
        """
        path = self.initial_path(saved.digest(initial.kind, initial.weights))
        with os_errors_told(f"cannot write {path}"):
            self.path.mkdir(parents=True, exist_ok=True)
            write_atomically(path, saved.packed(initial))

    def read_initial(self, sha256: str) -> Saved | None:
        """Returns the learned weights that a run starts from; None if they are not there.

        Args:
            sha256: What config.json says of them.

        Raises:
            UserError: If the file is damaged or holds other weights.
        """
        path = self.initial_path(sha256)
        if not os.path.lexists(path):
            return None
        found = saved.read(path)
        if saved.digest(found.kind, found.weights) != sha256:
            raise UserError(f"{path} has other learned weights than {self.config_path} says")
        return found

    def remove_initial(self, keep: str | None) -> None:
        """Removes learned weights that a run was once to start from.

        Args:
            keep: The SHA-256 of those that it starts from; None: it starts from random ones.

        Raises:
            UserError: If they cannot be removed.
        """
        with os_errors_told(f"cannot write {self.path}"):
            for path in self.path.glob(INITIAL):
                if keep is None or path != self.initial_path(keep):
                    path.unlink(missing_ok=True)

    def read_config(self) -> dict[str, Any]:
        """Returns the config.

        Raises:
            UserError: If there is none or it cannot be read.
        """
        with os_errors_told(f"cannot read {self.config_path}"):
            try:
                return parse_object(read_regular(self.config_path, LARGEST_CONFIG))
            except FileNotFoundError:
                start = step("train", directory_option(self.path))
                raise UserError(
                    f"{self.path} is not a run directory: it has no config.json; "
                    f"start one with: {start}"
                ) from None
            except ValueError as error:
                raise UserError(f"cannot read {self.config_path}: {error}") from None

    def rows(self) -> list[Row]:
        """Returns the completed periods, in order.

        Raises:
            UserError: If summary.csv is damaged.
        """
        with os_errors_told(f"cannot read {self.summary_path}"):
            try:
                return from_csv(read_regular(self.summary_path, LARGEST_SUMMARY).decode("utf-8"))
            except FileNotFoundError:
                return []
            except ValueError as error:
                raise UserError(f"{self.summary_path} is damaged: {error}") from None

    def write_period(
        self, row: Row, state: Mapping[str, np.ndarray], keep: int | None = None
    ) -> None:
        """Writes a period, its checkpoint and then its row; replaces an older one.

        Args:
            row: The row of the period.
            state: The arrays of its checkpoint.
            keep: How many of the last checkpoints stay, besides the best; None: all [None].

        Raises:
            UserError: If it cannot be written; the periods before are intact.
        """
        rows = [r for r in self.rows() if (r.stage, r.period) < (row.stage, row.period)]
        rows.append(row)
        what = f"cannot write period {row.period} to {self.path}"
        with os_errors_told(what, "; the periods before are kept"):
            make_folder(self._checkpoints)
            write_atomically(self.checkpoint_path(row.stage, row.period), seal(state, row))
            write_atomically(self.summary_path, to_csv(Row._fields, *rows).encode())
            self._prune(rows, keep)

    def prune(self, keep: int | None) -> None:
        """Removes the checkpoints that `write_period` removes with this `keep`.

        Raises:
            UserError: If the directory cannot be written.
        """
        with os_errors_told(f"cannot write {self._checkpoints}"):
            self._prune(self.last_kept(), keep)

    def _prune(self, rows: Sequence[Row], keep: int | None) -> None:
        if keep is None or not rows or self._checkpoints.is_symlink():
            return
        own = [row for row in rows if row.stage == rows[-1].stage]
        # What `find` returns, and what the next stage starts from.
        kept = {(row.stage, row.period) for row in (*rows[-keep:], best_row(rows), best_row(own))}
        for row in rows:
            if (row.stage, row.period) not in kept:
                self.checkpoint_path(row.stage, row.period).unlink(missing_ok=True)

    def write_log(
        self, event: str, row: Row | None = None, seconds: float | None = None, about: str = ""
    ) -> None:
        """Adds a row to log.csv, see `Event`.

        Raises:
            UserError: If it cannot be written.
        """
        time = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
        stage, period = (row.stage, row.period) if row else (None, None)
        took = None if seconds is None else round(seconds, 3)
        line = to_csv(Event(time, event, stage, period, took, about))
        with os_errors_told(f"cannot write {self.log_path}"):
            flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK
            with os.fdopen(os.open(self.log_path, flags, 0o666), "r+b") as file:
                size = file.seek(0, os.SEEK_END)
                if not size:
                    line = to_csv(Event._fields) + line
                elif _last(file) != b"\n":  # a crash in the middle of a line
                    line = "\n" + line
                file.write(line.encode())

    def checkpoint_path(self, stage: int, period: int) -> Path:
        """Returns the path of a period's checkpoint."""
        return self._checkpoints / f"stage_{stage:02d}_period_{period:04d}.npz"

    def evaluation_path(self, name: str) -> Path:
        """Returns the path of an evaluation's result; makes its folder.

        Raises:
            UserError: If it cannot be made.
        """
        with os_errors_told(f"cannot write {self.path / 'eval'}"):
            make_folder(self.path / "eval")
        return self.path / "eval" / f"{name}.json"

    def read_checkpoint(self, stage: int, period: int) -> dict[str, np.ndarray]:
        """Returns the arrays of a checkpoint.

        Raises:
            UserError: If it does not exist, is damaged, or does not belong to the period's row.
        """
        path = self.checkpoint_path(stage, period)
        with os_errors_told(f"cannot read {path}"):
            try:
                arrays, about = unseal(read_regular(path, LARGEST_CHECKPOINT))
                row = _row(about)
            except FileNotFoundError:
                raise UserError(
                    f"no checkpoint {path}: it has been removed, or strategy/keep_checkpoints did "
                    "not keep it"
                ) from None
            except ValueError as error:
                raise UserError(
                    f"checkpoint {path} is damaged: {error}; without the file, {step('resume')} "
                    "goes on from the period before"
                ) from None
        if (row.stage, row.period) != (stage, period) or row not in self.rows():
            raise UserError(f"checkpoint {path} belongs to another run or period than its name")
        return arrays

    def last_kept(self) -> list[Row]:
        """Returns the rows up to the last one with a checkpoint, from which the run resumes.

        Raises:
            UserError: If there are rows and no checkpoint, or checkpoints and no row.
        """
        rows = self.rows()
        found = [row for row in rows if self.checkpoint_path(row.stage, row.period).exists()]
        if rows and not found:
            raise UserError(f"{self.path} has {len(rows)} periods in summary.csv and no checkpoint")
        # The first period's checkpoint is written before summary.csv.
        others = {*self._checkpoints.glob("stage_*_period_*.npz")} - {self.checkpoint_path(0, 0)}
        if not rows and others:
            raise UserError(f"{self.path} has checkpoints and no summary.csv, which lists them")
        return rows[: rows.index(found[-1]) + 1] if found else []

    def best(self) -> Row:
        """Returns the best period by validation loss, see `best_row`.

        Raises:
            UserError: If no period is complete.
        """
        return self.find()

    def find(self, period: int | None = None, stage: int | None = None) -> Row:
        """Returns the row of a period: the best one unless told otherwise.

        Args:
            period: Its number within the stage; None: the best by validation loss.
            stage: Its stage; None: the last stage that has this period, or the stage of the
                best period.

        Raises:
            UserError: If it does not exist; names the last one that does.
        """
        rows = self.rows()
        if not rows:
            go_on = step("resume", operand(self.path))
            raise UserError(f"{self.path} has no trained weights yet; train with: {go_on}")
        found = [r for r in rows if period in (None, r.period) and stage in (None, r.stage)]
        if not found:
            wanted = [f"stage {stage}"] * (stage is not None)
            wanted += [f"period {period}"] * (period is not None)
            raise UserError(
                f"{self.path} has no {' '.join(wanted)}; "
                f"its last complete one: stage {rows[-1].stage}, period {rows[-1].period}"
            )
        return best_row(found) if period is None else found[-1]


def _row(sealed: Any) -> Row:
    try:
        return Row(*sealed)
    except TypeError:
        raise ValueError("its seal is not valid") from None


def _last(file: Any) -> bytes:
    file.seek(-1, os.SEEK_END)
    return file.read(1)
