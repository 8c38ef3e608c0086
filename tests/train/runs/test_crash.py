"""A run directory whose writer dies at every operation on the disk, one after the other."""

import os
import tempfile

import numpy as np
import pytest

from l2o.errors import UserError
from l2o.train import RunDirectory
from l2o.train.runs.summary import Row, best_row

OPERATIONS = ("mkdir", "open", "write", "fsync", "chmod", "replace", "unlink")


class Death(BaseException):
    pass


class Disk:
    """Lets `left` operations through and then none, as a process that is dead."""

    def __init__(self, monkeypatch, left):
        self.left = left
        for name in OPERATIONS:
            monkeypatch.setattr(os, name, self.counted(getattr(os, name)))
        monkeypatch.setattr(tempfile, "mkstemp", self.counted(tempfile.mkstemp))
        # Half of a file is there when the process dies while it writes.
        fdopen = os.fdopen

        def half(handle, *args):
            file = fdopen(handle, *args)
            return Half(self, file) if "w" in args[0] else file

        monkeypatch.setattr(os, "fdopen", half)

    def counted(self, function):
        def call(*args, **kwargs):
            self.take()
            return function(*args, **kwargs)

        return call

    def take(self):
        self.left -= 1
        if self.left < 0:
            raise Death


class Half:
    def __init__(self, disk, file):
        self.disk, self.file = disk, file

    def write(self, content):
        self.file.write(content[: len(content) // 2])
        self.file.flush()
        self.disk.take()
        self.file.write(content[len(content) // 2 :])

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.close()

    def __getattr__(self, name):
        return getattr(self.file, name)


LOSSES = [-0.1, -0.3, -0.2, -0.2, -0.4]


def go_on(directory, keep):
    """What a strategy does: goes back to the last period that is whole, then one by one."""
    run = RunDirectory(directory)
    with run.locked():
        if not run.exists():
            run.write_config({"seed": 0})
        if run.read_account() is None:
            run.write_account(
                {name: {} for name in ("network", "training", "loss_args", "optimizer", "strategy")}
            )
        rows = run.last_kept()
        run.prune(keep)
        state = run.read_checkpoint(0, rows[-1].period)["network/0"] if rows else np.zeros(3)
        for period in range(len(rows), len(LOSSES)):
            state = state + np.random.default_rng(period).normal(size=3)
            row = Row(0, period, None, None, None, LOSSES[period], 1, 0, 1, 0)
            run.write_period(row, {"network/0": state}, keep)
            run.write_log("period", row, 1.0)


def content(directory):
    """All files, whatever their names are, but for the log."""
    return {
        p.relative_to(directory): p.read_bytes()
        for p in directory.rglob("*")
        if p.is_file() and p.name != "log.csv"
    }


@pytest.mark.parametrize("keep", [None, 1, 2])
def test_a_death_at_any_operation_loses_nothing(tmp_path, keep):
    go_on(tmp_path / "whole", keep)
    whole = content(tmp_path / "whole")
    deaths = 0
    for left in range(10**4):
        path = tmp_path / str(left)
        with pytest.MonkeyPatch.context() as patch:
            Disk(patch, left)
            try:
                go_on(path, keep)
            except Death:
                deaths += 1
            else:
                break
        rows = RunDirectory(path).rows() if path.exists() else []
        go_on(path, keep)
        assert RunDirectory(path).rows()[: len(rows)] == rows, "what was finished stays"
        assert content(path) == whole, left
        events = (path / "log.csv").read_text().splitlines()
        assert events[0] == "time,event,stage,period,seconds,about"
        assert all(line.count(",") <= 5 for line in events)
    assert content(tmp_path / str(deaths)) == whole
    assert deaths > 60


def test_deaths_on_the_way_back_too(tmp_path):
    go_on(tmp_path / "whole", 1)
    for step in (3, 5, 7, 11):
        path = tmp_path / str(step)
        for left in range(0, 1000, step):
            with pytest.MonkeyPatch.context() as patch:
                Disk(patch, left)
                try:
                    go_on(path, 1)
                    break
                except Death:
                    pass
        assert content(path) == content(tmp_path / "whole")


def test_the_best_and_the_last_are_kept(tmp_path):
    for keep in (1, 2):
        path = tmp_path / str(keep)
        run = RunDirectory(path)
        for period, loss in enumerate(LOSSES):
            row = Row(0, period, None, None, None, loss, 1, 0, 1, 0)
            run.write_period(row, {"network/0": np.full(2, period)}, keep)
            rows = run.rows()
            kept = [r.period for r in rows if run.checkpoint_path(0, r.period).exists()]
            last = [r.period for r in rows[-keep:]]
            assert kept == sorted({best_row(rows).period, *last})
        assert len(rows) == len(LOSSES)
        with pytest.raises(UserError, match="keep_checkpoints did not keep it"):
            run.read_checkpoint(0, 0)


def test_what_the_next_stage_starts_from_is_kept(tmp_path):
    run = RunDirectory(tmp_path)
    # Stage 1 never becomes better than what it started from; its best is not the best of all.
    losses = {(0, 0): (None, -2.0), (1, 0): (-1.0, -0.5), (1, 1): (None, -0.3), (1, 2): (None, 0)}
    for (stage, period), (start, loss) in losses.items():
        row = Row(stage, period, None, None, start, float(loss), 1, 0, 1, 0)
        run.write_period(row, {"network/0": np.zeros(2)}, keep=1)
    kept = [key for key in losses if run.checkpoint_path(*key).exists()]
    assert kept == [(0, 0), (1, 0), (1, 2)]
