"""Compares optimizers that come with l2o where they are likely to fail: `make comparison`.

Evaluates them with the command of docs/comparison.md, fills the table of that page and copies the
picture. It can be stopped at any time: finished results are cached, and the same command goes on.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from calling import call
from make_reproduction import Found, fill, learned, markdown, of_suite, overall, ratio_of

from l2o.evaluate.metrics import Ratio
from l2o.evaluate.report.tables import ratio_text

PAGE = Path(__file__).parent / "comparison.md"
FOLDER = Path("runs/comparison")
SUITE = "refutation"
GIVEN = (
    "learned-muon",
    "dm-held-out",
    "rnnprop-held-out",
    "scale-basic-held-out",
    "scale-hierarchical-held-out",
)
COMMAND = (
    *GIVEN,
    *("--suite", SUITE, "--protocol", "tuned", "--tune-for", "validation", "--seeds", "5"),
    *("--baselines", "Momentum,Adam,AdamW2D,Muon", "--output", str(FOLDER)),
)
HEAD = (
    "optimizer",
    "training loss",
    "test loss",
    "largest",
    "below the best baseline",
    "diverged",
)


def main() -> None:
    """Evaluates, and fills the table."""
    call("evaluate.py", *COMMAND)
    show()


def show() -> None:
    """Fills the table of the page with what is there."""
    fill({SUITE: table(of_suite(FOLDER, SUITE), overall(FOLDER, SUITE))}, PAGE)
    shutil.copy(FOLDER / f"eval/{SUITE}-ratios.png", PAGE.with_suffix(".png"))


def table(found: list[Found], means: Mapping[str, Sequence[str]]) -> str:
    """Returns a table with a row for each optimizer.

    Args:
        found: The results on each problem.
        means: For each optimizer its means over the suite.
    """
    rows: list[Sequence[str]] = [HEAD]
    for label, own in means.items():
        about = _counts(found, label) if label in learned(found[0]) else ("", "")
        rows.append([label, *own, *about, str(_diverged(found, label))])
    return markdown(rows)


def _counts(found: list[Found], label: str) -> tuple[str, str]:
    """Returns the largest ratio of the test loss, and on how many problems it is below 1."""
    ratios = {one["name"]: ratio_of(one, label, "test_loss").value for one in found}
    worst = max(ratios, key=ratios.__getitem__)
    below = sum(ratio < 1 for ratio in ratios.values())
    return f"{ratio_text(Ratio(ratios[worst], None, None))} ({worst})", f"{below} of {len(ratios)}"


def _diverged(found: list[Found], label: str) -> int:
    """Returns how many models of an optimizer or a baseline diverged."""
    return sum(
        round(own["measures"]["diverged"]["mean"] * len(one["seeds"]))
        for one in found
        for name, own in one["optimizers"].items()
        if name == label or (not own["learned"] and name.split(" ")[0] == label)
    )


if __name__ == "__main__":
    main()
