import os

import numpy as np
import pytest

from l2o.errors import UserError
from l2o.train.run_directory import Row, RunDirectory, write_atomically

STATE = {"network/0": np.arange(6, dtype=np.float32).reshape(2, 3)}


def row(period, validation_loss=0.0, stage=0):
    return Row(stage, period, 0.1 + 0.2, None, None, validation_loss, 3, 0, 60, 1)


def test_rows_and_arrays_come_back_exactly(tmp_path):
    run = RunDirectory(tmp_path / "deep" / "run")
    rows = [row(0, -1 / 3), row(1, np.inf)]
    for r in rows:
        run.write_period(r, STATE)
    assert run.rows() == rows
    np.testing.assert_array_equal(run.read_checkpoint(0, 1)["network/0"], STATE["network/0"])
    assert not [p for p in run.path.rglob("*") if p.name.startswith(".")], "no temporary file"


def test_the_best_period_is_the_one_that_validates_best(tmp_path):
    run = RunDirectory(tmp_path)
    for period, loss in enumerate([0.5, -2.0, np.inf, -1.0]):
        run.write_period(row(period, loss), STATE)
    assert run.best().period == 1
    assert run.find(period=3).period == 3
    with pytest.raises(UserError, match=r"has no period 4; its last complete one: .* period 3"):
        run.find(period=4)


def test_a_period_written_again_replaces_what_came_after(tmp_path):
    run = RunDirectory(tmp_path)
    for period in range(3):
        run.write_period(row(period), STATE)
    run.write_period(row(1, -5.0), STATE)
    assert [r.period for r in run.rows()] == [0, 1]
    assert run.rows()[1].validation_loss == -5.0


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "f"
    write_atomically(path, b"old")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["f"]


@pytest.mark.parametrize("damage", [lambda b: b[: len(b) // 2], lambda b: b"", lambda b: b"x" * 99])
def test_a_damaged_checkpoint_is_refused(tmp_path, damage):
    run = RunDirectory(tmp_path)
    run.write_period(row(0), STATE)
    path = run.checkpoint_path(0, 0)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(UserError, match="is damaged"):
        run.read_checkpoint(0, 0)


def test_a_pickle_is_not_loaded(tmp_path):
    run = RunDirectory(tmp_path)
    run.write_period(row(0), {"network/0": np.array([{"a": 1}], dtype=object)})
    with pytest.raises(UserError, match="is damaged"):
        run.read_checkpoint(0, 0)


@pytest.mark.parametrize(
    "content",
    ["stage,period\n0,0\n", "stage,period,meta_loss\n0,x,1\n", "\xff", "\x00", "gap", "nan"],
)
def test_a_damaged_summary_is_refused(tmp_path, content):
    run = RunDirectory(tmp_path)
    run.write_period(row(0), STATE)
    whole = run.summary_path.read_text("utf-8")
    if content == "gap":  # a period that nobody ran before the others
        content = whole.replace("\n0,0,", "\n0,1,")
    elif content == "nan":
        content = whole.replace(f",{row(0).validation_loss},", ",nan,")
    assert content != whole
    run.summary_path.write_bytes(content.encode("latin-1"))
    with pytest.raises(UserError, match=r"summary\.csv"):
        run.rows()


def test_a_directory_without_a_run_says_how_to_start_one(tmp_path):
    run = RunDirectory(tmp_path)
    with pytest.raises(UserError, match=r"not a run directory.*train\.py directory="):
        run.read_config()
    run.write_config({"seed": 0})
    with pytest.raises(UserError, match=r"no trained weights yet.*resume\.py"):
        run.best()


@pytest.mark.parametrize("text", ["[1]", "null", "3", '"x"'])
def test_a_config_that_is_no_object_is_refused(tmp_path, text):
    run = RunDirectory(tmp_path)
    run.config_path.write_text(text)
    with pytest.raises(UserError, match=r"config\.json: expected an object of options"):
        run.read_config()
