"""Makes the tables of docs/papers-*.md: `python docs/make_papers.py [PAGE [ROW ...]]`.

Compares trained optimizers with tuned baselines on the problems of a paper, one after the other,
and writes the table of the page, and two pictures: the curves of the row `base`, and the ratios of
docs/papers-lv.md. It can be stopped at any time: finished rows and results are kept, and the same
command goes on. It needs MNIST, see docs/problems.md.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

from calling import call
from make_reproduction import add_results, fill, table, unique, values

from l2o.evaluate.report import pictures
from l2o.evaluate.suites import SUITES, Case

DOCS = Path(__file__).parent
RUNS = Path("runs/papers")
# The network of the papers.
BASE = {"dataset": "mnist", "layers": [20], "activation": "sigmoid", "batch_size": 128}
STEPS = 100
# Models for each setting that is tried; with 10,000 steps more would take hours.
TUNING_SEEDS = 3
GIVEN = (
    "dm-digits",
    "dm-mnist",
    "rnnprop-digits",
    "rnnprop-mnist",
    "scale-basic-digits",
    "scale-hierarchical-digits",
)
# Beside its results, what the card of an optimizer that was trained on MNIST says.
LIMITS = """\
* It was trained with one seed, for trainings of 100 and 200 steps.
* A step takes several times as long as Adam's.
"""
# The suite of each page.
PAGES = {"andrychowicz": "dm", "lv": "rnnprop", "wichrowska": "scale"}


def cases(page: str) -> dict[str, Case]:
    """Returns the problems of a page by the names of their rows."""
    return {case.name: case for case in SUITES.entries[PAGES[page]]("base", BASE, STEPS)}


def output(case: Case) -> Path:
    """Returns where a row is written. Pages share a row, but `conv` has other steps on each."""
    return RUNS / f"{case.name}-{case.steps}"


def command(case: Case) -> list[str]:
    """Returns the arguments of evaluate.py for a row."""
    return [
        *GIVEN,
        *("--problem", case.target, "--steps", str(case.steps)),
        *("--tuning-seeds", str(TUNING_SEEDS), "--output", str(output(case))),
        *(f"{key}={json.dumps(value)}" for key, value in case.kwargs.items()),
    ]


def results(page: str) -> list[dict]:
    """Returns the finished rows of a page, in the order of its suite."""
    found = []
    for row, case in cases(page).items():
        path = output(case) / "eval" / f"{case.target}.json"
        if path.exists():
            found.append({**json.loads(path.read_text("utf-8")), "name": row})
    return found


def main(name: str | None = None, *rows: str) -> None:
    """Makes one page or all; of a page, some rows or all."""
    if name is not None and name not in PAGES:
        sys.exit(f"no page called {name!r}; expected one of {', '.join(PAGES)}")
    for page in [name] if name else PAGES:
        known = cases(page)
        if unknown := [row for row in rows if row not in known]:
            sys.exit(f"no row called {unknown[0]!r}; expected some of {', '.join(known)}")
        for row in rows or known:
            call("evaluate.py", *command(known[row]))
            fill({page: table(results(page))}, DOCS / f"papers-{page}.md")
            if row == "base":
                curves = output(known[row]) / f"eval/{known[row].target}.png"
                shutil.copy(curves, DOCS / "papers-mnist.png")
        if page == "lv":
            pictures.ratios(DOCS / "papers-lv.png", values(results(page)))
    found = unique(one for page in PAGES for one in results(page))
    for label in GIVEN:
        if label.endswith("-mnist"):
            add_results(label, found, LIMITS)


if __name__ == "__main__":
    main(*sys.argv[1:])
