"""The card of a saved optimizer: a README.md that people, and the Hub, read."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from l2o.version import __version__

if TYPE_CHECKING:
    from l2o.optimizer.saved import Saved

BEGIN = "<!-- l2o: saving writes this part again -->"
END = "<!-- /l2o -->"
# Greedy: what is saved about an optimizer may hold the end of the part too.
PART = re.compile(f"{re.escape(BEGIN)}.*{re.escape(END)}", re.DOTALL)


def card(saved: Saved, sha256: str, source: str, before: str | None = None) -> str:
    """Returns a card.

    Args:
        saved: The optimizer.
        sha256: That of its learned weights.
        source: The argument with which `l2o.load` finds it.
        before: The card that is there already; only the part that l2o wrote is replaced, and a
            text without such a part stays as it is [None].
    """
    part = f"{BEGIN}\n\n{_part(saved, sha256, source)}\n\n{END}"
    if before is not None:
        # A function, because a text may hold what `sub` takes for a reference.
        return PART.sub(lambda _: part, before, count=1)
    name = saved.kind.rpartition(">")[2]
    return f"""---
library_name: l2o
tags:
- l2o
- keras
- learned-optimizer
---

# {name}

{part}

## Training

<!-- The problems that it was trained on, the command or program, the seed, the time. -->

## Results

<!-- What it was compared with: problems, steps, seeds, and how the others were tuned. -->

## Limits

<!-- Where it loses. -->
"""


def _part(saved: Saved, sha256: str, source: str) -> str:
    package, _, name = saved.kind.rpartition(">")
    options = [
        f"* `{key}`: `{json.dumps(value)}`" for key, value in saved.options.items() if key != "name"
    ]
    numbers = sum(array.size for array in saved.weights)
    lines = [saved.about, ""] if saved.about else []
    lines += ["```python", "import l2o", ""]
    lines += [f"optimizer = l2o.load({json.dumps(source)})", "```", ""]
    if package != "l2o":
        lines += [f"`{name}` is not a class of l2o: import the module that defines it first.", ""]
    lines += [
        f"`{name}` with {numbers:,} learned weights, saved by l2o {__version__}. "
        f"Their SHA-256 is `{sha256}`.",
        "",
        "Options:",
        "",
        *options,
    ]
    return "\n".join(lines)
