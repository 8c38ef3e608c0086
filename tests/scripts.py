"""The four scripts as processes, and small jobs for them."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
TINY = [
    "strategy/num_periods=2",
    "strategy/epochs_per_period=1",
    "training/epochs=1",
    "strategy/validation_unroll=10",
    "problems/0/kwargs/layers=[4]",
    "network/layers=[4]",
]


def script(cwd, name, *arguments, **environment):
    return subprocess.run(
        [sys.executable, str(ROOT / f"{name}.py"), *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
        env={**os.environ, **environment},
    )


def succeed(*arguments, **environment):
    done = script(*arguments, **environment)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


def files(path):
    """All files but the log, which tells of every start."""
    found = (p for p in path.rglob("*") if p.is_file() and p.name != "log.csv")
    return {p.relative_to(path): p.read_bytes() for p in found}


# A job that has all there is to learn from, and how long each strategy runs it.
PROBLEM = {"target": "mlp_classifier", "kwargs": {"layers": [4], "batch_size": 128}}
LEARNS = [
    f"problems={json.dumps([PROBLEM])}",
    "training/epochs=1",
    "strategy/epochs_per_period=1",
    'training/teachers=[{"class_name": "Adam"}]',
    "training/p_teacher=0.5",
    "training/persistent=true",
]
STRATEGY = {
    "Simple": ["strategy/num_periods=3", "strategy/validation_unroll=5"],
    "CurriculumLearning": [
        "strategy/schedule=[3,4,5]", "strategy/min_periods=2", "strategy/max_stages=2",
    ],
}  # fmt: skip
