"""Curves for TensorBoard, read back as TensorBoard reads them."""

import importlib.util
import os

import numpy as np
import pytest

from l2o.errors import UserError
from l2o.train.runs.directory import RunDirectory
from l2o.train.session import start

pytestmark = pytest.mark.usefixtures("quick_periods")

CONFIG = {
    "constructor": "DM",
    "network": {"layers": [2]},
    "problems": [{"target": "Quadratic", "kwargs": {"dimensions": 2}}],
    "training": {"repeat": 1},
    "strategy": {"num_periods": 2, "epochs_per_period": 1, "unroll_distribution": 2},
}


def read(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.util.tensor_util import make_ndarray

    found = EventAccumulator(str(folder))
    found.Reload()
    return {
        tag: {event.step: make_ndarray(event.tensor_proto) for event in found.Tensors(tag)}
        for tag in found.Tags()["tensors"]
    }


def test_scalars_and_histograms_of_each_period_and_on_after_a_resume(tmp_path, capsys):
    run = RunDirectory(tmp_path / "run")
    start({**CONFIG, "directory": str(run.path)}, tensorboard=True)
    assert f"curves: tensorboard --logdir {run.path}/tensorboard" in capsys.readouterr().out
    config = run.read_config()
    longer = {**config, "strategy": {**config["strategy"], "num_periods": 3}}
    start(longer, read=config, tensorboard=True)
    got = read(run.path / "tensorboard")
    rows = run.rows()
    assert len(rows) == 3
    for name in ("meta_loss", "validation_loss", "dropped", "inner_steps"):
        assert {k: float(v) for k, v in got[name].items()} == pytest.approx(
            {k: getattr(row, name) for k, row in enumerate(rows)}
        )
    assert list(got["start_loss"]) == [0]
    assert "imitation_loss" not in got
    for i, name in enumerate(name for name in got if name.startswith("network/")):
        for step, buckets in got[name].items():
            weights = run.read_checkpoint(0, step)[f"network/{i}"]
            np.testing.assert_allclose(buckets[0, 0], weights.min(), rtol=1e-5)
            np.testing.assert_allclose(buckets[-1, 1], weights.max(), rtol=1e-5)
            assert buckets[:, 2].sum() == weights.size


# It trains as often as the test above.
@pytest.mark.slow
def test_turned_on_later_it_has_the_earlier_numbers_too(tmp_path):
    run = RunDirectory(tmp_path / "run")
    start({**CONFIG, "directory": str(run.path)})
    start(run.read_config(), read=run.read_config(), tensorboard=True)
    got = read(run.path / "tensorboard")
    assert {k: float(v) for k, v in got["validation_loss"].items()} == pytest.approx(
        {k: row.validation_loss for k, row in enumerate(run.rows())}
    )
    assert not any(name.startswith("network/") for name in got)


def test_nothing_is_written_unless_asked_for(tmp_path):
    start({**CONFIG, "directory": str(tmp_path / "run")})
    assert not (tmp_path / "run/tensorboard").exists()


def test_without_the_extra_one_line_says_how_to_get_it(tmp_path, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "tensorboard" else find(name)
    )
    with pytest.raises(UserError, match="--tensorboard needs TensorBoard: pip install tensorboard"):
        start({**CONFIG, "directory": str(tmp_path / "run")}, tensorboard=True)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_ends_in_one_line(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run/tensorboard").write_text("in the way")
    with pytest.raises(UserError, match=r"cannot write .*run/tensorboard"):
        start({**CONFIG, "directory": str(tmp_path / "run")}, tensorboard=True)
    assert len(RunDirectory(tmp_path / "run").rows()) == 1, "the period is kept"
    assert os.path.isfile(tmp_path / "run/tensorboard")
