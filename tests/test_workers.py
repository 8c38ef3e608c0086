"""Batched worker processes: as one process, whoever dies in between and however many they are."""

import json
import shutil
import signal
import socket
import sys
import time

import numpy as np
import pytest

import train as train_script
from l2o.optimizer import OPTIMIZERS
from l2o.train import RunDirectory
from tests import scripts, workers
from tests.scripts import LEARNS, STRATEGY

TINY = [*LEARNS, "training/batch_of_problems=4"]
MANY = ["distribute=multi_worker"]
SIMPLE = STRATEGY["Simple"]


def periods(path):
    """What a run has written: its rows, and by period all arrays."""
    run = RunDirectory(path)
    return run.rows(), [run.read_checkpoint(row.stage, row.period) for row in run.rows()]


def check_close(one, other):
    (rows, states), (others, more) = periods(one), periods(other)
    for a, b in zip(rows, others, strict=True):
        for x, y in zip(a, b, strict=True):
            assert (x is None) == (y is None)
            assert x is None or x == pytest.approx(y, rel=1e-4, abs=1e-4)
    for a, b in zip(states, more, strict=True):
        assert a.keys() == b.keys()
        assert a["optimizer"] == b["optimizer"]
        for name in a.keys() - {"optimizer"}:
            # Where a gradient is nearly 0, its logarithm and sign, and all that follows from
            # them, depend on the last bits; the optimizees' own states differ by 0.1 to 1.
            atol = 2e-3 if "_state/" in name else 1e-4
            np.testing.assert_allclose(a[name], b[name], rtol=1e-3, atol=atol, err_msg=name)


def check_same(one, other):
    (rows, states), (others, more) = periods(one), periods(other)
    assert rows == others
    for a, b in zip(states, more, strict=True):
        assert a.keys() == b.keys()
        for name in a:
            np.testing.assert_array_equal(a[name], b[name], err_msg=name)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """A run of two workers, what they printed, and its arguments."""
    cwd = tmp_path_factory.mktemp("workers")
    arguments = ["constructor=RNNProp", "network/layers=[4]", *TINY, *SIMPLE]
    return cwd, workers.succeed(cwd, "train", *arguments, *MANY, "directory=two"), arguments


@pytest.mark.slow
def test_two_workers_are_one_process_with_all_optimizees(undisturbed, tmp_path, monkeypatch):
    cwd, printed, arguments = undisturbed
    assert "2 replicas of 2 workers" in printed[0]
    assert "worker 1 of 2: worker 0 reports the progress" in printed[1]
    assert "period" not in printed[1]
    # In this process, which has imported everything.
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["train.py", *arguments, "directory=one"])
    train_script.main()
    check_close(cwd / "two", tmp_path / "one")
    (state, *_) = periods(tmp_path / "one")[1]
    kept = {name.partition("/")[0] for name in state if "instance" in name}
    expected = {f"problem_0_instance_{k}_{what}" for k in range(4) for what in ("teacher_0",)}
    assert expected <= kept, "those of all workers are saved"


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_a_killed_worker_ends_the_other_and_all_go_on_exactly(undisturbed, tmp_path, victim):
    cwd, _, arguments = undisturbed
    command = [*arguments, *MANY, "directory=two"]
    both = workers.start(tmp_path, "train", *command)
    workers.wait_for(tmp_path / "two/summary.csv", both)
    both[victim].send_signal(signal.SIGKILL)
    killed = time.monotonic()
    code, _, stderr = workers.end(both)[1 - victim]
    assert time.monotonic() - killed < 60
    assert code == 1
    (line,) = stderr.splitlines()
    assert line.startswith("train.py: lost another worker")
    assert "start all workers again" in line
    left = len(periods(tmp_path / "two")[0])
    assert 1 <= left < 3
    printed = workers.succeed(tmp_path, "train", *command)
    assert f"going on after {left} periods" in printed[0]
    check_same(cwd / "two", tmp_path / "two")


@pytest.mark.slow
def test_a_run_goes_on_with_another_number_of_workers(undisturbed, tmp_path, refuse_here):
    cwd, *_ = undisturbed
    shutil.copytree(cwd / "two", tmp_path / "run")
    summary = tmp_path / "run/summary.csv"
    # As if it had stopped after its first period.
    summary.write_text("".join(summary.read_text().splitlines(keepends=True)[:2]))
    line = refuse_here(tmp_path, "resume", "run")
    assert line.startswith("resume.py: TF_CONFIG: distribute=multi_worker needs this")
    line = refuse_here(tmp_path, "resume", "run", "distribute=none", "seed=3")
    assert "run has 1 trained periods; seed would have changed them" in line
    printed = scripts.succeed(tmp_path, "resume", "run", "distribute=none")
    assert "going on after 1 periods" in printed
    check_close(cwd / "two", tmp_path / "run")


@pytest.mark.slow
def test_workers_start_from_the_same_weights(undisturbed, tmp_path):
    cwd, _, arguments = undisturbed
    arguments = [*arguments, f"initial_weights={cwd / 'two'}", "strategy/num_periods=1"]
    scripts.succeed(tmp_path, "train", *arguments, "directory=one")
    printed = workers.succeed(tmp_path, "train", *arguments, *MANY, "directory=two")
    assert "initial weights: those of" in printed[0]
    assert "initial weights" not in printed[1]
    (started,), (random, *_) = periods(tmp_path / "one")[0], periods(cwd / "two")[0]
    assert started.start_loss != random.start_loss
    check_close(tmp_path / "one", tmp_path / "two")


@pytest.mark.slow
def test_workers_with_different_configs_are_all_refused(tmp_path):
    arguments = ["constructor=RNNProp", *TINY, *MANY]
    both = workers.start(
        tmp_path, "train", *arguments, of_worker=[[], ["network/alpha=0.2", "directory=other"]]
    )
    for code, printed, stderr in workers.end(both):
        assert (code, printed[:7]) == (2, "waiting")
        (line,) = stderr.splitlines()
        assert "worker 1 has another config" in line
        assert "differs in network/alpha)" in line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_worker_that_cannot_begin_ends_the_others(tmp_path):
    arguments = ["constructor=RNNProp", *TINY, *MANY]
    both = workers.start(tmp_path, "train", *arguments, of_worker=[[], ["network/alpa=0.2"]])
    (code, _, lost), (wrong, _, line) = workers.end(both, timeout=60)
    assert (code, wrong) == (1, 2)
    assert lost.startswith("train.py: lost another worker")
    assert "network/alpa: unknown option" in line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_what_the_chief_cannot_write_ends_all_with_the_same_line(tmp_path):
    arguments = ["constructor=RNNProp", *TINY, *MANY, "directory=/proc/none"]
    for code, _, stderr in workers.end(workers.start(tmp_path, "train", *arguments)):
        assert code == 2
        assert stderr.startswith("train.py: cannot write /proc/none: ")
        assert len(stderr.splitlines()) == 1


@pytest.mark.slow
def test_a_port_that_is_taken_is_told(tmp_path):
    with socket.socket() as taken:
        taken.bind(("localhost", 0))
        taken.listen()
        address = f"localhost:{taken.getsockname()[1]}"
        task = {"type": "worker", "index": 0}
        config = {"cluster": {"worker": [address, "localhost:1"]}, "task": task}
        done = scripts.script(tmp_path, "train", *MANY, TF_CONFIG=json.dumps(config))
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"train.py: TF_CONFIG: cannot listen on {address}: ")


@pytest.mark.slow
@pytest.mark.parametrize("strategy", sorted(STRATEGY))
@pytest.mark.parametrize("constructor", sorted(OPTIMIZERS.entries))
def test_every_optimizer_with_every_strategy(constructor, strategy, tmp_path):
    arguments = [f"constructor={constructor}", f"strategy_constructor={strategy}"]
    arguments += [*TINY, *STRATEGY[strategy]]
    scripts.succeed(tmp_path, "train", *arguments, "directory=one")
    workers.succeed(tmp_path, "train", *arguments, *MANY, "directory=two")
    check_close(tmp_path / "one", tmp_path / "two")
