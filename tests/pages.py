"""The examples of a page, run as a reader would run them, and the programs of docs/."""

import re
import runpy
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
# The first line of a block that needs the names of the block above it.
CONTINUES = "# Continues the block above.\n"


def blocks(page: str) -> list[str]:
    """Returns the Python blocks of a page, such as "docs/keras.md"."""
    return re.findall(r"^```python\n(.*?)^```", (ROOT / page).read_text("utf-8"), re.S | re.M)


def run(page: str) -> list[dict]:
    """Runs every block of a page in the current directory.

    Returns:
        For each block the names that are defined after it. A block starts without any name
        unless its first line is `CONTINUES`.
    """
    after: list[dict] = []
    for i, block in enumerate(blocks(page), start=1):
        names = dict(after[-1]) if block.startswith(CONTINUES) else {}
        exec(compile(block, f"<block {i} of {page}>", "exec"), names)
        after.append(names)
    return after


def program(name: str) -> dict[str, Any]:
    """Returns the names that a program of docs/ defines; it finds its neighbours, as when run."""
    docs = str(ROOT / "docs")
    sys.path.insert(0, docs)
    try:
        return runpy.run_path(f"{docs}/{name}.py")
    finally:
        sys.path.remove(docs)
