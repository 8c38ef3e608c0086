"""Decoded images on disk, in the user's cache: decoding them again takes most of a short run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from l2o.disk.caching import cache_folder
from l2o.disk.files import read_regular, write_atomically
from l2o.disk.packing import seal, unseal

# Bytes of arrays. While they are written, memory holds them three times.
LARGEST_KEPT = 2**30


def read(about: Mapping[str, Any]) -> dict[str, np.ndarray] | None:
    """Returns the arrays that were written with an equal description.

    Args:
        about: Everything that determines the arrays, a JSON value.

    Returns:
        The arrays; None if there are none, or if they cannot be read or are damaged.
    """
    path = _path(about)
    if path is None:
        return None
    try:
        arrays, found = unseal(read_regular(path, 2 * LARGEST_KEPT))
    except (OSError, ValueError):
        return None
    return arrays if found == about else None


def write(about: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
    """Writes arrays, unless they are large or the folder cannot be written.

    Args:
        about: As for `read`.
        arrays: The arrays.
    """
    path = _path(about)
    if path is None or sum(array.nbytes for array in arrays.values()) > LARGEST_KEPT:
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, seal(arrays, about))
    except OSError:
        # The next run decodes the images again.
        return


def _path(about: Mapping[str, Any]) -> Path | None:
    folder = cache_folder()
    name = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()
    return folder / "images" / f"{name}.npz" if folder else None
