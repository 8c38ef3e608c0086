"""Each optimizer, strategy and estimator as a user runs it: train, kill, resume, evaluate."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from l2o.optimizer import OPTIMIZERS
from l2o.train import ESTIMATORS, STRATEGIES, RunDirectory
from tests.scripts import LEARNS, ROOT, STRATEGY, succeed

# Evolution strategies meet the strategies in what all estimators share.
ESTIMATED = [
    (strategy, estimator)
    for strategy in sorted(STRATEGIES.entries)
    for estimator in sorted(ESTIMATORS.entries)
    if strategy == "Simple" or estimator in ("TruncatedBackprop", "PES")
]


@pytest.mark.slow
@pytest.mark.parametrize(("strategy", "estimator"), ESTIMATED)
@pytest.mark.parametrize("constructor", sorted(OPTIMIZERS.entries))
def test_train_kill_resume_evaluate(constructor, strategy, estimator, tmp_path):
    chosen = [f"constructor={constructor}", f"strategy_constructor={strategy}"]
    if estimator != "TruncatedBackprop":
        chosen += [f"estimator_constructor={estimator}", "strategy/horizon=[2,9]"]
        chosen += ["training/batch_of_problems=2"]
    arguments = [*chosen, *LEARNS, *STRATEGY[strategy]]
    succeed(tmp_path, "train", *arguments, "directory=whole")

    command = [sys.executable, str(ROOT / "train.py"), *arguments, "directory=killed"]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL)
    summary = tmp_path / "killed/summary.csv"
    deadline = time.monotonic() + 200
    while not summary.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert summary.exists()
    succeed(tmp_path, "resume", "killed")

    whole, killed = RunDirectory(tmp_path / "whole"), RunDirectory(tmp_path / "killed")
    assert whole.summary_path.read_bytes() == killed.summary_path.read_bytes()
    assert len(whole.rows()) >= 2
    for row in whole.rows():
        a, b = (run.read_checkpoint(row.stage, row.period) for run in (whole, killed))
        assert a.keys() == b.keys()
        for name in a:
            np.testing.assert_array_equal(a[name], b[name], err_msg=name)

    printed = succeed(tmp_path, "evaluate", "killed", "layers=[4]", "--steps=3", "--seeds=1")
    assert f"killed: {constructor}," in printed
    assert Path(tmp_path / "killed/eval/mlp_classifier.png").exists()
