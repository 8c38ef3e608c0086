import random

import numpy as np
import pytest
import tensorflow as tf

from l2o.errors import UserError
from l2o.problems import ProblemSpec, mlp_classifier


@pytest.fixture(scope="module")
def problem():
    return mlp_classifier(layers=[7, 5], activation="tanh", batch_size=100)


def test_the_objective_is_the_cross_entropy_of_an_mlp(problem):
    instance = problem.init(3)
    w1, b1, w2, b2, w3, b3 = (p.numpy().astype(np.float64) for p in instance.params)
    images, labels = (t.numpy()[0] for t in problem.batches(0, 0, 1))
    hidden = np.tanh(np.tanh(images.reshape(100, 64) @ w1 + b1) @ w2 + b2)
    logits = hidden @ w3 + b3
    log_p = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    expected = -log_p[np.arange(100), labels].mean()
    loss, _ = problem.objective(*instance, (images, labels))
    np.testing.assert_allclose(loss, expected, rtol=1e-5)


def test_instances_belong_to_seeds_and_leave_pythons_generator_alone(problem):
    state = random.getstate()
    a, b, c = problem.init(1), problem.init(1), problem.init(2)
    assert random.getstate() == state
    for x, y in zip(a.params, b.params, strict=True):
        np.testing.assert_array_equal(x, y)
    assert not np.array_equal(a.params[0], c.params[0])
    model = problem.model(1)
    for x, v in zip(a.params, model.trainable_variables, strict=True):
        np.testing.assert_array_equal(x, v.numpy())


def test_an_epoch_shows_every_example_at_most_once_and_epochs_differ(problem):
    assert problem.steps_per_epoch == 14
    first = problem.indices(5, 0, 14)
    assert first.shape == (14, 100)
    assert len(np.unique(first)) == 1400
    second = problem.indices(5, 14, 14)
    assert len(np.unique(second)) == 1400
    assert not np.array_equal(first, second)
    assert not np.array_equal(first, problem.indices(6, 0, 14))


def test_any_window_of_the_stream_is_the_same_stream(problem):
    whole = problem.indices(5, 0, 40)
    np.testing.assert_array_equal(whole[11:33], problem.indices(5, 11, 22))
    np.testing.assert_array_equal(whole[27:28], problem.indices(5, 27, 1))


def test_shuffle_buffer_bounds_how_far_an_example_moves():
    def order(buffer):
        return mlp_classifier(batch_size=1437, shuffle_buffer=buffer).indices(0, 0, 1)[0]

    np.testing.assert_array_equal(order(0), np.arange(1437))
    moved = np.abs(order(50) - np.arange(1437))
    assert 20 < moved.max() <= 50
    assert np.abs(order(16384) - np.arange(1437)).max() > 1000


def test_a_batch_larger_than_the_data_set_is_refused():
    assert mlp_classifier(batch_size=1437).steps_per_epoch == 1
    with pytest.raises(UserError, match="1438 is larger than the 1437"):
        mlp_classifier(batch_size=1438)


def test_a_spec_builds_by_name_or_by_callable():
    by_name = ProblemSpec("mlp_classifier", args=([3],), kwargs={"batch_size": 32}).build()
    by_callable = ProblemSpec(mlp_classifier, kwargs={"layers": [3], "batch_size": 32}).build()
    for p, q in zip(by_name.init(0).params, by_callable.init(0).params, strict=True):
        np.testing.assert_array_equal(p, q)
    with pytest.raises(UserError, match="no problem called 'mlp'"):
        ProblemSpec("mlp").build()


def test_the_gradient_is_that_of_the_keras_model(problem):
    instance = problem.init(0)
    images, labels = (t[0] for t in problem.batches(0, 0, 1))
    with tf.GradientTape() as tape:
        tape.watch(instance.params)
        loss, _ = problem.objective(*instance, (images, labels))
    model = problem.model(0)
    with tf.GradientTape() as reference_tape:
        reference = problem.loss(labels, model(images, training=True))
    expected = reference_tape.gradient(reference, [v.value for v in model.trainable_variables])
    for a, b in zip(tape.gradient(loss, instance.params), expected, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)
