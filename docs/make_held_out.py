"""Writes what evaluations say of optimizers that were trained for held-out examples.

`python docs/make_held_out.py FOLDER ...` takes what the commands of docs/held-out.md have written,
one folder for each problem. It fills the tables of the page and the results on the cards.
"""

import json
import sys
from pathlib import Path

from make_reproduction import Found, best, cell, fill, learned, markdown, ratio_of, table

from l2o.train.loading import SHIPPED

PAGE = Path(__file__).parent / "held-out.md"
TABLES = {"training loss": "train_loss", "test loss": "test_loss"}
RESULTS = """## Results

Protocol `tuned`, with rates that were chosen by the loss on held-out training examples: each
optimizer has the same schedule (warm-up, then a cosine). A ratio is the mean loss over seeds that
neither tuning nor meta-training used, divided by that of the best of momentum, Adam and AdamW by
this loss. The brackets hold a 95 % bootstrap interval. docs/held-out.md has the commands.
"""

# What docs/comparison.md shows of all four.
ELSEWHERE = """\
* On the suites `modern` and `families` its test loss is behind that of tuned Adam and AdamW:
  docs/comparison.md.
"""


def main(*folders: str) -> None:
    """Fills the tables of the page, and the results on the cards."""
    found = [
        json.loads(path.read_text("utf-8"))
        for folder in folders
        for path in sorted(Path(folder).glob("eval/*.json"))
    ]
    if not found:
        sys.exit("expected folders that evaluate.py has written")
    if len({tuple(learned(one)) for one in found}) > 1:
        sys.exit("expected the same learned optimizers in all folders")
    found.sort(key=lambda one: (one["name"], one["steps"]))
    fill({name: by_optimizer(found, measure) for name, measure in TABLES.items()}, PAGE)
    for label in learned(found[0]):
        if label.endswith("-held-out"):
            add_results(label, found)


def by_optimizer(found: list[Found], measure: str) -> str:
    """Returns a table of ratios with a row for each optimizer, and the best baselines below."""
    head = ["optimizer", *(f"{one['name']}, {one['steps']:,} steps" for one in found)]
    rows = [[label, *(cell(one, label, measure) for one in found)] for label in learned(found[0])]
    rows.append(["best baseline", *(best(one, measure) for one in found)])
    return markdown([head, *rows])


def add_results(label: str, found: list[Found]) -> None:
    """Writes the results and limits of an optimizer to its card."""
    path = SHIPPED / label / "card.md"
    parts = [path.read_text("utf-8").split("\n## Results")[0], RESULTS]
    lost = []
    for name, measure in TABLES.items():
        parts.append(f"### {name.capitalize()}\n\n{table(found, measure, [label])}\n")
        names = [
            f"{one['name']} ({one['steps']:,} steps)"
            for one in found
            if ratio_of(one, label, measure).value > 1
        ]
        lost.append(
            f"* Its mean {name} is above that of the best baseline on: "
            f"{', '.join(names) or 'none'}."
        )
    path.write_text("\n".join([*parts, "## Limits\n", *lost, ELSEWHERE]), "utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
