"""Named arrays as bytes, for files and between processes: arrays and nothing else."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np

# The array that says what the others are.
SEAL = "seal"


def pack(arrays: Mapping[str, np.ndarray]) -> bytes:
    """Returns named arrays as bytes, the content of an .npz file; equal ones for equal arrays."""
    packed = io.BytesIO()
    np.savez(packed, **dict(arrays))  # type: ignore[arg-type]
    return packed.getvalue()


def unpack(packed: bytes) -> dict[str, np.ndarray]:
    """Undoes `pack`.

    Raises:
        ValueError: If it is nothing that `pack` returned, or holds anything but arrays.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(packed)) as archive:
            return {_name(info): _array(archive, info) for info in archive.infolist()}
    except Exception as error:
        # Its parsers have no list of what bytes that are no archive make them raise.
        raise ValueError(str(error) or type(error).__name__) from None


def _name(info: zipfile.ZipInfo) -> str:
    name, dot, suffix = info.filename.rpartition(".")
    if (dot, suffix) != (".", "npy"):
        raise ValueError(f"{info.filename!r} in it is no array")
    # A few bytes that are compressed can be any number of gigabytes.
    if info.compress_type != zipfile.ZIP_STORED:
        raise ValueError(f"{info.filename!r} in it is compressed")
    return name


def _array(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> np.ndarray:
    # Whole, so that its checksum is compared before NumPy sees it.
    content = io.BytesIO(archive.read(info))
    return np.lib.format.read_array(content, allow_pickle=False)


def digest(arrays: Mapping[str, np.ndarray]) -> str:
    """Returns a name for arrays that no others have: SHA-256 of names, types, shapes, values."""
    found = hashlib.sha256()
    for name in sorted(arrays):
        array = arrays[name]
        found.update(repr((name, array.dtype.str, array.shape)).encode())
        found.update(np.ascontiguousarray(array).tobytes())
    return found.hexdigest()


def seal(arrays: Mapping[str, np.ndarray], about: Any) -> bytes:
    """Returns `pack` of arrays with a seal: what they are, and a checksum of all of it.

    Args:
        arrays: None of them called "seal".
        about: What they are, a JSON value.
    """
    text = json.dumps({"about": about, "sha256": _checksum(arrays, about)})
    return pack({**arrays, SEAL: np.array(text)})


def unseal(packed: bytes) -> tuple[dict[str, np.ndarray], Any]:
    """Undoes `seal`.

    Returns:
        The arrays, and what the seal says they are.

    Raises:
        ValueError: If it is nothing that `seal` returned, or was changed since.
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
        raise ValueError("its content is not what was written")
    return arrays, about


def _checksum(arrays: Mapping[str, np.ndarray], about: Any) -> str:
    return digest({**arrays, SEAL: np.array(json.dumps(about))})
