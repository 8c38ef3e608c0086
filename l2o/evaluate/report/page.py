"""The content of report.html."""

from __future__ import annotations

import math
import platform
from collections.abc import Mapping

import keras
import tensorflow as tf

from l2o.evaluate.baselines import FIRST, LAST, rate
from l2o.evaluate.comparison import Comparison
from l2o.evaluate.evaluation import Evaluation, described, titled
from l2o.evaluate.metrics import WINDOW
from l2o.evaluate.report import html, tables
from l2o.shell import command, directory_option
from l2o.version import __version__


def report_page(evaluation: Evaluation, pictures: Mapping[str, bytes]) -> str:
    """Returns an evaluation as a page of HTML.

    Args:
        evaluation: The evaluation.
        pictures: PNG files by their content: "curves" and, if they exist, "ratios",
            "meta-training" and "updates".
    """

    def picture(name: str, caption: str) -> list[html.Part]:
        return [html.Picture(pictures[name], caption)] if name in pictures else []

    found, count = evaluation.found, evaluation.request.seeds
    seeds = tables.counted(count, "seed")
    interval = ", with a 95 % interval (bootstrap, paired by seed)" if count > 1 else ""
    sections: dict[str, list[html.Part]] = {
        "Against the best baseline": [
            "Mean training loss of the learned optimizer divided by that of the best baseline, "
            f"over {seeds}{interval}. Below 1 the learned optimizer wins.",
            html.Table(evaluation.overview()),
            *evaluation.left_out,
            *picture("ratios", "Green: the learned optimizer is better. Purple: it is worse."),
        ],
        "Training loss": picture("curves", "Mini-batch loss by training step."),
        "What was learned": picture(
            "updates",
            f"Size of each change against that of its gradient, on {titled(found[0])}.",
        ),
        "Meta-training": picture(
            "meta-training",
            "Training loss (grey) and validation loss; the dot is the period whose weights were "
            "evaluated.",
        ),
        "All measures": [
            "Mean, ± standard deviation, over seeds. Losses and accuracies are those of whole "
            'splits after the last step. "at N" is the loss of a mini-batch after N steps. The '
            "log-loss is the mean over all steps of the natural logarithm of the mini-batch loss, "
            f"the area under that curve. Steps are counted until the mean of {WINDOW} mini-batch "
            "losses is at most the target: the final loss of the best baseline (*), unless "
            "another target was given. A model that ends above its first loss has diverged. Time "
            "is that of a step of one model, relative to Adam.",
            *(part for one in found for part in _measures(one)),
        ],
        "How the baselines were tuned": [
            "The table has the mean training loss after the last step, over as many other seeds. "
            "The smallest loss chooses the learning rate. The grid is "
            f"{', '.join(f'{rate(k):g}' for k in range(FIRST, LAST + 1))}. While the best rate is "
            "at an end, the grid grows there by a factor of about 3. Momentum is SGD with momentum "
            "0.9. All other options have Keras' defaults.",
            html.Table(_tuning(found)),
        ],
        "How to reproduce": _reproduce(evaluation),
    }
    what = f"{len(found)} problems" if len(found) > 1 else described(found[0].case)
    subtitle = (
        f"{what}, {seeds}. l2o {__version__}, TensorFlow {tf.__version__}, "
        f"Keras {keras.__version__}, Python {platform.python_version()}"
    )
    return html.page(f"{', '.join(evaluation.learned)} on {evaluation.name}", subtitle, sections)


def _measures(one: Comparison) -> list[html.Part]:
    return [
        html.Heading(titled(one)),
        f"{one.case.target}: {described(one.case)}",
        html.Table(tables.rows(one), emphasised=len(one.learned)),
    ]


def _tuning(found: list[Comparison]) -> list[list[str]]:
    tuned = [
        (one.case.name, label, entry.rates or {})
        for one in found
        for label, entry in one.baselines.items()
    ]
    rates = sorted({r for _, _, means in tuned for r in means})
    rows = [["problem", "optimizer", *(f"{r:g}" for r in rates)]]
    for problem, label, means in tuned:
        rows.append([problem, label, *(_mean(means[r]) if r in means else "" for r in rates)])
    return rows


def _mean(value: float) -> str:
    return f"{value:.3g}" if math.isfinite(value) else "diverged"


def _reproduce(evaluation: Evaluation) -> list[html.Part]:
    parts: list[html.Part] = []
    for i, (label, one) in enumerate(evaluation.learned.items(), start=1):
        parts.append(f"{label}: {one.weights()}.")
        if one.row is not None:
            parts.append(f"To repeat its training, save this as config-{i}.json:")
            parts.append(html.Folded(f"config-{i}.json", one.run.read_config()))
            words = ["--config", f"config-{i}.json", directory_option(one.given)]
            parts.append(html.Code(command("python", "train.py", *words)))
    return [*parts, html.Code(evaluation.request.command())]
