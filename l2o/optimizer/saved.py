"""A learned optimizer as a file: what `optimizer.save` writes and `l2o.load` reads."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np

from l2o.disk import packing
from l2o.disk.files import read_regular, write_atomically
from l2o.disk.packing import seal, unseal
from l2o.errors import UserError
from l2o.optimizer.card import card

# Bytes; a larger file is refused.
LARGEST = 2**32
# Bytes; a larger card is not one that `write` wrote.
LARGEST_CARD = 2**20


class Saved(NamedTuple):
    """The part of an optimizer that is saved.

    kind: The name under which its class is registered with Keras.
    options: Options of its constructor, as JSON values.
    about: A note, such as what it was trained on.
    weights: The learned weights.
    """

    kind: str
    options: Mapping[str, Any]
    about: str
    weights: list[np.ndarray]


def checked(kind: type, options: Mapping[str, Any], about: str, weights: list[np.ndarray]) -> Saved:
    """Returns what to save of an optimizer, once it is certain that it can be loaded.

    Args:
        kind: Its class.
        options: Options of its constructor.
        about: A note.
        weights: The learned weights.

    Raises:
        ValueError: If the class is not registered with Keras, an option is not a plain value,
            or the note is no text.
    """
    if not isinstance(about, str):
        raise ValueError(f"Expected a text `about` it. Received: {about!r}")
    name = keras.saving.get_registered_name(kind)
    if keras.saving.get_registered_object(name) is not kind:
        raise ValueError(
            f"{kind.__name__} could not be loaded again: decorate the class with "
            "@keras.saving.register_keras_serializable()"
        )
    return Saved(name, {key: _plain(key, value) for key, value in options.items()}, about, weights)


def _plain(name: str, value: Any) -> Any:
    """Returns an option as the JSON value that a file holds."""
    if isinstance(value, (np.ndarray, np.generic)):
        value = value.tolist()
    if isinstance(value, (list, tuple)):
        return [_plain(name, item) for item in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise ValueError(f"Expected a plain value of {name}, to save it. Received: {value!r}")


def file_of(directory: str | os.PathLike[str]) -> Path:
    """Returns the file in a directory that holds a saved optimizer."""
    return Path(directory) / "optimizer.npz"


def write(directory: str | os.PathLike[str], saved: Saved) -> None:
    """Writes an optimizer to one file, completely or not at all, and a card beside it.

    Of a README.md that is there, only the part that l2o wrote changes.

    Raises:
        UserError: If the directory is that of a run, or cannot be written.
    """
    path = file_of(directory)
    try:
        if path.with_name("config.json").exists():
            raise UserError(f"{directory} is a run directory: choose another one to save to")
        path.parent.mkdir(parents=True, exist_ok=True)
        # First, so that a crash in between leaves nothing that the next `write` does not mend.
        _write_card(path.with_name("README.md"), saved)
        write_atomically(path, packed(saved))
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from None


def _write_card(path: Path, saved: Saved) -> None:
    # A name may have bytes that are not text. The rest of the path is nobody's business.
    name = os.fsencode(path.absolute().parent.name).decode(errors="replace")
    try:
        before = read_regular(path, LARGEST_CARD).decode()
    except FileNotFoundError:
        before = None
    except (OSError, ValueError):
        return  # no text, so not a card
    after = card_of(saved, name, before)
    if after != before:
        write_atomically(path, after.encode())


def card_of(saved: Saved, source: str, before: str | None = None) -> str:
    """Returns the card of an optimizer.

    Args:
        saved: The optimizer.
        source: The argument with which `l2o.load` finds it.
        before: As for `card` [None].
    """
    return card(saved, digest(saved.kind, saved.weights), source, before)


def read(path: str | os.PathLike[str]) -> Saved:
    """Reads what `write` has written.

    Args:
        path: The directory that was written to, or the file in it.

    Raises:
        UserError: If it cannot be read or is damaged.
    """
    file = Path(path) if os.path.isfile(path) else file_of(path)
    try:
        return unpacked(read_regular(file, LARGEST))
    except OSError as error:
        raise UserError(f"cannot read {file}: {error.strerror or error}") from None
    except ValueError as error:
        raise UserError(f"{file} is not a saved optimizer, or is damaged: {error}") from None


def packed(saved: Saved) -> bytes:
    """Returns an optimizer as the bytes of a file."""
    arrays = {str(i): array for i, array in enumerate(saved.weights)}
    return seal(arrays, {"kind": saved.kind, "options": saved.options, "about": saved.about})


def unpacked(content: bytes) -> Saved:
    """Undoes `packed`.

    Raises:
        ValueError: If the bytes are not from `packed`.
    """
    arrays, about = unseal(content)
    if not isinstance(about, dict):
        raise ValueError("its seal is not that of an optimizer")
    try:
        found = Saved(**about, weights=[arrays[str(i)] for i in range(len(arrays))])
    except (KeyError, TypeError) as error:
        raise ValueError(str(error)) from None
    if not (isinstance(found.kind, str) and isinstance(found.about, str)):
        raise ValueError("its seal is not valid")
    return found


def digest(kind: type | str, weights: Sequence[np.ndarray]) -> str:
    """Returns the SHA-256 of learned weights.

    Args:
        kind: The class that has learned them, or the name under which Keras knows it.
        weights: Its learned weights.
    """
    name = kind if isinstance(kind, str) else keras.saving.get_registered_name(kind)
    arrays = {f"network/{i}": np.asarray(array) for i, array in enumerate(weights)}
    return packing.digest({"optimizer": np.array(name), **arrays})
