"""The example of docs/training.md works as it stands there."""

import numpy as np
import pytest

from l2o.train import RunDirectory
from tests.pages import run


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return tmp_path_factory.mktemp("training")


@pytest.fixture(scope="module")
def examples(directory):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(directory)
        return run("docs/training.md")


def test_any_keras_model_is_a_problem(examples, directory):
    (names,) = examples
    rows = RunDirectory(directory / "run").rows()
    assert len(rows) == 2
    assert all(np.isfinite(row.validation_loss) for row in rows)
    assert rows[0].dropped == 0
    best = RunDirectory(directory / "run").best()
    if best.period == rows[-1].period:
        trained = names["training"].optimizer.network.get_weights()
        for a, b in zip(names["optimizer"].network.get_weights(), trained, strict=True):
            np.testing.assert_array_equal(a, b)
