"""A learned optimizer as a directory: what `optimizer.save` writes and `l2o.load` reads."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from l2o.disk.files import read_regular, write_atomically
from l2o.disk.packing import seal, unseal
from l2o.errors import UserError

LARGEST = 2**32


class Saved(NamedTuple):
    """What is saved of an optimizer.

    kind: The name under which its class is registered with Keras.
    options: Its constructor's, JSON values.
    about: Free text, such as what it was trained on.
    weights: What it has learned.
    """

    kind: str
    options: Mapping[str, Any]
    about: str
    weights: list[np.ndarray]


def file_of(directory: str | os.PathLike[str]) -> Path:
    """Returns the file in a directory that holds a saved optimizer."""
    return Path(directory) / "optimizer.npz"


def write(directory: str | os.PathLike[str], saved: Saved) -> None:
    """Writes an optimizer in one file, whole or not at all.

    Raises:
        UserError: If the directory is that of a run, or cannot be written.
    """
    path = file_of(directory)
    arrays = {str(i): array for i, array in enumerate(saved.weights)}
    about = {"kind": saved.kind, "options": saved.options, "about": saved.about}
    try:
        if path.with_name("config.json").exists():
            raise UserError(f"{directory} is a run directory: choose another one to save to")
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, seal(arrays, about))
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from None


def read(directory: str | os.PathLike[str]) -> Saved:
    """Returns what `write` has written.

    Raises:
        UserError: If it cannot be read or is damaged.
    """
    path = file_of(directory)
    try:
        arrays, about = unseal(read_regular(path, LARGEST))
        found = Saved(**about, weights=[arrays[str(i)] for i in range(len(arrays))])
        if not (isinstance(found.kind, str) and isinstance(found.about, str)):
            raise TypeError("its seal is none")
        return found
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from None
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is no saved optimizer, or is damaged: {error}") from None
