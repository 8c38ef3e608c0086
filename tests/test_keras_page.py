"""docs/keras.md: its code runs as it stands there, and its tables are what was tested."""

import importlib.util
import re
from pathlib import Path

import numpy as np
import pytest

from tests.pages import run

PAGE = Path(__file__).parent.parent / "docs" / "keras.md"


@pytest.fixture(scope="module")
def tables():
    path = PAGE.with_name("make_keras_tables.py")
    spec = importlib.util.spec_from_file_location("make_keras_tables", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# The README's is run in the fast tier.
@pytest.mark.slow
def test_all_its_code_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    examples = run("docs/keras.md")
    assert "rnnprop-digits RNNProp, trained on" in capsys.readouterr().out

    def value(name):
        return next(names[name] for names in examples if name in names)

    for name, accuracy in (("mlp", 0.8), ("convnet", 0.8), ("text", 0.95)):
        assert value(name).history["val_accuracy"][-1] > accuracy, name
    losses = value("losses")
    assert len(losses) == 28
    assert np.mean(losses[-5:]) < 0.5 * losses[0]
    assert float(value("careful").learning_rate) == 0.5
    assert value("careful").global_clipnorm == 1.0
    files = {p.name for p in (tmp_path / "my-optimizer").iterdir()}
    assert files == {"README.md", "optimizer.npz"}


def test_its_table_of_features_is_what_is_tested(tables):
    assert tables.features_table() in PAGE.read_text("utf-8")


# It traces each rule twice.
@pytest.mark.slow
def test_its_tables_are_what_was_measured_and_tested(tables):
    assert tables.page() == PAGE.read_text("utf-8")


def test_each_cell_of_the_table_is_a_test(tables, pytestconfig):
    rows = re.findall(r"^\| .* \| `(test_\w+)` \|$", PAGE.read_text("utf-8"), re.M)
    files = [PAGE.parent.parent / "tests/contract" / f"{name}.py" for name in tables.MODULES]
    tests = "".join(path.read_text() for path in files)
    assert len(rows) == len(set(rows)) == tests.count("@feature(")
    for row in rows:
        assert f"def {row}(make" in tests
    assert not re.search(r"mark\.skip|pytest\.skip|importorskip|xfail", tests)
