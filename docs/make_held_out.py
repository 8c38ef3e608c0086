"""Writes what evaluations say of optimizers that were trained for held-out examples.

`python docs/make_held_out.py EVALUATIONS` takes the folder of `make held-out`. It fills the tables
of docs/held-out.md and the results on the cards.
"""

import sys
from pathlib import Path

from make_reproduction import Found, fill, learned, of_suite, ratio_of, table, unique

from l2o.train.loading import SHIPPED

PAGE = Path(__file__).parent / "held-out.md"
TABLES = {"training loss": "train_loss", "test loss": "test_loss"}
RESULTS = """## Results

A ratio is the mean loss over seeds that meta-training did not use, divided by that of the best of
SGD, momentum, RMSprop, Adam and AdamW by this loss. Each of these has the learning rate with the
smallest training loss. The brackets hold a 95 % bootstrap interval. docs/held-out.md says more.
"""


def main(folder: str) -> None:
    """Fills the tables of the page, and the results on the cards."""
    found = unique(one for suite in ("scale", "generalization") for one in of_suite(folder, suite))
    if not found:
        sys.exit(f"{folder}: expected a folder that evaluate.py --suite has written")
    fill({name: table(found, measure) for name, measure in TABLES.items()}, PAGE)
    for label in learned(found[0]):
        if label.endswith("-held-out"):
            add_results(label, found)


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
        lost.append(f"* Its mean {name} is above that of the best baseline on: ")
        lost[-1] += f"{', '.join(names) or 'none'}."
    path.write_text("\n".join([*parts, "## Limits\n", *lost, ""]), "utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
