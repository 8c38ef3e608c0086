"""Runs that are killed at random moments, again and again, end as those that were not.

`L2O_KILLS=100 python -m pytest -m slow tests/test_kills.py` kills each run a hundred times.
"""

import os
import random
import signal
import subprocess
import sys
import time

import pytest

from tests.scripts import ROOT, succeed
from tests.workers import wait_for

KILLS = int(os.environ.get("L2O_KILLS", "20"))
# Persistent states, imitation with an optimizer of its own, two problems: all a checkpoint has.
EVERYTHING = [
    'training/teachers=[{"class_name": "Adam", "config": {"learning_rate": 0.05}}]',
    "training/p_teacher=0.4",
    'training/imitation_optimizer={"class_name": "Adam"}',
    "training/persistent=true",
    "training/batch_of_problems=2",
    "training/epochs=1",
    'problems=[{"target": "mlp_classifier", "kwargs": {"layers": [8]}}, {"target": "Booth"}]',
    "strategy/epochs_per_period=1",
]
RUNS = {
    "RNNProp, Simple": [
        "constructor=RNNProp",
        "strategy/annealing_schedule=0.0",
        "strategy/validation_unroll=10",
        f"strategy/num_periods={6 * KILLS}",
        "strategy/keep_checkpoints=3",
    ],
    "ScaleHierarchical, CurriculumLearning": [
        "constructor=ScaleHierarchical",
        "strategy_constructor=CurriculumLearning",
        "strategy/schedule=[3,4,5]",
        f"strategy/min_periods={3 * KILLS}",
        "strategy/max_stages=2",
    ],
}


def content(path):
    return {
        p.relative_to(path): p.read_bytes()
        for p in path.rglob("*")
        if p.is_file() and p.name != "log.csv"
    }


def read(path):
    return path.read_bytes() if path.exists() else b""


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_killed_at_random_moments(name, tmp_path):
    arguments = [*RUNS[name], *EVERYTHING, "directory=run"]
    (tmp_path / "whole").mkdir()
    command = [sys.executable, str(ROOT / "train.py"), *arguments]
    start = time.monotonic()
    process = subprocess.Popen(command, cwd=tmp_path / "whole", stdout=subprocess.DEVNULL)
    wait_for(tmp_path / "whole/run/summary.csv", [process])
    first_period = time.monotonic() - start
    assert process.wait() == 0
    whole, took = content(tmp_path / "whole/run"), time.monotonic() - start
    rng = random.Random(0)
    summary, rows = tmp_path / "run/summary.csv", []
    for _ in range(KILLS):
        before = read(summary)
        process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL)
        if rng.random() < 0.5:
            # While Python starts, TensorFlow is imported, the run restored and compiled.
            time.sleep(rng.uniform(0, first_period))
        else:
            # While periods are trained and written.
            while process.poll() is None and read(summary) == before:
                time.sleep(0.01)
            time.sleep(rng.uniform(0, 2))
        assert process.poll() is None, "it was not to end before the last kill"
        process.send_signal(signal.SIGKILL)
        process.wait()
        rows.append(max(0, read(summary).count(b"\n") - 1))
    succeed(tmp_path, "train", *arguments)
    print(f"{name}: undisturbed {took:.0f} s; rows after each kill: {rows}")
    assert content(tmp_path / "run") == whole
    assert sum(a < b for a, b in zip([0, *rows], rows, strict=False)) > KILLS / 4
