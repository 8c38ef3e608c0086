"""Makes the tables of docs/papers-*.md: `python docs/make_papers.py [PAGE [ROW ...]]`.

Trains the preset of a page, compares it with tuned baselines on the problems of the paper, one
after the other, and writes the table. It can be stopped at any time: finished periods, results and
rows are kept, and the same command goes on. It needs MNIST, see docs/problems.md.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from make_reproduction import fill, table

from l2o.evaluate.suites import SUITES, Case

ROOT, DOCS = Path(__file__).parents[1], Path(__file__).parent
RUNS = Path("runs")
# The network of the papers.
BASE = {"dataset": "mnist", "layers": [20], "activation": "sigmoid", "batch_size": 128}
STEPS = 100
# Models for each setting that is tried; with 10,000 steps more would take hours.
TUNING_SEEDS = 3


class Page(NamedTuple):
    """A page: the preset that it trains, what it is compared with, and the suite."""

    preset: str
    also: str
    suite: str

    def cases(self) -> dict[str, Case]:
        """Returns the problems by the names of their rows."""
        return {case.name: case for case in SUITES.entries[self.suite]("base", BASE, STEPS)}


PAGES = {
    "andrychowicz": Page("dm-mnist", "dm-digits", "dm"),
    "lv": Page("rnnprop-mnist", "rnnprop-digits", "rnnprop"),
}


def training(page: Page) -> list[str]:
    """Returns the arguments of train.py."""
    return ["--preset", page.preset, f"directory={RUNS / page.preset}"]


def evaluation(name: str, case: Case) -> list[str]:
    """Returns the arguments of evaluate.py for a row."""
    page = PAGES[name]
    return [
        str(RUNS / page.preset), page.also,
        "--problem", case.target, "--steps", str(case.steps),
        "--tuning-seeds", str(TUNING_SEEDS), "--output", str(RUNS / "papers" / name / case.name),
        *(f"{key}={json.dumps(value)}" for key, value in case.kwargs.items()),
    ]  # fmt: skip


def results(name: str) -> list[dict]:
    """Returns the finished rows of a page, in the order of its suite."""
    found = []
    for row, case in PAGES[name].cases().items():
        path = RUNS / "papers" / name / row / "eval" / f"{case.target}.json"
        if path.exists():
            found.append({**json.loads(path.read_text("utf-8")), "name": row})
    return found


def main(name: str | None = None, *rows: str) -> None:
    """Makes one page or all; of a page, some rows or all."""
    if name is not None and name not in PAGES:
        sys.exit(f"no page called {name!r}; expected one of {', '.join(PAGES)}")
    for page in [name] if name else PAGES:
        cases = PAGES[page].cases()
        if unknown := [row for row in rows if row not in cases]:
            sys.exit(f"no row called {unknown[0]!r}; expected some of {', '.join(cases)}")
        _call("train.py", *training(PAGES[page]))
        for row in rows or cases:
            _call("evaluate.py", *evaluation(page, cases[row]))
            fill({page: table(results(page))}, DOCS / f"papers-{page}.md")


def _call(script: str, *arguments: str) -> None:
    subprocess.run([sys.executable, str(ROOT / script), *arguments], check=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
