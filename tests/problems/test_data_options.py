"""The options of problems with data, `problems/<i>/kwargs/...`.

The classifiers see 1437 images of 8x8 in mini-batches of 700, in one unroll of 2.
"""

from contextlib import contextmanager

import numpy as np
import pytest
import tensorflow as tf

from l2o.problems import datasets, regressors
from tests.option_cases import MLP, Cases, close, run
from tests.problems.sets import drawn, prepare

cases = Cases()

CONV = (MLP[0].replace("mlp", "conv").replace("[3]", "[2]"), *MLP[1:])


def mlp_loss(params, images, labels, activation):
    *hidden, kernel, bias = params
    x = tf.reshape(images, [len(images), -1])
    for k, b in zip(hidden[::2], hidden[1::2], strict=True):
        x = activation(x @ k + b)
    return cross_entropy(x @ kernel + bias, labels)


def conv_loss(params, images, labels, activation, batch_norm=False):
    (k, *convolution), kernel, bias = params[:-2], *params[-2:]
    x = tf.nn.conv2d(images, k, 1, "SAME")
    if batch_norm:
        gamma, beta = convolution
        mean, variance = tf.nn.moments(x, [0, 1, 2])
        x = gamma * (x - mean) / tf.sqrt(variance + 1e-3) + beta
    else:
        x += convolution[0]
    x = tf.nn.max_pool2d(activation(x), 2, 2, "SAME")
    return cross_entropy(tf.reshape(x, [len(images), -1]) @ kernel + bias, labels)


def cross_entropy(logits, labels):
    return tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))


def computes(loss, *arguments, **options):
    """A check that the last objective is `loss` at the last parameters and mini-batch."""

    def check(run):
        images, labels = (b[-1] for b in run.first.batches)
        expected = loss(run.first.after.params, images, labels, *arguments, **options)
        return close(run.first.objective, expected)

    return check


def order(run):
    """Which training example stands at each place of the first epoch."""
    images = run.first.batches[0].numpy()[:2].reshape(-1, 64)
    known = {image.tobytes(): i for i, image in enumerate(digits())}
    assert len(known) == 1437
    return np.array([known[image.tobytes()] for image in images])


def digits():
    return datasets.load("digits").train.images.reshape(-1, 64)


def batches_have_500(run):
    assert [b.shape[:2] for b in run.first.batches] == [(3, 500), (3, 500)]


def examples_move_a_little(typed):
    usual = MLP if typed.config["problems"][0]["target"] == "mlp_classifier" else CONV
    places = np.arange(1400)
    assert np.abs(order(typed) - places).max() <= 10
    assert (order(typed) != places).any()
    assert np.abs(order(run(*usual)) - places).max() > 700


def images_are_4_by_4(run):
    images = run.first.batches[0].numpy()[:2]
    # Not shuffled; every pixel is the mean of four.
    blocks = digits()[:1400].reshape(2, 700, 4, 2, 4, 2).mean((3, 5))
    assert close(images[..., 0], blocks)


TINY_SHAPE = (6, 5, 1)


@contextmanager
def tiny_set(tmp_path):
    """A TFDS set of 20 images in 3 classes."""
    import tensorflow_datasets as tfds

    with pytest.MonkeyPatch.context() as patch:
        # TFDS reads its default once, at import.
        patch.setattr(tfds.core.constants, "DATA_DIR", str(tmp_path))
        datasets._load.cache_clear()
        prepare("tiny_set", TINY_SHAPE, {"train": 20, "test": 4}, tmp_path)
        yield
    datasets._load.cache_clear()


def learns_the_tiny_set(run):
    # The same draws as `prepare` makes.
    rng = np.random.default_rng(0)
    written = {drawn(rng, TINY_SHAPE, np.uint8).tobytes() for _ in range(20)}
    images, labels = (b.numpy() for b in run.first.batches)
    seen = np.rint(images.reshape(-1, *TINY_SHAPE) * 255).astype(np.uint8)
    assert {image.tobytes() for image in seen} <= written
    assert labels.max() < 3
    assert run.first.before.params[-1].shape == (3,), "classes"


for _name, _typed in (("mlp_classifier", MLP), ("conv_classifier", CONV)):
    for _option, _value, _check in (
        ("batch_size", 500, batches_have_500),
        ("shuffle_buffer", 10, examples_move_a_little),
    ):
        cases.add(
            f"problems/<i>/kwargs/{_option} ({_name})",
            *_typed,
            f"problems/0/kwargs/{_option}={_value}",
            check=_check,
        )
    cases.add(
        f"problems/<i>/kwargs/image_size ({_name})",
        *_typed,
        "problems/0/kwargs/image_size=4",
        "problems/0/kwargs/shuffle_buffer=0",
        check=images_are_4_by_4,
    )
    cases.add(
        f"problems/<i>/kwargs/dataset ({_name})",
        *_typed,
        "problems/0/kwargs/dataset=tiny_set",
        "problems/0/kwargs/batch_size=10",
        check=learns_the_tiny_set,
        within=tiny_set,
    )


def shapes(run):
    return [tuple(p.shape) for p in run.first.before.params]


@cases.add("problems/<i>/kwargs/layers (mlp_classifier)", *MLP, "problems/0/kwargs/layers=[4,2]")
def _(run):
    assert shapes(run) == [(64, 4), (4,), (4, 2), (2,), (2, 10), (10,)]


@cases.add("problems/<i>/kwargs/layers (conv_classifier)", *CONV, "problems/0/kwargs/layers=[3,2]")
def _(run):
    # Each layer halves the image: 8, 4, 2.
    expected = [(3, 3, 1, 3), (3,), (3, 3, 3, 2), (2,), (2 * 2 * 2, 10), (10,)]
    assert shapes(run) == expected


@cases.add(
    "problems/<i>/kwargs/activation (mlp_classifier)", *MLP, "problems/0/kwargs/activation=softsign"
)
def _(typed):
    assert computes(mlp_loss, tf.nn.softsign)(typed)
    assert not computes(mlp_loss, tf.nn.sigmoid)(typed)
    assert computes(mlp_loss, tf.nn.sigmoid)(run(*MLP))


@cases.add(
    "problems/<i>/kwargs/activation (conv_classifier)",
    *CONV,
    "problems/0/kwargs/activation=softsign",
)
def _(typed):
    assert computes(conv_loss, tf.nn.softsign)(typed)
    assert not computes(conv_loss, tf.nn.relu)(typed)
    assert computes(conv_loss, tf.nn.relu)(run(*CONV))


NOISE = ("problems/0/kwargs/label_noise=0.25", "problems/0/kwargs/shuffle_buffer=0")


@cases.add("problems/<i>/kwargs/label_noise (mlp_classifier)", *MLP, *NOISE)
@cases.add("problems/<i>/kwargs/label_noise (conv_classifier)", *CONV, *NOISE)
def _(run):
    _, labels = run.first.batches
    right = datasets.load("digits").train.labels[:1400].reshape(2, 700)
    # 359 of 1,437 are wrong, which 37 more are not looked at.
    assert 359 - 37 <= (labels.numpy()[:2] != right).sum() <= 359


REGRESSOR = (MLP[0].replace("classifier", "regressor").replace("700", "100"), *MLP[1:])


def squared_error(params, x, y, activation):
    *hidden, kernel, bias = params
    for k, b in zip(hidden[::2], hidden[1::2], strict=True):
        x = activation(x @ k + b)
    return tf.reduce_mean(tf.square(x @ kernel + bias - y))


@cases.add(
    "problems/<i>/kwargs/layers (mlp_regressor)", *REGRESSOR, "problems/0/kwargs/layers=[4,2]"
)
def _(run):
    assert shapes(run) == [(10, 4), (4,), (4, 2), (2,), (2, 1), (1,)]
    assert computes(squared_error, tf.nn.sigmoid)(run)


@cases.add(
    "problems/<i>/kwargs/activation (mlp_regressor)",
    *REGRESSOR,
    "problems/0/kwargs/activation=softsign",
)
def _(typed):
    assert computes(squared_error, tf.nn.softsign)(typed)
    assert not computes(squared_error, tf.nn.sigmoid)(typed)
    assert computes(squared_error, tf.nn.sigmoid)(run(*REGRESSOR))


@cases.add(
    "problems/<i>/kwargs/batch_size (mlp_regressor)", *REGRESSOR, "problems/0/kwargs/batch_size=50"
)
def _(run):
    assert [b.shape for b in run.first.batches] == [(3, 50, 10), (3, 50, 1)]


@cases.add(
    "problems/<i>/kwargs/shuffle_buffer (mlp_regressor)",
    *REGRESSOR,
    "problems/0/kwargs/shuffle_buffer=0",
)
def _(typed):
    (x, y), _ = regressors._diabetes()
    seen = [b.numpy()[:2].reshape(200, -1) for b in typed.first.batches]
    np.testing.assert_array_equal(seen[0], x[:200])
    np.testing.assert_array_equal(seen[1], y[:200])
    shuffled = run(*REGRESSOR).first.batches[1].numpy()[:2].reshape(200, -1)
    assert (shuffled != y[:200]).any()


@cases.add("problems/<i>/kwargs/kernel_size", *CONV, "problems/0/kwargs/kernel_size=2")
def _(run):
    assert shapes(run)[0] == (2, 2, 1, 2)
    assert computes(conv_loss, tf.nn.relu)(run)


@cases.add("problems/<i>/kwargs/batch_norm", *CONV, "problems/0/kwargs/batch_norm=true")
def _(run):
    # Scale and offset, and no bias before them.
    assert shapes(run) == [(3, 3, 1, 2), (2,), (2,), (4 * 4 * 2, 10), (10,)]
    assert computes(conv_loss, tf.nn.relu, batch_norm=True)(run)
    moving = [s.numpy() for s in run.first.before.model_state]
    assert close(moving, [np.zeros(2), np.ones(2)])
    assert not any(map(close, moving, run.first.after.model_state))


@cases.add("problems/<i>/kwargs/dropout (conv_classifier)", *CONV, "problems/0/kwargs/dropout=0.75")
def _(typed):
    assert computes(conv_loss, tf.nn.relu)(run(*CONV))
    assert not computes(conv_loss, tf.nn.relu)(typed), "it is on while training"
    # A feature that is dropped has no influence on the last kernel's gradient.
    step = typed.first
    images, labels = (b[0] for b in step.batches)
    seen = dropped = 0
    state = step.before.model_state
    for i in range(20):
        with tf.GradientTape() as tape:
            tape.watch(step.before.params)
            batch = images[i : i + 1], labels[i : i + 1]
            f, state = step.problem.objective(step.before.params, state, batch)
        gradient = tape.gradient(f, step.before.params[-2])
        features = features_of(step, images[i : i + 1])
        gone = tf.reduce_all(gradient == 0, 1).numpy()
        seen += np.sum(features > 0)
        dropped += np.sum(gone & (features > 0))
    assert seen > 100
    assert 0.6 < dropped / seen < 0.9


def features_of(step, images):
    """What reaches the last layer of CONV without dropout."""
    k, b, *_ = step.before.params
    x = tf.nn.relu(tf.nn.conv2d(images, k, 1, "SAME") + b)
    return tf.reshape(tf.nn.max_pool2d(x, 2, 2, "SAME"), [-1]).numpy()


test_option_changes_what_it_should = cases.test()
test_a_case_fails_if_its_option_is_ignored = cases.test_ignored()
