"""Runs that start from given learned weights, as tests want them."""

import numpy as np
import pytest
import tensorflow as tf

import l2o
from config.overrides import merge_overrides
from l2o.errors import UserError
from l2o.optimizer import OPTIMIZERS, saved
from l2o.train import RunDirectory, Runner
from tests.tiny_rule import TinyOptimizer

WEIGHTS = [[0.3], [0.2]]
OTHERS = [[0.7], [0.1]]
STRATEGY = {
    "Simple": {"num_periods": 2, "unroll_distribution": 1, "validation_unroll": 2},
    "CurriculumLearning": {"schedule": [1, 2, 2], "min_periods": 1},
}


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """A place with saved weights in `source`, where a tiny rule can be named in a config."""
    monkeypatch.setitem(OPTIMIZERS.entries, "Tiny", TinyOptimizer)
    monkeypatch.chdir(tmp_path)
    save("source", WEIGHTS)
    # Fast, and it tells weights apart.
    monkeypatch.setattr(Runner, "_validate", lambda self, *_: validation_loss(self.training))
    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


def validation_loss(training):
    (found,) = training.optimizer.network.get_weights()
    return float(np.abs(found - 0.5).sum())


def save(path, weights, **options):
    optimizer = TinyOptimizer(**options)
    optimizer.set_learned_weights([np.array(weights)])
    optimizer.save(path, about="tested")


def sha256(weights):
    return saved.digest("tests>TinyOptimizer", [np.array(weights, np.float32)])


def config(directory="run", *overrides, strategy="Simple", **job):
    job = {
        "directory": directory,
        "constructor": "Tiny",
        "initial_weights": "source",
        "problems": [{"target": "Quadratic", "kwargs": {"dimensions": 2}}],
        # So large that a curriculum, which goes on while it improves, soon ends.
        "optimizer": {"config": {"learning_rate": 1.0}},
        "strategy_constructor": strategy,
        "strategy": {"epochs_per_period": 1, **STRATEGY[strategy]},
        **job,
    }
    return merge_overrides(job, overrides)


def weights(directory="run", period=0):
    (found,) = l2o.load(directory, period=period).network.get_weights()
    return found.tolist()


def refused(act, path="initial_weights"):
    """The message of a refusal, which writes nothing."""
    before = sorted(p for p in RunDirectory("run").path.rglob("*"))
    with pytest.raises(UserError) as error:
        act()
    assert error.value.path == path
    assert sorted(p for p in RunDirectory("run").path.rglob("*")) == before
    return error.value.message
