"""Image classifiers and autoencoders against NumPy."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from l2o.errors import UserError
from l2o.problems import (
    PROBLEMS,
    autoencoder,
    keras_problem,
    mixer_classifier,
    mlp_classifier,
    residual_classifier,
    vae,
    vit_classifier,
)
from l2o.problems.held_out import with_held_out
from l2o.problems.problem import HeldOut
from tests.problems import reference_models as reference

# name: the options, and those of the reference; the number of weights.
CASES = {
    "vit_classifier": (
        {"width": 6, "depth": 2, "heads": 3, "patch_size": 4},
        {"heads": 3, "depth": 2, "patch_size": 4},
        reference.count_vit(6, 2, 4),
    ),
    "mixer_classifier": (
        {"width": 6, "depth": 2, "patch_size": 2},
        {"depth": 2, "patch_size": 2},
        reference.count_mixer(6, 2, 2),
    ),
    "residual_classifier": (
        {"width": 3, "depth": 2},
        {"depth": 2},
        reference.count_residual(3, 2),
    ),
    "autoencoder": (
        {"width": 5, "depth": 2, "latent": 2},
        {"depth": 2},
        reference.count_autoencoder("mlp", 5, 2, 2),
    ),
    "autoencoder conv": (
        {"architecture": "conv", "width": 3, "depth": 2, "latent": 2, "image_size": 7},
        {"architecture": "conv", "depth": 2},
        reference.count_autoencoder("conv", 3, 2, 2, side=7),
    ),
    "vae": (
        {"width": 5, "depth": 1, "latent": 2, "activation": "softsign"},
        {"depth": 1, "activation": reference.softsign},
        reference.count_autoencoder("mlp", 5, 1, 2, codes=2),
    ),
    "vae conv": (
        {"architecture": "conv", "width": 3, "depth": 1, "latent": 2},
        {"architecture": "conv", "depth": 1},
        reference.count_autoencoder("conv", 3, 1, 2, codes=2),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_the_objective_is_that_of_the_equations(case):
    options, of_reference, count = CASES[case]
    name = case.split()[0]
    problem = PROBLEMS.find(name)(**options, batch_size=8)
    params, state = problem.init(3)
    assert sum(p.shape.num_elements() for p in params) == count
    # Biases start at 0 and would hide where they are left out.
    params = [p + 0.1 * tf.random.stateless_normal(p.shape, [i, 0]) for i, p in enumerate(params)]
    inputs, targets = (b.numpy()[0] for b in problem.batches(0, 0, 1))
    found, _ = problem.objective(params, state, (inputs, targets))
    expected = getattr(reference, name)(params, state, inputs, targets, **of_reference)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize("kind", [autoencoder, vae])
def test_images_are_their_own_targets_and_have_no_accuracy(kind):
    problem = kind(width=3, latent=2, batch_size=8)
    images, targets = problem.dataset.test.all()
    assert images.shape == (360, 8, 8, 1)
    np.testing.assert_array_equal(images, targets)
    params, state = problem.init(0)
    loss, accuracy = problem.score(params, state, (images, targets))
    expected = getattr(reference, problem.name)(params, state, images.numpy(), targets.numpy())
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    assert np.isnan(accuracy)
    assert not problem.classifies


def test_integer_images_are_scaled_whatever_the_shape_of_the_index():
    from l2o.problems.datasets import Images

    images = Images(np.arange(256, dtype=np.uint8).reshape(4, 8, 8, 1))
    for index in (np.array([2, 0]), np.array([[2], [0]])):
        inputs, targets = images.take(index)
        np.testing.assert_allclose(inputs, images.images[index] / 255, rtol=1e-6)
        np.testing.assert_array_equal(inputs, targets)


def test_a_vae_draws_anew_at_each_step_and_for_each_optimizee():
    problem = vae(width=3, latent=2, batch_size=8)
    params, state = problem.init(0)
    batch = tuple(b[0] for b in problem.batches(0, 0, 1))
    first, later = problem.objective(params, state, batch)
    assert problem.objective(params, state, batch)[0] == first
    others = [problem.objective(params, s, batch)[0] for s in (later, problem.init(1).model_state)]
    assert len({float(f) for f in (first, *others)}) == 3


def test_the_held_out_loss_of_a_vae_is_the_whole_bound():
    whole = vae(width=3, latent=2, batch_size=8)
    problem = with_held_out(whole)
    params, state = problem.init(0)
    params = [p + 0.3 for p in params]
    held_out = tf.nest.map_structure(lambda b: b[0], problem.batches(0, 0, 1).held_out)
    assert isinstance(held_out, HeldOut)
    found, after = problem.objective(params, state, held_out)
    images, targets = (t.numpy() for t in held_out.batch)
    np.testing.assert_allclose(found, reference.vae(params, state, images, targets), rtol=1e-5)
    np.testing.assert_array_equal(after[0], state[0])


@pytest.mark.parametrize("scores_penalties", [False, True])
def test_penalties_of_a_model_of_ones_own_are_scored_if_asked_for(scores_penalties):
    def build_model():
        kernel = {"kernel_regularizer": keras.regularizers.L2(0.5)}
        return keras.Sequential([keras.Input((3,)), keras.layers.Dense(1, **kernel)])

    x, y = np.ones((8, 3)), np.zeros((8, 1))
    problem = keras_problem(
        build_model, (x, y), "mse", batch_size=4, scores_penalties=scores_penalties
    )
    (kernel, bias), state = problem.init(0)
    batch = tf.nest.map_structure(lambda b: b[0], problem.batches(0, 0, 1))
    found, _ = problem.objective([kernel, bias], state, HeldOut(batch))
    penalty = 0.5 * np.sum(np.square(kernel)) if scores_penalties else 0
    np.testing.assert_allclose(found, np.sum(kernel) ** 2 + penalty, rtol=1e-5)


def test_pixels_of_a_vae_are_probabilities():
    with pytest.raises(UserError, match="not from 0 to 1") as error:
        vae(transform="projected")
    assert error.value.path == "dataset"


@pytest.mark.parametrize(
    ("make", "path", "says"),
    [
        (lambda: vit_classifier(patch_size=3), "patch_size", "patches of 3 pixels .* 8x8"),
        (lambda: mixer_classifier(image_size=9), "patch_size", "patches of 2 pixels .* 9x9"),
        (lambda: vit_classifier(width=6, heads=4), "heads", "width 6 is no multiple of 4"),
        (lambda: vit_classifier(dataset="wine"), "dataset", "wine has no images"),
        (lambda: residual_classifier(dataset="wine"), "dataset", "wine has no images"),
        (lambda: autoencoder(dataset="wine"), "dataset", "wine has no images"),
        (lambda: mlp_classifier(dataset="wine", transform="inverted"), "transform", "no images"),
    ],
)
def test_options_that_do_not_fit(make, path, says):
    with pytest.raises(UserError, match=says) as error:
        make()
    assert error.value.path == path


# The MLP with normalisation and dropout.


def test_the_options_of_before_are_at_their_places():
    a = mlp_classifier((5,), "digits", "tanh", 32, 100, 4, 0.2)
    b = mlp_classifier(
        layers=(5,), dataset="digits", activation="tanh", batch_size=32, shuffle_buffer=100,
        image_size=4, label_noise=0.2,
    )  # fmt: skip
    assert [layer.name.rstrip("_0123456789") for layer in a.model(0).layers] == [
        "flatten", "dense", "dense",
    ]  # fmt: skip
    for p, q in zip(a.init(0).params, b.init(0).params, strict=True):
        np.testing.assert_array_equal(p, q)
    np.testing.assert_array_equal(a.dataset.train.labels, b.dataset.train.labels)


@pytest.mark.parametrize("normalization", ["batch", "layer"])
def test_a_normalised_mlp(normalization):
    problem = mlp_classifier([5, 4], normalization=normalization, batch_size=32)
    params, state = problem.init(0)
    params = [p + 0.1 * tf.random.stateless_normal(p.shape, [i, 0]) for i, p in enumerate(params)]
    images, labels = (b.numpy()[0] for b in problem.batches(0, 0, 1))
    weights, x = reference.Weights(params), images.reshape(32, -1)
    for _ in range(2):
        kernel, *bias, gamma, beta = weights.take(3 if normalization == "batch" else 4)
        x = x @ kernel + (bias[0] if bias else 0)
        axis = 0 if normalization == "batch" else -1
        x = reference.sigmoid(reference.normalised(x, gamma, beta, axis, 1e-3))
    expected = reference.cross_entropy(reference.dense(x, *weights.take(2)), labels)
    np.testing.assert_allclose(
        problem.objective(params, state, (images, labels))[0], expected, 1e-5
    )
    assert len(state) == (4 if normalization == "batch" else 0)


def test_dropout_of_an_mlp_is_after_each_hidden_layer():
    names = [type(x).__name__ for x in mlp_classifier([5, 4], dropout=0.3).model(0).layers]
    assert names == ["Flatten", "Dense", "Dropout", "Dense", "Dropout", "Dense"]
    names = [
        type(x).__name__
        for x in mlp_classifier([5], dropout=0.3, normalization="layer").model(0).layers
    ]
    assert names == ["Flatten", "Dense", "LayerNormalization", "Activation", "Dropout", "Dense"]
