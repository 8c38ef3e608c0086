"""Named arrays as bytes, for files and for messages between processes."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np

# Name of the array that describes the others.
SEAL = "seal"


def pack(arrays: Mapping[str, np.ndarray]) -> bytes:
    """Returns named arrays as the bytes of an .npz file; equal arrays give equal bytes."""
    packed = io.BytesIO()
    np.savez(packed, **dict(arrays))  # type: ignore[arg-type]
    return packed.getvalue()


def unpack(packed: bytes) -> dict[str, np.ndarray]:
    """Undoes `pack`.

    Raises:
        ValueError: If the bytes are not from `pack`, or hold anything but arrays.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(packed)) as archive:
            return {_name(info): _array(archive, info) for info in archive.infolist()}
    except Exception as error:
        # There is no list of what the parsers raise for bytes that are not an archive.
        raise ValueError(str(error) or type(error).__name__) from None


def _name(info: zipfile.ZipInfo) -> str:
    name, dot, suffix = info.filename.rpartition(".")
    if (dot, suffix) != (".", "npy"):
        raise ValueError(f"{info.filename!r} in it is not an array")
    # A few compressed bytes can expand to any number of gigabytes.
    if info.compress_type != zipfile.ZIP_STORED:
        raise ValueError(f"{info.filename!r} in it is compressed")
    return name


def _array(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> np.ndarray:
    # Reads all of it first, so that the checksum is compared before NumPy parses it.
    content = io.BytesIO(archive.read(info))
    return np.lib.format.read_array(content, allow_pickle=False)


def digest(arrays: Mapping[str, np.ndarray]) -> str:
    """Returns the SHA-256 of the names, types, shapes and values of arrays."""
    found = hashlib.sha256()
    for name in sorted(arrays):
        array = arrays[name]
        found.update(repr((name, array.dtype.str, array.shape)).encode())
        found.update(np.ascontiguousarray(array).tobytes())
    return found.hexdigest()


def seal(arrays: Mapping[str, np.ndarray], about: Any) -> bytes:
    """Returns the bytes of arrays with a seal: a description and a checksum of everything.

    Args:
        arrays: The arrays; none of them is called "seal".
        about: The description, a JSON value.
    """
    text = json.dumps({"about": about, "sha256": _checksum(arrays, about)})
    return pack({**arrays, SEAL: np.array(text)})


def unseal(packed: bytes) -> tuple[dict[str, np.ndarray], Any]:
    """Undoes `seal`.

    Returns:
        The arrays and the description.

    Raises:
        ValueError: If the bytes are not from `seal`, or were changed.
    """
    arrays = unpack(packed)
    if SEAL not in arrays:
        raise ValueError("it has no seal: an older version wrote it, or something else")
    try:
        found = json.loads(str(arrays.pop(SEAL)))
        about, checksum = found["about"], found["sha256"]
    except (ValueError, TypeError, KeyError, RecursionError):
        raise ValueError("its seal is not valid") from None
    if checksum != _checksum(arrays, about):
        raise ValueError("its content was changed after it was written")
    return arrays, about


def _checksum(arrays: Mapping[str, np.ndarray], about: Any) -> str:
    return digest({**arrays, SEAL: np.array(json.dumps(about))})
