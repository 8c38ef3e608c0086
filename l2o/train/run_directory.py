"""The run directory: config.json, summary.csv and one checkpoint per period.

A period is written completely or not at all: its checkpoint first, its row in
summary.csv last, each as a temporary file that is renamed.
"""

from __future__ import annotations

import csv
import io
import json
import math
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from l2o.errors import UserError
from l2o.train.replicas import pack, unpack


class Row(NamedTuple):
    """A row of summary.csv: one period.

    Losses are means over unrolls; meta_loss and imitation_loss are empty where there was
    no such unroll. start_loss is what the weights that a stage starts from validate at, in
    its first row; it and validation_loss are inf where an optimizee diverged.
    """

    stage: int
    period: int
    meta_loss: float | None
    imitation_loss: float | None
    start_loss: float | None
    validation_loss: float
    unrolls: int
    imitation_unrolls: int
    inner_steps: int
    dropped: int


class RunDirectory:
    """A run on disk.

    Args:
        path: The directory; made when something is written.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.config_path = self.path / "config.json"
        self.summary_path = self.path / "summary.csv"

    def exists(self) -> bool:
        """Returns whether a config has been written."""
        return self.config_path.exists()

    def write_config(self, config: Mapping[str, Any]) -> None:
        """Writes the resolved config.

        Raises:
            UserError: If the directory cannot be made or written.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            write_atomically(self.config_path, json.dumps(config, indent=4).encode() + b"\n")
        except OSError as error:
            raise UserError(f"cannot write {self.config_path}: {error.strerror}") from None

    def read_config(self) -> dict[str, Any]:
        """Returns the config.

        Raises:
            UserError: If there is none or it cannot be read.
        """
        try:
            config = json.loads(self.config_path.read_text("utf-8"))
        except FileNotFoundError:
            raise UserError(
                f"{self.path} is not a run directory: it has no config.json; "
                f"start one with: python train.py directory={self.path}"
            ) from None
        except (OSError, ValueError, RecursionError) as error:
            raise UserError(f"cannot read {self.config_path}: {error}") from None
        if not isinstance(config, dict):
            raise UserError(f"cannot read {self.config_path}: expected an object of options")
        return config

    def rows(self) -> list[Row]:
        """Returns the completed periods, in order.

        Raises:
            UserError: If summary.csv is damaged.
        """
        try:
            lines = list(csv.reader(io.StringIO(self.summary_path.read_text("utf-8"))))
        except FileNotFoundError:
            return []
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise UserError(f"cannot read {self.summary_path}: {error}") from None
        try:
            if not lines or tuple(lines[0]) != Row._fields:
                raise ValueError("header")
            rows = [Row(*map(_parse, Row._fields, line)) for line in lines[1:]]
            _check_order(rows)
            return rows
        except (TypeError, ValueError):
            raise UserError(
                f"{self.summary_path} is damaged: expected the columns {', '.join(Row._fields)}"
            ) from None

    def write_period(self, row: Row, state: Mapping[str, np.ndarray]) -> None:
        """Writes a period: its checkpoint, then its row, in place of an older one.

        Raises:
            UserError: If the disk does not take it; the periods before are intact.
        """
        before = [r for r in self.rows() if (r.stage, r.period) < (row.stage, row.period)]
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(Row._fields)
        writer.writerows(["" if v is None else v for v in r] for r in [*before, row])
        path = self.checkpoint_path(row.stage, row.period)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, pack(state))
            write_atomically(self.summary_path, text.getvalue().encode())
        except OSError as error:
            raise UserError(
                f"cannot write period {row.period} to {self.path}: {error.strerror}"
            ) from None

    def checkpoint_path(self, stage: int, period: int) -> Path:
        """Returns where a period's checkpoint lies."""
        return self.path / "checkpoints" / f"stage_{stage:02d}_period_{period:04d}.npz"

    def read_checkpoint(self, stage: int, period: int) -> dict[str, np.ndarray]:
        """Returns the arrays of a checkpoint.

        Raises:
            UserError: If it does not exist or is damaged.
        """
        path = self.checkpoint_path(stage, period)
        try:
            return unpack(path.read_bytes())
        except FileNotFoundError:
            raise UserError(f"no checkpoint {path}") from None
        except (OSError, ValueError) as error:
            raise UserError(f"checkpoint {path} is damaged: {error}") from None

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
            raise UserError(
                f"{self.path} has no trained weights yet; train with: python resume.py {self.path}"
            )
        found = [r for r in rows if period in (None, r.period) and stage in (None, r.stage)]
        if not found:
            wanted = [f"stage {stage}"] * (stage is not None)
            wanted += [f"period {period}"] * (period is not None)
            raise UserError(
                f"{self.path} has no {' '.join(wanted)}; "
                f"its last complete one: stage {rows[-1].stage}, period {rows[-1].period}"
            )
        return best_row(found) if period is None else found[-1]


def _check_order(rows: Sequence[Row]) -> None:
    expected = {(0, 0)}
    for row in rows:
        if (row.stage, row.period) not in expected or math.isnan(row.validation_loss):
            raise ValueError("order")
        expected = {(row.stage, row.period + 1), (row.stage + 1, 0)}


def best_row(rows: Sequence[Row]) -> Row:
    """Returns the row with the smallest validation loss of the last stage that improved.

    Stages validate over different lengths, so that their losses do not compare; but a
    stage's own do, with what its first weights validated at (the best of the one before).

    Args:
        rows: At least one, in order.
    """
    best = None
    for stage in sorted({row.stage for row in rows}):
        own = [row for row in rows if row.stage == stage]
        candidate = min(own, key=lambda row: row.validation_loss)
        start = own[0].start_loss
        if best is None or start is None or candidate.validation_loss < start:
            best = candidate
    assert best is not None
    return best


def _parse(name: str, text: str) -> Any:
    if name == "validation_loss":
        return float(text)
    if name.endswith("loss"):
        return float(text) if text else None
    return int(text)


def write_atomically(path: Path, content: bytes) -> None:
    """Writes a file so that a reader, or a crash, sees the old one or the new one."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
