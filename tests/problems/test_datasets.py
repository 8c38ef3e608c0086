import time

import numpy as np
import pytest
import tensorflow as tf

from l2o.errors import UserError
from l2o.problems import conv_classifier, datasets, mlp_classifier
from tests.problems.sets import prepare


@pytest.fixture
def data_dir(tmp_path, monkeypatch):
    """An empty TFDS directory, the one that plain `tfds.load` uses."""
    import tensorflow_datasets as tfds

    # TFDS reads its default once, at import.
    monkeypatch.setattr(tfds.core.constants, "DATA_DIR", str(tmp_path))
    datasets._load.cache_clear()
    yield tmp_path
    datasets._load.cache_clear()


def as_set(images, labels):
    return {(np.asarray(i).tobytes(), int(label)) for i, label in zip(images, labels, strict=True)}


def test_digits_is_real_balanced_and_split_for_good():
    data = datasets.load("digits")
    assert data.train.images.shape == (1437, 8, 8, 1)
    assert data.test.images.shape == (360, 8, 8, 1)
    assert data.classes == 10
    assert data.train.images.min() == 0
    assert data.train.images.max() == 1
    assert np.bincount(data.test.labels).min() >= 34
    assert not as_set(*data.train) & as_set(*data.test)
    assert datasets.load("digits") is data


@pytest.mark.parametrize(
    ("name", "shape", "classes"), [("mnist", (28, 28, 1), 10), ("tiny_set", (6, 5, 3), 3)]
)
def test_a_tfds_set_by_its_name(data_dir, name, shape, classes):
    written = prepare(name, shape, {"train": 20, "test": 8}, data_dir, classes)
    data = datasets.load(name)
    assert data.classes == classes
    for split, got in (("train", data.train), ("test", data.test)):
        assert got.images.dtype == np.uint8
        assert as_set(*got) == as_set(*written[split])
    images, labels = data.train.take(np.array([[3, 4], [5, 6]]))
    assert images.shape == (2, 2, *shape)
    assert labels.shape == (2, 2)
    np.testing.assert_allclose(images[0, 1], data.train.images[4] / 255, rtol=1e-6)


def test_a_tfds_set_trains_an_mlp(data_dir):
    prepare("tiny_set", (6, 5, 1), {"train": 20, "test": 8}, data_dir)
    problem = mlp_classifier(layers=[4], dataset="tiny_set", batch_size=5)
    instance = problem.init(0)
    assert [tuple(p.shape) for p in instance.params] == [(30, 4), (4,), (4, 3), (3,)]
    images, labels = problem.batches(0, 0, 3)
    loss, _ = problem.objective(*instance, (images[0], labels[0]))
    assert np.isfinite(loss)


def test_a_set_without_a_test_split_holds_a_fifth_back(data_dir):
    written = prepare("tiny_set", (4, 4, 1), {"train": 20}, data_dir)
    data = datasets.load("tiny_set")
    assert (len(data.train.labels), len(data.test.labels)) == (16, 4)
    assert as_set(*data.train) | as_set(*data.test) == as_set(*written["train"])


def test_images_of_different_sizes_need_a_common_one(data_dir):
    sizes = [(4 + i % 3, 5, 3) for i in range(12)]
    prepare("tiny_set", (None, None, 3), {"train": 12, "test": 2}, data_dir, image_shapes=sizes)
    with pytest.raises(UserError, match="image_size"):
        datasets.load("tiny_set")
    data = datasets.load("tiny_set", image_size=4)
    assert data.train.images.shape == (12, 4, 4, 3)
    assert datasets.load("digits", image_size=4).train.images.shape == (1437, 4, 4, 1)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("image_size", [None, 4])
def test_images_of_every_type_are_in_0_to_1(data_dir, dtype, image_size):
    prepare("tiny_set", (6, 5, 1), {"train": 20, "test": 8}, data_dir, dtype=dtype)
    for split in datasets.load("tiny_set", image_size)[1:3]:
        images, _ = split.all()
        assert split.images.dtype == dtype
        assert images.dtype == np.float32
        high = np.iinfo(dtype).max if dtype is not np.float32 else 1
        np.testing.assert_allclose(images, split.images / np.float64(high), rtol=1e-6)
        assert 0 <= images.numpy().min() < 0.3
        assert 0.7 < images.numpy().max() <= 1
        assert len(np.unique(images)) > 50, "resized floats are not rounded"


@pytest.mark.parametrize("dtype", ["u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8"])
def test_the_whole_range_of_an_integer_becomes_0_to_1(dtype):
    info = np.iinfo(dtype)
    values = [info.min, info.min // 2 + info.max // 2, info.max]
    split = datasets.Split(np.array(values, dtype).reshape(3, 1, 1, 1), np.arange(3))
    for index in (np.arange(3), np.arange(3)[:, np.newaxis]):
        images, _ = split.take(index)
        np.testing.assert_allclose(np.ravel(images), [0, 0.5, 1], atol=0.5 / 255)
    # Features are numbers of their own, such as the ids of words.
    features, _ = datasets.Split(np.array([[1, 100]], dtype), np.arange(1)).all()
    np.testing.assert_array_equal(features, [[1, 100]])


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_other_floats_keep_their_values(dtype):
    images, _ = datasets.Split(np.array([-1, 0.5, 300], dtype), np.arange(3)).all()
    assert images.dtype == np.float32
    np.testing.assert_array_equal(images, [-1, 0.5, 300])


@pytest.mark.parametrize("shards", [4, 1])
@pytest.mark.parametrize("sizes", [None, [(4 + i % 3, 5, 3) for i in range(70)]])
def test_reading_many_at_once_gives_what_one_after_the_other_gives(
    data_dir, monkeypatch, sizes, shards
):
    import tensorflow_datasets as tfds

    shape = (None, None, 3) if sizes else (4, 5, 3)
    prepare(
        "tiny_set", shape, {"train": 70, "test": 9}, data_dir, image_shapes=sizes, shards=shards
    )
    # A batch that is not full, and one that begins in one file and ends in another.
    monkeypatch.setattr(datasets, "BYTES_AT_ONCE", 11 * 4 * 5 * 3)
    data = datasets.load("tiny_set", image_size=4 if sizes else None)
    builder = tfds.builder("tiny_set")
    for split in ("train", "test"):
        one_by_one = list(builder.as_dataset(split=split))
        images = [
            tf.round(tf.image.resize(e["image"], (4, 4))) if sizes else e["image"]
            for e in one_by_one
        ]
        got = getattr(data, split)
        np.testing.assert_array_equal(got.images, images)
        np.testing.assert_array_equal(got.labels, [e["label"] for e in one_by_one])


@pytest.mark.parametrize("image_shapes", [None, [(4 + i % 3, 5, 3) for i in range(20)]])
def test_a_part_of_a_file_is_that_part(data_dir, image_shapes):
    import tensorflow_datasets as tfds

    shape = (None, None, 3) if image_shapes else (4, 5, 3)
    prepare("tiny_set", shape, {"train": 20}, data_dir, image_shapes=image_shapes)
    data = datasets.load("tiny_set", image_size=4)
    for got, part in ((data.train, "train[:80%]"), (data.test, "train[80%:]")):
        examples = list(tfds.builder("tiny_set").as_dataset(split=part))
        np.testing.assert_array_equal(got.labels, [e["label"] for e in examples])
        images = [datasets._in_shape(e["image"], (4, 4, 3)) for e in examples]
        np.testing.assert_array_equal(got.images, images)


@pytest.mark.parametrize("damage", ["cut", "changed", "gone", "short"])
def test_a_damaged_set_is_told_in_one_line(data_dir, damage):
    prepare("tiny_set", (6, 5, 1), {"train": 20, "test": 8}, data_dir)
    (path,) = data_dir.rglob("*train.tfrecord*")
    content = path.read_bytes()
    if damage == "short":
        records = list(tf.data.TFRecordDataset(str(path)).take(19).as_numpy_iterator())
        with tf.io.TFRecordWriter(str(path)) as file:
            for record in records:
                file.write(record)
    elif damage == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "changed":
        path.write_bytes(content[:100] + bytes(40) + content[140:])
    else:
        path.unlink()
    with pytest.raises(UserError, match=r"split train of dataset 'tiny_set' in .* cannot") as error:
        datasets.load("tiny_set")
    assert len(str(error.value).splitlines()) == 1


def test_a_set_too_large_for_memory_is_refused(data_dir, monkeypatch):
    prepare("tiny_set", (6, 5, 1), {"train": 20, "test": 8}, data_dir)
    monkeypatch.setattr(datasets, "LARGEST_SET", 100)
    with pytest.raises(UserError, match="GiB of memory"):
        datasets.load("tiny_set")


def test_a_set_that_is_neither_prepared_nor_reachable_says_so_soon(data_dir, monkeypatch):
    import requests

    def unreachable(url, timeout):
        raise requests.ConnectionError(f"no route to {url} in {timeout} s")

    monkeypatch.setattr(requests, "head", unreachable)
    start = time.monotonic()
    with pytest.raises(UserError) as error:
        datasets.load("mnist")
    assert time.monotonic() - start < 30, "TFDS alone would retry for minutes"
    assert str(data_dir) in str(error.value)
    assert "dataset=digits" in str(error.value)


@pytest.mark.parametrize(
    "name", ["mnst", "../mnist", "huggingface:mnist", "mnist/a=1", "", "mnist[:5]", "imdb_reviews"]
)
def test_names_that_are_none(data_dir, name):
    if name == "imdb_reviews":  # a set TFDS knows, prepared, but not one of images
        import tensorflow_datasets as tfds

        tfds.dataset_builders.AdhocBuilder(
            name=name,
            version="1.0.0",
            features=tfds.features.FeaturesDict({"text": tfds.features.Text()}),
            split_datasets={"train": [(0, {"text": "a"})]},
            data_dir=str(data_dir),
        ).download_and_prepare()
    with pytest.raises(UserError) as error:
        datasets.load(name)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "features", "classes", "sizes"),
    [("breast_cancer", 30, 2, (455, 114)), ("wine", 13, 3, (142, 36))],
)
def test_tables_are_standardised_by_what_is_trained_on(name, features, classes, sizes):
    data = datasets.load(name)
    assert (data.train.size, data.test.size) == sizes
    assert data.train.images.shape == (sizes[0], features)
    assert data.classes == classes == len(set(data.test.labels))
    np.testing.assert_allclose(data.train.images.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(data.train.images.std(0), 1, atol=1e-5)
    assert abs(data.test.images.mean(0)).max() > 0.01
    # A line through it tells most of them apart: rows and labels belong together.
    x = np.c_[data.train.images, np.ones(sizes[0])]
    line = np.linalg.lstsq(x, np.eye(classes)[data.train.labels], rcond=None)[0]
    found = (np.c_[data.test.images, np.ones(sizes[1])] @ line).argmax(1)
    assert np.mean(found == data.test.labels) > 0.9
    loss, _ = mlp_classifier(dataset=name, layers=[3]).objective(
        *mlp_classifier(dataset=name, layers=[3]).init(0), data.train.all()
    )
    assert 0 < loss < 3


@pytest.mark.parametrize(
    "refused",
    [
        lambda: conv_classifier(dataset="wine"),
        lambda: mlp_classifier(dataset="wine", image_size=8),
    ],
)
def test_a_table_has_no_images(refused):
    with pytest.raises(UserError, match="wine has no images") as error:
        refused()
    assert error.value.path == "dataset"


def test_wrong_labels_are_of_other_classes_and_the_same_each_time():
    right = datasets.load("digits")
    wrong = datasets.with_wrong_labels(right, 0.3)
    differing = wrong.train.labels != right.train.labels
    assert differing.sum() == round(0.3 * 1437)
    assert set(wrong.train.labels) == set(range(10))
    shift = (wrong.train.labels - right.train.labels)[differing] % 10
    assert np.bincount(shift, minlength=10)[1:].min() > 20
    again = datasets.with_wrong_labels(right, 0.3)
    np.testing.assert_array_equal(again.train.labels, wrong.train.labels)
    np.testing.assert_array_equal(wrong.test.labels, right.test.labels)
    assert (datasets.with_wrong_labels(right, 1.0).train.labels != right.train.labels).all()
    assert datasets.with_wrong_labels(right, 0.0) is right


def test_wrong_labels_need_another_class_and_leave_the_others_as_they_are():
    images = np.zeros((100, 2), np.float32)
    # Not one of the classes: a problem refuses it, and still can.
    labels = np.full(100, 255, np.uint8)
    split = datasets.Split(images, labels)
    changed = datasets.with_wrong_labels(datasets.Dataset("a", split, split, 10), 0.5)
    assert (changed.train.labels == 255).sum() == 50
    assert (changed.train.labels < 10).sum() == 50
    with pytest.raises(UserError, match="a has one class") as error:
        datasets.with_wrong_labels(datasets.Dataset("a", split, split, 1), 0.5)
    assert error.value.path == "label_noise"


@pytest.mark.parametrize("classifier", [mlp_classifier, conv_classifier])
def test_a_classifier_learns_from_wrong_labels_and_is_tested_on_right_ones(classifier):
    right = datasets.load("digits")
    data = classifier(label_noise=0.5).dataset
    assert (data.train.labels != right.train.labels).mean() == pytest.approx(0.5, abs=1e-3)
    np.testing.assert_array_equal(data.test.labels, right.test.labels)
