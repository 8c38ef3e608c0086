"""The README's Python example works as it stands there."""

import re
from pathlib import Path

import numpy as np

import l2o
from l2o.train import RunDirectory

PAGE = Path(__file__).parent.parent / "README.md"


def test_any_keras_model_is_a_problem(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (example,) = [
        b
        for b in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.S)
        if "keras_problem" in b
    ]
    exec(example, {"l2o": l2o})
    rows = RunDirectory("run").rows()
    assert len(rows) == 2
    assert all(np.isfinite(row.validation_loss) for row in rows)
    assert rows[0].dropped == 0
