"""The Python examples of a page, run as a reader would run them: with nothing defined before."""

import re
from pathlib import Path

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
