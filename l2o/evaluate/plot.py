"""Pictures of runs."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from l2o.disk.files import write_atomically
from l2o.evaluate.runs import Run
from l2o.train.summary import Row, best_row

# Okabe and Ito's palette: told apart by colour-blind readers too.
COLOURS = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
# More runs than colours: the colours again, in another style.
STYLES = ("-", "--", ":")
BAND = (10, 90)


def loss_curves(path: Path, runs: Mapping[str, Run], title: str) -> None:
    """Draws the training loss against the step: median over seeds and a band.

    Args:
        path: PNG file to write.
        runs: By label, the most important first: it gets the strongest colour.
        title: Above the picture.

    Raises:
        OSError: If it cannot be written; an older file is intact.
    """
    figure, axes = _figure(title)
    for i, (label, run) in enumerate(runs.items()):
        colour, style = COLOURS[i % len(COLOURS)], STYLES[i // len(COLOURS) % len(STYLES)]
        # A diverged model counts as the worst, so that it widens the band.
        losses = np.where(np.isfinite(run.losses), run.losses, np.inf)
        low, median, high = np.percentile(losses, (BAND[0], 50, BAND[1]), axis=0, method="nearest")
        steps = np.arange(losses.shape[1])
        top = np.max(losses[np.isfinite(losses)], initial=1.0)
        axes.fill_between(
            steps, np.minimum(low, top), np.minimum(high, top), color=colour, alpha=0.2, lw=0
        )
        # One step makes no line.
        marker = "o" if len(steps) == 1 else ""
        axes.plot(steps, median, style, marker=marker, color=colour, label=label, lw=1.8)
    _log_scale(axes, [run.losses for run in runs.values()])
    axes.set_xlabel("training step")
    axes.set_ylabel("mini-batch loss")
    axes.legend(frameon=False, title=f"median, {BAND[0]} to {BAND[1]} % of seeds")
    _save(figure, path)


def sweep_curve(path: Path, runs: Mapping[float, Run], title: str) -> None:
    """Draws the final training loss against the learning rate and marks the best.

    Args:
        path: PNG file to write.
        runs: By learning rate; one with a model that diverged is a cross at the top.
        title: Above the picture.

    Raises:
        OSError: If it cannot be written; an older file is intact.
    """
    figure, axes = _figure(title)
    means = {rate: float(np.mean(run.train_loss)) for rate, run in sorted(runs.items())}
    finite = {rate: mean for rate, mean in means.items() if np.isfinite(mean)}
    axes.set_xscale("log")
    for i, rate in enumerate(means):
        losses = runs[rate].train_loss[np.isfinite(runs[rate].train_loss)]
        label = "" if i else "one seed"
        axes.plot([rate] * len(losses), losses, ".", color="0.7", label=label)
    axes.plot(list(finite), list(finite.values()), "o-", color=COLOURS[1], label="mean over seeds")
    if diverged := [rate for rate in means if rate not in finite]:
        axes.plot(
            diverged, [0.98] * len(diverged), "x", color="k", label="diverged",
            transform=axes.get_xaxis_transform(),
        )  # fmt: skip
    if finite:
        rate = min(finite, key=lambda r: finite[r])
        axes.plot(
            rate, finite[rate], "*", ms=16, color=COLOURS[0], label=f"best: {rate:g}", ls="none"
        )
    _log_scale(axes, [run.train_loss for run in runs.values()])
    axes.set_xlabel("learning rate")
    axes.set_ylabel("final training loss")
    axes.legend(frameon=False)
    _save(figure, path)


def meta_training(path: Path, histories: Mapping[str, Sequence[Row]]) -> None:
    """Draws the validation loss against the period, one panel for each run, side by side.

    Args:
        path: PNG file to write.
        histories: Rows of each run, by the title of its panel. A dot marks a run's best
            period, a cross one in which a validation diverged, a dashed line a new stage.

    Raises:
        OSError: If it cannot be written; an older file is intact.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(2.4 * len(histories) + 0.6, 2.8), dpi=150, layout="constrained")
    panels = np.atleast_1d(figure.subplots(1, len(histories), sharey=True))
    for i, (axes, (label, rows)) in enumerate(zip(panels, histories.items(), strict=True)):
        colour = COLOURS[i % len(COLOURS)]
        for stage in sorted({row.stage for row in rows}):
            own = [k for k, row in enumerate(rows) if row.stage == stage]
            # What a stage starts from stands where the period before has ended.
            first = [] if rows[own[0]].start_loss is None else [rows[own[0]].start_loss]
            x = [own[0]] * len(first) + [k + 1 for k in own]
            y = np.array([*first, *(rows[k].validation_loss for k in own)], float)
            axes.plot(x, np.where(np.isfinite(y), y, np.nan), color=colour, lw=1.8)
            diverged = [a for a, b in zip(x, y, strict=True) if not np.isfinite(b)]
            axes.plot(
                diverged, [0.96] * len(diverged), "x", color="k",
                transform=axes.get_xaxis_transform(),
            )  # fmt: skip
            if stage:
                axes.axvline(own[0], color="0.6", lw=0.8, ls="--")
        best = best_row(rows)
        axes.plot(rows.index(best) + 1, best.validation_loss, "o", color=colour)
        axes.set_title(label, fontsize=10)
        axes.set_xlabel("period")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.3)
    panels[0].set_ylabel("validation loss")
    _save(figure, path)


def _figure(title: str) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.2), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(title, fontsize=10, wrap=True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.3, which="major")
    return figure, axes


def _log_scale(axes: Any, values: list[np.ndarray]) -> None:
    if any((np.isfinite(v) & (v > 0)).any() for v in values):
        axes.set_yscale("log")
    else:  # nothing a logarithm could show
        axes.text(0.5, 0.5, "every model diverged", transform=axes.transAxes, ha="center")


def _save(figure: Any, path: Path) -> None:
    picture = io.BytesIO()
    figure.savefig(picture, format="png")
    write_atomically(path, picture.getvalue())
