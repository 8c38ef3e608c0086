"""A cache of results on disk, by everything that they depend on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import l2o.version
from l2o.disk.files import read_regular, write_atomically
from l2o.disk.packing import seal, unseal

LARGEST_RESULT = 2**32
# The folders and files of this package that results do not depend on.
UNRELATED = {
    "train", "evaluate/report",
    "config", "__init__.py", "__main__.py", "api.py", "errors.py", "listing.py", "progress.py",
    "registry.py", "shell.py", "signals.py", "starting.py", "version.py",
    "problems/contract.py", "problems/decoded.py",
    "optimizer/card.py", "optimizer/hub.py",
    "disk/__init__.py", "disk/caching.py", "disk/files.py", "disk/packing.py",
    "evaluate/__init__.py", "evaluate/aggregate.py", "evaluate/cache.py", "evaluate/comparison.py",
    "evaluate/evaluation.py", "evaluate/metrics.py", "evaluate/protocol.py", "evaluate/session.py",
    "evaluate/suites.py", "evaluate/sweeping.py",
}  # fmt: skip


class Cache:
    """A folder of results.

    Args:
        folder: The folder, made at the first result; None: nothing is cached.

    Attributes:
        failure: Why the last result could not be cached; None if it was.
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self.failure: str | None = None

    def get(self, key: Mapping[str, Any]) -> dict[str, np.ndarray] | None:
        """Returns the result that was put under an equal key, or None.

        Args:
            key: A JSON value with everything that the result depends on.
        """
        if self.folder is None:
            return None
        whole = _whole(key)
        try:
            arrays, about = unseal(read_regular(self._path(whole), LARGEST_RESULT))
        except (OSError, ValueError):
            # A missing or damaged result is computed and written.
            return None
        return arrays if about == whole else None

    def put(self, key: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
        """Writes a result; if that fails, `failure` says why."""
        if self.folder is None:
            return
        whole = _whole(key)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_atomically(self._path(whole), seal(arrays, whole))
        except OSError as error:
            self.failure = f"results are not cached in {self.folder}: {error.strerror or error}"

    def _path(self, whole: Any) -> Path:
        assert self.folder is not None
        name = hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()
        return self.folder / f"{name}.npz"


def _whole(key: Mapping[str, Any]) -> Any:
    # As a file has it: tuples become lists.
    return json.loads(json.dumps({**key, **_made_by()}))


@lru_cache(maxsize=1)
def _made_by() -> dict[str, str]:
    """Returns what every result depends on: the code, the libraries and the kind of device."""
    code = hashlib.sha256()
    package = Path(l2o.version.__file__).parent
    for path in sorted(package.rglob("*.py")):
        place = path.relative_to(package)
        if UNRELATED.isdisjoint(part.as_posix() for part in (place, *place.parents)):
            code.update(str(place).encode() + path.read_bytes())
    devices = {device.device_type for device in tf.config.list_logical_devices()}
    return {
        "l2o": f"{l2o.version.__version__} {code.hexdigest()}",
        "libraries": f"tensorflow {tf.__version__}, keras {keras.__version__}, {np.__version__}",
        "devices": ", ".join(sorted(devices)),
    }
