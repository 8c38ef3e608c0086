"""The content of report.html."""

from __future__ import annotations

import math
import platform
from collections.abc import Callable, Iterable, Mapping

import keras
import tensorflow as tf

from l2o.evaluate.baselines import DECAYS, LEARNED_RATES, RATES, rate
from l2o.evaluate.comparison import Comparison
from l2o.evaluate.evaluation import Evaluation, described, titled
from l2o.evaluate.metrics import WINDOW
from l2o.evaluate.protocol import LEARNED_DECAYS
from l2o.evaluate.report import html, tables
from l2o.shell import directory_option, step
from l2o.version import __version__


def report_page(evaluation: Evaluation, pictures: Mapping[str, bytes]) -> str:
    """Returns an evaluation as a page of HTML.

    Args:
        evaluation: The evaluation.
        pictures: PNG files by their content: "curves" and, if they exist, "ratios", "profile",
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
            f"over {seeds}{interval}. Below 1 the learned optimizer wins."
            f"{_what_to_compare(evaluation)}",
            html.Table(evaluation.overview()),
            *evaluation.left_out,
            *_tested(evaluation),
            *picture("ratios", "Green: the learned optimizer is better. Purple: it is worse."),
        ],
        "Over all problems": [*_overall(found, picture)],
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
            "splits after the last step; neither training nor tuning uses the test split. The "
            'ratios divide by the best baseline by this loss. "at N" is the loss of a mini-batch '
            "after N steps. The log-loss is the mean over all steps of the natural logarithm of "
            "the mini-batch loss, the area under that curve. Steps are counted until the mean of "
            f"{WINDOW} mini-batch losses is at most the target: the final loss of the best "
            "baseline (*), unless another target was given. Speed-up is the number of Adam's "
            "steps to the optimizer's final loss, divided by the optimizer's own, on the median "
            "curves of mini-batch losses; it has a > if Adam does not get there at all. In time, "
            "steps are weighted with their time. A model that ends above its first loss has "
            "diverged. Time is that of a step of one model, relative to Adam.",
            *(part for one in found for part in _measures(one)),
        ],
        _tuned_title(evaluation): [_how_tuned(evaluation), html.Table(_tuning(found))],
        "How to reproduce": _reproduce(evaluation),
    }
    what = f"{len(found)} problems" if len(found) > 1 else described(found[0].case)
    subtitle = (
        f"{what}, {seeds}. l2o {__version__}, TensorFlow {tf.__version__}, "
        f"Keras {keras.__version__}, Python {platform.python_version()}"
    )
    return html.page(f"{', '.join(evaluation.learned)} on {evaluation.name}", subtitle, sections)


def _tested(evaluation: Evaluation) -> list[html.Part]:
    if not evaluation.measured("test_loss"):
        return []
    return [
        "The same for the mean test loss, against the baseline with the smallest one:",
        html.Table(evaluation.overview("test_loss")),
    ]


def _overall(
    found: list[Comparison], picture: Callable[[str, str], list[html.Part]]
) -> list[html.Part]:
    if len(found) == 1:
        return []
    return [
        "Train and test ratio: loss divided by that of the best baseline, the interquartile mean "
        "of the logarithm over problems and seeds, with a 95 % interval (bootstrap, stratified by "
        "problem). Best: share of problems on which the mean training loss is the smallest of all "
        "optimizers. Within 2x: share on which it is at most twice the smallest.",
        html.Table(tables.overall(found), emphasised=len(found[0].learned)),
        *picture(
            "profile",
            "Performance profile: share of problems on which the mean training loss is within a "
            "factor of the smallest. Higher is better.",
        ),
        "Speed-up: the number of Adam's steps to the optimizer's final loss, divided by the "
        "optimizer's own; with a > if Adam does not get there. In time, steps are weighted with "
        "their time. Above 1x the optimizer is faster than Adam at its best rate.",
        html.Table(tables.speed_ups(found)),
    ]


def _what_to_compare(evaluation: Evaluation) -> str:
    if evaluation.request.chosen().tuned_for == "training":
        return ""
    return " Tuning minimised the validation loss, so the test losses are what to compare."


def _tuned_title(evaluation: Evaluation) -> str:
    if evaluation.request.chosen().tune_learned:
        return "How all optimizers were tuned"
    return "How the baselines were tuned"


def _how_tuned(evaluation: Evaluation) -> str:
    protocol = evaluation.request.chosen()
    seeds = protocol.tuning_seeds
    other = f"{tables.counted(seeds, 'other seed')}" if seeds else "as many other seeds"
    decays = _listed(DECAYS)
    named = [
        words
        for label, words in (
            ("Momentum", "Momentum is SGD with momentum 0.9."),
            ("AdamW2D", f"AdamW2D is AdamW whose weight decay is tuned too: {decays}."),
            ("Muon2D", f"Muon2D is Muon whose weight decay is tuned too: {decays}."),
        )
        if label in protocol.baselines
    ]
    learned = f" For learned optimizers it starts as {_grid(LEARNED_RATES)}."
    if protocol.tune_weight_decay:
        learned += f" Their weight decay is tuned too: {_listed(LEARNED_DECAYS)}."
    loss = {
        "training": f"The table has the mean training loss after the last step, over {other}.",
        "validation": "Tuning holds out a fifth of the training examples. The table has the mean "
        f"loss on them after the last step, over {other}. A problem without data has its objective "
        "instead. The scored models train on all examples.",
    }
    schedule = {
        "constant": "The learning rate is constant.",
        "cosine": "In every training, the learning rate falls to 0 along a cosine.",
        "warmup_cosine": "In every training, the learning rate rises during the first 5 % of the "
        "steps, then falls to 0 along a cosine.",
    }
    return " ".join(
        [
            f"{loss[protocol.tuned_for]} The smallest loss chooses the learning rate. The grid is "
            f"{_grid(RATES)}."
            f"{learned if protocol.tune_learned else ''} While the best rate is at an end, the "
            "grid grows there by a factor of about 3.",
            schedule[protocol.schedule],
            *named,
            "All other options have Keras' defaults.",
        ]
    )


def _grid(numbers: Iterable[int]) -> str:
    return _listed(map(rate, numbers))


def _listed(values: Iterable[float]) -> str:
    return ", ".join(f"{value:g}" for value in values)


def _measures(one: Comparison) -> list[html.Part]:
    return [
        html.Heading(titled(one)),
        f"{one.case.target}: {described(one.case)}",
        html.Table(tables.rows(one), emphasised=len(one.learned)),
    ]


def _tuning(found: list[Comparison]) -> list[list[str]]:
    tuned = []
    for one in found:
        for label, entry in one.entries().items():
            name = label if label in one.baselines else f"{label} {entry.setting()}"
            for decay, means in entry.weight_decays.items():
                short = f"{label.split(' ')[0]}, weight decay {decay:g}"
                tuned.append((one.case.name, name if means is entry.rates else short, means))
            if entry.rates and not entry.weight_decays:
                tuned.append((one.case.name, name, entry.rates))
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
            parts.append(html.Code(step("train", *words)))
    return [*parts, html.Code(evaluation.request.command())]
