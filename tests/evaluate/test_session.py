"""evaluate.py on what is no run."""

import json

import pytest

import l2o
from l2o.errors import UserError
from l2o.evaluate.session import evaluate

SMALL = {"layers": [2], "batch_size": 256}


def test_one_that_comes_with_it_is_evaluated_by_its_name(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    evaluate("dm-digits", "mlp_classifier", SMALL, steps=2, seeds=1, period=None)
    assert "weights of dm-digits" in capsys.readouterr().out
    found = json.loads((tmp_path / "dm-digits/eval/mlp_classifier.json").read_text())
    assert (found["stage"], found["period"]) == (None, None)
    assert found["ratio"] > 0
    # The folder with the result does not hide the name.
    assert l2o.load("dm-digits").name == "DMOptimizer"
    with pytest.raises(UserError, match="saved optimizer: it has no periods"):
        evaluate("dm-digits", "mlp_classifier", SMALL, steps=2, seeds=1, period=3)
