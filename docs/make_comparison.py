"""Compares optimizers that come with l2o on suites: `make comparison`.

`python docs/make_comparison.py [SUITE ...]` evaluates them with the commands of docs/comparison.md,
fills the tables of that page and copies the pictures. It can be stopped at any time: finished
results are cached, and the same command goes on.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from calling import call
from make_reproduction import Found, fill, learned, markdown, of_suite, overall, ratio_of

from l2o.evaluate.metrics import Ratio
from l2o.evaluate.report.tables import ratio_text

PAGE = Path(__file__).parent / "comparison.md"
FOLDER = Path("runs/comparison")
SUITES = ("modern", "families", "generalization", "refutation")
GIVEN = (
    "learned-muon",
    "dm-held-out",
    "rnnprop-held-out",
    "rnnprop-wide",
    "scale-basic-held-out",
    "scale-hierarchical-held-out",
)
COMMANDS = {
    suite: (
        *GIVEN,
        *("--suite", suite, "--protocol", "tuned", "--tune-for", "validation", "--seeds", "5"),
        *("--baselines", "Momentum,Adam,AdamW2D,Muon,Muon2D", "--output", str(FOLDER)),
    )
    for suite in SUITES
}
HEAD = (
    "optimizer",
    "training loss",
    "test loss",
    "largest",
    "below the best baseline",
    "diverged",
)


def main(*suites: str) -> None:
    """Evaluates on some suites or all, and fills their tables."""
    if unknown := [suite for suite in suites if suite not in SUITES]:
        sys.exit(f"no suite called {unknown[0]!r} here; expected some of {', '.join(SUITES)}")
    for suite in suites or SUITES:
        call("evaluate.py", *COMMANDS[suite])
        show(suite)


def show(suite: str) -> None:
    """Fills the table of a suite with what is there."""
    fill({suite: table(of_suite(FOLDER, suite), overall(FOLDER, suite))}, PAGE)
    shutil.copy(FOLDER / f"eval/{suite}-ratios.png", PAGE.with_name(f"comparison-{suite}.png"))


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
    main(*sys.argv[1:])
