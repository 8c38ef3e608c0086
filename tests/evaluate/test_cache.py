import os
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from l2o.evaluate import cache as module
from l2o.evaluate.cache import Cache

KEY = {"a": (1, 2.5), "b": {"c": "d"}}
ARRAYS = {"x": np.arange(3.0), "y": np.array(2)}


@pytest.fixture
def cache(tmp_path):
    return Cache(tmp_path / "some/where")


def test_what_was_put_comes_back(cache):
    assert cache.get(KEY) is None
    cache.put(KEY, ARRAYS)
    got = cache.get({"b": {"c": "d"}, "a": [1, 2.5]})
    assert got.keys() == ARRAYS.keys()
    for name in got:
        np.testing.assert_array_equal(got[name], ARRAYS[name])
    assert cache.failure is None


@pytest.mark.parametrize("key", [{"a": (1, 2.5)}, {**KEY, "a": (2, 2.5)}, {**KEY, "z": None}])
def test_another_key_is_another_result(cache, key):
    cache.put(KEY, ARRAYS)
    assert cache.get(key) is None


def test_other_code_or_devices_made_another_result(cache, monkeypatch):
    cache.put(KEY, ARRAYS)
    made_by = module._made_by()
    for version in (keras.__version__, np.__version__, tf.__version__):
        assert version in made_by["libraries"]
    assert made_by["devices"] == "CPU"
    assert module.l2o.version.__version__ in made_by["l2o"]
    assert len(made_by) == 3
    for name in made_by:
        with monkeypatch.context() as patch:
            patch.setattr(module, "_made_by", lambda n=name: {**made_by, n: "other"})
            assert cache.get(KEY) is None
    assert cache.get(KEY) is not None


def test_the_code_that_counts(monkeypatch, tmp_path):
    import shutil

    package = tmp_path / "l2o"
    shutil.copytree(Path(module.__file__).parent.parent, package)
    monkeypatch.setattr(module.l2o.version, "__file__", str(package / "version.py"))

    def made_by():
        module._made_by.cache_clear()
        return module._made_by()["l2o"]

    try:
        first = made_by()
        for name in ("evaluate/report/html.py", "train/session.py", "errors.py", "disk/files.py"):
            (package / name).write_text("")
            assert made_by() == first
        found = {first}
        related = ("optimizer/dm.py", "evaluate/runs.py", "problems/arrays.py", "inner/unroll.py")
        for name in (*related, "seeds.py", "optimizer/new.py"):
            (package / name).write_text("")
            found.add(made_by())
        assert len(found) == 7
        # What is not there was renamed, and may be related under its new name.
        assert all((package / name).exists() for name in module.UNRELATED)
    finally:
        module._made_by.cache_clear()


@pytest.mark.parametrize("damage", [lambda b: b[:-9], lambda b: b"", lambda b: b"\0" * len(b)])
def test_a_damaged_file_is_no_result_and_is_replaced(cache, damage):
    cache.put(KEY, ARRAYS)
    (path,) = cache.folder.iterdir()
    path.write_bytes(damage(path.read_bytes()))
    assert cache.get(KEY) is None
    cache.put(KEY, ARRAYS)
    assert cache.get(KEY) is not None


def test_a_file_under_another_name_is_no_result(cache):
    cache.put(KEY, ARRAYS)
    (path,) = cache.folder.iterdir()
    cache.put({"other": 1}, {"x": np.zeros(1)})
    (other,) = set(cache.folder.iterdir()) - {path}
    os.replace(other, path)
    assert cache.get(KEY) is None


def test_a_folder_that_cannot_be_written_is_said_and_no_error(tmp_path):
    (tmp_path / "file").write_text("")
    cache = Cache(tmp_path / "file/cache")
    cache.put(KEY, ARRAYS)
    assert "results are not cached in" in cache.failure
    assert cache.get(KEY) is None


def test_no_folder_keeps_nothing():
    cache = Cache(None)
    cache.put(KEY, ARRAYS)
    assert cache.get(KEY) is None
    assert cache.failure is None
