import random

import keras
import numpy as np
import pytest
import tensorflow as tf

from l2o.errors import UserError
from l2o.options import resolve
from l2o.problems import PROBLEMS, WRAPPERS, ProblemSpec, conv_classifier, mlp_classifier


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


def by_keras(problem, seed, batches):
    """Losses, gradients and the end of `model(x, training=True)`, stateful as Keras is."""
    model = problem.model(seed)
    for images, labels in zip(*batches, strict=True):
        with tf.GradientTape() as tape:
            loss = problem.loss(labels, model(images, training=True))
        yield loss, tape.gradient(loss, [v.value for v in model.trainable_variables]), model


@pytest.mark.parametrize(
    "options", [{}, {"batch_norm": True}, {"dropout": 0.4}, {"batch_norm": True, "dropout": 0.4}]
)
def test_a_convolutional_network_is_that_of_keras(options):
    problem = conv_classifier(layers=[3, 4], batch_size=16, **options)
    params, model_state = problem.init(2)
    batches = problem.batches(0, 0, 3)
    images, labels = batches
    for i, (expected, expected_grads, model) in enumerate(by_keras(problem, 2, batches)):
        with tf.GradientTape() as tape:
            tape.watch(params)
            loss, model_state = problem.objective(params, model_state, (images[i], labels[i]))
        np.testing.assert_allclose(loss, expected, rtol=1e-5)
        for a, b in zip(tape.gradient(loss, params), expected_grads, strict=True):
            np.testing.assert_allclose(a, b, atol=1e-5)
        for a, v in zip(model_state, model.non_trainable_variables, strict=True):
            np.testing.assert_allclose(a, v.numpy(), rtol=1e-5)


def test_batch_statistics_are_those_of_fit_at_rate_zero():
    problem = conv_classifier(layers=[3], batch_norm=True, batch_size=16)
    params, model_state = problem.init(0)
    images, labels = problem.batches(0, 0, 5)
    start = model_state
    for batch in zip(images, labels, strict=True):
        _, model_state = problem.objective(params, model_state, batch)
    model = problem.model(0)
    model.compile(keras.optimizers.SGD(0.0), problem.loss)
    model.fit(
        tf.reshape(images, [-1, 8, 8, 1]), tf.reshape(labels, [-1]), 16, shuffle=False, verbose=0
    )
    for a, b, first in zip(model_state, model.non_trainable_variables, start, strict=True):
        np.testing.assert_allclose(a, b.numpy(), rtol=1e-4)
        assert not np.allclose(a, first)


def test_dropout_masks_change_with_every_evaluation_and_instance():
    problem = conv_classifier(layers=[2], dropout=0.5, batch_size=16)
    params, model_state = problem.init(0)
    batch = tuple(b[0] for b in problem.batches(0, 0, 1))
    first, later_state = problem.objective(params, model_state, batch)
    again, _ = problem.objective(params, model_state, batch)
    later, _ = problem.objective(params, later_state, batch)
    other, _ = problem.objective(params, problem.init(1).model_state, batch)
    assert first == again
    assert len({float(first), float(later), float(other)}) == 3
    for a, b in zip(model_state, problem.init(0).model_state, strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_options_of_the_convolutional_network():
    def shapes(**options):
        return [tuple(p.shape) for p in conv_classifier(**options).init(0).params]

    def layers(**options):
        return [type(layer).__name__ for layer in conv_classifier(**options).model(0).layers]

    assert shapes(layers=[3, 5]) == [(3, 3, 1, 3), (3,), (3, 3, 3, 5), (5,), (2 * 2 * 5, 10), (10,)]
    assert shapes(layers=[3], kernel_size=2)[0] == (2, 2, 1, 3)
    assert shapes(layers=[3], image_size=5)[2] == (3 * 3 * 3, 10)
    # Normalised: scale and offset, and no bias before them.
    assert shapes(layers=[3], batch_norm=True)[:3] == [(3, 3, 1, 3), (3,), (3,)]
    block = ["Conv2D", "BatchNormalization", "Activation", "MaxPooling2D"]
    assert layers(batch_norm=True, dropout=0.5) == [*block * 2, "Dropout", "Flatten", "Dense"]
    assert "Dropout" not in layers()
    model = conv_classifier([3], activation="elu", dropout=0.25).model(0)
    assert model.layers[1].activation is keras.activations.elu
    assert model.layers[3].rate == 0.25
    assert conv_classifier(batch_size=100).steps_per_epoch == 14
    order = conv_classifier(batch_size=1437, shuffle_buffer=0).indices(0, 0, 1)[0]
    np.testing.assert_array_equal(order, np.arange(1437))


@pytest.mark.parametrize("name", PROBLEMS.entries)
def test_every_problem_takes_its_options_from_a_config_and_documents_them(name):
    target = PROBLEMS.find(name)
    for option in resolve(target, {}, "kwargs"):
        assert f"    {option}: " in target.__doc__
    assert ProblemSpec(name, kwargs=resolve(target, {}, "kwargs")).build().name == name


@pytest.mark.parametrize("name", WRAPPERS.entries)
def test_every_wrapper_takes_its_options_from_a_config_and_documents_them(name):
    target = WRAPPERS.find(name)
    options = resolve(target, {}, "kwargs")
    assert options
    assert "problem" not in options
    assert all(f"    {option}: " in target.__doc__ for option in options)


def test_options_out_of_their_limits_are_named():
    for options in ({"dropout": 1.0}, {"layers": []}, {"kernel_size": 0}, {"batch_norm": 1}):
        with pytest.raises(UserError, match=f"kwargs/{next(iter(options))}"):
            resolve(conv_classifier, options, "kwargs")
    with pytest.raises(UserError, match="kwargs/limit"):
        resolve(WRAPPERS.find("RandomScaling"), {"limit": 0.0}, "kwargs")
