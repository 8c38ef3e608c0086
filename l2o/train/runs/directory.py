"""The run directory: config.json, summary.csv, log.csv and one checkpoint per period.

A period is written completely or not at all: its checkpoint first, its row in
summary.csv last, each as a temporary file that is renamed. What a checkpoint holds is
sealed with its row, so that none is taken for another.
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

from l2o.disk.files import locked, make_folder, read_regular, remove_temporary, write_atomically
from l2o.disk.packing import seal, unseal
from l2o.disk.strict_json import parse_object
from l2o.errors import UserError
from l2o.shell import command, directory_option, operand
from l2o.train.runs.summary import Row, best_row, from_csv, to_csv

LARGEST_CONFIG = 2**20
LARGEST_ACCOUNT = 2**26
LARGEST_SUMMARY = 2**28
LARGEST_CHECKPOINT = 2**36


class Event(NamedTuple):
    """A row of log.csv: what happened when, which is another time at each run.

    time is UTC; seconds are those of a period; about is free text.
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
        path: The directory; made when something is written.

    Attributes:
        claimed: Whether its config is known to be that of what is about to train.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.config_path = self.path / "config.json"
        self.account_path = self.path / "account.json"
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
        try:
            os.lstat(self.config_path)
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError as error:
            raise UserError(f"cannot read {self.config_path}: {_reason(error)}") from None
        return True

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Makes this the only process that writes the run; within it again, does nothing.

        What a process that died in the middle of a file has left is removed.

        Raises:
            UserError: If another process writes it, or the directory cannot be made.
        """
        if self._is_locked:
            yield
            return
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock = locked(self.path / ".lock")
            lock.__enter__()
        except OSError as error:
            raise UserError(f"cannot write {self.path}: {_reason(error)}") from None
        self._is_locked = True
        try:
            self._tidy()
            yield
        finally:
            self._is_locked = False
            lock.__exit__(None, None, None)

    def _tidy(self) -> None:
        try:
            # The path itself may be a link: its user has chosen it.
            remove_temporary(self.path.resolve(), ["config.json", "account.json", "summary.csv"])
            remove_temporary(self._checkpoints, ["stage_*_period_*.npz"])
        except OSError as error:
            raise UserError(f"cannot write {self.path}: {_reason(error)}") from None

    def write_config(self, config: Mapping[str, Any]) -> None:
        """Writes the resolved config.

        Raises:
            UserError: If the directory cannot be made or written.
        """
        self._write_json(self.config_path, config)

    def write_account(self, account: Mapping[str, Any]) -> None:
        """Writes what a run from Python is made of.

        Raises:
            UserError: If the directory cannot be made or written.
        """
        self._write_json(self.account_path, account)

    def _write_json(self, path: Path, value: Mapping[str, Any]) -> None:
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            write_atomically(path, json.dumps(value, indent=4).encode() + b"\n")
        except OSError as error:
            raise UserError(f"cannot write {path}: {_reason(error)}") from None

    def read_account(self) -> dict[str, Any] | None:
        """Returns what a run from Python is made of; None where no version has written it.

        Raises:
            UserError: If it cannot be read.
        """
        try:
            return parse_object(read_regular(self.account_path, LARGEST_ACCOUNT))
        except FileNotFoundError:
            return None
        except OSError as error:
            raise UserError(f"cannot read {self.account_path}: {_reason(error)}") from None
        except ValueError as error:
            raise UserError(
                f"{self.account_path} is damaged: {error}; without the file the run goes on with "
                "what it is given, unchecked"
            ) from None

    def read_config(self) -> dict[str, Any]:
        """Returns the config.

        Raises:
            UserError: If there is none or it cannot be read.
        """
        try:
            return parse_object(read_regular(self.config_path, LARGEST_CONFIG))
        except FileNotFoundError:
            start = command("python", "train.py", directory_option(self.path))
            raise UserError(
                f"{self.path} is not a run directory: it has no config.json; "
                f"start one with: {start}"
            ) from None
        except OSError as error:
            raise UserError(f"cannot read {self.config_path}: {_reason(error)}") from None
        except ValueError as error:
            raise UserError(f"cannot read {self.config_path}: {error}") from None

    def rows(self) -> list[Row]:
        """Returns the completed periods, in order.

        Raises:
            UserError: If summary.csv is damaged.
        """
        try:
            return from_csv(read_regular(self.summary_path, LARGEST_SUMMARY).decode("utf-8"))
        except FileNotFoundError:
            return []
        except OSError as error:
            raise UserError(f"cannot read {self.summary_path}: {_reason(error)}") from None
        except ValueError as error:
            raise UserError(f"{self.summary_path} is damaged: {error}") from None

    def write_period(
        self, row: Row, state: Mapping[str, np.ndarray], keep: int | None = None
    ) -> None:
        """Writes a period: its checkpoint, then its row, in place of an older one.

        Args:
            row: What is written.
            state: What its checkpoint holds.
            keep: How many of the last checkpoints stay, beside the best; None: all [None].

        Raises:
            UserError: If the disk does not take it; the periods before are intact.
        """
        rows = [r for r in self.rows() if (r.stage, r.period) < (row.stage, row.period)]
        rows.append(row)
        try:
            make_folder(self._checkpoints)
            write_atomically(self.checkpoint_path(row.stage, row.period), seal(state, row))
            write_atomically(self.summary_path, to_csv(Row._fields, *rows).encode())
            self._prune(rows, keep)
        except OSError as error:
            raise UserError(
                f"cannot write period {row.period} to {self.path}: {_reason(error)}; the periods "
                "before are kept"
            ) from None

    def prune(self, keep: int | None) -> None:
        """Removes the checkpoints that `write_period` with this `keep` would have removed.

        Raises:
            UserError: If the directory cannot be written.
        """
        try:
            self._prune(self.last_kept(), keep)
        except OSError as error:
            raise UserError(f"cannot write {self._checkpoints}: {_reason(error)}") from None

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
        try:
            flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK
            with os.fdopen(os.open(self.log_path, flags, 0o666), "r+b") as file:
                size = file.seek(0, os.SEEK_END)
                if not size:
                    line = to_csv(Event._fields) + line
                elif _last(file) != b"\n":  # a crash in the middle of a line
                    line = "\n" + line
                file.write(line.encode())
        except OSError as error:
            raise UserError(f"cannot write {self.log_path}: {_reason(error)}") from None

    def checkpoint_path(self, stage: int, period: int) -> Path:
        """Returns where a period's checkpoint lies."""
        return self._checkpoints / f"stage_{stage:02d}_period_{period:04d}.npz"

    def evaluation_path(self, name: str) -> Path:
        """Returns where the result of an evaluation goes, in a folder that is made.

        Raises:
            UserError: If it cannot be made.
        """
        try:
            make_folder(self.path / "eval")
        except OSError as error:
            raise UserError(f"cannot write {self.path / 'eval'}: {_reason(error)}") from None
        return self.path / "eval" / f"{name}.json"

    def read_checkpoint(self, stage: int, period: int) -> dict[str, np.ndarray]:
        """Returns the arrays of a checkpoint.

        Raises:
            UserError: If it does not exist, is damaged, or is not that of the period's row.
        """
        path = self.checkpoint_path(stage, period)
        try:
            arrays, about = unseal(read_regular(path, LARGEST_CHECKPOINT))
            row = _row(about)
        except FileNotFoundError:
            raise UserError(
                f"no checkpoint {path}: it has been removed, or strategy/keep_checkpoints did not "
                "keep it"
            ) from None
        except OSError as error:
            raise UserError(f"cannot read {path}: {_reason(error)}") from None
        except ValueError as error:
            raise UserError(
                f"checkpoint {path} is damaged: {error}; without the file, resume.py goes on from "
                "the period before"
            ) from None
        if (row.stage, row.period) != (stage, period) or row not in self.rows():
            raise UserError(f"checkpoint {path} belongs to another run or period than its name")
        return arrays

    def last_kept(self) -> list[Row]:
        """Returns the rows up to the last one whose checkpoint is there, to go on from.

        Raises:
            UserError: If there are rows and no checkpoint, or the other way round.
        """
        rows = self.rows()
        found = [row for row in rows if self.checkpoint_path(row.stage, row.period).exists()]
        if rows and not found:
            raise UserError(f"{self.path} has {len(rows)} periods in summary.csv and no checkpoint")
        # That of the first period is written before there is a summary.
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
            stage: Its stage; None: the last that has this period, or the one to which the
                best belongs.

        Raises:
            UserError: If it does not exist; says which do.
        """
        rows = self.rows()
        if not rows:
            go_on = command("python", "resume.py", operand(self.path))
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


def _reason(error: OSError) -> str:
    return error.strerror or str(error)


def _last(file: Any) -> bytes:
    file.seek(-1, os.SEEK_END)
    return file.read(1)
