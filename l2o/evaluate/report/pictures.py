"""Pictures of runs and of evaluations."""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from l2o.disk.files import write_atomically
from l2o.evaluate.probe import Probe
from l2o.evaluate.runs import Run
from l2o.train.runs.summary import Row, best_row

# Okabe and Ito's palette, which colour-blind readers can tell apart too; its yellow is darker here.
COLOURS = (
    "#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8C8200",
)  # fmt: skip
# Runs beyond the number of colours repeat the colours in another line style.
STYLES = ("-", "--", ":")
BAND = (10, 90)
_BAND_TITLE = f"median, {BAND[0]} to {BAND[1]} % of seeds"
# Points of a curve; more would give a thick line of noise.
POINTS = 100
LARGEST_RATIO = 4.0
# Largest factor of a performance profile.
LARGEST_FACTOR = 10.0
# Largest factor of the vertical axis above the largest initial loss.
LARGEST_RISE = 10.0


def loss_curves(path: Path, problems: Mapping[str, Mapping[str, Run]]) -> None:
    """Draws the training loss against the step, a panel for each problem.

    The line is the median over seeds, the band the middle 80 %. If there are more steps than
    `POINTS`, each point is the mean of several mini-batches.

    Args:
        path: PNG file to write.
        problems: For each title of a panel, the runs by label. All panels have the same labels,
            the most important first, which gets the strongest colour.

    Raises:
        OSError: If it cannot be written; an older file is intact.
    """
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    columns = min(len(problems), 4 if len(problems) > 6 else 3)
    rows = -(-len(problems) // columns)
    alone = len(problems) == 1
    size = (7, 4.2) if alone else (3.1 * columns, 2.5 * rows + 0.5)
    # With less padding, a title touches the numbers above it.
    layout = ConstrainedLayoutEngine(h_pad=0.08)
    figure = Figure(figsize=size, dpi=150, layout=layout)
    grid = np.atleast_1d(figure.subplots(rows, columns)).ravel()
    for axes in grid[len(problems) :]:
        axes.remove()
    for axes, (title, runs) in zip(grid, problems.items(), strict=False):
        _tidy(axes, title)
        for i, (label, run) in enumerate(runs.items()):
            _curve(axes, run.losses, i, label)
        _log_scale(axes, [run.losses for run in runs.values()])
    # Outside, where it hides no curve.
    handles, labels = grid[0].get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside upper center", ncols=min(len(labels), 3 * min(columns, 2)),
        frameon=False, title=_BAND_TITLE, fontsize=9, title_fontsize=9,
    )  # fmt: skip
    figure.supxlabel("training step", fontsize=10)
    figure.supylabel("mini-batch loss", fontsize=10)
    _save(figure, path)


def _curve(axes: Any, losses: np.ndarray, i: int, label: str) -> None:
    colour, style = COLOURS[i % len(COLOURS)], STYLES[i // len(COLOURS) % len(STYLES)]
    # A model that diverged counts as the worst one, so it widens the band.
    losses = np.where(np.isfinite(losses), losses, np.inf)
    top = np.max(losses[np.isfinite(losses)], initial=1.0)
    width = -(-losses.shape[1] // POINTS)
    starts = np.arange(0, losses.shape[1], width)
    counts = np.diff([*starts, losses.shape[1]])
    losses = np.add.reduceat(losses, starts, axis=1) / counts
    low, median, high = np.percentile(losses, (BAND[0], 50, BAND[1]), axis=0, method="nearest")
    steps = starts + (counts - 1) / 2
    axes.fill_between(
        steps, np.minimum(low, top), np.minimum(high, top), color=colour, alpha=0.2, lw=0
    )
    # A single step gives no line.
    marker = "o" if len(steps) == 1 else ""
    # Later curves are wider and lie below, so that equal curves are all visible.
    axes.plot(
        steps, median, style, marker=marker, color=colour, label=_plain(label),
        lw=1.4 + 0.3 * min(i, 6), zorder=3 - 0.01 * i,
    )  # fmt: skip


def ratios(
    path: Path,
    values: Mapping[str, Mapping[str, float]],
    tested: Mapping[str, Mapping[str, float]] | None = None,
) -> None:
    """Draws a heat map, problems x optimizers, of the ratio to the best baseline.

    Args:
        path: PNG file to write.
        values: For each problem, the ratio by optimizer; one that is not finite reads `diverged`.
        tested: The same for the test loss, in a second heat map; problems may be missing
            [None: one heat map].

    Raises:
        OSError: If it cannot be written; an older file is intact.
    """
    from matplotlib.colors import LogNorm
    from matplotlib.figure import Figure

    problems, optimizers = list(values), list(next(iter(values.values())))
    panels = {"training loss": values, "test loss": tested} if tested else {"": values}
    longest = max(map(len, optimizers))
    width = max(1.3, 0.085 * longest) * len(optimizers) * len(panels)
    size = (2.6 + width, max(2.6, 1.1 + 0.25 * len(problems)) + 0.3 * (len(panels) - 1))
    figure = Figure(figsize=size, dpi=150, layout="constrained")
    grid = np.atleast_1d(figure.subplots(1, len(panels), sharey=True))
    # Larger ratios all have the same colour. Everybody can tell green from purple.
    norm = LogNorm(1 / LARGEST_RATIO, LARGEST_RATIO)
    for axes, (title, own) in zip(grid, panels.items(), strict=True):
        image = _heat_map(axes, own, problems, optimizers, norm)
        axes.set_title(title, fontsize=10)
    bar = figure.colorbar(image, ax=list(grid), fraction=0.06, pad=0.03)
    marks = (0.25, 0.5, 1, 2, 4)
    bar.set_ticks(list(marks), labels=[f"{mark:g}" for mark in marks], minor=False)
    bar.ax.minorticks_off()
    bar.set_label("loss / best" if tested else "training loss / best", fontsize=9)
    _save(figure, path)


def _heat_map(
    axes: Any,
    values: Mapping[str, Mapping[str, float]],
    problems: Sequence[str],
    optimizers: Sequence[str],
    norm: Any,
) -> Any:
    """Draws a heat map in which cells of missing problems are empty; returns the image."""
    table = np.array([[values[p][o] for o in optimizers] if p in values else
                      [np.nan] * len(optimizers) for p in problems], float)  # fmt: skip
    missing = [p not in values for p in problems]
    shown = np.clip(np.where(np.isfinite(table), table, np.inf), 1 / LARGEST_RATIO, LARGEST_RATIO)
    shown[missing] = np.nan
    image = axes.imshow(shown, cmap="PRGn_r", norm=norm, aspect="auto")
    for (i, k), value in np.ndenumerate(table):
        if missing[i]:
            continue
        strong = abs(np.log(shown[i, k])) > 0.6 * np.log(LARGEST_RATIO)
        text = "diverged" if not np.isfinite(value) else _number(value)
        axes.text(k, i, text, ha="center", va="center", color="w" if strong else "k", fontsize=9)
    axes.set_xticks(range(len(optimizers)), map(_plain, optimizers), fontsize=9)
    axes.set_yticks(range(len(problems)), map(_plain, problems), fontsize=9)
    axes.tick_params(length=0, top=True, labeltop=True, bottom=False, labelbottom=False)
    axes.spines[:].set_visible(False)
    return image


def profiles(path: Path, values: Mapping[str, Mapping[str, float]]) -> None:
    """Draws performance profiles: the share of problems within a factor of the smallest loss.

    Args:
        path: PNG file to write.
        values: For each problem, the loss relative to the smallest, by optimizer.

    Raises:
        OSError: If it cannot be written; an older file is intact.
    """
    figure, axes = _figure("")
    optimizers = list(next(iter(values.values())))
    count = len(values)
    for i, label in enumerate(optimizers):
        own = np.array([row[label] for row in values.values()])
        solved = np.sort(own[own <= LARGEST_FACTOR])
        # A step at each problem, from the first factor to the last.
        x = [1.0, *solved, LARGEST_FACTOR]
        y = np.array([0, *range(1, len(solved) + 1), len(solved)]) / count
        # Lines of equal height lie beside each other.
        y = y + 0.004 * (i - len(optimizers) / 2)
        axes.step(
            x, y, where="post", color=COLOURS[i % len(COLOURS)], lw=1.8,
            ls=STYLES[i // len(COLOURS) % len(STYLES)], label=_plain(label), zorder=3 - 0.01 * i,
        )  # fmt: skip
    axes.set_xscale("log")
    axes.set_xlim(1, LARGEST_FACTOR)
    axes.set_ylim(-0.03, 1.03)
    axes.set_xticks([1, 2, 4, 8], ["1", "2", "4", "8"])
    axes.minorticks_off()
    axes.set_xlabel("factor of the smallest mean training loss")
    axes.set_ylabel(f"share of {count} problems")
    axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    _save(figure, path)


def updates(path: Path, probes: Mapping[str, Probe], adam_rate: float) -> None:
    """Draws the size of updates against that of gradients, a panel for each optimizer.

    The line is the median update for gradients of about the same size, the band the middle 80 %.
    There is a colour for each of three ranges of steps.

    Args:
        path: PNG file to write.
        probes: Probes by the title of their panel.
        adam_rate: Size of Adam's first update, which is the same for all gradients.

    Raises:
        OSError: If it cannot be written; an older file is intact.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3.3 * len(probes) + 0.9, 3.3), dpi=150, layout="constrained")
    panels = np.atleast_1d(figure.subplots(1, len(probes), sharex=True, sharey=True))
    for axes, (title, found) in zip(panels, probes.items(), strict=True):
        _tidy(axes, title)
        steps = len(found.gradients)
        count = max(1, steps // 10)
        drawn: list[float] = []
        firsts = sorted({0, (steps - count) // 2, steps - count})
        for i, first in enumerate(firsts):
            own = slice(first, first + count)
            x, low, median, high = _by_size(found.gradients[own], found.updates[own])
            drawn.extend(x[np.isfinite(median)])
            label = f"steps {first + 1} to {first + count}"
            axes.fill_between(x, low, high, color=COLOURS[i], alpha=0.2, lw=0)
            axes.plot(x, median, "-o", ms=3, color=COLOURS[i], label=label, lw=1.6)
        if not drawn:
            axes.text(0.5, 0.5, "it changed nothing", transform=axes.transAxes, ha="center")
            axes.set_xlim(1e-6, 1)
        axes.axhline(adam_rate, color="0.4", ls="--", lw=1, label=f"Adam {adam_rate:g}, step 1")
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlabel("size of the gradient")
    panels[0].set_ylabel("size of the change")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside upper center", ncols=2 if len(probes) == 1 else 4,
        frameon=False, fontsize=8,
    )  # fmt: skip
    _save(figure, path)


def _by_size(gradients: np.ndarray, changes: np.ndarray) -> tuple[np.ndarray, ...]:
    """Returns the middle of each half decade of gradients and percentiles of the updates there."""
    used = (gradients > 0) & (changes > 0) & np.isfinite(gradients) & np.isfinite(changes)
    gradients, changes = gradients[used], changes[used]
    bins = np.floor(2 * np.log10(gradients))
    # Percentiles of only a few updates mean nothing.
    least = max(3, len(bins) / 200)
    rows: list[list[float]] = []
    for one in np.arange(bins.min(), bins.max() + 1) if len(bins) else ():
        own = changes[bins == one]
        # NaN interrupts the line.
        found = np.percentile(own, (BAND[0], 50, BAND[1])) if len(own) >= least else [np.nan] * 3
        rows.append([10 ** ((one + 0.5) / 2), *found])
    return tuple(np.array(rows).reshape(-1, 4).T)


def sweep_curve(path: Path, runs: Mapping[float, Run], title: str) -> None:
    """Draws the final training loss against the learning rate and marks the best.

    Args:
        path: PNG file to write.
        runs: Runs by learning rate; one with a model that diverged is a cross at the top.
        title: Title of the picture.

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


def meta_training(
    path: Path, histories: Mapping[str, Sequence[Row]], marked: Mapping[str, Row] | None = None
) -> None:
    """Draws training and validation loss against the period, one panel for each run.

    Args:
        path: PNG file to write.
        histories: Rows of each run by the title of its panel. A cross marks a period whose
            validation diverged, and a dashed line the start of a stage.
        marked: The row of each run that gets a dot; None: the best one [None].

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
            # The first loss of a stage is drawn at the end of the period before it.
            first = [] if rows[own[0]].start_loss is None else [rows[own[0]].start_loss]
            x = [own[0]] * len(first) + [k + 1 for k in own]
            y = np.array([*first, *(rows[k].validation_loss for k in own)], float)
            learned = [rows[k].meta_loss for k in own]
            axes.plot(
                [k + 1 for k in own], np.array(learned, float), color="0.6", lw=1,
                label="training" if not stage else "",
            )  # fmt: skip
            axes.plot(
                x, np.where(np.isfinite(y), y, np.nan), color=colour, lw=1.8,
                label="validation" if not stage else "",
            )  # fmt: skip
            diverged = [a for a, b in zip(x, y, strict=True) if not np.isfinite(b)]
            axes.plot(
                diverged, [0.96] * len(diverged), "x", color="k",
                transform=axes.get_xaxis_transform(),
            )  # fmt: skip
            if stage:
                axes.axvline(own[0], color="0.6", lw=0.8, ls="--")
        dot = marked[label] if marked else best_row(rows)
        axes.plot(rows.index(dot) + 1, dot.validation_loss, "o", color=colour)
        _tidy(axes, label)
        axes.set_xlabel("periods trained")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.legend(frameon=False, fontsize=8)
    panels[0].set_ylabel("meta-loss")
    _save(figure, path)


def _figure(title: str) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.2), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    _tidy(axes, title)
    return figure, axes


def _tidy(axes: Any, title: str) -> None:
    axes.set_title(_plain(title), fontsize=10, wrap=True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.3, which="major")


def _plain(text: str) -> str:
    """Returns a text that matplotlib shows unchanged: no formulas, no hidden labels."""
    return f"{' ' if text.startswith('_') else ''}{text}".replace("$", r"\$")


def _number(value: float) -> str:
    if 100 <= value < 1e5:
        return f"{value:,.0f}"
    return f"{value:.2f}" if 0.01 <= value < 100 else f"{value:.1g}"


def _log_scale(axes: Any, values: list[np.ndarray]) -> None:
    if any((np.isfinite(v) & (v > 0)).any() for v in values):
        axes.set_yscale("log")
        # A loss that explodes would squeeze all other curves into a line.
        first = np.concatenate([v[..., 0].ravel() for v in values])
        most = LARGEST_RISE * np.max(first[np.isfinite(first)], initial=0.0)
        if 0 < most < axes.get_ylim()[1]:
            axes.set_ylim(top=most)
    else:  # a logarithm could show nothing
        axes.text(0.5, 0.5, "every model diverged", transform=axes.transAxes, ha="center")


def _save(figure: Any, path: Path) -> None:
    picture = io.BytesIO()
    with warnings.catch_warnings():
        # A name may have letters that the font lacks.
        warnings.filterwarnings("ignore", "Glyph .* missing")
        figure.savefig(picture, format="png")
    write_atomically(path, picture.getvalue())
