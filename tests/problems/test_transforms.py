"""Image sets that are made of another one, and labels that differ between optimizees."""

import numpy as np
import pytest
import tensorflow as tf

from l2o.errors import UserError
from l2o.problems import (
    PROBLEMS,
    GradientNoise,
    Quadratic,
    RandomLabels,
    RandomScaling,
    char_lm,
    datasets,
    mlp_classifier,
    transforms,
    vae,
)
from l2o.problems.held_out import with_held_out
from l2o.problems.problem import HeldOut
from l2o.problems.transforms import transformed

DIGITS = datasets.load("digits")


def as_set(monkeypatch, images, test=None):
    """A set of these images under the name `mine`."""
    splits = [datasets.Split(x, np.zeros(len(x), np.int32)) for x in (images, images[:1])]
    data = datasets.Dataset("mine", *splits, 2)
    monkeypatch.setattr(transforms, "load", lambda name, size: data)
    transforms._changed.cache_clear()
    return data


@pytest.fixture(autouse=True)
def fresh():
    yield
    transforms._changed.cache_clear()


@pytest.mark.parametrize("transform", ["inverted", "shifted", "projected"])
def test_a_set_keeps_all_but_its_images_and_is_always_the_same(transform):
    data = transformed("digits", None, transform)
    assert transformed("digits", None, transform) is data
    assert data.name == f"digits ({transform})"
    for split, original in ((data.train, DIGITS.train), (data.test, DIGITS.test)):
        assert split.images.shape == original.images.shape
        assert split.images.dtype == np.float32
        np.testing.assert_array_equal(split.labels, original.labels)
        assert (split.images != original.images).any((1, 2, 3)).mean() > 0.8
    transforms._changed.cache_clear()
    again = transformed("digits", None, transform)
    np.testing.assert_array_equal(again.train.images, data.train.images)
    assert transformed("digits", None, None) is datasets.load("digits")


def test_inverted_digits():
    data = transformed("digits", None, "inverted")
    np.testing.assert_allclose(data.train.images, 1 - DIGITS.train.images, atol=1e-7)
    np.testing.assert_allclose(data.test.images, 1 - DIGITS.test.images, atol=1e-7)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16])
def test_inverted_integers(monkeypatch, dtype):
    info = np.iinfo(dtype)
    as_set(monkeypatch, np.array([info.min, info.min + 3, info.max], dtype).reshape(3, 1, 1, 1))
    found = transformed("mine", None, "inverted").train.images
    assert found.dtype == dtype
    assert found.ravel().tolist() == [info.max, info.max - 3, info.min]


def test_each_image_is_shifted_by_an_amount_of_its_own(monkeypatch):
    # 16x9 pixels, so up to 2 and up to 1. One that is white in the middle shows by how much.
    images = np.zeros((300, 16, 9, 2), np.uint8)
    images[:, 8, 4] = 1, 2
    as_set(monkeypatch, images)
    found = transformed("mine", None, "shifted").train.images
    assert found.shape == images.shape
    example, row, column = np.nonzero(found[..., 0])
    assert example.tolist() == [*range(300)]
    np.testing.assert_array_equal(found[example, row, column], [[1, 2]] * 300)
    assert np.count_nonzero(found) == 600
    assert set(row) == {6, 7, 8, 9, 10}
    assert set(column) == {3, 4, 5}
    assert len(set(zip(row, column, strict=True))) == 15
    assert min(np.bincount(5 * column + row)[np.unique(5 * column + row)]) > 5


def test_what_leaves_a_shifted_image_does_not_come_back(monkeypatch):
    as_set(monkeypatch, np.ones((50, 8, 8, 1), np.float32))
    found = transformed("mine", None, "shifted").train.images[..., 0]
    for image in found:
        # A row or column of zeros on one side, if it moved.
        assert image[1:-1, 1:-1].all()
        assert image.sum() in (64, 56, 49)


def test_a_projection_is_orthogonal_and_mixes_all_pixels():
    data = transformed("digits", None, "projected")
    before, after = (
        np.concatenate([d.train.images, d.test.images]).reshape(-1, 64) for d in (DIGITS, data)
    )
    np.testing.assert_allclose(after @ after.T, before @ before.T, rtol=1e-3, atol=1e-3)
    matrix = np.linalg.lstsq(before, after, rcond=None)[0][before.any(0)]
    assert np.abs(matrix).max() < 0.8
    assert (np.abs(matrix) > 1e-3).mean() > 0.95


def test_integers_are_projected_as_a_model_sees_them(monkeypatch):
    images = np.random.default_rng(0).integers(0, 256, (9, 4, 4, 1), dtype=np.uint8)
    as_set(monkeypatch, images)
    found = transformed("mine", None, "projected").train.images
    norms = np.linalg.norm(images.reshape(9, -1) / 255, axis=1)
    np.testing.assert_allclose(np.linalg.norm(found.reshape(9, -1), axis=1), norms, rtol=1e-5)


def test_images_that_are_too_small_or_too_large(monkeypatch):
    with pytest.raises(UserError, match="too small to be shifted") as error:
        mlp_classifier(image_size=7, transform="shifted")
    assert error.value.path == "transform"
    monkeypatch.setattr(transforms, "LARGEST_PROJECTED", 63)
    with pytest.raises(UserError, match="too large to be projected") as error:
        mlp_classifier(transform="projected")
    assert error.value.path == "transform"


@pytest.mark.parametrize("name", [n for n in PROBLEMS.entries if n.endswith("_classifier")])
def test_every_classifier_takes_transforms_and_wrong_labels(name):
    problem = PROBLEMS.find(name)(transform="shifted", label_noise=0.5)
    data = transformed("digits", None, "shifted")
    np.testing.assert_array_equal(problem.dataset.train.images, data.train.images)
    assert (problem.dataset.train.labels != data.train.labels).mean() == pytest.approx(
        0.5, abs=0.01
    )
    np.testing.assert_array_equal(problem.dataset.test.labels, data.test.labels)


# Labels that differ between optimizees.


@pytest.fixture(scope="module")
def inner():
    return mlp_classifier([4], batch_size=16)


def test_each_optimizee_has_groups_of_its_own(inner):
    problem = RandomLabels(inner, groups=4)
    tables = [problem.init(seed).model_state[0].numpy() for seed in range(60)]
    assert all(set(t) == set(range(4)) for t in tables)
    assert all(t.shape == (10,) for t in tables)
    # As partitions, whatever the names of the groups.
    partitions = {tuple((t[:, None] == t).ravel()) for t in tables}
    assert len(partitions) == 60
    np.testing.assert_array_equal(problem.init(5).model_state[0], tables[5])
    # Classes and groups are all alike.
    assert np.abs(np.mean(tables, axis=0) - 1.5).max() < 0.6
    assert sorted(RandomLabels(inner, groups=10).init(0).model_state[0].numpy()) == [*range(10)]


def test_the_objective_is_that_of_the_groups(inner):
    problem = RandomLabels(inner, groups=3)
    params, (table, *rest) = problem.init(1)
    images, classes = (b[0] for b in inner.batches(0, 0, 1))
    expected, _ = inner.objective(params, rest, (images, table.numpy()[classes.numpy()]))
    found, state = problem.objective(params, [table, *rest], (images, classes))
    picked = tf.nest.map_structure(lambda b: b[0], problem.stream(0, 0, 1))
    assert found == expected
    np.testing.assert_allclose(problem.objective(params, [table], picked)[0], expected, rtol=1e-6)
    np.testing.assert_array_equal(state[0], table)


def test_held_out_examples_have_the_same_groups(inner):
    problem = with_held_out(RandomLabels(inner, groups=3))
    params, (table, *rest) = problem.init(1)
    held_out = tf.nest.map_structure(lambda b: b[0], problem.stream(0, 0, 1).held_out)
    images, classes = inner.examples_of(held_out.batch)
    expected, _ = inner.objective(params, rest, HeldOut((images, tf.gather(table, classes))))
    assert problem.objective(params, [table, *rest], held_out)[0] == expected


def test_wrappers_compose_in_any_order(inner):
    params, _ = inner.init(2)
    batch = tf.nest.map_structure(lambda b: b[0], inner.stream(0, 0, 1))
    for problem in (
        RandomLabels(RandomScaling(inner, limit=1e-9), groups=3),
        RandomScaling(RandomLabels(inner, groups=3), limit=1e-9),
        GradientNoise(RandomLabels(inner, groups=3)),
    ):
        start, state = problem.init(2)
        table = next(s for s in state if s.shape == (10,) and s.dtype == tf.int32)
        images, classes = inner.examples_of(batch)
        expected, _ = inner.objective(params, [], (images, tf.gather(table, classes)))
        np.testing.assert_allclose(problem.objective(start, state, batch)[0], expected, rtol=1e-5)


@pytest.mark.parametrize(
    "make", [Quadratic, vae, lambda: char_lm("rnn"), lambda: RandomScaling(Quadratic())]
)
def test_what_has_no_classes_is_refused(make):
    with pytest.raises(UserError, match="has no classes"):
        RandomLabels(make())


def test_more_groups_than_classes_are_refused(inner):
    with pytest.raises(UserError, match="digits has 10 classes"):
        RandomLabels(inner, groups=11)
