"""Parts of the training examples: what an optimizee trains on, and what is held out."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from l2o.errors import UserError
from l2o.problems import (
    ConvexCombination,
    GradientNoise,
    Quadratic,
    RandomScaling,
    keras_model,
    keras_problem,
)
from l2o.problems.held_out import with_held_out, with_validation_split
from l2o.problems.problem import HeldOut
from tests.problems.models import X, Y, regression

WRAPPED = {
    "alone": lambda problem: problem,
    "scaled noise": lambda problem: GradientNoise(RandomScaling(problem, 1.0)),
    "convex": lambda problem: ConvexCombination(problem, 3),
}


def regressor(batch_size=4, shuffle_buffer=16384, build_model=None, rows=40):
    data = ((X[:rows], Y[:rows]), (np.full([5, 3], np.nan), np.zeros(5)))
    return keras_problem(build_model or regression(), data, "mse", batch_size, shuffle_buffer)


def drawn(split, seed, start=0, count=30):
    """The examples of the mini-batches of both parts, [count, batch_size]."""
    batches = split.stream(seed, start, count)
    return batches.train.indices.numpy(), batches.held_out.batch.indices.numpy()


@pytest.mark.parametrize("buffer", [16384, 3, 0])
@pytest.mark.parametrize("wrap", WRAPPED)
def test_no_example_is_in_both_parts_and_all_are_in_one(wrap, buffer):
    split = with_held_out(WRAPPED[wrap](regressor(shuffle_buffer=buffer)))
    # 30 mini-batches of 4 are almost four epochs of the 32 examples, and 15 of the 8 others.
    parts = [[set(part.ravel()) for part in drawn(split, seed)] for seed in range(5)]
    for train, held_out in parts:
        assert (len(train), len(held_out)) == (32, 8)
        assert train | held_out == set(range(40))
    assert len({frozenset(held_out) for _, held_out in parts}) == 5, "drawn for each optimizee"
    for epoch in drawn(split, 0)[0][:24].reshape(3, -1):
        assert len(set(epoch)) == 32
    for epoch in drawn(split, 0)[1].reshape(15, -1):
        assert len(set(epoch)) == 8


def test_a_stream_goes_on_where_it_was():
    split = with_held_out(regressor())
    for whole, later in zip(drawn(split, 3, 0, 20), drawn(split, 3, 6, 9), strict=True):
        np.testing.assert_array_equal(whole[6:15], later)


def test_an_epoch_is_one_of_the_part_to_train_on():
    assert with_held_out(regressor()).steps_per_epoch == 8
    assert with_held_out(RandomScaling(regressor(batch_size=3))).steps_per_epoch == 10
    # 7.8 of 39 are held out, and 5 do not divide the others.
    problem = regressor(batch_size=5, rows=39)
    assert with_held_out(problem).steps_per_epoch == 31 // 5


def test_the_whole_problem_stays_as_it_was():
    wrapped = GradientNoise(RandomScaling(regressor()))
    before = wrapped.stream(1, 0, 5).indices.numpy()
    split = with_held_out(wrapped)
    np.testing.assert_array_equal(wrapped.stream(1, 0, 5).indices, before)
    assert (wrapped.steps_per_epoch, wrapped.problem.problem.steps_per_epoch) == (10, 10)
    for one, other in zip(*(p.init(4) for p in (wrapped, split)), strict=True):
        for a, b in zip(one, other, strict=True):
            np.testing.assert_array_equal(a, b)


def test_large_sets_stay_out_of_the_graph(monkeypatch):
    split = with_held_out(regressor())
    gathered = split.stream(2, 0, 3)
    monkeypatch.setattr(keras_model, "LARGEST_IN_GRAPH", 10)
    large = split.stream(2, 0, 3)
    params, state = split.init(0)
    for small, arrays in zip(gathered, large, strict=True):
        assert all(leaf.shape[:2] == (3, 4) for leaf in tf.nest.flatten(arrays))
        first = [tf.nest.map_structure(lambda b: b[0], part) for part in (small, arrays)]
        losses = [split.objective(params, state, batch)[0] for batch in first]
        assert losses[0] == losses[1]
    tf.nest.map_structure(np.testing.assert_array_equal, large, split.batches(2, 0, 3))


def noisy_model():
    return keras.Sequential(
        [
            keras.Input((3,)),
            keras.layers.Dense(4, kernel_regularizer=keras.regularizers.L2(0.5)),
            keras.layers.BatchNormalization(),
            keras.layers.Dropout(0.5),
            keras.layers.Dense(1),
        ]
    )


def test_held_out_examples_are_scored_as_keras_evaluates_them():
    problem = regressor(build_model=noisy_model, batch_size=8)
    split = with_held_out(problem)
    (params, state), batches = split.init(0), split.stream(0, 0, 4)
    for i in range(3):
        batch = tf.nest.map_structure(lambda b, i=i: b[i], batches)
        _, state = split.objective(params, state, batch.train)
    assert not np.allclose(state[1], 1), "the moving variance has changed"
    scored, after = split.objective(params, state, batch.held_out)
    tf.nest.map_structure(np.testing.assert_array_equal, after, state)
    model = problem.model(0)
    model.compile(loss="mse")
    variables = [*model.trainable_variables, *model.non_trainable_variables]
    for variable, value in zip(variables, [*params, *state], strict=True):
        variable.assign(value)
    chosen = batch.held_out.batch.indices.numpy()
    # Keras adds the penalty, which says nothing about the examples.
    evaluated = model.evaluate(X[chosen], Y[chosen], batch_size=8, verbose=0)
    penalty = 0.5 * np.sum(params[0].numpy() ** 2)
    np.testing.assert_allclose(scored, evaluated - penalty, rtol=1e-5)


def test_wrappers_change_what_is_scored_as_they_change_what_is_trained_on():
    plain, wrapped = (with_held_out(WRAPPED[w](regressor())) for w in ("alone", "scaled noise"))
    batch = tf.nest.map_structure(lambda b: b[0], plain.stream(0, 0, 1)).held_out
    (inner, state), (params, both) = plain.init(0), wrapped.init(0)
    expected, _ = plain.objective(inner, state, batch)
    with tf.GradientTape() as tape:
        tape.watch(params)
        scored, after = wrapped.objective(params, both, batch)
    np.testing.assert_allclose(scored, expected, rtol=1e-5)
    tf.nest.map_structure(np.testing.assert_array_equal, after, both)
    # Of the held-out objective, the gradient has no noise.
    slopes = tape.gradient(scored, params)
    with tf.GradientTape() as tape:
        tape.watch(params)
        without, _ = wrapped.problem.objective(params, both[1:], batch)
    tf.nest.map_structure(np.testing.assert_array_equal, slopes, tape.gradient(without, params))
    convex = ConvexCombination(regressor(), 3)
    params, state = convex.init(0)
    scored, _ = with_held_out(convex).objective(params, state, batch)
    w, c, *_ = state
    extra = np.mean((c.numpy() * params[-1].numpy() - w.numpy()) ** 2)
    np.testing.assert_allclose(scored, expected + extra, rtol=1e-5)


@pytest.mark.parametrize(
    ("problem", "reason"),
    [
        (
            RandomScaling(Quadratic()),
            'Quadratic has no training examples that can be held out: expected "train", or only '
            "problems that are Keras models, such as mlp_classifier",
        ),
        (
            RandomScaling(regressor(batch_size=9)),
            "batch_size 9 of keras_problem is larger than the 8 examples of the arrays that are "
            'held out: expected a smaller batch_size, or "train"',
        ),
    ],
    ids=["without data", "too few"],
)
def test_what_cannot_be_split_is_refused(problem, reason):
    with pytest.raises(UserError) as error:
        with_held_out(problem)
    assert str(error.value) == reason


def test_a_mini_batch_may_be_the_whole_part():
    _, held_out = drawn(with_held_out(regressor(batch_size=8)), 0, 0, 3)
    assert len(set(held_out.ravel())) == 8
    assert isinstance(with_held_out(regressor()).stream(0, 0, 1).held_out, HeldOut)


@pytest.mark.parametrize("buffer", [16384, 3, 0])
def test_a_validation_split_takes_from_the_training_examples_only(buffer):
    whole = regressor(shuffle_buffer=buffer)
    before = whole.stream(1, 0, 12)
    # So that it keeps its examples on the device.
    whole.examples_of(before)
    made = with_validation_split(whole)
    rest, part = made.dataset.train, made.dataset.test
    assert (rest.size, part.size, made.steps_per_epoch) == (32, 8, 8)
    both = np.concatenate([rest.inputs, part.inputs])
    given = np.float32(X[:40])
    assert {tuple(row) for row in both} == {tuple(row) for row in given}
    for inputs, targets in (rest, part):
        for row, target in zip(inputs, targets, strict=True):
            assert target == np.float32(Y[:40][(given == row).all(1)])
    # Two epochs of mini-batches, as a model sees them.
    seen, _ = made.examples_of(made.stream(1, 0, 16))
    assert {tuple(row) for row in seen.numpy().reshape(-1, 3)} == {
        tuple(row) for row in rest.inputs
    }
    again = with_validation_split(regressor(shuffle_buffer=buffer)).dataset.test
    np.testing.assert_array_equal(again.inputs, part.inputs)
    np.testing.assert_array_equal(whole.stream(1, 0, 12).indices, before.indices)
    assert (whole.dataset.train.size, whole.steps_per_epoch) == (40, 10)
    for ours, theirs in zip(made.init(3).params, whole.init(3).params, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_validation_split_leaves_a_mini_batch():
    with pytest.raises(UserError, match=r"batch_size 33 of .* the 32 examples .* for validation"):
        with_validation_split(regressor(batch_size=33))
    with_validation_split(regressor(batch_size=32))


def test_a_validation_split_has_an_example():
    with pytest.raises(UserError, match=r"has 2 training examples, too few .* expected at least 3"):
        with_validation_split(regressor(batch_size=1, rows=2))
    assert with_validation_split(regressor(batch_size=1, rows=3)).dataset.test.size == 1
