"""Board: a run's numbers and learned weights by period, for TensorBoard."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from l2o.errors import UserError
from l2o.train.runs.summary import Row

FOLDER = "tensorboard"


class Board:
    """Writes event files into the folder `tensorboard` of a run directory.

    Args:
        run: The run directory.
        network: Its weights become histograms.

    Raises:
        UserError: If TensorBoard is not installed.
    """

    def __init__(self, run: Path, network: keras.layers.Layer) -> None:
        # TensorFlow's summary operations are part of that package.
        if importlib.util.find_spec("tensorboard") is None:
            raise UserError("--tensorboard needs TensorBoard: pip install tensorboard")
        self._folder = run / FOLDER
        self._network = network
        self._writer: tf.summary.SummaryWriter | None = None

    def begin(self, rows: Sequence[Row]) -> None:
        """Writes the rows of earlier periods, if the folder does not exist yet.

        Raises:
            UserError: If the folder cannot be written.
        """
        if not self._folder.exists():
            for step, row in enumerate(rows):
                self._write(step, row._asdict())

    def period(self, period: Mapping[str, Any]) -> None:
        """Writes a period and the current weights; `Runner.train` calls it.

        Args:
            period: What `on_period` is called with.

        Raises:
            UserError: If the folder cannot be written.
        """
        row = {name: period[name] for name in Row._fields}
        self._write(period["number"] - 1, row, self._network.trainable_variables)

    def _write(
        self, step: int, row: Mapping[str, Any], weights: Sequence[keras.Variable] = ()
    ) -> None:
        try:
            self._writer = self._writer or tf.summary.create_file_writer(str(self._folder))
            with self._writer.as_default(step=step):
                for name, value in row.items():
                    if value is not None and name != "period":
                        tf.summary.scalar(name, value)
                for weight in weights:
                    tf.summary.histogram(weight.path, weight.value)
            self._writer.flush()
        except (OSError, tf.errors.OpError) as error:
            reason = str(error).splitlines()[0]
            raise UserError(f"cannot write {self._folder}: {reason}") from None
