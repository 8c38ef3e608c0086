import json

import numpy as np

from l2o.evaluate import Run, plot, report


def of(train_loss, losses=None):
    n = len(train_loss)
    losses = np.ones((n, 3)) if losses is None else losses
    return Run(
        losses, np.array(train_loss), np.full(n, 0.5), np.full(n, 2.0), np.linspace(0, 1, n), 1.0
    )


def test_the_summary_is_mean_and_sample_deviation():
    got = report.summary(of([1.0, 2.0, 6.0]))
    assert got["train_loss"] == {"mean": 3.0, "std": np.std([1, 2, 6], ddof=1), "values": [1, 2, 6]}
    assert got["test_accuracy"]["mean"] == 0.5
    assert got["diverged"] == 0
    assert report.summary(of([1.0]))["train_loss"]["std"] is None


def test_diverged_models_are_counted_and_null():
    got = report.summary(of([1.0, np.nan, np.inf]))
    assert got["diverged"] == 2
    assert got["train_loss"]["mean"] is None
    assert got["train_loss"]["values"] == [1.0, None, None]


def test_the_table_is_aligned_and_holds_the_numbers():
    lines = report.table({"a": of([0.25, 0.75]), "a longer label": of([1.0, 1.0])}).splitlines()
    assert "0.5000 ± 0.3536" in lines[2]
    assert "50.0 ± 0.0 %" in lines[2]
    starts = {line.index(word) for line, word in zip(lines[2:], ["0.5000", "1.0000"], strict=True)}
    assert starts == {lines[0].index("train loss")}


def test_json_is_strict(tmp_path):
    path = tmp_path / "r.json"
    report.write_json(path, {"a": [np.float32(np.nan), np.float64(0.5)], "b": {"c": np.inf}})
    assert json.loads(path.read_text()) == {"a": [None, 0.5], "b": {"c": None}}


def test_pictures_are_drawn_whatever_the_numbers(tmp_path):
    for losses in (np.ones((2, 3)), np.array([[1, np.nan, np.inf]]), np.full((1, 3), np.nan)):
        plot.loss_curves(tmp_path / "a.png", {"x": of([1.0], losses)}, "title")
        plot.sweep_curve(tmp_path / "b.png", {0.1: of([1.0]), 1.0: of([np.nan])}, "title")
        plot.sweep_curve(tmp_path / "c.png", {1.0: of([np.nan])}, "title")
        for name in "abc":
            assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")
