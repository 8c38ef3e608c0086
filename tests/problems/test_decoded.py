"""Decoded images stay on disk, and only the right ones come back."""

import os
import shutil

import numpy as np
import pytest

from l2o.problems import datasets, decoded
from tests.problems.sets import prepare


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The cache of a test, and a TFDS directory with a set."""
    import tensorflow_datasets as tfds

    monkeypatch.setattr(tfds.core.constants, "DATA_DIR", str(tmp_path / "tfds"))
    monkeypatch.setenv("L2O_CACHE", str(tmp_path / "cache"))
    prepare("tiny_set", (6, 5, 1), {"train": 20, "test": 8}, tmp_path / "tfds")
    datasets._load.cache_clear()
    yield tmp_path / "cache" / "images"
    datasets._load.cache_clear()


@pytest.fixture
def reads(monkeypatch):
    """The splits that TFDS reads."""
    found, read = [], datasets._read

    def spy(builder, split, *rest):
        found.append(split)
        return read(builder, split, *rest)

    monkeypatch.setattr(datasets, "_read", spy)
    return found


def load(*arguments):
    datasets._load.cache_clear()
    return datasets.load("tiny_set", *arguments)


def assert_same(a, b):
    assert a.classes == b.classes
    for x, y in zip((*a.train, *a.test), (*b.train, *b.test), strict=True):
        assert x.dtype == y.dtype
        np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize("size", [None, 4])
def test_the_second_load_reads_no_image(folder, reads, size):
    first = load(size)
    assert reads == ["train", "test"]
    second = load(size)
    assert reads == ["train", "test"]
    assert_same(first, second)
    assert second.train.images.shape[1:] == ((4, 4, 1) if size else (6, 5, 1))
    assert len(list(folder.iterdir())) == 1
    second.train.images[:] = 0
    assert_same(first, load(size))


def test_another_size_is_another_file(folder, reads):
    assert load(4).train.images.shape == (20, 4, 4, 1)
    assert load(3).train.images.shape == (20, 3, 3, 1)
    assert load(None).train.images.shape == (20, 6, 5, 1)
    assert len(reads) == 6
    assert len(list(folder.iterdir())) == 3


@pytest.mark.parametrize("other", ["content", "type", "classes", "code"])
def test_another_set_of_the_same_name_is_another_file(folder, reads, other, monkeypatch):
    before = load(4)
    tfds_folder = folder.parents[1] / "tfds"
    if other == "code":
        monkeypatch.setattr(datasets, "__file__", __file__)
    else:
        shutil.rmtree(tfds_folder)
        dtype = np.uint16 if other == "type" else np.uint8
        # As many images as before, and other ones.
        changed = {"classes": 7} if other == "classes" else {"dtype": dtype}
        prepare("tiny_set", (6, 5, 1), {"train": 20, "test": 8}, tfds_folder, **changed)
    after = load(4)
    assert len(reads) == 4
    assert after.classes == (7 if other == "classes" else 3)
    assert after.train.images.dtype == (np.uint16 if other == "type" else np.uint8)
    assert before.train.images.shape == after.train.images.shape


@pytest.mark.parametrize(
    "damage",
    [
        lambda b: b[:-9],
        lambda b: b"",
        lambda b: b"\0" * len(b),
        lambda b: b[: len(b) // 2] + bytes([b[len(b) // 2] ^ 1]) + b[len(b) // 2 + 1 :],
    ],
    ids=["cut", "empty", "zeros", "a bit"],
)
def test_a_damaged_file_is_written_again(folder, reads, damage):
    first = load(4)
    (path,) = folder.iterdir()
    content = path.read_bytes()
    path.write_bytes(damage(content))
    assert_same(first, load(4))
    assert len(reads) == 4
    assert path.read_bytes() == content
    assert [p.name for p in folder.iterdir()] == [path.name]


def test_a_file_of_objects_is_not_unpickled(folder, reads):
    first = load(4)
    (path,) = folder.iterdir()
    np.savez(path, seal=np.array({"a": 1}, dtype=object))
    assert_same(first, load(4))
    assert len(reads) == 4


def test_a_file_under_another_name_is_not_used(folder, reads):
    load(4)
    (path,) = folder.iterdir()
    load(3)
    (other,) = set(folder.iterdir()) - {path}
    os.replace(other, path)
    assert load(4).train.images.shape == (20, 4, 4, 1)


def test_a_cache_that_cannot_be_written_is_no_error(folder, reads, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file" / "cache", "/proc/none", ""):
        monkeypatch.setenv("L2O_CACHE", str(place))
        assert load(4).train.size == 20
    assert len(reads) == 6
    assert not folder.exists()


def test_large_sets_are_not_kept(folder, reads, monkeypatch):
    monkeypatch.setattr(decoded, "LARGEST_KEPT", 100)
    load(4)
    assert not folder.exists()


def test_a_damaged_set_is_not_hidden_by_what_was_kept(folder):
    from l2o.errors import UserError

    load(4)
    (record,) = (folder.parents[1] / "tfds").rglob("*train.tfrecord*")
    record.write_bytes(record.read_bytes()[:100])
    with pytest.raises(UserError, match="prepare it again"):
        load(4)
