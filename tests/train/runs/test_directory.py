import csv
import os
import resource

import numpy as np
import pytest

from l2o.disk.packing import pack, seal, unpack
from l2o.errors import UserError
from l2o.train.runs.directory import RunDirectory
from l2o.train.runs.summary import Row

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
    with pytest.raises(UserError, match=r"not a run directory.*l2o train directory="):
        run.read_config()
    run.write_config({"seed": 0})
    with pytest.raises(UserError, match=r"no trained weights yet.*l2o resume"):
        run.best()


@pytest.mark.parametrize("text", ["[1]", "null", "3", '"x"'])
def test_a_config_that_is_no_object_is_refused(tmp_path, text):
    run = RunDirectory(tmp_path)
    run.config_path.write_text(text)
    with pytest.raises(UserError, match=r"config\.json: expected a JSON object"):
        run.read_config()


def test_a_period_whose_checkpoint_is_missing_is_done_again(tmp_path):
    run = RunDirectory(tmp_path)
    for period in range(3):
        run.write_period(row(period), STATE)
    run.checkpoint_path(0, 2).unlink()
    assert run.last_kept() == run.rows()[:2]
    run.checkpoint_path(0, 0).unlink()
    assert run.last_kept() == run.rows()[:2]
    run.checkpoint_path(0, 1).unlink()
    with pytest.raises(UserError, match=r"3 periods in summary\.csv and no checkpoint"):
        run.last_kept()


def test_checkpoints_that_no_summary_lists_are_not_overwritten(tmp_path):
    run = RunDirectory(tmp_path)
    run.write_period(row(0), STATE)
    run.summary_path.unlink()
    assert run.last_kept() == [], "as where the first period was cut off"
    run.write_period(row(0), STATE)
    run.write_period(row(1), STATE)
    run.summary_path.unlink()
    with pytest.raises(UserError, match=r"checkpoints and no summary\.csv"):
        run.last_kept()
    # Also where those of the first periods have not been kept.
    run.checkpoint_path(0, 1).rename(run.checkpoint_path(1, 7))
    with pytest.raises(UserError, match=r"checkpoints and no summary\.csv"):
        run.last_kept()


@pytest.mark.parametrize("other", ["period", "run", "renamed array", "changed array"])
def test_a_checkpoint_is_not_taken_for_another(tmp_path, other):
    run, another = RunDirectory(tmp_path / "a"), RunDirectory(tmp_path / "b")
    for period in range(2):
        run.write_period(row(period), STATE)
        another.write_period(row(period, 1.0), STATE)
    path = run.checkpoint_path(0, 1)
    if other == "period":
        path.write_bytes(run.checkpoint_path(0, 0).read_bytes())
        # Only now is it another one than its row says.
        assert run.read_checkpoint(0, 0)
    elif other == "run":
        path.write_bytes(another.checkpoint_path(0, 1).read_bytes())
    else:
        arrays = unpack(path.read_bytes())
        array = arrays.pop("network/0")
        arrays["network/1" if other == "renamed array" else "network/0"] = (
            array if other == "renamed array" else array + 1
        )
        path.write_bytes(pack(arrays))
    with pytest.raises(UserError, match=r"belongs to another run or period|content was changed"):
        run.read_checkpoint(0, 1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "no seal: an older version"),
        ("null", "its seal is not valid"),
        ("{", "its seal is not valid"),
        ('{"about": [1]}', "its seal is not valid"),
        ('{"about": [1], "sha256": ""}', "its content was changed"),
    ],
)
def test_a_seal_that_is_none_is_told(tmp_path, text, message):
    run = RunDirectory(tmp_path)
    run.write_period(row(0), STATE)
    seals = {} if text is None else {"seal": np.array(text)}
    run.checkpoint_path(0, 0).write_bytes(pack({**STATE, **seals}))
    with pytest.raises(UserError, match=message):
        run.read_checkpoint(0, 0)


@pytest.mark.parametrize("about", [[1], 3, None, {"stage": 0}])
def test_a_seal_of_something_else_is_told(tmp_path, about):
    run = RunDirectory(tmp_path)
    run.write_period(row(0), STATE)
    run.checkpoint_path(0, 0).write_bytes(seal(STATE, about))
    with pytest.raises(UserError, match="its seal is not valid"):
        run.read_checkpoint(0, 0)


def test_a_log_that_is_a_pipe_is_refused(tmp_path):
    os.mkfifo(tmp_path / "log.csv")
    with pytest.raises(UserError, match=r"log\.csv: .*not seekable"):
        RunDirectory(tmp_path).write_log("start")


@pytest.mark.parametrize("name", ["checkpoints", "eval"])
def test_nothing_is_written_through_a_link(tmp_path, name):
    run, outside = RunDirectory(tmp_path / "run"), tmp_path / "outside"
    outside.mkdir()
    (outside / ".mine.tmp").write_text("not a crash's")
    run.write_config({})
    (run.path / name).symlink_to(outside)
    (run.path / "log.csv").symlink_to(outside / "log.csv")
    with run.locked():
        pass
    with pytest.raises(UserError, match="is a link"):
        run.write_period(row(0), STATE) if name == "checkpoints" else run.evaluation_path("x")
    with pytest.raises(UserError, match=r"cannot write .*log\.csv"):
        run.write_log("start")
    assert [p.name for p in outside.iterdir()] == [".mine.tmp"]


def test_a_file_that_the_disk_does_not_take_is_one_line_and_no_file(tmp_path):
    run = RunDirectory(tmp_path)
    run.write_period(row(0), STATE)
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500, limits[1]))
    try:
        with pytest.raises(UserError, match=r"cannot write period 1 .*: File too large; the per"):
            run.write_period(row(1), STATE)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before


def test_the_log_has_what_happened_when(tmp_path):
    run = RunDirectory(tmp_path)
    run.write_log("start", about='process 1, "here"')
    with run.log_path.open("a") as file:
        file.write("2026-01-01T00:00:00.000+00:00,per")  # a crash
    run.write_log("period", row(3), 1.23456)
    lines = list(csv.reader(run.log_path.read_text().splitlines()))
    assert lines[0] == ["time", "event", "stage", "period", "seconds", "about"]
    assert lines[1][1:] == ["start", "", "", "", 'process 1, "here"']
    assert lines[3][1:] == ["period", "0", "3", "1.235", ""]
    assert all(line[0].startswith("20") for line in lines[1:])


def test_only_one_at_a_time_and_the_same_one_again(tmp_path):
    run = RunDirectory(tmp_path / "new")
    with run.locked(), run.locked():
        with (
            pytest.raises(UserError, match="is being written by process"),
            RunDirectory(tmp_path / "new").locked(),
        ):
            pass
        run.write_config({})
    assert [p.name for p in run.path.iterdir()] == ["config.json"]
    with RunDirectory(tmp_path / "new").locked():
        pass


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b'{"a": NaN}', "finite numbers; got NaN"),
        (b'{"a": -1e999}', "finite numbers; got -1e999"),
        (b'{"a": {"b": 1, "b": 2}}', "'b' stands twice"),
        (b'{"a": "\xff"}', "UTF-8"),
        (b'{"a":' + b"[" * 200000 + b"]" * 200000 + b"}", "nested too deeply"),
        (b'{"a":' + b"[" * 60 + b"]" * 60 + b"}", "nested too deeply"),
        (b'{"a": "' + b"x" * 2**20 + b'"}', "larger than 1 MiB"),
        (b'{"a": 1', "line 1"),
        (b'{"a": ' + b"9" * 400 + b"}", "at most 63 bits; got 999"),
        (b'{"a": 9223372036854775808}', "at most 63 bits"),
    ],
)
def test_a_config_that_is_not_json_is_refused(tmp_path, content, reason):
    run = RunDirectory(tmp_path)
    run.config_path.write_bytes(content)
    with pytest.raises(UserError, match=reason) as error:
        run.read_config()
    assert str(run.config_path) in str(error.value)
