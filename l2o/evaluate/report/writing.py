"""Writes the files of an evaluation: numbers, pictures and a page with all of them."""

from __future__ import annotations

import os
from pathlib import Path

from l2o.disk.files import write_atomically
from l2o.disk.packing import pack
from l2o.errors import UserError
from l2o.evaluate.comparison import Comparison
from l2o.evaluate.evaluation import Evaluation, titled
from l2o.evaluate.report import pictures, tables
from l2o.evaluate.report.page import report_page
from l2o.evaluate.runs import Run


def write(evaluation: Evaluation) -> None:
    """Writes results, pictures and report.html.

    Args:
        evaluation: The evaluation.

    Raises:
        UserError: If a file cannot be written.
    """
    directory = evaluation.place.path
    try:
        _results(evaluation)
        pictures = _pictures(evaluation)
        page = report_page(evaluation, {k: path.read_bytes() for k, path in pictures.items()})
        write_atomically(directory / "report.html", page.encode(errors="replace"))
    except OSError as error:
        raise UserError(f"cannot write {directory}: {os.strerror(error.errno or 0)}") from None


def _path(evaluation: Evaluation, name: str, suffix: str) -> Path:
    return evaluation.place.evaluation_path(name).with_name(f"{name}{suffix}")


def _results(evaluation: Evaluation) -> None:
    suite, seeds = evaluation.request.suite, evaluation.request.seeds
    protocol = evaluation.request.chosen()._asdict()
    sources = {
        label: {
            "given": one.given,
            "stage": one.row and one.row.stage,
            "period": one.row and one.row.period,
        }
        for label, one in evaluation.learned.items()
    }
    for one in evaluation.found:
        name = f"{suite}-{one.case.name}" if suite else one.case.name
        content = {**tables.content(one, seeds), "protocol": protocol, "sources": sources}
        tables.write_json(_path(evaluation, name, ".json"), content)
        write_atomically(_path(evaluation, name, ".npz"), pack(tables.curves(one)))
    if len(evaluation.found) > 1:
        content = {**tables.overall_content(evaluation.found), "protocol": protocol}
        tables.write_json(_path(evaluation, f"{evaluation.name}-overall", ".json"), content)


def _pictures(evaluation: Evaluation) -> dict[str, Path]:
    """Draws the pictures that there is data for; returns their files by content."""
    name, learned, comparisons = evaluation.name, evaluation.learned, evaluation.found
    found = {"curves": _path(evaluation, name, ".png")}
    pictures.loss_curves(found["curves"], {titled(one): _runs(one) for one in comparisons})
    if len(comparisons) > 1:
        found["ratios"] = _path(evaluation, f"{name}-ratios", ".png")
        pictures.ratios(
            found["ratios"],
            *(
                {
                    one.case.name: {label: one.ratio(label, loss).value for label in one.learned}
                    for one in evaluation.measured(loss)
                }
                for loss in ("train_loss", "test_loss")
            ),
        )
        found["profile"] = _path(evaluation, f"{name}-profile", ".png")
        pictures.profiles(found["profile"], tables.ratios_to_winner(comparisons))
    histories = {label: one.run.rows() for label, one in learned.items() if one.row is not None}
    if histories:
        found["meta-training"] = _path(evaluation, "meta-training", ".png")
        rows = {label: one.row for label, one in learned.items() if one.row is not None}
        pictures.meta_training(found["meta-training"], histories, rows)
    found["updates"] = _path(evaluation, f"{name}-updates", ".png")
    pictures.updates(found["updates"], evaluation.probes, comparisons[0].rate_of("Adam"))
    return found


def _runs(one: Comparison) -> dict[str, Run]:
    """Returns runs by label; labels of baselines have no rate, which differs by problem."""
    return {label: entry.run for label, entry in one.named().items()}
