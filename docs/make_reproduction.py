"""Writes the results of evaluations to docs/reproduction.md and to the model cards.

`python docs/make_reproduction.py EVALUATIONS [ABLATIONS]` takes a folder that evaluate.py has
written and a folder of such folders, see `make reproduction` and `make ablations`. Each table of
the page stands between two comments. A table without new results does not change.
"""

import json
import re
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from l2o.evaluate.metrics import Ratio
from l2o.evaluate.report import pictures
from l2o.evaluate.report.tables import ratio_text
from l2o.evaluate.suites import SUITES
from l2o.train.loading import SHIPPED

PAGE = Path(__file__).parent / "reproduction.md"
Found = Mapping[str, Any]
# Where a result has the ratio of a loss, and the best baseline by it.
KEYS = {
    "train_loss": ("ratio_to_best", "best_baseline"),
    "test_loss": ("test_ratio_to_best", "best_baseline_by_test_loss"),
}
# What the cards of the recipes say beside their results.
LIMITS = """\
* It minimises only the training loss. Its test losses are often worse than those of the baselines.
* With another seed of the meta-training, it is better or worse on some problems:
  docs/reproduction.md.
* A step takes several times as long as Adam's.
"""


def main(evaluations: str, ablations: str | None = None) -> None:
    """Fills the tables, draws the pictures and adds the results to the cards."""
    suites = _found((name, evaluations, name) for name in SUITES.entries)
    if not suites:
        sys.exit(f"{evaluations}: expected a folder that evaluate.py --suite has written")
    fill({name: table(found) for name, found in suites.items()})
    whole = unique(found for own in suites.values() for found in own)
    pictures.ratios(PAGE.with_name("reproduction-ratios.png"), values(whole))
    shutil.copy(Path(evaluations) / "eval/dm.png", PAGE.with_name("reproduction-dm.png"))
    for name in learned(whole[0]):
        add_results(name, whole)
    folders = sorted(Path(ablations).iterdir()) if ablations else []
    ablated = _found((path.name, path, name) for path in folders for name in SUITES.entries)
    fill({f"ablation {name}": table(found) for name, found in ablated.items()})
    for name, found in ablated.items():
        ratios = values(found)
        if len(learned(found[0])) > len(found):  # a page is taller than wide
            ratios = {run: {k: row[run] for k, row in ratios.items()} for run in learned(found[0])}
        pictures.ratios(PAGE.with_name(f"ablation-{name}.png"), ratios)


def _found(wanted: Iterable[tuple[str, Any, str]]) -> dict[str, list[Found]]:
    return {label: found for label, *where in wanted if (found := of_suite(*where))}


def fill(tables: Mapping[str, str], path: Path = PAGE) -> None:
    """Writes each table to a page, between the comments with its name."""
    page = path.read_text("utf-8")
    for name, rows in tables.items():
        page, count = re.subn(
            rf"(<!-- {re.escape(name)} -->\n).*?(<!-- end -->)",
            lambda m, rows=rows: f"{m[1]}\n{rows}\n\n{m[2]}",
            page,
            flags=re.S,
        )
        if count != 1:
            sys.exit(f"{path}: expected one table called {name}")
    path.write_text(page, "utf-8")


def of_suite(folder: str | Path, suite: str) -> list[Found]:
    """Returns the results of evaluate.py on a suite, in the order of the suite."""
    paths = [
        Path(folder) / f"eval/{suite}-{c.name}.json" for c in SUITES.entries[suite]("base", {}, 1)
    ]
    # The first problem is called "training" if the optimizer was trained on it.
    paths = [p if p.exists() else p.with_name(p.name.replace("-base", "-training")) for p in paths]
    return [json.loads(path.read_text("utf-8")) for path in paths if path.exists()]


def unique(results: Iterable[Found]) -> list[Found]:
    """Returns the first result for each pair of problem and steps."""
    found: dict[tuple[str, int], Found] = {}
    for one in results:
        found.setdefault((one["name"], one["steps"]), one)
    return list(found.values())


def learned(one: Found) -> list[str]:
    """Returns the labels of the learned optimizers."""
    return [label for label, own in one["optimizers"].items() if own["learned"]]


def values(results: Iterable[Found]) -> dict[str, dict[str, float]]:
    """Returns for each problem the ratios by optimizer."""
    return {
        f"{one['name']}, {one['steps']:,}": {
            label: ratio_of(one, label).value for label in learned(one)
        }
        for one in results
    }


def table(
    results: list[Found], measure: str = "train_loss", labels: Sequence[str] | None = None
) -> str:
    """Returns a table of ratios with intervals, diverged models and the best baseline.

    Args:
        results: Of all problems.
        measure: "train_loss" or "test_loss" ["train_loss"].
        labels: The optimizers [all learned ones].
    """
    labels = learned(results[0]) if labels is None else labels
    head = ["problem", "steps", *labels, "best baseline"]
    rows = [
        [
            one["name"],
            f"{one['steps']:,}",
            *(cell(one, label, measure) for label in labels),
            best(one, measure),
        ]
        for one in results
    ]
    return markdown([head, *rows])


def markdown(rows: Iterable[Sequence[str]]) -> str:
    """Returns a table in Markdown; the first row is its head."""
    head, *others = rows
    return "\n".join(f"| {' | '.join(row)} |" for row in [head, ["---"] * len(head), *others])


def add_results(name: str, results: list[Found], limits: str = LIMITS) -> None:
    """Writes the results of an optimizer to its card, and where it loses, with further limits."""
    path = SHIPPED / name / "card.md"
    about = path.read_text("utf-8").split("\n## Results")[0]
    rows = "\n".join(
        f"| {one['name']} | {one['steps']:,} | {cell(one, name)} | {best(one)} |" for one in results
    )
    by_verdict: dict[str, list[str]] = {"clear": [], "unclear": []}
    for one in results:
        if verdict := _loss(one, name):
            by_verdict[verdict].append(f"{one['name']} ({one['steps']:,} steps)")
    clear, unclear = (", ".join(found) or "none" for found in by_verdict.values())
    path.write_text(
        f"""{about}
## Results

The ratio is the mean training loss over {len(results[0]["seeds"])} seeds that
meta-training did not use, divided by that of the best of SGD, momentum, RMSprop, Adam and AdamW,
each at its best learning rate. The brackets hold a 95 % bootstrap interval. Seeds that diverged are
counted, if there are any. docs/evaluation.md explains the problems.

| problem | steps | ratio | best baseline |
|---|---|---|---|
{rows}

## Limits

* It loses to the best baseline on: {clear}.
* Its mean is above that of the best baseline, but the interval includes 1, on: {unclear}.
{limits}""",
        "utf-8",
    )


def cell(one: Found, label: str, measure: str = "train_loss") -> str:
    """Returns the ratio of an optimizer with its interval, and how many models diverged."""
    lost = round(one["optimizers"][label]["measures"]["diverged"]["mean"] * len(one["seeds"]))
    text = ratio_text(ratio_of(one, label, measure))
    return f"{text}, {lost} diverged" if 0 < lost < len(one["seeds"]) else text


def best(one: Found, measure: str = "train_loss") -> str:
    """Returns the best baseline by a loss, and its mean."""
    label = one[KEYS[measure][1]]
    mean = one["optimizers"][label]["measures"][measure]["mean"]
    return f"{label}: " + ("diverged" if mean is None else f"{mean:.3g}")


def ratio_of(one: Found, label: str, measure: str = "train_loss") -> Ratio:
    """Returns the ratio of an optimizer's loss on a problem; infinity if it diverged."""
    return ratio(one["optimizers"][label][KEYS[measure][0]])


def ratio(found: Mapping[str, Any]) -> Ratio:
    """Returns a ratio as the files of an evaluation have it: null is infinity."""
    value = float("inf") if found["value"] is None else found["value"]
    return Ratio(value, found["low"], found["high"])


def overall(folder: str | Path, suite: str) -> dict[str, list[str]]:
    """Returns for each optimizer its means over a suite, of the training and of the test loss."""
    path = Path(folder) / f"eval/{suite}-overall.json"
    keys = ("interquartile_mean_ratio", "interquartile_mean_test_ratio")
    return {
        label: [ratio_text(ratio(own[key])) for key in keys]
        for label, own in json.loads(path.read_text("utf-8"))["optimizers"].items()
    }


def _loss(one: Found, label: str) -> str | None:
    found = ratio_of(one, label)
    if found.value <= 1:
        return None
    return "unclear" if found.low is not None and found.low <= 1 else "clear"


if __name__ == "__main__":
    main(*sys.argv[1:])
