"""The README's examples work as they stand there."""

import numpy as np
import pytest
import tensorflow as tf

import l2o
from l2o.train import RunDirectory
from tests.pages import run


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return tmp_path_factory.mktemp("readme")


@pytest.fixture(scope="module")
def examples(directory):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(directory)
        return run("README.md")


def test_a_model_is_trained_with_a_learned_optimizer(examples):
    names, _, _ = examples
    assert isinstance(names["model"].optimizer, l2o.RNNPropOptimizer)
    assert names["model"].evaluate(names["x"] / 16, names["y"], verbose=0) < np.log(10) / 2


def test_an_optimizer_is_loaded_saved_and_called_as_functions(examples, directory):
    _, names, _ = examples
    optimizer = names["optimizer"]
    assert float(optimizer.learning_rate) == 0.5
    same = l2o.load(directory / "my-optimizer")
    for a, b in zip(same.network.get_weights(), optimizer.network.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    start = tf.constant([1.0, 2.0])
    expected, _ = optimizer.update([start], names["grads"], optimizer.initial_state([start]))
    np.testing.assert_allclose(names["params"][0], start + expected[0], rtol=1e-6)
    assert np.all(np.sign(expected[0]) == [-1, 1])


def test_any_keras_model_is_a_problem(examples, directory):
    _, _, names = examples
    rows = RunDirectory(directory / "run").rows()
    assert len(rows) == 2
    assert all(np.isfinite(row.validation_loss) for row in rows)
    assert rows[0].dropped == 0
    best = RunDirectory(directory / "run").best()
    if best.period == rows[-1].period:
        trained = names["training"].optimizer.network.get_weights()
        for a, b in zip(names["optimizer"].network.get_weights(), trained, strict=True):
            np.testing.assert_array_equal(a, b)
