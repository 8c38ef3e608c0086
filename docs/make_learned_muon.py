"""Writes what evaluations say of LearnedMuon to docs/learned-muon.md and to its card.

python docs/make_learned_muon.py runs/learned-muon runs/validation runs/families ...

The page has the commands that write the folders. Those after the second one have other suites.
"""

from __future__ import annotations

import math
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from make_reproduction import Found, fill, markdown, of_suite, overall, ratio

import l2o
from l2o.evaluate.protocol import LEARNED_DECAYS
from l2o.evaluate.report.tables import ratio_text
from l2o.evaluate.suites import SUITES
from l2o.optimizer.learned_muon import ADAM_MULTIPLIER, FACTORED, MOMENTUM, RMS, SPEED
from l2o.train.loading import SHIPPED

NAME = "learned-muon"
PAGE = Path(__file__).parent / "learned-muon.md"
CARD = SHIPPED / NAME / "card.md"


def main(folder: str, for_validation: str, *others: str) -> None:
    """Fills the tables of the page, and the results on the card."""
    made = {
        "tuned for the training loss": whole(folder, "modern"),
        "tuned for the validation loss": whole(for_validation, "modern"),
    }
    suites = {
        f"suite {suite}": whole(where, suite)
        for where in others
        for suite in SUITES.entries
        if of_suite(where, suite)
    }
    fill({"learned": numbers(), **made, **suites}, PAGE)
    about = CARD.read_text("utf-8").split("\n## Results")[0]
    shutil.copy(Path(for_validation) / "eval/modern-ratios.png", PAGE.with_suffix(".png"))
    results = "\n".join(f"### Suite modern, {how}\n\n{text}\n" for how, text in made.items())
    CARD.write_text(f"{about}\n{RESULTS}\n{results}{LIMITS}", "utf-8")


DECAYS = f"{', '.join(f'{decay:g}' for decay in LEARNED_DECAYS[:-1])} or {LEARNED_DECAYS[-1]:g}"
RESULTS = f"""## Results

Protocol `tuned`: each optimizer has the same schedule (warm-up, then a cosine), and its learning
rate is tuned for each problem. A ratio is the mean loss over seeds that neither tuning nor
meta-training used, divided by that of the best baseline. The brackets hold a 95 % bootstrap
interval.
"Tuned for the validation loss": the models of the tuning do not train on a fifth of the training
examples, and tuning minimises the loss on it. Then the weight decay of learned-muon is tuned too:
{DECAYS}. docs/learned-muon.md says more, and where it loses.
"""


LIMITS = """
## Limits

* With rates chosen by the training loss it loses to the best baseline on regression. In test loss
  it loses on long trainings of small models, however the rates are chosen.
* It was trained on classifiers, with a schedule that warms up and falls to 0. With a constant
  learning rate it was measured on one problem only.
* The numbers above are of one seed of the meta-training. Another seed is in docs/learned-muon.md.
"""


def numbers() -> str:
    """Returns what the optimizer has learned, as a table."""
    optimizer = l2o.load(NAME)
    found = optimizer.network.learned()
    rows = ["| weights | gradient | momentum |", "|---|---|---|"]
    scales = (
        "unchanged",
        "divided by the root of the second moment",
        "divided by the root of the factored second moment",
    )
    for scale, (gradient, momentum) in zip(scales, found.mixture.numpy(), strict=True):
        rows.append(f"| {scale} | {gradient:.2f} | {momentum:.2f} |")
    m, v, factored = (float(np.squeeze(decay)) for decay in found.decays)
    size = optimizer.step_size * math.exp(SPEED * found.size)
    vectors = optimizer.step_size * ADAM_MULTIPLIER * math.exp(SPEED * found.vector_size)
    rows += [
        "",
        f"The decays are, with their starts in brackets: {m:.2f} ({MOMENTUM}) of the momentum,",
        f"{v:.3f} ({RMS}) of the second moment, {factored:.3f} ({FACTORED}) of the factored one.",
        f"At a learning rate of 1 a matrix changes by {size:.3f}, in root mean square, and vectors",
        f"take steps of Adam with a learning rate of {vectors:.3f}.",
    ]
    return "\n".join(rows)


def whole(folder: str, suite: str) -> str:
    """Returns the table and the summary of a suite."""
    results = of_suite(folder, suite)
    if not results:
        sys.exit(f"{folder}: expected what evaluate.py --suite {suite} has written")
    return f"{table(results)}\n\n{summary(results, overall(folder, suite))}"


def table(results: list[Found]) -> str:
    """Returns the ratios of training and test loss by problem."""
    rows = [["problem", "steps", "training loss", "test loss", "best baseline"]]
    for one in results:
        own = one["optimizers"][NAME]
        best, by_test = one["best_baseline"], one["best_baseline_by_test_loss"]
        rows.append(
            [
                one["name"],
                f"{one['steps']:,}",
                *(ratio_text(ratio(own[key])) for key in ("ratio_to_best", "test_ratio_to_best")),
                best if by_test in (None, best) else f"{best}; test: {by_test}",
            ]
        )
    return markdown(rows)


def summary(results: list[Found], means: Mapping[str, Sequence[str]]) -> str:
    """Returns the geometric means of the ratios, and the interquartile means of all optimizers."""
    lines = []
    for loss, key in (("training", "ratio_to_best"), ("test", "test_ratio_to_best")):
        values = [ratio(one["optimizers"][NAME][key]).value for one in results]
        mean = math.exp(sum(map(math.log, values)) / len(values))
        lines.append(
            f"* Geometric mean of the ratios of the {loss} loss: **{mean:.2f}**; "
            f"the largest is {max(values):.2f}."
        )
    rows = [["over all problems", "training loss", "test loss"]]
    rows += [[label, *own] for label, own in means.items()]
    return "\n".join([*lines, "", markdown(rows)])


if __name__ == "__main__":
    main(*sys.argv[1:])
