import json

import numpy as np
import pytest

from l2o.evaluate import Run, report


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


def test_the_table_has_room_for_every_number():
    runs = {
        "Adam (learning rate 0.003)": of([0.5, 1.5]),
        "exploding": of([1e30, 3e30]),
        "diverging": of([0.5, np.nan, np.inf]),
        "one seed": of([0.125]),
    }
    lines = report.table(runs).splitlines()
    assert max(map(len, lines)) <= 100
    assert "2e+30 ± 1.41e+30" in lines[3]
    assert "2 of 3 diverged" in lines[4]
    assert "0.1250 ± 0.0000" in lines[5]


@pytest.mark.filterwarnings("error")
def test_what_was_not_measured_is_left_out():
    none = np.full(2, np.nan)
    regression = of([0.5, 1.5])._replace(train_accuracy=none, test_accuracy=none)
    lines = report.table({"a": regression, "b": regression}).splitlines()
    assert lines[0].split() == ["optimizer", "train", "loss", "test", "loss"]
    assert "diverged" not in "".join(lines)
    got = report.summary(regression)
    assert got["diverged"] == 0
    assert list(got) == ["diverged", "train_loss", "test_loss"]
    untested = regression._replace(test_loss=none, train_loss=none)
    assert list(report.summary(untested)) == ["diverged", "train_loss"]
    assert report.summary(untested)["diverged"] == 2
    # A row that has diverged altogether does not take the column from the others.
    assert "test loss" in report.table({"a": untested, "b": regression})


@pytest.mark.filterwarnings("error")
def test_a_model_diverges_by_any_of_its_measurements_and_without_a_warning():
    run = of([1.0, np.inf, 3.0])._replace(test_loss=np.array([1.0, np.nan, np.inf]))
    got = report.summary(run)
    assert got["diverged"] == 2
    assert got["train_loss"]["std"] is None
    json.dumps(got, allow_nan=False)
    report.table({"x": run})


def test_a_json_file_is_replaced_whole_or_not_at_all(tmp_path):
    path = tmp_path / "r.json"
    report.write_json(path, {"a": 1})
    with pytest.raises(TypeError):
        report.write_json(path, {"a": object()})
    assert json.loads(path.read_text()) == {"a": 1}
    assert list(tmp_path.iterdir()) == [path]
