"""Where results are cached."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path | None:
    """Returns the folder that `L2O_CACHE` names, or the user's cache; None if it is empty."""
    if (named := os.environ.get("L2O_CACHE")) is not None:
        return Path(named) if named else None
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(base) / "l2o"
